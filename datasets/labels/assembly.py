"""Parts are joined into the finished store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from ...foundation.files import TEMPORARY, put_in_place
from ...metrics import Metric
from ..sources.source import ROLES, FieldSource
from .job import PREDICTIONS
from .parts import count_fields, create_fields, part_path, read_part
from .store import FORMAT, FORMAT_VERSION


def assemble(
    path: Path,
    parts: Path,
    definition: dict[str, Any],
    source: FieldSource,
    metric: Metric,
    wanted: Sequence[int],
) -> None:
    """Join the parts into the finished file.

    Args:
        path: The file to write.
        parts: Folder of the parts.
        definition: What decides the content.
        source: Where the fields come from.
        metric: What they are labelled with.
        wanted: Numbers of the chunks, in order.

    Raises:
        DataError: A part cannot be read, or there is no field.
        OSError: The file cannot be written.
    """
    counts = {k: count_fields(part_path(parts, k)) for k in wanted}
    if not sum(counts.values()):
        raise DataError(f"source {source.name!r} has no field to label; loosen what it asks of its fields.")
    unfinished = parts / f"assembled{TEMPORARY}"
    with h5py.File(unfinished, "w") as file:
        names = ("fields", PREDICTIONS) if metric.arity == 2 else ("fields",)
        curves = _join(file, parts, counts, names, source.field_shape)
        _write_roles(file, counts, definition["splits"])
        file.attrs["format"] = FORMAT
        file.attrs["format_version"] = FORMAT_VERSION
        file["definition"] = json.dumps(definition)  # an attribute holds 64 kB at most
        violations = metric.check(curves, source.field_shape)
        file.attrs["about"] = json.dumps({**_about(source, metric), "violations": violations})
    put_in_place(unfinished, path)


def _join(
    file: h5py.File, parts: Path, counts: dict[int, int], names: Sequence[str], field_shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Move the fields of all parts into a file, and their curves, which are returned."""
    total = sum(counts.values())
    stored = {name: create_fields(file, name, (total, *field_shape)) for name in names}
    start = 0
    curves = []
    for k, count in counts.items():
        if count:
            blocks, part_curves = read_part(part_path(parts, k), count, names)
            for name, found in blocks.items():
                for i, (mask, block) in enumerate(found, start):
                    stored[name].id.write_direct_chunk((i, 0, 0), block, mask)
            curves.append(part_curves)
        start += count
    labels = np.concatenate(curves)
    file["curves"] = labels
    return labels


def _write_roles(file: h5py.File, counts: dict[int, int], roles: Sequence[str]) -> None:
    """Write the chunk and the role of each field."""
    chunks = np.repeat(np.array(list(counts), np.int32), list(counts.values()))
    codes = np.array([ROLES.index(role) for role in roles], np.uint8)
    file["split"] = codes[chunks]
    file["split"].attrs["roles"] = json.dumps(ROLES)
    file["chunk"] = chunks


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
