"""Numba kernels of soft histograms."""

from __future__ import annotations

import numba
import numpy as np

from ...foundation.compiled import compiled
from ...metrics.kernels.rows import (
    AXIAL,
    AXIAL_DEGREE,
    BLOCKS,
    COMPONENTS,
    DIAGONAL,
    DIAGONAL_DEGREE,
    LOCAL_ROWS,
    PIXELS,
)

F32 = np.float32


@compiled
def place_kernel(fields, axis, top, result):
    """Write the place of each value of flat fields on the axis of nodes."""
    kind = fields.dtype.type
    center, scale, origin, step, top = kind(axis[0]), kind(axis[1]), kind(axis[2]), kind(axis[3]), kind(top)
    lowest = scale * np.sinh(origin)
    for k in range(len(fields)):
        value = fields[k] - center
        if value <= lowest:  # most pixels, where rain is concerned
            result[k] = 0
            continue
        size = abs(value) / scale
        height = np.log(size + np.sqrt(size * size + kind(1)))
        result[k] = min((height if value >= 0 else -height) - origin, top * step) / step


@compiled(error_model="numpy")
def place_backward_kernel(fields, gradient, axis, top, result):
    """Write the gradient of the places, handed to the values."""
    kind = fields.dtype.type
    center, scale, step = kind(axis[0]), kind(axis[1]), kind(axis[3])
    lowest = kind(axis[1] * np.sinh(axis[2]))
    highest = kind(axis[1] * np.sinh(axis[2] + top * axis[3]))
    for k in range(len(fields)):
        value = fields[k] - center
        slope = gradient[k] / (step * np.sqrt(value * value + scale * scale))
        result[k] = slope if lowest < value < highest else kind(0)


@compiled
def reached_kernel(fields, thresholds, result):
    """Write how many increasing thresholds each value of flat fields reaches."""
    for k in range(len(fields)):
        value, low, high = fields[k], 0, len(thresholds)
        if value < thresholds[0]:  # most pixels, where rain is concerned
            high = 0
        while low < high:
            middle = (low + high) // 2
            if value >= thresholds[middle]:
                low = middle + 1
            else:
                high = middle
        result[k] = low


@numba.njit(inline="always")
def _share_of_pair(here, other):
    """1 for the smaller pixel of a pair, 0 for the larger, 1/2 for both where they tie."""
    return (F32(0.5) if here < other else F32(0)) + (F32(0.5) if here <= other else F32(0))


@numba.njit(inline="always")
def _extreme(a, b, largest):
    return (a if a > b else b) if largest else (a if a < b else b)


# Division by zero is left unchecked, because the check would keep the loop from being vectorised.
@compiled(error_model="numpy")
def _block_row(upper, lower, touched, extreme, share):
    """Extreme of each 2 x 2 block between two rows, and 1 / number of pixels that attain it."""
    one = share.dtype.type(1)
    for j in range(len(extreme)):
        a, b, c, d = upper[j], upper[j + 1], lower[j], lower[j + 1]
        found = _extreme(_extreme(a, b, touched), _extreme(c, d, touched), touched)
        extreme[j] = found
        share[j] = one / (F32(a == found) + F32(b == found) + F32(c == found) + F32(d == found))


@compiled
def _row_shares(above, row, below, extreme, share, axial, diagonal, blocks):
    """Shares of each pixel of a row in its pairs and blocks; extreme, share: of the blocks around it."""
    zero = share.dtype.type(0)
    for j in range(len(axial)):
        here = row[j + 1]
        axial[j] = (
            _share_of_pair(here, above[j + 1])
            + _share_of_pair(here, below[j + 1])
            + _share_of_pair(here, row[j])
            + _share_of_pair(here, row[j + 2])
        )
        diagonal[j] = (
            _share_of_pair(here, above[j])
            + _share_of_pair(here, above[j + 2])
            + _share_of_pair(here, below[j])
            + _share_of_pair(here, below[j + 2])
        )
        blocks[j] = (
            (share[0, j] if here == extreme[0, j] else zero)
            + (share[0, j + 1] if here == extreme[0, j + 1] else zero)
            + (share[1, j] if here == extreme[1, j] else zero)
            + (share[1, j + 1] if here == extreme[1, j + 1] else zero)
        )


@compiled
def _shares(position, touched, shares):
    """Write into shares (H, LOCAL_ROWS, W) of how many pairs and blocks each pixel is the extreme."""
    rows, columns = position.shape
    padded = np.zeros((rows + 2, columns + 2), position.dtype)
    padded[1 : rows + 1, 1 : columns + 1] = position
    extreme = np.empty((2, columns + 1), position.dtype)
    share = np.empty_like(extreme)
    _block_row(padded[0], padded[1], touched, extreme[1], share[1])
    for i in range(rows):
        above, row, below = padded[i], padded[i + 1], padded[i + 2]
        extreme[0], share[0] = extreme[1], share[1]
        _block_row(row, below, touched, extreme[1], share[1])
        _row_shares(
            above, row, below, extreme, share, shares[i, AXIAL], shares[i, DIAGONAL], shares[i, BLOCKS]
        )


@compiled
def _constant_shares(shares):
    """Fill the rows of shares (H, LOCAL_ROWS, W) that depend on a pixel's place alone."""
    rows, _, columns = shares.shape
    shares[:, PIXELS] = 1
    for i in range(rows):
        inner_rows = (i > 0) + (i < rows - 1)
        for j in range(columns):
            inner_columns = (j > 0) + (j < columns - 1)
            shares[i, AXIAL_DEGREE, j] = inner_rows + inner_columns
            shares[i, DIAGONAL_DEGREE, j] = inner_rows * inner_columns


