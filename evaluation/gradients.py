"""Whether a surrogate's gradient points where the exact metric improves.

The exact metric has no gradient pixel by pixel, but moving many pixels at once changes it in small
steps. So exact distances are differentiated by central differences along smooth bumps, a tile
wide, and averaged over random perturbations of the field. A surrogate's gradient, projected on the
same bumps, should point the same way.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..emulators.curves import CurveDistance
from ..emulators.loss import PairwiseLoss, loss_of
from ..errors import ArgumentError
from ..metrics import Metric
from .descent import blurred, exact_distance
from .fidelity import curve_distance, over_finite
from .pixels import PixelSpace, as_fields, refined
from .timing import device_of

_NEGLIGIBLE = 1e-3
"""Gradients below this share of the field's rms gradient count as near zero."""
_QUANTILES = {"q05": 0.05, "q50": 0.5, "q95": 0.95, "max": 1.0}


class GradientQuality(NamedTuple):
    """Gradients of the distance from the true fields, at blurred fields, along the bumps of tiles.

    They are derivatives with respect to z = asinh(x/c), the space of `descend`; tiles stand in a
    grid of (R, S).

    Attributes:
        truth: (N, H, W), the true fields.
        start: (N, H, W), the blurred fields.
        exact: (N, C, R, S), of the exact distance, smoothed over the perturbations.
        surrogate: (N, C, R, S), of the surrogate's distance.
        smoothed: (N, C, R, S), of the surrogate's distance, smoothed over the same perturbations.
        figures: JSON-able; None stands where a figure is undefined. "fields", "tile",
            "perturbations", "seed"; for "total", the sum over outputs, and for each of "outputs"
            the means over fields of "cosine", between `exact` and `surrogate`, "cosine_smoothed",
            between `exact` and `smoothed`, and "ceiling", between the exact gradients of the first
            and of the second half of the perturbations: the noise in the exact gradient lets no
            surrogate get much beyond.
    """

    truth: NDArray[np.float32]
    start: NDArray[np.float32]
    exact: NDArray[np.float64]
    surrogate: NDArray[np.float64]
    smoothed: NDArray[np.float64]
    figures: dict[str, Any]


