"""A small U-Net that adds to interpolated coarse rain, in log space, what it lost."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FOLD = 4
"""Edge in pixels of the blocks that the first convolution sees as one: below it, the input is smooth."""
WIDTHS = (16, 32, 48, 64, 96)
"""Channels at full resolution, half of it, and so on."""


class Encoder(nn.Module):
    """The half of a U-Net that halves: what those that predict and those that draw have in common.

    Args:
        widths: channels at full resolution, half of it, and so on.
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        inner = widths[FOLD.bit_length() - 1 :]
        self.entry = conv(FOLD**2, inner[0])
        self.encoders = nn.ModuleList(Block(width) for width in inner[:-1])
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in itertools.pairwise(inner))

    def encoded(self, base: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Features at the coarsest resolution of fields (N, 1, H, W), and those at each one above."""
        x = self.entry(F.pixel_unshuffle(base, FOLD))
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        return x, skips


class UNet(Encoder):
    """log(1 + rain) of fine fields: that of interpolated coarse ones plus a residual, at least 0.

    Args:
        widths: channels at full resolution, half of it, and so on.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__(widths)
        self.middle = nn.Sequential(Block(widths[-1]), Block(widths[-1]))
        upwards = list(itertools.pairwise(widths[::-1]))
        self.ups = nn.ModuleList(nn.Conv2d(below, 4 * width, 1) for below, width in upwards)
        self.decoders = nn.ModuleList(Block(width) for _, width in upwards)
        self.exit = conv(widths[0], 1)

    def forward(self, smooth: Tensor) -> Tensor:
        """log(1 + rain) (N, 1, H, W) of interpolated coarse rain in mm/h.

        H and W are multiples of 2^(len(widths) - 1).
        """
        base = torch.log1p(smooth)
        x, skips = self.encoded(base)
        x = self.middle(x)
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            x = F.pixel_shuffle(up(x), 2)
            x = decoder(x + skips.pop() if skips else x)
        return F.relu(base + self.exit(F.relu(x)).float())


class Block(nn.Module):
    """Residual block x + conv(relu(conv(relu(x)))), the identity at first, so that no norm is needed.

    What is between the convolutions may be modulated: (1 + factor) times it, plus a shift.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = conv(width, width), conv(width, width)
        for parameter in self.second.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, factor: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        """Features (N, C, H, W) of features; factor and shift (N, C, 1, 1) come together."""
        features = self.first(F.relu(x))
        if factor is not None and shift is not None:
            features = features * (1 + factor) + shift
        return x + self.second(F.relu(features))


def conv(inputs: int, outputs: int) -> nn.Conv2d:
    """A convolution of 3 x 3 pixels that keeps the size."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)
