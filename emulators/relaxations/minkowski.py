"""Analytical relaxations of the Minkowski curves: soft excursion sets, no training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...metrics.minkowski import PIXEL_PERIMETER, Minkowski
from ..certificates import BOUNDS, GUARD, Layers, Unbounded
from ..differentiable import Relaxation, joined
from ..soft.changes import lasting_changes
from ..straight_through import per_field
from ..tables import Tabled
from .relaxation import RELAXATIONS
from .soft_counts import SoftCounts


@RELAXATIONS.register(Minkowski)
class RelaxedMinkowski(Tabled, Relaxation):
    """Minkowski curves of soft excursion sets s = sigmoid((x - u)/tau).

    Area, perimeter and Euler number are linear in counts of pixels, pairs and blocks, components in
    counts of the pixels that start them and of those that join two. Soft counts in their place give the
    relaxation, which tends to the exact values as tau -> 0. It is the mean of the exact curves over
    thresholds with logistic noise: sigmoid((x - u)/tau) is the probability of x >= u + tau t, t logistic.
    The gradient of area, perimeter and Euler number reaches every pixel near a threshold, that of
    components and holes maxima and saddles alone: the critical pixels of the merge tree, as in Hu et al.
    2019, "Topology-preserving deep image segmentation", but counted without pairing them. With a persistence
    they are paired, on the CPU, and only those of pairs that reach it count; values jump where one does.

    Args:
        metric: a Minkowski metric.
        temperature: tau relative to the spread of the data at each threshold, tau_q = temperature * spread_q;
            or one value a threshold, relative likewise.
        tail: (share, temperature) of a second, hotter sigmoid mixed into s. A cold sigmoid keeps the
            values close to the exact ones, a small share of a hot one gives pixels away from every
            threshold a gradient.
        forward: "soft", or "exact": exact values, with the gradient of the soft ones.
        spreads: see `Relaxation`.

    Raises:
        ArgumentError: an argument out of range.

    Attributes:
        combinations: what outputs are of counts, (C, metric.counted), float64.
    """

    metric: Minkowski
    combinations: Tensor
    tables = ("combinations",)

    def __init__(
        self,
        metric: Minkowski,
        temperature: float | Sequence[float] = 0.05,
        tail: tuple[float, float] | None = None,
        forward: str = "soft",
        spreads: Sequence[float] | None = None,
    ) -> None:
        super().__init__(metric, forward, spreads=spreads)
        self.combinations = torch.from_numpy(_combinations(metric))
        self.counts = SoftCounts(
            self.steps_at,
            self.spreads,
            tail=tail,
            exact_at=metric.thresholds if self.exact else (),
            touched=metric.connectivity == 2,
            degrees=metric.boundary == "open",
            components=bool({"components", "holes"} & set(metric.outputs)),
            wraps=metric.wraps,
            by_rows=metric.by_rows,
            row_weights=metric.row_weights,
        )
        self.temperature = temperature

    def set_temperature(self, relative: np.ndarray) -> None:
        """Take over relative temperatures (Q,)."""
        self.counts.set_temperature(relative)

    def arguments(self) -> dict[str, Any]:
        """The JSON-able keyword arguments, beside the metric, that build this module again."""
        tail = self.counts.tail
        return super().arguments() | {"tail": None if tail is None else list(tail)}

    def reserve(self, temperature: float) -> None:
        """Make room for the nodes that a temperature needs."""
        self.counts.reserve(np.full(len(self.steps_at), temperature))

    def soft(self, batch: Tensor, given: Tensor) -> Tensor:
        """Soft curves (N, C, Q) of fields (N, H, W)."""
        self.metric.check_sides(batch.shape)
        return self._curves(self.counts(batch, self._lasting(given))).to(batch)

    def exact_values(self, batches: Sequence[Tensor], given: Sequence[Tensor]) -> Tensor:
        """Exact curves (N, C, Q) of fields (N, H, W), counted where these are; some kinds on the CPU."""
        if self.metric.by_rows or self.metric.persistence:
            return super().exact_values(batches, given)
        self.metric.check_sides(batches[0].shape)
        return self._curves(self.counts.exact(joined(batches)))

    def with_slopes(self, values: Tensor, batch: Tensor, given: Tensor) -> Tensor:
        """Exact curves (N, C, Q) of fields (N, H, W) with the gradient of the soft ones."""
        left = self.table("combinations", batch)
        return self.counts.slopes(batch, left, values, self._lasting(given))

    def _lasting(self, given: Tensor) -> tuple[Tensor, Tensor] | None:
        """What pixels add to lasting components, and to holes; None without a persistence."""
        if not self.metric.persistence:
            return None
        metric, fields = self.metric, given.detach()
        fields = fields[:, 0] if fields.ndim == 4 else fields
        rule = (*metric.lasting_from, metric.connectivity == 2, *metric.wraps)
        components, holes = (
            lasting_changes(fields, *rule, holes) if name in metric.outputs else torch.zeros_like(fields)
            for name, holes in (("components", False), ("holes", True))
        )
        return components, holes

    def _curves(self, counts: Tensor) -> Tensor:
        """Curves (N, C, Q) of counts, float64; see `SoftCounts`."""
        return per_field(self.table("combinations", counts), counts)


def _combinations(metric: Minkowski) -> np.ndarray:
    """What outputs are of counts, (C, counted): their values where one count is 1, all others 0."""
    outputs = metric.of_counts(np.eye(metric.counted))
    return np.stack([outputs[name] for name in metric.outputs])


_NEGLIGIBLE = 1e-6
"""Membership below which a pixel's share in a count is left to a bound that grows with the field."""
_REFINEMENTS = 3
"""Halvings of the nodes' distance, so that coefficients lie close to the splines they bound."""


