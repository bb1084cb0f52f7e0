"""What a loss is given: checked, and which of its pixels count."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..emulators.fields import check_fields, check_tensor
from ..emulators.transforms import transformed
from ..errors import ArgumentError
from ..metrics import Metric

MISSING = ("target", "either")
"""What may say that a pixel was not measured: the target, or prediction and target alike."""


def check_inputs(
    metric: Metric,
    prediction: Tensor,
    target: Tensor | None,
    target_curves: Tensor | None,
    mask: Tensor | None,
    device: torch.device,
) -> None:
    """Raise ArgumentError for what a loss on a device cannot compare; arguments as in `SurrogateLoss`."""
    check_fields("prediction", prediction)
    if target_curves is not None:
        check_tensor("target_curves", target_curves)
    if metric.arity == 2:
        if target is None or target_curves is not None:
            raise ArgumentError(f"the loss of {metric.name!r} needs a target, and no target_curves")
    elif (target is None) == (target_curves is None):
        found = "neither" if target is None else "both; leave out one"
        raise ArgumentError(f"the loss needs either target or target_curves, got {found}")
    if target is not None:
        check_tensor("target", target)
        check_same_shape("target", target, prediction)
    if mask is not None:
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
            got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
            raise ArgumentError(
                f"mask must be a boolean tensor, True where measured, got {got}; compare, as in weights > 0"
            )
        check_same_shape("mask", mask, prediction)
    named = {"prediction": prediction, "target": target, "target_curves": target_curves, "mask": mask}
    for name, value in named.items():
        if value is not None and value.device != device:
            remedy = "loss.to" if name == "prediction" else f"{name}.to"
            where = value.device if name == "prediction" else device
            raise ArgumentError(
                f"{name} is on {value.device}, the loss on {device}; use {remedy}({str(where)!r})"
            )


def check_same_shape(name: str, value: Tensor, prediction: Tensor) -> None:
    """Raise ArgumentError for a tensor that has not the shape of the prediction."""
    if value.shape != prediction.shape:
        one_channel = {value.ndim, prediction.ndim} == {3, 4} and value.numel() == prediction.numel()
        remedy = f"; use {name}.reshape(prediction.shape)" if one_channel else ""
        raise ArgumentError(
            f"{name} must have the prediction's shape {tuple(prediction.shape)}, "
            f"got {tuple(value.shape)}{remedy}"
        )


def unmeasured(prediction: Tensor, target: Tensor | None, mask: Tensor | None, missing: str) -> Tensor | None:
    """Which pixels were not measured, of the prediction's shape; None where nothing can say so."""
    told = [] if target is None else [torch.isnan(target)]
    if missing == "either":
        told.append(torch.isnan(prediction))
    if mask is not None:
        told.append(~mask)
    found = None
    for each in told:
        found = each if found is None else found | each
    return found


def countable(prediction: Tensor, target: Tensor | None, missing: Tensor | None) -> Tensor:
    """A prediction as an exact metric takes it, without gradient.

    Where it is not finite though the pixel was measured, its loss is not finite either, whatever else: there
    it is the target, or 0, for functions that bear no such values.
    """
    prediction = prediction.detach()
    sound = prediction.isfinite()
    if missing is not None:
        sound = sound | missing
    return prediction.where(sound, prediction.new_zeros(()) if target is None else target.to(prediction))


def broken(prediction: Tensor, missing: Tensor | None) -> Tensor:
    """(N, 1), NaN for the fields of a prediction that are not finite where they should be, 0 for others.

    Its gradient is NaN where the prediction is not finite, and 0 elsewhere: who looks at gradients, as
    scalers of half precision do, is told as well as who looks at the loss.
    """
    zeros = prediction.detach() * 0
    if missing is not None:
        zeros = zeros.masked_fill(missing, 0.0)
    if transformed(prediction):
        return (prediction * zeros).flatten(1).sum(1, keepdim=True)
    return _Told.apply(prediction, zeros)


class _Told(torch.autograd.Function):
    """Sums of zeros, some of which are NaN, that are the gradient, too, whatever they are multiplied by."""

    @staticmethod
    def forward(ctx: Any, prediction: Tensor, zeros: Tensor) -> Tensor:
        ctx.save_for_backward(zeros)
        return zeros.flatten(1).sum(1, keepdim=True)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (zeros,) = ctx.saved_tensors
        return zeros, None
