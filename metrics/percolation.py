"""Percolation: whether clusters of excursion sets span the field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..foundation.arguments import as_connectivity
from .constraints import FRAME, AtLeast, AtMost, Constraint, NonIncreasing, applicable
from .excursion import ExcursionMetric
from .registry import register

_OUTPUTS = ("left_right", "top_bottom", "spanning")


@register
class Percolation(ExcursionMetric):
    r"""Whether a cluster of the excursion set X_u = {x >= u} spans the field, one curve over u each.

    - left_right: 1 where a cluster has pixels in the first and in the last column, else 0.
    - top_bottom: 1 where a cluster has pixels in the first and in the last row, else 0.
    - spanning: share of the field's pixels that the largest cluster holds which does either, in [0, 1];
      0 where none does. It estimates the order parameter of the percolation transition (Stauffer and
      Aharony 1994, Introduction to Percolation Theory).

    All three are pure numbers. The clusters are those of
    `skimage.measure.label(mask, connectivity=connectivity)`.

    Values are compared in double precision. NaN means not measured and counts as dry, +inf as wet. Turning a
    field by 90 degrees swaps the first two outputs.

    Args:
        thresholds: strictly increasing, in the field's unit.
        outputs: which curves, in which order, out of left_right, top_bottom, spanning.
        connectivity: 1: clusters are 4-connected; 2: 8-connected.
        levels: coordinates of the threshold axis for integration, such as quantile levels; default:
            evenly spaced.

    Raises:
        ArgumentError: any argument out of range.
    """

    name = "percolation"
    describing = ("levels",)
    connectivity: int

    def __init__(
        self,
        thresholds: Sequence[float],
        outputs: Sequence[str] = ("left_right", "top_bottom"),
        connectivity: int = 1,
        levels: Sequence[float] | None = None,
    ) -> None:
        super().__init__(thresholds, levels, outputs, _OUTPUTS)
        self.connectivity = as_connectivity(connectivity)
        self.constraints = applicable(_constraints(), self.outputs)

    def _compute(self, fields: np.ndarray) -> np.ndarray:
        from .kernels import clusters as kernels

        counts = kernels.cluster_counts(fields, self.thresholds, self.connectivity == 2)
        curves = {
            "left_right": counts[:, kernels.LEFT_RIGHT],
            "top_bottom": counts[:, kernels.TOP_BOTTOM],
            "spanning": counts[:, kernels.SPANNING] / (fields.shape[1] * fields.shape[2]),
        }
        return self.stacked(curves)


def _constraints() -> tuple[Constraint, ...]:
    """What exact curves obey."""
    declared: list[Constraint] = []
    for name in _OUTPUTS:
        # A cluster that spans is taken into one that spans too, and is no smaller, as the threshold falls.
        declared += [
            NonIncreasing(name),
            AtLeast(name, f"{name} >= 0", lambda: 0.0),
            AtMost(name, f"{name} <= 1", lambda: 1.0),
        ]
    either = ("left_right", "top_bottom")
    declared += [
        AtMost("spanning", "spanning = 0 where none spans", lambda lr, tb: (lr + tb).clip(0.0, 1.0), either),
        AtLeast("spanning", "spanning >= a pixel where one spans", _least_share, (FRAME, *either)),
    ]
    return tuple(declared)


def _least_share(frame: Any, left_right: Any, top_bottom: Any) -> Any:
    """Least share of the field that a spanning cluster holds.

    A cluster has a pixel in each row or in each column that it crosses. Two clusters of which one crosses all
    rows and the other all columns meet, and are one, of at least max(H, W) >= sqrt(HW) pixels.
    """
    one = (left_right + top_bottom).clip(0.0, 1.0) / frame
    both = (left_right + top_bottom - 1).clip(0.0, 1.0) / frame**0.5
    return one.clip(both)