def gradient_quality(
    surrogate: nn.Module,
    metric: Metric,
    fields: NDArray[Any],
    *,
    tile: int = 16,
    perturbations: int = 16,
    spread: float = 0.2,
    step: float = 0.3,
    factor: int = 8,
    seed: int = 0,
) -> GradientQuality:
    """Compare a surrogate's gradient with that of the exact metric, at blurred fields.

    Everything happens in z = asinh(x/c), c the median size of the fields' non-zero pixels, where
    noise is multiplicative for large values and additive for small ones.

    Args:
        surrogate: maps fields (N, H, W), or pairs (N, 2, H, W), to curves (N, C, Q), differentiable; it
            decides the device. Distances of a pairwise metric are its own values, see `exact_distance`.
        metric: the exact metric.
        fields: (N, H, W), the true fields; NaN counts as 0.
        tile: edge of a tile, in pixels.
        perturbations: even number of perturbed copies of each field over which gradients are
            averaged.
        spread: standard deviation of the perturbations, in z; they are as smooth as the bumps.
        step: of the central differences, in z.
        factor: of the blur, see `blurred`.
        seed: of the perturbations.

    Returns:
        The gradients, and how well they agree.

    Raises:
        ArgumentError: an argument out of range, or a surrogate whose gradient is not finite.
    """
    if tile < 1 or perturbations < 2 or perturbations % 2:
        raise ArgumentError(
            f"tile must be at least 1 and perturbations even and positive, got {tile} and {perturbations}"
        )
    if not (spread >= 0 and step > 0):
        raise ArgumentError(f"spread must be at least 0 and step positive, got {spread} and {step}")
    truth = torch.nan_to_num(as_fields("fields", fields), nan=0.0)
    start = torch.from_numpy(blurred(truth.numpy(), factor))
    space = PixelSpace.of(truth, lowest=float(truth.min()))
    bumps = _bumps((truth.shape[1], truth.shape[2]), tile)
    rng = np.random.default_rng(seed)
    halves, found, smoothed = [], [], []
    for first, goal in zip(start, truth, strict=True):
        heights = torch.from_numpy(rng.standard_normal((perturbations, len(bumps)))).float()
        copies = space.enter(first) + spread * torch.tensordot(heights, bumps, 1)
        slopes = _exact_slopes(metric, goal, copies, bumps, space, step)
        halves.append([half.mean(0) for half in np.split(slopes, 2)])
        points = torch.cat([space.enter(first)[None], copies])
        gradients = _surrogate_slopes(surrogate, metric, goal, points, bumps, space)
        found.append(gradients[0])
        smoothed.append(gradients[1:].mean(0))
    grid = tuple(-(-size // tile) for size in truth.shape[1:])
    early, late, own, own_smoothed = (
        np.array(stack).reshape(len(truth), len(metric.outputs), *grid)
        for stack in ([pair[0] for pair in halves], [pair[1] for pair in halves], found, smoothed)
    )
    exact = (early + late) / 2

    def agreement(pick: Any) -> dict[str, float | None]:
        return {
            key: over_finite(np.mean, _cosines(pick(a), pick(b)))
            for key, a, b in (
                ("cosine", exact, own),
                ("cosine_smoothed", exact, own_smoothed),
                ("ceiling", early, late),
            )
        }

    figures = {
        "fields": len(truth),
        "tile": tile,
        "perturbations": perturbations,
        "seed": seed,
        "total": agreement(lambda slopes: slopes.sum(1)),
        "outputs": {
            name: agreement(lambda slopes, c=c: slopes[:, c]) for c, name in enumerate(metric.outputs)
        },
    }
    return GradientQuality(truth.numpy(), start.numpy(), exact, own, own_smoothed, figures)


def gradient_sizes(
    surrogate: nn.Module, fields: NDArray[Any], *, factor: int = 8, batch_size: int = 64
) -> dict[str, Any]:
    """How large the gradient of a surrogate's loss is, pixel by pixel, at blurred fields.

    The gradient is that of the loss towards the true field, per field unit of a pixel. A pixel is
    near zero where its gradient is below 1e-3 of the rms over the field's pixels: gradient steps
    hardly move it. Fields whose gradient is 0 everywhere count as near zero throughout.

    Args:
        surrogate: maps fields (N, H, W), or pairs (N, 2, H, W), to curves (N, C, Q), differentiable.
        fields: (N, H, W), the true fields; NaN marks pixels that were not measured: they have no
            gradient and do not count.
        factor: of the blur, see `blurred`.
        batch_size: fields at a time.

    Returns:
        JSON-able: "fields"; "near_zero", the share of pixels in %, None where nothing was measured;
        "norm", the quantiles "q05", "q50", "q95" and the "max" over fields of the gradient's
        2-norm.

    Raises:
        ArgumentError: an argument out of range, or a gradient that is not finite.
    """
    truth = as_fields("fields", fields)
    start = torch.from_numpy(blurred(truth.numpy(), factor))
    loss = loss_of(surrogate, reduction="sum")
    device = device_of(surrogate)
    parts = []
    for x, goal in zip(start.split(batch_size), truth.split(batch_size), strict=True):
        x = x.to(device).requires_grad_()
        (gradient,) = torch.autograd.grad(loss(x, goal.to(device)), x)
        parts.append(gradient.double().cpu())
    gradients = _finite(torch.cat(parts))
    measured = ~torch.isnan(truth)
    pixels = measured.sum((1, 2), keepdim=True)
    norms = gradients.square().sum((1, 2), keepdim=True).sqrt()
    small = gradients.abs() <= _NEGLIGIBLE * norms / pixels.clamp(min=1).sqrt()
    return {
        "fields": len(truth),
        "near_zero": 100 * float(small[measured].double().mean()) if measured.any() else None,
        "norm": {name: float(np.quantile(norms.numpy(), share)) for name, share in _QUANTILES.items()},
    }


def _bumps(shape: tuple[int, int], tile: int) -> Tensor:
    """Tents (D, H, W) over the centres of tiles, row by row; they add up to 1 everywhere."""
    rows, columns = (-(-size // tile) for size in shape)
    return refined(torch.eye(rows * columns).view(-1, 1, rows, columns), tile, shape)


def _exact_slopes(
    metric: Metric, goal: Tensor, points: Tensor, bumps: Tensor, space: PixelSpace, step: float
) -> NDArray[np.float64]:
    """Central differences (P, C, D) of the exact distance from a field (H, W), at points (P, H, W) in z."""
    curves = metric(goal[None].numpy()) if metric.arity == 1 else None

    def distances(z: Tensor) -> NDArray[np.float64]:
        fields = space.leave(z.clamp(min=space.lowest)).numpy()
        if curves is None:
            return exact_distance(metric, fields, goal.expand(len(z), -1, -1).numpy())
        return curve_distance(curves.repeat(len(z), axis=0), metric(fields), metric.levels, metric.scales)

    slopes = [(distances(z + step * bumps) - distances(z - step * bumps)) / (2 * step) for z in points]
    return np.array(slopes).swapaxes(1, 2)


def _surrogate_slopes(
    surrogate: nn.Module, metric: Metric, goal: Tensor, points: Tensor, bumps: Tensor, space: PixelSpace
) -> NDArray[np.float64]:
    """Slopes (P, C, D) of the surrogate's distance from a field (H, W), at points (P, H, W) in z."""
    device = device_of(surrogate)
    z = points.clamp(min=space.lowest).to(device).requires_grad_()
    if metric.arity == 2:
        goals = goal.to(device).expand(len(z), -1, -1)
        distances = PairwiseLoss(surrogate).to(device).by_output(space.leave(z), goals).sum(0)
    else:
        distance = CurveDistance(metric.levels, metric.scales).to(device)
        with torch.no_grad():
            curves = surrogate(goal[None].to(device))
        distances = distance(surrogate(space.leave(z)), curves).sum(0)
    gradients = torch.stack([torch.autograd.grad(part, z, retain_graph=True)[0] for part in distances], 1)
    return torch.tensordot(_finite(gradients.double().cpu()), bumps.double(), ([2, 3], [1, 2])).numpy()


def _finite(gradient: Tensor) -> Tensor:
    """The gradient itself; ArgumentError where it is not finite."""
    if not torch.isfinite(gradient).all():
        raise ArgumentError(
            "surrogate must have a finite gradient, but it has NaN or infinity at blurred fields"
        )
    return gradient


def _cosines(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosines (N,) between arrays (N, ...): NaN where the first is 0; 0 where only the second is."""
    a, b = (part.reshape(len(part), -1) for part in (first, second))
    sizes = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    product = sizes[0] * sizes[1]
    cosines = (a * b).sum(1) / np.where(product > 0, product, 1.0)
    return np.where(sizes[0] > 0, cosines, np.nan)
