"""What relaxations by soft masks in place of excursion sets share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...metrics import Metric
from ..differentiable import Relaxation
from .soft_counts import threshold_sizes


class RelaxedMasks(Relaxation):
    """Curves from soft excursion masks s = sigmoid((x - u)/tau), which tend to the exact ones as tau -> 0.

    A subclass computes them in `soft`, from the `memberships` of its fields.

    Args:
        metric: the metric.
        temperature: tau relative to each threshold, tau_q = temperature * |u_q|; or one value a threshold,
            relative likewise. A threshold of 0 takes the smallest |u| of the others.
        forward: "soft", or "exact": exact values, with the gradient of the soft ones.
        thresholds: those of the masks; default: the metric's.

    Raises:
        ArgumentError: an argument out of range.
    """

    u: Tensor
    sizes: Tensor
    relative: Tensor

    def __init__(
        self,
        metric: Metric,
        temperature: float | Sequence[float] = 0.05,
        forward: str = "soft",
        *,
        thresholds: Sequence[float] | None = None,
    ) -> None:
        super().__init__(metric, forward, thresholds)
        for name, values in (("u", np.array(self.steps_at)), ("sizes", threshold_sizes(self.steps_at))):
            self.register_buffer(name, torch.from_numpy(values), persistent=False)
        self.register_buffer("relative", torch.ones_like(self.u), persistent=False)
        self.temperature = temperature

    def set_temperature(self, relative: np.ndarray) -> None:
        """Take over relative temperatures (Q,)."""
        self.relative = torch.from_numpy(relative).to(self.relative)

    def memberships(self, values: Tensor) -> Tensor:
        """Memberships (N, Q, H, W) of values (N, H, W)."""
        u = self.u.to(values.dtype)[:, None, None]
        tau = (self.relative * self.sizes).to(values.dtype)[:, None, None]
        return torch.sigmoid((values[:, None] - u) / tau)

    def remainder(self, values: Tensor) -> Tensor:
        """Pixels (Q,) that are added to sums of memberships in denominators.

        Memberships of a dry field are tiny, but not 0: their ratios would tell two dry fields apart. As
        tau -> 0 they vanish faster than this.
        """
        return self.relative.to(values.dtype)
