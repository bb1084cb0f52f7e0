"""Networks with the coarse observer whose work they undo: one that predicts, and one that draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from data import Coarsening
from emuloss.errors import ArgumentError
from generator import HEAVIEST, Generator
from network import UNet
from torch import Tensor, nn
from tqdm import tqdm

_BATCH = 64
"""Fields at once where no gradient is taken."""
_TRACE = 0.002
"""Rain in mm/h that is added to coarse means before their ratio is taken."""
_EDGE = 16
"""What a generator's sides are multiples of, in pixels: it halves them four times."""
_LARGEST = 3.0
"""Ratio of coarse means that a member is multiplied by at most, twice: more would make storms of traces."""


@dataclass(frozen=True)
class Options:
    """What decides a training, beside data and objective.

    Attributes:
        budget: fields seen at most.
        factor: side of a coarse cell, in pixels.
        batch_size: fields a step, over all processes.
        learning_rate: peak; it rises linearly and falls along a half cosine.
        clip: largest norm of the gradient.
        validations: number of them over the budget.
        patience: validations in a row without improvement after which training stops, counted from when
            weight and temperature of the loss have settled.
        seed: of weights and batches.
        precision: "bf16" or "no".
        members: that a generator draws in each step; 1 is of the deterministic network.
    """

    budget: int
    factor: float = 12.5
    batch_size: int = 16
    learning_rate: float = 1e-3
    clip: float = 1.0
    validations: int = 10
    patience: int = 4
    seed: int = 0
    precision: str = "bf16"
    members: int = 1


class Downscaler(nn.Module):
    """A coarse observer and the network that undoes it.

    Args:
        shape: (H, W) of the fields.
        options: of the training.
    """

    def __init__(self, shape: tuple[int, int], options: Options) -> None:
        super().__init__()
        torch.manual_seed(options.seed)
        self.coarsening = Coarsening(shape, options.factor)
        self.network = UNet()
        self.network.to(memory_format=torch.channels_last)

    def draws(self, *seed: int) -> tuple[()]:
        """What a forward pass takes beside the fields: nothing."""
        return ()

    def forward(self, fields: Tensor) -> Tensor:
        """log(1 + rain) (N, H, W) of what is seen of fields (N, H, W) in mm/h."""
        with torch.autocast(fields.device.type, enabled=False):
            smooth = self.coarsening.interpolate(self.coarsening(fields))[:, None]
        return self.network(smooth.to(memory_format=torch.channels_last))[:, 0]

    @torch.no_grad()
    def predict(self, fields: Tensor) -> Tensor:
        """Rain in mm/h (N, H, W), in float32, in batches."""
        self.eval()
        device = self.coarsening.means_of_rows.device
        batches = tqdm(fields.split(_BATCH), "predicting", delay=3.0, leave=False)
        return torch.cat([torch.expm1(self(batch.to(device))).cpu() for batch in batches])


