"""What each loss costs, in shares of the training step of the network alone."""

from __future__ import annotations

import time

import torch
from objectives import KINDS, Objective
from torch import Tensor
from training import Downscaler

_STEPS = 15
_BATCH = 16


def costs(model: Downscaler, fields: Tensor) -> dict[str, float]:
    """Time added to a step by each loss, over that of the step on squared error.

    Steps with all losses are taken in turn, so that other work on the machine slows all alike; the median of
    the ratios within a turn counts.
    """
    objectives = {"mse": Objective("mse", 0.0)} | {name: Objective(name, 0.01) for name in KINDS}
    generator = torch.Generator().manual_seed(0)
    ratios: dict[str, list[float]] = {name: [] for name in KINDS}
    for turn in range(_STEPS + 1):
        target = fields[torch.randint(len(fields), (_BATCH,), generator=generator)]
        seconds = {
            name: _step(model, objective, target, objective.labels(target))
            for name, objective in objectives.items()
        }
        if turn:  # the first one warms up
            for name in KINDS:
                ratios[name].append(seconds[name] / seconds["mse"] - 1)
    return {name: float(torch.tensor(values).median()) for name, values in ratios.items()}


def _step(model: Downscaler, objective: Objective, target: Tensor, labels: Tensor | None) -> float:
    """Seconds of one step, without the change of the weights."""
    model.train()
    objective.train().at(0.5)
    began = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16):
        prediction = model(target)
    objective(prediction.float(), target, labels)[0].backward()
    seconds = time.perf_counter() - began
    model.zero_grad()
    return seconds
