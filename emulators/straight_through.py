"""Values from one place with the gradient of another."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .transforms import transformed


def straight_through(curves: Tensor, values: Tensor) -> Tensor:
    """Values, to the last bit, with the gradient of curves of the same shape."""
    values = values.to(curves)
    if transformed(curves):
        return values + (curves - curves.detach())
    return _StraightThrough.apply(curves, values)


def inward(x: Tensor, low: float) -> Tensor:
    """Values clamped from below; there the gradient is that at the bound, where descent leads back."""
    return x if transformed(x) else _Inward.apply(x, x.detach().clamp(min=low))


def values_through(values: Tensor, left: Tensor, x: Tensor, right: Tensor) -> Tensor:
    """Values (N, C, Q) with the gradient of left @ x @ right, which is not computed.

    Args:
        values: (N, C, Q).
        left: (C, R), float64, without gradient.
        x: (N, R, K), finite.
        right: (K, Q), likewise.
    """
    if transformed(x):
        return straight_through((left @ x.double() @ right).to(values), values)
    return _ValuesThrough.apply(values, left, x, right)


class _StraightThrough(torch.autograd.Function):
    """Computes nothing, one way or the other."""

    @staticmethod
    def forward(ctx: Any, curves: Tensor, values: Tensor) -> Tensor:
        return values.clone()  # a view could not be changed in place

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class _Inward(torch.autograd.Function):
    """What lies below is pulled back, and pushed no further."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, edge: Tensor) -> Tensor:
        ctx.save_for_backward(x < edge)
        return edge.clone()  # a view could not be changed in place

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (below,) = ctx.saved_tensors
        return gradient.masked_fill(below & (gradient > 0), 0.0), None


class _ValuesThrough(torch.autograd.Function):
    """Computes the gradient alone, in double precision."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, left: Tensor, x: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(left, right)
        ctx.dtype = x.dtype
        return values.clone()  # a view could not be changed in place

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor, None]:
        left, right = ctx.saved_tensors
        return None, None, (per_field(left.T, gradient.double()) @ right.T).to(ctx.dtype), None


def per_field(left: Tensor, x: Tensor) -> Tensor:
    """Products (N, C, Q) of a matrix (C, R) and those of each field, (N, R, Q), as of each field alone."""
    return torch.bmm(left.expand(x.shape[0], -1, -1), x)
