"""Fine-tuning of the last part of the flow by the score of curves."""

from __future__ import annotations

import copy

import emuloss
import torch
from flow import Flow, from_physical, noise, to_physical
from learning import velocity_loss
from steering import METRIC
from torch import Tensor

_BEGIN, _LAST = 12, 16
"""The last four of 16 steps are followed with gradients."""
_MEMBERS = 4
_RATE = 2e-4
_WEIGHT = 0.05
"""Of the score, beside the loss that the flow was trained on."""


def tuned(flow: Flow, data: Tensor, *, steps: int, batch: int, pool: int, seed: int = 0) -> Flow:
    """A copy of the flow whose samples have curves distributed as those of the data.

    Args:
        flow: stays as it is.
        data: rain (N, H, W) in mm/h to learn from.
        steps: of the fine-tuning.
        batch: samples in a step, a multiple of the members of an ensemble.
        pool: noisy fields at three quarters of the way that are drawn beforehand.
        seed: of noise and choices.
    """
    score = emuloss.relax(METRIC, fields=data[:512].numpy()).as_score()
    waiting = torch.cat([_followed(flow, part) for part in noise(pool, data.shape[-1], seed).split(64)])
    net, draw = copy.deepcopy(flow).requires_grad_(True), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(net.parameters(), _RATE)
    for step in range(steps):
        score.anneal(step / steps)
        x = waiting[torch.randint(len(waiting), (batch,), generator=draw)]
        for k in range(_BEGIN, _LAST):
            x = x + net(x, torch.full((batch,), k / _LAST)) / _LAST
        members = to_physical(x).unflatten(0, (-1, _MEMBERS))
        target = data[torch.randint(len(data), (len(members),), generator=draw)]
        loss = _WEIGHT * score(members, target) + velocity_loss(net, from_physical(data), batch, draw)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    return net.eval().requires_grad_(False)


@torch.no_grad()
def _followed(flow: Flow, x: Tensor) -> Tensor:
    """Noise on its way to rain, where fine-tuning takes it over."""
    for k in range(_BEGIN):
        first = flow(x, torch.full((len(x),), k / _LAST))
        second = flow(x + first / _LAST, torch.full((len(x),), (k + 1) / _LAST))
        x = x + (first + second) / (2 * _LAST)
    return x
