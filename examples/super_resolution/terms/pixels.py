"""Scores of pixels: squared error, and CRPS of pixels or of their means over windows."""

from __future__ import annotations

import torch
from emuloss.emulators.scores import ALMOST, kernel_score, pairs_of
from torch import Tensor, nn
from torch.nn import functional as F

_MEASURED = 0.5
"""Least share of a window that has to be measured, for its mean to count."""


class SquaredError(nn.Module):
    """Mean squared error of the members."""

    def forward(self, members: Tensor, target: Tensor) -> Tensor:
        """Mean over members (N, M, H, W) and the pixels of a target (N, H, W) that are not NaN."""
        measured = ~target.isnan()[:, None]
        errors = (members - target.nan_to_num(0.0)[:, None]).square() * measured
        return errors.sum() / (measured.sum() * members.shape[1]).clamp(min=1)


class Crps(nn.Module):
    """Almost fair continuous ranked probability score (Lang et al. 2024, arXiv 2412.15832).

    Args:
        windows: edges in pixels of the squares over whose means the score is taken; 1 is of pixels. The mean
            over several of them is a multiscale score, which sees how pixels vary together.
    """

    def __init__(self, windows: tuple[int, ...] = (1,)) -> None:
        super().__init__()
        self.windows = windows

    def forward(self, members: Tensor, target: Tensor) -> Tensor:
        """Mean over the pixels of a target (N, H, W) that are not NaN; members are (N, M, H, W)."""
        measured = (~target.isnan()).to(members)[:, None]
        fields = torch.cat([members, target.nan_to_num(0.0)[:, None]], 1) * measured
        scores = []
        for window in self.windows:
            share = F.avg_pool2d(measured, window)
            means = F.avg_pool2d(fields, window) / share.clamp(min=_MEASURED)
            counts = (share >= _MEASURED).to(means)[:, 0]
            found = crps(means[:, :-1], means[:, -1])
            scores.append((found * counts).sum() / counts.sum().clamp(min=1))
        return torch.stack(scores).mean()


def crps(members: Tensor, target: Tensor, fairness: float = ALMOST) -> Tensor:
    """The score of each value: (N, M, ...) and (N, ...) onto (N, ...)."""
    count = members.shape[1]
    first, second = pairs_of(count, members.device)
    between = (members[:, first] - members[:, second]).abs()
    return kernel_score(
        (members - target[:, None]).abs().movedim(1, -1), between.movedim(1, -1), count, fairness
    )
