"""Sizes of the connected clusters of excursion sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ..foundation.arguments import as_connectivity, as_counts, as_name, as_pixel_size
from ..foundation.rules import Rule, counts
from .constraints import FRAME, AtLeast, AtMost, Constraint, NonIncreasing, applicable
from .excursion import ExcursionMetric
from .registry import register


@register
class Clusters(ExcursionMetric):
    r"""Sizes of the connected clusters of the excursion sets X_u = {x >= u}, one curve over u each.

    With n_1, ..., n_K the numbers of pixels of the K clusters of X_u and a the pixel's edge length:

    - largest: a^2 max n_k, in [0, frame]; 0 where X_u is empty.
    - mean: a^2 (n_1 + ... + n_K) / K, in [0, largest]; 0 where X_u is empty.
    - count_S, for every S of `sizes`: the number of clusters with n_k >= S pixels, in [0, HW/S].

    The frame is the area of the field, HW pixels. The clusters are those of
    `skimage.measure.label(mask, connectivity=connectivity)`; their size distribution is the object of
    percolation theory (Stauffer and Aharony 1994, Introduction to Percolation Theory).

    Values are compared in double precision. NaN means not measured and counts as dry, +inf as wet. The
    edge of the field cuts clusters off: what meets beyond it counts apart.

    Args:
        thresholds: strictly increasing, in the field's unit.
        sizes: the sizes S, in pixels; whole numbers, strictly increasing.
        pixel_size: edge length of a pixel; areas come in its square.
        outputs: which curves, in which order, out of largest, mean and the count_S; default: all.
        connectivity: 1: clusters are 4-connected; 2: 8-connected.
        length_unit: name of the unit of `pixel_size`.
        levels: coordinates of the threshold axis for integration, such as quantile levels; default:
            evenly spaced.

    Raises:
        ArgumentError: any argument out of range.
    """

    name = "clusters"
    argument_rules: ClassVar[Mapping[str, Rule]] = {**ExcursionMetric.argument_rules, "sizes": counts}
    describing = ("levels", "length_unit")
    invariant = True
    sizes: tuple[int, ...]
    connectivity: int
    length_unit: str

    def __init__(
        self,
        thresholds: Sequence[float],
        sizes: Sequence[int] = (1, 4, 16, 64),
        pixel_size: float = 1.0,
        outputs: Sequence[str] | None = None,
        connectivity: int = 1,
        length_unit: str = "pixel",
        levels: Sequence[float] | None = None,
    ) -> None:
        self.sizes = as_counts("sizes", sizes)
        self.pixel_size = as_pixel_size(pixel_size)
        self.connectivity = as_connectivity(connectivity)
        self.length_unit = as_name("length_unit", length_unit, "km")
        areas = ("largest", "mean")
        super().__init__(thresholds, levels, outputs, (*areas, *(f"count_{size}" for size in self.sizes)))
        self.units = tuple(f"{length_unit}^2" if name in areas else "1" for name in self.outputs)
        self.constraints = applicable(_constraints(self.sizes, self.pixel_size**2), self.outputs)

    def _compute(self, fields: np.ndarray) -> np.ndarray:
        from .kernels import clusters as kernels

        counts = kernels.cluster_counts(fields, self.thresholds, self.connectivity == 2, self.sizes)
        area = self.pixel_size**2
        curves = {
            "largest": area * counts[:, kernels.LARGEST],
            "mean": area * counts[:, kernels.PIXELS] / np.maximum(counts[:, kernels.CLUSTERS], 1),
        }
        curves |= {f"count_{size}": counts[:, kernels.SIZES + k] for k, size in enumerate(self.sizes)}
        return self.stacked(curves)


def _constraints(sizes: tuple[int, ...], area: float) -> tuple[Constraint, ...]:
    """What exact curves obey; area is that of a pixel, n = largest / area."""
    declared: list[Constraint] = [
        # A cluster grows, or is taken into a larger one, as the threshold falls.
        NonIncreasing("largest"),
        AtLeast("largest", "largest >= 0", lambda: 0.0),
        AtMost("largest", "largest <= field", lambda frame: frame, (FRAME,)),
        AtLeast("mean", "mean >= 0", lambda: 0.0),
        AtMost("mean", "mean <= largest", lambda largest: largest, ("largest",)),
        AtLeast("mean", "mean >= min(largest, pixel)", lambda largest: largest.clip(0.0, area), ("largest",)),
    ]
    for size, smaller in zip(sizes, (None, *sizes), strict=False):
        declared += _count_constraints(size, smaller, area)
    # With count_1 the number of clusters is known: all but the largest have a pixel at least, and together
    # they fit into the field.
    declared += [
        AtLeast(
            "mean",
            "mean >= (largest + (count_1 - 1) pixel) / count_1",
            lambda largest, c: (largest + (c.clip(1.0) - 1) * largest.clip(0.0, area)) / c.clip(1.0),
            ("largest", "count_1"),
        ),
        AtMost("mean", "mean <= field / count_1", lambda frame, c: frame / c.clip(1.0), (FRAME, "count_1")),
    ]
    return tuple(declared)


def _count_constraints(size: int, smaller: int | None, area: float) -> list[Constraint]:
    """What the number of clusters of at least that size obeys; the next smaller size is given, if any."""
    name = f"count_{size}"

    def reached(largest: Any) -> Any:
        # 1 from that many pixels on, 0 from one less downwards: between, there is no exact value.
        return (largest / area - (size - 1)).clip(0.0, 1.0)

    declared: list[Constraint] = [
        AtLeast(name, f"{name} >= 0", lambda: 0.0),
        AtMost(name, f"{name} <= field / {size} pixels", lambda frame: frame / (size * area), (FRAME,)),
        AtLeast(name, f"{name} >= 1 where n >= {size}", reached, ("largest",)),
        AtMost(
            name,
            f"{name} <= 1 + (field - largest) / {size} pixels, 0 where n < {size}",
            lambda frame, largest: reached(largest) * (1 + (frame - largest) / (size * area)),
            (FRAME, "largest"),
        ),
    ]
    if smaller is not None:
        declared += [AtMost(name, f"{name} <= count_{smaller}", lambda count: count, (f"count_{smaller}",))]
    return declared
