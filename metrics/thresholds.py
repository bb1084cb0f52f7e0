"""Thresholds: validation, and placing them at quantiles of a data set between its own steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError
from ..foundation.arguments import LARGEST, as_array, as_increasing, as_positive
from .declared import as_finite
from .distribution import dry_value, found_quantum, offset_of

WET_LEVELS = (0.01, *(round(0.05 * k, 2) for k in range(1, 20)), 0.99)
"""The 21 quantile levels, of wet pixels in rain, at which thresholds lie by default."""

_APART = 1 / 50
"""Least distance between thresholds, and to the outermost values, in distances between the quartiles, of data
that crowd at both ends of their range; of others it is less by the share of the range that these take."""

Values = NDArray[np.float64]


def quantile_thresholds(
    fields: np.ndarray,
    quantiles: Sequence[float] = WET_LEVELS,
    *,
    wet: float | None = None,
    quantum: float | None = None,
) -> tuple[float, ...]:
    """Thresholds at quantiles of the data, between its own steps.

    A threshold that equals a value the data can take makes `x >= u` hang on float rounding. Where the data
    is quantised, each quantile is therefore moved half a step down. Quantiles that fall on the same step are
    moved to the next free one, and none is moved out of the data's range, below which all pixels count and
    above which none does: thresholds are strictly increasing, and each parts the data.

    They do not know the unit: of a x + b (a > 0) they are a u + b.

    Args:
        fields: any shape, in physical units; what is NaN, infinite or masked is left out.
        quantiles: levels in (0, 1), strictly increasing.
        wet: pixels > wet count. By default all do, but for the dry ones of data that are partly nothing:
            those at the least value, if a tenth of all pixels have it and none but the greatest is more
            frequent (see `emuloss.metrics.dry_value`).
        quantum: step of the data's values; by default it is found in them, if they have one (see
            `emuloss.metrics.found_quantum`).

    Returns:
        One threshold a level, strictly increasing.

    Raises:
        ArgumentError: levels out of order or range, no pixel that counts, or a single value.
    """
    levels = np.array(_inner_levels(quantiles))
    wet = as_finite("wet", wet)
    quantum = None if quantum is None else as_positive("quantum", quantum, 1 / LARGEST)
    measured = as_array("fields", fields).reshape(-1)
    measured = measured[np.isfinite(measured)]
    if not measured.size:
        raise ArgumentError("fields hold no value that was measured: no quantile can be taken")
    floor = dry_value(measured) if wet is None else wet
    counts = np.ones(measured.shape, bool) if floor is None else measured > floor
    if not counts.any():
        raise ArgumentError(f"fields hold no value above wet (={wet:g}): no quantile can be taken; lower wet")
    values = measured.astype(np.float64)
    counted = values[counts]
    lower = _lower_bound(values[~counts], counted, floor)
    if lower >= counted.max():
        raise ArgumentError(
            f"fields have too few distinct values to place thresholds between, {lower:g} alone; "
            "give thresholds"
        )
    quantum = found_quantum(measured) if quantum is None else quantum
    placed = None if quantum is None else _between_steps(counted, levels, lower, quantum)
    # A step that was given may be none of these data's.
    if placed is None or placed[-1] > counted.max() or (np.diff(placed) <= 0).any():
        placed = _between_values(counted, levels, lower)
    return tuple(placed.tolist())


def _inner_levels(quantiles: Sequence[float]) -> tuple[float, ...]:
    """Validate the levels of quantiles."""
    levels = as_increasing("quantiles", quantiles)
    if levels[0] <= 0 or levels[-1] >= 1:
        raise ArgumentError(f"quantiles must lie strictly between 0 and 1, got {list(levels)}")
    return levels


def _lower_bound(others: Values, counted: Values, floor: float | None) -> float:
    """What every threshold exceeds: the greatest value that does not count, or else the least one.

    Where a floor was given, and no value lies there, they may lie between it and the least value.
    """
    if others.size:
        return float(others.max())
    return float(counted.min()) if floor is None else floor


def _quantiles(counted: Values, levels: Values, lower: float, method: Any) -> tuple[Values, float]:
    """Quantiles, and how far apart thresholds are to be at least.

    Where the greatest value holds several quantiles (full cover, the inside of a mask), it does not count.
    """
    top = counted.max()
    if np.quantile(counted, levels[-2:]).min() == top:
        counted = counted[counted < top]
    if not counted.size:
        return lower + levels * (top - lower), 0.0
    return np.quantile(counted, levels, method=method), _apart(counted)


def _apart(values: Values) -> float:
    """How far apart thresholds are to be at least."""
    low, high = np.quantile(values, (0.25, 0.75))
    return _APART * float(high - low) ** 2 / float(np.ptp(values)) if high > low else 0.0


def _between_steps(counted: Values, levels: Values, lower: float, quantum: float) -> Values:
    """Thresholds half a step below quantiles, at steps of their own as far as there are enough."""
    offset = offset_of(counted, quantum)
    first = int(np.floor((lower - offset) / quantum + 1e-3)) + 1
    last = int(np.rint((counted.max() - offset) / quantum))
    free, asked = last - first + 1, len(levels)
    found, apart = _quantiles(counted, levels, lower, "inverted_cdf")
    steps = np.rint((found - offset) / quantum)
    if free >= asked:
        by = max(1, min(int(apart / quantum), free // (asked + 1)))
        halves = _spaced(steps, first + by - 1, last - by + 1, by) - 0.5
    else:  # some gaps between steps hold several
        gaps = np.arange(asked) * free // asked
        halves = first - 1 + gaps + _shares(gaps)
    # Short decimals, as far as double precision tells.
    return np.array([float(f"{u:.15g}") for u in halves * quantum + offset])


def _between_values(counted: Values, levels: Values, lower: float) -> Values:
    """Thresholds at quantiles; in gaps between values, where one lies on a value that is taken repeatedly."""
    distinct, repeats = np.unique(np.append(counted, lower), return_counts=True)
    found, apart = _quantiles(counted, levels, lower, "linear")
    apart = apart or _apart(distinct)
    found = _spaced(found, lower + apart, distinct[-1] - apart, apart)
    if not np.isin(found, distinct[repeats > 1]).any():
        return found
    gaps = np.searchsorted(distinct, found)
    return distinct[gaps - 1] + _shares(gaps) * (distinct[gaps] - distinct[gaps - 1])


def _spaced(found: Values, first: float, last: float, apart: float) -> Values:
    """Numbers at least so far apart, from first to last: raised where too near, lowered where too high."""
    ranks = apart * np.arange(len(found))
    raised = np.maximum.accumulate(np.maximum(found, first) - ranks) + ranks
    return np.minimum(raised, last - ranks[::-1])


def _shares(gaps: NDArray[np.intp]) -> Values:
    """Where thresholds lie in their gaps, in (0, 1), given the gap of each in order: evenly in each gap."""
    place = np.arange(len(gaps)) - np.searchsorted(gaps, gaps) + 1
    return place / (np.bincount(gaps)[gaps] + 1)
