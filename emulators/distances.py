"""Distances between curves, and how far those of a pairwise metric are from the best."""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..errors import ArgumentError
from ..foundation.registry import Registry
from ..metrics import Metric
from ..metrics.pairwise import constant_range, identity_values
from .curves import as_scales, signed_log1p, trapezoid_weights

D = TypeVar("D", bound="Distance")


class Distance(nn.Module, abc.ABC):
    """How far the curves of a prediction are from those of an observation, output by output.

    `forward` maps curves (N, C, Q) of predictions and reference curves (N, C, Q), in the metric's units, onto
    distances (N, C), differentiable in the first. A pairwise metric has seen the observation already: its
    distance is given no reference.

    Attributes:
        arity: of the metrics that it is for.
        averaged: whether a loss averages over outputs, rather than adding them up.
        negative_type: whether it is symmetric, of negative type, and differentiable in both curves, so that
            its kernel score is proper and can be trained on. Norms of differences of L1 and L2 are. Of a
            pairwise metric: whether it is where the metric's values are.
    """

    arity: int = 1
    averaged: bool = False
    negative_type: bool = False

    @classmethod
    def of(cls: type[D], metric: Metric) -> D:
        """The distance of a metric's curves; one that depends on the metric overrides this."""
        return cls()

    @abc.abstractmethod
    def forward(self, curves: Tensor, reference: Tensor | None) -> Tensor:
        """Distances (N, C)."""


DISTANCES: Registry[str, type[Distance]] = Registry("distance")
"""Distances by name."""


def default_distance(metric: Metric) -> Distance:
    """The distance that a loss takes unless it is given another."""
    return DISTANCES["curves" if metric.arity == 1 else "shortfall"].of(metric)


@DISTANCES.register("shortfall")
class Shortfall(Distance):
    """How far the curves of a pairwise metric are from the best: a mean over levels, smaller is better.

    An output of which larger is better counts as its declared upper bound less its value; where it has none,
    as what a field has with itself less its value, or else as its negative. One of which smaller is better
    counts as its value, and one whose best value lies within its range, such as an error with a sign, as its
    distance from there. Which is which says `Metric.lower_better`, or for each output a mapping `best` of
    the metric's.

    Args:
        metric: a pairwise metric.

    Raises:
        ArgumentError: a metric that does not say whether smaller is better.
    """

    arity = 2
    averaged = True
    negative_type = True
    weights: Tensor
    signs: Tensor
    offsets: Tensor
    inner: Tensor

    def __init__(self, metric: Metric) -> None:
        super().__init__()
        ways = [_way(metric, c) for c in range(len(metric.outputs))]
        weights = trapezoid_weights(metric.levels)
        self.register_buffer("weights", weights / weights.sum(), persistent=False)
        for name, values in zip(("signs", "offsets", "inner"), zip(*ways, strict=True), strict=True):
            # Truth values as numbers, too: averaged models take means of buffers.
            column = torch.tensor(values, dtype=torch.float32)[:, None]
            self.register_buffer(name, column, persistent=False)

    @classmethod
    def of(cls, metric: Metric) -> Shortfall:
        """The shortfall of a pairwise metric."""
        return cls(metric)

    def forward(self, curves: Tensor, reference: Tensor | None = None) -> Tensor:
        """Means over levels (N, C) of curves (N, C, Q); there is no reference."""
        oriented = self.offsets.to(curves.dtype) + self.signs.to(curves.dtype) * curves
        oriented = torch.where(self.inner > 0, oriented.abs(), oriented)
        return (oriented * self.weights.to(curves.dtype)).sum(-1)


def _way(metric: Metric, output: int) -> tuple[float, float, bool]:
    """Sign and offset that make an output smaller where it is better, and whether its best lies inside."""
    low, high = constant_range(metric, metric.outputs[output])
    values = identity_values(metric)
    best = None if values is None else values[output]
    if best is not None and low < best < high and math.isfinite(low):
        return 1.0, -best, True
    better_low = metric.lower_better
    if best is not None and math.isfinite(high) and metric.best:
        better_low = best < high
    if better_low is None:
        raise ArgumentError(
            f"metric {metric.title!r} does not say whether smaller is better; set lower_better=True or False"
        )
    if better_low:
        return 1.0, 0.0, False
    return -1.0, high if math.isfinite(high) else best or 0.0, False


@DISTANCES.register("curves")
class CurveDistance(Distance):
    """L1 distance between signed-log1p curves, integrated over the threshold axis.

    d_c = integral of |slog(a_c/s_c) - slog(b_c/s_c)| over the levels, by the trapezoidal rule: with sizes
    s_c = 1 the Minkowski image distance of Quarenghi, Cotsakis and Beucler (arXiv 2604.11422).

    Args:
        levels: coordinates of the Q thresholds on the axis of integration.
        scales: the sizes s_c of the C outputs (`Metric.scales`); empty: all 1.
    """

    weights: Tensor
    scales: Tensor | None
    negative_type = True

    def __init__(self, levels: Sequence[float], scales: Sequence[float] = ()) -> None:
        super().__init__()
        self.register_buffer("weights", trapezoid_weights(levels), persistent=False)
        self.register_buffer("scales", as_scales(scales), persistent=False)

    @classmethod
    def of(cls, metric: Metric) -> CurveDistance:
        """The distance between the curves of a metric."""
        return cls(metric.levels, metric.scales)

    def forward(self, first: Tensor, second: Tensor | None) -> Tensor:
        """Distances (N, C) between curves (N, C, Q) in physical units."""
        if second is None:
            raise ArgumentError("the distance between curves needs curves to compare with, got none")
        return self.size(self.scaled(first) - self.scaled(second))

    def scaled(self, curves: Tensor) -> Tensor:
        """Curves (..., C, Q) on the scale on which their differences count."""
        return signed_log1p(curves if self.scales is None else curves / self.scales.to(curves.dtype))

    def size(self, difference: Tensor) -> Tensor:
        """Integrals (..., C) of the absolute values of differences (..., C, Q) on that scale."""
        return (difference.abs() * self.weights.to(difference.dtype)).sum(-1)
