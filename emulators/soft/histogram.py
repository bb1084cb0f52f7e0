"""Soft histograms of the order statistics of neighbouring pixels: one differentiable operator.

A soft excursion set at threshold u is s = f_u(x) with f_u increasing; with the logical "and" taken
as the minimum, the soft count of pairs inside the set is a sum of f_u(min(x, y)), and so on for
blocks. All thresholds therefore share one histogram of the minima, whose nodes lie close enough for f_u
to be a cubic spline. Each minimum is shared by the four B-splines that reach it, so that counts are
twice continuously differentiable. Forward: the histogram. Backward: the slope of the incoming gradient's
spline at each minimum, handed to the pixel that attains it. Neither depends on the number of thresholds.

Components are no sum over small windows, but lowering the threshold starts one at some pixels (local
maxima) and joins two at others (saddles), whatever the values in between. With +1 and -1 as weights
of these pixels, components are one more histogram.

Where opposite edges of a field adjoin, counts are those of the field with its first row and column repeated
beyond the last ones, less those of what is then there twice: sums over cells are additive.

The work is done by the backend that suits: compiled kernels on the CPU (by numba) and on CUDA devices
(by Triton), torch operations elsewhere and in an export to ONNX.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...metrics.kernels.rows import AXIAL, AXIAL_DEGREE, COMPONENTS, PIXELS
from .backend import BACKENDS, Backend, backend_for


def node_positions(fields: Tensor, axis: Tensor, nodes: int) -> Tensor:
    """Places on an axis of nodes that is even in asinh((x - center) / scale), for `soft_histogram`.

    Args:
        fields: (N, H, W), float32 or float64, without NaN.
        axis: (center, scale, origin, step), float64, on the fields' device: nearer to the center than scale,
            the axis is close to linear, beyond to logarithmic; asinh at place 0; and its distance from place
            to place.
        nodes: number of nodes.

    Returns:
        (asinh((fields - center) / scale) - origin) / step, held within [0, nodes - 3]; differentiable
        (twice).
    """
    return backend_for(fields).positions(fields, axis, nodes)


def thresholds_reached(fields: Tensor, thresholds: Tensor) -> Tensor:
    """How many thresholds each pixel reaches, for `counts_reached`.

    Args:
        fields: (N, H, W), float32 or float64, without NaN.
        thresholds: (Q,), float64, increasing, on the fields' device.

    Returns:
        (N, H, W), whole numbers from 0 to Q in the fields' dtype, without gradient.
    """
    return backend_for(fields).reached(fields.detach(), thresholds)


def counts_reached(
    reached: Tensor,
    count: int,
    *,
    touched: bool,
    degrees: bool,
    components: bool,
    wraps: tuple[bool, bool] = (False, False),
) -> Tensor:
    """Exact counts, in the rows of `soft_histogram`, of what reaches more than q thresholds, q from 0 on.

    Args:
        reached: (N, H, W), how many thresholds each pixel reaches, from `thresholds_reached`.
        count: number of thresholds.
        touched: as for `soft_histogram`.
        degrees: likewise.
        components: likewise.
        wraps: likewise.

    Returns:
        (N, ROWS, count), whole numbers, float64, without gradient.
    """
    backend, reached = backend_for(reached), reached.detach()

    def counts(places: Tensor, changes: Tensor) -> Tensor:
        return backend.counts(places, changes, count, touched, degrees)

    return _adjoined(counts, reached, _changes(backend, reached, touched, components, wraps), wraps)


def soft_histogram(
    position: Tensor,
    nodes: int,
    *,
    touched: bool,
    degrees: bool,
    components: bool = False,
    slopes_alone: bool = False,
    wraps: tuple[bool, bool] = (False, False),
    changes: Tensor | None = None,
) -> Tensor:
    """Histogram of pixels, pair minima and blocks over nodes, each count shared by cubic B-splines.

    A count at place p in [i, i + 1] goes to nodes i to i + 3: node k is the coefficient of the B-spline that
    is largest at place k - 1.

    Args:
        position: (N, H, W), float32 or float64, in [0, nodes - 3]: each pixel's place on the axis
            of nodes. Place 0 stands for "certainly outside": what lies on it counts nothing.
        nodes: number of nodes, at least 4.
        touched: whether the set connects along diagonals: blocks then count by their maximum (blocks
            that the set touches), else by their minimum (blocks inside the set).
        degrees: whether to fill the rows of pixels weighted by their inner neighbours.
        components: whether to fill the row of the components.
        slopes_alone: whether the gradient alone is wanted: values may then be anything finite, which saves
            counting.
        wraps: whether the first and the last row adjoin, and whether the columns do; degrees then
            mean nothing.
        changes: (N, H, W), what pixels count in the row of the components, in place of these.

    Returns:
        (N, ROWS, nodes), differentiable in position, and once more. Derivatives are those between ties: where
        pixels tie, they share the gradient.
    """
    backend = backend_for(position)
    count = backend.slopes_of_histogram if slopes_alone else backend.histogram

    def histogram(places: Tensor, changes: Tensor) -> Tensor:
        return count(places, changes, nodes, touched, degrees)

    # What starts and joins components depends on the order of the pixels alone: it has no gradient.
    if changes is None:
        changes = _changes(backend, position.detach(), touched, components, wraps)
    return _adjoined(histogram, position, changes, wraps)


def row_histogram(
    position: Tensor, nodes: int, weights: Tensor | None, *, degrees: bool, wraps: bool
) -> Tensor:
    """Histogram of what tells rows from columns, or from one another: of rows kept apart by dry ones.

    Args:
        position: as for `soft_histogram`.
        nodes: likewise.
        weights: (H,), of the pixels of each row, of the positions' dtype; None: 1.
        degrees: whether to fill the row of pixels weighted by their neighbours along the row.
        wraps: whether the first and the last column adjoin.

    Returns:
        (N, WITH_ROWS - ROWS, nodes): the rows of counts from ROWS on, differentiable in position, twice.
    """
    dry = torch.zeros_like(position)
    apart = torch.cat([torch.stack([dry, position], 2).flatten(1, 2), dry[:, :1]], 1)
    if weights is None:
        changes, backend = torch.ones_like(apart.detach()), backend_for(position)
    else:
        beside = torch.stack([torch.zeros_like(weights), weights], 1).flatten()
        changes = torch.cat([beside, torch.zeros_like(weights[:1])])[:, None].expand(apart.shape)
        # Kernels on other devices count in whole numbers.
        backend = backend_for(position) if position.device.type == "cpu" else BACKENDS["anywhere"]

    def histogram(places: Tensor, weighed: Tensor) -> Tensor:
        return backend.histogram(places, weighed, nodes, False, degrees)

    found = _adjoined(histogram, apart, changes, (False, wraps))
    # Between dry rows each pixel has two neighbours in its column.
    degree = found[:, AXIAL_DEGREE] - 2 * found[:, PIXELS]
    return torch.stack([found[:, AXIAL], degree, found[:, COMPONENTS]], 1)


def _changes(
    backend: Backend, places: Tensor, touched: bool, components: bool, wraps: tuple[bool, bool]
) -> Tensor:
    """What starts and joins components, (N, H, W); 0 where they are not counted."""
    return backend.changes(places, touched, wraps) if components else torch.zeros_like(places)


def _adjoined(
    count: Callable[[Tensor, Tensor], Tensor], places: Tensor, changes: Tensor, wraps: tuple[bool, bool]
) -> Tensor:
    """Counts of places and changes (N, H, W), of which opposite edges may adjoin, by counts of some without.

    Each cell of the surface is a cell of the places with their first row (or column) repeated beyond the
    last; those of the repeated row alone are there twice.
    """
    for axis, wrap in ((1, wraps[0]), (2, wraps[1])):
        if wrap:
            others = (False, wraps[1] and axis == 1)
            first = places.narrow(axis, 0, 1)
            # Pixels that start or join components are counted where they are.
            none = torch.zeros_like(first.detach())
            longer, beside = torch.cat([places, first], axis), torch.cat([changes, none], axis)
            return _adjoined(count, longer, beside, others) - _adjoined(count, first, none, others)
    return count(places, changes)
