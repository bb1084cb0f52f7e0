"""Soft histograms of the order statistics of neighbouring pixels: one differentiable operator.

A soft excursion set at threshold u is s = f_u(x) with f_u increasing; with the logical "and" taken
as the minimum, the soft count of pairs inside the set is a sum of f_u(min(x, y)), and so on for
blocks. All thresholds therefore share one histogram of the minima, fine enough for f_u to be
linear within a bin. Forward: the histogram. Backward: the slope of the incoming gradient at each
minimum, handed to the pixel that attains it. Neither depends on the number of thresholds.

Components are no sum over small windows, but lowering the threshold starts one at some pixels (local
maxima) and joins two at others (saddles), whatever the values in between. With +1 and -1 as weights
of these pixels, components are one more histogram.

On the CPU the work is done by numba kernels, elsewhere and in an export to ONNX by torch operations; what
starts and joins components by a kernel everywhere but in an export.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from ..metrics._minkowski_kernels import (
    AXIAL,
    AXIAL_DEGREE,
    BLOCKS,
    COMPONENTS,
    DIAGONAL,
    DIAGONAL_DEGREE,
    PIXELS,
    component_changes,
)
from ..metrics._threads import in_threads
from ._spanning_forest import component_changes as by_spanning_forest

F32 = np.float32
LOCAL_ROWS = 6
"""Leading rows of the histogram; `emuloss.metrics.minkowski.functionals` takes them in this order."""
ROWS = 7
"""Rows of the histogram; the last is that of the components."""


@numba.njit(cache=True, nogil=True)
def _place_kernel(fields, scale, origin, step, top, result):
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
def _place_backward_kernel(fields, gradient, scale, origin, step, top, result):
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
def _forward_kernel(position, changes, touched, used, result):
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
def _backward_kernel(position, changes, gradient, touched, used, result):
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
def _tangent_kernel(position, changes, direction, touched, used, result):
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


def _statistics(
    position: Tensor, changes: Tensor, touched: bool, degrees: bool
) -> list[tuple[int, Tensor, Tensor | float]]:
    """(row, order statistics, weights) of a batch of positions, by torch operations."""
    upper, lower = position[:, :-1], position[:, 1:]
    right_of, left_of = position[:, :, 1:], position[:, :, :-1]
    rows, columns = position.shape[1:]
    found: list[tuple[int, Tensor, Tensor | float]] = [
        (PIXELS, position, 1.0),
        (COMPONENTS, position, changes),
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


def _histogram_by_torch(
    position: Tensor, changes: Tensor, nodes: int, touched: bool, degrees: bool
) -> Tensor:
    """The same histogram by differentiable torch operations, for any device."""
    result = [position.new_zeros((position.shape[0], nodes))] * ROWS
    for row, values, weights in _statistics(position, changes, touched, degrees):
        flat = values.flatten(1)
        weight = (torch.ones_like(values) * weights).flatten(1) * (flat > 0)
        index = flat.detach().floor().clamp(max=nodes - 2).long()
        fraction = flat - index
        result[row] = result[row].scatter_add(1, index, weight * (1 - fraction))
        result[row] = result[row].scatter_add(1, index + 1, weight * fraction)
    return torch.stack(result, 1)


@torch.library.custom_op("emuloss::node_positions", mutates_args=(), device_types="cpu")
def _place(fields: Tensor, scale: float, origin: float, step: float, top: int) -> Tensor:
    values = fields.detach().contiguous().numpy()
    result = np.empty_like(values)

    def place(batch: slice) -> None:
        _place_kernel(values[batch].ravel(), scale, origin, step, top, result[batch].ravel())

    in_threads(place, len(values), values.size)
    return torch.from_numpy(result)


@_place.register_fake
def _(fields, scale, origin, step, top):
    return torch.empty_like(fields, memory_format=torch.contiguous_format)


@torch.library.custom_op("emuloss::node_positions_backward", mutates_args=(), device_types="cpu")
def _place_backward(
    fields: Tensor, gradient: Tensor, scale: float, origin: float, step: float, top: int
) -> Tensor:
    values, slopes = (t.detach().contiguous().numpy() for t in (fields, gradient))
    result = np.empty_like(values)

    def route(batch: slice) -> None:
        given, wanted = slopes[batch].ravel(), result[batch].ravel()
        _place_backward_kernel(values[batch].ravel(), given, scale, origin, step, top, wanted)

    in_threads(route, len(values), values.size)
    return torch.from_numpy(result)


@_place_backward.register_fake
def _(fields, gradient, scale, origin, step, top):
    return torch.empty_like(fields, memory_format=torch.contiguous_format)


def _setup_place(ctx, inputs, output):
    fields, *ctx.axis = inputs
    ctx.save_for_backward(fields)


def _backward_place(ctx, gradient):
    (fields,) = ctx.saved_tensors
    return _place_backward(fields, gradient, *ctx.axis), None, None, None, None


_place.register_autograd(_backward_place, setup_context=_setup_place)


def _setup_place_backward(ctx, inputs, output):
    fields, gradient, *ctx.axis = inputs
    ctx.save_for_backward(fields, gradient)


def _second_backward_place(ctx, direction):
    """The slope of the places is diagonal, 1/(step sqrt(x^2 + scale^2)): its derivative is elementary."""
    fields, gradient = ctx.saved_tensors
    scale = ctx.axis[0]
    along = _place_backward(fields, direction, *ctx.axis)
    bent = -along * gradient * fields / (fields.square() + scale**2)
    return bent, along, None, None, None, None


_place_backward.register_autograd(_second_backward_place, setup_context=_setup_place_backward)


def node_positions(fields: Tensor, scale: float, origin: float, step: float, nodes: int) -> Tensor:
    """Places on an axis of nodes that is even in asinh(x / scale), for `soft_histogram`.

    Args:
        fields: (N, H, W), float32 or float64, without NaN.
        scale: below it, the axis is close to linear; beyond, to logarithmic.
        origin: asinh(x / scale) of node 0.
        step: distance of neighbouring nodes in asinh(x / scale).
        nodes: number of nodes.

    Returns:
        (asinh(fields / scale) - origin) / step, held within [0, nodes - 1]; differentiable (twice).
    """
    if _has_kernels(fields):
        return _place(fields, scale, origin, step, nodes - 1)
    return ((torch.asinh(fields / scale) - origin) / step).clamp(0, nodes - 1)


def _has_kernels(fields: Tensor) -> bool:
    """Whether the numba kernels can do the work; ONNX knows torch's own operators alone."""
    return fields.device.type == "cpu" and not torch.onnx.is_in_onnx_export()


