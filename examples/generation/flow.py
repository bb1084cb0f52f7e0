"""A small flow-matching network that draws rain, and its sampling in Heun steps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from emuloss.losses import Guidance, Guidances
from torch import Tensor, nn
from torch.nn import functional as F

HEAVIEST = 150.0
"""Most rain that is drawn, in mm/h, as in the data."""
_DRIZZLE = 0.1
"""Rate in mm/h below which a pixel is dry, as in the data."""
_SCALE, _SHIFT = 2.5, 0.35
"""Fields of the flow are _SCALE log(1 + rain) - _SHIFT, whose mean is near 0 and whose variance is near 1."""
_WIDTHS = (32, 48, 64)
"""Channels at half the resolution, a quarter, and an eighth: full resolution costs most and sees little."""
_FINE = 8
"""Channels at full resolution, at the end."""
STEPS = 16
"""Heun steps of a sampling."""
_WAVES = 16
"""Sines and cosines that tell the time."""

Told = Callable[[Tensor], tuple[Tensor, Tensor]]
"""The model's velocity and clean estimate at a moment, of noisy fields."""
Correct = Callable[[Tensor, float, Told], tuple[Tensor, Tensor]]
"""At noisy fields and a moment: the model's velocity, and what is added to it."""


def to_physical(x: Tensor) -> Tensor:
    """Rain (N, H, W) in mm/h of fields (N, 1, H, W) of the flow, differentiable."""
    return ((x[:, 0] + _SHIFT) / _SCALE).clamp(0.0, math.log1p(HEAVIEST)).expm1()


def from_physical(rain: Tensor) -> Tensor:
    """Fields (N, 1, H, W) of the flow, of rain (N, H, W) in mm/h."""
    return rain.log1p()[:, None] * _SCALE - _SHIFT


def as_radar(x: Tensor) -> Tensor:
    """Rain (N, H, W) of fields of the flow as the data have it: from 0.1 mm/h, in steps of 0.01."""
    rain = (to_physical(x.detach()) * 100).round() / 100
    return rain.masked_fill(rain < _DRIZZLE - 1e-6, 0.0)


class Flow(nn.Module):
    """The velocity from noise at t = 0 to rain at t = 1 (Lipman et al. 2023, arXiv 2210.02747).

    Args:
        widths: channels at half the resolution, half of that, and so on.
    """

    def __init__(self, widths: tuple[int, ...] = _WIDTHS) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(2 * _WAVES, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU())
        self.entry = nn.Conv2d(4, widths[0], 3, padding=1)
        self.downs = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in itertools.pairwise(widths)
        )
        self.inner = nn.ModuleList(_Block(width) for width in widths)
        self.middle = _Block(widths[-1])
        upwards = list(itertools.pairwise(widths[::-1]))
        self.ups = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in upwards)
        self.outer = nn.ModuleList(_Block(b) for _, b in upwards)
        self.finer = nn.Conv2d(widths[0], 4 * _FINE, 1)
        self.fine = nn.Conv2d(_FINE + 1, _FINE, 3, padding=1)
        self.exit = nn.Conv2d(_FINE, 1, 3, padding=1)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Velocity (N, 1, H, W) at fields of this shape and times (N,); H and W are multiples of 8."""
        phases = t[:, None] * 2 ** torch.linspace(0, 8, _WAVES, device=x.device)
        time = self.time(torch.cat([phases.sin(), phases.cos()], 1))
        h, skips = self.entry(F.pixel_unshuffle(x, 2)), []
        for block, down in zip(self.inner, [*self.downs, None], strict=True):
            h = block(h, time)
            if down is not None:
                skips.append(h)
                h = down(h)
        h = self.middle(h, time)
        for up, block in zip(self.ups, self.outer, strict=True):
            h = block(F.interpolate(up(h), scale_factor=2, mode="nearest") + skips.pop(), time)
        h = torch.cat([F.pixel_shuffle(self.finer(F.silu(h)), 2), x], 1)
        return self.exit(F.silu(self.fine(h))).float()


class _Block(nn.Module):
    """x + conv(silu(scaled conv(silu(norm(x))))), scaled and shifted by what tells the time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.told = nn.Linear(64, 2 * width)
        for parameter in self.second.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        factor, shift = self.told(time)[:, :, None, None].chunk(2, dim=1)
        h = self.first(F.silu(self.norm(x))) * (1 + factor) + shift
        return x + self.second(F.silu(h))


def noise(count: int, size: int, seed: int) -> Tensor:
    """Where samples begin, (count, 1, size, size)."""
    return torch.randn(count, 1, size, size, generator=torch.Generator().manual_seed(seed))


def sample(
    flow: Flow,
    start: Tensor,
    steps: int = STEPS,
    correct: Correct | None = None,
    begin: int = 0,
    end: int | None = None,
) -> Tensor:
    """Follow the velocity from noise (N, 1, H, W) at t = 0 to t = 1 in steps of Heun's method.

    Args:
        flow: the network.
        start: where to begin.
        steps: number of them; the last one is Euler's, as the time of its second half is the end.
        correct: adds to the velocity, once a step; the second half of a step keeps what it added.
        begin: step to begin with, whose time start belongs to.
        end: step to end before; default: all of them.
    """
    x = start

    def told(t: float) -> Told:
        def at(x: Tensor) -> tuple[Tensor, Tensor]:
            velocity = flow(x, torch.full((len(x),), t))
            return velocity, x + (1 - t) * velocity

        return at

    for k in range(begin, steps if end is None else end):
        t, after = k / steps, (k + 1) / steps
        with torch.no_grad():
            added = torch.zeros_like(x)
            if correct is None:
                first = told(t)(x)[0]
            else:
                first, added = correct(x, t, told(t))
            ahead = x + (first + added) / steps
            second = told(after)(ahead)[0] if k < steps - 1 else first
            x = x + ((first + second) / 2 + added) / steps
    return x


def renoised(x: Tensor, t: float, before: float) -> Tensor:
    """Noisy fields at an earlier time, by fresh noise: distributed as if they had not come further yet."""
    kept = before / t
    return kept * x + math.sqrt((1 - before) ** 2 - (kept * (1 - t)) ** 2) * torch.randn_like(x)


def steered(guidance: Guidance | Guidances, through: bool = True, half: bool = False) -> Correct:
    """What a guidance adds to the velocity, through the model or without; half: in bfloat16."""

    def correct(x: Tensor, t: float, told: Told) -> tuple[Tensor, Tensor]:
        with torch.set_grad_enabled(through), torch.autocast("cpu", torch.bfloat16, enabled=half):
            x = x.detach().requires_grad_(through)
            velocity, estimate = told(x)
        return velocity.detach(), guidance(x, estimate, t) / (1 - t)

    return correct
