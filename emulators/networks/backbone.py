"""CNN backbones: encoded fields to a vector of features."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from ..curves import signed_log1p
from .normalisation import NormGelu, gelu
from .spectral import spectral_conv

_READOUT_SCALE = 0.25
"""Brings signed-log sums, around 5, to order 1; part of the architecture."""


_MOMENTS = 5
"""Of each channel: row and column of its centre, their variances and their covariance."""
_MOMENTS_SCALE = 4.0
"""Brings these, around 0.3, to order 1; part of the architecture."""


class PlainBackbone(nn.Module):
    """Convolutions 3 x 3, ReLU and max-pooling, and the average of the last features.

    Args:
        channels: input channels.
        widths: channels of each stage, each of which halves the resolution.
        spectral: spectral normalisation of the convolutions: "none", "power" or "exact".
    """

    def __init__(self, channels: int, widths: tuple[int, ...], spectral: str = "none") -> None:
        super().__init__()
        self.layers = nn.Sequential()
        for inputs, outputs in itertools.pairwise((channels, *widths)):
            self.layers.extend([spectral_conv(inputs, outputs, 3, kind=spectral), nn.ReLU(), nn.MaxPool2d(2)])
        self.stride = 2 ** len(widths)
        self.features = widths[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Readout (N, features) of encoded fields (N, channels, H, W), H and W multiples of `stride`."""
        return _mean(self.layers(x))


class ResidualBlock(nn.Module):
    """Pre-activation residual block: x + conv(gelu(norm(conv(gelu(norm(x))))))."""

    def __init__(self, width: int, spectral: str) -> None:
        super().__init__()
        # Two channels a group at least: a lone value cannot be normalised, and a stage may be one pixel.
        self.norms = nn.ModuleList(NormGelu(min(8, width // 2), width) for _ in range(2))
        self.convs = nn.ModuleList(spectral_conv(width, width, 3, kind=spectral) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same shape (N, width, h, w)."""
        y = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            y = conv(norm(y))
        return y.add_(x)


class ResidualBackbone(nn.Module):
    """Entry convolution 5 x 5, then stages of residual blocks, each at half the last one's resolution.

    Args:
        channels: input channels.
        widths: channels of each stage; the first stage works at half the input's resolution.
        depth: residual blocks of a stage.
        readout: "last": averages of the last stage's features; "all": sums of every stage's features,
            on the signed-log scale. Counts such as a perimeter or an Euler number are sums over small
            windows, which the last stage alone would have to receive through every down-sampling;
            reading out each stage gives each scale its own way to the heads.
        spectral: spectral normalisation of the stages' convolutions: "none", "power" or "exact".
        located: also read out where the input channels lie: their first and second moments about the centre
            of the field, see `_moments`. Sums of features alone do not tell where in a field something is.
    """

    def __init__(
        self,
        channels: int,
        widths: tuple[int, ...],
        depth: int,
        readout: str,
        spectral: str,
        located: bool = False,
    ) -> None:
        super().__init__()
        self.entry = nn.Conv2d(channels, widths[0], 5, stride=2, padding=2)
        self.down = nn.ModuleList(
            spectral_conv(a, b, 3, stride=2, kind=spectral) for a, b in itertools.pairwise(widths)
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width, spectral) for _ in range(depth))) for width in widths
        )
        self.all_stages = readout == "all"
        self.stride = 2 ** len(widths)
        sums = widths[0] + sum(widths) if self.all_stages else widths[-1]
        self.moments = _MOMENTS * channels * located
        self.features = sums + self.moments

    def forward(self, x: Tensor) -> Tensor:
        """Readout (N, features) of encoded fields (N, channels, H, W), H and W multiples of `stride`."""
        pixels = x.shape[2] * x.shape[3]
        moments = [_moments(x)] if self.moments else []
        x = gelu(self.entry(x))
        read = [x] if self.all_stages else []
        for k, stage in enumerate(self.stages):
            x = stage(self.down[k - 1](x) if k else x)
            if self.all_stages or k == len(self.stages) - 1:
                read.append(x)
        sums = torch.cat([_mean(x) for x in read], dim=1)
        if self.all_stages:
            sums = _READOUT_SCALE * signed_log1p(pixels * sums)
        return torch.cat([sums, *moments], dim=1)


def _mean(x: Tensor) -> Tensor:
    """Means (N, C) of features (N, C, h, w), in float32 or better.

    Under autocast, rows are averaged in bfloat16 and their means in float32: a float32 copy of all
    features would cost a tenth of a training step, and rounding errors of rows average out.
    """
    return x.mean(3).mean(2, dtype=torch.promote_types(x.dtype, torch.float32))


def _moments(x: Tensor) -> Tensor:
    """Where channels (N, C, H, W) lie, (N, 5 C): their centres, and variances and covariance about these.

    With sums weighted by the size of the channel, and rows and columns from -1 to 1 across the field; in
    float32 or better. Of soft masks they tell where these are, how far they extend, and in which direction.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32)).abs()
    rows, columns = (
        torch.arange(n, dtype=x.dtype, device=x.device) * (2 / n) + (1 / n - 1) for n in x.shape[2:]
    )
    by_row, by_column = x.sum(3), x.sum(2)
    total = by_row.sum(2) + torch.finfo(x.dtype).eps * (x.shape[2] * x.shape[3])
    row, column = (by_row * rows).sum(2) / total, (by_column * columns).sum(2) / total
    found = [
        row,
        column,
        (by_row * rows**2).sum(2) / total - row**2,
        (by_column * columns**2).sum(2) / total - column**2,
        ((x * columns).sum(3) * rows).sum(2) / total - row * column,
    ]
    return _MOMENTS_SCALE * torch.cat(found, dim=1)