def _used(degrees: bool) -> int:
    """Leading rows to fill."""
    return LOCAL_ROWS if degrees else AXIAL_DEGREE


@torch.library.custom_op("emuloss::component_changes", mutates_args=())
def _changes(position: Tensor, diagonal: bool) -> Tensor:
    fields = position.detach().cpu().contiguous().numpy()
    return torch.from_numpy(component_changes(fields, diagonal)).to(position)


@_changes.register_fake
def _(position, diagonal):
    return position.new_empty(position.shape)


@torch.library.custom_op("emuloss::soft_histogram", mutates_args=(), device_types="cpu")
def _histogram(position: Tensor, changes: Tensor, nodes: int, touched: bool, degrees: bool) -> Tensor:
    fields, weights = (t.detach().contiguous().numpy() for t in (position, changes))
    counts = np.zeros((len(fields), ROWS, nodes), np.float64)

    def count(batch: slice) -> None:
        _forward_kernel(fields[batch], weights[batch], touched, _used(degrees), counts[batch])

    in_threads(count, len(fields), fields.size)
    return torch.from_numpy(counts).to(position.dtype)


@_histogram.register_fake
def _(position, changes, nodes, touched, degrees):
    return position.new_empty((position.shape[0], ROWS, nodes))


@torch.library.custom_op("emuloss::soft_histogram_backward", mutates_args=(), device_types="cpu")
def _histogram_backward(
    position: Tensor, changes: Tensor, gradient: Tensor, touched: bool, degrees: bool
) -> Tensor:
    fields, weights, slopes = (t.detach().contiguous().numpy() for t in (position, changes, gradient))
    result = np.empty_like(fields)

    def route(batch: slice) -> None:
        _backward_kernel(fields[batch], weights[batch], slopes[batch], touched, _used(degrees), result[batch])

    in_threads(route, len(fields), fields.size)
    return torch.from_numpy(result)


