"""What the values of a data set have in common: the step between them, and the value of its dry pixels.

Both are found in the values alone, and move with them: of a x + b (a > 0) they are a times the step, and a
times the dry value plus b.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..foundation.arguments import LARGEST, filled

_SAMPLED = 2**18
"""Values that are looked at, spread over all of them."""
_ROUNDING = 2.0**-23
"""Rounding of a difference of two float32 values, as a share of the largest value."""
_RESOLVED = 20
"""A step is told from rounding where it is so many times as large."""
_ATOM = 0.1
"""Least share of the pixels at the dry value: many are where nothing is, and few at any other value."""


def found_quantum(values: object, fewest: int = 2) -> float | None:
    """The step between the values of quantised data, such as grey levels or rates in 0.1 mm/h.

    It is the greatest common divisor of the distances between values, up to the rounding of float32. Values
    that are as good as continuous have none.

    Args:
        values: any shape; what is not finite is left out.
        fewest: distinct values that say something of others, too: of part of a data set 2 do not.

    Returns:
        The step, a short decimal or a fraction of 1 where that is the same; None where the values have none.
    """
    distinct = np.unique(sampled(values))
    if len(distinct) < max(fewest, 2):
        return None
    # Values far from 0 are rounded more coarsely where they are, or were, in single precision.
    sizes = np.ptp(distinct), np.abs(distinct).max()
    step = next(filter(None, (_common_divisor(np.diff(distinct), _ROUNDING * size) for size in sizes)), None)
    # Of a few values any are multiples of some small step.
    if step is None or step < 1 / LARGEST or distinct[-1] - distinct[0] > step * len(distinct) ** 2:
        return None
    from_first = distinct - distinct[0]
    return _simplest(_shortened(step), lambda each: _misfit(from_first, each))


def dry_value(values: object) -> float | None:
    """The value of the pixels where there is nothing, such as 0 mm/h or the floor of dBZ.

    Data that are partly nothing take their least value in many pixels, and no other in more, but for the
    greatest one, of full cover.

    Args:
        values: any shape; what is not finite is left out.

    Returns:
        Their least value, if a tenth of them have it and none but the greatest is more frequent; else None.
    """
    distinct, counts = np.unique(sampled(values), return_counts=True)
    if len(distinct) < 2 or counts[0] < max(2, _ATOM * counts.sum(), counts[:-1].max()):
        return None
    return float(distinct[0])


def ground_of(values: object) -> float:
    """The value that intensities are counted from: the dry one, or the median where there is none.

    Args:
        values: any shape; what is not finite is left out.

    Returns:
        A value that is taken; 0 where nothing was measured.
    """
    known = sampled(values)
    if not known.size:
        return 0.0
    dry = dry_value(known)
    return float(np.quantile(known, 0.5, method="inverted_cdf")) if dry is None else dry


def sampled(values: object) -> NDArray[np.float64]:
    """Some of the finite values, in double precision, spread over all of them."""
    flat = filled(values).reshape(-1)
    spread = flat[:: len(flat) // _SAMPLED | 1].astype(np.float64)
    return spread[np.isfinite(spread)]


def _common_divisor(gaps: NDArray[np.float64], noise: float) -> float | None:
    """The greatest number that all distances between neighbouring values are multiples of, up to noise.

    Euclid's algorithm. A distance of many steps tells nothing while the step is known too roughly to count
    them; that knowledge grows with the number of steps counted already.
    """
    gaps = gaps[gaps > noise]
    step, error = float(gaps.min(initial=np.inf)), noise
    while _RESOLVED * noise <= step < np.inf:
        steps = np.rint(gaps / step)
        slack = noise + error * steps
        known = slack < step / 4
        rest = np.abs(gaps - steps * step)
        off = known & (rest > 2 * slack)
        if not known.any():
            return None
        if off.any():
            step, error = float(rest[off].min()), 2 * noise
            continue
        counted = float(steps[known].sum())
        finer = noise * (1 + np.count_nonzero(~known)) / counted
        step = float(gaps[known].sum()) / counted
        if finer >= error:
            return step
        error = finer
    return None


def _shortened(step: float) -> tuple[float, ...]:
    """What a step may have been meant to be, the simplest first; itself at the end."""
    parts = round(1 / step)
    fractions = (1 / parts,) if parts else ()
    return (float(f"{step:.3g}"), *fractions, float(f"{step:.6g}"), step)


def offset_of(values: NDArray[np.float64], quantum: float) -> float:
    """How far values are from multiples of their step, on average over the circle; 0 where they fit them."""
    turns = np.exp(2j * math.pi * (values / quantum % 1)).mean()
    found = float(np.angle(turns)) / (2 * math.pi) * quantum if abs(turns) > 0.9 else 0.0
    return _simplest((0.0, found), lambda each: _misfit(values - each, quantum))


def _misfit(values: NDArray[np.float64], step: float) -> float:
    """How far values are from multiples of a step, at most."""
    return float(np.abs(values - np.rint(values / step) * step).max())


def _simplest(numbers: Sequence[float], misfit: Callable[[float], float]) -> float:
    """The first of some numbers that fits as well as the last, up to the rounding that this one leaves."""
    rounding = 2 * misfit(numbers[-1]) + 1e-15
    return next(number for number in numbers if number == numbers[-1] or misfit(number) <= rounding)
