"""Group normalisation followed by GELU, at full speed in channels-last memory on CPUs.

PyTorch's backward pass of group normalisation is up to 27 times slower on channels-last tensors of
few channels than on contiguous ones, and its GELU twice as slow, while bfloat16 convolutions are
faster there by up to half. The same arithmetic written for that layout lets all of them be fast.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..transforms import transformed


class NormGelu(nn.GroupNorm):
    """gelu(group_norm(x)); arguments of `torch.nn.GroupNorm`."""

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same shape (N, C, H, W) and memory format."""
        if x.device.type != "cpu" or x.is_contiguous() or not _is_channels_last(x):
            return F.gelu(super().forward(x))
        return _NormGelu.apply(x, self.weight, self.bias, self.num_groups, self.eps)


def gelu(x: Tensor) -> Tensor:
    """GELU of features (N, C, H, W); with channels last, PyTorch's runs twice as fast along them."""
    return F.gelu(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) if _is_channels_last(x) else F.gelu(x)


def _is_channels_last(x: Tensor) -> bool:
    # What torch.func works on has no layout to ask for, and knows none of our own gradients.
    return not transformed(x) and x.is_contiguous(memory_format=torch.channels_last)


class _NormGelu(torch.autograd.Function):
    """Both, with a backward pass out of sums and products along whole rows of pixels.

    Within, channels are the last dimension of contiguous tensors, which GELU runs through twice as fast.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        number, channels, rows, columns = x.shape
        normalised, mean, inverse = torch.native_group_norm(
            x, weight, bias, number, channels, rows * columns, groups, eps
        )
        ctx.save_for_backward(x, weight, bias, mean, inverse)
        ctx.groups, ctx.eps = groups, eps
        torch.ops.aten.gelu_(normalised.permute(0, 2, 3, 1))
        return normalised

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, inverse = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again, which needs mean and inverse of x
            y = F.gelu(F.group_norm(x, ctx.groups, weight.to(x.dtype), bias.to(x.dtype), ctx.eps))
            wanted = [
                part for part, needed in zip((x, weight, bias), ctx.needs_input_grad, strict=False) if needed
            ]
            found = iter(torch.autograd.grad(y, wanted, gradient, create_graph=True))
            return (*(next(found) if needed else None for needed in ctx.needs_input_grad[:3]), None, None)
        number, channels, rows, columns = x.shape
        by_group = number, ctx.groups, channels // ctx.groups
        wide = torch.promote_types(x.dtype, torch.float32)

        def lines(values: Tensor) -> Tensor:
            """(N, H, W C) of (N, C, H, W): channels alone may be too few to run along at full speed."""
            return values.permute(0, 2, 3, 1).reshape(number, rows, columns * channels)

        def summed(values: Tensor) -> Tensor:
            """Sums over the pixels of lines, by group."""
            return values.view(number, rows * columns, channels).sum(1).to(wide).view(by_group)

        def along_lines(values: Tensor) -> Tensor:
            """(N, 1, W C) of values by group."""
            values = values.to(x.dtype).expand(by_group).reshape(number, 1, 1, channels)
            return values.expand(-1, -1, columns, -1).reshape(number, 1, columns * channels)

        # Computed once more rather than kept: less memory, at no cost in time that could be measured.
        normalised, _, _ = torch.native_group_norm(
            x, weight, bias, number, channels, rows * columns, ctx.groups, ctx.eps
        )
        pixels, in_x = lines(x), lines(normalised)
        g = torch.ops.aten.gelu_backward(lines(gradient), in_x)
        torch.mul(g, pixels, out=in_x)
        mean, inverse = (part.to(wide).unsqueeze(2) for part in (mean, inverse))
        weights = weight.to(wide).view(by_group[1:])
        # With z = (x - mean) inverse: dL/dx = inverse (w g - <w g> - z <w g z>), <> means over the group.
        in_bias = summed(g)
        in_weight = (summed(in_x) - in_bias * mean) * inverse
        size = by_group[2] * rows * columns
        slope_1 = (weights * in_bias).sum(2, keepdim=True) / size
        slope_z = (weights * in_weight).sum(2, keepdim=True) / size
        per_x = -slope_z * inverse**2
        per_1 = -per_x * mean - slope_1 * inverse
        torch.addcmul(along_lines(per_1), pixels, along_lines(per_x), out=in_x)
        in_x.addcmul_(g, along_lines(weights * inverse))
        return (
            in_x.view(number, rows, columns, channels).permute(0, 3, 1, 2),
            in_weight.sum(0).flatten().to(weight.dtype),
            in_bias.sum(0).flatten().to(bias.dtype),
            None,
            None,
        )