@_histogram_backward.register_fake
def _(position, changes, gradient, touched, degrees):
    return position.new_empty(position.shape)


def _setup_context(ctx, inputs, output):
    position, changes, _, ctx.touched, ctx.degrees = inputs
    ctx.save_for_backward(position, changes)


def _backward(ctx, gradient):
    position, changes = ctx.saved_tensors
    return _histogram_backward(position, changes, gradient, ctx.touched, ctx.degrees), None, None, None, None


_histogram.register_autograd(_backward, setup_context=_setup_context)


@torch.library.custom_op("emuloss::soft_histogram_tangent", mutates_args=(), device_types="cpu")
def _histogram_tangent(
    position: Tensor, changes: Tensor, direction: Tensor, nodes: int, touched: bool, degrees: bool
) -> Tensor:
    """Change of the histogram as positions move along a direction: the transpose of its backward."""
    fields, weights, steps = (t.detach().contiguous().numpy() for t in (position, changes, direction))
    result = np.zeros((len(fields), ROWS, nodes), np.float64)

    def move(batch: slice) -> None:
        _tangent_kernel(fields[batch], weights[batch], steps[batch], touched, _used(degrees), result[batch])

    in_threads(move, len(fields), fields.size)
    return torch.from_numpy(result).to(position.dtype)


@_histogram_tangent.register_fake
def _(position, changes, direction, nodes, touched, degrees):
    return position.new_empty((position.shape[0], ROWS, nodes))


def _setup_backward_context(ctx, inputs, output):
    position, changes, gradient, ctx.touched, ctx.degrees = inputs
    ctx.nodes = gradient.shape[2]
    ctx.save_for_backward(position, changes)


def _second_backward(ctx, direction):
    """The backward is linear in the gradient and, between nodes and ties, constant in the position."""
    position, changes = ctx.saved_tensors
    along = _histogram_tangent(position, changes, direction, ctx.nodes, ctx.touched, ctx.degrees)
    return None, None, along, None, None


_histogram_backward.register_autograd(_second_backward, setup_context=_setup_backward_context)


def soft_histogram(
    position: Tensor, nodes: int, *, touched: bool, degrees: bool, components: bool = False
) -> Tensor:
    """Histogram of pixels, pair minima and blocks over nodes, each count shared by two nodes.

    Args:
        position: (N, H, W), float32 or float64, in [0, nodes - 1]: each pixel's place on the axis
            of nodes. Node 0 stands for "certainly outside": what lies on it counts nothing.
        nodes: number of nodes.
        touched: whether the set connects along diagonals: blocks then count by their maximum (blocks
            that the set touches), else by their minimum (blocks inside the set).
        degrees: whether to fill the rows of pixels weighted by their inner neighbours.
        components: whether to fill the row of the components.

    Returns:
        (N, ROWS, nodes), differentiable in position, and its gradient once more: in the weights that
        counts are given. In position the gradient is piecewise constant.
    """
    # What starts and joins components depends on the order of the pixels alone: it has no gradient.
    changes = torch.zeros_like(position)
    if components:
        found = by_spanning_forest if torch.onnx.is_in_onnx_export() else _changes
        changes = found(position.detach(), touched)
    if _has_kernels(position):
        return _histogram(position, changes, nodes, touched, degrees)
    return _histogram_by_torch(position, changes, nodes, touched, degrees)
