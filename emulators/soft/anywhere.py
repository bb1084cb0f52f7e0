"""Soft histograms by torch operations, for any device and for exports."""

from __future__ import annotations

import torch
from torch import Tensor

from ...metrics.kernels.rows import (
    AXIAL,
    AXIAL_DEGREE,
    BLOCKS,
    COMPONENTS,
    DIAGONAL,
    DIAGONAL_DEGREE,
    PIXELS,
    ROWS,
)
from .backend import BACKENDS, Backend
from .changes import component_changes
from .spanning_forest import component_changes as by_spanning_forest


class Anywhere(Backend):
    """Differentiable torch operations, but for `changes.component_changes`."""

    def suits(self, fields: Tensor) -> bool:
        """Wherever, but in an export to ONNX."""
        return not torch.onnx.is_in_onnx_export()

    def positions(self, fields: Tensor, axis: Tensor, nodes: int) -> Tensor:
        """See `histogram.node_positions`."""
        center, scale, origin, step = axis.to(fields.dtype).unbind()
        return ((torch.asinh((fields - center) / scale) - origin) / step).clamp(0, nodes - 3)

    def reached(self, fields: Tensor, thresholds: Tensor) -> Tensor:
        """See `histogram.thresholds_reached`."""
        return torch.bucketize(fields.double(), thresholds, right=True).to(fields.dtype)

    def changes(self, position: Tensor, diagonal: bool, wraps: tuple[bool, bool]) -> Tensor:
        """See `Backend.changes`."""
        return component_changes(position, diagonal, *wraps)

    def counts(self, reached: Tensor, changes: Tensor, count: int, touched: bool, degrees: bool) -> Tensor:
        """See `histogram.counts_reached`."""
        found = [reached.new_zeros((reached.shape[0], count + 1), dtype=torch.float64)] * ROWS
        for row, values, weights in _statistics(reached, changes, touched, degrees):
            weight = (torch.ones_like(values) * weights).flatten(1).double()
            found[row] = found[row].scatter_add(1, values.flatten(1).long(), weight)
        return torch.stack(found, 1)[:, :, 1:].flip(2).cumsum(2).flip(2)

    def histogram(
        self, position: Tensor, changes: Tensor, nodes: int, touched: bool, degrees: bool
    ) -> Tensor:
        """See `histogram.soft_histogram`."""
        return histogram(position, changes, nodes, touched, degrees)


class Export(Anywhere):
    """Operators that ONNX has: torch's own."""

    def suits(self, fields: Tensor) -> bool:
        """In an export to ONNX."""
        return torch.onnx.is_in_onnx_export()

    def changes(self, position: Tensor, diagonal: bool, wraps: tuple[bool, bool]) -> Tensor:
        """See `Backend.changes`."""
        return by_spanning_forest(position, diagonal, wraps)


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


def _cubic_weights(f: Tensor) -> tuple[Tensor, ...]:
    """Values of the four cubic B-splines that reach into an interval, at f in [0, 1] of it."""
    rest = 1 - f
    first, second, last = rest**3 / 6, 2 / 3 - f**2 * (1 - f / 2), f**3 / 6
    return first, second, 1 - first - second - last, last


def histogram(position: Tensor, changes: Tensor, nodes: int, touched: bool, degrees: bool) -> Tensor:
    """The same histogram by differentiable torch operations, for any device."""
    # Summed in double precision, as by the kernels: curves are small differences of these sums.
    result = [position.new_zeros((position.shape[0], nodes), dtype=torch.float64)] * ROWS
    for row, values, weights in _statistics(position, changes, touched, degrees):
        flat = values.flatten(1)
        weight = (torch.ones_like(values) * weights).flatten(1) * (flat > 0)
        index = flat.detach().floor().clamp(max=nodes - 4).long()
        for k, share in enumerate(_cubic_weights(flat - index)):
            result[row] = result[row].scatter_add(1, index + k, (weight * share).double())
    return torch.stack(result, 1).to(position.dtype)


BACKENDS.register("anywhere")(Anywhere())
BACKENDS.register("export")(Export())
