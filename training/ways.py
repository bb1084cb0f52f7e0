"""The ways of descents: where they begin, where they are to go, and the steps in between."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..datasets import random_symmetry, rescale
from ..emulators.spaces import PixelSpace, QuantileSpace, Values, space_of
from ..emulators.spoilt import blurred, noisy
from ..metrics import Metric
from .batches import alike
from .reservoir import Reservoir

STEPS = 12
"""Steps of a descent."""
KEPT = 4
"""Fields of each way that are labelled, its first and its last one among them."""
_WAYS = 2
"""Sets what is drawn for ways apart from all else under the same seed."""
_LENGTHS = (0.01, 0.1)
"""Typical change of a pixel in the first step, in units of the space that it is taken in: log-uniform."""
_SOFTNESS = (1.0, 100.0)
"""Gradient, in units of its root mean square, from which on pixels move alike, as by Adam: log-uniform."""
_LONGEST = 3.0
"""Greatest step of a pixel, in units of the typical one."""
_BEYOND = 3.0
"""How far beyond the data values that span decades may go, from the dry value."""
_FACTORS = (2, 4, 8, 16)
"""Blocks, in pixels, over which starts lose their detail."""
CONTINUED = 0.5
"""Share of the ways that go on from fields met on earlier ones."""
_SAMPLED = 256
"""Fields that tell what values there are."""


class Start(NamedTuple):
    """Where a way begins, and how it goes on.

    Attributes:
        field: (H, W).
        beside: (H, W), the observation that a pairwise metric compares it with; None for other metrics.
        goal: (C, Q), exact curves that it is to get; of no account for a pairwise metric.
        length: of its first step, see `_LENGTHS`.
        softness: of its steps, see `_SOFTNESS`.
        kept: steps after which the field is kept, increasing, the first 0 and the last `STEPS`.
    """

    field: NDArray[np.float32]
    beside: NDArray[np.float32] | None
    goal: NDArray[np.float32]
    length: float
    softness: float
    kept: NDArray[np.int64]


class Starts:
    """Where ways begin: at fields blurred, noisy, between two, or foreign ones, each by its seed alone.

    Args:
        metric: the exact metric.
        fields: (N, H, W), or pairs (N, 2, H, W), float32, of the training.
        curves: (N, C, Q), exact.
        seed: of the run.
    """

    def __init__(self, metric: Metric, fields: NDArray[np.float32], curves: NDArray[Any], seed: int) -> None:
        self.metric, self.fields, self.curves, self.seed = metric, fields, curves.astype(np.float32), seed
        spread = np.unique(np.linspace(0, len(fields) - 1, _SAMPLED).round().astype(int))
        self.values = Values.of(fields[spread])
        self.telling = _telling(self.curves)

    @property
    def highest(self) -> float:
        """The greatest value that a pixel may take."""
        values = self.values
        beyond = values.centre + _BEYOND * (values.highest - values.centre)
        return beyond if values.decades else values.highest

    @property
    def space(self) -> PixelSpace | QuantileSpace:
        """Where to step: no pixel leaves the values of the data downwards."""
        return space_of(self.values, self.values, lowest=self.values.lowest, highest=self.highest)

    def __call__(self, step: int, way: int, met: Reservoir | None = None) -> Start:
        """Where a way of a round begins, and how it goes on.

        Args:
            step: of the training.
            way: number of the way among those of the step.
            met: on earlier ways; some go on from there, towards other curves, to get as far as optimisers do.
        """
        rng = np.random.default_rng([self.seed, step, way, _WAYS])
        own, other = int(rng.choice(self.telling)), int(rng.integers(len(self.fields)))
        if met is not None and len(met) and rng.random() < CONTINUED:
            start, *observed = met.draw(1, rng).fields[0].numpy().reshape(-1, *self.fields.shape[-2:])
            goal = own
        else:
            field, *observed = self._drawn(own, rng)
            start = self._spoilt(field, self._drawn(other, rng)[0], rng)
            goal = other if rng.random() < 0.5 else own
        inner = 1 + rng.choice(STEPS - 1, KEPT - 2, replace=False)
        return Start(
            np.clip(start, self.values.lowest, self.highest).astype(np.float32),
            observed[0] if observed else None,
            self.curves[goal],
            float(np.exp(rng.uniform(*np.log(_LENGTHS)))),
            float(np.exp(rng.uniform(*np.log(_SOFTNESS)))),
            np.sort(np.concatenate([[0, STEPS], inner])),
        )

    def _spoilt(
        self, field: NDArray[np.float32], foreign: NDArray[np.float32], rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """A field (H, W) blurred, noisy, or mixed with a foreign one; or that one, with other intensities."""
        kind = rng.integers(4)
        if kind == 0:
            sides = [factor for factor in _FACTORS if 2 * factor <= min(field.shape)] or [1]
            return blurred(field[None], int(rng.choice(sides)))[0]
        if kind == 1:
            spread, speckle, seed = rng.uniform(0.1, 1.0), rng.uniform(0.0, 0.1), int(rng.integers(2**31))
            return noisy(field[None], spread, speckle, seed, values=self.values)[0]
        if kind == 2:
            share = np.float32(rng.random())
            return share * field + (1 - share) * foreign
        return rescale(foreign[None], rng, 0.3, 3.0, ground=self.values.centre)[0]

    def _drawn(self, k: int, rng: np.random.Generator) -> list[NDArray[np.float32]]:
        """Field k, turned where that changes no curves, and the observation beside it, if there is one.

        Of a pair it is the prediction, or the observation once more: predictions are to get there.
        """
        field = self.fields[k][None]
        if self.metric.invariant:
            field = alike(random_symmetry, field, rng)
        if self.metric.arity == 1:
            return [field[0]]
        return [field[0, int(rng.integers(2))], field[0, 1]]


def _telling(curves: NDArray[np.float32]) -> NDArray[np.int64]:
    """Numbers of the fields whose curves are not those that most have: where there is nothing to count."""
    _, which, counts = np.unique(
        curves.reshape(len(curves), -1), axis=0, return_inverse=True, return_counts=True
    )
    rarer = np.flatnonzero(which.reshape(-1) != counts.argmax())
    return rarer if len(rarer) else np.arange(len(curves))


def direction(gradient: Tensor, softness: Tensor) -> Tensor:
    """Where to step against a gradient: of root mean square 1 over the pixels, or 0 where the gradient is.

    d = -g / (|g| + s rms(g)), normalised: along the gradient itself for a large s, along its signs, as Adam
    steps, for a small one.

    Args:
        gradient: (N, H, W).
        softness: (N, 1, 1), s.
    """
    gradient = torch.nan_to_num(gradient, 0.0, 0.0, 0.0)
    tiny = torch.finfo(gradient.dtype).tiny
    soft = gradient / (gradient.abs() + softness * _size(gradient) + tiny)
    return (-soft / (_size(soft) + tiny)).clamp(-_LONGEST, _LONGEST)


def _size(fields: Tensor) -> Tensor:
    """Root mean square over the pixels (N, 1, 1)."""
    return fields.square().mean((1, 2), keepdim=True).sqrt()


def way(
    model: Callable[[Tensor], Tensor],
    objective: Callable[[Tensor], Tensor],
    start: Tensor,
    space: PixelSpace | QuantileSpace,
    *,
    length: Tensor,
    softness: Tensor,
    steps: int = STEPS,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Fields on the way of a normalised gradient descent, with what the model says of them.

    Args:
        model: fields (N, H, W) -> curves (N, C, Q); its weights stay as they are.
        objective: curves (N, C, Q) -> what is to fall, (N,).
        start: (N, H, W); what is NaN was not measured, and stays.
        space: in which steps are taken.
        length: (N, 1, 1), of the first step; those that follow get shorter.
        softness: (N, 1, 1), see `direction`.
        steps: number of steps.

    Yields:
        steps + 1 times fields (N, H, W) and curves (N, C, Q), float32, without gradient.
    """
    measured = ~torch.isnan(start)
    z = space.enter(torch.where(measured, start, space.leave(torch.zeros_like(start))))
    for step in range(steps + 1):
        z = z.detach().requires_grad_(step < steps)
        fields = torch.where(measured, space.leave(z), math.nan)
        with torch.set_grad_enabled(step < steps):
            curves = model(fields).float()
        yield (start if step == 0 else fields.detach()), curves.detach()
        if step < steps:
            (gradient,) = torch.autograd.grad(objective(curves).sum(), z)
            z = space.within(z.detach() + (1 - step / steps) * length * direction(gradient, softness))
