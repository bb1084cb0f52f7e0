"""What gradient steps on the pixels do to the exact metric: the test that a loss has to pass.

A field is blurred, or made noisy, and a surrogate loss is descended from there towards the field's
own curves. The exact metric, which the gradient never sees, tells how much of the distance is gone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..emulators.differentiable import device_of
from ..emulators.distances import Shortfall
from ..emulators.spaces import Values, as_fields, space_of
from ..emulators.spoilt import blurred, noisy
from ..errors import ArgumentError
from ..findings.figures import DescentDistances, DescentFigures
from ..foundation.arguments import as_choice
from ..metrics import Metric
from .bars import Progress
from .fidelity import curve_distance, number
from .pixels import minimise

Loss = Callable[[Tensor, Tensor], Tensor]
"""loss(prediction, target) -> scalar, for fields (N, H, W)."""

_NEGLIGIBLE = 1e-6
"""Distance below which there is nothing to remove: rounding of the blur, which keeps totals."""
STARTS = ("blurred", "noisy")
"""What a descent may start from."""


class Descended(NamedTuple):
    """Where gradient steps led.

    Attributes:
        fields: (N, H, W).
        history: the loss before each step and after the last one, steps + 1 values.
    """

    fields: Tensor
    history: list[float]


def descend(
    loss: Loss,
    start: Tensor,
    target: Tensor,
    *,
    steps: int = 200,
    learning_rate: float = 0.05,
    values: Values | None = None,
    progress: Progress = False,
) -> Descended:
    """Change the pixels of `start` by gradient steps until they look like `target` to the loss.

    Adam acts on z, see `minimise`. Where values span decades above a dry value o, such as 0 mm/h, it
    is asinh((x - o)/c), c the typical distance of the target's pixels from o: a step is a share of a large
    value and an amount for a small one. Elsewhere it is the normal number of the same rank as x in the data:
    a step is a share of the data. Each step ends with a projection: no pixel leaves the range of start and
    target, but upwards where values span decades.

    Args:
        loss: loss(prediction, target) -> scalar.
        start: (N, H, W), floating point, physical units. Pixels that are NaN here or in target
            were not measured: the loss sees the data's least value there, and they come back as NaN.
        target: (N, H, W), on the same device.
        steps: number of gradient steps.
        learning_rate: the first step's, in units of z.
        values: of the data set that the target is from; default: the target's.
        progress: show a bar if it takes longer than a few seconds; see `Progress`.

    Returns:
        The final fields and the history of the loss.

    Raises:
        ArgumentError: shapes that differ, a number out of range, or a loss whose value or gradient
            is not finite on the way.
    """
    if start.shape != target.shape or start.ndim != 3:
        raise ArgumentError(
            f"start and target must have one shape (N, H, W), got {tuple(start.shape)} "
            f"and {tuple(target.shape)}"
        )
    measured = ~(torch.isnan(start) | torch.isnan(target))
    known = target.detach().cpu().numpy()
    found = values or Values.of(known)
    first, goal = (torch.where(measured, x.detach(), found.lowest) for x in (start, target))
    highest = math.inf if found.decades else float(torch.maximum(first, goal).max())
    lowest = float(torch.minimum(first, goal).min())
    space = space_of(found, found.among(known), lowest=lowest, highest=highest)
    z = space.enter(first).requires_grad_()
    history = minimise(
        lambda: loss(torch.where(measured, space.leave(z), found.lowest), goal),
        [z],
        [learning_rate],
        steps=steps,
        project=lambda: z.copy_(space.within(z)),
        progress=progress,
    )
    return Descended(torch.where(measured, space.leave(z.detach()), torch.nan), history)


def exact_distance(metric: Metric, first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
    """Distances (N, C) between two batches of fields (N, H, W), by the exact metric.

    Of a metric of one field they are the distances between its curves; of a pairwise one, its own values
    with the second batch as observations, turned so that smaller is better (`Shortfall`).

    Raises:
        ArgumentError: fields that the metric does not take, or batches of different length.
    """
    if metric.arity == 2:
        return Shortfall(metric)(torch.from_numpy(metric(first, second))).numpy()
    return curve_distance(metric(first), metric(second), metric.levels, metric.scales)


class Descent(NamedTuple):
    """A descent from spoilt fields towards the true ones.

    Attributes:
        truth: (N, H, W), the fields.
        start: (N, H, W), blurred or noisy.
        final: (N, H, W), after the steps.
        before: (N, C), exact distances from the truth at the start.
        after: (N, C), likewise at the end.
        history: the loss before each step and after the last one.
        figures: JSON-able; None stands where a figure is undefined. "fields", "steps", "start",
            "factor" of the blur; for each of "outputs" the exact distance "before" and "after",
            means over fields, and the share "removed", in %; "removed", the same for the sum over
            outputs; "rmse_before" and "rmse_after", per pixel, in the fields' unit: what the
            descent costs, or brings, in the usual error.
    """

    truth: NDArray[Any]
    start: NDArray[Any]
    final: NDArray[Any]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    history: list[float]
    figures: DescentFigures


def descent(
    loss: nn.Module,
    metric: Metric,
    fields: NDArray[Any],
    *,
    start: str = "blurred",
    steps: int = 200,
    learning_rate: float = 0.05,
    factor: int = 8,
    seed: int = 0,
    values: Values | None = None,
    progress: Progress = False,
) -> Descent:
    """Descend a loss from spoilt fields, and measure with the exact metric what that brings.

    Args:
        loss: loss(prediction, target) -> scalar; it decides the device.
        metric: the exact metric.
        fields: (N, H, W), N >= 1, physical units; NaN marks pixels that were not measured.
        start: "blurred" or "noisy": what is done to the fields first.
        steps: gradient steps, see `descend`.
        learning_rate: see `descend`.
        factor: of a blurred start, see `blurred`.
        seed: of a noisy start, see `noisy`.
        values: of the data set that the fields are from; default: theirs.
        progress: show a bar if it takes longer than a few seconds; see `Progress`.

    Returns:
        Fields, distances and figures.

    Raises:
        ArgumentError: an argument out of range.
    """
    as_choice("start", start, STARTS)
    truth = as_fields("fields", fields)
    values = values or Values.of(truth)
    first = blurred(truth, factor) if start == "blurred" else noisy(truth, seed=seed, values=values)
    device = device_of(loss)
    final, history = descend(
        loss,
        torch.from_numpy(first).to(device),
        torch.from_numpy(truth).to(device),
        steps=steps,
        learning_rate=learning_rate,
        values=values,
        progress=progress,
    )
    reached = final.cpu().numpy()
    before, after = exact_distance(metric, first, truth), exact_distance(metric, reached, truth)
    figures: DescentFigures = {
        "fields": len(truth),
        "steps": steps,
        "start": start,
        "factor": factor if start == "blurred" else None,
        "outputs": _distances(metric, before, after),
        "removed": _removed(before, after),
        "rmse_before": _rmse(first, truth),
        "rmse_after": _rmse(reached, truth),
    }
    return Descent(truth, first, reached, before, after, history, figures)


def _distances(
    metric: Metric, before: NDArray[np.float64], after: NDArray[np.float64]
) -> dict[str, DescentDistances]:
    """Of each output, from exact distances (N, C)."""
    return {
        name: {
            "before": float(before[:, c].mean()),
            "after": float(after[:, c].mean()),
            "removed": _removed(before[:, c], after[:, c]),
        }
        for c, name in enumerate(metric.outputs)
    }


def _removed(before: NDArray[np.float64], after: NDArray[np.float64]) -> float | None:
    """Share of the distance that is gone, in %; None where there was none."""
    return number(100 * (1 - after.sum() / before.sum())) if before.mean() > _NEGLIGIBLE else None


def _rmse(first: NDArray[Any], second: NDArray[Any]) -> float | None:
    squares = (first.astype(np.float64) - second) ** 2
    measured = ~np.isnan(squares)
    return float(np.sqrt(squares[measured].mean())) if measured.any() else None
