"""The gate of pairwise emulators: closed where prediction and observation are equal."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Gate(nn.Module):
    """A factor in [0, 1) that is 0 where prediction and observation are equal.

    g = e/(1 + e), e = gain * sum of sqrt(1 + d^2) - 1 over the differences d of all encoded pixels: the
    gain, which is learned, decides how soon two fields count as different.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_gain = nn.Parameter(torch.zeros(()))

    def forward(self, difference: Tensor) -> Tensor:
        """Factors (N, 1, 1) of differences (N, channels, H, W)."""
        # d^2/(1 + sqrt(1 + d^2)) is sqrt(1 + d^2) - 1 without loss of digits at small d.
        squares = difference.to(torch.promote_types(difference.dtype, torch.float32)).square()
        excess = (squares / (1 + (1 + squares).sqrt())).sum((1, 2, 3))
        excess = self.log_gain.exp() * excess
        return (excess / (1 + excess))[:, None, None]
