"""A U-Net that draws members: noise at each scale of its decoder, and numbers for all of a member."""

from __future__ import annotations

import itertools
import math

import torch
from network import WIDTHS, Block, Encoder, conv
from torch import Tensor, nn
from torch.nn import functional as F

_LOCAL = 4
"""Channels of noise at each scale."""
_GLOBAL = 16
"""Numbers that modulate the features of a member everywhere (Alet et al. 2025, arXiv 2506.10772)."""
HEAVIEST = 150.0
"""Most rain that is drawn, in mm/h: the most that radar composites tell. A single pixel beyond it costs a
score of the logarithm little, and is most of the power of a field."""
_MODULATION = 0.02
"""Standard deviation of the first weights that turn these into factors of features."""


class Generator(Encoder):
    """Members of log(1 + rain) of fine fields: that of interpolated coarse ones plus a drawn residual.

    It enlarges by interpolation and not by shuffling channels into pixels, which leaves a grid.

    Args:
        widths: channels at full resolution, half of it, and so on.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__(widths)
        upwards = list(itertools.pairwise(widths[::-1]))
        self.middle = nn.ModuleList(_Drawn(widths[-1]) for _ in range(2))
        self.ups = nn.ModuleList(nn.Conv2d(below, width, 1) for below, width in upwards)
        self.decoders = nn.ModuleList(_Drawn(width) for _, width in upwards)
        self.exit = conv(widths[0], 1)

    def forward(self, smooth: Tensor, draw: torch.Generator | None = None) -> Tensor:
        """log(1 + rain) (N, 1, H, W) of interpolated coarse rain in mm/h, a member of each.

        H and W are multiples of 2^(len(widths) - 1).
        """
        base = torch.log1p(smooth)
        x, skips = self.encoded(base)
        shared = torch.randn(len(x), _GLOBAL, generator=draw, device=x.device)
        for block in self.middle:
            x = block(x, shared, draw)
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            x = F.interpolate(up(x), scale_factor=2, mode="bilinear", align_corners=False)
            x = decoder(x + skips.pop() if skips else x, shared, draw)
        return (base + self.exit(F.relu(x)).float()).clamp(0.0, math.log1p(HEAVIEST))


class _Drawn(nn.Module):
    """A block whose input gets noise, and whose features are modulated by the numbers of the member."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.block = Block(width)
        self.noise = nn.Conv2d(_LOCAL, width, 1, bias=False)
        self.modulation = nn.Linear(_GLOBAL, 2 * width)
        nn.init.normal_(self.modulation.weight, std=_MODULATION)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, shared: Tensor, draw: torch.Generator | None) -> Tensor:
        noise = torch.randn(len(x), _LOCAL, *x.shape[2:], generator=draw, device=x.device)
        x = x + self.noise(noise.to(memory_format=torch.channels_last))
        return self.block(x, *self.modulation(shared)[:, :, None, None].chunk(2, dim=1))
