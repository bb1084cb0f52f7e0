"""What a training run leaves on the disk: its state, from which it goes on, and its log."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..emulators.differentiable import DEFAULT_INTENSITIES
from ..emulators.spreads import spreads_of_version_1
from ..errors import ArgumentError, DataError, EmulossError
from ..foundation.differences import first_difference
from ..foundation.files import disk_errors, first_line, write_together
from ..foundation.seals import seal_of
from .options import Training

STATE, LOG = "training.pt", "log.csv"
"""Names of the files in the folder of a run."""
IDENTITY = ("options", "metric", "data", "network")
"""Entries of a state that say which run it is of."""
_WORDS = ("units", "length_unit", "field_unit", "lower_better")
"""Arguments of metrics that training does not depend on; if values do, `data` tells."""
_SEAL = len(seal_of(io.BytesIO()))
"""Length of a seal."""


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Write the whole state, sealed; a kill leaves the old one or the new one.

    Raises:
        DataError: the disk is full, or cannot be written.
    """
    content = io.BytesIO()  # writing bytes meets a full disk as an OSError, torch as an internal error
    torch.save(state, content)
    content.seek(0)
    content.write(seal_of(content))  # at the end, where torch and other readers of zip archives pass over it
    with disk_errors(folder / STATE), content.getbuffer() as whole:
        write_together(folder, {STATE: whole})


def stored_state(folder: Path) -> bytes | None:
    """The content of the state of a folder; None where there is none.

    Raises:
        DataError: it cannot be read.
    """
    path = folder / STATE
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({first_line(error)}); check the disk and its rights"
        ) from error


def read_state(content: bytes, path: Path, wanted: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """The state in the content of a file, of the same run as a wanted one.

    Args:
        content: of the file.
        path: of the file, for messages.
        wanted: the state of the run that is to go on from it.
        device: where its tensors go.

    Raises:
        DataError: the content is damaged, or no training state.
        ArgumentError: it is of another run.
    """
    with state_errors(path):
        state = torch.load(io.BytesIO(_unsealed(content)), map_location=device, weights_only=True)
        state.setdefault("descents", {"share": 0.0, "reservoir": None})  # as of earlier versions
        if state.keys() != wanted.keys():
            raise ValueError("it has other entries")
        for name in IDENTITY:
            difference = first_difference(_of_run(state, name), _of_run(wanted, name), name)
            if difference:
                what = f"{name} ({difference})" if isinstance(wanted[name], dict) else name
                raise ArgumentError(
                    f"{path} belongs to a run with other {what}; choose another folder or delete it"
                )
        _check_counters(state["counters"], wanted["counters"])
        _check_best(state["best"], wanted["weights"])
        _check_log(state["log"])
    return state


@contextmanager
def state_errors(path: Path) -> Iterator[None]:
    """Turn whatever a damaged state raises inside the block into a DataError."""
    try:
        yield
    except EmulossError:
        raise
    except Exception as error:  # torch and pickle make errors of any kind, and give advice that is none here
        told = str(error) if type(error) is ValueError else type(error).__name__
        raise DataError(
            f"{path} is not a training state, or damaged ({told}); delete it to start afresh"
        ) from error


def _unsealed(content: bytes) -> bytes:
    """What was sealed; all of the content where version 0.1.0 wrote it, which did not seal.

    Raises:
        ValueError: it is damaged.
    """
    if content[-_SEAL:] == seal_of(io.BytesIO(content[:-_SEAL])):
        return content[:-_SEAL]
    if content[-22:-18] == b"PK\x05\x06":  # as archives without a comment end, and sealed ones do not
        return content
    raise ValueError("its content is not what was sealed")


def _of_run(state: dict[str, Any], name: str) -> Any:
    """What an entry of `IDENTITY` says of the run that a state is of."""
    held = state[name]
    if name == "options":
        return asdict(Training()) | held  # earlier versions had fewer
    if name == "network" and "spreads" not in held:
        axis = (
            state["metric"]["arguments"].get("thresholds") or held.get("intensities") or DEFAULT_INTENSITIES
        )
        return held | {"spreads": spreads_of_version_1(axis)}
    if name == "metric":
        kept = {key: value for key, value in held["arguments"].items() if key not in _WORDS}
        return held | {"arguments": kept}
    return held


def _check_counters(counters: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise ValueError unless the counters are numbers of the wanted kinds, 0 or more."""
    kinds = {name: type(value) for name, value in wanted.items()}
    if {name: type(value) for name, value in counters.items()} != kinds:
        raise ValueError(f"its counters are {counters}")
    if not all(0 <= value < math.inf for value in counters.values()):
        raise ValueError(f"its counters are {counters}")


def _check_best(best: dict[str, Any], weights: dict[str, Tensor]) -> None:
    """Raise ValueError unless the best emulator is one of that network, or none."""
    loss, step = float(best["loss"]), best["step"]
    if math.isnan(loss) or type(step) is not int:
        raise ValueError(f"its best loss is {loss}, of step {step!r}")
    if best["weights"] is not None:
        shapes = [
            {name: tensor.shape for name, tensor in held.items()} for held in (best["weights"], weights)
        ]
        if shapes[0] != shapes[1]:
            raise ValueError("its best weights are not those of the network")


def _check_log(log: list[dict[str, float]]) -> None:
    """Raise ValueError unless the log has numbers by name in each row."""
    if not all(
        isinstance(name, str) and isinstance(value, Real) for row in log for name, value in row.items()
    ):
        raise ValueError("its log holds what is no number")


def write_log(folder: Path, rows: list[dict[str, float]]) -> None:
    """Write the log of a run, a row a validation.

    Raises:
        DataError: the disk is full, or cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(dict.fromkeys(name for row in rows for name in row)))
    writer.writeheader()
    writer.writerows(rows)
    with disk_errors(folder / LOG):
        write_together(folder, {LOG: text.getvalue().encode()})


def digest(*arrays: np.ndarray) -> str:
    """Hash of the arrays' values: a state resumes on the data that it was saved on."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()
