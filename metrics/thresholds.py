"""Thresholds: validation, and placing them at quantiles of a data set between its own steps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..errors import ArgumentError
from ..foundation.arguments import as_increasing

WET_LEVELS = (0.01, *(round(0.05 * k, 2) for k in range(1, 20)), 0.99)
"""The 21 quantile levels of the wet pixels that the showcase uses."""


def quantile_thresholds(
    fields: np.ndarray,
    quantiles: Sequence[float] = WET_LEVELS,
    *,
    wet: float = 0.0,
    quantum: float | None = None,
) -> tuple[float, ...]:
    """Thresholds at quantiles of the wet pixels, between the data's own steps.

    A threshold that equals a value the data can take makes `x >= u` hang on float rounding. Where
    the data is quantised, each quantile is therefore moved half a step down. Quantiles that fall
    on the same step are moved to the next free one, so that thresholds stay strictly increasing.

    Args:
        fields: any shape, in physical units; NaN is left out.
        quantiles: levels in (0, 1), strictly increasing.
        wet: pixels > wet count.
        quantum: step of the data's values, or None where they are continuous.

    Returns:
        One threshold a level, strictly increasing.

    Raises:
        ArgumentError: levels out of order or range, no wet pixel, or too few distinct values.
    """
    levels = as_increasing("quantiles", quantiles)
    if levels[0] <= 0 or levels[-1] >= 1:
        raise ArgumentError(f"quantiles must lie strictly between 0 and 1, got {list(levels)}")
    if quantum is not None and not (math.isfinite(quantum) and quantum > 0):
        raise ArgumentError(f"quantum must be a positive step or None, got {quantum!r}")
    fields = np.asarray(fields)
    values = fields[fields > wet].astype(np.float64)
    if values.size == 0:
        raise ArgumentError(f"fields hold no value above wet (={wet:g}): no quantile can be taken")
    if quantum is None:
        found = np.quantile(values, levels)
        if (np.diff(found) <= 0).any():
            raise ArgumentError(
                f"fields have too few distinct values for {len(levels)} quantiles; give thresholds"
            )
        return tuple(found.tolist())
    steps: np.ndarray = np.round(np.quantile(values, levels, method="inverted_cdf") / quantum)
    for q in range(1, len(steps)):
        steps[q] = max(steps[q], steps[q - 1] + 1)
    return tuple(float(f"{(step - 0.5) * quantum:.9g}") for step in steps)
