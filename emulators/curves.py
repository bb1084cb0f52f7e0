"""Arithmetic of curves, in float32 or better: the signed log scale and the distance between curves."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .transforms import transformed

_DECADES = 1.5
"""Decades that the sizes of labels have to span for a logarithmic scale."""
_SIGNED = 0.05
"""Share of the rarer sign from which on an output takes either."""


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """A context without autocast, for arithmetic with a tensor."""
    kind = x.device.type
    # Devices without values know no autocast; asking torch which do would break a compiled graph in two.
    return nullcontext() if kind == "meta" else torch.autocast(kind, enabled=False)


def signed_log1p(x: Tensor) -> Tensor:
    """sign(x) log(1 + |x|): linear near 0, where its slope is 1, logarithmic far from it. Any shape."""
    if transformed(x) or torch.onnx.is_in_onnx_export():
        sign = _sign(x)
        return sign * torch.log1p(sign * x)
    return _SignedLog.apply(x)


class _SignedLog(torch.autograd.Function):
    """The same in few steps."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.log1p(x.abs()).copysign(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient / (1 + x.abs())


def signed_expm1(x: Tensor) -> Tensor:
    """Inverse of `signed_log1p`. Any shape."""
    sign = _sign(x)
    return sign * torch.expm1(sign * x)


def _sign(x: Tensor) -> Tensor:
    """1 or -1, never 0: the slope of sign * x, unlike that of abs or clamp, is not lost at x = 0."""
    return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)


def trapezoid_weights(levels: Sequence[float]) -> Tensor:
    """Weights (Q,) of the trapezoidal rule over these levels; 1 where there is one level only."""
    if len(levels) == 1:
        return torch.ones(1, dtype=torch.float32)
    steps = torch.tensor(levels, dtype=torch.float64).diff()
    weights = torch.zeros(len(levels), dtype=torch.float64)
    weights[:-1] += steps / 2
    weights[1:] += steps / 2
    return weights.float()


def as_scales(scales: Sequence[float]) -> Tensor | None:
    """Sizes (C, 1) of outputs to divide curves (N, C, Q) by; None where all are 1, and nothing is to do."""
    if all(scale == 1 for scale in scales):
        return None
    return torch.tensor(scales, dtype=torch.float32)[:, None]


def log_curves(curves: Tensor, scales: Sequence[float]) -> Tensor:
    """Curves (N, C, Q) on the signed-log scale of their outputs, slog(x/s_c)."""
    sizes = as_scales(scales)
    return signed_log1p(curves if sizes is None else curves / sizes.to(curves))


def found_scales(curves: NDArray[np.float64]) -> tuple[float, ...]:
    """Sizes of outputs (`Metric.scales`) that suit labels.

    Where the middle nine tenths of an output's non-zero sizes lie within one and a half decades, its
    scale is linear: the size is the largest of these. Where they span more, it is logarithmic from the
    least of them on. Of an output that takes either sign the middle size stands for the least: that it
    comes close to 0 where it changes sign tells nothing. An output that is 0 throughout has size 1.

    Args:
        curves: (N, C, Q), exact.

    Returns:
        C positive numbers of two significant digits.
    """
    found = []
    for values in np.asarray(curves, np.float64).swapaxes(0, 1):
        told = values[(values != 0) & np.isfinite(values)]
        signed = len(told) and _SIGNED <= (told > 0).mean() <= 1 - _SIGNED
        least = 0.5 if signed else 0.05
        low, high = np.quantile(np.abs(told), (least, 0.95)) if len(told) else (1.0, 1.0)
        found.append(float(f"{low if high > low * 10**_DECADES else high:.2g}"))
    return tuple(found)
