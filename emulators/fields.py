"""What every surrogate does to a batch of fields before anything else."""

from __future__ import annotations

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


def check_shape(shape: tuple[int, int], stride: int) -> None:
    """Raise ArgumentError if fields of this shape (H, W) are smaller than a network's stride."""
    if min(shape) < stride:
        raise ArgumentError(
            f"fields must be at least {stride} x {stride} pixels (the network's stride), "
            f"got {shape[0]} x {shape[1]}"
        )