@BOUNDS.register(RelaxedMinkowski)
def _bound(module: RelaxedMinkowski, shape: tuple[int, int]) -> tuple[float, Layers]:
    """Bounds of each output's gradient, for all thresholds together.

    With M the membership of a pixel and M' its slope: a pixel changes the area by at most its own, a^2 M',
    the perimeter by its own, a P1 M', and Euler number, components and holes by |c| M', with c within
    [-3, 1]: it starts a set, fills a hole, or joins up to four (holes: [-1, 3]). Over all pixels the c add
    up to 1 (holes: 0), the whole field, in whatever order they come, and (c + 3)(c - 1) <= 0, so that the
    sum of c^2 is at most 3 H W; where edges adjoin, holes add up to 1, and their c^2 to at most 3 H W + 2.
    The slope of signed-log1p is at most 1.

    Where it is less, at large values, two bounds do without the size of the field (`_scale_free`).
    """
    if module.exact:
        raise Unbounded("exact values jump")
    if module.in_own_spread:
        raise Unbounded("steps as wide as each field is spread around its lone threshold")
    metric = module.metric
    if metric.persistence and {"components", "holes"} & set(metric.outputs):
        raise Unbounded("components and holes that jump where they reach the persistence")
    memberships = _Memberships(module.counts)
    lattice = metric.lattice
    steepest = math.sqrt(3 + 2 * any(metric.wraps) / math.prod(shape))
    per_slope = {
        "area": lattice.pixel * lattice.heaviest,
        "perimeter": lattice.pixel_perimeter,
        **dict.fromkeys(("euler", "components", "holes"), steepest),
    }
    scale_free = _scale_free(memberships, metric, math.prod(shape))
    layers: Layers = []
    for name in metric.outputs:
        bound = per_slope[name] * memberships.slope * math.sqrt(math.prod(shape))
        layers.append((name, min(bound, scale_free.get(name, math.inf))))
    return math.hypot(*(bound for _, bound in layers)), layers


class _Memberships:
    """Slopes in a pixel's value of its memberships, which are cubic splines between nodes.

    A spline's value is a mean of the coefficients around it, and its slope one of their differences.

    Attributes:
        slope: largest 2-norm over thresholds of the slopes M'.
        rest: largest M' of each threshold (Q,) where M is negligible, and the spline falls to 0.
        square_ratio: largest M'^2 / M of each threshold (Q,) elsewhere, and
        ratio: largest M' / M, likewise.
    """

    def __init__(self, counts: SoftCounts) -> None:
        values = counts.memberships.double().cpu()
        _, scale, origin, step = counts.axis.double().tolist()
        for _ in range(_REFINEMENTS):
            values, origin, step = _refined(values), origin - step / 2, step / 2
        # Intervals between places; the axis is asinh(x / scale), whose slope is largest where |x| is least.
        heights = origin + step * torch.arange(len(values) - 2).double()
        least = torch.minimum(heights[1:].abs(), heights[:-1].abs())
        least[heights[1:] * heights[:-1] <= 0] = 0.0
        steepest = values.diff(dim=0).unfold(0, 3, 1).amax(2)
        slopes = steepest / (step * scale * torch.cosh(least)[:, None])
        lowest = values.unfold(0, 4, 1).amin(2)
        self.slope = float(slopes.norm(dim=1).max()) * (1 + GUARD)
        counts_little = lowest < _NEGLIGIBLE
        self.rest = slopes.where(counts_little, 0.0).amax(0) * (1 + GUARD)
        ratio = (slopes / lowest).where(~counts_little, 0.0)
        self.ratio = ratio.amax(0) * (1 + GUARD)
        self.square_ratio = (ratio * slopes).amax(0) * (1 + GUARD)


def _refined(coefficients: Tensor) -> Tensor:
    """Coefficients of the same cubic spline on nodes at half the distance, from half a step before."""
    middles = (coefficients[1:] + coefficients[:-1]) / 2
    kept = (middles[1:] + middles[:-1] + 2 * coefficients[1:-1]) / 4
    return torch.stack([middles[:-1], kept], 1).flatten(0, 1)


def _scale_free(memberships: _Memberships, metric: Minkowski, pixels: int) -> dict[str, float]:
    """Bounds of the gradients of slog area and slog perimeter that hardly depend on the field's size.

    Area: with S = sum M and M'^2 <= k M, |grad slog A| <= a^2 sqrt(k S)/(1 + a^2 S) <= a sqrt(k)/2; of rows
    that differ, a^2 is the area of the heaviest pixel.

    Perimeter: by the coarea formula P is the mean over t of the perimeters of {M > t}, each of them at
    least a P1 sqrt(n) by the isoperimetric inequality (closed boundary), so that the 2-norm of M is at
    most P/(a P1); with M' <= r M, |grad slog P| <= a P1 r |M|/(1 + P) <= r. Of pixels that are not square, a
    P1 in the first of these places is less than in the second.

    What pixels of negligible membership break of these inequalities is added.
    """
    lattice = metric.lattice
    size = math.sqrt(lattice.pixel * lattice.heaviest)
    excess = memberships.rest * math.sqrt(pixels)
    area = size * memberships.square_ratio.sqrt() / 2 + size**2 * excess
    found = {"area": float(area.norm())}
    if metric.boundary == "closed":
        longer = lattice.pixel_perimeter / (lattice.roundness * PIXEL_PERIMETER)
        perimeter = memberships.ratio * longer + lattice.pixel_perimeter * excess
        found["perimeter"] = float(perimeter.norm())
    return found
