"""Networks with the coarse observer whose work they undo: one that predicts, and one that draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from data import Coarsening
from generator import Generator
from network import UNet
from torch import Tensor, nn
from tqdm import tqdm

_BATCH = 64
"""Fields at once where no gradient is taken."""
_TRACE = 0.02
"""Rain in mm/h that is added to coarse means before their ratio is taken."""
_FEW = 16
"""The same of an ensemble: few, as each batch is turned in ways of its own."""


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
        members: of which the network draws so many in each step; 1 is of a deterministic one.
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

    Members keep what was seen: they are multiplied by the ratio of the seen coarse means to their own,
    interpolated between cells (after Harder et al. 2023, "Hard-constrained deep learning for climate
    downscaling", JMLR 24, whose ratios are constant within a cell and leave its edges). A pixel that is far
    too heavy, which a score of the logarithm hardly sees, is so bounded by its cell.

    Each member is drawn from the coarse field turned and mirrored in one of the 8 ways, and turned back: no
    direction of the network is one of the fields.

    Args:
        shape: (H, W) of the fields; both alike.
        options: of the training, in which each forward pass draws so many members.
    """

    def __init__(self, shape: tuple[int, int], options: Options) -> None:
        super().__init__()
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
        ways = torch.randint(8, (self.members,), generator=draw, device=fields.device).tolist()
        turned = torch.cat([_turned(smooth, way) for way in ways])
        drawn = self.network(turned.to(memory_format=torch.channels_last), draw)
        members = [_back(x, way) for x, way in zip(drawn.chunk(self.members), ways, strict=True)]
        with torch.autocast(fields.device.type, enabled=False):
            return self._kept(torch.cat(members, 1), coarse, fields.isnan())

    def _kept(self, members: Tensor, coarse: Tensor, missing: Tensor) -> Tensor:
        """Members (N, M, H, W), multiplied so that their coarse means are near the seen ones (N, h, w)."""
        rain = members.exp() - 1
        hidden = rain.masked_fill(missing[:, None], torch.nan)
        means = self.coarsening(hidden.flatten(0, 1)).unflatten(0, members.shape[:2])
        ratios = (coarse[:, None] + _TRACE) / (means + _TRACE)
        return (rain * self.coarsening.interpolate(ratios)).log1p()

    @torch.no_grad()
    def predict(self, fields: Tensor, members: int, seed: int = 0) -> Tensor:
        """Rain in mm/h (N, M, H, W) of any number M of members of what is seen of fields (N, H, W)."""
        self.eval()
        device, drawn = self.coarsening.means_of_rows.device, []
        rounds = -(-members // self.members)
        batches = fields.split(_FEW)
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
    if options.members == 1:
        return Downscaler(shape, options)
    return Ensemble(shape, options)


def _turned(fields: Tensor, way: int) -> Tensor:
    """Fields (..., L, L) in one of 8 ways."""
    fields = fields.rot90(way % 4, (-2, -1))
    return fields.flip(-1) if way >= 4 else fields


def _back(fields: Tensor, way: int) -> Tensor:
    """Undo `_turned`."""
    return (fields.flip(-1) if way >= 4 else fields).rot90(-(way % 4), (-2, -1))
