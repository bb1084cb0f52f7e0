"""What needs no network: gradients from exact values of fields that are disturbed both ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Distances = Callable[[NDArray[Any], NDArray[Any]], NDArray[np.float64]]
"""Exact distances (N,) of fields (N, H, W) from targets (N, H, W)."""


class Perturbations(nn.Module):
    """The exact distance, whose gradient is estimated by antithetic perturbations (Spall 1992).

    g = mean_k (d(z + s e_k) - d(z - s e_k)) e_k / (2 s), e_k white noise, in z = asinh(x / c): a share of a
    large value, an amount for a small one. It is that of the distance as smoothed by such noise.

    Args:
        distances: the exact ones.
        scale: c, in the fields' unit.
        pairs: of calls a step, for each field.
        spread: s.
        seed: of the noise.
    """

    def __init__(
        self, distances: Distances, scale: float, *, pairs: int, spread: float = 0.1, seed: int = 0
    ) -> None:
        super().__init__()
        self.distances, self.scale, self.pairs, self.spread = distances, scale, pairs, spread
        self._both_ways = (spread, -spread)
        self.rng = np.random.default_rng(seed)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean distance (), of predictions (N, H, W) from targets (N, H, W)."""
        x, goal = prediction.detach().double().numpy(), target.numpy()
        z = np.arcsinh(x / self.scale)
        slope = np.zeros_like(z)
        for _ in range(self.pairs):
            noise = self.rng.standard_normal(z.shape)
            ahead, behind = (self.distances(self._field(z + s * noise), goal) for s in self._both_ways)
            slope += ((ahead - behind) / (2 * self.spread * self.pairs))[:, None, None] * noise
        value = self.distances(x.astype(np.float32), goal)
        gradient = torch.from_numpy(slope / (self.scale * np.cosh(z))).to(prediction)
        stand_in = (prediction * gradient).sum((1, 2))
        return (stand_in - stand_in.detach() + torch.from_numpy(value).to(prediction)).mean()

    def _field(self, z: NDArray[np.float64]) -> NDArray[np.float32]:
        return (self.scale * np.sinh(np.maximum(z, 0.0))).astype(np.float32)
