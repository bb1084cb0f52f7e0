"""Relaxation of the amplitude error of SAL."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ...metrics import SAL
from .masks import RelaxedMasks
from .relaxation import RELAXATIONS, NoRelaxation

_LEAST = 1e-15
"""Sums of rain below are as good as none."""


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
                "or emuloss.live(metric, fields), or train an emulator by emuloss.train"
            )
        # Rain has a natural zero, so that the bound of what is wet is its own measure.
        at = (metric.wet,)
        super().__init__(metric, temperature, forward, thresholds=at, spreads=at if metric.wet else (1.0,))

    def arguments(self) -> dict[str, Any]:
        """The JSON-able keyword arguments, beside the metric, that build this module again."""
        return {name: value for name, value in super().arguments().items() if name != "spreads"}

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
        # The gradient is in proportion to 1 / mean: single precision has to hold it, and its square.
        amplitude = (predicted - observed) / mean.clamp(min=_LEAST)
        return (amplitude.abs() if self.metric.absolute else amplitude)[:, None, None]
