"""The curves of a surrogate, compared with those of the target: what this package is for."""

from __future__ import annotations

import math

from objectives import SETTLE, Kind
from torch import Tensor, nn


class Curves(nn.Module):
    """A surrogate of a metric as a proper score of several members, or as a loss of a single one.

    Args:
        kind: which surrogate, its temperatures, and which share of the ensembles it sees.
        members: number of them.
    """

    def __init__(self, kind: Kind, members: int) -> None:
        super().__init__()
        surrogate, self.members = kind.build(), members
        self.comparison = (
            surrogate.as_loss(**dict(kind.arguments), in_state_dict=False)
            if members == 1
            else surrogate.as_score(in_state_dict=False)
        )
        self.temperature, self.share = kind.temperature, kind.share

    def at(self, progress: float) -> None:
        """Set the temperature of a moment of the training, from 0 to 1."""
        if self.temperature:
            self.comparison.anneal(progress / SETTLE, *self.temperature)

    def forward(self, members: Tensor, target: Tensor) -> Tensor:
        """Mean over ensembles; members (N, M, H, W), target (N, H, W)."""
        seen = math.ceil(self.share * len(target)) if self.training else len(target)
        # Not expm1, whose gradient takes three times as long; no threshold is near 0.
        rain, observed = members[:seen].exp() - 1, target[:seen].expm1()
        return self.comparison(rain[:, 0] if self.members == 1 else rain, observed)
