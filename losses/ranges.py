"""Whether fields can be in the unit of a surrogate: looked at in the first batches, told once."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from ..emulators.differentiable import Differentiable, listed
from ..emulators.transforms import traced

_TELLING = 4
"""Batches of varied fields after which what they have in common is no chance."""
_LAST = 16
"""Batches after which nothing is looked at any more, whatever they held."""
_NO_GRADIENT = "such fields have no gradient; give them in the surrogate's unit, or take other thresholds"
_SCALED = "they are next to nothing beside these; if they are scaled, undo it before the loss"
_NOTHING = 0.01
"""Share of the least threshold below which values seem to be in another unit, if they stay there."""


class RangeWarning(UserWarning):
    """Fields lie where a surrogate tells nothing apart: they have no gradient, or hardly any."""


class RangeWatch:
    """Warns once if the first batches lie where a surrogate tells nothing apart.

    A look costs two passes over the fields and, on a GPU, one wait for it. It ends with the first batch whose
    values lie on both sides of a threshold, so that most losses look once, and goes on while predictions are
    next to nothing beside the thresholds.

    Args:
        surrogate: whose thresholds, or intensities that it was trained for, tell fields apart.
    """

    def __init__(self, surrogate: Differentiable) -> None:
        metric = surrogate.metric
        marks = metric.thresholds or (surrogate.intensities if surrogate.has_weights else ())
        self.marks, self.unit = tuple(marks), surrogate.unit
        self.left = _LAST if marks else 0
        self.varied = 0
        self.began = 0.0
        self.seen = {"predictions": (math.inf, -math.inf), "targets": (math.inf, -math.inf)}

    def look(self, prediction: Tensor, target: Tensor | None) -> None:
        """Look at a batch, unless enough were seen; what is not finite is no value."""
        if traced(prediction) or not self.left or not prediction.numel():
            return
        given = {"predictions": prediction} | ({} if target is None else {"targets": target})
        try:
            batch = _ranges(list(given.values()))
        except RuntimeError:  # tensors without values of their own, such as those of vmap
            return
        self.left -= 1
        for name, (low, high) in zip(given, batch, strict=True):
            self.seen[name] = (min(self.seen[name][0], low), max(self.seen[name][1], high))
        low, high = self.seen["predictions"]
        if not self.began and low < high:
            self.began = max(abs(low), abs(high))
        low, high = batch[-1]
        self.varied += low < high
        self._judge(target is not None)

    def _judge(self, has_targets: bool) -> None:
        """Warn, or see that there is nothing to tell, once that is clear."""
        decided = self.varied == _TELLING or not self.left
        # Predictions may be dry for long while a network starts, but hardly so far away.
        lost, small = self._far("predictions"), self._small("predictions")
        alike = has_targets and not self._told_apart(*self.seen["targets"])
        if has_targets and ((self.varied and self._far("targets")) or (alike and decided)):
            self._tell("targets")
        elif lost and decided:
            self._tell("predictions")
        elif small and not self.left:
            self._tell("predictions", _SCALED)
        elif not small and (decided or not (alike or lost)):
            self.left = 0

    def _told_apart(self, low: float, high: float) -> bool:
        """Whether values from low to high lie on both sides of a threshold."""
        return any(low < mark <= high for mark in self.marks)

    def _far(self, name: str) -> bool:
        """Whether all values seen lie further beyond the thresholds than these are large or apart."""
        low, high = self.seen[name]
        first, last = self.marks[0], self.marks[-1]
        reach = max(last - first, abs(first), abs(last))
        return low <= high and (low > last + reach or high < first - reach)

    def _small(self, name: str) -> bool:
        """Whether values seen differ, but are next to nothing beside thresholds, and do not grow.

        So are those that were scaled to 1. Networks may begin like that, too, but grow.
        """
        low, high = self.seen[name]
        size, least = max(abs(low), abs(high)), min(map(abs, self.marks))
        one_sign = self.marks[0] * self.marks[-1] > 0
        return low < high and one_sign and size < min(_NOTHING * least, 2 * self.began)

    def _tell(self, name: str, what: str = _NO_GRADIENT) -> None:
        self.left = 0
        low, high = self.seen[name]
        if low > high:  # nothing was measured, which is told nowhere else
            return
        warnings.warn(
            f"{name} from {low:g} to {high:g} lie on one side of each of the surrogate's thresholds "
            f"({listed(self.marks)}{self.unit and ' ' + self.unit}): {what}",
            RangeWarning,
            stacklevel=2,
        )


@torch.no_grad()
def _ranges(fields: Sequence[Tensor]) -> list[tuple[float, float]]:
    """Least and largest finite values of each; (inf, -inf) where there are none."""
    ends = []
    for each in fields:
        finite = each.isfinite()
        ends += [torch.where(finite, each, math.inf).amin(), torch.where(finite, each, -math.inf).amax()]
    found = torch.stack([end.double() for end in ends]).tolist()
    return list(zip(found[::2], found[1::2], strict=True))
