"""Sharpen coarse rain with a small CNN, on squared error alone and with a surrogate loss beside it.

    python examples/plain_loop.py [--surrogate NAME | DIRECTORY | ORG/REPO]

Synthetic rain is averaged over 4 x 4 pixels; the network restores the detail. Both trainings start from
bilinear interpolation and see the same batches; a relaxed surrogate is cooled on the way. Printed for fields
held out, before and after: the squared error of log(1 + rain) and the distance between the exact curves.
"""

import argparse

import emuloss
import torch
from emuloss.datasets import Rain
from torch import Tensor, nn
from torch.nn import functional as F

FACTOR = 4  # pixels along the side of a coarse one


def rain(count: int, seed: int) -> Tensor:
    """Fields (count, 1, 64, 64) in mm/h."""
    source = Rain(count, size=64, seed=seed, regimes=("stratiform", "convective"))
    return torch.cat([torch.from_numpy(source.read(k, "train")) for k in range(len(source))])[:, None]


class Sharpen(nn.Module):
    """Coarse rain to fine rain: bilinear interpolation and a correction of it, which starts at 0."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        last = nn.Conv2d(width, FACTOR**2, 3, padding=1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        first, second = nn.Conv2d(1, width, 5, padding=2), nn.Conv2d(width, width, 3, padding=1)
        self.body = nn.Sequential(first, nn.GELU(), second, nn.GELU(), last, nn.PixelShuffle(FACTOR))

    def forward(self, coarse: Tensor) -> Tensor:
        """Fields (N, 1, H, W) in mm/h of coarse ones."""
        smooth = F.interpolate(coarse, scale_factor=FACTOR, mode="bilinear")
        return torch.expm1(F.relu(torch.log1p(smooth) + self.body(torch.log1p(coarse))))


def squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of log(1 + rain), since rain spans decades."""
    return F.mse_loss(torch.log1p(prediction), torch.log1p(target))


def train(model: nn.Module, fields: Tensor, loss: emuloss.SurrogateLoss, weight: float, steps: int) -> None:
    """Train on squared error and weight times the loss, in random batches."""
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        if loss.surrogate.relaxation is not None:  # networks have no temperature
            loss.anneal(step / steps)
        target = fields[torch.randint(len(fields), (16,), generator=generator)]
        prediction = model(F.avg_pool2d(target, FACTOR))
        optimizer.zero_grad()
        (squared_error(prediction, target) + weight * loss(prediction, target)).backward()
        optimizer.step()


def main() -> None:
    """Train without and with the loss, and print what became of the errors."""
    parser = argparse.ArgumentParser(description="Sharpen coarse rain with and without a surrogate loss.")
    parser.add_argument("--surrogate", default="minkowski-opera", help="bundled, a directory, or on the Hub")
    parser.add_argument("--weight", type=float, default=0.002, help="of the surrogate loss; default: 0.002")
    parser.add_argument("--steps", type=int, default=300, help="of each training; default: 300")
    arguments = parser.parse_args()
    surrogate = emuloss.load(arguments.surrogate)
    loss, exact = surrogate.as_loss(), surrogate.as_loss(forward="exact")
    fields, held_out = rain(512, seed=0), rain(128, seed=1)
    for weight, steps in ((0.0, 0), (0.0, arguments.steps), (arguments.weight, arguments.steps)):
        torch.manual_seed(0)
        model = Sharpen()
        train(model, fields, loss, weight, steps)
        with torch.no_grad():
            found = model(F.avg_pool2d(held_out, FACTOR))
            errors = f"MSE {squared_error(found, held_out):.5f}   exact distance {exact(found, held_out):.4f}"
        print(f"{steps:4} steps, weight {weight:<6g} {errors}", flush=True)


if __name__ == "__main__":
    main()
