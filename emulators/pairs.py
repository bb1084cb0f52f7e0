"""What surrogates of pairwise metrics m(prediction, observation) share."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..errors import ArgumentError
from ..metrics import Metric
from ..metrics.constraints import AtLeast, AtMost
from .curves import trapezoid_weights


def identity_values(metric: Metric) -> tuple[float, ...] | None:
    """The value of each output for a field and itself; None where the metric does not declare it."""
    best: Mapping[str, float] = getattr(metric, "best", {})
    if metric.arity != 2 or (metric.identity is None and not best):
        return None
    return tuple(metric.identity if not best else best[name] for name in metric.outputs)  # type: ignore[misc]


def constant_range(metric: Metric, output: str) -> tuple[float, float]:
    """Declared bounds of an output that depend on nothing; infinite where there are none."""
    low, high = -math.inf, math.inf
    for c in metric.constraints:
        if c.output == output and isinstance(c, AtLeast | AtMost) and not c.of:
            bound = float(c.bound())
            low, high = (max(low, bound), high) if isinstance(c, AtLeast) else (low, min(high, bound))
    return low, high


class Gate(nn.Module):
    """A factor in [0, 1) that is 0 where prediction and observation are equal.

    g = e/(1 + e), e = gain * sum of sqrt(1 + d^2) - 1 over the differences d of all encoded pixels: the
    gain, which is learned, decides how soon two fields count as different.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_gain = nn.Parameter(torch.zeros(()))

    def forward(self, difference: Tensor) -> Tensor:
        """Factors (N, 1, 1) of differences (N, channels, H, W)."""
        # d^2/(1 + sqrt(1 + d^2)) is sqrt(1 + d^2) - 1 without loss of digits at small d.
        squares = difference.to(torch.promote_types(difference.dtype, torch.float32)).square()
        excess = (squares / (1 + (1 + squares).sqrt())).sum((1, 2, 3))
        excess = self.log_gain.exp() * excess
        return (excess / (1 + excess))[:, None, None]


class Shortfall(nn.Module):
    """How far the curves of a pairwise metric are from the best: a mean over levels, smaller is better.

    An output of which larger is better counts as its declared upper bound less its value, or as its
    negative where it has none; one of which smaller is better as its value. One whose best value lies
    within its range, such as an error with a sign, counts as its distance from there. Which is which
    says `Metric.lower_better`, or for each output a mapping `best` of the metric's.

    Args:
        metric: a pairwise metric.

    Raises:
        ArgumentError: a metric that does not say whether smaller is better.
    """

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
            self.register_buffer(name, torch.tensor(values)[:, None], persistent=False)

    def forward(self, curves: Tensor) -> Tensor:
        """Means over levels (N, C) of curves (N, C, Q)."""
        oriented = self.offsets.to(curves.dtype) + self.signs.to(curves.dtype) * curves
        oriented = torch.where(self.inner, oriented.abs(), oriented)
        return (oriented * self.weights.to(curves.dtype)).sum(-1)


def _way(metric: Metric, output: int) -> tuple[float, float, bool]:
    """Sign and offset that make an output smaller where it is better, and whether its best lies inside."""
    low, high = constant_range(metric, metric.outputs[output])
    values = identity_values(metric)
    best = None if values is None else values[output]
    if best is not None and low < best < high and math.isfinite(low):
        return 1.0, -best, True
    better_low = metric.lower_better
    if best is not None and math.isfinite(high) and hasattr(metric, "best"):
        better_low = best < high
    if better_low is None:
        raise ArgumentError(
            f"metric {metric.name!r} does not say whether smaller is better; set its lower_better"
        )
    return (1.0, 0.0, False) if better_low else (-1.0, high if math.isfinite(high) else 0.0, False)
