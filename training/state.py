"""What a training run leaves on the disk: its state, from which it goes on, and its log."""

from __future__ import annotations

import csv
import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import ArgumentError, DataError
from ..foundation.files import write_together

STATE, LOG = "training.pt", "log.csv"
"""Names of the files in the folder of a run."""
IDENTITY = ("options", "metric", "data", "network")
"""Entries of a state that say which run it is of."""


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Write the whole state; a kill leaves the old one or the new one."""
    content = io.BytesIO()  # writing bytes meets a full disk as an OSError, torch as an internal error
    torch.save(state, content)
    write_together(folder, {STATE: content.getbuffer()})


def read_state(content: bytes, path: Path, wanted: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """The state in the content of a file, of the same run as a wanted one.

    Args:
        content: of the file.
        path: of the file, for messages.
        wanted: the state of the run that is to go on from it.
        device: where its tensors go.

    Raises:
        DataError: the content is no training state.
        ArgumentError: it is of another run.
    """
    try:
        state = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
        if state.keys() != wanted.keys():
            raise KeyError("other entries")
    except Exception as error:
        raise DataError(
            f"{path} is not a training state ({type(error).__name__}); delete it to start afresh"
        ) from error
    for name in IDENTITY:
        if state[name] != wanted[name]:
            raise ArgumentError(
                f"{path} belongs to a run with other {name}; choose another folder or delete it"
            )
    return state


def write_log(folder: Path, rows: list[dict[str, float]]) -> None:
    """Write the log of a run, a row a validation."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_together(folder, {LOG: text.getvalue().encode()})


def digest(*arrays: np.ndarray) -> str:
    """Hash of the arrays' values: a state resumes on the data that it was saved on."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()
