"""Relaxation of the amplitude error of SAL."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ...metrics import SAL
from .masks import RelaxedMasks
from .relaxation import RELAXATIONS, NoRelaxation


@RELAXATIONS.register(SAL)
class RelaxedAmplitude(RelaxedMasks):
    """Amplitude error of SAL: rain counts by its membership in the wet pixels.

    Where all rain above 0 counts, nothing is relaxed: the exact value has a gradient. The others of SAL's
    outputs depend on objects, of which no relaxation is known.

    Raises:
        NoRelaxation: a metric with other outputs than the amplitude.
        ArgumentError: see `RelaxedMasks`.
    """

    metric: SAL

    def __init__(
        self, metric: SAL, temperature: float | Sequence[float] = 0.05, forward: str = "soft"
    ) -> None:
        if metric.outputs != ("amplitude",):
            others = ", ".join(output for output in metric.outputs if output != "amplitude")
            raise NoRelaxation(
                f"no relaxation of metric {metric.name!r} is known for {others}; take outputs=['amplitude'], "
                "or train an emulator with train_surrogate.py"
            )
        super().__init__(metric, temperature, forward, thresholds=(metric.wet,))

    def forward(self, fields: Tensor) -> Tensor:
        """Curves (N, 1, 1) of pairs (N, 2, H, W); SAL takes no infinite pixel for measured."""
        return super().forward(fields.masked_fill(fields.isinf(), math.nan))

    def soft(self, batch: Tensor, given: Tensor) -> Tensor:
        """Soft curves (N, C, Q)."""
        wet = self.metric.wet
        rain = batch.clamp(min=0)  # missing pixels are dry
        if wet:
            rain = rain * self.memberships(batch.flatten(0, 1))[:, 0].view_as(batch)
        predicted, observed = rain.sum((2, 3)).unbind(1)
        # Drizzle below the bound is no rain to compare.
        mean = (predicted + observed) / 2 + wet * self.remainder(batch)
        amplitude = (predicted - observed) / torch.where(mean > 0, mean, 1.0)
        return (amplitude.abs() if self.metric.absolute else amplitude)[:, None, None]
