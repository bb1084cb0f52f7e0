"""Soft histograms on CUDA devices, by Triton kernels: few launches, none of which waits for the host.

A pixel reads its neighbours itself, so that no order statistic is ever written. Counts are summed by atomic
additions of whole numbers, which give the same sum in whatever order they come: results are the same to the
bit from run to run.

Imported once a CUDA tensor comes: Triton takes a while to import, and is not there on every system.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...metrics.kernels import rows as order
from ...metrics.kernels.rows import ROWS

_BLOCK = 256
"""Pixels of a program."""
_TWELFTHS = 12
"""A pixel's share in a block is 1/1 to 1/4, in a pair 1 or 1/2: whole numbers of twelfths."""
_SIDES = tl.constexpr(8)
"""Rows of a node side by side in the table of counts: one sector of memory, or two."""
_PIXELS, _COMPONENTS = tl.constexpr(order.PIXELS), tl.constexpr(order.COMPONENTS)
_AXIAL, _DIAGONAL, _BLOCKS = (tl.constexpr(row) for row in (order.AXIAL, order.DIAGONAL, order.BLOCKS))
_AXIAL_DEGREE, _DIAGONAL_DEGREE = tl.constexpr(order.AXIAL_DEGREE), tl.constexpr(order.DIAGONAL_DEGREE)
_COUNTED_BITS = 62 - 6
"""Bits of a sum, but for its sign and for what a pixel counts in a row: up to 48 twelfths."""
_FINEST_BITS = 44
"""Bits behind the point that weights have at most: 6e-14, as good as double precision is for sums."""


@triton.jit
def _place_of(value, center, scale, origin, step, top):
    """Place of a value on the axis of nodes."""
    away = value - center
    size = tl.abs(away) / scale
    height = tl.log(size + tl.sqrt(size * size + 1))
    height = tl.where(away >= 0, height, -height)
    return tl.minimum(tl.maximum((height - origin) / step, 0), top)


