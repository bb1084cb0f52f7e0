"""Parts are joined into the finished store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from ...foundation.bars import counted
from ...foundation.files import put_in_place, unfinished
from ...foundation.hdf5 import open_hdf5
from ...metrics import Metric
from ..sources.source import ROLES, FieldSource
from .chunk import refuse_broken
from .definition import Definition
from .job import Job
from .parts import LEVEL, part_path, read_part
from .sealed import BLOCK, is_sealable, seal
from .store import FORMAT, FORMAT_VERSION, NAMED, TIME, LabelledFields


def assemble(path: Path, parts: Path, definition: Definition, job: Job, progress: bool) -> None:
    """Join the parts into the finished file.

    Args:
        path: The file to write.
        parts: Folder of the parts.
        definition: What decides the content.
        job: What was to be labelled: all chunks, in order.
        progress: Whether to show a bar if it takes longer than a few seconds.

    Raises:
        DataError: A part cannot be read, or there is no field.
        OSError: The file cannot be written.
    """
    coming = unfinished(parts / "joined")
    source, metric, wanted = job.source, job.metric, job.chunks
    with open_hdf5(coming, "w", BLOCK) as file:
        chunks = counted(wanted, "joining", "chunk", progress)
        counts, curves, unreadable = _join(file, parts, chunks, job.names, source.field_shape)
        skipped = _skipped(source, unreadable)
        if not len(curves):
            left_out = f", {len(skipped)} of its files are left out, first {skipped[0]}" if skipped else ""
            raise DataError(
                f"source {source.name!r} has no field to label{left_out}; loosen what it asks of its fields."
            )
        # Of a run that declared less, perhaps.
        first = [file[name][:2] for name in reversed(job.names)]
        refuse_broken(metric, curves, source.field_shape, str(parts), metric, first)
        file["curves"] = curves
        _write_roles(file, wanted, counts, definition["splits"])
        _write_times(file, wanted, counts, source)
        if skipped:
            file.attrs["skipped"] = len(skipped)
            file["skipped"] = json.dumps(skipped[:NAMED])
        file.attrs["format"] = FORMAT
        file.attrs["format_version"] = FORMAT_VERSION
        _describe(file, definition, source, metric, curves)
    _finish(coming, path)


def describe_anew(
    store: LabelledFields, definition: Definition, source: FieldSource, metric: Metric
) -> LabelledFields:
    """A finished store whose values are right, and now said to mean what the source and the metric say.

    Raises:
        DataError: The labels break what the metric declares.
        OSError: The file cannot be written.
    """
    path, curves = store.path, store.curves()
    refuse_broken(metric, curves, source.field_shape, str(path), metric, metric.parts(store.first(2)))
    coming = unfinished(path)
    try:
        shutil.copyfile(path, coming)
        with open_hdf5(coming, "r+") as file:
            del file["definition"]
            _describe(file, definition, source, metric, curves)
        _finish(coming, path)
    finally:
        coming.unlink(missing_ok=True)
    return LabelledFields(path)


def _join(
    file: h5py.File, parts: Path, wanted: Iterable[int], names: Sequence[str], field_shape: tuple[int, int]
) -> tuple[list[int], NDArray[np.float64], set[str]]:
    """Move the fields of all parts into a file, and their curves.

    Returns:
        The number of fields of each part, all curves, and the files of chunks that were left out.
    """
    stored = {name: _create_fields(file, name, field_shape) for name in names}
    counts: list[int] = []
    curves: list[NDArray[np.float64]] = []
    unreadable = set()
    start = 0
    for k in wanted:
        part = read_part(part_path(parts, k), names, field_shape)
        counts.append(len(part.curves))
        if part.unreadable:
            unreadable.add(part.unreadable)
        if len(part.curves):
            for name, blocks in part.blocks.items():
                stored[name].resize(start + len(blocks), axis=0)
                for i, block in enumerate(blocks, start):
                    stored[name].id.write_direct_chunk((i, 0, 0), block)
            curves.append(part.curves)
        start += len(part.curves)
    return counts, np.concatenate(curves) if curves else np.empty((0, 0, 0)), unreadable


def _create_fields(file: h5py.File, name: str, field_shape: tuple[int, int]) -> h5py.Dataset:
    """One compressed block for each field, so that those of parts are taken as they are."""
    return file.create_dataset(
        name,
        (0, *field_shape),
        np.float32,
        maxshape=(None, *field_shape),
        chunks=(1, *field_shape),
        compression="gzip",
        compression_opts=LEVEL,
    )


def _write_roles(file: h5py.File, wanted: Sequence[int], counts: Sequence[int], roles: Sequence[str]) -> None:
    """Write the chunk and the role of each field."""
    chunks = np.repeat(np.array(wanted, np.int32), counts)
    codes = np.array([ROLES.index(role) for role in roles], np.uint8)
    file["split"] = codes[chunks]
    file["split"].attrs["roles"] = json.dumps(ROLES)
    file["chunk"] = chunks


def _write_times(file: h5py.File, wanted: Sequence[int], counts: Sequence[int], source: FieldSource) -> None:
    """Write the time of each field, if the source tells them."""
    if source.times is not None:
        of_chunks = np.asarray(source.times, TIME)
        file["time"] = np.repeat(of_chunks[np.asarray(wanted, np.intp)], counts).astype(np.int64)
        file["time"].attrs["units"] = "milliseconds since 1970-01-01"


def _skipped(source: FieldSource, unreadable: set[str]) -> list[str]:
    """Names of the files that a labelling left out.

    Those that the source knows to be unreadable hang on the chunks that this process happened to read, of
    which parts of a run before it know more.
    """
    found_when_read = {source.file_of(k) for k in range(len(source))}
    return sorted((set(source.skipped) - found_when_read) | unreadable)


def _describe(
    file: h5py.File, definition: Definition, source: FieldSource, metric: Metric, curves: NDArray[np.float64]
) -> None:
    """Write what a store says about itself."""
    file["definition"] = json.dumps(definition)  # an attribute holds 64 kB at most
    violations = metric.check(curves, source.field_shape)
    file.attrs["about"] = json.dumps({**_about(source, metric), "violations": violations})


def _finish(coming: Path, path: Path) -> None:
    """Seal a file, where it has room for a seal, and give it its name."""
    with coming.open("rb+") as file:
        if is_sealable(file):
            seal(file)
    put_in_place(coming, path)


def _about(source: FieldSource, metric: Metric) -> dict[str, Any]:
    """What a store says about itself, JSON-able."""
    return {
        "outputs": list(metric.outputs),
        "thresholds": [float(u) for u in metric.thresholds],
        "units": list(metric.units),
        "unit": source.unit,
        "pixel_size": source.pixel_size,
        "quantum": source.quantum,
        "package_version": version("emuloss"),
    }
