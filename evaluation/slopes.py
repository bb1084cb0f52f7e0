"""The largest slope of a surrogate that a search finds: a lower bound of its Lipschitz constant."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..emulators.curves import log_curves
from ..emulators.differentiable import Differentiable, device_of
from ..emulators.spaces import PixelSpace, Values, as_fields
from ..emulators.spoilt import blurred
from ..errors import ArgumentError
from ..foundation.arguments import as_natural
from ..metrics import Metric
from .bars import Progress, counted

_FADES = (1.0, 0.3, 0.1)
"""Factors of the fields to start from: curves on a log scale are steepest where little is wet."""
_NEAR = 1e-2
"""Distance between the fields of a near pair, in units of a typical pixel."""
_LEAST = 1e-3
"""Least distance, likewise: below, rounding of the curves could pass for a slope."""
_RATE = 0.05
"""First learning rate of a pair's place, in units of z, see `PixelSpace`."""


def largest_slope(
    surrogate: Differentiable,
    fields: NDArray[Any],
    *,
    steps: int = 100,
    seed: int = 0,
    values: Values | None = None,
    progress: Progress = False,
) -> float:
    """Search for the largest slope ||F(y) - F(x)|| / ||y - x|| of a surrogate, in 2-norms.

    F maps a field to its signed-log1p curves (in units of `Metric.scales`), all C x Q of them. Whatever
    the search finds is a true slope, hence a lower bound of the Lipschitz constant of F, to be held
    against an upper one.

    Pairs start as a field, whole or faded, and itself with a little noise, and as a field and its
    blur. Each step turns the difference y - x into the direction in which the curves' difference
    grows fastest (a power iteration), and moves the place of the pair uphill by Adam. No pixel goes
    below the least value of the fields. A copy of the surrogate computes in double precision.

    Args:
        surrogate: maps fields (N, H, W) to curves (N, C, Q), differentiable; it decides the device,
            and is left as it was.
        fields: (N, H, W), N >= 1, where to start; NaN counts as their least value. Each field gives
            four pairs. For a pairwise metric (N, 2, H, W): prediction and observation both change.
        steps: steps of the search; 0 gives the largest slope of the first pairs.
        seed: of the noise.
        values: of the data set that the fields are from; default: theirs.
        progress: show a bar if it takes longer than a few seconds; see `Progress`.

    Returns:
        The largest slope met, per field unit.

    Raises:
        ArgumentError: an argument out of range, or a surrogate whose curves or gradient are not
            finite.
    """
    given = as_fields("fields", _tall(surrogate.metric, fields))
    as_natural("steps", steps)
    found = (values or Values.of(given)).among(given)
    lowest = found.lowest
    x = torch.from_numpy(given).double().nan_to_num(nan=lowest)
    space = PixelSpace.of(found, lowest=lowest)
    # A copy, for double precision must not reach the caller's surrogate.
    precise = copy.deepcopy(surrogate).double().eval()
    logs = _log_curves_of_tall(precise)
    first, second = (part.to(device_of(precise)) for part in _pairs(x, space, lowest, seed))
    length = _norms(second - first)
    z = space.enter(first)
    optimizer = torch.optim.Adam([z], lr=_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    largest = 0.0
    for step in counted(range(steps + 1), "slopes", "step", progress):
        rise, *uphill = _rise(logs, first, second)
        largest = max(largest, float((rise / _norms(second - first)).max()))
        if step == steps:
            break
        # Uphill for both fields of a pair together.
        z.grad = -(uphill[0] + uphill[1]) * space.slope(first)
        optimizer.step()
        schedule.step()
        z.copy_(space.within(z))
        first = space.leave(z)
        second = _apart(first, uphill[1] - uphill[0], length, lowest, _LEAST * space.scale)
    return largest


def _tall(metric: Metric, fields: NDArray[Any]) -> NDArray[Any]:
    """What the metric takes as one field each: of pairs (N, 2 H, W), the prediction above the observation."""
    batch = np.asarray(fields)
    if metric.arity == 2 and (batch.ndim != 4 or batch.shape[1] != 2):
        raise ArgumentError(f"fields must be pairs (N, 2, H, W), got {batch.shape}")
    return np.concatenate(metric.parts(batch), axis=1)


def _log_curves_of_tall(surrogate: Differentiable) -> Callable[[Tensor], Tensor]:
    """What gives the signed-log curves (N, C, Q) of fields, or of pairs that stand above one another."""
    metric = surrogate.metric

    def logs(tall: Tensor) -> Tensor:
        batch = tall if metric.arity == 1 else torch.stack(tall.chunk(2, dim=1), dim=1)
        return log_curves(surrogate(batch).double(), metric.scales)

    return logs


def _pairs(x: Tensor, space: PixelSpace, lowest: float, seed: int) -> tuple[Tensor, Tensor]:
    """The pairs to start from, (P, H, W) each."""
    noise = torch.from_numpy(np.random.default_rng(seed).standard_normal((len(_FADES), *x.shape)))
    near = [lowest + fade * (x - lowest) for fade in _FADES]
    length = torch.full((len(x), 1, 1), _NEAR * space.scale, dtype=x.dtype)
    beside = [_apart(y, part, length, lowest, 0.0) for y, part in zip(near, noise, strict=True)]
    soft = torch.from_numpy(blurred(x.numpy())).to(x)
    # A field that is its own blur makes no pair.
    rough = (_norms(soft - x) > _NEAR * space.scale).flatten()
    return torch.cat([*near, x[rough]]), torch.cat([*beside, soft[rough]])


def _apart(first: Tensor, direction: Tensor, length: Tensor, lowest: float, least: float) -> Tensor:
    """Fields (P, H, W) away from the first ones by `length` along some directions, clamped to the range."""
    size = _norms(direction)
    unit = torch.where(size > 0, direction / size, 1 / math.sqrt(first[0].numel()))
    second = (first + length * unit).clamp(min=lowest)
    # Where the range leaves nothing of the way down, go up.
    stuck = _norms(second - first) < torch.clamp(length / 2, min=least)
    return torch.where(stuck, first + length * unit.abs(), second)


def _rise(logs: Callable[[Tensor], Tensor], first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """||F(y) - F(x)|| (P, 1, 1) of pairs, and its gradients (P, H, W) with respect to x and y."""
    x, y = (part.detach().requires_grad_() for part in (first, second))
    low, high = logs(torch.cat([x, y])).flatten(1).chunk(2)
    rise = torch.linalg.vector_norm(high - low, dim=1)
    gradients = torch.autograd.grad(rise.sum(), (x, y))
    if not all(torch.isfinite(part).all() for part in (rise, *gradients)):
        raise ArgumentError("surrogate must have finite curves and a finite gradient, but they are not")
    return rise.detach().view(-1, 1, 1), *gradients


def _norms(fields: Tensor) -> Tensor:
    """2-norms (P, 1, 1) of fields (P, H, W)."""
    return torch.linalg.vector_norm(fields, dim=(1, 2), keepdim=True)