@triton.jit
def _place_kernel(fields, axis, top, count, result, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    value = tl.load(fields + at, mask=inside, other=0)
    center, scale = tl.load(axis).to(value.dtype), tl.load(axis + 1).to(value.dtype)
    origin, step = tl.load(axis + 2).to(value.dtype), tl.load(axis + 3).to(value.dtype)
    tl.store(result + at, _place_of(value, center, scale, origin, step, top), mask=inside)


@triton.jit
def _place_backward_kernel(fields, gradient, axis, top, count, result, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    value = tl.load(fields + at, mask=inside, other=0)
    center, scale = tl.load(axis).to(value.dtype), tl.load(axis + 1).to(value.dtype)
    origin, step = tl.load(axis + 2).to(value.dtype), tl.load(axis + 3).to(value.dtype)
    place = _place_of(value, center, scale, origin, step, top)
    away = value - center
    slope = tl.load(gradient + at, mask=inside, other=0) / (step * tl.sqrt(away * away + scale * scale))
    tl.store(result + at, tl.where((place > 0) & (place < top), slope, 0), mask=inside)


@triton.jit
def _reached_kernel(fields, thresholds, number, steps, count, result, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    value = tl.load(fields + at, mask=inside, other=0).to(tl.float64)
    low = tl.zeros((BLOCK,), tl.int32)
    high = low + number
    for _ in range(steps):
        middle = (low + high) // 2
        going = low < high
        above = value >= tl.load(thresholds + middle, mask=inside & going, other=0)
        low = tl.where(going & above, middle + 1, low)
        high = tl.where(going & ~above, middle, high)
    tl.store(result + at, low.to(result.dtype.element_ty), mask=inside)


@triton.jit
def _at(field, row, column, rows, columns, inside):
    """Positions of pixels, 0 beyond the field's edges."""
    there = inside & (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    return tl.load(field + row * columns + column, mask=there, other=0)


@triton.jit
def _of_pair(here, other):
    """Twelfths: 12 for the smaller pixel of a pair, 0 for the larger, 6 for both where they tie."""
    return tl.where(here < other, 6, 0) + tl.where(here <= other, 6, 0)


@triton.jit
def _of_block(here, a, b, c, TOUCHED: tl.constexpr):
    """Twelfths of a pixel in the block with three others, of whose extreme it may be one of several."""
    if TOUCHED:
        extreme = tl.maximum(tl.maximum(here, a), tl.maximum(b, c))
    else:
        extreme = tl.minimum(tl.minimum(here, a), tl.minimum(b, c))
    ties = 1 + (a == here).to(tl.int32) + (b == here).to(tl.int32) + (c == here).to(tl.int32)
    return tl.where(here == extreme, 12 // ties, 0)


@triton.jit
def _shares(field, here, row, column, rows, columns, inside, TOUCHED: tl.constexpr):
    """Twelfths of axial pairs, diagonal pairs and blocks of which each pixel is the extreme."""
    above = _at(field, row - 1, column, rows, columns, inside)
    below = _at(field, row + 1, column, rows, columns, inside)
    left = _at(field, row, column - 1, rows, columns, inside)
    right = _at(field, row, column + 1, rows, columns, inside)
    above_left = _at(field, row - 1, column - 1, rows, columns, inside)
    above_right = _at(field, row - 1, column + 1, rows, columns, inside)
    below_left = _at(field, row + 1, column - 1, rows, columns, inside)
    below_right = _at(field, row + 1, column + 1, rows, columns, inside)
    axial = _of_pair(here, above) + _of_pair(here, below) + _of_pair(here, left) + _of_pair(here, right)
    diagonal = _of_pair(here, above_left) + _of_pair(here, above_right)
    diagonal += _of_pair(here, below_left) + _of_pair(here, below_right)
    blocks = _of_block(here, above, left, above_left, TOUCHED)
    blocks += _of_block(here, above, right, above_right, TOUCHED)
    blocks += _of_block(here, below, left, below_left, TOUCHED)
    blocks += _of_block(here, below, right, below_right, TOUCHED)
    return axial, diagonal, blocks


@triton.jit
def _amount(k, axial, diagonal, blocks, change, row, column, rows, columns, DEGREES: tl.constexpr):
    """Twelfths that each pixel counts in a row k."""
    amount = tl.where(k == _PIXELS, 12, 0) + tl.where(k == _AXIAL, axial, 0)
    amount += tl.where(k == _DIAGONAL, diagonal, 0) + tl.where(k == _BLOCKS, blocks, 0)
    amount += tl.where(k == _COMPONENTS, change, 0)
    if DEGREES:
        of_rows = (row > 0).to(tl.int32) + (row < rows - 1).to(tl.int32)
        of_columns = (column > 0).to(tl.int32) + (column < columns - 1).to(tl.int32)
        amount += tl.where(k == _AXIAL_DEGREE, 12 * (of_rows + of_columns), 0)
        amount += tl.where(k == _DIAGONAL_DEGREE, 12 * (of_rows * of_columns), 0)
    return amount


@triton.jit
def _pixels(rows, columns, tiles, BLOCK: tl.constexpr):
    """Which field a program works on, and rows and columns of its pixels, and which of them there are."""
    program = tl.program_id(0)
    number, tile = program // tiles, program % tiles
    at = tile * BLOCK + tl.arange(0, BLOCK)
    return number.to(tl.int64), at // columns, at % columns, at < rows * columns


@triton.jit
def _count_kernel(
    position, changes, direction, rows, columns, tiles, nodes, scale, table,
    TOUCHED: tl.constexpr, DEGREES: tl.constexpr, TANGENT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Add pixels to a table (N, nodes, 8) of whole numbers; with TANGENT their changes, of real ones."""
    number, row, column, inside = _pixels(rows, columns, tiles, BLOCK)
    field = position + number * rows * columns
    here = tl.load(field + row * columns + column, mask=inside, other=0)
    inside = here > 0  # what lies at place 0 counts nothing: most pixels, where rain is concerned
    if tl.max(here, 0) > 0:
        axial, diagonal, blocks = _shares(field, here, row, column, rows, columns, inside, TOUCHED)
        beside = number * rows * columns + row * columns + column
        change = (12 * tl.load(changes + beside, mask=inside, other=0)).to(tl.int32)
        first = tl.minimum(here.to(tl.int32), nodes - 4)
        f = here - first.to(here.dtype)
        rest = 1 - f
        if TANGENT:
            move = tl.load(direction + beside, mask=inside, other=0)
            w0, w1, w3 = -rest * rest / 2 * move, f * (3 * f - 4) / 2 * move, f * f / 2 * move
            w0, w1, w3 = w0.to(tl.float64) / 12, w1.to(tl.float64) / 12, w3.to(tl.float64) / 12
            w2 = -w0 - w1 - w3
        else:
            w0 = (rest * rest * rest / 6 * scale + 0.5).to(tl.int64)
            w1 = ((4 - f * f * (6 - 3 * f)) / 6 * scale + 0.5).to(tl.int64)
            w3 = (f * f * f / 6 * scale + 0.5).to(tl.int64)
            w2 = (tl.zeros((BLOCK,), here.dtype) + scale).to(tl.int64) - w0 - w1 - w3  # together 1, exactly
        k = tl.arange(0, _SIDES)[None, :]
        amount = _amount(
            k, axial[:, None], diagonal[:, None], blocks[:, None], change[:, None],
            row[:, None], column[:, None], rows, columns, DEGREES,
        )  # fmt: skip
        amount = amount.to(table.dtype.element_ty)
        counted = inside[:, None] & (amount != 0)
        into = table + (number * nodes + first)[:, None] * _SIDES + k
        tl.atomic_add(into, amount * w0[:, None], mask=counted & (w0 != 0)[:, None], sem="relaxed")
        tl.atomic_add(into + _SIDES, amount * w1[:, None], mask=counted, sem="relaxed")
        tl.atomic_add(into + 2 * _SIDES, amount * w2[:, None], mask=counted, sem="relaxed")
        tl.atomic_add(
            into + 3 * _SIDES, amount * w3[:, None], mask=counted & (w3 != 0)[:, None], sem="relaxed"
        )


@triton.jit
def _level_kernel(
    reached, changes, rows, columns, tiles, count, table,
    TOUCHED: tl.constexpr, DEGREES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Add pixels to a table (N, count, 8) by how many thresholds they reach, the first for one."""
    number, row, column, inside = _pixels(rows, columns, tiles, BLOCK)
    field = reached + number * rows * columns
    here = tl.load(field + row * columns + column, mask=inside, other=0)
    inside = here > 0
    if tl.max(here, 0) > 0:
        axial, diagonal, blocks = _shares(field, here, row, column, rows, columns, inside, TOUCHED)
        beside = number * rows * columns + row * columns + column
        change = (12 * tl.load(changes + beside, mask=inside, other=0)).to(tl.int32)
        k = tl.arange(0, _SIDES)[None, :]
        amount = _amount(
            k, axial[:, None], diagonal[:, None], blocks[:, None], change[:, None],
            row[:, None], column[:, None], rows, columns, DEGREES,
        )  # fmt: skip
        into = table + (number * count + here.to(tl.int32) - 1)[:, None] * _SIDES + k
        tl.atomic_add(into, amount.to(tl.int64), mask=inside[:, None] & (amount != 0), sem="relaxed")


@triton.jit
def _sum_kernel(table, count, total, result, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """Sums (N, ROWS, count) over a table (N, count, 8) from each threshold on, of twelfths."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < total
    least, row, number = at % count, at // count % ROWS, at // count // ROWS
    found = tl.zeros((BLOCK,), tl.int64)
    for level in range(count):
        from_here = table + (number * count + level) * _SIDES + row
        found += tl.load(from_here, mask=inside & (level >= least), other=0)
    tl.store(result + at, (found // 12).to(tl.float64), mask=inside)


@triton.jit
def _read_kernel(table, nodes, one, count, result, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """Histograms (N, ROWS, nodes) of a table (N, nodes, 8), which has `one` where a histogram has 1."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    node, row, number = at % nodes, at // nodes % ROWS, at // nodes // ROWS
    found = tl.load(table + (number * nodes + node) * _SIDES + row, mask=inside, other=0)
    tl.store(result + at, (found.to(tl.float64) / one).to(result.dtype.element_ty), mask=inside)


@triton.jit
def _slope(gradient, f, inside, BENDS: tl.constexpr):
    """Slope, or with BENDS its derivative, of the spline whose coefficients are a row's gradient."""
    g0 = tl.load(gradient, mask=inside, other=0)
    g1 = tl.load(gradient + 1, mask=inside, other=0)
    g2 = tl.load(gradient + 2, mask=inside, other=0)
    g3 = tl.load(gradient + 3, mask=inside, other=0)
    a, b, c = (g2 - g0) / 2, (g2 - g1) - (g1 - g0), ((g3 - g2) - 2 * (g2 - g1) + (g1 - g0)) / 2
    return b + 2 * c * f if BENDS else a + f * (b + c * f)


@triton.jit
def _hand_down_kernel(
    position, changes, gradient, rows, columns, tiles, nodes, result,
    TOUCHED: tl.constexpr, DEGREES: tl.constexpr, BENDS: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Hand the gradient of histograms (N, ROWS, nodes) to positions."""
    number, row, column, there = _pixels(rows, columns, tiles, BLOCK)
    field = position + number * rows * columns
    here = tl.load(field + row * columns + column, mask=there, other=0)
    beside = number * rows * columns + row * columns + column
    inside = here > 0
    total = tl.zeros_like(here)
    if tl.max(here, 0) > 0:
        axial, diagonal, blocks = _shares(field, here, row, column, rows, columns, inside, TOUCHED)
        change = tl.load(changes + beside, mask=inside, other=0)
        first = tl.minimum(here.to(tl.int32), nodes - 4)
        f = here - first.to(here.dtype)
        slopes = gradient + number * ROWS * nodes + first
        total += 12 * _slope(slopes + _PIXELS * nodes, f, inside, BENDS)
        total += axial.to(here.dtype) * _slope(slopes + _AXIAL * nodes, f, inside, BENDS)
        total += diagonal.to(here.dtype) * _slope(slopes + _DIAGONAL * nodes, f, inside, BENDS)
        total += blocks.to(here.dtype) * _slope(slopes + _BLOCKS * nodes, f, inside, BENDS)
        total += 12 * change * _slope(slopes + _COMPONENTS * nodes, f, inside & (change != 0), BENDS)
        if DEGREES:
            of_rows = (row > 0).to(tl.int32) + (row < rows - 1).to(tl.int32)
            of_columns = (column > 0).to(tl.int32) + (column < columns - 1).to(tl.int32)
            total += (12 * (of_rows + of_columns)).to(here.dtype) * _slope(
                slopes + _AXIAL_DEGREE * nodes, f, inside, BENDS
            )
            total += (12 * (of_rows * of_columns)).to(here.dtype) * _slope(
                slopes + _DIAGONAL_DEGREE * nodes, f, inside, BENDS
            )
    tl.store(result + beside, total / 12, mask=there)


def place(fields: Tensor, axis: Tensor, top: int) -> Tensor:
    """See `operators.place`."""
    fields = fields.contiguous()
    result = torch.empty_like(fields)
    _each(_place_kernel, fields, axis.double().contiguous(), top, fields.numel(), result)
    return result


def place_backward(fields: Tensor, gradient: Tensor, axis: Tensor, top: int) -> Tensor:
    """See `operators.place_backward`."""
    fields, gradient = fields.contiguous(), gradient.contiguous()
    result = torch.empty_like(fields)
    _each(_place_backward_kernel, fields, gradient, axis.double().contiguous(), top, fields.numel(), result)
    return result


def reached(fields: Tensor, thresholds: Tensor) -> Tensor:
    """See `operators.reached`."""
    fields, number = fields.contiguous(), len(thresholds)
    result = torch.empty_like(fields)
    halvings = number.bit_length()
    _each(_reached_kernel, fields, thresholds.contiguous(), number, halvings, fields.numel(), result)
    return result


def counts_reached(reached: Tensor, changes: Tensor, count: int, touched: bool, degrees: bool) -> Tensor:
    """See `operators.counts_reached`."""
    reached = reached.contiguous()
    rows, columns = reached.shape[1:]
    tiles = triton.cdiv(rows * columns, _BLOCK)
    table = reached.new_zeros((len(reached), count, _SIDES.value), dtype=torch.int64)
    result = torch.empty((len(reached), ROWS, count), dtype=torch.float64, device=reached.device)
    # Products of matrices that sum a program's pixels first were some 40 times slower on an H200.
    _launch(
        _level_kernel, len(reached) * tiles,
        reached, changes.contiguous(), rows, columns, tiles, count, table, TOUCHED=touched, DEGREES=degrees,
    )  # fmt: skip
    _launch(_sum_kernel, triton.cdiv(result.numel(), _BLOCK), table, count, result.numel(), result, ROWS=ROWS)
    return result


def histogram(position: Tensor, changes: Tensor, nodes: int, touched: bool, degrees: bool) -> Tensor:
    """See `operators.histogram`."""
    position = position.contiguous()
    scale = 2.0 ** fraction_bits(position.shape[1] * position.shape[2])
    table = position.new_zeros((len(position), nodes, _SIDES.value), dtype=torch.int64)
    _count(position, changes, position, nodes, touched, degrees, scale, table)
    return _read(table, _TWELFTHS * scale, position.dtype)


def fraction_bits(pixels: int) -> int:
    """Bits behind the point of weights in a field of so many pixels, whose sums must not overflow."""
    return min(_FINEST_BITS, _COUNTED_BITS - pixels.bit_length())


def histogram_tangent(
    position: Tensor, changes: Tensor, direction: Tensor, nodes: int, touched: bool, degrees: bool
) -> Tensor:
    """See `operators.histogram_tangent`; summed in double precision, in whatever order pixels come."""
    position = position.contiguous()
    table = position.new_zeros((len(position), nodes, _SIDES.value), dtype=torch.float64)
    _count(position, changes, direction, nodes, touched, degrees, 1.0, table)
    return _read(table, 1.0, position.dtype)


def handed_down(
    position: Tensor, changes: Tensor, gradient: Tensor, touched: bool, degrees: bool, bends: bool
) -> Tensor:
    """See `operators.histogram_backward` and, for bends, `operators.histogram_bends`."""
    position, changes = position.contiguous(), changes.contiguous()
    rows, columns = position.shape[1:]
    tiles = triton.cdiv(rows * columns, _BLOCK)
    result = torch.empty_like(position)
    _launch(
        _hand_down_kernel, len(position) * tiles,
        position, changes, gradient.contiguous(), rows, columns, tiles, gradient.shape[2], result,
        TOUCHED=touched, DEGREES=degrees, BENDS=bends, ROWS=ROWS,
    )  # fmt: skip
    return result


def _count(
    position: Tensor,
    changes: Tensor,
    direction: Tensor,
    nodes: int,
    touched: bool,
    degrees: bool,
    scale: float,
    table: Tensor,
) -> None:
    """Add the pixels of positions (N, H, W) to a table (N, nodes, 8): of whole numbers, or of a tangent's."""
    rows, columns = position.shape[1:]
    tiles = triton.cdiv(rows * columns, _BLOCK)
    _launch(
        _count_kernel, len(position) * tiles,
        position, changes.contiguous(), direction.contiguous(), rows, columns, tiles, nodes, scale, table,
        TOUCHED=touched, DEGREES=degrees, TANGENT=table.dtype.is_floating_point,
    )  # fmt: skip


def _read(table: Tensor, one: float, dtype: torch.dtype) -> Tensor:
    """Histograms (N, ROWS, nodes) of a table (N, nodes, 8), which has `one` where a histogram has 1.

    Kernels are given real numbers in single precision: `one` must be exact there.
    """
    result = torch.empty((len(table), ROWS, table.shape[1]), dtype=dtype, device=table.device)
    programs = triton.cdiv(result.numel(), _BLOCK)
    _launch(_read_kernel, programs, table, table.shape[1], one, result.numel(), result, ROWS=ROWS)
    return result


def _each(kernel: Callable[..., Any], fields: Tensor, *arguments: Any) -> None:
    """Run a kernel that works on each pixel by itself."""
    _launch(kernel, triton.cdiv(fields.numel(), _BLOCK), fields, *arguments)


def _launch(kernel: Any, programs: int, fields: Tensor, *arguments: Any, **constants: Any) -> None:
    """Run a kernel on the device of the tensor that comes first."""
    if programs:
        with torch.cuda.device_of(fields):
            kernel[(programs,)](fields, *arguments, **constants, BLOCK=_BLOCK)
