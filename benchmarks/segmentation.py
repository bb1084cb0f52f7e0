"""Losses of topology for segmentation: the form of emuloss beside those of topolosses and torch-topological.

    python benchmarks/segmentation.py [--repeats 5] [--steps 80]

Predictions are targets gone wrong: blurred, noisy, with gaps. Their logits take steps of Adam, on each loss
and on the squared distance from the prediction; the loss is divided by the norm of its first gradient, so
that none gains by its scale. No loss of pixels tells where the target is. Told of each loss: the time of a
value and its gradient, as the median of turns in one run; the share of pixels whose first gradient is at
least a hundredth of the largest; and, after the descent, the error in components and holes of the mask at 0.5
(8-connected) and its Dice coefficient. topolosses, and torch-topological, whose total persistences are
compared, are left out where they are not installed.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from _peers import peers
from _timing import CLOCK, take_turns
from emuloss import SegmentationLoss
from emuloss.metrics import Minkowski
from scipy.ndimage import gaussian_filter
from skimage import color, data, filters, transform
from torch import Tensor

SIDE = 96
RATE = 0.1
STAY = 0.1
"""Weight of the squared distance from the prediction, beside gradients that begin with norm 1."""
COUNTS = Minkowski([0.5], outputs=("components", "holes"), connectivity=2)

Loss = Callable[[Tensor, Tensor], Tensor]


def masks() -> dict[str, np.ndarray]:
    """Targets (N, SIDE, SIDE), boolean: drawn ones, nuclei of a tissue, coins."""
    y, x = np.mgrid[:SIDE, :SIDE]

    def disk(row: float, column: float, radius: float) -> np.ndarray:
        return (y - row) ** 2 + (x - column) ** 2 <= radius**2

    ring = disk(48, 48, 34) & ~disk(48, 48, 26)
    pair = disk(28, 28, 16) | disk(66, 62, 20)
    net = (np.abs(y - 48 - 18 * np.sin(x / 9)) < 3) | (np.abs(x - 48) < 3)
    dots = np.any([disk(16 + 21 * i, 16 + 21 * j, 6) for i in range(4) for j in range(4)], axis=0)
    nuclei = color.rgb2hed(data.immunohistochemistry())[..., 0]
    cells = filters.gaussian(nuclei, 2) > filters.threshold_otsu(filters.gaussian(nuclei, 2))
    coins = filters.gaussian(data.coins(), 2)
    corners = [(0, 0), (0, 192), (192, 0), (192, 192)]
    crops = [cells[r : r + 192, c : c + 192] for r, c in corners]
    whole = coins[30:270, 20:260]
    return {
        "drawn": np.stack([ring, pair, net, dots]),
        "cells (skimage.data.immunohistochemistry)": np.stack([_shrunk(crop) for crop in crops]),
        "coins (skimage.data.coins)": _shrunk(whole > filters.threshold_otsu(coins))[None],
    }


def _shrunk(mask: np.ndarray) -> np.ndarray:
    return transform.resize(mask.astype(float), (SIDE, SIDE), anti_aliasing=True) > 0.5


def gone_wrong(target: np.ndarray, seed: int = 0) -> np.ndarray:
    """Probabilities (N, H, W): the target blurred, noisy on a scale of 2 pixels, and faded in bands."""
    rng = np.random.default_rng(seed)
    noise = gaussian_filter(rng.standard_normal(target.shape), (0, 2, 2))
    noise /= noise.std()
    bands = np.ones(target.shape)
    bands[:, :, SIDE // 3 : SIDE // 3 + 3] = 0.45
    soft = gaussian_filter(target.astype(float), (0, 1.0, 1.0)) * bands + 0.22 * noise
    return np.clip(soft, 0.02, 0.98)


def losses() -> dict[str, Loss]:
    """Each loss of logits (N, 1, H, W) and masks (N, 1, H, W)."""
    found: dict[str, Loss] = {
        "emuloss": SegmentationLoss(activation="sigmoid"),
        "emuloss, exact values": SegmentationLoss(activation="sigmoid", forward="exact"),
    }
    try:
        from topolosses.losses import BettiMatchingLoss, CLDiceLoss

        kinds = {"topolosses, Betti matching": BettiMatchingLoss, "topolosses, clDice": CLDiceLoss}
        for name, kind in kinds.items():
            found[name] = kind(sigmoid=True, include_background=True, use_base_loss=False)
    except ImportError as error:
        print(f"topolosses is left out: {error}")
    for name, loss in peers([0.5], [1.0], 1.0):
        if name.startswith("torch-topological") and loss is None:
            print("torch-topological is left out: it is not installed")
        elif name.startswith("torch-topological"):
            found["torch-topological"] = partial(_of_probabilities, loss)
    return found


def _of_probabilities(loss: Loss, logits: Tensor, masks: Tensor) -> Tensor:
    return loss(logits.sigmoid()[:, 0], masks[:, 0])


def logits_of(probabilities: np.ndarray) -> Tensor:
    """Logits (N, 1, H, W), a leaf."""
    return torch.from_numpy(probabilities).float().logit()[:, None].requires_grad_()


def gradient(loss: Loss, start: np.ndarray, target: Tensor) -> Tensor:
    """The first gradient of a loss."""
    x = logits_of(start)
    loss(x, target).backward()
    assert x.grad is not None
    return x.grad


def descended(loss: Loss, start: np.ndarray, target: Tensor, steps: int) -> np.ndarray:
    """Probabilities (N, H, W) after a descent on a loss that keeps close to the start."""
    x, kept = logits_of(start), torch.from_numpy(start).float()[:, None]
    weight = 1 / gradient(loss, start, target).norm()
    optimizer = torch.optim.Adam([x], lr=RATE)
    for step in range(steps):
        if isinstance(loss, SegmentationLoss):
            loss.anneal(step / steps)
        optimizer.zero_grad()
        (weight * loss(x, target) + STAY * (x.sigmoid() - kept).square().sum()).backward()
        optimizer.step()
    return x.detach().sigmoid()[:, 0].numpy()


def errors(probabilities: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """Mean error in components and holes, and the Dice coefficient."""
    wrong = np.abs(COUNTS(probabilities) - COUNTS(target.astype(np.float32))).sum((1, 2)).mean()
    mask = probabilities >= 0.5
    return float(wrong), float(2 * (mask & target).sum() / (mask.sum() + target.sum()))


def main() -> None:
    """Print a table for each kind of target."""
    parser = argparse.ArgumentParser(description="Losses of topology for segmentation, side by side.")
    parser.add_argument("--repeats", type=int, default=5, help="turns of the timing; default: 5")
    parser.add_argument("--steps", type=int, default=80, help="of each descent; default: 80")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", module="topolosses")  # what it tells of one channel, and of alpha
    compared = losses()
    for name, target in masks().items():
        start, given = gone_wrong(target), torch.from_numpy(target).float()[:, None]
        sides = [partial(gradient, loss, start, given) for loss in compared.values()]
        first = [side().abs() for side in sides]  # which warms up, too
        reached = [float((size >= 0.01 * size.max()).float().mean()) for size in first]
        taken = np.median(take_turns(arguments.repeats, *sides)[..., CLOCK], axis=0) * 1e3 / len(target)
        print(f"\n{name}: {len(target)} of {SIDE} x {SIDE}, components and holes {counted(target)}\n")
        print(f"| {'':26} | ms a field | pixels reached | error in counts | Dice |")
        print(f"| {'-' * 26} | ---: | ---: | ---: | ---: |")
        print(row("as predicted", "", "", *errors(start, target)))
        for (title, loss), ms, share in zip(compared.items(), taken, reached, strict=True):
            found = errors(descended(loss, start, given, arguments.steps), target)
            print(row(title, f"{ms:.1f}", f"{share:.1%}", *found), flush=True)


def counted(target: np.ndarray) -> str:
    """Mean components and holes of targets."""
    return ", ".join(f"{value:g}" for value in COUNTS(target.astype(np.float32)).mean((0, 2)))


def row(title: str, ms: str, share: str, wrong: float, dice: float) -> str:
    """A line of the table."""
    return f"| {title:26} | {ms} | {share} | {wrong:.2f} | {dice:.4f} |"


if __name__ == "__main__":
    main()
