"""What gradient steps on the pixels do to the exact metric: the test that a loss has to pass.

A field is blurred, and a surrogate loss is descended from there towards the field's own curves.
The exact metric, which the gradient never sees, tells how much of the distance is gone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from ..errors import ArgumentError
from ..metrics import Metric
from .fidelity import curve_distance, number
from .timing import device_of

BAR_DELAY = 3.0
"""Seconds before a progress bar shows."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""loss(prediction, target) -> scalar, for fields (N, H, W)."""


def blurred(fields: NDArray[Any], factor: int = 8) -> NDArray[np.float32]:
    """Fields without their small scales: block means, interpolated back bilinearly.

    Each field keeps its mean over the measured pixels, and no value falls below its least one.

    Args:
        fields: (N, H, W), any H and W; NaN marks pixels that were not measured, and stays.
        factor: edge of a block, in pixels; blocks at the edge may be smaller.

    Returns:
        (N, H, W).

    Raises:
        ArgumentError: another shape, or factor < 1.
    """
    x = _as_fields("fields", fields).double()
    if factor < 1:
        raise ArgumentError(f"factor must be at least 1, got {factor}")
    rows, columns = x.shape[1:]
    measured = ~torch.isnan(x)
    least = torch.where(measured, x, torch.inf).amin((1, 2), keepdim=True)
    above = torch.where(measured, x - least, 0.0)

    def smooth(values: Tensor) -> Tensor:
        padded = F.pad(values[:, None], (0, -columns % factor, 0, -rows % factor))
        coarse = F.avg_pool2d(padded, factor)
        fine = F.interpolate(coarse, scale_factor=factor, mode="bilinear", align_corners=False)
        return fine[:, 0, :rows, :columns]

    # What was not measured, and the padding, weigh nothing.
    soft = torch.where(measured, smooth(above) / smooth(measured.double()), 0.0)
    totals = (above.sum((1, 2), keepdim=True), soft.sum((1, 2), keepdim=True))
    kept = torch.where(totals[1] > 0, totals[0] / totals[1], 1.0)
    return torch.where(measured, least + kept * soft, torch.nan).float().numpy()


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
    progress: bool = False,
) -> Descended:
    """Change the pixels of `start` by gradient steps until they look like `target` to the loss.

    Adam with a cosine schedule acts on z = asinh(x/c), c the median size of the target's non-zero
    pixels, so that a step is a share of a large value and an amount for a small one. Each step
    ends with a projection: no pixel goes below the least value of start and target. Rain stays
    non-negative, a wet pixel can fall dry, and a dry one turn wet where the loss has a gradient.

    Args:
        loss: loss(prediction, target) -> scalar.
        start: (N, H, W), floating point, physical units. Pixels that are NaN here or in target
            were not measured: the loss sees 0 there, and they come back as NaN.
        target: (N, H, W), on the same device.
        steps: number of gradient steps.
        learning_rate: the first step's, in units of z.
        progress: show a bar if it takes longer than a few seconds.

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
    if steps < 1 or not learning_rate > 0:
        raise ArgumentError(f"steps and learning_rate must be positive, got {steps} and {learning_rate}")
    measured = ~(torch.isnan(start) | torch.isnan(target))
    first, goal = (torch.where(measured, x.detach(), 0.0) for x in (start, target))
    sizes = goal[goal != 0].abs()
    scale = sizes.median() if len(sizes) else goal.new_tensor(1.0)
    lowest = torch.asinh(torch.minimum(first, goal).min() / scale)

    z = torch.asinh(first / scale).requires_grad_()
    optimizer = torch.optim.Adam([z], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    history = []
    for step in tqdm(
        range(steps), "descent", unit="step", delay=BAR_DELAY, disable=not progress, leave=False
    ):
        value = loss(torch.where(measured, scale * torch.sinh(z), 0.0), goal)
        history.append(float(value.detach()))
        # Of z alone: the loss's own parameters need no gradient.
        (z.grad,) = torch.autograd.grad(value, z)
        if not (math.isfinite(history[-1]) and torch.isfinite(z.grad).all()):
            raise ArgumentError(
                f"loss must be finite and have a finite gradient, but is {history[-1]:g} at step {step} "
                f"with a gradient up to {float(z.grad.abs().max()):g}"
            )
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            z.clamp_(min=lowest)
    with torch.no_grad():
        final = scale * torch.sinh(z)
        history.append(float(loss(torch.where(measured, final, 0.0), goal)))
    return Descended(torch.where(measured, final, torch.nan), history)


def exact_distance(metric: Metric, first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
    """Distances (N, C) between the exact curves of two batches of fields (N, H, W).

    Raises:
        ArgumentError: fields that the metric does not take, or batches of different length.
    """
    return curve_distance(metric(first), metric(second), metric.levels)


class Descent(NamedTuple):
    """A descent from blurred fields towards the true ones.

    Attributes:
        truth: (N, H, W), the fields.
        start: (N, H, W), blurred.
        final: (N, H, W), after the steps.
        before: (N, C), exact distances from the truth at the start.
        after: (N, C), likewise at the end.
        history: the loss before each step and after the last one.
        figures: JSON-able; None stands where a figure is undefined. "fields", "steps",
            "factor"; for each of "outputs" the exact distance "before" and "after", means over
            fields, and the share "removed", in %; "removed", the same for the sum over outputs;
            "rmse_before" and "rmse_after", per pixel, in the fields' unit.
    """

    truth: NDArray[np.float32]
    start: NDArray[np.float32]
    final: NDArray[np.float32]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    history: list[float]
    figures: dict[str, Any]


def descent(
    loss: nn.Module,
    metric: Metric,
    fields: NDArray[Any],
    *,
    steps: int = 200,
    learning_rate: float = 0.05,
    factor: int = 8,
    progress: bool = False,
) -> Descent:
    """Descend a loss from blurred fields, and measure with the exact metric what that brings.

    Args:
        loss: loss(prediction, target) -> scalar; it decides the device.
        metric: the exact metric.
        fields: (N, H, W), N >= 1, physical units; NaN marks pixels that were not measured.
        steps: gradient steps, see `descend`.
        learning_rate: see `descend`.
        factor: see `blurred`.
        progress: show a bar if it takes longer than a few seconds.

    Returns:
        Fields, distances and figures.

    Raises:
        ArgumentError: an argument out of range.
    """
    truth = _as_fields("fields", fields).numpy()
    start = blurred(truth, factor)
    device = device_of(loss)
    final, history = descend(
        loss,
        torch.from_numpy(start).to(device),
        torch.from_numpy(truth).to(device),
        steps=steps,
        learning_rate=learning_rate,
        progress=progress,
    )
    reached = final.cpu().numpy()
    before, after = exact_distance(metric, start, truth), exact_distance(metric, reached, truth)
    figures = {
        "fields": len(truth),
        "steps": steps,
        "factor": factor,
        "outputs": {
            name: {
                "before": float(before[:, c].mean()),
                "after": float(after[:, c].mean()),
                "removed": _removed(before[:, c], after[:, c]),
            }
            for c, name in enumerate(metric.outputs)
        },
        "removed": _removed(before, after),
        "rmse_before": _rmse(start, truth),
        "rmse_after": _rmse(reached, truth),
    }
    return Descent(truth, start, reached, before, after, history, figures)


def _removed(before: NDArray[np.float64], after: NDArray[np.float64]) -> float | None:
    """Share of the distance that is gone, in %; None where there was none."""
    return number(100 * (1 - after.sum() / before.sum())) if before.sum() > 0 else None


def _rmse(first: NDArray[np.float32], second: NDArray[np.float32]) -> float | None:
    squares = (first.astype(np.float64) - second) ** 2
    measured = ~np.isnan(squares)
    return float(np.sqrt(squares[measured].mean())) if measured.any() else None


def _as_fields(name: str, fields: NDArray[Any]) -> Tensor:
    array = np.asarray(fields)
    if array.ndim != 3 or 0 in array.shape or array.dtype.kind not in "fiub":
        raise ArgumentError(
            f"{name} must be real numbers of shape (N, H, W) with N, H, W >= 1, "
            f"got {array.dtype} of {array.shape}"
        )
    return torch.from_numpy(array.astype(np.float32))
