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
from torch import Tensor

from ..emulators.differentiable import Differentiable, device_of
from ..emulators.spaces import PixelSpace, Values, as_fields
from ..emulators.spoilt import blurred, refined
from ..errors import ArgumentError
from ..findings.figures import Agreement, GradientQualityFigures, GradientSizes
from ..foundation.arguments import as_count, as_positive
from ..losses.loss import SurrogateLoss
from ..metrics import Metric
from .descent import exact_distance
from .fidelity import curve_distance, over_finite

_NEGLIGIBLE = 1e-3
"""Gradients below this share of the field's rms gradient count as near zero."""
_QUANTILES = (0.05, 0.5, 0.95, 1.0)
"""Of the norms that are told."""


class GradientQuality(NamedTuple):
    """Gradients of the distance from the true fields, at blurred fields, along the bumps of tiles.

    They are derivatives with respect to z, see `gradient_quality`; tiles stand in a grid of (R, S).

    Attributes:
        truth: (N, H, W), the true fields.
        start: (N, H, W), the blurred fields.
        exact: (N, C, R, S), of the exact distance, smoothed over the perturbations.
        surrogate: (N, C, R, S), of the surrogate's distance.
        smoothed: (N, C, R, S), of the surrogate's distance, smoothed over the same perturbations.
        figures: JSON-able; None stands where a figure is undefined. "fields", "defined" (how many of them
            have an exact gradient that is not 0), "tile",
            "perturbations", "seed"; for "total", the sum over outputs, and for each of "outputs"
            the means over fields of "cosine", between `exact` and `surrogate`, "cosine_smoothed",
            between `exact` and `smoothed`, and "ceiling", between the exact gradients of the first
            and of the second half of the perturbations: the noise in the exact gradient lets no
            surrogate get much beyond.
    """

    truth: NDArray[Any]
    start: NDArray[Any]
    exact: NDArray[np.float64]
    surrogate: NDArray[np.float64]
    smoothed: NDArray[np.float64]
    figures: GradientQualityFigures


def gradient_quality(
    surrogate: Differentiable,
    metric: Metric,
    fields: NDArray[Any],
    *,
    tile: int = 16,
    perturbations: int = 16,
    spread: float = 0.2,
    step: float = 0.3,
    factor: int = 8,
    seed: int = 0,
    values: Values | None = None,
) -> GradientQuality:
    """Compare a surrogate's gradient with that of the exact metric, at blurred fields.

    Everything happens in z = asinh((x - o)/c), o the dry value or the median of the data and c the typical
    distance from it, where noise is multiplicative for large values and additive for small ones.

    Args:
        surrogate: maps fields (N, H, W), or pairs (N, 2, H, W), to curves (N, C, Q), differentiable; it
            decides the device. Distances of a pairwise metric are its own values, see `exact_distance`.
        metric: the exact metric.
        fields: (N, H, W), the true fields; NaN counts as the least value.
        tile: edge of a tile, in pixels.
        perturbations: even number of perturbed copies of each field over which gradients are
            averaged.
        spread: standard deviation of the perturbations, in z; they are as smooth as the bumps.
        step: of the central differences, in z.
        factor: of the blur, see `blurred`.
        seed: of the perturbations.
        values: of the data set that the fields are from; default: theirs.

    Returns:
        The gradients, and how well they agree.

    Raises:
        ArgumentError: an argument out of range, or a surrogate whose gradient is not finite.
    """
    _check_numbers(tile, perturbations, spread, step)
    given = as_fields("fields", fields)
    values = values or Values.of(given)
    truth = torch.from_numpy(given).nan_to_num(nan=values.lowest)
    start = torch.from_numpy(blurred(truth.numpy(), factor))
    probe = _Probe.of(truth, values, tile, step)
    loss = SurrogateLoss(surrogate)
    rng = np.random.default_rng(seed)
    found = []
    for first, goal in zip(probe.space.enter(start), truth, strict=True):
        heights = torch.from_numpy(rng.standard_normal((perturbations, len(probe.bumps)))).to(first)
        copies = first + spread * torch.tensordot(heights, probe.bumps, 1)
        found.append(_slopes(loss, metric, goal, torch.cat([first[None], copies]), probe))
    early, late, own, smoothed = probe.by_tile(np.stack(found, 1))
    exact = (early + late) / 2
    compared = (exact, own, smoothed, early, late)
    outputs = {name: [each[:, c] for each in compared] for c, name in enumerate(metric.outputs)}
    figures: GradientQualityFigures = {
        "fields": len(truth),
        "defined": int(exact.sum(1).any((1, 2)).sum()),
        "tile": tile,
        "perturbations": perturbations,
        "seed": seed,
        "total": _agreement(*(each.sum(1) for each in compared)),
        "outputs": {name: _agreement(*slopes) for name, slopes in outputs.items()},
    }
    return GradientQuality(truth.numpy(), start.numpy(), exact, own, smoothed, figures)


def _check_numbers(tile: int, perturbations: int, spread: float, step: float) -> None:
    """Raise ArgumentError for what `gradient_quality` cannot work with."""
    as_count("tile", tile)
    as_positive("step", step)
    if as_count("perturbations", perturbations) % 2:
        raise ArgumentError(f"perturbations must be even, got {perturbations}")
    if not spread >= 0:
        raise ArgumentError(f"spread must be at least 0, got {spread}")


