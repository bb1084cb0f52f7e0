"""Relaxation of the fractions skill score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import ArgumentError
from ...foundation.limits import shown
from ...metrics import FSS
from ...metrics.fss import ranks
from ..spreads import in_own_spread
from .masks import RelaxedMasks
from .relaxation import RELAXATIONS

_FAR = 1e30
"""Distances of pixels from thresholds that neither reach and have no gradient."""


@RELAXATIONS.register(FSS)
class RelaxedFSS(RelaxedMasks):
    """Fractions skill score of soft masks: shares of windows are means of memberships.

    It stays symmetric, within [0, 1], and 1 for a field and itself.

    Where thresholds are percentiles of each field, its soft step stands halfway between the least pixel
    that reaches the percentile and the greatest that does not, and is as wide as the temperature says,
    relative to the median distance of the field's pixels from there. In gradients the width is held
    constant, and the step moves with the pixels that lie in it, so that as much of the field stays in its
    soft set: it is the derivative of a soft quantile, and 0 where all pixels rise alike. A set that is all
    of a field has no step and no gradient.

    Args:
        metric: a fractions skill score.
        temperature: tau relative to the spread of the data at each threshold, tau_q = temperature * spread_q;
            or one value a threshold, relative likewise.
        forward: "soft", or "exact": exact values, with the gradient of the soft ones.
        spreads: see `Relaxation`; not with percentiles, of which each field tells its own.

    Raises:
        ArgumentError: an argument out of range.
    """

    metric: FSS
    shares: Tensor

    def __init__(
        self,
        metric: FSS,
        temperature: float | Sequence[float] = 0.05,
        forward: str = "soft",
        *,
        spreads: Sequence[float] | None = None,
    ) -> None:
        if metric.percentiles and spreads is not None:
            raise ArgumentError(
                f"spreads (={shown(spreads)}) are for thresholds; with percentiles each field tells its own, "
                "leave them out"
            )
        steps: dict[str, Any] = {"spreads": spreads}
        if metric.percentiles:
            steps = {"thresholds": (0.0,) * len(metric.levels), "spreads": (1.0,) * len(metric.levels)}
        super().__init__(metric, temperature, forward, **steps)
        self.register_buffer("shares", torch.tensor(metric.shares, dtype=torch.float64), persistent=False)

    def arguments(self) -> dict[str, Any]:
        """The JSON-able keyword arguments, beside the metric, that build this module again."""
        unset = "spreads" if self.metric.percentiles else ""
        return {name: value for name, value in super().arguments().items() if name != unset}

    def soft(self, batch: Tensor, given: Tensor) -> Tensor:
        """Soft curves (N, C, Q)."""
        lost = torch.isnan(given).any(1, keepdim=True)
        predicted, observed = (self._masks(fields, lost) for fields in batch.unbind(1))
        absent = lost.to(batch.dtype)
        widest = 2 * max(batch.shape[-2:]) - 1
        scores = []
        for window in self.metric.windows:
            # From this size on, each window holds all of the field: shares of larger ones are in proportion.
            size = min(window, widest)
            # What was not measured is no part of windows; the world outside is, and dry.
            known = (1 - absent) / (1 - _window_means(absent, size) * (size / window) ** 2 + absent)
            p, o = (known * _window_means(masks, size) for masks in (predicted, observed))
            error = (p - o).square().sum((2, 3))
            reference = (p.square() + o.square()).sum((2, 3))
            # A single wet pixel gives size^2 windows a share of 1/size^2.
            scores.append(1 - error / (reference + self.remainder(batch) / size**2))
        return torch.stack(scores, dim=1)

    def _masks(self, fields: Tensor, lost: Tensor) -> Tensor:
        """Memberships (N, Q, H, W) of fields (N, H, W); lost, (N, 1, H, W), is what was not measured."""
        if not self.metric.percentiles:
            return self.memberships(fields)
        steps = self._own_steps(fields, lost)
        with torch.no_grad():
            found = self.memberships(steps)
            slopes = found * (1 - found)
            slopes = slopes / slopes.sum((2, 3), keepdim=True).clamp(min=torch.finfo(slopes.dtype).tiny)
        drift = (slopes * (steps - steps.detach())).sum((2, 3), keepdim=True)
        return self.memberships(steps - drift)

    def _own_steps(self, fields: Tensor, lost: Tensor) -> Tensor:
        """How far pixels lie from each percentile of their field, in its own spread, (N, Q, H, W)."""
        shape = (fields.shape[0], len(self.metric.levels), *fields.shape[1:])
        values, missing = fields.detach().flatten(1), lost.flatten(1)
        measured = (~missing).sum(1, keepdim=True)
        places = ranks(self.shares, measured.double()).clamp(min=0).long()
        least = values.masked_fill(missing, math.inf).sort(1).values.gather(1, places)
        lower = (values[:, None] < least[..., None]) & ~missing[:, None]
        greatest = values[:, None].where(lower, -math.inf).amax(2)
        step = torch.where(lower.any(2), (least + greatest) / 2, 0.0)
        steps = in_own_spread(fields[:, None].expand(shape).flatten(0, 1), step.flatten()).view(shape)
        steps = steps.where(lower.any(2)[..., None, None], _FAR)
        return steps.masked_fill(lost, -_FAR)


def _window_means(x: Tensor, size: int) -> Tensor:
    """Means over windows of size x size, zeros outside; same shape (N, channels, H, W)."""
    x = F.avg_pool2d(x, (size, 1), stride=1, padding=(size // 2, 0))
    return F.avg_pool2d(x, (1, size), stride=1, padding=(0, size // 2))
