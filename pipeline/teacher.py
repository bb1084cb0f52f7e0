"""The exact metric of a run: what it takes of the data is found in the training fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..datasets import FieldSource
from ..foundation.bars import counted
from ..foundation.units import refuse_other_unit
from ..metrics import WET_LEVELS, Metric, metric, quantile_thresholds, takes
from .settings import Teacher

_SAMPLED_CHUNKS = 16
"""Training chunks whose pixels set the default thresholds."""


def metric_of(asked: Teacher, source: FieldSource, roles: Sequence[str], *, progress: bool = False) -> Metric:
    """The exact metric.

    Args:
        asked: what is chosen about it.
        source: where the fields come from: their pixel size and units are the metric's, if it has such
            arguments, and thresholds lie at quantiles of them, unless they are given: of the pixels above the
            source's `wet`, or of those that are not dry.
        roles: of the source's chunks.
        progress: whether to show a bar if it takes longer than a few seconds to read some fields.

    Raises:
        ArgumentError: an argument that the metric does not take, or that is out of range; a metric whose
            fields have another unit.
        DataError: a chunk that cannot be read.
    """
    if isinstance(asked.metric, Metric):
        taken = asked.metric.arguments().get("field_unit", "unit")
        wanted = "" if taken == "unit" else taken
        refuse_other_unit("fields", source.unit, wanted, f"metric {asked.metric.title!r}")
        return asked.metric
    known = takes(asked.metric)
    of_data = {
        "pixel_size": source.pixel_size,
        "length_unit": source.length_unit,
        "field_unit": source.unit or "unit",
    }
    arguments: dict[str, Any] = {name: value for name, value in of_data.items() if name in known}
    if "spacing" in asked.arguments:
        del arguments["pixel_size"]  # of pixels that are not square
    arguments |= asked.arguments
    missing = "thresholds" in known and "thresholds" not in arguments
    placed = missing and (asked.quantiles is not None or "percentiles" not in arguments)
    # Refuses the other arguments before any field is read.
    found = metric(asked.metric, **arguments | ({"thresholds": [1.0]} if placed else {}))
    if not (placed or found.probes_fields):
        return found
    sample = _sample(source, roles, progress)
    if placed:
        levels = asked.quantiles or WET_LEVELS
        wet = source.dry if source.wet is None else source.wet
        placed_at = quantile_thresholds(sample, levels, wet=wet, quantum=source.quantum)
        arguments |= {"thresholds": placed_at, "levels": levels}
    return metric(asked.metric, fields=sample, **arguments)


def _sample(source: FieldSource, roles: Sequence[str], progress: bool) -> np.ndarray:
    """Fields of some training chunks, spread over all of them."""
    chunks = [k for k, role in enumerate(roles) if role == "train"]
    picks = np.unique(np.linspace(0, len(chunks) - 1, min(_SAMPLED_CHUNKS, len(chunks))).round().astype(int))
    coming = counted(picks, "reading a sample", "chunk", progress)
    return np.concatenate([source.read(chunks[k], "train") for k in coming])
