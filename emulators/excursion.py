"""Excursion surrogate: thresholds, units and field size are run-time choices; nothing is trained."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArgumentError
from ..metrics import Metric, Minkowski
from .fields import as_batch
from .heads import ConstrainedHeads
from .relaxed import RelaxedMinkowski


class Excursion(nn.Module):
    """Minkowski curves of soft excursion sets, held to everything that exact curves obey.

    Metrics of excursion sets depend on a field through its masks {x >= u} alone, so this one sees
    soft masks alone, each threshold by itself: another climate, another unit, other thresholds or
    another field size are no other problem. The relaxation of every output is known, with a cold
    sigmoid for faithful values and a share of a hot one for gradients that reach further; what
    averaging over the sigmoid's width breaks of the declared constraints is projected back.

    Args:
        metric: a Minkowski metric.
        temperature: of the cold sigmoid, relative to each threshold.
        tail: share and relative temperature of the hot one, or None; see `RelaxedMinkowski`.

    Raises:
        ArgumentError: another metric, or an argument out of range.
    """

    stride = 1

    def __init__(
        self,
        metric: Metric,
        temperature: float = 0.005,
        tail: tuple[float, float] | None = (0.25, 0.05),
    ) -> None:
        super().__init__()
        if not isinstance(metric, Minkowski):
            raise ArgumentError(
                f"the excursion architecture is for Minkowski metrics, got {metric.name!r}; "
                "take a trained one, such as constrained"
            )
        self.metric = metric
        self.relaxed = RelaxedMinkowski(metric, temperature, tail)
        self.heads = ConstrainedHeads(metric)

    @property
    def temperature(self) -> float | tuple[float, ...]:
        """Relative temperature of the cold sigmoid; set it between steps to anneal."""
        return self.relaxed.temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        self.relaxed.temperature = value

    def arguments(self) -> dict[str, Any]:
        """The JSON-able keyword arguments, beside the metric, that build this module again."""
        arguments = self.relaxed.arguments()
        return {name: arguments[name] for name in ("temperature", "tail")}

    def forward(self, fields: Tensor) -> Tensor:
        """Curves (N, C, Q), in the metric's units, of fields (N, H, W) or (N, 1, H, W)."""
        fields = as_batch(fields, dry=-math.inf)
        frame = float(fields.shape[1] * fields.shape[2]) * self.metric.pixel_size**2
        curves = self.relaxed(fields)
        with torch.autocast(fields.device.type, enabled=False):
            return self.heads.project(curves, frame)
