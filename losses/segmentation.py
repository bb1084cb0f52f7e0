"""A loss of topology and shape for segmentation: probabilities as fields, with thresholds in (0, 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..emulators.fields import check_tensor
from ..emulators.relaxations import relaxation
from ..emulators.relaxations.relaxation import COLD, HOT
from ..emulators.transforms import traced
from ..errors import ArgumentError
from ..foundation.arguments import as_choice, as_flag
from ..metrics import Metric, Minkowski
from .loss import SurrogateLoss
from .shapes import EACH, check_planes

THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Probabilities at which masks of predictions are compared with those of targets."""


class SegmentationLoss(nn.Module):
    """How far segmented classes are from their targets in components and holes, or by another metric.

    The probability of each class is a field, whose excursion sets are the masks at each threshold: all of
    them shall have the components and holes of the target's mask. It says nothing of where these lie: train
    on it beside a loss of pixels, such as cross entropy, see `emuloss.Combined`.

    Args:
        metric: one of one field or of two that has a relaxation, with thresholds in (0, 1). Default:
            components and holes of 8-connected masks at probabilities 0.1, 0.3, 0.5, 0.7 and 0.9.
        activation: what turns predictions into probabilities: "sigmoid", "softmax" over classes, or None
            where they are probabilities already.
        include_background: whether the first of several classes counts. Default: not with a softmax; else it
            has to be said. A single class is a foreground, and always counts.
        temperature: how soft it is, relative to the data, see `emuloss.relax`; default: 0.05.
        forward: "surrogate", or "exact": exact values with the gradient of the soft ones.
        weights: weight of each output by name; an output left out weighs 1.
        reduction: "mean" or "sum" over fields and classes, or "none": (N, K) of the K classes that count.

    Raises:
        ArgumentError: an argument out of range, or thresholds beyond (0, 1).
    """

    @torch.inference_mode(False)
    def __init__(
        self,
        metric: Metric | None = None,
        *,
        activation: str | None = None,
        include_background: bool | None = None,
        temperature: float | None = None,
        forward: str = "surrogate",
        weights: Mapping[str, float] | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        if metric is None:
            metric = Minkowski(THRESHOLDS, outputs=("components", "holes"), connectivity=2)
        given = {} if temperature is None else {"temperature": temperature}
        surrogate = relaxation(metric, **given)
        if not all(0 < u < 1 for u in metric.thresholds):
            raise ArgumentError(
                "thresholds of a segmentation are probabilities in (0, 1), "
                f"got {', '.join(f'{u:g}' for u in metric.thresholds)}"
            )
        if activation is not None:
            as_choice("activation", activation, ("sigmoid", "softmax"))
        if include_background is not None:
            as_flag("include_background", include_background)
        self.activation, self.include_background = activation, include_background
        self.loss = SurrogateLoss(
            surrogate, forward=forward, weights=weights, reduction=reduction, channels=EACH
        )
        self.loss.watch.left = 0  # a class may be absent from many batches, and so have no gradient
        self._looked = False

    def anneal(self, progress: float, start: float = HOT, end: float = COLD) -> None:
        """Set the temperature for a moment of the training, see `SurrogateLoss.anneal`."""
        self.loss.anneal(progress, start, end)

    def forward(self, prediction: Tensor, target: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """The loss.

        Args:
            prediction: (N, C, H, W), logits of the activation, or probabilities where there is none. A single
                class may be (N, H, W).
            target: classes as whole numbers, (N, H, W) or (N, 1, H, W); or 0 and 1 for each class, in the
                prediction's shape. It gets no gradient.
            mask: (N, H, W) or (N, 1, H, W), boolean, True where pixels were labelled.

        Returns:
            A scalar, or (N, K) with reduction "none"; float32 or better.

        Raises:
            ArgumentError: another type or shape; in the first batch also values that are no probabilities, or
                no labels.
        """
        check_tensor("prediction", prediction)
        check_planes(prediction)
        if prediction.ndim == 3:
            prediction = prediction[:, None]
        if prediction.ndim != 4 or 0 in prediction.shape[1:]:
            raise ArgumentError(
                "prediction must have shape (N, C, H, W), or (N, H, W) of one class, "
                f"got {tuple(prediction.shape)}"
            )
        first = self._first_class(prediction.shape[1])
        if mask is not None:
            mask = self._mask(prediction, mask)
        labels = self._labels(prediction, target, mask)
        probabilities = self._probabilities(prediction)
        if not self._looked and not traced(prediction):
            self._look(probabilities, labels)
        counted = None if mask is None else mask[:, first:]
        found: Tensor = self.loss(probabilities[:, first:], labels[:, first:], mask=counted)
        return found

    if TYPE_CHECKING:
        __call__ = forward  # which torch gives no type

    def _first_class(self, classes: int) -> int:
        """Number of the first class that counts."""
        if classes == 1:
            if self.activation == "softmax":
                raise ArgumentError("a softmax over one class is 1 everywhere; take activation='sigmoid'")
            if self.include_background is False:
                raise ArgumentError(
                    "a prediction of one class has no background: include_background=False would leave "
                    "nothing; leave it out"
                )
            return 0
        if self.include_background is None and self.activation != "softmax":
            raise ArgumentError(
                f"prediction has {classes} classes: say include_background=True where all of them count, or "
                "False where the first is the background"
            )
        return 0 if self.include_background else 1

    def _probabilities(self, prediction: Tensor) -> Tensor:
        if self.activation is None:
            return prediction
        prediction = prediction if prediction.dtype == torch.float64 else prediction.float()
        return prediction.sigmoid() if self.activation == "sigmoid" else prediction.softmax(1)

    def _labels(self, prediction: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
        """Targets as 0 and 1 for each class, in the prediction's shape; 0 where a mask leaves them out."""
        shape = tuple(prediction.shape)
        if not isinstance(target, Tensor):
            raise ArgumentError(f"target must be a torch tensor, got {type(target).__name__}")
        whole = not target.is_floating_point() and not target.is_complex()
        flat = target[:, 0] if target.ndim == 4 and target.shape[1] == 1 else target
        single = flat.ndim == 3 and flat.shape == (shape[0], *shape[2:])
        if tuple(target.shape) == shape or (single and shape[1] == 1):
            found = target.reshape(shape)
            found = found if mask is None else found.where(mask, found.new_zeros(()))
        elif single and whole:
            flat = flat if mask is None else flat.where(mask[:, 0], flat.new_zeros(()))
            if not self._looked and flat.numel() and not (flat.min() >= 0 and flat.max() < shape[1]):
                raise ArgumentError(
                    f"target has classes from {int(flat.min())} to {int(flat.max())}, the prediction "
                    f"{shape[1]}; leave others out by mask=, and number the rest from 0"
                )
            classes = torch.arange(shape[1], device=flat.device).view(-1, 1, 1)
            found = flat[:, None] == classes
        else:
            raise ArgumentError(
                f"target must be whole numbers (N, H, W) or labels of the prediction's shape {shape}, got "
                f"{target.dtype} {tuple(target.shape)}" + ("; use target.long()" if single else "")
            )
        return found.detach().to(prediction.dtype if prediction.dtype == torch.float64 else torch.float32)

    def _look(self, probabilities: Tensor, labels: Tensor) -> None:
        """Raise ArgumentError where the first batch holds no probabilities, or no labels."""
        self._looked = True
        low, high = probabilities.detach().aminmax() if probabilities.numel() else (0.0, 0.0)
        if low < 0 or high > 1:
            self._looked = False
            raise ArgumentError(
                f"prediction must be probabilities in [0, 1], got {float(low):g} to {float(high):g}; "
                "of logits say activation='sigmoid' or 'softmax'"
            )
        if not ((labels == 0) | (labels == 1) | labels.isnan()).all():
            self._looked = False
            raise ArgumentError(
                "target must be 0 or 1 for each class; is the order of arguments loss(prediction, target)?"
            )

    def _mask(self, prediction: Tensor, mask: Tensor) -> Tensor:
        """A mask of pixels in the prediction's shape."""
        n, _, *size = prediction.shape
        if not isinstance(mask, Tensor) or tuple(mask.shape) not in ((n, *size), (n, 1, *size)):
            got = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
            raise ArgumentError(f"mask must have shape {(n, *size)} or {(n, 1, *size)}, got {got}")
        if mask.dtype != torch.bool:
            raise ArgumentError(f"mask must be a boolean tensor, True where labelled, got {mask.dtype}")
        return mask.reshape(n, 1, *size).expand(prediction.shape)

    def extra_repr(self) -> str:
        """What it takes."""
        return f"activation: {self.activation}\ninclude_background: {self.include_background}"
