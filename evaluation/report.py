"""The pictures of an evaluation: one PNG."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..emulators.differentiable import Differentiable
from ..emulators.spaces import Values
from ..errors import ArgumentError, DataError
from ..foundation.arguments import filled
from ..metrics import Metric
from .evaluate import Evaluation, check_surrogate
from .fidelity_panels import Columns, draw_curves, draw_fidelity, draw_shift, draw_values, lines_of_panels
from .field_panels import draw_descent, draw_inversion
from .gradient_panels import draw_gradients
from .sheet import Row, write_sheet

TrainingLog = str | Path | Iterable[dict[str, Any]]
"""A CSV file, or rows, with the columns "fields", "train_loss", "validation_loss" and
"validation_<output>"; a cell without a number is left out."""


def write_report(
    path: str | Path,
    surrogate: Differentiable,
    evaluation: Evaluation,
    fields: NDArray[Any],
    curves: NDArray[Any],
    training_log: TrainingLog | None = None,
) -> None:
    """Draw an evaluation: curves, fidelity, training, gradients, descents; if thorough, inversion and shift.

    What was not measured is left out.

    Args:
        path: the PNG file to write.
        surrogate: the surrogate that was evaluated; its `metric` names outputs and units.
        evaluation: what `evaluate` returned.
        fields: (N, H, W), or pairs (N, 2, H, W), that it was given.
        curves: (N, C, Q), their exact curves.
        training_log: see `TrainingLog`; None where nothing was trained.

    Raises:
        ArgumentError: fields, curves and evaluation do not belong together.
        DataError: the log cannot be read, or the picture cannot be written.
    """
    check_surrogate(surrogate)
    fields, curves = filled(fields), np.asarray(curves)
    if curves.shape != evaluation.emulated.shape or len(fields) != len(curves):
        raise ArgumentError(
            f"fields, curves and evaluation must be of the same fields, got {fields.shape}, {curves.shape} "
            f"and {evaluation.emulated.shape}"
        )
    log = None if training_log is None else _columns(training_log)
    write_sheet(path, _rows(surrogate.metric, evaluation, fields, curves, log))


def _rows(
    metric: Metric, evaluation: Evaluation, fields: NDArray[Any], curves: NDArray[Any], log: Columns | None
) -> list[Row]:
    """What there is to draw, from the top."""
    figures, inversion, gradients = evaluation.figures, evaluation.inversion, evaluation.gradients
    values, unit = Values.of(fields), figures["field_unit"]
    lines = lines_of_panels(len(metric.outputs))
    if len(metric.levels) > 1:
        first = Row(0.8 + 3.2 * lines, lambda place: draw_curves(place, metric, evaluation, fields, curves))
    else:
        first = Row(0.5 + 3.2 * lines, lambda place: draw_values(place, metric, evaluation, curves))
    rows = [first, Row(4.0, lambda place: draw_fidelity(place, metric, evaluation, log))]
    if gradients is not None:
        sizes = figures["gradients"]["sizes"]
        rows.append(Row(3.1, lambda place: draw_gradients(place, metric, gradients, sizes)))
    rows += [
        Row(3.5, partial(draw_descent, metric=metric, found=each, values=values, unit=unit))
        for each in (evaluation.descent, evaluation.descent_noisy)
        if each is not None
    ]
    if inversion is not None:
        rows.append(Row(4.4, lambda place: draw_inversion(place, metric, inversion, values, unit)))
    if "shift" in figures:
        rows.append(Row(3.3, lambda place: draw_shift(place, metric, figures["shift"])))
    return rows


def _columns(log: TrainingLog) -> Columns:
    """Columns of a training log as arrays; NaN stands for cells without a number."""
    if isinstance(log, (str, Path)):
        try:
            with open(log, newline="", encoding="utf-8") as file:
                rows: list[dict[str, Any]] = list(csv.DictReader(file))
        except OSError as error:
            raise DataError(f"cannot read the training log {str(log)!r}: {error.strerror or error}") from None
    else:
        rows = list(log)
    if not rows or "fields" not in rows[0]:
        raise DataError("the training log needs at least one row, and a column 'fields'")
    return {name: np.array([_cell(row.get(name)) for row in rows]) for name in rows[0]}


def _cell(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
