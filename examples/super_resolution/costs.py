"""What objectives cost, in shares of the training step of the network alone."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import torch
from models import Downscaler, Ensemble, Options
from objectives import Objective
from recipes import Recipe
from torch import Tensor, nn


def costs(
    model: Downscaler | Ensemble,
    fields: Tensor,
    base: Objective | Recipe,
    others: Mapping[str, Objective | Recipe],
    *,
    turns: int,
    steps: int = 1,
    batch_size: int = Options.batch_size,
) -> dict[str, float]:
    """Time added to a training step by each of some objectives, over that of the step on their base.

    Steps with all of them are taken in turn, each time in another order, so that other work on the machine
    slows all alike; the median of the ratios within a turn counts.

    Args:
        model: whose weights stay as they are.
        fields: to train on, (N, H, W).
        base: what the others add to.
        others: by name.
        turns: number of them, after one that warms up.
        steps: of each objective in a turn; several, for those that do part of their work in some alone.
        batch_size: fields a step.
    """
    objectives = {"": base, **others}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0)  # at full cost, but the weights stay
    rng = np.random.default_rng(0)
    ratios: dict[str, list[float]] = {name: [] for name in others}
    for turn in range(turns + 1):
        target = fields[rng.integers(len(fields), size=batch_size)]
        seconds = {
            name: sum(_step(model, optimizer, objectives[name], target, turn) for _ in range(steps))
            for name in rng.permutation(list(objectives))
        }
        if turn:  # the first one warms up
            for name in others:
                ratios[name].append(seconds[name] / seconds[""] - 1)
    return {name: float(np.median(values)) for name, values in ratios.items()}


def _step(
    model: Downscaler | Ensemble,
    optimizer: torch.optim.Optimizer,
    objective: Objective | Recipe,
    target: Tensor,
    turn: int,
) -> float:
    """Seconds of one step, and of what a live loss learns in it; labels are there beforehand."""
    model.train()
    objective.train().at(0.5)
    labels = objective.labels(target)
    began = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16):
        prediction = model(target, *model.draws(turn))
    total, _ = objective(prediction.float(), target, labels)
    optimizer.zero_grad()
    total.backward()
    nn.utils.clip_grad_norm_(model.parameters(), Options.clip)
    optimizer.step()
    objective.learn()
    return time.perf_counter() - began
