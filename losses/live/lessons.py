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
        exact: curves of the prediction, (N, C, Q), where the loss found them; NaN where it did not.
        reference: likewise of the target.
    """

    prediction: Tensor
    target: Tensor | None
    curves: Tensor | None
    exact: Tensor | None = None
    reference: Tensor | None = None

    @classmethod
    def of(
        cls,
        prediction: Tensor,
        target: Tensor | None,
        curves: Tensor | None,
        exact: Tensor | None,
        reference: Tensor | None,
    ) -> Heard:
        """Copies on the CPU, without gradient."""

        def fields(batch: Tensor) -> Tensor:
            flat = batch.detach().reshape(-1, *batch.shape[-2:])
            return flat.to("cpu", torch.float32, copy=True)  # the caller may change its own meanwhile

        def copied(curves: Tensor | None) -> Tensor | None:
            return None if curves is None else curves.detach().to("cpu", copy=True)

        return cls(
            fields(prediction),
            None if target is None else fields(target),
            copied(curves),
            copied(exact),
            copied(reference),
        )

    def of_those(self, chosen: Tensor) -> Heard:
        """The fields that are chosen, (N,) of truth values."""
        prediction, *others = self
        return Heard(prediction[chosen], *(None if part is None else part[chosen] for part in others))


class Asked(NamedTuple):
    """What is to be labelled.

    Attributes:
        fields: (K, H, W), or pairs (K, 2, H, W): predictions, then targets, unless they are in the pairs or
            not known, then anchors.
        predictions: number of predictions.
        targets: number of targets.
        kept: how many of the targets are anchors as well.
        reference: exact curves of the targets, where those were given in their place.
        known: exact curves (K, C, Q) as far as they are known, NaN elsewhere; None: none is.
    """

    fields: Tensor
    predictions: int
    targets: int
    kept: int
    reference: Tensor | None
    known: Tensor | None = None

    @property
    def unknown(self) -> Tensor:
        """The fields whose curves are to be found."""
        return self.fields if self.known is None else self.fields[_gaps(self.known)]

    def all(self, found: Tensor) -> Tensor:
        """Exact curves (K, C, Q), once those of `unknown` are found."""
        if self.known is None:
            return found
        curves = self.known.to(found, copy=True)
        curves[_gaps(curves)] = found
        return curves


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
    prediction, target = heard.prediction, heard.target
    broken = prediction.isinf() if target is None else ~prediction.isfinite() & ~target.isnan()
    whole = ~broken.flatten(1).any(1)
    left_out = int((~whole).sum())
    prediction, target, curves, exact, reference = heard.of_those(whole)
    count = len(prediction)
    if not count:
        return None, left_out
    if target is None:
        return Asked(prediction, count, 0, 0, curves, exact), left_out
    if anchors is None:
        alone = prediction if metric.arity == 1 else torch.stack([prediction, target], 1)
        return Asked(alone, count, 0, 0, None, exact), left_out
    kept = min(count, math.ceil(anchors / 2 * count))
    targets = target.roll(int(rng.integers(count)), 0)[:kept]
    mixed = torch.from_numpy(mixup(targets.numpy(), rng)) if kept else targets
    if metric.arity == 2:
        pairs = [(prediction, target), (targets, targets), (mixed, targets)]
        fields = torch.cat([torch.stack(pair, 1) for pair in pairs])
        return Asked(fields, count, 0, 0, None, _known([exact], fields, metric)), left_out
    fields = torch.cat([prediction, target, mixed])
    return Asked(fields, count, count, kept, None, _known([exact, reference], fields, metric)), left_out


def _known(first: Sequence[Tensor | None], fields: Tensor, metric: Metric) -> Tensor | None:
    """Curves (K, C, Q) of K fields, of which those of the first parts, equally long, may be known."""
    if all(part is None for part in first):
        return None
    known = torch.full((len(fields), len(metric.outputs), len(metric.levels)), torch.nan, dtype=torch.float64)
    for k, part in enumerate(first):
        if part is not None:
            known[k * len(part) : (k + 1) * len(part)] = part
    return known


def _gaps(curves: Tensor) -> Tensor:
    """Which fields' curves (K, C, Q) are not known."""
    return curves.isnan().flatten(1).any(1)


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
