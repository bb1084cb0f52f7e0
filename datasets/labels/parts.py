"""Part files: each holds a finished chunk, and appears whole or not at all."""

from __future__ import annotations

import io
import json
from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from ...errors import DataError
from ...foundation.files import disk_errors, first_line, sweep, write_safely
from ...foundation.hdf5 import open_hdf5
from ...metrics import Metric
from ..sources.source import FieldSource
from .definition import Definition, refuse_difference
from .job import Labelled
from .sealed import BLOCK, check_seal, seal

Block = tuple[int, bytes]
"""A compressed field, with the mask of the filters that made it."""
_DEFINITION = "definition.json"
"""Says what the parts of a folder belong to; written before any of them."""
_LEVEL = 1
"""How hard compression tries."""
_WRITERS = 2
"""Threads that write parts; as many finished chunks wait for them."""


class Part(NamedTuple):
    """What a part holds.

    Attributes:
        blocks: The fields as compressed blocks, by dataset; none where there is no field.
        curves: Their curves (n, C, Q).
        unreadable: Name of the file that the chunk lies in, where that was left out; else "".
    """

    blocks: dict[str, list[Block]]
    curves: NDArray[np.float64]
    unreadable: str


def prepare_parts(
    parts: Path, definition: Definition, source: FieldSource, metric: Metric, *, alone: bool
) -> None:
    """Make the folder of parts, or check that it belongs to this work and sweep what a killed run left.

    Args:
        parts: The folder.
        definition: Of this work.
        source: Where the fields come from.
        metric: What they are labelled with.
        alone: Whether nobody else writes to the folder at present.

    Raises:
        DataError: It belongs to other work, or is damaged.
        OSError: It cannot be written.
    """
    parts.mkdir(parents=True, exist_ok=True)
    if alone:
        sweep(parts)
    described = parts / _DEFINITION
    if described.exists():
        refuse_difference(parts, _read_definition(described), definition, source, metric)
    elif any(parts.glob("*.h5")):
        raise DataError(f"{parts} holds parts without {_DEFINITION}, which says whose; delete it.")
    # What says how to read the values may differ; that of now is what the finished file will say.
    write_safely(described, json.dumps(definition, indent=1).encode())


def _read_definition(path: Path) -> Definition:
    """What the parts of a folder belong to.

    Raises:
        DataError: The file is damaged.
    """
    try:
        found = json.loads(path.read_bytes())
        if not isinstance(found, dict):
            raise ValueError(f"it holds {type(found).__name__}")
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path} is damaged ({first_line(error)}); delete {path.parent} and run again."
        ) from error
    return found


def part_path(parts: Path, k: int) -> Path:
    """The part file of a chunk."""
    return parts / f"{k:06d}.h5"


def write_parts(
    parts: Path, finished: Iterable[Labelled], unreadable: Mapping[int, str]
) -> Generator[Labelled, None, None]:
    """Write finished chunks while the next ones are worked on.

    Args:
        parts: Folder of the parts.
        finished: The chunks.
        unreadable: Name of the file of each chunk that was left out because it cannot be read.

    Yields:
        Each chunk, once its part is on the disk.

    Raises:
        DataError: As in `write_part`.
    """
    coming: deque[tuple[Labelled, Future[None]]] = deque()
    with ThreadPoolExecutor(_WRITERS, thread_name_prefix="emuloss-write") as pool:
        for chunk in finished:
            name = unreadable.get(chunk.k, "")
            coming.append((chunk, pool.submit(write_part, parts, chunk, name)))
            while len(coming) > _WRITERS or (coming and coming[0][1].done()):
                yield _written(*coming.popleft())
        while coming:
            yield _written(*coming.popleft())


def _written(chunk: Labelled, writing: Future[None]) -> Labelled:
    """A chunk, once it is written."""
    writing.result()
    return chunk


def write_part(parts: Path, chunk: Labelled, unreadable: str = "") -> None:
    """Write a finished chunk.

    Args:
        parts: Folder of the parts.
        chunk: The chunk.
        unreadable: Name of its file, where that cannot be read and was left out: whoever goes on with the
            parts of a killed run does not read it again.

    Raises:
        DataError: The disk is full, or cannot be written.
    """
    image = io.BytesIO()  # written to the disk in one piece, so that a full disk is met outside HDF5
    with open_hdf5(image, "w", BLOCK) as memory:
        if len(chunk.curves):
            for name, values in chunk.fields.items():
                stored = create_fields(memory, name, values.shape[1:], len(values))
                for i, field in enumerate(values):
                    # Four times as fast as the zlib of HDF5, whose work other threads would wait for as well.
                    block = isal_zlib.compress(np.ascontiguousarray(field, "<f4").data, _LEVEL)
                    stored.id.write_direct_chunk((i, 0, 0), block)
            memory["curves"] = chunk.curves
        memory.attrs["count"] = len(chunk.curves)
        if unreadable:
            memory.attrs["unreadable"] = json.dumps(unreadable)  # which may be no text of UTF-8
    seal(image)
    with disk_errors(parts):
        write_safely(part_path(parts, chunk.k), image.getbuffer())


def create_fields(file: h5py.File, name: str, field_shape: Sequence[int], count: int = 0) -> h5py.Dataset:
    """One compressed block for each field, so that finished blocks move between files as they are."""
    return file.create_dataset(
        name,
        (count, *field_shape),
        np.float32,
        maxshape=(None, *field_shape),
        chunks=(1, *field_shape),
        compression="gzip",
        compression_opts=_LEVEL,
    )


def read_part(path: Path, names: Sequence[str], field_shape: Sequence[int]) -> Part:
    """Read a part.

    Args:
        path: The part file.
        names: Datasets that hold fields.
        field_shape: Shape (H, W) of a field.

    Returns:
        What it holds.

    Raises:
        DataError: It cannot be read, or is damaged.
    """
    try:
        content = io.BytesIO(path.read_bytes())
        check_seal(content)
        with open_hdf5(content) as part:
            count = int(part.attrs["count"])
            unreadable = str(json.loads(part.attrs.get("unreadable", '""')))
            if not count:
                return Part({}, np.empty((0, 0, 0)), unreadable)
            curves = part["curves"][()]
            if any(part[name].shape != (count, *field_shape) for name in names) or len(curves) != count:
                raise ValueError("its shapes do not fit")
            read = {name: part[name].id.read_direct_chunk for name in names}
            blocks = {name: [read[name]((i, 0, 0)) for i in range(count)] for name in names}
            return Part(blocks, curves, unreadable)
    except Exception as error:  # whatever h5py makes of a damaged file
        raise DataError(
            f"part {path} cannot be read ({first_line(error)}); delete it and run again."
        ) from error
