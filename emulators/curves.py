"""Arithmetic of curves, in float32 or better: the signed log scale and the distance between curves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def signed_log1p(x: Tensor) -> Tensor:
    """sign(x) log(1 + |x|): linear near 0, where its slope is 1, logarithmic far from it. Any shape."""
    sign = _sign(x)
    return sign * torch.log1p(sign * x)


def signed_expm1(x: Tensor) -> Tensor:
    """Inverse of `signed_log1p`. Any shape."""
    sign = _sign(x)
    return sign * torch.expm1(sign * x)


def _sign(x: Tensor) -> Tensor:
    """1 or -1, never 0: the slope of sign * x, unlike that of abs or clamp, is not lost at x = 0."""
    return torch.where(x >= 0, 1.0, -1.0)


def trapezoid_weights(levels: Sequence[float]) -> Tensor:
    """Weights (Q,) of the trapezoidal rule over these levels; 1 where there is one level only."""
    if len(levels) == 1:
        return torch.ones(1)
    steps = torch.tensor(levels, dtype=torch.float64).diff()
    weights = torch.zeros(len(levels), dtype=torch.float64)
    weights[:-1] += steps / 2
    weights[1:] += steps / 2
    return weights.float()


class CurveDistance(nn.Module):
    """L1 distance between signed-log1p curves, integrated over the threshold axis.

    d_c = integral of |slog(a_c) - slog(b_c)| over the levels, by the trapezoidal rule: the
    Minkowski image distance of Quarenghi, Cotsakis and Beucler (arXiv 2604.11422).

    Args:
        levels: coordinates of the Q thresholds on the axis of integration.
    """

    weights: Tensor

    def __init__(self, levels: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("weights", trapezoid_weights(levels), persistent=False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Distances (N, C) between curves (N, C, Q) in physical units."""
        difference = signed_log1p(first) - signed_log1p(second)
        return (difference.abs() * self.weights.to(difference.dtype)).sum(-1)
