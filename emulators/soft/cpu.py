"""Soft histograms on the CPU, by numba kernels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...foundation.threads import in_threads
from ...metrics.kernels.rows import AXIAL_DEGREE, LOCAL_ROWS, ROWS
from .kernels import (
    backward_kernel,
    forward_kernel,
    level_kernel,
    place_backward_kernel,
    place_kernel,
    reached_kernel,
    tangent_kernel,
)


def place(fields: Tensor, axis: Tensor, top: int) -> Tensor:
    """See `operators.place`."""
    values, along = fields.detach().contiguous().numpy(), axis.detach().double().numpy()
    result = np.empty_like(values)

    def work(batch: slice) -> None:
        place_kernel(values[batch].ravel(), along, top, result[batch].ravel())

    in_threads(work, len(values), values.size)
    return torch.from_numpy(result)


def place_backward(fields: Tensor, gradient: Tensor, axis: Tensor, top: int) -> Tensor:
    """See `operators.place_backward`."""
    values, slopes = (t.detach().contiguous().numpy() for t in (fields, gradient))
    along, result = axis.detach().double().numpy(), np.empty_like(values)

    def route(batch: slice) -> None:
        given, wanted = slopes[batch].ravel(), result[batch].ravel()
        place_backward_kernel(values[batch].ravel(), given, along, top, wanted)

    in_threads(route, len(values), values.size)
    return torch.from_numpy(result)


def reached(fields: Tensor, thresholds: Tensor) -> Tensor:
    """See `operators.reached`."""
    values, u = fields.detach().contiguous().numpy(), thresholds.detach().numpy()
    result = np.empty_like(values)

    def work(batch: slice) -> None:
        reached_kernel(values[batch].ravel(), u, result[batch].ravel())

    in_threads(work, len(values), values.size)
    return torch.from_numpy(result)


def _used(degrees: bool) -> int:
    """Leading rows to fill."""
    return LOCAL_ROWS if degrees else AXIAL_DEGREE


def counts_reached(reached: Tensor, changes: Tensor, count: int, touched: bool, degrees: bool) -> Tensor:
    """See `operators.counts_reached`."""
    levels, weights = (t.detach().contiguous().numpy() for t in (reached, changes))
    counts = np.zeros((len(levels), ROWS, count), np.float64)

    def work(batch: slice) -> None:
        level_kernel(levels[batch], weights[batch], touched, _used(degrees), counts[batch])

    in_threads(work, len(levels), levels.size)
    # Shares of blocks are thirds, too.
    return torch.from_numpy(np.rint(counts))


def histogram(position: Tensor, changes: Tensor, nodes: int, touched: bool, degrees: bool) -> Tensor:
    """See `operators.histogram`."""
    fields, weights = (t.detach().contiguous().numpy() for t in (position, changes))
    counts = np.zeros((len(fields), ROWS, nodes), np.float64)

    def count(batch: slice) -> None:
        forward_kernel(fields[batch], weights[batch], touched, _used(degrees), counts[batch])

    in_threads(count, len(fields), fields.size)
    return torch.from_numpy(counts).to(position.dtype)


def histogram_tangent(
    position: Tensor, changes: Tensor, direction: Tensor, nodes: int, touched: bool, degrees: bool
) -> Tensor:
    """See `operators.histogram_tangent`."""
    fields, weights, steps = (t.detach().contiguous().numpy() for t in (position, changes, direction))
    result = np.zeros((len(fields), ROWS, nodes), np.float64)

    def move(batch: slice) -> None:
        tangent_kernel(fields[batch], weights[batch], steps[batch], touched, _used(degrees), result[batch])

    in_threads(move, len(fields), fields.size)
    return torch.from_numpy(result).to(position.dtype)


def handed_down(
    position: Tensor, changes: Tensor, gradient: Tensor, touched: bool, degrees: bool, bends: bool
) -> Tensor:
    """See `operators.histogram_backward` and, for bends, `operators.histogram_bends`."""
    fields, weights, slopes = (t.detach().contiguous().numpy() for t in (position, changes, gradient))
    result = np.empty_like(fields)

    def route(batch: slice) -> None:
        here, used = (fields[batch], weights[batch], slopes[batch]), _used(degrees)
        backward_kernel(*here, touched, used, bends, result[batch])

    in_threads(route, len(fields), fields.size)
    return torch.from_numpy(result)
