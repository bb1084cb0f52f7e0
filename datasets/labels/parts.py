"""Part files: each holds a finished chunk, and appears whole or not at all."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from ...foundation.files import TEMPORARY, disk_errors, first_line, write_safely
from .definition import refuse_difference
from .job import Labelled

Block = tuple[int, bytes]
"""A compressed field, with the mask of the filters that made it."""


def prepare_parts(parts: Path, definition: dict[str, Any]) -> None:
    """Make the folder of parts, or check that it belongs to this work and sweep what a killed run left.

    Raises:
        DataError: It belongs to other work.
        OSError: It cannot be written.
    """
    parts.mkdir(parents=True, exist_ok=True)
    for leftover in parts.glob(f"*{TEMPORARY}"):
        leftover.unlink(missing_ok=True)
    described = parts / "definition.json"
    if described.exists():
        refuse_difference(parts, json.loads(described.read_text()), definition)
    else:
        write_safely(described, json.dumps(definition, indent=1).encode())


def part_path(parts: Path, k: int) -> Path:
    """The part file of a chunk."""
    return parts / f"{k:06d}.h5"


def write_part(parts: Path, chunk: Labelled) -> None:
    """Write a finished chunk.

    Raises:
        DataError: The disk is full, or cannot be written.
    """
    image = io.BytesIO()  # written to the disk in one piece, so that a full disk is met outside HDF5
    with h5py.File(image, "w") as memory:
        if len(chunk.curves):
            for name, values in chunk.fields.items():
                create_fields(memory, name, values.shape)[...] = values
            memory["curves"] = chunk.curves
        memory.attrs["count"] = len(chunk.curves)
    with disk_errors(parts):
        write_safely(part_path(parts, chunk.k), image.getbuffer())


def create_fields(file: h5py.File, name: str, shape: tuple[int, ...]) -> h5py.Dataset:
    """One compressed block for each field, so that finished blocks move between files as they are."""
    return file.create_dataset(
        name, shape, np.float32, chunks=(1, *shape[1:]), compression="gzip", compression_opts=1
    )


def count_fields(path: Path) -> int:
    """Number of fields in a part.

    Raises:
        DataError: It cannot be read.
    """
    with _open_part(path) as part:
        return int(part.attrs["count"])


def read_part(
    path: Path, count: int, names: Sequence[str]
) -> tuple[dict[str, list[Block]], NDArray[np.float64]]:
    """Read the fields of a part as compressed blocks, and their curves.

    Args:
        path: The part file.
        count: Number of fields in it, at least 1.
        names: Datasets that hold fields.

    Returns:
        The blocks of each dataset, and curves (count, C, Q).

    Raises:
        DataError: It cannot be read.
    """
    with _open_part(path) as part:
        blocks = {name: [part[name].id.read_direct_chunk((i, 0, 0)) for i in range(count)] for name in names}
        return blocks, part["curves"][()]


@contextmanager
def _open_part(path: Path) -> Iterator[h5py.File]:
    """Open a part for reading, and turn what h5py raises inside the block into a DataError."""
    try:
        with h5py.File(path, "r") as part:
            yield part
    except (OSError, KeyError) as error:
        raise DataError(
            f"part {path} cannot be read ({first_line(error)}); delete it and run again."
        ) from error
