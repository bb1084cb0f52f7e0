"""Box counts of excursion sets, and the dimension that they imply."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ..errors import ArgumentError
from ..foundation.arguments import as_counts
from ..foundation.rules import Rule, counts
from .constraints import FRAME, AtLeast, AtMost, Constraint, Identity, NonIncreasing, applicable
from .excursion import ExcursionMetric
from .registry import register


@register
class BoxCount(ExcursionMetric):
    r"""Numbers of boxes that the excursion sets X_u = {x >= u} meet, one curve over u for each scale.

    - boxes_S, for every S of `scales`: the number N(S) of boxes of S x S pixels that hold at least one pixel
      of X_u. Boxes tile the field from its first row and column on. Where S does not divide a side, the last
      boxes stick out of the field and count like any other: N(S) is in [0, ceil(H/S) ceil(W/S)].
    - dimension: the least-squares slope of log N(S) against log(1/S) over all scales,
      D = -sum_i (l_i - mean l) log N(S_i) / sum_i (l_i - mean l)^2 with l_i = log S_i, in [0, 2]; 0 where X_u
      is empty. It estimates the box-counting (Minkowski-Bouligand) dimension (Lovejoy, Schertzer and
      Tsonis 1987, Science 235; Falconer 2003, Fractal Geometry). Boxes that stick out, and scales close to
      the size of the field, bias it.

    All are pure numbers. Each scale is a multiple of the one before, so that boxes nest: N(rS) <= N(S)
    <= r^2 N(rS), which keeps every slope between two scales, and so D, their weighted mean, in [0, 2].

    Values are compared in double precision. NaN means not measured and counts as dry, +inf as wet. Turning or
    mirroring a field leaves the curves as they are only where the scales divide both sides.

    Args:
        thresholds: strictly increasing, in the field's unit.
        scales: the box sizes S, in pixels; whole numbers, strictly increasing, each a multiple of the one
            before; at least two for the dimension.
        outputs: which curves, in which order, out of the boxes_S and dimension; default: all.
        levels: coordinates of the threshold axis for integration, such as quantile levels; default:
            evenly spaced.

    Raises:
        ArgumentError: any argument out of range.
    """

    name = "boxcount"
    argument_rules: ClassVar[Mapping[str, Rule]] = {**ExcursionMetric.argument_rules, "scales": counts}
    describing = ("levels",)
    sizes: tuple[int, ...]

    def __init__(
        self,
        thresholds: Sequence[float],
        scales: Sequence[int] = (1, 2, 4, 8, 16),
        outputs: Sequence[str] | None = None,
        levels: Sequence[float] | None = None,
    ) -> None:
        self.sizes = as_counts("scales", scales)
        for small, large in itertools.pairwise(self.sizes):
            if large % small:
                raise ArgumentError(
                    f"scales must each be a multiple of the one before, so that boxes nest; got {small} "
                    f"before {large}"
                )
        boxes = tuple(f"boxes_{scale}" for scale in self.sizes)
        super().__init__(thresholds, levels, outputs, (*boxes, "dimension") if len(boxes) > 1 else boxes)
        self.constraints = applicable(_constraints(self.sizes), self.outputs)

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments that build this metric again."""
        return super().arguments() | {
            "scales": list(self.sizes)
        }  # a metric's `scales` are those of its outputs

    def _compute(self, fields: np.ndarray) -> np.ndarray:
        from ..foundation.threads import in_threads
        from .kernels.digitise import digitise

        bins = digitise(fields, self.thresholds)
        boxes = np.empty((len(fields), len(self.sizes), len(self.thresholds)), np.int64)

        def count(batch: slice) -> None:
            for n in range(batch.start, batch.stop):
                boxes[n] = _box_counts(bins[n, 1:-1, 1:-1], self.sizes, len(self.thresholds))

        in_threads(count, len(fields), fields.size)
        curves: dict[str, Any] = {f"boxes_{scale}": boxes[:, k] for k, scale in enumerate(self.sizes)}
        if "dimension" in self.outputs:
            curves["dimension"] = dimension(self.sizes, *boxes.transpose(1, 0, 2))
        return self.stacked(curves)


def _box_counts(bins: np.ndarray, scales: tuple[int, ...], count: int) -> np.ndarray:
    """Numbers of boxes, (scales, Q), of one field whose pixels (H, W) reach so many of Q thresholds."""
    result = np.empty((len(scales), count), np.int64)
    # The largest bin in a box is the number of thresholds at which the set meets it; boxes nest, so the boxes
    # of one scale are pooled from those of the scale before.
    for k, ratio in enumerate(large // small for small, large in itertools.pairwise((1, *scales))):
        # A box that sticks out of the field holds no more than one that ends with it.
        tall, wide = (min(ratio, side) for side in bins.shape)
        padded = np.pad(bins, [(0, -bins.shape[0] % tall), (0, -bins.shape[1] % wide)])
        bins = padded.reshape(-1, tall, padded.shape[1]).max(1)
        # Over slices, because NumPy's maximum along a short last axis is slow.
        bins = functools.reduce(np.maximum, (bins[:, offset::wide] for offset in range(wide)))
        histogram = np.bincount(bins.ravel(), minlength=count + 1)
        result[k] = histogram[:0:-1].cumsum()[::-1]
    return result


def dimension(scales: Sequence[int], *boxes: Any) -> Any:
    """Least-squares slope of log N(S) against log(1/S), 0 where all N are 0.

    Args:
        scales: two or more, distinct.
        *boxes: N(S) of each scale, NumPy arrays or torch tensors of one shape; counts below 1, which are
            empty or no counts, stand as 1.

    Returns:
        The slope, same shape.
    """
    logs = [math.log(scale) for scale in scales]
    mean = sum(logs) / len(logs)
    spread = sum((each - mean) ** 2 for each in logs)
    return sum((mean - each) / spread * _log(n.clip(1.0)) for each, n in zip(logs, boxes, strict=True))


def _log(values: Any) -> Any:
    """Natural logarithm of a NumPy array or torch tensor, which share no method for it."""
    return values.log() if hasattr(values, "log") else np.log(values)


def _constraints(scales: tuple[int, ...]) -> tuple[Constraint, ...]:
    """What exact curves obey."""
    declared: list[Constraint] = []
    for scale in scales:
        name = f"boxes_{scale}"
        declared += [
            NonIncreasing(name),
            AtLeast(name, f"{name} >= 0", lambda: 0.0),
            # Each box holds a pixel of the field; how many boxes tile it depends on the sides.
            AtMost(name, f"{name} <= pixels of the field", lambda frame: frame, (FRAME,)),
        ]
    for small, large in itertools.pairwise(scales):
        declared += _nested(f"boxes_{small}", f"boxes_{large}", (large // small) ** 2)
    if len(scales) > 1:
        declared += [
            AtLeast("dimension", "dimension >= 0", lambda: 0.0),
            AtMost("dimension", "dimension <= 2", lambda: 2.0),
            Identity(
                "dimension",
                "dimension = slope of log boxes",
                lambda *boxes: dimension(scales, *boxes),
                tuple(f"boxes_{scale}" for scale in scales),
            ),
        ]
    return tuple(declared)


def _nested(small: str, large: str, most: int) -> list[Constraint]:
    """Each large box that meets the set holds at least one small box that does, and at most so many."""
    return [
        AtLeast(small, f"{small} >= {large}", lambda n: n, (large,)),
        AtMost(small, f"{small} <= {most} {large}", lambda n: most * n, (large,)),
    ]
