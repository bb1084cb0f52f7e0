"""What an evaluation does, and how long it takes: measured on a few fields, and cut to the time there is."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ..emulators.differentiable import Differentiable, device_of
from ..losses.loss import SurrogateLoss
from .timing import BATCH, WARM_UPS


class Effort(NamedTuple):
    """How much an evaluation does.

    Attributes:
        fields: that are descended, and at which exact gradients are taken; 0 in a quick evaluation.
        steps: of each descent.
        slopes: steps of the search for steep places.
        repeats: timed runs.
    """

    fields: int = 4
    steps: int = 200
    slopes: int = 30
    repeats: int = 7


EFFORTS = (
    Effort(),
    Effort(slopes=10, repeats=3),
    Effort(fields=2, slopes=10, repeats=3),
    Effort(fields=2, steps=100, slopes=5, repeats=3),
    Effort(fields=1, steps=100, slopes=5, repeats=1),
    Effort(fields=1, steps=50, slopes=2, repeats=1),
)
"""What an evaluation may be cut to, the dearest first: fields go before steps, which show what a loss can."""

TILES, PERTURBATIONS = 2, 8
"""Of exact gradients where the metric is slow: tiles along the longer edge, and what is averaged over."""
_FEW = 4
"""Fields that are measured."""
_SLOPED, _SIZED, _SHIFTED, _INVERTED = 16, 64, 640, 6000
"""Fields of a step of the search for slopes, of which gradients are sized, of shifted data, and of all steps
of an inversion; as many as `evaluate` takes."""
_BACKWARD, _DOUBLE = 3.0, 1.5
"""A pass forward and back in terms of one forward, and double precision in terms of single."""


@dataclass(frozen=True)
class Plan:
    """What an evaluation does.

    Attributes:
        effort: how much of it.
        seconds: that each part is expected to take on this machine, by its name.
        cut: whether there is not the time for all of it.
    """

    effort: Effort
    seconds: dict[str, float]
    cut: bool

    @classmethod
    def of(cls, surrogate: Differentiable, fields: NDArray[Any], effort: Effort, thorough: bool) -> Plan:
        """What an effort is expected to take."""
        return cls(effort, _Costs.of(surrogate, fields).parts(effort, thorough), cut=False)

    @property
    def total(self) -> float:
        """Seconds that all of it is expected to take."""
        return sum(self.seconds.values())


def planned(
    surrogate: Differentiable,
    fields: NDArray[Any],
    *,
    quick: bool = False,
    thorough: bool = False,
    seconds: float | None = None,
) -> Plan:
    """What to do to a surrogate in the time that there is.

    Args:
        surrogate: that will be evaluated; see `evaluate` for it and what follows.
        fields: on which.
        quick: without gradients and descents.
        thorough: with inversion and shifted data.
        seconds: that it may take; None: as long as it needs. The least effort takes what it takes.
    """
    efforts = [effort._replace(fields=0) if quick else effort for effort in EFFORTS]
    costs = _Costs.of(surrogate, fields)
    plans = [Plan(effort, costs.parts(effort, thorough), cut=k > 0) for k, effort in enumerate(efforts)]
    return next((plan for plan in plans if seconds is None or plan.total <= seconds), plans[-1])


class _Costs(NamedTuple):
    """What things cost, in seconds.

    Attributes:
        number: of fields of the evaluation.
        forward: the surrogate's curves of a field.
        step: the loss of a field and its gradient.
        exact: the exact metric of a field.
        outputs: their number.
        derivatives: that exact gradients of a field are made of: tiles times perturbations.
    """

    number: int
    forward: float
    step: float
    exact: float
    outputs: int
    derivatives: int

    @classmethod
    def of(cls, surrogate: Differentiable, fields: NDArray[Any]) -> _Costs:
        """Costs on this machine, at a few of the fields."""
        metric, device = surrogate.metric, device_of(surrogate)
        few = fields[np.unique(np.linspace(0, len(fields) - 1, _FEW).round().astype(int))]
        batch = torch.from_numpy(np.asarray(few, np.float32)).to(device)
        goal = metric.parts(batch)[-1]
        loss = SurrogateLoss(surrogate)

        def forward() -> None:
            with torch.no_grad():
                surrogate(batch)

        def step() -> None:
            x = goal.nan_to_num(0.0).flip(-1).requires_grad_()
            torch.autograd.grad(loss(x, goal), x)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of fields that are turned over, and all dry
            curves, gradient, exact = (
                _seconds(run) / len(few) for run in (forward, step, lambda: metric(*metric.parts(few)))
            )
        tiles = math.prod(math.ceil(side / 16) for side in fields.shape[-2:])
        derivatives = PERTURBATIONS * TILES**2 if metric.slow else 16 * tiles
        return cls(len(fields), curves, gradient, exact, len(metric.outputs), derivatives)

    def parts(self, effort: Effort, thorough: bool) -> dict[str, float]:
        """Seconds of the parts of an evaluation."""
        back = _BACKWARD * self.forward
        parts = {
            "curves": self.number * self.forward,
            "time": (WARM_UPS + effort.repeats) * BATCH * (self.forward + back),
            "slopes": (effort.slopes + 1) * _SLOPED * _DOUBLE * back,
        }
        if effort.fields:
            compared = effort.fields * (17 * self.outputs * back + 2 * self.derivatives * self.exact)
            parts["descents"] = 2 * effort.fields * effort.steps * self.step
            parts["gradients"] = compared + min(_SIZED, self.number) * self.step
        if thorough:
            parts["inversion"] = _INVERTED * back
            parts["shifted data"] = _SHIFTED * (self.forward + self.exact)
        return parts


def _seconds(run: Callable[[], object]) -> float:
    """Seconds that something takes once it has warmed up."""
    run()
    began = time.perf_counter()
    run()
    return time.perf_counter() - began
