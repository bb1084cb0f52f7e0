"""What each loss costs, in shares of the training step of the network alone."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from objectives import Objective
from torch import Tensor, nn

from training import Downscaler, Options

_TURNS = 25
_BATCH = 16


def costs(model: Downscaler, fields: Tensor, losses: Sequence[str]) -> dict[str, float]:
    """Time added to a training step by each of some losses, over that of the step on squared error.

    Steps with all losses are taken in turn, each time in another order, so that other work on the machine
    slows all alike; the median of the ratios within a turn counts.
    """
    objectives = {"mse": Objective("mse", 0.0)} | {name: Objective(name, 0.01) for name in losses}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0)  # at full cost, but the weights stay
    rng = np.random.default_rng(0)
    ratios: dict[str, list[float]] = {name: [] for name in losses}
    for turn in range(_TURNS + 1):
        target = fields[rng.integers(len(fields), size=_BATCH)]
        seconds = {
            name: _step(model, optimizer, objectives[name], target)
            for name in rng.permutation(list(objectives))
        }
        if turn:  # the first one warms up
            for name in losses:
                ratios[name].append(seconds[name] / seconds["mse"] - 1)
    return {name: float(np.median(values)) for name, values in ratios.items()}


def _step(model: Downscaler, optimizer: torch.optim.Optimizer, objective: Objective, target: Tensor) -> float:
    """Seconds of one step; labels are there beforehand, as in training."""
    model.train()
    objective.train().at(0.5)
    labels = objective.labels(target)
    began = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16):
        prediction = model(target)
    total, _ = objective(prediction.float(), target, labels)
    optimizer.zero_grad()
    total.backward()
    nn.utils.clip_grad_norm_(model.parameters(), Options.clip)
    optimizer.step()
    return time.perf_counter() - began
