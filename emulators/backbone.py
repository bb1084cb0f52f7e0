"""The Lipschitz CNN backbone: spectral-norm residual stages read out at every scale."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from .curves import signed_log1p


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    return spectral_norm(nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1))


class ResidualBlock(nn.Module):
    """Pre-activation residual block: x + conv(gelu(norm(conv(gelu(norm(x)))))), convs of norm <= 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        # Two channels a group at least: a lone value cannot be normalised, and a stage may be one pixel.
        self.norms = nn.ModuleList(nn.GroupNorm(min(8, width // 2), width) for _ in range(2))
        self.convs = nn.ModuleList(_conv(width, width) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same shape (N, width, h, w)."""
        y = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            y = conv(F.gelu(norm(y)))
        return x + y


class MultiScaleBackbone(nn.Module):
    """Entry convolution 5 x 5, then stages of halving resolution; every stage is read out.

    Counts such as a perimeter or an Euler number are sums over small windows, which a global
    average of the last stage alone would have to carry through every down-sampling. Reading out
    the sum of each stage's features, on the signed-log scale, gives each scale its own way to the
    heads.

    Args:
        channels: input channels.
        widths: channels of each stage; the first stage works at half the input's resolution.
    """

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.entry = nn.Conv2d(channels, widths[0], 5, stride=2, padding=2)
        self.down = nn.ModuleList(_conv(a, b, stride=2) for a, b in itertools.pairwise(widths))
        self.blocks = nn.ModuleList(ResidualBlock(width) for width in widths)
        self.stride = 2 ** len(widths)
        self.features = widths[0] + sum(widths)

    def forward(self, x: Tensor) -> Tensor:
        """Readout (N, features) of encoded fields (N, channels, H, W), H and W multiples of `stride`."""
        pixels = x.shape[2] * x.shape[3]
        x = F.gelu(self.entry(x))
        means = [_mean(x)]
        for stage, block in enumerate(self.blocks):
            x = block(x if stage == 0 else self.down[stage - 1](x))
            means.append(_mean(x))
        return signed_log1p(pixels * torch.cat(means, dim=1))


def _mean(x: Tensor) -> Tensor:
    """Means (N, C) of features (N, C, h, w), in float32 or better.

    Under autocast, rows are averaged in bfloat16 and their means in float32: a float32 copy of all
    features would cost a tenth of a training step, and rounding errors of rows average out.
    """
    return x.mean(3).mean(2, dtype=torch.promote_types(x.dtype, torch.float32))
