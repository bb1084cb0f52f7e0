"""What a live surrogate is asked, and what it learns of it: predictions, and anchors beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...datasets import mixup
from ...metrics import Metric


class Heard(NamedTuple):
    """A batch that the loss was asked about, as it was given.

    Attributes:
        prediction: (N, H, W), NaN where nothing was measured.
        target: (N, H, W), likewise; None where its curves were given.
        curves: of the target, (N, C, Q), where they were given.
    """

    prediction: Tensor
    target: Tensor | None
    curves: Tensor | None

    @classmethod
    def of(cls, prediction: Tensor, target: Tensor | None, curves: Tensor | None) -> Heard:
        """Copies on the CPU, without gradient."""

        def fields(batch: Tensor) -> Tensor:
            flat = batch.detach().reshape(-1, *batch.shape[-2:])
            return flat.to("cpu", torch.float32, copy=True)  # the caller may change its own meanwhile

        return cls(
            fields(prediction),
            None if target is None else fields(target),
            None if curves is None else curves.detach().to("cpu", copy=True),
        )


class Asked(NamedTuple):
    """What is to be labelled.

    Attributes:
        fields: (K, H, W), or pairs (K, 2, H, W): predictions, then targets, unless they are in the pairs or
            not known, then anchors.
        predictions: number of predictions.
        targets: number of targets.
        kept: how many of the targets are anchors as well.
        reference: exact curves of the targets, where those were given in their place.
    """

    fields: Tensor
    predictions: int
    targets: int
    kept: int
    reference: Tensor | None


class Lesson(NamedTuple):
    """What is to be learnt.

    Attributes:
        fields: (K, H, W), or pairs (K, 2, H, W): predictions, and anchors.
        curves: exact, (K, C, Q).
        predictions: (N, ...), the first of the fields.
        exact: theirs, (N, C, Q).
        reference: exact curves of their targets, (N, C, Q); None of pairs.
    """

    fields: Tensor
    curves: Tensor
    predictions: Tensor
    exact: Tensor
    reference: Tensor | None


def as_asked(
    heard: Heard, metric: Metric, anchors: float | None, rng: np.random.Generator
) -> tuple[Asked | None, int]:
    """What of a batch can be labelled, and how many predictions cannot, as they are not finite.

    Args:
        heard: the batch.
        metric: of one field, or of pairs.
        anchors: number of anchors, as a share of the predictions. Half of them are targets, of pairs those
            of a target and itself; the others are mixed with their blurred, noisy selves. None: predictions
            alone are to be labelled.
        rng: decides how.
    """
    prediction, target, curves = heard
    broken = prediction.isinf() if target is None else ~prediction.isfinite() & ~target.isnan()
    whole = ~broken.flatten(1).any(1)
    left_out = int((~whole).sum())
    prediction, target = prediction[whole], None if target is None else target[whole]
    count = len(prediction)
    if not count:
        return None, left_out
    if target is None:
        return Asked(prediction, count, 0, 0, None if curves is None else curves[whole]), left_out
    if anchors is None:
        alone = prediction if metric.arity == 1 else torch.stack([prediction, target], 1)
        return Asked(alone, count, 0, 0, None), left_out
    kept = min(count, math.ceil(anchors / 2 * count))
    targets = target.roll(int(rng.integers(count)), 0)[:kept]
    mixed = torch.from_numpy(mixup(targets.numpy(), rng)) if kept else targets
    if metric.arity == 2:
        pairs = [(prediction, target), (targets, targets), (mixed, targets)]
        return Asked(torch.cat([torch.stack(pair, 1) for pair in pairs]), count, 0, 0, None), left_out
    return Asked(torch.cat([prediction, target, mixed]), count, count, kept, None), left_out


def lesson_of(asked: Asked, curves: Tensor) -> Lesson:
    """What there is to learn of labelled fields; curves (K, C, Q), exact."""
    count, end = asked.predictions, asked.predictions + asked.targets
    # Targets come before anchors: the first ones serve as such.
    chosen = [*range(count), *range(count, count + asked.kept), *range(end, len(asked.fields))]
    reference = curves[count:end] if asked.targets else asked.reference
    return Lesson(asked.fields[chosen], curves[chosen], asked.fields[:count], curves[:count], reference)


def together(batches: Sequence[tuple[Tensor, Tensor]], metric: Metric) -> tuple[Tensor, Tensor]:
    """One batch of several that have fields of one shape, that of the first; others are left out."""
    if not batches:
        return torch.empty(0, 1, 1), torch.empty(0, len(metric.outputs), len(metric.levels))
    shape = batches[0][0].shape[1:]
    alike = [batch for batch in batches if batch[0].shape[1:] == shape]
    fields, curves = zip(*alike, strict=True)
    return torch.cat(fields), torch.cat([each.float() for each in curves])
