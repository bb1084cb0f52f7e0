"""Relaxation of the fractions skill score."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ...metrics import FSS
from .masks import RelaxedMasks
from .relaxation import RELAXATIONS


@RELAXATIONS.register(FSS)
class RelaxedFSS(RelaxedMasks):
    """Fractions skill score of soft masks: shares of windows are means of memberships.

    It stays symmetric, within [0, 1], and 1 for a field and itself.
    """

    metric: FSS

    def soft(self, batch: Tensor, given: Tensor) -> Tensor:
        """Soft curves (N, C, Q)."""
        predicted, observed = (self.memberships(fields) for fields in batch.unbind(1))
        lost = torch.isnan(given).any(1, keepdim=True).to(batch.dtype)
        widest = 2 * max(batch.shape[-2:]) - 1
        scores = []
        for window in self.metric.windows:
            # From this size on, each window holds all of the field: shares of larger ones are in proportion.
            size = min(window, widest)
            # What was not measured is no part of windows; the world outside is, and dry.
            known = (1 - lost) / (1 - _window_means(lost, size) * (size / window) ** 2 + lost)
            p, o = (known * _window_means(masks, size) for masks in (predicted, observed))
            error = (p - o).square().sum((2, 3))
            reference = (p.square() + o.square()).sum((2, 3))
            # A single wet pixel gives size^2 windows a share of 1/size^2.
            scores.append(1 - error / (reference + self.remainder(batch) / size**2))
        return torch.stack(scores, dim=1)


def _window_means(x: Tensor, size: int) -> Tensor:
    """Means over windows of size x size, zeros outside; same shape (N, channels, H, W)."""
    x = F.avg_pool2d(x, (size, 1), stride=1, padding=(size // 2, 0))
    return F.avg_pool2d(x, (1, size), stride=1, padding=(0, size // 2))
