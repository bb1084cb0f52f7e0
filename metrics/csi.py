"""Critical success index, and the shares of hits and false alarms that it is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from .constraints import AtMost, Constraint, Identity, applicable
from .excursion import ExcursionMetric
from .pairwise import measured_in_both, ratio, reached, within
from .registry import register


@register
class CSI(ExcursionMetric):
    r"""Scores of the contingency table of the excursion sets {x >= u}, one curve over u each.

    With h pixels wet in both (hits), m in the observation alone (misses) and f in the prediction
    alone (false alarms),

    - csi: critical success index h/(h + m + f), also threat score or intersection over union
      (Schaefer 1990, Wea. Forecasting 5, 570-575); 1 is best; 1 where both sets are empty.
    - pod: probability of detection h/(h + m); 1 is best; 1 where nothing was observed, so nothing
      missed.
    - far: false alarm ratio f/(h + f); 0 is best; 0 where nothing was predicted.

    All are pure numbers in [0, 1]. The first follows from the others (Roebber 2009, Wea. Forecasting 24,
    601-608): with s = 1 - far, csi = pod s/(pod + s - pod s), and 0 where that is 0/0. `lower_better`
    speaks of csi and pod, and of far where that is the only output; `best` of each output. csi alone is
    symmetric; swapping prediction and observation turns pod into 1 - far.

    Values are compared in double precision. A pixel that is NaN in either field was not measured in
    both and is left out; +inf counts as wet.

    Args:
        thresholds: strictly increasing, in the field's unit.
        outputs: which curves, in which order, out of csi, pod, far.
        levels: coordinates of the threshold axis for integration, such as quantile levels;
            default: evenly spaced.

    Raises:
        ArgumentError: any argument out of range.
    """

    name = "csi"
    describing = ("levels",)
    arity = 2
    invariant = True
    best: ClassVar[Mapping[str, float]] = {"csi": 1.0, "pod": 1.0, "far": 0.0}
    """The value of each output for a perfect prediction, which m(x, x) takes."""

    def __init__(
        self,
        thresholds: Sequence[float],
        outputs: Sequence[str] = ("csi",),
        levels: Sequence[float] | None = None,
    ) -> None:
        super().__init__(thresholds, levels, outputs, tuple(self.best))
        self.symmetric = self.outputs == ("csi",)
        perfect = {self.best[output] for output in self.outputs}
        self.identity = perfect.pop() if len(perfect) == 1 else None
        self.lower_better = self.outputs == ("far",)
        self.constraints = applicable(_constraints(), self.outputs)

    def _compute(self, predictions: np.ndarray, observations: np.ndarray) -> np.ndarray:
        counts = np.empty((3, len(predictions), len(self.thresholds)), np.int64)
        for n, pair in enumerate(zip(predictions, observations, strict=True)):
            # A pixel that was not measured reaches no threshold: it is a correct negative, which none counts.
            predicted, observed = (reached(field, self.thresholds) for field in measured_in_both(*pair))
            for row, wet in enumerate((np.minimum(predicted, observed), predicted, observed)):
                counts[row, n] = _at_least(wet, len(self.thresholds))
        hits, predicted, observed = counts
        scores = {
            "csi": ratio(hits, predicted + observed - hits, empty=1.0),
            "pod": ratio(hits, observed, empty=1.0),
            "far": ratio(predicted - hits, predicted, empty=0.0),
        }
        return self.stacked(scores)


def _at_least(bins: np.ndarray, highest: int) -> np.ndarray:
    """How many of the bins are at least 1, 2, ..., highest."""
    return np.bincount(bins.ravel(), minlength=highest + 1)[:0:-1].cumsum()[::-1]


def _constraints() -> tuple[Constraint, ...]:
    """What exact scores obey."""

    def csi(pod: Any, far: Any) -> Any:
        both = pod * (1 - far)
        return both / (pod + (1 - far) - both).clip(1e-30)

    return (
        *(c for output in CSI.best for c in within(output, 0.0, 1.0)),
        AtMost("csi", "csi <= pod", lambda pod: pod, ("pod",)),
        AtMost("csi", "csi <= 1 - far", lambda far: 1 - far, ("far",)),
        Identity("csi", "1/csi = 1/pod + 1/(1 - far) - 1", csi, ("pod", "far")),
    )
