"""From noise to given curves: what fields a surrogate takes for a storm, or for no storm at all.

The feature inversion of Quarenghi, Cotsakis and Beucler (arXiv 2604.11422): pixels are descended
from noise until the surrogate's curves are the given ones; the exact curves of the result then
show what the surrogate mistakes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..emulators.curves import log_curves
from ..emulators.differentiable import Differentiable, device_of
from ..emulators.relaxations.relaxation import HOT, geometric
from ..emulators.spaces import PixelSpace, Values, as_fields
from ..emulators.spoilt import refined
from ..errors import ArgumentError
from ..findings.figures import InversionErrors, InversionFigures
from ..foundation.arguments import as_count, as_positive
from ..losses.loss import SurrogateLoss
from ..metrics import Metric
from .bars import Progress
from .fidelity import number
from .pixels import minimise, waves

_TILES = (32, 16, 8, 4, 2, 1)
"""Edges, in pixels, of the tiles that are moved together."""
_ROUGHNESS = 3.0
"""Spectral exponent of the noise to start from: its power falls as wave number to this power."""
_STORMS = {"large storm": (0.18, 2.2), "small storm": (0.06, 1.1), "no storm": (0.06, 0.0)}
"""Smooth storms: radius (standard deviation) over the field's shorter edge, and peak over the
highest threshold, both from the ground."""


class Inverted(NamedTuple):
    """What pixels became, from noise.

    Attributes:
        fields: (N, H, W), physical units.
        losses: (N,), the loss of each at the end.
        history: the loss of all starts before each step and after the last one.
    """

    fields: Tensor
    losses: Tensor
    history: list[float]


def invert(
    loss: nn.Module,
    target_curves: Tensor,
    shape: tuple[int, int],
    *,
    scale: float,
    lowest: float = 0.0,
    centre: float | None = None,
    steps: int = 600,
    starts: int = 2,
    learning_rate: float = 0.2,
    seed: int = 0,
    anneal: Callable[[float], object] = lambda share: None,
    progress: Progress = False,
) -> Inverted:
    """Find fields with given curves, in the eyes of a loss, from noise.

    Adam (see `minimise`) acts on z = asinh((x - centre)/scale), on the pixels and, more boldly, on
    tiles of 2 to 32 pixels, which are interpolated: gathering scattered rain into one storm, or
    drying a whole region, is a short way for them and a long one, over barriers, for pixels alone.
    Of several starts the one of the least loss is kept.

    Args:
        loss: a `SurrogateLoss`, or what takes loss(prediction, target_curves=...); it decides the
            device.
        target_curves: (N, C, Q), the curves to reach, in the metric's units.
        shape: (H, W) of the fields.
        scale: typical distance of a value from the centre, in the fields' unit.
        lowest: least value of a pixel.
        centre: value that the noise varies about; default: the least one, as of rain.
        steps: number of gradient steps.
        starts: noise fields to start from, for each target.
        learning_rate: the first step's, in units of z, for the largest tiles; smaller ones take
            steps in proportion to their edge.
        seed: of the noise.
        anneal: called before each step with the share of them that is done, in [0, 1), and with 1 at
            the end; may change the loss, such as the temperature of its surrogate.
        progress: show a bar if it takes longer than a few seconds; see `Progress`.

    Returns:
        The fields that were found, and their losses.

    Raises:
        ArgumentError: an argument out of range, or a loss whose value or gradient is not finite on
            the way.
    """
    _check_targets(target_curves, shape)
    space = PixelSpace.about(lowest if centre is None else centre, as_positive("scale", scale), lowest=lowest)
    # Every start of a target stands beside the others.
    goals = target_curves.to(device_of(loss)).repeat_interleave(as_count("starts", starts), 0)
    noise = torch.from_numpy(waves(len(goals), shape, _ROUGHNESS, seed)).to(goals)
    pixels = _Pixels.of(noise, space)
    history = minimise(
        lambda: loss(pixels.fields(), target_curves=goals).sum(),
        pixels.grids,
        [learning_rate * tile / _TILES[0] for tile in _TILES],
        steps=steps,
        anneal=anneal,
        progress=progress,
    )
    return _best_starts(loss, pixels.fields().detach(), goals, starts, history)


def _check_targets(target_curves: Tensor, shape: tuple[int, int]) -> None:
    """Raise ArgumentError for what cannot be inverted."""
    if target_curves.ndim != 3 or len(target_curves) == 0 or min(shape) < 1:
        raise ArgumentError(
            f"target_curves must have shape (N, C, Q), N >= 1, and shape positive edges, "
            f"got {tuple(target_curves.shape)} and {shape}"
        )


class _Pixels(NamedTuple):
    """Fields as noise and what is added to it, in z, on tiles of each size.

    Attributes:
        noise: (N, H, W), where the fields start.
        grids: for each of `_TILES` the values of its tiles (N, 1, R, S), leaves that require a gradient.
        space: of z.
    """

    noise: Tensor
    grids: list[Tensor]
    space: PixelSpace

    @classmethod
    def of(cls, noise: Tensor, space: PixelSpace) -> _Pixels:
        """Noise (N, H, W) to which nothing has been added."""
        tilings = [[-(-size // tile) for size in noise.shape[1:]] for tile in _TILES]
        grids = [noise.new_zeros(len(noise), 1, *tiles).requires_grad_() for tiles in tilings]
        return cls(space.within(noise), grids, space)

    def fields(self) -> Tensor:
        """The fields (N, H, W), differentiable in the grids."""
        shape = (self.noise.shape[1], self.noise.shape[2])
        added = sum(refined(grid, tile, shape) for grid, tile in zip(self.grids, _TILES, strict=True))
        return self.space.leave(self.space.within(self.noise + added))


@torch.no_grad()
def _best_starts(
    loss: nn.Module, found: Tensor, goals: Tensor, starts: int, history: list[float]
) -> Inverted:
    """Of the fields (N * starts, H, W) that were found for N targets, the one of the least loss for each."""
    losses = torch.stack(
        [loss(x, target_curves=goal).sum() for x, goal in zip(found.split(1), goals.split(1), strict=True)]
    ).view(-1, starts)
    best = losses.argmin(1)
    each = torch.arange(len(best), device=best.device)
    return Inverted(found.unflatten(0, (-1, starts))[each, best], losses[each, best], history)


class Inversion(NamedTuple):
    """Fields found from noise for given curves.

    Attributes:
        targets: (N, H, W), fields that have the given curves.
        found: (N, H, W), the fields that were found.
        figures: JSON-able; "steps", "starts", "seed"; "targets": for each, by name, the "rmse"
            between the signed-log1p exact curves of what was found and the target's, over outputs
            and thresholds, and by output in "outputs"; None where it is not finite.
    """

    targets: NDArray[Any]
    found: NDArray[Any]
    figures: InversionFigures


def inversion(
    surrogate: Differentiable,
    metric: Metric,
    fields: NDArray[Any],
    *,
    steps: int = 600,
    starts: int = 2,
    seed: int = 0,
    values: Values | None = None,
    progress: Progress = False,
) -> Inversion:
    """Invert a surrogate for drawn storms and real fields, and judge the result exactly.

    The targets are the exact curves of a large storm, a small storm, no storm, and the given
    fields: all can be reached. A relaxed surrogate is annealed on the way, from a hot sigmoid to its
    own temperature, with which it is left: in noise, a cold one feels no edge of a storm. The paper
    reports an RMSE of 1.83, 3.44 and 8.41 for its own large storm, small storm and no storm (five
    outputs, arXiv 2604.11422).

    Args:
        surrogate: maps fields (N, H, W) to curves (N, C, Q), differentiable; it decides the device.
        metric: the exact metric.
        fields: (N, H, W), N >= 1, real fields; NaN counts as their least value.
        steps: see `invert`.
        starts: see `invert`.
        seed: of the noise.
        values: of the data set that the fields are from; default: theirs.
        progress: show a bar if it takes longer than a few seconds; see `Progress`.

    Returns:
        Targets, findings and figures.

    Raises:
        ArgumentError: see `invert`.
    """
    real = as_fields("fields", fields)
    values = (values or Values.of(real)).among(real)
    real = np.nan_to_num(real, nan=values.lowest)
    shape = (real.shape[1], real.shape[2])
    named = storms(metric, shape, values.lowest) | {f"field {k + 1}": field for k, field in enumerate(real)}
    targets = np.stack(list(named.values())).astype(real.dtype)
    exact = metric(targets)
    anneal = _annealing(surrogate)
    try:
        inverted = invert(
            SurrogateLoss(surrogate),
            torch.from_numpy(exact.astype(real.dtype)),
            shape,
            scale=values.scale or 1.0,
            lowest=values.lowest,
            centre=values.centre,
            steps=steps,
            starts=starts,
            seed=seed,
            anneal=anneal,
            progress=progress,
        )
    finally:
        anneal(1.0)
    found = inverted.fields.cpu().numpy()
    errors = dict(zip(named, _errors(metric, metric(found), exact), strict=True))
    figures: InversionFigures = {"steps": steps, "starts": starts, "seed": seed, "targets": errors}
    return Inversion(targets, found, figures)


def _errors(metric: Metric, found: NDArray[np.float64], exact: NDArray[np.float64]) -> list[InversionErrors]:
    """How far curves (N, C, Q) are from those to be reached, for each field."""
    squares = (_log(metric, found) - _log(metric, exact)) ** 2
    return [
        {
            "rmse": number(np.sqrt(errors.mean())),
            "outputs": {output: number(np.sqrt(errors[c].mean())) for c, output in enumerate(metric.outputs)},
        }
        for errors in squares
    ]


def _annealing(surrogate: Differentiable) -> Callable[[float], object]:
    """What lowers the temperature of a relaxed surrogate, by the share of the steps that are done."""
    relaxation = surrogate.relaxation
    own = None if relaxation is None else relaxation.temperature
    if relaxation is None or not isinstance(own, float) or own >= HOT:  # from 0.5, small storms get lost
        return lambda share: None

    def lower(share: float) -> None:
        relaxation.temperature = own if share == 1 else geometric(HOT, own, share)

    return lower


def storms(metric: Metric, shape: tuple[int, int], lowest: float = 0.0) -> dict[str, NDArray[np.float64]]:
    """Draw a large storm, a small one and none, each one smooth bump in the middle of a field.

    Args:
        metric: its highest threshold sets the intensities.
        shape: (H, W).
        lowest: value of the ground.

    Returns:
        {name: field (H, W)}; each bump is Gaussian and, where its name says so, passes every
        threshold.
    """
    rows, columns = np.indices(shape)
    distance = np.hypot(rows - (shape[0] - 1) / 2, columns - (shape[1] - 1) / 2)
    height = max(metric.thresholds[-1] - lowest, 0.0)
    return {
        name: lowest + peak * height * np.exp(-0.5 * (distance / (radius * min(shape))) ** 2)
        for name, (radius, peak) in _STORMS.items()
    }


def _log(metric: Metric, curves: NDArray[np.float64]) -> NDArray[np.float64]:
    return log_curves(torch.from_numpy(curves), metric.scales).numpy()