def _agreement(
    exact: NDArray[np.float64],
    own: NDArray[np.float64],
    smoothed: NDArray[np.float64],
    early: NDArray[np.float64],
    late: NDArray[np.float64],
) -> Agreement:
    """Mean cosines over the fields of gradients (N, ...), named as in `GradientQuality`."""
    return {
        "cosine": _mean_cosine(exact, own),
        "cosine_smoothed": _mean_cosine(exact, smoothed),
        "ceiling": _mean_cosine(early, late),
    }


def gradient_sizes(
    surrogate: Differentiable, fields: NDArray[Any], *, factor: int = 8, batch_size: int = 64
) -> GradientSizes:
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
    truth = torch.from_numpy(as_fields("fields", fields))
    start = torch.from_numpy(blurred(truth.numpy(), factor))
    device = device_of(surrogate)
    loss = SurrogateLoss(surrogate, reduction="sum")
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
    low, middle, high, largest = (float(np.quantile(norms.numpy(), share)) for share in _QUANTILES)
    return {
        "fields": len(truth),
        "near_zero": 100 * float(small[measured].double().mean()) if measured.any() else None,
        "norm": {"q05": low, "q50": middle, "q95": high, "max": largest},
    }


class _Probe(NamedTuple):
    """What distances are differentiated along: bumps (D, H, W) of tiles, in a space, by steps of a size."""

    space: PixelSpace
    bumps: Tensor
    rows: int
    step: float

    @classmethod
    def of(cls, truth: Tensor, values: Values, tile: int, step: float) -> _Probe:
        """Bumps of tiles of so many pixels, in the space of fields (N, H, W) of such values."""
        shape = (truth.shape[1], truth.shape[2])
        space = PixelSpace.of(values.among(truth.numpy()), lowest=float(truth.min()))
        return cls(space, _bumps(shape, tile).to(truth), -(-shape[0] // tile), step)

    def by_tile(self, slopes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Slopes (..., D) along the bumps as they stand in the field, (..., R, S)."""
        return slopes.reshape(*slopes.shape[:-1], self.rows, -1)


def _bumps(shape: tuple[int, int], tile: int) -> Tensor:
    """Tents (D, H, W) over the centres of tiles, row by row; they add up to 1 everywhere."""
    rows, columns = (-(-size // tile) for size in shape)
    return refined(torch.eye(rows * columns).view(-1, 1, rows, columns), tile, shape)


def _slopes(
    loss: SurrogateLoss, metric: Metric, goal: Tensor, points: Tensor, probe: _Probe
) -> list[NDArray[np.float64]]:
    """Slopes (C, D) of distances from a field (H, W), at a point and at copies of it, (1 + P, H, W) in z.

    Means of the exact ones over the first half of the copies and over the second; the surrogate's at the
    point itself, and their mean over the copies.
    """
    early, late = np.split(_exact_slopes(metric, goal, points[1:], probe), 2)
    own = _surrogate_slopes(loss, goal, points, probe)
    return [early.mean(0), late.mean(0), own[0], own[1:].mean(0)]


def _exact_slopes(metric: Metric, goal: Tensor, points: Tensor, probe: _Probe) -> NDArray[np.float64]:
    """Central differences (P, C, D) of the exact distance from a field (H, W), at points (P, H, W) in z."""
    space, bumps, step = probe.space, probe.bumps, probe.step
    curves = metric(goal[None].numpy()) if metric.arity == 1 else None

    def distances(z: Tensor) -> NDArray[np.float64]:
        fields = space.leave(space.within(z)).numpy()
        if curves is None:
            return exact_distance(metric, fields, goal.expand(len(z), -1, -1).numpy())
        return curve_distance(curves.repeat(len(z), axis=0), metric(fields), metric.levels, metric.scales)

    slopes = [(distances(z + step * bumps) - distances(z - step * bumps)) / (2 * step) for z in points]
    return np.array(slopes).swapaxes(1, 2)


def _surrogate_slopes(
    loss: SurrogateLoss, goal: Tensor, points: Tensor, probe: _Probe
) -> NDArray[np.float64]:
    """Slopes (P, C, D) of the surrogate's distance from a field (H, W), at points (P, H, W) in z."""
    device = device_of(loss)
    z = probe.space.within(points).to(device).requires_grad_()
    fields, goals = probe.space.leave(z), goal.to(device).expand(len(z), -1, -1)
    if loss.metric.arity == 2:
        distances = loss.by_output(fields, goals)
    else:
        with torch.no_grad():  # the same curves for every point
            curves = loss.surrogate(goals[:1]).expand(len(z), -1, -1)
        distances = loss.by_output(fields, target_curves=curves)
    gradients = torch.stack(
        [torch.autograd.grad(part, z, retain_graph=True)[0] for part in distances.sum(0)], 1
    )
    return torch.tensordot(_finite(gradients.double().cpu()), probe.bumps.double(), ([2, 3], [1, 2])).numpy()


def _finite(gradient: Tensor) -> Tensor:
    """The gradient itself; ArgumentError where it is not finite."""
    if not torch.isfinite(gradient).all():
        raise ArgumentError(
            "surrogate must have a finite gradient, but it has NaN or infinity at blurred fields"
        )
    return gradient


def _mean_cosine(first: NDArray[np.float64], second: NDArray[np.float64]) -> float | None:
    """Mean of the cosines between arrays (N, ...) that are defined; None where none is."""
    return over_finite(np.mean, _cosines(first, second))


def _cosines(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosines (N,) between arrays (N, ...): NaN where the first is 0; 0 where only the second is."""
    a, b = (part.reshape(len(part), -1) for part in (first, second))
    sizes = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    product = sizes[0] * sizes[1]
    cosines = (a * b).sum(1) / np.where(product > 0, product, 1.0)
    return np.where(sizes[0] > 0, cosines, np.nan)
