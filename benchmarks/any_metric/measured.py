"""What gradient steps remove of the exact distance, by several ways to a gradient."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import emuloss
import numpy as np
import torch
from emuloss.emulators.differentiable import Differentiable
from emuloss.emulators.spaces import Values
from emuloss.evaluation.descent import STARTS, descent, exact_distance
from emuloss.losses import Live, LiveLoss
from emuloss.metrics import Metric
from fields import Fields
from numpy.typing import NDArray
from perturbations import Perturbations
from torch import Tensor, nn

Row = dict[str, float | None]
"""Figures by column."""

WAYS = ("perturbations", "frozen", "with descents", "frozen, measured slopes", "live")
"""Where the gradient comes from."""
_LESSONS = {"frozen": 0.0, "with descents": 0.25}
"""Networks that learn at first, and what share of it, after some of them, they meet on descents."""
_PAIRS = 4
"""Of calls of the metric, a step and field, for perturbations: eight calls, as with measured slopes."""
_LIVE = Live(background=False)
"""Labels of functions come at once, too, so that a run can be repeated."""
_EVERY = 10
"""Steps between those whose fields are kept, to compare what was said of them."""


class Learning(nn.Module):
    """A live loss that learns, before each step, what it was asked in the one before."""

    def __init__(self, loss: LiveLoss) -> None:
        super().__init__()
        self.loss = loss.train()

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The loss (), after it has learnt."""
        self.loss.learn()
        return self.loss(prediction, target)


def measured(metric: Metric, fields: Fields, budget: int, ways: Collection[str] = WAYS) -> Row:
    """The figures of a metric by some ways; networks learn on `budget` fields at first."""
    row: Row = {}
    lessons = {name: share for name, share in _LESSONS.items() if name == "frozen" or name in ways}
    networks = {
        name: emuloss.live(metric, fields.observed, budget=budget, descents=share).surrogate
        for name, share in lessons.items()
    }
    for name, network in networks.items():
        if name in ways:
            row[f"R2: {name}"] = r_squared(*_held_out(network, fields.tested))
    plain, scale = networks["frozen"], Values.of(fields.observed).scale
    losses = {name: network.as_loss(**_exact(network)) for name, network in networks.items()} | {
        "perturbations": Perturbations(_distances(plain.metric), scale, pairs=_PAIRS),
        "frozen, measured slopes": plain.as_loss(forward="exact", slopes="measured"),
    }
    for way in ways:
        said: list[NDArray[Any]] = []
        exact: list[NDArray[Any]] = []
        for start in STARTS:
            torch.manual_seed(0)
            loss = losses.get(way) or Learning(plain.as_loss(live=_LIVE, slopes="measured"))
            with _kept(loss, plain.metric, said, exact):
                found = descent(loss, plain.metric, fields.spoilt, start=start, progress=True)
            row[f"removed from {start}, %: {way}"] = found.figures["removed"]
        told = (np.concatenate(exact), np.concatenate(said)) if said else None
        row[f"R2 on descents: {way}"] = r_squared(*told) if told else None
    return row


def _held_out(surrogate: Differentiable, fields: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Exact and emulated curves (N, C, Q) of held-out fields, of pairs those of neighbours."""
    metric = surrogate.metric
    batch = fields if metric.arity == 1 else np.stack([np.roll(fields, 1, 0), fields], 1)
    with torch.no_grad():
        emulated = torch.cat([surrogate(part) for part in torch.from_numpy(batch).split(32)])
    return metric(*metric.parts(batch)), emulated.numpy()


def r_squared(exact: NDArray[Any], emulated: NDArray[Any]) -> float | None:
    """Mean over outputs and levels of the R2 of curves (N, C, Q); None where no values differ."""
    exact, emulated = exact.astype(float), emulated.astype(float)
    spread = ((exact - exact.mean(0)) ** 2).sum(0)
    errors = ((emulated - exact) ** 2).sum(0)
    return float((1 - errors[spread > 0] / spread[spread > 0]).mean()) if spread.any() else None


def _distances(metric: Metric) -> Any:
    """Exact distances (N,) of fields from targets, summed over outputs as in a loss."""
    return lambda fields, targets: exact_distance(metric, fields, targets).sum(1)


def _exact(surrogate: Differentiable) -> dict[str, str]:
    """Of losses that are to reach exact curves; pairs have none."""
    return {"reference": "exact"} if surrogate.metric.arity == 1 else {}


@contextmanager
def _kept(
    loss: nn.Module, metric: Metric, said: list[NDArray[Any]], exact: list[NDArray[Any]]
) -> Iterator[None]:
    """Keep what a surrogate says of predictions in some of the steps, and what they are."""
    surrogate = next((part for part in loss.modules() if isinstance(part, Differentiable)), None)
    if surrogate is None:
        yield
        return
    calls = 0

    def keep(module: nn.Module, given: tuple[Tensor, ...], curves: Tensor) -> None:
        nonlocal calls
        if not given[0].requires_grad:
            return
        if calls % _EVERY == 0:
            batch = given[0].detach().numpy()
            said.append(curves.detach().numpy())
            exact.append(metric(*metric.parts(batch)))
        calls += 1

    handle = surrogate.register_forward_hook(keep)
    try:
        yield
    finally:
        handle.remove()
