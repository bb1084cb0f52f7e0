"""Gradients that a surrogate hands back to its fields, along directions of its curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from .curves import log_curves


def directions(shape: tuple[int, int, int], rng: np.random.Generator) -> Tensor:
    """Random directions (N, C, Q) of curves, of unit length and uniform on the sphere; float32."""
    drawn = rng.standard_normal(shape)
    return torch.from_numpy(drawn / np.linalg.norm(drawn, axis=(1, 2), keepdims=True)).float()


def pulled_back(
    surrogate: Callable[[Tensor], Tensor],
    fields: Tensor,
    along: Tensor,
    scales: Sequence[float] = (),
    *,
    differentiable: bool = False,
) -> Tensor:
    """Gradients J^T v in the pixels of a surrogate's log outputs along given directions.

    Args:
        surrogate: fields (N, H, W) -> curves (N, C, Q), each field by itself.
        fields: (N, H, W), or pairs (N, 2, H, W), physical units; pixels that are NaN get no gradient.
        along: the directions v (N, C, Q).
        scales: sizes of the outputs (`Metric.scales`); empty: all 1.
        differentiable: whether the result can be differentiated in the surrogate's weights.

    Returns:
        As fields; log units per unit of the field.
    """
    with torch.enable_grad():
        fields = fields.detach().requires_grad_()
        logs = log_curves(surrogate(fields), scales)
        (gradients,) = torch.autograd.grad((logs * along).sum(), fields, create_graph=differentiable)
    return gradients


def slopes(gradients: Tensor) -> Tensor:
    """Slopes ||J^T v|| (N,) of gradients (N, H, W)."""
    return torch.linalg.vector_norm(gradients, dim=(1, 2))
