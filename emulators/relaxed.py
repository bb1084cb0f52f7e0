"""Analytical relaxation of the Minkowski curves: soft excursion sets, no training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArgumentError
from ..metrics import Metric, Minkowski
from ..metrics.minkowski import functionals
from ._soft_histogram import ROWS
from .fields import as_batch
from .soft_counts import SoftCounts

RELAXABLE = ("area", "perimeter", "euler")
"""Outputs that have a local relaxation."""


class RelaxedMinkowski(nn.Module):
    """Area, perimeter and Euler number of soft excursion sets s = sigmoid((x - u)/tau).

    The exact functionals are linear in counts of pixels, pairs and blocks; soft counts in their
    place give the relaxation, which tends to the exact values as tau -> 0.

    Args:
        metric: a Minkowski metric whose outputs are among area, perimeter and euler.
        temperature: tau relative to each threshold, tau_q = temperature * |u_q|; or one value a
            threshold, relative likewise. A threshold of 0 takes the smallest |u| of the others.
        forward: "soft", or "exact": exact values, with the gradient of the soft ones.

    Raises:
        ArgumentError: an output without a local relaxation, or an argument out of range.
    """

    def __init__(
        self, metric: Minkowski, temperature: float | Sequence[float] = 0.05, forward: str = "soft"
    ) -> None:
        super().__init__()
        missing = [name for name in metric.outputs if name not in RELAXABLE]
        if missing:
            raise ArgumentError(
                f"no local relaxation of {', '.join(missing)} is known; "
                f"ask the metric for outputs among {', '.join(RELAXABLE)}, or train an emulator"
            )
        if forward not in ("soft", "exact"):
            raise ArgumentError(f"forward must be 'soft' or 'exact', got {forward!r}")
        self.metric = metric
        self.exact = forward == "exact"
        self.counts = SoftCounts(
            metric.thresholds,
            temperature,
            touched=metric.connectivity == 2,
            degrees=metric.boundary == "open",
        )

    @property
    def temperature(self) -> float | tuple[float, ...]:
        """Relative temperature; set it between steps to anneal (see `geometric`)."""
        return self.counts.temperature

    @temperature.setter
    def temperature(self, value: float | Sequence[float]) -> None:
        self.counts.temperature = value

    def arguments(self) -> dict[str, Any]:
        """The JSON-able keyword arguments, beside the metric, that build this module again."""
        temperature = self.temperature
        return {
            "temperature": temperature if isinstance(temperature, float) else list(temperature),
            "forward": "exact" if self.exact else "soft",
        }

    def forward(self, fields: Tensor) -> Tensor:
        """Curves (N, C, Q), in the metric's units, of fields (N, H, W) or (N, 1, H, W)."""
        fields = as_batch(fields, dry=-math.inf)
        with torch.autocast(fields.device.type, enabled=False):
            curves = self._soft(fields)
        if self.exact:
            exact = torch.from_numpy(self.metric(fields.detach().cpu().numpy())).to(curves)
            curves = exact + (curves - curves.detach())
        return curves

    def _soft(self, fields: Tensor) -> Tensor:
        counts = self.counts(fields)
        curves = functionals(
            *(counts[:, row] for row in range(ROWS)),
            pixel_size=self.metric.pixel_size,
            boundary=self.metric.boundary,
            connectivity=self.metric.connectivity,
        )
        return torch.stack([curves[name] for name in self.metric.outputs], dim=1)


def geometric(start: float, end: float, progress: float) -> float:
    """Annealing: the temperature at progress in [0, 1] on the geometric way from start to end."""
    return start * (end / start) ** min(max(progress, 0.0), 1.0)


def relaxation(metric: Metric, **arguments: Any) -> RelaxedMinkowski:
    """The analytical relaxation of a metric.

    Raises:
        ArgumentError: none is known for it.
    """
    if not isinstance(metric, Minkowski):
        raise ArgumentError(
            f"no relaxation of metric {metric.name!r} is known; train an emulator with train_surrogate.py"
        )
    return RelaxedMinkowski(metric, **arguments)
