"""Numba kernel: squared errors of the counts in all windows of a pair of fields, for all thresholds.

Window sums are separable: sums over the columns of a window move down row by row, and their sum
over the rows of a window moves along them. Each step carries all thresholds at once, so that a
pixel costs the same whatever the size of the window.
"""

from __future__ import annotations

import numpy as np

from ...foundation.compiled import compiled


@compiled
def _shift(columns, bins, step):
    """Let a row of pixels into the columns (a step above 0), or out of them (below)."""
    for j in range(len(bins)):
        for q in range(bins[j]):
            columns[j, q] += step


@compiled
def squared_errors(predicted, observed, radius, weights, levels):
    """Sums over the windows centred on the pixels of a field, the world outside it being dry.

    Args:
        predicted: (M, H, W), the number of thresholds that each pixel reaches, of M members.
        observed: (H, W), likewise.
        radius: windows have 2 radius + 1 pixels a side.
        weights: (H, W) weight of the window centred there.
        levels: how many thresholds there are, at least the highest number of them that is reached.

    Returns:
        Of p and o, the numbers of pixels of a window that reach a threshold, p that of all members together
        and o M times the observed one, the weighted sum of (p - o)^2, and that of p^2 + o^2, never less in
        spite of rounding; (levels,) each.
    """
    members, rows, width = predicted.shape
    radius = min(radius, max(rows, width))
    # Empty columns on both sides stand for the world outside. Counts are in floating point, exact below
    # 2^53, because their squares may exceed integers.
    p_columns = np.zeros((width + 2 * radius + 1, levels))
    o_columns = np.zeros((width + 2 * radius + 1, levels))
    inside = slice(radius + 1, radius + 1 + width)
    p, o = np.empty(levels), np.empty(levels)
    errors, references = np.zeros(levels), np.zeros(levels)
    for i in range(-radius, rows):
        if i + radius < rows:
            for member in range(members):
                _shift(p_columns[inside], predicted[member, i + radius], 1)
            _shift(o_columns[inside], observed[i + radius], members)
        if i < 0:
            continue
        if i > radius:
            for member in range(members):
                _shift(p_columns[inside], predicted[member, i - radius - 1], -1)
            _shift(o_columns[inside], observed[i - radius - 1], -members)
        p[:] = p_columns[: 2 * radius + 1].sum(axis=0)
        o[:] = o_columns[: 2 * radius + 1].sum(axis=0)
        for j in range(width):
            weight = weights[i, j]
            p_enters, p_leaves = p_columns[j + 2 * radius + 1], p_columns[j]
            o_enters, o_leaves = o_columns[j + 2 * radius + 1], o_columns[j]
            for q in range(levels):
                p[q] += p_enters[q] - p_leaves[q]
                o[q] += o_enters[q] - o_leaves[q]
                error = p[q] - o[q]
                errors[q] += weight * (error * error)
                references[q] += weight * (p[q] * p[q] + o[q] * o[q])
    return errors, references
