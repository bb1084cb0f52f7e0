"""Numba kernels: shapes of the connected objects of all excursion sets.

Each object is found by a flood fill, which takes its second moments and its leftmost and rightmost pixel in
each row. Pixels are taken in units of half a pixel, so that the middles of their edges are whole numbers and
the convex hull is exact.
"""

from __future__ import annotations

import numpy as np

from ...foundation.compiled import compiled
from ...foundation.threads import in_threads
from .clusters import steps_to_neighbours
from .digitise import digitise

COUNT, ECCENTRICITY, SOLIDITY = range(3)
"""Rows of the sums: number of objects, and sums of their eccentricities and solidities."""


@compiled
def _eccentricity(pixels, y, x, yy, xy, xx):
    """Eccentricity of the ellipse with these moments: sums over pixels of the coordinates and products."""
    # Each is the variance or covariance times pixels squared.
    a, b, c = pixels * yy - y * y, pixels * xy - x * y, pixels * xx - x * x
    if a + c == 0:
        return 0.0
    # 1 - smaller/larger eigenvalue, without the cancellation.
    difference = np.sqrt((a - c) ** 2 + 4 * b * b)
    return np.sqrt(2 * difference / (a + c + difference))


@compiled
def _chain(rows, ends, sign, chain_y, chain_x):
    """Write the convex chain through the middles of the edges of the pixels that end each row on one side.

    Args:
        rows: number of rows.
        ends: column of the pixel that ends each row.
        sign: 1 for the right side, -1 for the left one.
        chain_y: room for the vertices' rows, downwards, in half pixels.
        chain_x: room for their columns.

    Returns:
        The number of vertices.
    """
    length = 0
    for y in range(-1, 2 * rows):
        # The middle of an outer edge, or of the lower or upper edge of a pixel, whichever reaches further.
        if y % 2 == 0:
            x = 2 * ends[y // 2] + sign
        else:
            above, below = ends[max(y // 2, 0)], ends[min(y // 2 + 1, rows - 1)]
            x = 2 * (max(above, below) if sign > 0 else min(above, below))
        while length >= 2:
            dy, dx = chain_y[length - 1] - chain_y[length - 2], chain_x[length - 1] - chain_x[length - 2]
            turn = dy * (x - chain_x[length - 2]) - dx * (y - chain_y[length - 2])
            if sign * turn < 0:
                break
            length -= 1
        chain_y[length], chain_x[length] = y, x
        length += 1
    return length


@compiled
def _hull_pixels(rows, left, right, chain_y, chain_x):
    """Number of pixels whose centre lies in the convex hull of an object, its border included.

    Args:
        rows: number of rows of the object.
        left: column of its leftmost pixel in each row.
        right: column of its rightmost pixel in each row.
        chain_y: work space of 2 rows + 1 numbers.
        chain_x: likewise.
    """
    total = rows
    for sign, ends in ((1, right), (-1, left)):
        length = _chain(rows, ends, sign, chain_y, chain_x)
        vertex = 0
        for row in range(rows):
            y = 2 * row
            while vertex < length - 2 and chain_y[vertex + 1] <= y:
                vertex += 1
            dy, dx = chain_y[vertex + 1] - chain_y[vertex], chain_x[vertex + 1] - chain_x[vertex]
            # Columns are floored on the right, and on the left by way of their negatives.
            total += (sign * (chain_x[vertex] * dy + dx * (y - chain_y[vertex]))) // (2 * dy)
    return total


@compiled
def _measure(bins, levels, steps, least, result):
    """Write the sums over the objects of one padded field."""
    rows, columns = bins.shape
    flat = bins.ravel()
    seen = np.zeros(bins.size, bins.dtype)
    stack = np.empty(bins.size, np.uint64)
    left, right = np.empty(rows, np.int64), np.empty(rows, np.int64)
    chain_y, chain_x = np.empty(2 * rows, np.int64), np.empty(2 * rows, np.int64)
    result[:] = 0
    for level in range(1, levels + 1):
        for start in range(bins.size):
            if flat[start] < level or seen[start] == level:
                continue
            # Raster order finds the top row first; coordinates count from there, so that sums stay small.
            top, origin = start // columns, start % columns
            bottom = top - 1
            pixels, y_sum, x_sum, yy_sum, xy_sum, xx_sum = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
            seen[start] = level
            stack[0], height = start, 1
            while height:
                height -= 1
                node = stack[height]
                i, j = np.int64(node) // columns, np.int64(node) % columns
                while bottom < i:
                    bottom += 1
                    left[bottom], right[bottom] = columns, 0
                left[i], right[i] = min(left[i], j), max(right[i], j)
                y, x = float(i - top), float(j - origin)
                pixels += 1
                y_sum += y
                x_sum += x
                yy_sum += y * y
                xy_sum += x * y
                xx_sum += x * x
                for step in steps:
                    near = node + step
                    if flat[near] >= level and seen[near] != level:
                        seen[near] = level
                        stack[height] = near
                        height += 1
            if pixels < least:
                continue
            inside = slice(top, bottom + 1)
            hull = _hull_pixels(bottom + 1 - top, left[inside], right[inside], chain_y, chain_x)
            result[COUNT, level - 1] += 1
            result[ECCENTRICITY, level - 1] += _eccentricity(pixels, y_sum, x_sum, yy_sum, xy_sum, xx_sum)
            result[SOLIDITY, level - 1] += pixels / hull


@compiled
def _measure_all(bins, levels, steps, least, result):
    for n in range(len(bins)):
        _measure(bins[n], levels, steps, least, result[n])


def object_sums(
    fields: np.ndarray, thresholds: tuple[float, ...], diagonal: bool, min_area: int
) -> np.ndarray:
    """Sums over the objects of every excursion set.

    Args:
        fields: (N, H, W), any real type, H, W >= 1.
        thresholds: Q of them, strictly increasing.
        diagonal: whether objects connect along diagonals too.
        min_area: least number of pixels of an object.

    Returns:
        (N, 3, Q) float64: number, eccentricities, solidities.
    """
    bins = digitise(fields, thresholds)
    levels = len(thresholds)
    steps = steps_to_neighbours(bins.shape[2], diagonal)
    result = np.empty((len(bins), 3, levels))

    def measure(batch: slice) -> None:
        _measure_all(bins[batch], levels, steps, min_area, result[batch])

    in_threads(measure, len(bins), bins.size)
    return result