@numba.njit(inline="always")
def _interval(here, nodes):
    """The interval between nodes that a place lies in, and how far into it."""
    first = min(int(here), nodes - 4)
    return first, here - first


@compiled
def forward_kernel(position, changes, touched, used, result):
    """Write the histograms (N, ROWS, nodes) of positions (N, H, W)."""
    number, rows, columns = position.shape
    nodes = result.shape[2]
    shares = np.empty((rows, LOCAL_ROWS, columns), position.dtype)
    _constant_shares(shares)
    counts = np.empty((nodes, used), np.float64)  # the rows of a node side by side
    components = np.empty(nodes, np.float64)
    weights = np.empty(4, np.float64)
    for n in range(number):
        _shares(position[n], touched, shares)
        counts[:] = 0
        components[:] = 0
        for i in range(rows):
            for j in range(columns):
                here = position[n, i, j]
                if here > 0:
                    first, f = _interval(here, nodes)
                    rest = 1 - f
                    weights[0] = rest * rest * rest / 6
                    weights[3] = f * f * f / 6
                    weights[1] = 2 / 3 - f * f * (1 - f / 2)
                    weights[2] = 1 - weights[0] - weights[1] - weights[3]
                    for k in range(4):
                        components[first + k] += changes[n, i, j] * weights[k]
                        for row in range(used):
                            counts[first + k, row] += shares[i, row, j] * weights[k]
        for row in range(used):
            result[n, row] = counts[:, row]
        result[n, COMPONENTS] = components


@compiled
def level_kernel(reached, changes, touched, used, result):
    """Write how many pixels, pairs and blocks reach more than 0, 1, ... thresholds (N, ROWS, thresholds)."""
    number, rows, columns = reached.shape
    count = result.shape[2]
    shares = np.empty((rows, LOCAL_ROWS, columns), reached.dtype)
    _constant_shares(shares)
    counts = np.empty((count, used), np.float64)  # the rows of a threshold side by side
    for n in range(number):
        _shares(reached[n], touched, shares)
        counts[:] = 0
        for i in range(rows):
            for j in range(columns):
                last = int(reached[n, i, j]) - 1
                if last >= 0:
                    result[n, COMPONENTS, last] += changes[n, i, j]
                    for row in range(used):
                        counts[last, row] += shares[i, row, j]
        for q in range(count - 2, -1, -1):
            counts[q] += counts[q + 1]
            result[n, COMPONENTS, q] += result[n, COMPONENTS, q + 1]
        for row in range(used):
            result[n, row] = counts[:, row]


@compiled
def _slopes(gradient, used, slopes):
    """Write slopes (nodes, used + 1, 3), a + b f + c f^2 in each interval, of each row; components last."""
    nodes = gradient.shape[1]
    for node in range(nodes - 3):
        for k in range(used + 1):
            row = k if k < used else COMPONENTS
            g0, g1 = gradient[row, node], gradient[row, node + 1]
            g2, g3 = gradient[row, node + 2], gradient[row, node + 3]
            slopes[node, k, 0] = (g2 - g0) / 2
            slopes[node, k, 1] = (g2 - g1) - (g1 - g0)
            slopes[node, k, 2] = ((g3 - g2) - 2 * (g2 - g1) + (g1 - g0)) / 2


@compiled
def backward_kernel(position, changes, gradient, touched, used, bends, result):
    """Write the gradient of the histograms, handed to the positions; or, if bends, its derivative.

    The derivative is that of each pixel's gradient in its own position: between pixels there is none.
    """
    number, rows, columns = position.shape
    nodes = gradient.shape[2]
    shares = np.empty((rows, LOCAL_ROWS, columns), position.dtype)
    _constant_shares(shares)
    slopes = np.empty((nodes, used + 1, 3), np.float64)
    for n in range(number):
        _shares(position[n], touched, shares)
        _slopes(gradient[n], used, slopes)
        for i in range(rows):
            for j in range(columns):
                here = position[n, i, j]
                total = 0.0
                if here > 0:
                    node, f = _interval(here, nodes)
                    for row in range(used + 1):
                        amount = shares[i, row, j] if row < used else changes[n, i, j]
                        a, b, c = slopes[node, row, 0], slopes[node, row, 1], slopes[node, row, 2]
                        total += amount * (b + 2 * c * f if bends else a + f * (b + c * f))
                result[n, i, j] = total


@compiled
def tangent_kernel(position, changes, direction, touched, used, result):
    """Write the change of the histograms as positions move along a direction."""
    number, rows, columns = position.shape
    nodes = result.shape[2]
    shares = np.empty((rows, LOCAL_ROWS, columns), position.dtype)
    _constant_shares(shares)
    counts = np.empty((nodes, used), np.float64)
    slopes = np.empty(4, np.float64)
    for n in range(number):
        _shares(position[n], touched, shares)
        counts[:] = 0
        for i in range(rows):
            for j in range(columns):
                here = position[n, i, j]
                if here > 0:
                    first, f = _interval(here, nodes)
                    step, rest = direction[n, i, j], 1 - f
                    slopes[0] = -rest * rest / 2 * step
                    slopes[3] = f * f / 2 * step
                    slopes[1] = f * (1.5 * f - 2) * step
                    slopes[2] = -slopes[0] - slopes[1] - slopes[3]
                    for k in range(4):
                        result[n, COMPONENTS, first + k] += changes[n, i, j] * slopes[k]
                        for row in range(used):
                            counts[first + k, row] += shares[i, row, j] * slopes[k]
        for row in range(used):
            result[n, row] = counts[:, row]
