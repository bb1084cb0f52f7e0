"""Spreads: how far the data lie from each threshold, which is what temperatures are relative to.

A soft step must not know the unit of a field or its origin: where fields and thresholds become a x + b,
spreads become a times as large, and curves of soft steps stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import ArgumentError
from ..foundation.arguments import LARGEST, as_real, shown

_HALF = 0.25
"""Share of the pixels on either side of a threshold, so that half of them lie within the spread."""
_SAMPLE = 2**20
"""Pixels that are enough for a median."""
_LARGEST = 1e38
_NARROWEST = 1e-22
"""Single precision has no squares of what lies below."""
_LEAST = 1e-18
"""Spreads below are as good as none: gradients are in proportion to 1 / spread, their squares overflow."""
_MISSING = -1e29
"""What lies below was not measured, see `fields.as_batch`."""


def spreads_in(fields: np.ndarray, thresholds: Sequence[float]) -> tuple[float, ...]:
    """Distances from each threshold within which half of the pixels lie: medians of |x - u|.

    Of rain, most of it dry, this is the threshold itself. Where half of the pixels equal a threshold, the
    mean takes the median's place.

    Args:
        fields: any shape, in physical units; what is not finite is left out.
        thresholds: Q values.

    Raises:
        ArgumentError: no finite value, or all of them equal to a threshold.
    """
    values = np.asarray(fields).ravel()
    # An odd step meets every column of fields, whose sides are mostly even.
    values = values[:: max(1, len(values) // _SAMPLE) | 1].astype(np.float64)
    values = values[np.isfinite(values)]
    found = []
    for u in thresholds:
        away = np.abs(values - u)
        found.append((float(np.median(away)) or float(away.mean())) if len(away) else 0.0)
    if not all(found):
        raise ArgumentError(
            f"fields say nothing about the data around thresholds {list(thresholds)}: "
            "they need finite values that differ from these"
        )
    return tuple(found)


def lesser_spreads(
    fields: np.ndarray, thresholds: Sequence[float], levels: Sequence[float] = ()
) -> tuple[float, ...]:
    """Spreads for relaxations: those in the data, at most as large as several thresholds tell them.

    A value that most pixels have, such as -32 dBZ where it is dry, may lie further away than all that
    matters.

    Args:
        fields: see `spreads_in`.
        thresholds: Q values, strictly increasing.
        levels: the quantile levels that they lie at, see `spreads_between`.

    Raises:
        ArgumentError: see `spreads_in`.
    """
    found = spreads_in(fields, thresholds)
    return tuple(map(min, found, spreads_between(thresholds, levels))) if len(found) > 1 else found


def spreads_between(thresholds: Sequence[float], levels: Sequence[float]) -> tuple[float, ...]:
    """What thresholds tell of the spreads of data at whose quantiles they lie, by their distances alone.

    The distance to the quantiles a quarter of the data below and above, whichever is less. Between thresholds
    quantiles are interpolated, beyond the outermost continued: as steeply, or, where steps get smaller
    towards that end, less steeply by their ratio.

    Args:
        thresholds: Q >= 2 values, strictly increasing.
        levels: the quantile levels that they lie at, strictly increasing; what cannot be such is taken for
            evenly spaced ones.
    """
    u, p = np.asarray(thresholds, np.float64), np.asarray(levels, np.float64)
    if len(p) != len(u) or not 0 <= p[0] < p[-1] <= 1:
        p = (np.arange(len(u)) + 0.5) / len(u)
    slopes = np.diff(u) / np.diff(p)
    below, above = _continued(slopes), _continued(slopes[::-1])
    low, high = u[0] - _HALF * below, u[-1] + _HALF * above
    values, at = np.array([low, *u, high]), np.array([p[0] - _HALF, *p, p[-1] + _HALF])
    down, up = u - np.interp(p - _HALF, at, values), np.interp(p + _HALF, at, values) - u
    return tuple(np.minimum(down, up).tolist())


def _continued(slopes: np.ndarray) -> float:
    """Slope before the first of some slopes."""
    first = float(slopes[0])
    return first * min(1.0, first / float(slopes[1])) if len(slopes) > 1 else first


def spreads_at(
    thresholds: Sequence[float], known: Sequence[float], spreads: Sequence[float]
) -> tuple[float, ...] | None:
    """Spreads at other thresholds of the same data, interpolated from known ones.

    None where the lowest of them lies out of these data's reach: they are then taken for those of another
    field or unit. Where the ranges of two units overlap this cannot be told.
    """
    u, at, widths = (np.asarray(values, np.float64) for values in (thresholds, known, spreads))
    if not at[0] - widths[0] < u[0] < at[-1] + widths[-1]:
        return None
    found = np.interp(u, at, widths)
    if len(at) > 1:
        slope = max((widths[-1] - widths[-2]) / (at[-1] - at[-2]), 0.0)
        found += slope * np.clip(u - at[-1], 0, None)
    return tuple(found.tolist())


def spreads_of_version_1(thresholds: Sequence[float]) -> list[float]:
    """What version 0.1.0 took for spreads: |u|, or the range of the thresholds where that is less.

    A threshold of 0 took the smallest of the others.
    """
    reach = thresholds[-1] - thresholds[0] if len(thresholds) > 1 else math.inf
    sizes = [min(abs(u), reach) for u in thresholds]
    least = min((size for size in sizes if size), default=1.0)
    return [size or least for size in sizes]


def checked_spreads(
    spreads: Sequence[float] | None, thresholds: Sequence[float], levels: Sequence[float] = ()
) -> tuple[float, ...] | None:
    """Spreads as they are given, or as thresholds tell them; None for a lone threshold, which tells nothing.

    Raises:
        ArgumentError: not one positive number for each threshold, or thresholds beyond single precision.
    """
    if beyond := [u for u in thresholds if abs(u) > _LARGEST]:
        raise ArgumentError(
            f"thresholds must lie from {-_LARGEST:g} to {_LARGEST:g}, as single precision has them, got "
            f"{beyond[0]:g}; take another unit"
        )
    if spreads is None:
        told = spreads_between(thresholds, levels) if len(thresholds) > 1 else None
        if told is not None and min(told) < _NARROWEST:
            raise ArgumentError(
                f"thresholds from {thresholds[0]:g} to {thresholds[-1]:g} lie too close for single "
                "precision; take another unit"
            )
        return told
    try:
        found = tuple(as_real(value) for value in spreads)
    except TypeError:
        found = ()
    if len(found) != len(thresholds) or not all(_NARROWEST <= value <= LARGEST for value in found):
        raise ArgumentError(
            f"spreads must be one positive number for each of {len(thresholds)} thresholds, "
            f"got {shown(spreads)}"
        )
    return found


def in_own_spread(batch: Tensor, threshold: float | Tensor) -> Tensor:
    """Each field as (x - u) / its own spread around a threshold u, both of which gradients hold constant.

    A lone threshold tells nothing of the data, so that each field, or pair of fields, tells for itself.

    Args:
        batch: fields (N, H, W), or pairs (N, 2, H, W); what was not measured is -1e30, and stays so.
        threshold: u, or one for each of N, (N,), finite.
    """
    ones = [1] * (batch.ndim - 1)
    u = threshold.view(-1, *ones) if isinstance(threshold, Tensor) else threshold
    missing = batch.detach().flatten(1) < _MISSING
    away = (batch.detach() - u).abs().flatten(1).masked_fill(missing, math.inf).sort(1).values
    count = (~missing).sum(1, keepdim=True)
    middle = away.gather(1, ((count - 1) // 2).clamp(min=0))
    mean = away.masked_fill(~away.isfinite(), 0).sum(1, keepdim=True) / count.clamp(min=1)
    spread = torch.where((middle > 0) & middle.isfinite(), middle, mean)
    spread = torch.where((spread > _LEAST) & spread.isfinite(), spread, 1.0)
    return ((batch - u) / spread.view(-1, *ones)).where(batch >= _MISSING, batch).clamp(-1e30, 1e30)
