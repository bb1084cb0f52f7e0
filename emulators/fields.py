"""What every surrogate does to a batch of fields before anything else."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import ArgumentError

_LARGEST = 1e30
"""Values beyond, infinities too, count as this: arithmetic with it stays finite."""


def as_batch(fields: Tensor, dry: float = 0.0) -> Tensor:
    """Validate fields and drop the channel axis.

    Args:
        fields: (N, H, W) or (N, 1, H, W), floating point, physical units.
        dry: value that stands for pixels that were not measured; it should lie below every threshold.

    Returns:
        (N, H, W), float32 or float64; pixels that were not measured (NaN) are dry and get no
        gradient.

    Raises:
        ArgumentError: another type, shape or dtype.
    """
    if not isinstance(fields, Tensor):
        raise ArgumentError(
            f"fields must be a torch tensor, got {type(fields).__name__}; use torch.from_numpy"
        )
    if fields.ndim == 4 and fields.shape[1] == 1:
        fields = fields[:, 0]
    if fields.ndim != 3 or 0 in fields.shape[1:]:
        raise ArgumentError(f"fields must have shape (N, H, W) or (N, 1, H, W), got {tuple(fields.shape)}")
    if not fields.is_floating_point():
        raise ArgumentError(f"fields must be floating point, got {fields.dtype}; use .float()")
    if fields.dtype != torch.float64:
        fields = fields.float()
    return torch.where(torch.isnan(fields), dry, fields).clamp(-_LARGEST, _LARGEST)


def as_pairs(pairs: Tensor, dry: float = 0.0) -> Tensor:
    """Validate pairs of prediction and observation.

    Args:
        pairs: (N, 2, H, W), floating point, physical units; a pixel that is NaN in either field was not
            measured in both.
        dry: value that stands for pixels that were not measured; it should lie below every threshold.

    Returns:
        (N, 2, H, W), float32 or float64; pixels that were not measured are dry and get no gradient.

    Raises:
        ArgumentError: another type, shape or dtype.
    """
    if not isinstance(pairs, Tensor) or pairs.ndim != 4 or pairs.shape[1] != 2:
        got = tuple(pairs.shape) if isinstance(pairs, Tensor) else type(pairs).__name__
        raise ArgumentError(
            f"pairs of prediction and observation must be a torch tensor of shape (N, 2, H, W), got {got}"
        )
    missing = torch.isnan(pairs).any(1, keepdim=True).expand_as(pairs)
    flat = torch.where(missing, math.nan, pairs).flatten(0, 1)
    return as_batch(flat, dry).unflatten(0, (len(pairs), 2))


def stacked(predictions: Tensor, observations: Tensor) -> Tensor:
    """Pairs (N, 2, H, W) of predictions and observations, (N, H, W) or (N, 1, H, W) each.

    Raises:
        ArgumentError: other shapes, or two that differ.
    """
    shape = tuple(predictions.shape)
    fits = len(shape) == 3 or (len(shape) == 4 and shape[1] == 1)
    if not fits or tuple(observations.shape) != shape:
        raise ArgumentError(
            "prediction and observation must have one shape (N, H, W) or (N, 1, H, W), "
            f"got {shape} and {tuple(observations.shape)}"
        )
    if len(shape) == 3:
        return torch.stack([predictions, observations], dim=1)
    return torch.cat([predictions, observations], dim=1)


def check_shape(shape: tuple[int, int], stride: int) -> None:
    """Raise ArgumentError if fields of this shape (H, W) are smaller than a network's stride."""
    if min(shape) < stride:
        raise ArgumentError(
            f"fields must be at least {stride} x {stride} pixels (the network's stride), "
            f"got {shape[0]} x {shape[1]}"
        )


def validated(arity: int, fields: Tensor, dry: float = 0.0) -> Tensor:
    """Validate what a metric of that arity takes: `as_batch` of fields, or `as_pairs` of pairs."""
    return as_batch(fields, dry) if arity == 1 else as_pairs(fields, dry)
