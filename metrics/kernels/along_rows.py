"""Numba kernel: what excursion sets are row by row, where rows and columns differ."""

from __future__ import annotations

import numpy as np

from ...foundation.compiled import compiled
from ...foundation.threads import in_threads
from .digitise import digitise
from .rows import ROW_DEGREE, ROW_PAIRS, ROWS, WEIGHTED, WITH_ROWS

_PAIRS, _DEGREE, _WEIGHTED = ROW_PAIRS - ROWS, ROW_DEGREE - ROWS, WEIGHTED - ROWS


@compiled
def _count(bins, weights, wraps, result):
    """Write the counts of padded fields."""
    columns = bins.shape[2] - 2
    for n in range(len(bins)):
        histogram = np.zeros((result.shape[2] + 1, result.shape[1]))
        for i in range(len(weights)):
            row = bins[n, i + 1]
            for j in range(1, columns + 1):
                here = row[j]
                if here:
                    beyond = row[1] if wraps and j == columns else row[j + 1]
                    histogram[here, _WEIGHTED] += weights[i]
                    histogram[here, _DEGREE] += (j > 1) + (j < columns)
                    histogram[min(here, beyond), _PAIRS] += 1
        for k in range(result.shape[1]):
            total = 0.0
            for level in range(result.shape[2], 0, -1):
                total += histogram[level, k]
                result[n, k, level - 1] = total


def row_counts(
    fields: np.ndarray, thresholds: tuple[float, ...], weights: np.ndarray, wraps: bool
) -> np.ndarray:
    """Counts of every excursion set of every field that tell rows from columns, or from one another.

    Args:
        fields: (N, H, W), any real type; compared in double precision.
        thresholds: Q of them, strictly increasing.
        weights: (H,), float64, of the pixels of each row.
        wraps: whether the first and the last column adjoin.

    Returns:
        (N, WITH_ROWS - ROWS, Q) float64: the rows of counts from ROWS on.
    """
    bins = digitise(fields, thresholds)
    result = np.empty((len(bins), WITH_ROWS - ROWS, len(thresholds)))

    def count(batch: slice) -> None:
        _count(bins[batch], weights, wraps, result[batch])

    in_threads(count, len(bins), bins.size)
    return result
