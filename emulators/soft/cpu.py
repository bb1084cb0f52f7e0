"""Soft histograms on the CPU, by numba kernels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...foundation.threads import in_threads
from ...metrics.kernels.rows import AXIAL_DEGREE, LOCAL_ROWS, ROWS
from .backend import BACKENDS, Backend
from .changes import component_changes
from .kernels import backward_kernel, forward_kernel, place_backward_kernel, place_kernel, tangent_kernel


class Cpu(Backend):
    """Numba kernels."""

    preference = 10

    def suits(self, fields: Tensor) -> bool:
        """On the CPU, but in an export."""
        # ONNX knows torch's own operators alone.
        return fields.device.type == "cpu" and not torch.onnx.is_in_onnx_export()

    def positions(self, fields: Tensor, scale: float, origin: float, step: float, nodes: int) -> Tensor:
        """See `histogram.node_positions`."""
        return place(fields, scale, origin, step, nodes - 1)

    def changes(self, position: Tensor, diagonal: bool) -> Tensor:
        """See `Backend.changes`."""
        return component_changes(position, diagonal)

    def histogram(
        self, position: Tensor, changes: Tensor, nodes: int, touched: bool, degrees: bool
    ) -> Tensor:
        """See `histogram.soft_histogram`."""
        return histogram(position, changes, nodes, touched, degrees)


@torch.library.custom_op("emuloss::node_positions", mutates_args=(), device_types="cpu")
def place(fields: Tensor, scale: float, origin: float, step: float, top: int) -> Tensor:
    """Places of values on the axis of nodes, by a kernel."""
    values = fields.detach().contiguous().numpy()
    result = np.empty_like(values)

    def work(batch: slice) -> None:
        place_kernel(values[batch].ravel(), scale, origin, step, top, result[batch].ravel())

    in_threads(work, len(values), values.size)
    return torch.from_numpy(result)


@place.register_fake
def _(fields, scale, origin, step, top):
    return torch.empty_like(fields, memory_format=torch.contiguous_format)


@torch.library.custom_op("emuloss::node_positions_backward", mutates_args=(), device_types="cpu")
def place_backward(
    fields: Tensor, gradient: Tensor, scale: float, origin: float, step: float, top: int
) -> Tensor:
    """Gradient of the places, handed to the values."""
    values, slopes = (t.detach().contiguous().numpy() for t in (fields, gradient))
    result = np.empty_like(values)

    def route(batch: slice) -> None:
        given, wanted = slopes[batch].ravel(), result[batch].ravel()
        place_backward_kernel(values[batch].ravel(), given, scale, origin, step, top, wanted)

    in_threads(route, len(values), values.size)
    return torch.from_numpy(result)


@place_backward.register_fake
def _(fields, gradient, scale, origin, step, top):
    return torch.empty_like(fields, memory_format=torch.contiguous_format)


def _setup_place(ctx, inputs, output):
    fields, *ctx.axis = inputs
    ctx.save_for_backward(fields)


def _backward_place(ctx, gradient):
    (fields,) = ctx.saved_tensors
    return place_backward(fields, gradient, *ctx.axis), None, None, None, None


place.register_autograd(_backward_place, setup_context=_setup_place)


def _setup_place_backward(ctx, inputs, output):
    fields, gradient, *ctx.axis = inputs
    ctx.save_for_backward(fields, gradient)


def _second_backward_place(ctx, direction):
    """The slope of the places is diagonal, 1/(step sqrt(x^2 + scale^2)): its derivative is elementary."""
    fields, gradient = ctx.saved_tensors
    scale = ctx.axis[0]
    along = place_backward(fields, direction, *ctx.axis)
    bent = -along * gradient * fields / (fields.square() + scale**2)
    return bent, along, None, None, None, None


place_backward.register_autograd(_second_backward_place, setup_context=_setup_place_backward)


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
    result = np.empty_like(fields)

    def route(batch: slice) -> None:
        backward_kernel(fields[batch], weights[batch], slopes[batch], touched, _used(degrees), result[batch])

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


def _setup_backward_context(ctx, inputs, output):
    position, changes, gradient, ctx.touched, ctx.degrees = inputs
    ctx.nodes = gradient.shape[2]
    ctx.save_for_backward(position, changes)


def _second_backward(ctx, direction):
    """The backward is linear in the gradient and, between nodes and ties, constant in the position."""
    position, changes = ctx.saved_tensors
    along = histogram_tangent(position, changes, direction, ctx.nodes, ctx.touched, ctx.degrees)
    return None, None, along, None, None


histogram_backward.register_autograd(_second_backward, setup_context=_setup_backward_context)


BACKENDS.register("cpu")(Cpu())
