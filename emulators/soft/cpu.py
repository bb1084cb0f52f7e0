"""Soft histograms on the CPU, by numba kernels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...foundation.threads import in_threads
from ...metrics.kernels.rows import AXIAL_DEGREE, LOCAL_ROWS, ROWS
from ..transforms import transformed
from .backend import BACKENDS, Backend
from .changes import component_changes
from .kernels import (
    backward_kernel,
    forward_kernel,
    place_backward_kernel,
    place_kernel,
    reached_kernel,
    tangent_kernel,
)


class Cpu(Backend):
    """Numba kernels."""

    preference = 10

    def suits(self, fields: Tensor) -> bool:
        """On the CPU, but in an export or under the transforms of torch.func."""
        # ONNX and torch.func know torch's own operators alone.
        exported = torch.onnx.is_in_onnx_export()
        return fields.device.type == "cpu" and not exported and not transformed(fields)

    def positions(self, fields: Tensor, axis: Tensor, nodes: int) -> Tensor:
        """See `histogram.node_positions`."""
        return place(fields, axis, nodes - 3)

    def reached(self, fields: Tensor, thresholds: Tensor) -> Tensor:
        """See `histogram.thresholds_reached`."""
        return reached(fields, thresholds)

    def changes(self, position: Tensor, diagonal: bool) -> Tensor:
        """See `Backend.changes`."""
        return component_changes(position, diagonal)

    def histogram(
        self, position: Tensor, changes: Tensor, nodes: int, touched: bool, degrees: bool
    ) -> Tensor:
        """See `histogram.soft_histogram`."""
        return histogram(position, changes, nodes, touched, degrees)

    def slopes_of_histogram(
        self, position: Tensor, changes: Tensor, nodes: int, touched: bool, degrees: bool
    ) -> Tensor:
        """See `Backend.slopes_of_histogram`: values are 0."""
        return histogram_slopes(position, changes, nodes, touched, degrees)


@torch.library.custom_op("emuloss::node_positions", mutates_args=(), device_types="cpu")
def place(fields: Tensor, axis: Tensor, top: int) -> Tensor:
    """Places of values on the axis of nodes, by a kernel."""
    values, along = fields.detach().contiguous().numpy(), axis.detach().double().numpy()
    result = np.empty_like(values)

    def work(batch: slice) -> None:
        place_kernel(values[batch].ravel(), along, top, result[batch].ravel())

    in_threads(work, len(values), values.size)
    return torch.from_numpy(result)


@place.register_fake
def _(fields, axis, top):
    return torch.empty_like(fields, memory_format=torch.contiguous_format)


@torch.library.custom_op("emuloss::node_positions_backward", mutates_args=(), device_types="cpu")
def place_backward(fields: Tensor, gradient: Tensor, axis: Tensor, top: int) -> Tensor:
    """Gradient of the places, handed to the values."""
    values, slopes = (t.detach().contiguous().numpy() for t in (fields, gradient))
    along, result = axis.detach().double().numpy(), np.empty_like(values)

    def route(batch: slice) -> None:
        given, wanted = slopes[batch].ravel(), result[batch].ravel()
        place_backward_kernel(values[batch].ravel(), given, along, top, wanted)

    in_threads(route, len(values), values.size)
    return torch.from_numpy(result)


@place_backward.register_fake
def _(fields, gradient, axis, top):
    return torch.empty_like(fields, memory_format=torch.contiguous_format)


def _setup_place(ctx, inputs, output):
    fields, axis, ctx.top = inputs
    ctx.save_for_backward(fields, axis)


def _backward_place(ctx, gradient):
    fields, axis = ctx.saved_tensors
    return place_backward(fields, gradient, axis, ctx.top), None, None


place.register_autograd(_backward_place, setup_context=_setup_place)


def _setup_place_backward(ctx, inputs, output):
    fields, gradient, axis, ctx.top = inputs
    ctx.save_for_backward(fields, gradient, axis)


def _second_backward_place(ctx, direction):
    """The slope of the places is diagonal, 1/(step sqrt(x^2 + scale^2)): its derivative is elementary."""
    fields, gradient, axis = ctx.saved_tensors
    center, scale = axis[:2].to(fields.dtype)
    along = place_backward(fields, direction, axis, ctx.top)
    away = fields - center
    return -along * gradient * away / (away.square() + scale**2), along, None, None


place_backward.register_autograd(_second_backward_place, setup_context=_setup_place_backward)


@torch.library.custom_op("emuloss::thresholds_reached", mutates_args=(), device_types="cpu")
def reached(fields: Tensor, thresholds: Tensor) -> Tensor:
    """Numbers of thresholds that values reach, by a kernel."""
    values, u = fields.detach().contiguous().numpy(), thresholds.detach().numpy()
    result = np.empty_like(values)

    def work(batch: slice) -> None:
        reached_kernel(values[batch].ravel(), u, result[batch].ravel())

    in_threads(work, len(values), values.size)
    return torch.from_numpy(result)


@reached.register_fake
def _(fields, thresholds):
    return torch.empty_like(fields, memory_format=torch.contiguous_format)


def _used(degrees: bool) -> int:
    """Leading rows to fill."""
    return LOCAL_ROWS if degrees else AXIAL_DEGREE


@torch.library.custom_op("emuloss::soft_histogram", mutates_args=(), device_types="cpu")
def histogram(position: Tensor, changes: Tensor, nodes: int, touched: bool, degrees: bool) -> Tensor:
    """The histogram, by a kernel."""
    fields, weights = (t.detach().contiguous().numpy() for t in (position, changes))
    counts = np.zeros((len(fields), ROWS, nodes), np.float64)

    def count(batch: slice) -> None:
        forward_kernel(fields[batch], weights[batch], touched, _used(degrees), counts[batch])

    in_threads(count, len(fields), fields.size)
    return torch.from_numpy(counts).to(position.dtype)


@histogram.register_fake
def _(position, changes, nodes, touched, degrees):
    return position.new_empty((position.shape[0], ROWS, nodes))


@torch.library.custom_op("emuloss::soft_histogram_backward", mutates_args=(), device_types="cpu")
def histogram_backward(
    position: Tensor, changes: Tensor, gradient: Tensor, touched: bool, degrees: bool
) -> Tensor:
    """Gradient of the histogram, handed to the positions."""
    fields, weights, slopes = (t.detach().contiguous().numpy() for t in (position, changes, gradient))
    return _handed_down(fields, weights, slopes, touched, degrees, bends=False)


def _handed_down(
    fields: np.ndarray, weights: np.ndarray, slopes: np.ndarray, touched: bool, degrees: bool, bends: bool
) -> Tensor:
    result = np.empty_like(fields)

    def route(batch: slice) -> None:
        here, used = (fields[batch], weights[batch], slopes[batch]), _used(degrees)
        backward_kernel(*here, touched, used, bends, result[batch])

    in_threads(route, len(fields), fields.size)
    return torch.from_numpy(result)


@histogram_backward.register_fake
def _(position, changes, gradient, touched, degrees):
    return position.new_empty(position.shape)


def _setup_context(ctx, inputs, output):
    position, changes, _, ctx.touched, ctx.degrees = inputs
    ctx.save_for_backward(position, changes)


def _backward(ctx, gradient):
    position, changes = ctx.saved_tensors
    return histogram_backward(position, changes, gradient, ctx.touched, ctx.degrees), None, None, None, None


histogram.register_autograd(_backward, setup_context=_setup_context)


@torch.library.custom_op("emuloss::soft_histogram_slopes", mutates_args=(), device_types="cpu")
def histogram_slopes(position: Tensor, changes: Tensor, nodes: int, touched: bool, degrees: bool) -> Tensor:
    """Zeros in place of the histogram, with its gradient."""
    return position.new_zeros((position.shape[0], ROWS, nodes))


@histogram_slopes.register_fake
def _(position, changes, nodes, touched, degrees):
    return position.new_empty((position.shape[0], ROWS, nodes))


histogram_slopes.register_autograd(_backward, setup_context=_setup_context)


@torch.library.custom_op("emuloss::soft_histogram_tangent", mutates_args=(), device_types="cpu")
def histogram_tangent(
    position: Tensor, changes: Tensor, direction: Tensor, nodes: int, touched: bool, degrees: bool
) -> Tensor:
    """Change of the histogram as positions move along a direction: the transpose of its backward."""
    fields, weights, steps = (t.detach().contiguous().numpy() for t in (position, changes, direction))
    result = np.zeros((len(fields), ROWS, nodes), np.float64)

    def move(batch: slice) -> None:
        tangent_kernel(fields[batch], weights[batch], steps[batch], touched, _used(degrees), result[batch])

    in_threads(move, len(fields), fields.size)
    return torch.from_numpy(result).to(position.dtype)


@histogram_tangent.register_fake
def _(position, changes, direction, nodes, touched, degrees):
    return position.new_empty((position.shape[0], ROWS, nodes))


@torch.library.custom_op("emuloss::soft_histogram_bends", mutates_args=(), device_types="cpu")
def histogram_bends(
    position: Tensor, changes: Tensor, gradient: Tensor, touched: bool, degrees: bool
) -> Tensor:
    """Derivative of the histogram's backward in the positions, which is diagonal."""
    fields, weights, slopes = (t.detach().contiguous().numpy() for t in (position, changes, gradient))
    return _handed_down(fields, weights, slopes, touched, degrees, bends=True)


@histogram_bends.register_fake
def _(position, changes, gradient, touched, degrees):
    return position.new_empty(position.shape)


def _setup_backward_context(ctx, inputs, output):
    position, changes, gradient, ctx.touched, ctx.degrees = inputs
    ctx.nodes = gradient.shape[2]
    ctx.save_for_backward(position, changes, gradient)


def _second_backward(ctx, direction):
    """The backward is linear in the gradient; which pixels attain the minima changes at ties alone."""
    position, changes, gradient = ctx.saved_tensors
    along = histogram_tangent(position, changes, direction, ctx.nodes, ctx.touched, ctx.degrees)
    bent = direction * histogram_bends(position, changes, gradient, ctx.touched, ctx.degrees)
    return bent, None, along, None, None


histogram_backward.register_autograd(_second_backward, setup_context=_setup_backward_context)


BACKENDS.register("cpu")(Cpu())
