"""The soft histogram's operators for torch: their derivatives, and what computes them on which device."""

from __future__ import annotations

import torch
from torch import Tensor

from ...metrics.kernels.rows import ROWS
from ..transforms import transformed
from . import cpu
from .backend import BACKENDS, Backend, compiles_for
from .changes import component_changes


class Compiled(Backend):
    """Compiled kernels: by numba on the CPU, by Triton on CUDA devices."""

    preference = 10

    def suits(self, fields: Tensor) -> bool:
        """On these devices, but in an export or under the transforms of torch.func."""
        # ONNX and torch.func know torch's own operators alone.
        if torch.onnx.is_in_onnx_export() or transformed(fields):
            return False
        kind = fields.device.type
        return kind == "cpu" or (kind == "cuda" and compiles_for(fields.device))

    def positions(self, fields: Tensor, axis: Tensor, nodes: int) -> Tensor:
        """See `histogram.node_positions`."""
        return place(fields, axis, nodes - 3)

    def reached(self, fields: Tensor, thresholds: Tensor) -> Tensor:
        """See `histogram.thresholds_reached`."""
        return reached(fields, thresholds)

    def changes(self, position: Tensor, diagonal: bool, wraps: tuple[bool, bool]) -> Tensor:
        """See `Backend.changes`."""
        return component_changes(position, diagonal, *wraps)

    def counts(self, reached: Tensor, changes: Tensor, count: int, touched: bool, degrees: bool) -> Tensor:
        """See `histogram.counts_reached`."""
        return counts_reached(reached, changes, count, touched, degrees)

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
    """Places of values on the axis of nodes."""
    return cpu.place(fields, axis, top)


@place.register_kernel("cuda")
def _(fields, axis, top):
    from . import cuda

    return cuda.place(fields, axis, top)


@place.register_fake
def _(fields, axis, top):
    return torch.empty_like(fields, memory_format=torch.contiguous_format)


@torch.library.custom_op("emuloss::node_positions_backward", mutates_args=(), device_types="cpu")
def place_backward(fields: Tensor, gradient: Tensor, axis: Tensor, top: int) -> Tensor:
    """Gradient of the places, handed to the values."""
    return cpu.place_backward(fields, gradient, axis, top)


@place_backward.register_kernel("cuda")
def _(fields, gradient, axis, top):
    from . import cuda

    return cuda.place_backward(fields, gradient, axis, top)


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
    """Numbers of thresholds that values reach."""
    return cpu.reached(fields, thresholds)


@reached.register_kernel("cuda")
def _(fields, thresholds):
    from . import cuda

    return cuda.reached(fields, thresholds)


@reached.register_fake
def _(fields, thresholds):
    return torch.empty_like(fields, memory_format=torch.contiguous_format)


@torch.library.custom_op("emuloss::counts_reached", mutates_args=(), device_types="cpu")
def counts_reached(reached: Tensor, changes: Tensor, count: int, touched: bool, degrees: bool) -> Tensor:
    """Whole counts of what reaches thresholds."""
    return cpu.counts_reached(reached, changes, count, touched, degrees)


@counts_reached.register_kernel("cuda")
def _(reached, changes, count, touched, degrees):
    from . import cuda

    return cuda.counts_reached(reached, changes, count, touched, degrees)


@counts_reached.register_fake
def _(reached, changes, count, touched, degrees):
    return reached.new_empty((reached.shape[0], ROWS, count), dtype=torch.float64)


@torch.library.custom_op("emuloss::soft_histogram", mutates_args=(), device_types="cpu")
def histogram(position: Tensor, changes: Tensor, nodes: int, touched: bool, degrees: bool) -> Tensor:
    """The histogram."""
    return cpu.histogram(position, changes, nodes, touched, degrees)


@histogram.register_kernel("cuda")
def _(position, changes, nodes, touched, degrees):
    from . import cuda

    return cuda.histogram(position, changes, nodes, touched, degrees)


@histogram.register_fake
def _(position, changes, nodes, touched, degrees):
    return position.new_empty((position.shape[0], ROWS, nodes))


@torch.library.custom_op("emuloss::soft_histogram_backward", mutates_args=(), device_types="cpu")
def histogram_backward(
    position: Tensor, changes: Tensor, gradient: Tensor, touched: bool, degrees: bool
) -> Tensor:
    """Gradient of the histogram, handed to the positions."""
    return cpu.handed_down(position, changes, gradient, touched, degrees, bends=False)


@histogram_backward.register_kernel("cuda")
def _(position, changes, gradient, touched, degrees):
    from . import cuda

    return cuda.handed_down(position, changes, gradient, touched, degrees, bends=False)


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


@torch.library.custom_op("emuloss::soft_histogram_slopes", mutates_args=())
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
    return cpu.histogram_tangent(position, changes, direction, nodes, touched, degrees)


@histogram_tangent.register_kernel("cuda")
def _(position, changes, direction, nodes, touched, degrees):
    from . import cuda

    return cuda.histogram_tangent(position, changes, direction, nodes, touched, degrees)


@histogram_tangent.register_fake
def _(position, changes, direction, nodes, touched, degrees):
    return position.new_empty((position.shape[0], ROWS, nodes))


@torch.library.custom_op("emuloss::soft_histogram_bends", mutates_args=(), device_types="cpu")
def histogram_bends(
    position: Tensor, changes: Tensor, gradient: Tensor, touched: bool, degrees: bool
) -> Tensor:
    """Derivative of the histogram's backward in the positions, which is diagonal."""
    return cpu.handed_down(position, changes, gradient, touched, degrees, bends=True)


@histogram_bends.register_kernel("cuda")
def _(position, changes, gradient, touched, degrees):
    from . import cuda

    return cuda.handed_down(position, changes, gradient, touched, degrees, bends=True)


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


BACKENDS.register("compiled")(Compiled())
