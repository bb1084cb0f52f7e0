"""What relaxations by soft masks in place of excursion sets share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...metrics import Metric
from ..differentiable import Relaxation
from ..tables import Tabled


class RelaxedMasks(Tabled, Relaxation):
    """Curves from soft excursion masks s = sigmoid((x - u)/tau), which tend to the exact ones as tau -> 0.

    A subclass computes them in `soft`, from the `memberships` of its fields.

    Args:
        metric: the metric.
        temperature: tau relative to the spread of the data at each threshold, tau_q = temperature * spread_q;
            or one value a threshold, relative likewise.
        forward: "soft", or "exact": exact values, with the gradient of the soft ones.
        thresholds: those of the masks; default: the metric's.
        spreads: see `Relaxation`.

    Raises:
        ArgumentError: an argument out of range.
    """

    u: Tensor
    widths: Tensor
    relative: Tensor
    tables = ("relative",)

    def __init__(
        self,
        metric: Metric,
        temperature: float | Sequence[float] = 0.05,
        forward: str = "soft",
        *,
        thresholds: Sequence[float] | None = None,
        spreads: Sequence[float] | None = None,
    ) -> None:
        super().__init__(metric, forward, thresholds, spreads)
        for name, values in (("u", self.steps_at), ("widths", self.spreads)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64), persistent=False)
        self.relative = torch.ones_like(self.u)
        self.temperature = temperature

    def set_temperature(self, relative: np.ndarray) -> None:
        """Take over relative temperatures (Q,)."""
        self.set_table("relative", torch.from_numpy(relative))

    def memberships(self, values: Tensor) -> Tensor:
        """Memberships (N, Q, H, W) of values (N, H, W), or of others at each threshold (N, Q, H, W)."""
        values = values[:, None] if values.ndim == 3 else values
        u = self.u.to(values.dtype)[:, None, None]
        tau = (self.table("relative", values) * self.widths).to(values.dtype)[:, None, None]
        return torch.sigmoid((values - u) / tau)

    def remainder(self, values: Tensor) -> Tensor:
        """Pixels (Q,) that are added to sums of memberships in denominators.

        Memberships of a dry field are tiny, but not 0: their ratios would tell two dry fields apart. As
        tau -> 0 they vanish faster than this.
        """
        return self.table("relative", values).to(values.dtype)
