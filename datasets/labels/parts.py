"""Part files: each holds a finished chunk, and appears under its name only when it was written to its end.

A part is a seal, a line of JSON, the curves, and the fields as compressed blocks, which the finished store
holds as they are. Nobody waits until it is on the disk: what a machine that loses its power has kept of it
does not match the seal, and the chunk is labelled anew.
"""

from __future__ import annotations

import io
import itertools
import json
import math
from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import deflate
import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from ...foundation.files import disk_errors, first_line, sweep, write_safely
from ...foundation.seals import seal_of
from ...metrics import Metric
from ..sources.source import FieldSource
from .definition import Definition, refuse_difference
from .job import Labelled

LEVEL = 1
"""How hard compression tries."""
_DEFINITION = "definition.json"
"""Says what the parts of a folder belong to; written before any of them."""
_SUFFIX = ".part"
_WRITERS = 2
"""Threads that write parts; as many finished chunks wait for them."""


class Part(NamedTuple):
    """What a part holds.

    Attributes:
        blocks: The fields as compressed blocks, by dataset; none where there is no field.
        curves: Their curves (n, C, Q).
        unreadable: Name of the file that the chunk lies in, where that was left out; else "".
    """

    blocks: dict[str, list[bytes]]
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
    elif any(parts.glob(f"*{_SUFFIX}")):
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
    return parts / f"{k:06d}{_SUFFIX}"


def write_parts(
    parts: Path, finished: Iterable[Labelled], unreadable: Mapping[int, str]
) -> Generator[Labelled, None, None]:
    """Write finished chunks while the next ones are worked on.

    Args:
        parts: Folder of the parts.
        finished: The chunks.
        unreadable: Name of the file of each chunk that was left out because it cannot be read.

    Yields:
        Each chunk, once its part is written.

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
    blocks = {name: list(map(_compressed, values)) for name, values in chunk.fields.items()}
    curves = np.ascontiguousarray(chunk.curves, "<f8")
    head = {
        "curves": curves.shape,
        "blocks": {name: list(map(len, each)) for name, each in blocks.items()},
        "shapes": {name: values.shape[1:] for name, values in chunk.fields.items()},
        "unreadable": unreadable,
    }
    pieces: list[bytes | bytearray] = [
        json.dumps(head).encode() + b"\n",
        curves.tobytes(),
        *itertools.chain(*blocks.values()),
    ]
    body = b"".join(pieces)
    with disk_errors(parts):
        write_safely(part_path(parts, chunk.k), seal_of(io.BytesIO(body)) + body, lasting=False)


def _compressed(field: NDArray[np.float32]) -> bytearray:
    """A field as HDF5 compresses it, but faster, to less, and while other threads use HDF5.

    By libdeflate, which packs the same field into the same bytes each time (ISA-L, faster still, did not once
    in some 20,000 fields): an interrupted labelling and an engine elsewhere end at the same file.
    """
    return deflate.zlib_compress(np.ascontiguousarray(field, "<f4").data, LEVEL)


def is_whole(parts: Path, k: int, names: Sequence[str], field_shape: Sequence[int]) -> bool:
    """Whether the part of a chunk is there and undamaged."""
    try:
        read_part(part_path(parts, k), names, field_shape)
    except DataError:
        return False
    return True


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
        stream = io.BytesIO(path.read_bytes())
        seal = stream.readline()
        start = stream.tell()
        if seal != seal_of(stream):
            raise ValueError("its content is not what was sealed")
        stream.seek(start)
        head = json.loads(stream.readline())
        shape, lengths = head["curves"], head["blocks"]
        fits = all(
            head["shapes"][name] == list(field_shape) and len(lengths[name]) == shape[0] for name in names
        )
        if not fits:
            raise ValueError("its shapes do not fit")
        curves = np.frombuffer(stream.read(8 * math.prod(shape)), "<f8").reshape(shape)
        blocks = {name: [stream.read(length) for length in each] for name, each in lengths.items()}
        return Part(blocks, curves, head["unreadable"])
    except Exception as error:  # whatever a damaged file leads to
        raise DataError(
            f"part {path} cannot be read ({first_line(error)}); run again to label it anew."
        ) from error
