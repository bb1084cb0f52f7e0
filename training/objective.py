"""What a training step lowers."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class HomoscedasticLoss(nn.Module):
    """Sum over outputs of d_c exp(-s_c) + s_c, with learned s: the Laplace likelihood of distances d_c.

    After Kendall, Gal and Cipolla, "Multi-task learning using uncertainty to weigh losses" (2018):
    outputs that can be learnt better weigh more.

    Args:
        outputs: number of outputs C.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(outputs))

    def forward(self, distances: Tensor) -> Tensor:
        """Scalar loss of distances (C,)."""
        return (distances * torch.exp(-self.log_scale) + self.log_scale).sum()

    def weighed(self, distances: Tensor) -> Tensor:
        """Other distances (C,), weighed like those that the scales are learnt from, as a scalar."""
        return (distances * torch.exp(-self.log_scale.detach())).sum()
