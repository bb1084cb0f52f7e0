"""What every surrogate does to a batch of fields before anything else."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ArgumentError

_LARGEST = 1e30
"""Values beyond, infinities too, count as this: arithmetic with it stays finite."""
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_RESHAPED = {2: "; use {name}[None]", 4: "; use {name}.flatten(0, 1)", 5: "; use {name}.flatten(0, 2)"}
"""Remedies for shapes of other lengths."""


def check_tensor(name: str, value: object) -> None:
    """Raise ArgumentError for what is no dense tensor of real numbers in floating point.

    Args:
        name: of the argument, for the message.
        value: what was given for it.
    """
    if isinstance(value, torch.fx.Proxy) or (torch.jit.is_tracing() and not torch.onnx.is_in_onnx_export()):
        tracer = "torch.fx" if isinstance(value, torch.fx.Proxy) else "torch.jit.trace"
        raise ArgumentError(
            f"{name} is traced by {tracer}, which would keep the size of these fields; take torch.export"
        )
    if not isinstance(value, Tensor):
        remedy = "; use torch.from_numpy" if hasattr(value, "__array__") else ""
        raise ArgumentError(f"{name} must be a torch tensor, got {type(value).__name__}{remedy}")
    if value.layout != torch.strided or value.is_nested:
        raise ArgumentError(f"{name} must be a dense tensor, got layout {value.layout}; use .to_dense()")
    if value.dtype not in _DTYPES:
        remedy = ".abs()" if value.is_complex() else ".dequantize()" if value.is_quantized else ".float()"
        raise ArgumentError(f"{name} must be floating point, got {value.dtype}; use {remedy}")


def check_fields(name: str, fields: Tensor) -> None:
    """Raise ArgumentError for what is no batch of fields (N, H, W) or (N, 1, H, W)."""
    check_tensor(name, fields)
    fits = fields.ndim == 3 or (fields.ndim == 4 and fields.shape[1] == 1)
    if not fits or 0 in fields.shape[1:]:
        remedy = "" if 0 in fields.shape[1:] else _RESHAPED.get(fields.ndim, "")
        raise ArgumentError(
            f"{name} must have shape (N, H, W) or (N, 1, H, W), got {tuple(fields.shape)}"
            + remedy.format(name=name)
        )


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
    check_fields("fields", fields)
    if fields.ndim == 4:
        fields = fields.squeeze(1)
    return _held(fields, torch.isnan(fields), dry)


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
    check_tensor("pairs", pairs)
    return _held(pairs, torch.isnan(pairs).any(1, keepdim=True), dry)


def _held(values: Tensor, missing: Tensor, dry: float) -> Tensor:
    """Values within what arithmetic stays finite with, in single precision or better; dry where missing."""
    if values.dtype != torch.float64:
        values = values.float()
    # Unlike clamp, it hands gradients down in one step.
    held = F.hardtanh(values, -_LARGEST, _LARGEST)
    return held.masked_fill(missing, min(max(dry, -_LARGEST), _LARGEST))


def stacked(predictions: Tensor, observations: Tensor) -> Tensor:
    """Pairs (N, 2, H, W) of predictions and observations, (N, H, W) or (N, 1, H, W) each.

    Raises:
        ArgumentError: no tensors, other shapes, or two that differ.
    """
    check_fields("predictions", predictions)
    check_fields("observations", observations)
    if observations.shape != predictions.shape:
        raise ArgumentError(
            "predictions and observations must have one shape, "
            f"got {tuple(predictions.shape)} and {tuple(observations.shape)}"
        )
    if predictions.ndim == 3:
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
