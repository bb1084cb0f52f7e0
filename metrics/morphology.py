"""Shapes of the connected objects of excursion sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ..foundation.arguments import as_connectivity, as_count
from ..foundation.rules import Rule, count
from .constraints import FRAME, AtLeast, AtMost, Constraint, applicable
from .excursion import ExcursionMetric
from .registry import register


@register
class Morphology(ExcursionMetric):
    r"""Shapes of the objects of the excursion sets X_u = {x >= u}, one curve over u each.

    The objects are the connected components of X_u of at least `min_area` pixels.

    - eccentricity: mean over the objects of sqrt(1 - l2/l1), l1 >= l2 the eigenvalues of the covariance of
      the pixels' centres: the eccentricity of the ellipse with the same second moments. In [0, 1]: 0 for a
      square or a single pixel, 1 for a line; 0 where there is no object.
    - solidity: mean over the objects of n/h, n the number of their pixels and h the number of pixels whose
      centre lies in the convex hull of the middles of their edges, its border included. In (0, 1]: 1 for a
      convex object; 0 where there is no object.
    - count: number of objects, in [0, HW / min_area].

    All are pure numbers. Each object's values are `eccentricity` and `solidity` of
    `skimage.measure.regionprops`.

    Values are compared in double precision. NaN means not measured and counts as dry, +inf as wet. The
    edge of the field cuts objects off: what meets beyond it counts apart.

    Args:
        thresholds: strictly increasing, in the field's unit.
        min_area: least number of pixels of an object: what is smaller is left out of all outputs. Objects of
            few pixels have extreme values of either shape.
        outputs: which curves, in which order, out of eccentricity, solidity, count.
        connectivity: 1: objects are 4-connected; 2: 8-connected.
        levels: coordinates of the threshold axis for integration, such as quantile levels; default:
            evenly spaced.

    Raises:
        ArgumentError: any argument out of range.
    """

    name = "morphology"
    argument_rules: ClassVar[Mapping[str, Rule]] = {**ExcursionMetric.argument_rules, "min_area": count}
    describing = ("levels",)
    invariant = True
    min_area: int
    connectivity: int

    def __init__(
        self,
        thresholds: Sequence[float],
        min_area: int = 4,
        outputs: Sequence[str] = ("eccentricity", "solidity", "count"),
        connectivity: int = 1,
        levels: Sequence[float] | None = None,
    ) -> None:
        super().__init__(thresholds, levels, outputs, ("eccentricity", "solidity", "count"))
        self.min_area = as_count("min_area", min_area)
        self.connectivity = as_connectivity(connectivity)
        self.constraints = applicable(_constraints(self.min_area), self.outputs)

    def _compute(self, fields: np.ndarray) -> np.ndarray:
        from .kernels import objects as kernels

        sums = kernels.object_sums(fields, self.thresholds, self.connectivity == 2, self.min_area)
        count = sums[:, kernels.COUNT]
        curves = {
            "eccentricity": sums[:, kernels.ECCENTRICITY] / np.maximum(count, 1),
            "solidity": sums[:, kernels.SOLIDITY] / np.maximum(count, 1),
            "count": count,
        }
        return self.stacked(curves)


def _constraints(min_area: int) -> tuple[Constraint, ...]:
    """What exact curves obey."""

    def some(count: Any) -> Any:
        return count.clip(0.0, 1.0)

    declared: list[Constraint] = [
        AtLeast("count", "count >= 0", lambda: 0.0),
        AtMost("count", f"count <= field / {min_area}", lambda frame: frame / min_area, (FRAME,)),
    ]
    for name in ("eccentricity", "solidity"):
        declared += [
            AtLeast(name, f"{name} >= 0", lambda: 0.0),
            AtMost(name, f"{name} <= 1", lambda: 1.0),
            AtMost(name, f"{name} = 0 without objects", some, ("count",)),
        ]
    # The convex hull lies in the field.
    declared += [
        AtLeast(
            "solidity",
            f"solidity >= {min_area} / field where there are objects",
            lambda frame, count: some(count) * min_area / frame,
            (FRAME, "count"),
        ),
    ]
    return tuple(declared)
