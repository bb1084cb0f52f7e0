"""Measuring frozen surrogates on fields of a source, and writing down what was found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ..datasets import assign_splits, predictions_of
from ..datasets.sources.opening import as_source
from ..errors import ArgumentError, DataError
from ..evaluation import Evaluation, evaluate
from ..zoo import Surrogate


def fields_for(surrogate: Surrogate, fields: object, count: int, seed: int, *, whole: bool) -> np.ndarray:
    """The first usable fields of a source, or of its test split, in the surrogate's unit: (N, H, W).

    Args:
        surrogate: that will see them.
        fields: text for `open_source`, a source, or an array.
        count: most fields.
        seed: of synthetic fields, and of predictions.
        whole: whether to take all the data, not the test split alone.

    Returns:
        For a pairwise metric pairs (N, 2, H, W) of imagined predictions and these fields.

    Raises:
        ArgumentError: fields that come in another unit than the surrogate takes.
        DataError: no usable field.
    """
    source = as_source(fields, seed=seed)
    unit = surrogate.provenance.unit
    if unit and source.unit and unit != source.unit:
        raise ArgumentError(f"fields (={fields!r}) come in {source.unit}, the surrogate takes {unit}")
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
    return np.stack([predictions_of(sample, np.random.default_rng(seed)), sample], axis=1)


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
    """The evaluation of a surrogate on fields, beside their exact curves."""
    unit = surrogate.provenance.unit
    return evaluate(
        surrogate,
        fields,
        curves,
        quick=quick,
        thorough=thorough,
        field_unit=unit,
        seed=seed,
        progress=progress,
    )


def write_evaluation(
    folder: Path,
    surrogate: Surrogate,
    evaluation: Evaluation,
    fields: np.ndarray,
    curves: np.ndarray,
    training_log: Path | None = None,
) -> None:
    """Write evaluation.json and report.png into a folder, which is made if missing."""
    from ..evaluation import write_report  # what draws is slow to import

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluation.json").write_text(json.dumps(evaluation.figures, indent=2))
    write_report(folder / "report.png", surrogate, evaluation, fields, curves, training_log=training_log)
