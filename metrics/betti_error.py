"""Betti error: by how many objects and holes a prediction misses the observation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..foundation.arguments import as_connectivity
from .constraints import FRAME, AtLeast, AtMost, Constraint, applicable
from .excursion import ExcursionMetric
from .minkowski import Minkowski
from .pairwise import measured_in_both
from .registry import register


@register
class BettiError(ExcursionMetric):
    r"""Differences of the Betti numbers of the excursion sets {x >= u}, one curve over u each.

    - components: |b0(prediction) - b0(observation)|, b0 the number of connected components;
    - holes: |b1(prediction) - b1(observation)|, b1 the number of holes,

    as `Minkowski` counts them: the Betti error of segmentation (Hu et al. 2019, NeurIPS 32), here of
    whole fields. Whole numbers >= 0 without unit, 0 the best. It is symmetric and obeys the
    triangle inequality, but fields that differ may have error 0: it does not see where objects are.

    Values are compared in double precision. A pixel that is NaN in either field was not measured in
    both and counts as dry in both; +inf counts as wet. The world outside the field is dry.

    Args:
        thresholds: strictly increasing, in the field's unit.
        outputs: which curves, in which order, out of components, holes.
        connectivity: 1: sets are 4-connected and their complements 8-connected; 2: the reverse.
        levels: coordinates of the threshold axis for integration, such as quantile levels;
            default: evenly spaced.

    Raises:
        ArgumentError: any argument out of range.
    """

    name = "betti-error"
    describing = ("levels",)
    arity = 2
    invariant = True
    lower_better = True
    symmetric = True
    negative_type = True
    identity = 0.0

    def __init__(
        self,
        thresholds: Sequence[float],
        outputs: Sequence[str] = ("components", "holes"),
        connectivity: int = 1,
        levels: Sequence[float] | None = None,
    ) -> None:
        super().__init__(thresholds, levels, outputs, ("components", "holes"))
        self.connectivity = as_connectivity(connectivity)
        self.constraints = applicable(_constraints(self.connectivity), self.outputs)

    def _compute(self, predictions: np.ndarray, observations: np.ndarray) -> np.ndarray:
        betti = Minkowski(self.thresholds, outputs=self.outputs, connectivity=self.connectivity)
        predicted, observed = map(betti, measured_in_both(predictions, observations))
        return np.abs(predicted - observed)


def _constraints(connectivity: int) -> tuple[Constraint, ...]:
    """What exact errors obey; the frame is the number of pixels of the field."""

    # Components have a pixel of their own each, no two of which are neighbours. Holes have one as well, off
    # the edge; they must not touch even at corners where the set connects along rows and columns alone.
    def most_components(frame: Any) -> Any:
        return (frame + 1) / 2

    def most_holes(frame: Any) -> Any:
        return frame / (4 if connectivity == 1 else 2)

    return (
        AtLeast("components", "components >= 0", lambda: 0.0),
        AtMost("components", "components <= (field + 1)/2", most_components, (FRAME,)),
        AtLeast("holes", "holes >= 0", lambda: 0.0),
        AtMost("holes", f"holes <= field/{4 if connectivity == 1 else 2}", most_holes, (FRAME,)),
    )
