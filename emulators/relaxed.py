"""Analytical relaxations of the Minkowski curves: soft excursion sets, no training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArgumentError
from ..metrics import Metric, Minkowski
from ..metrics.minkowski import functionals
from ._soft_histogram import COMPONENTS, LOCAL_ROWS
from .fields import as_batch
from .soft_counts import SoftCounts


class RelaxedMinkowski(nn.Module):
    """Minkowski curves of soft excursion sets s = sigmoid((x - u)/tau).

    Area, perimeter and Euler number are linear in counts of pixels, pairs and blocks, components in
    counts of the pixels that start them and of those that join two. Soft counts in their place give the
    relaxation, which tends to the exact values as tau -> 0. It is the mean of the exact curves over
    thresholds with logistic noise: sigmoid((x - u)/tau) is the probability of x >= u + tau t, t logistic.
    The gradient of area, perimeter and Euler number reaches every pixel near a threshold, that of
    components and holes maxima and saddles alone: the critical pixels of the merge tree, as in Hu et al.
    2019, "Topology-preserving deep image segmentation", but counted without pairing them.

    Args:
        metric: a Minkowski metric.
        temperature: tau relative to each threshold, tau_q = temperature * |u_q|; or one value a
            threshold, relative likewise. A threshold of 0 takes the smallest |u| of the others.
        tail: (share, temperature) of a second, hotter sigmoid mixed into s. A cold sigmoid keeps the
            values close to the exact ones, a small share of a hot one gives pixels away from every
            threshold a gradient.
        forward: "soft", or "exact": exact values, with the gradient of the soft ones.

    Raises:
        ArgumentError: an argument out of range.
    """

    stride = 1

    def __init__(
        self,
        metric: Minkowski,
        temperature: float | Sequence[float] = 0.05,
        tail: tuple[float, float] | None = None,
        forward: str = "soft",
    ) -> None:
        super().__init__()
        if forward not in ("soft", "exact"):
            raise ArgumentError(f"forward must be 'soft' or 'exact', got {forward!r}")
        self.metric = metric
        self.exact = forward == "exact"
        self.counts = SoftCounts(
            metric.thresholds,
            temperature,
            tail=tail,
            touched=metric.connectivity == 2,
            degrees=metric.boundary == "open",
            components=bool({"components", "holes"} & set(metric.outputs)),
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
            "tail": None if self.counts.tail is None else list(self.counts.tail),
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
            *(counts[:, row] for row in range(LOCAL_ROWS)),
            pixel_size=self.metric.pixel_size,
            boundary=self.metric.boundary,
            connectivity=self.metric.connectivity,
        )
        curves["components"] = counts[:, COMPONENTS]
        curves["holes"] = curves["components"] - curves["euler"]
        return torch.stack([curves[name] for name in self.metric.outputs], dim=1)


HOT, COLD = 0.2, 0.05
"""Relative temperatures between which losses of networks in training are annealed: see
docs/super_resolution.md."""


def geometric(start: float, end: float, progress: float) -> float:
    """Annealing: the temperature at progress in [0, 1] on the geometric way from start to end."""
    return start * (end / start) ** min(max(progress, 0.0), 1.0)


class NoRelaxation(ArgumentError):
    """No relaxation of a metric, or of one of its outputs, is known."""


@singledispatch
def relaxation(metric: Metric, **arguments: Any) -> nn.Module:
    """The analytical relaxation of a metric.

    A kind of metric gets one by `relaxation.register(kind, relaxed)`: a module that is built as
    relaxed(metric, temperature=..., forward=...) and has `metric`, `stride`, `arguments()`, `temperature`;
    of a metric whose outputs it does not know, it raises NoRelaxation.

    Raises:
        NoRelaxation: none is known for it; an `ArgumentError`.
    """
    raise NoRelaxation(
        f"no relaxation of metric {metric.name!r} is known; train an emulator with train_surrogate.py"
    )


def relaxable(metric: Metric) -> bool:
    """Whether a relaxation of a metric is known."""
    try:
        relaxation(metric)
    except NoRelaxation:
        return False
    return True


relaxation.register(Minkowski, RelaxedMinkowski)
