"""Soft histograms of the order statistics of neighbouring pixels: one differentiable operator.

A soft excursion set at threshold u is s = f_u(x) with f_u increasing; with the logical "and" taken
as the minimum, the soft count of pairs inside the set is a sum of f_u(min(x, y)), and so on for
blocks. All thresholds therefore share one histogram of the minima, fine enough for f_u to be
linear within a bin. Forward: the histogram. Backward: the slope of the incoming gradient at each
minimum, handed to the pixel that attains it. Neither depends on the number of thresholds.

On the CPU the work is done by numba kernels, elsewhere by torch operations.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from ..metrics._minkowski_kernels import AXIAL, AXIAL_DEGREE, BLOCKS, DIAGONAL, DIAGONAL_DEGREE, PIXELS
from ..metrics._threads import in_threads

ROWS = 6
"""Rows of the histogram; `emuloss.metrics.minkowski.functionals` takes them in this order."""


@numba.njit(cache=True, nogil=True, inline="always")
def _add(row, value, weight):
    """Share a count between the two nodes around a position; node 0 counts nothing."""
    if value > 0:
        index = int(value)
        fraction = value - index
        row[index] += weight * (1 - fraction)
        if fraction > 0:
            row[index + 1] += weight * fraction


@numba.njit(cache=True, nogil=True)
def _padded(position):
    rows, columns = position.shape
    padded = np.zeros((rows + 2, columns + 2), position.dtype)
    padded[1 : rows + 1, 1 : columns + 1] = position
    return padded


@numba.njit(cache=True, nogil=True)
def _forward_kernel(position, touched, degrees, result):
    number, rows, columns = position.shape
    for n in range(number):
        p = _padded(position[n])
        out = result[n]
        for i in range(1, rows + 1):
            for j in range(1, columns + 1):
                here = p[i, j]
                if here <= 0:
                    continue
                right, below = p[i, j + 1], p[i + 1, j]
                across = min(here, p[i + 1, j + 1])
                _add(out[PIXELS], here, 1.0)
                _add(out[AXIAL], min(here, right), 1.0)
                _add(out[AXIAL], min(here, below), 1.0)
                _add(out[DIAGONAL], across, 1.0)
                _add(out[DIAGONAL], min(here, p[i + 1, j - 1]), 1.0)
                if not touched:
                    _add(out[BLOCKS], min(across, right, below), 1.0)
                if degrees:
                    inner_rows = (i > 1) + (i < rows)
                    inner_columns = (j > 1) + (j < columns)
                    _add(out[AXIAL_DEGREE], here, inner_rows + inner_columns)
                    _add(out[DIAGONAL_DEGREE], here, inner_rows * inner_columns)
        if touched:
            for i in range(rows + 1):
                for j in range(columns + 1):
                    _add(out[BLOCKS], max(p[i, j], p[i, j + 1], p[i + 1, j], p[i + 1, j + 1]), 1.0)


@numba.njit(cache=True, nogil=True, inline="always")
def _give_block(p, g, i, j, extreme, amount):
    """Share an amount among the pixels of the block at (i, j) that attain its extreme."""
    ties = 0
    for di in range(2):
        for dj in range(2):
            ties += p[i + di, j + dj] == extreme
    for di in range(2):
        for dj in range(2):
            if p[i + di, j + dj] == extreme:
                g[i + di, j + dj] += amount / ties


@numba.njit(cache=True, nogil=True, inline="always")
def _give_pair(p, g, i, j, k, l, slope):
    """Hand the slope at the smaller of two pixels to it; a tie is shared, which keeps symmetries."""
    first, second = p[i, j], p[k, l]
    if first < second:
        g[i, j] += slope[int(first)]
    elif second < first:
        g[k, l] += slope[int(second)]
    else:
        g[i, j] += slope[int(first)] / 2
        g[k, l] += slope[int(first)] / 2


@numba.njit(cache=True, nogil=True)
def _backward_kernel(position, gradient, touched, degrees, result):
    number, rows, columns = position.shape
    nodes = gradient.shape[2]
    for n in range(number):
        p = _padded(position[n])
        slope = np.empty((ROWS, nodes), gradient.dtype)
        for row in range(ROWS):
            for b in range(nodes - 1):
                slope[row, b] = gradient[n, row, b + 1] - gradient[n, row, b]
            slope[row, nodes - 1] = slope[row, nodes - 2]
        g = np.zeros((rows + 2, columns + 2), np.float64)
        for i in range(1, rows + 1):
            for j in range(1, columns + 1):
                here = p[i, j]
                if here <= 0:  # every minimum with it is 0 as well
                    continue
                b = int(here)
                g[i, j] += slope[PIXELS, b]
                _give_pair(p, g, i, j, i, j + 1, slope[AXIAL])
                _give_pair(p, g, i, j, i + 1, j, slope[AXIAL])
                _give_pair(p, g, i, j, i + 1, j + 1, slope[DIAGONAL])
                _give_pair(p, g, i, j, i + 1, j - 1, slope[DIAGONAL])
                if not touched:
                    least = min(here, p[i, j + 1], p[i + 1, j], p[i + 1, j + 1])
                    if least > 0:
                        _give_block(p, g, i, j, least, slope[BLOCKS, int(least)])
                if degrees:
                    inner_rows = (i > 1) + (i < rows)
                    inner_columns = (j > 1) + (j < columns)
                    g[i, j] += slope[AXIAL_DEGREE, b] * (inner_rows + inner_columns)
                    g[i, j] += slope[DIAGONAL_DEGREE, b] * (inner_rows * inner_columns)
        if touched:
            for i in range(rows + 1):
                for j in range(columns + 1):
                    most = max(p[i, j], p[i, j + 1], p[i + 1, j], p[i + 1, j + 1])
                    if most > 0:
                        _give_block(p, g, i, j, most, slope[BLOCKS, int(most)])
        for i in range(rows):
            for j in range(columns):
                result[n, i, j] = g[i + 1, j + 1] if position[n, i, j] > 0 else 0.0


def _statistics(position: Tensor, touched: bool, degrees: bool) -> list[tuple[int, Tensor, Tensor | float]]:
    """(row, order statistics, weights) of a batch of positions, by torch operations."""
    upper, lower = position[:, :-1], position[:, 1:]
    right_of, left_of = position[:, :, 1:], position[:, :, :-1]
    rows, columns = position.shape[1:]
    found: list[tuple[int, Tensor, Tensor | float]] = [
        (PIXELS, position, 1.0),
        (AXIAL, torch.minimum(upper, lower), 1.0),
        (AXIAL, torch.minimum(left_of, right_of), 1.0),
        (DIAGONAL, torch.minimum(upper[:, :, :-1], lower[:, :, 1:]), 1.0),
        (DIAGONAL, torch.minimum(upper[:, :, 1:], lower[:, :, :-1]), 1.0),
    ]
    if touched:
        padded = torch.nn.functional.pad(position, (1, 1, 1, 1))
        windows = (padded[:, :-1, :-1], padded[:, :-1, 1:], padded[:, 1:, :-1], padded[:, 1:, 1:])
        found.append((BLOCKS, torch.stack(windows).amax(0), 1.0))
    else:
        windows = (upper[:, :, :-1], upper[:, :, 1:], lower[:, :, :-1], lower[:, :, 1:])
        found.append((BLOCKS, torch.stack(windows).amin(0), 1.0))
    if degrees:
        inner = [
            torch.full((size,), 2.0, dtype=position.dtype, device=position.device) for size in (rows, columns)
        ]
        for axis in inner:
            axis[0] -= 1
            axis[-1] -= 1
        found.append((AXIAL_DEGREE, position, inner[0][:, None] + inner[1]))
        found.append((DIAGONAL_DEGREE, position, inner[0][:, None] * inner[1]))
    return found


def _histogram_by_torch(position: Tensor, nodes: int, touched: bool, degrees: bool) -> Tensor:
    """The same histogram by differentiable torch operations, for any device."""
    result = position.new_zeros((len(position), ROWS, nodes))
    for row, values, weights in _statistics(position, touched, degrees):
        flat = values.flatten(1)
        weight = (torch.ones_like(values) * weights).flatten(1) * (flat > 0)
        index = flat.detach().floor().clamp(max=nodes - 2).long()
        fraction = flat - index
        target = torch.zeros_like(result[:, row])
        target = target.scatter_add(1, index, weight * (1 - fraction))
        target = target.scatter_add(1, index + 1, weight * fraction)
        result = result.index_add(1, torch.tensor([row], device=result.device), target[:, None])
    return result


@torch.library.custom_op("emuloss::soft_histogram", mutates_args=(), device_types="cpu")
def _histogram(position: Tensor, nodes: int, touched: bool, degrees: bool) -> Tensor:
    fields = position.detach().contiguous().numpy()
    counts = np.zeros((len(fields), ROWS, nodes), np.float64)

    def count(batch: slice) -> None:
        _forward_kernel(fields[batch], touched, degrees, counts[batch])

    in_threads(count, len(fields), fields.size)
    return torch.from_numpy(counts).to(position.dtype)


@_histogram.register_fake
def _(position, nodes, touched, degrees):
    return position.new_empty((position.shape[0], ROWS, nodes))


@torch.library.custom_op("emuloss::soft_histogram_backward", mutates_args=(), device_types="cpu")
def _histogram_backward(position: Tensor, gradient: Tensor, touched: bool, degrees: bool) -> Tensor:
    fields, slopes = (t.detach().contiguous().numpy() for t in (position, gradient))
    result = np.empty_like(fields)

    def route(batch: slice) -> None:
        _backward_kernel(fields[batch], slopes[batch], touched, degrees, result[batch])

    in_threads(route, len(fields), fields.size)
    return torch.from_numpy(result)


@_histogram_backward.register_fake
def _(position, gradient, touched, degrees):
    return torch.empty_like(position)


def _setup_context(ctx, inputs, output):
    position, _, ctx.touched, ctx.degrees = inputs
    ctx.save_for_backward(position)


def _backward(ctx, gradient):
    (position,) = ctx.saved_tensors
    return _histogram_backward(position, gradient, ctx.touched, ctx.degrees), None, None, None


_histogram.register_autograd(_backward, setup_context=_setup_context)


def soft_histogram(position: Tensor, nodes: int, *, touched: bool, degrees: bool) -> Tensor:
    """Histogram of pixels, pair minima and blocks over nodes, each count shared by two nodes.

    Args:
        position: (N, H, W), float32 or float64, in [0, nodes - 1]: each pixel's place on the axis
            of nodes. Node 0 stands for "certainly outside": what lies on it counts nothing.
        nodes: number of nodes.
        touched: whether blocks count by their maximum (blocks that the set touches) or by their
            minimum (blocks inside the set).
        degrees: whether to fill the rows of pixels weighted by their inner neighbours.

    Returns:
        (N, ROWS, nodes), differentiable (once) in position.
    """
    if position.device.type == "cpu":
        return _histogram(position, nodes, touched, degrees)
    return _histogram_by_torch(position, nodes, touched, degrees)
