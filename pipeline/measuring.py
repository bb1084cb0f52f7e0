"""Measuring frozen surrogates on fields of a source, and writing down what was found."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets import FieldSource, assign_splits, predictions_of
from ..datasets.sources.opening import as_source
from ..errors import DataError
from ..evaluation import Evaluation, evaluate, planned
from ..evaluation.bars import counted
from ..foundation.arguments import shown
from ..foundation.files import disk_errors, write_together
from ..foundation.units import conversion, refuse_other_unit
from ..metrics import Metric
from ..zoo import Surrogate
from .saying import say

_BATCH = 64
"""Fields that the exact metric takes at a time, so that progress shows."""


def fields_for(
    surrogate: Surrogate,
    fields: object,
    count: int,
    seed: int,
    *,
    whole: bool,
    options: Mapping[str, Any] | None = None,
) -> np.ndarray:
    """The first usable fields of a source, or of its test split, in the surrogate's unit: (N, H, W).

    Args:
        surrogate: that will see them.
        fields: text for `open_source`, a source, or an array.
        count: most fields.
        seed: of synthetic fields, and of predictions.
        whole: whether to take all the data, not the test split alone.
        options: arguments of the source.

    Returns:
        For a pairwise metric pairs (N, 2, H, W) of imagined predictions and these fields.

    Raises:
        ArgumentError: fields that come in another unit than the surrogate takes.
        DataError: no usable field.
    """
    source = as_source(fields, **{"seed": seed, **(options or {})})
    refuse_other_unit(f"fields (={shown(fields)})", source.unit, surrogate.provenance.unit, "the surrogate")
    _tell_other_pixels(source, surrogate.metric)
    roles = ["test"] * len(source) if whole else assign_splits(source)
    found: list[np.ndarray] = []
    for k, role in enumerate(roles):
        if role == "test":
            found += list(source.read(k, "test"))
        if len(found) >= count:
            break
    if not found:
        raise DataError(f"{fields} holds no usable field; give it more data")
    sample = np.stack(found[:count])
    if surrogate.metric.arity == 1:
        return sample
    return np.stack([predictions_of(sample, np.random.default_rng(seed), source.dry), sample], axis=1)


def _tell_other_pixels(source: FieldSource, metric: Metric) -> None:
    """Say so where pixels are of another size than those that the metric counts in."""
    unit = metric.arguments().get("length_unit", "")
    factor = conversion(source.length_unit, unit)
    if factor and not math.isclose(source.pixel_size * factor, metric.pixel_size, rel_tol=1e-3):
        say(
            f"warning: fields have pixels of {source.pixel_size:g} {source.length_unit}, the surrogate "
            f"takes them for {metric.pixel_size:g} {unit}"
        )


def exact_curves(metric: Metric, fields: np.ndarray, *, progress: bool = False) -> np.ndarray:
    """Exact curves (N, C, Q) of fields (N, H, W) or pairs (N, 2, H, W), batch by batch."""
    starts = range(0, len(fields), _BATCH)
    batches = counted(starts, "labelling", "batch", progress)
    return np.concatenate([metric(*metric.parts(fields[i : i + _BATCH])) for i in batches])


def measured(
    surrogate: Surrogate,
    fields: np.ndarray,
    curves: np.ndarray,
    *,
    quick: bool = False,
    thorough: bool = False,
    seconds: float | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Evaluation:
    """The evaluation of a surrogate on fields, beside their exact curves; says before how long it will take.

    Args:
        surrogate: see `evaluate` for this and the others.
        fields: likewise.
        curves: likewise.
        quick: likewise.
        thorough: likewise.
        seconds: that it may take, as far as it can be cut to that; None: as long as it needs.
        seed: see `evaluate`.
        progress: likewise.
    """
    plan = planned(surrogate, fields, quick=quick, thorough=thorough, seconds=seconds)
    effort = plan.effort
    cut = f", cut to descents of {effort.fields} fields in {effort.steps} steps" if plan.cut else ""
    say(f"evaluating on {len(fields)} fields: about {_rounded(plan.total)}{cut if effort.fields else ''}")
    return evaluate(
        surrogate,
        fields,
        curves,
        thorough=thorough,
        plan=plan,
        field_unit=surrogate.provenance.unit,
        seed=seed,
        progress=progress,
    )


def _rounded(seconds: float) -> str:
    """A duration in words: "5 s", "90 s", "3 minutes"."""
    if seconds < 100:
        return f"{max(5, 5 * round(seconds / 5))} s"
    return f"{round(seconds / 60)} minutes"


def write_evaluation(
    folder: Path,
    surrogate: Surrogate,
    evaluation: Evaluation,
    fields: np.ndarray,
    curves: np.ndarray,
    training_log: Path | None = None,
) -> None:
    """Write evaluation.json and report.png into a folder, which is made if missing.

    Raises:
        DataError: the disk is full, or cannot be written.
    """
    from ..evaluation import write_report  # what draws is slow to import

    with disk_errors(folder / "evaluation.json"):
        write_together(folder, {"evaluation.json": json.dumps(evaluation.figures, indent=2).encode()})
    write_report(folder / "report.png", surrogate, evaluation, fields, curves, training_log=training_log)