class Ensemble(nn.Module):
    """A coarse observer and the generator that draws what it may have seen.

    Members keep what was seen: they are multiplied by the ratio of the seen coarse means to their own, first
    interpolated, then, for what is left, cell by cell (Harder et al. 2023, "Hard-constrained deep learning
    for climate downscaling", JMLR 24), up to pixels that cells share. By the second alone, the edges of cells
    show. A pixel that is far too heavy, which a score of the logarithm hardly sees, is so bounded by its
    cell.

    Each member is drawn from a coarse field turned and mirrored in one of 8 ways, and turned back: no
    direction of the network is one of the fields.

    Args:
        shape: (H, W) of the fields: both alike, multiples of 16.
        options: of the training, in which each forward pass draws so many members.

    Raises:
        ArgumentError: another shape.
    """

    def __init__(self, shape: tuple[int, int], options: Options) -> None:
        super().__init__()
        if shape[0] != shape[1] or shape[0] % _EDGE:
            raise ArgumentError(
                f"generators take square fields, a multiple of {_EDGE} pixels wide, got {shape}"
            )
        torch.manual_seed(options.seed)
        self.members, self.precision = options.members, options.precision
        self.coarsening = Coarsening(shape, options.factor)
        self.network = Generator()
        self.network.to(memory_format=torch.channels_last)

    def draws(self, *seed: int) -> tuple[torch.Generator]:
        """What a forward pass takes beside the fields: a source of random numbers."""
        entropy = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> np.uint64(1)
        device = self.coarsening.means_of_rows.device
        return (torch.Generator(device).manual_seed(int(entropy)),)

    def forward(self, fields: Tensor, draw: torch.Generator) -> Tensor:
        """log(1 + rain) (N, M, H, W) of members of what is seen of fields (N, H, W) in mm/h."""
        with torch.autocast(fields.device.type, enabled=False):
            coarse = self.coarsening(fields)
            smooth = self.coarsening.interpolate(coarse)[:, None]
        smooth = smooth.repeat(self.members, 1, 1, 1)
        ways = torch.rand(3, len(smooth), 1, 1, 1, generator=draw, device=fields.device) < 0.5
        drawn = self.network(_turned(smooth, ways).to(memory_format=torch.channels_last), draw)
        members = _back(drawn, ways).unflatten(0, (self.members, -1))[:, :, 0].transpose(0, 1)
        with torch.autocast(fields.device.type, enabled=False):
            return self._kept(members, coarse, fields.isnan())

    def _kept(self, members: Tensor, coarse: Tensor, missing: Tensor) -> Tensor:
        """Members (N, M, H, W), multiplied so that their coarse means are the seen ones (N, h, w)."""
        rain = members.exp() - 1
        for spread in (self.coarsening.interpolate, self.coarsening.spread):
            rain = rain * spread(self._ratios(rain, coarse, missing))
        return rain.clamp(max=HEAVIEST).log1p()

    def _ratios(self, rain: Tensor, coarse: Tensor, missing: Tensor) -> Tensor:
        """Seen coarse means over those of members (N, M, h, w)."""
        hidden = rain.masked_fill(missing[:, None], torch.nan)
        means = self.coarsening(hidden.flatten(0, 1)).unflatten(0, rain.shape[:2])
        return ((coarse[:, None] + _TRACE) / (means + _TRACE)).clamp(max=_LARGEST)

    @torch.no_grad()
    def predict(self, fields: Tensor, members: int, seed: int = 0) -> Tensor:
        """Rain in mm/h (N, M, H, W) of any number M of members of what is seen of fields (N, H, W)."""
        self.eval()
        device, drawn = self.coarsening.means_of_rows.device, []
        rounds = -(-members // self.members)
        batches = fields.split(_BATCH)
        bar = tqdm(total=rounds * len(batches), desc="drawing", delay=3.0, leave=False)
        for number, batch in enumerate(batches):
            passes = []
            for k in range(rounds):
                with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16"):
                    passes.append(self(batch.to(device), *self.draws(seed, number, k)))
                bar.update()
            drawn.append(torch.expm1(torch.cat(passes, 1)[:, :members].float()).cpu())
        bar.close()
        return torch.cat(drawn)


def network_of(shape: tuple[int, int], options: Options) -> Downscaler | Ensemble:
    """The untrained network for fields of a shape (H, W)."""
    return Downscaler(shape, options) if options.members == 1 else Ensemble(shape, options)


def _turned(fields: Tensor, ways: Tensor) -> Tensor:
    """Fields (N, C, L, L), each in one of 8 ways, of three flags (3, N, 1, 1, 1) each."""
    across, down, along = ways
    fields = torch.where(across, fields.mT, fields)
    fields = torch.where(down, fields.flip(-2), fields)
    return torch.where(along, fields.flip(-1), fields)


def _back(fields: Tensor, ways: Tensor) -> Tensor:
    """Undo `_turned`."""
    across, down, along = ways
    fields = torch.where(along, fields.flip(-1), fields)
    fields = torch.where(down, fields.flip(-2), fields)
    return torch.where(across, fields.mT, fields)
