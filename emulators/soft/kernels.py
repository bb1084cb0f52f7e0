"""Numba kernels of soft histograms."""

from __future__ import annotations

import numba
import numpy as np

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


@numba.njit(cache=True, nogil=True)
def place_kernel(fields, scale, origin, step, top, result):
    """Write the place of each value of flat fields on the axis of nodes."""
    kind = fields.dtype.type
    scale, origin, step, top = kind(scale), kind(origin), kind(step), kind(top)
    lowest = scale * np.sinh(origin)
    for k in range(len(fields)):
        value = fields[k]
        if value <= lowest:  # most pixels, where rain is concerned
            result[k] = 0
            continue
        size = abs(value) / scale
        height = np.log(size + np.sqrt(size * size + kind(1)))
        result[k] = min((height if value >= 0 else -height) - origin, top * step) / step


@numba.njit(cache=True, nogil=True, error_model="numpy")
def place_backward_kernel(fields, gradient, scale, origin, step, top, result):
    """Write the gradient of the places, handed to the values."""
    kind = fields.dtype.type
    scale, step = kind(scale), kind(step)
    lowest, highest = kind(scale * np.sinh(origin)), kind(scale * np.sinh(origin + top * step))
    for k in range(len(fields)):
        value = fields[k]
        slope = gradient[k] / (step * np.sqrt(value * value + scale * scale))
        result[k] = slope if lowest < value < highest else kind(0)


@numba.njit(inline="always")
def _share_of_pair(here, other):
    """1 for the smaller pixel of a pair, 0 for the larger, 1/2 for both where they tie."""
    return (F32(0.5) if here < other else F32(0)) + (F32(0.5) if here <= other else F32(0))


@numba.njit(inline="always")
def _extreme(a, b, largest):
    return (a if a > b else b) if largest else (a if a < b else b)


# Division by zero is left unchecked, because the check would keep the loop from being vectorised.
@numba.njit(cache=True, nogil=True, error_model="numpy")
def _block_row(upper, lower, touched, extreme, share):
    """Extreme of each 2 x 2 block between two rows, and 1 / number of pixels that attain it."""
    one = share.dtype.type(1)
    for j in range(len(extreme)):
        a, b, c, d = upper[j], upper[j + 1], lower[j], lower[j + 1]
        found = _extreme(_extreme(a, b, touched), _extreme(c, d, touched), touched)
        extreme[j] = found
        share[j] = one / (F32(a == found) + F32(b == found) + F32(c == found) + F32(d == found))


@numba.njit(cache=True, nogil=True)
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


@numba.njit(cache=True, nogil=True)
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


@numba.njit(cache=True, nogil=True)
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


@numba.njit(cache=True, nogil=True)
def forward_kernel(position, changes, touched, used, result):
    """Write the histograms (N, ROWS, nodes) of positions (N, H, W)."""
    number, rows, columns = position.shape
    nodes = result.shape[2]
    shares = np.empty((rows, LOCAL_ROWS, columns), position.dtype)
    _constant_shares(shares)
    # The rows of a node side by side; one node more, for the empty part of counts on the last one.
    counts = np.empty((nodes + 1, used), np.float64)
    components = np.empty(nodes + 1, np.float64)
    for n in range(number):
        _shares(position[n], touched, shares)
        counts[:] = 0
        components[:] = 0
        for i in range(rows):
            for j in range(columns):
                here = position[n, i, j]
                if here > 0:
                    node = int(here)
                    fraction = here - node
                    change = changes[n, i, j]
                    components[node] += change * (1 - fraction)
                    components[node + 1] += change * fraction
                    for row in range(used):
                        amount = shares[i, row, j]
                        counts[node, row] += amount * (1 - fraction)
                        counts[node + 1, row] += amount * fraction
        for row in range(used):
            result[n, row] = counts[:nodes, row]
        result[n, COMPONENTS] = components[:nodes]


@numba.njit(cache=True, nogil=True)
def backward_kernel(position, changes, gradient, touched, used, result):
    """Write the gradient of the histograms, handed to the positions."""
    number, rows, columns = position.shape
    nodes = gradient.shape[2]
    shares = np.empty((rows, LOCAL_ROWS, columns), position.dtype)
    _constant_shares(shares)
    slopes = np.empty((nodes, used), np.float64)
    for n in range(number):
        _shares(position[n], touched, shares)
        for row in range(used):
            for node in range(nodes - 1):
                slopes[node, row] = gradient[n, row, node + 1] - gradient[n, row, node]
        slopes[nodes - 1] = slopes[nodes - 2]
        for i in range(rows):
            for j in range(columns):
                here = position[n, i, j]
                total = 0.0
                if here > 0:
                    node = int(here)
                    low = min(node, nodes - 2)
                    slope = gradient[n, COMPONENTS, low + 1] - gradient[n, COMPONENTS, low]
                    total += changes[n, i, j] * slope
                    for row in range(used):
                        total += shares[i, row, j] * slopes[node, row]
                result[n, i, j] = total


@numba.njit(cache=True, nogil=True)
def tangent_kernel(position, changes, direction, touched, used, result):
    """Write the change of the histograms as positions move along a direction."""
    number, rows, columns = position.shape
    nodes = result.shape[2]
    shares = np.empty((rows, LOCAL_ROWS, columns), position.dtype)
    _constant_shares(shares)
    counts = np.empty((nodes, used), np.float64)
    for n in range(number):
        _shares(position[n], touched, shares)
        counts[:] = 0
        for i in range(rows):
            for j in range(columns):
                here = position[n, i, j]
                if here > 0:
                    low = min(int(here), nodes - 2)
                    step = direction[n, i, j]
                    result[n, COMPONENTS, low] -= changes[n, i, j] * step
                    result[n, COMPONENTS, low + 1] += changes[n, i, j] * step
                    for row in range(used):
                        amount = shares[i, row, j] * step
                        counts[low, row] -= amount
                        counts[low + 1, row] += amount
        for row in range(used):
            result[n, row] = counts[:, row]
