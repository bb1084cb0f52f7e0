"""Descents as data: where an emulator's own gradient leads, labelled exactly, to learn from.

A frozen emulator is true where it was trained, and an optimiser goes elsewhere: to fields that the emulator
takes for better ones than they are. So that it meets them before it is frozen, some fields are moved along
its gradient towards curves that others have, and the exact metric tells what was gained. What it then says
of differences between neighbours on such a way is what an optimiser will go by.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..datasets import random_symmetry, rescale
from ..emulators.distances import default_distance
from ..emulators.spaces import PixelSpace, QuantileSpace, Values, space_of
from ..emulators.spoilt import blurred, noisy
from ..errors import ArgumentError, FieldError, one_line
from ..metrics import Metric
from .batches import alike
from .learner import Learner, Neighbours
from .options import Training
from .reservoir import Reservoir
from .terms import beside

SHARE = 0.25
"""Share of each batch that comes from descents, where labels are cheap and no other share is given."""
EVERY = 16
"""Batches between two rounds of descents."""
STEPS = 12
"""Steps of a descent."""
_KEPT = 4
"""Fields of each way that are labelled, its first and its last one among them."""
_CAPACITY = 512
"""Fields that are held at most,"""
_PIXELS = 2**24
"""and pixels, all together: a quarter of it in mebibytes is what they take up in memory, and in the state."""
_AFFORDABLE = 0.1
"""Share of the time of training that labels may take where nobody has asked for descents."""
_DESCENTS, _DRAWN = 2, 3
"""Sets what is drawn for ways, and for batches from them, apart from all else under the same seed."""
_LENGTHS = (0.02, 0.3)
"""Typical change of a pixel in the first step, in units of the space that it is taken in: log-uniform."""
_SOFTNESS = (0.1, 10.0)
"""Gradient, in units of its root mean square, from which on pixels move alike, as by Adam: log-uniform."""
_LONGEST = 3.0
"""Greatest step of a pixel, in units of the typical one."""
_BEYOND = 3.0
"""How far beyond the data values that span decades may go, from the dry value."""
_FACTORS = (2, 4, 8, 16)
"""Blocks, in pixels, over which starts lose their detail."""
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

    def __call__(self, step: int, way: int) -> Start:
        """Where a way of a round begins, and how it goes on.

        Args:
            step: of the training.
            way: number of the way among those of the step; kinds of starts follow one another.
        """
        rng = np.random.default_rng([self.seed, step, way, _DESCENTS])
        own = int(rng.choice(self.telling))
        other = int(rng.integers(len(self.fields)))
        field, observed = self._drawn(own, rng)
        foreign, _ = self._drawn(other, rng)
        kind = (way + step // EVERY) % 4
        goal = other if rng.random() < 0.5 else own
        if kind == 0:
            sides = [factor for factor in _FACTORS if 2 * factor <= min(field.shape)] or [1]
            start = blurred(field[None], int(rng.choice(sides)))[0]
        elif kind == 1:
            spread, speckle = rng.uniform(0.1, 1.0), rng.uniform(0.0, 0.1)
            seed = int(rng.integers(2**31))
            start = noisy(field[None], spread, speckle, seed, values=self.values)[0]
        elif kind == 2:
            share = np.float32(rng.random())
            start = share * field + (1 - share) * foreign
        else:
            start, goal = rescale(foreign[None], rng, 0.3, 3.0, ground=self.values.centre)[0], own
        inner = 1 + rng.choice(STEPS - 1, _KEPT - 2, replace=False)
        return Start(
            np.clip(start, self.values.lowest, self.highest).astype(np.float32),
            observed,
            self.curves[goal],
            float(np.exp(rng.uniform(*np.log(_LENGTHS)))),
            float(np.exp(rng.uniform(*np.log(_SOFTNESS)))),
            np.sort(np.concatenate([[0, STEPS], inner])),
        )

    def _drawn(
        self, k: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Field k, turned where that changes no curves, and what it is compared with.

        Of a pair it is the prediction, or the observation once more: predictions are to get there.
        """
        field = self.fields[k][None]
        if self.metric.invariant:
            field = alike(random_symmetry, field, rng)
        if self.metric.arity == 1:
            return field[0], None
        return field[0, int(rng.integers(2))], field[0, 1]


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


class _Found(NamedTuple):
    """Ways that were gone: W of them with K fields each.

    Attributes:
        fields: (W, K, H, W), or pairs (W, K, 2, H, W).
        said: (W, K, C, Q), what the emulator says.
        exact: (W, K, C, Q).
        goals: (W, C, Q).
    """

    fields: NDArray[np.float32]
    said: NDArray[np.float32]
    exact: NDArray[np.float64]
    goals: NDArray[np.float32]


class Descents:
    """Makes ways as an emulator learns, and mixes what was met on them into its batches.

    All processes hold the same reservoir: each goes some of the ways, and all are told what it found.

    Args:
        learner: whose emulator is descended.
        fields: (N, H, W), or pairs (N, 2, H, W), of the training.
        curves: (N, C, Q), exact.
        options: what decides the run.

    Attributes:
        share: of each batch; None until it is known what labels cost.
        reservoir: what was met on ways.

    Raises:
        ArgumentError: descents that are asked for of a pairwise metric that does not say what is better.
    """

    def __init__(
        self, learner: Learner, fields: NDArray[np.float32], curves: NDArray[Any], options: Training
    ) -> None:
        self.learner, self.options = learner, options
        self.metric = learner.emulator.metric
        pixels = math.prod(fields.shape[1:])
        self.share = _share(options, self.metric)
        self.reservoir = Reservoir(max(_KEPT, min(_CAPACITY, _PIXELS // pixels)))
        self._starts = None if self.share == 0 else Starts(self.metric, fields, curves, options.seed)
        self._new: list[_Found] = []

    def prepare(self, step: int, seconds: float) -> None:
        """Go ways before a step, if it is the turn, and hold what was met on them.

        Args:
            step: of the training.
            seconds: that a step has taken so far; they decide, once, whether labels are cheap enough.
        """
        if self.share == 0 or self._starts is None or step % EVERY:
            return
        number = max(1, self._number(SHARE if self.share is None else self.share))
        found, label_seconds = self._gone(self._starts, step, number)
        if self.share is None:
            affordable = label_seconds <= _AFFORDABLE * EVERY * seconds
            self.share = self.learner.team.of_main(lambda: SHARE if affordable and found else 0.0)
        if found is None or self.share == 0:
            return
        fields, exact = found.fields, found.exact
        ways = np.repeat(np.arange(len(fields)), _KEPT)
        self.reservoir.add(fields.reshape(-1, *fields.shape[2:]), exact.reshape(-1, *exact.shape[2:]), ways)
        self._new.append(found)

    def mixed(self, step: int, fields: Tensor, curves: Tensor) -> Neighbours | None:
        """Put fields of the reservoir in place of the last ones of a batch.

        Args:
            step: of the training, by which they are drawn.
            fields: the whole batch (B, H, W), or pairs (B, 2, H, W), on the CPU, changed in place.
            curves: of the part of this process (b, C, Q), likewise.

        Returns:
            Which of them are neighbours on a way; None where there are none.
        """
        number = self._number(self.share or 0.0)
        if not (number and len(self.reservoir)):
            return None
        first = len(fields) - number
        drawn = self.reservoir.draw(number, np.random.default_rng([self.options.seed, step, _DRAWN]))
        fields[first:] = drawn.fields
        own = np.arange(len(fields))[self.learner.team.part]
        curves[own >= first] = drawn.curves[own[own >= first] - first]
        if not len(drawn.neighbours):
            return None
        return Neighbours(first + drawn.neighbours, drawn.curves[drawn.neighbours])

    def told(self) -> dict[str, float]:
        """What the emulator said of the ways since this was last asked, before it learnt from them.

        Returns:
            "descents_r2": mean R2 over outputs and levels; "descents_ratio": of the improvement from the
            first to the last fields, said over exact. What is not defined is left out.
        """
        if not self._new:
            return {}
        said, exact, goals = (
            np.concatenate([getattr(found, name) for found in self._new])
            for name in ("said", "exact", "goals")
        )
        self._new.clear()
        told = {"descents_r2": _r_squared(exact, said)}
        gained = [
            self._distances(curves[:, 0], goals) - self._distances(curves[:, -1], goals)
            for curves in (said, exact)
        ]
        if gained[1]:
            told["descents_ratio"] = gained[0] / gained[1]
        return {name: value for name, value in told.items() if math.isfinite(value)}

    def state_dict(self) -> dict[str, Any]:
        """All that the batches to come depend on, beside the emulator."""
        return {"share": self.share, "reservoir": self.reservoir.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that `state_dict` gave.

        Raises:
            ValueError: it is no such state.
        """
        share = state["share"]
        if not (share is None or (type(share) is float and 0 <= share <= 1)):
            raise ValueError(f"its share of descents is {share!r}")
        self.share = share
        if state["reservoir"] is None:
            return
        self.reservoir.load_state_dict(state["reservoir"])

    def _number(self, share: float) -> int:
        return round(share * self.options.batch_size)

    def _distances(self, curves: NDArray[Any], goals: NDArray[Any]) -> float:
        """Sum of the distances of curves (W, C, Q) from their goals."""
        both = (torch.from_numpy(array.astype(np.float64)) for array in (curves, goals))
        return float(default_distance(self.metric)(*both).sum())

    def _gone(self, starts: Starts, step: int, number: int) -> tuple[_Found | None, float]:
        """Go a number of ways, each process some; with the seconds that all labels took.

        Where nobody asked for descents and the metric refuses a field, there are none.
        """
        team = self.learner.team
        own = [starts(step, way) for way in range(number)[team.part]]
        found, seconds, reason = None, 0.0, ""
        if own:
            try:
                found, seconds = self._labelled(own, starts.space)
            except FieldError as error:
                if self.options.descents is not None:
                    raise
                reason = one_line(error)
        parts = team.all_gather((found, seconds, reason))
        if reason := next((reason for _, _, reason in parts if reason), ""):
            if team.main:
                warnings.warn(f"descents are left out, since {reason}", stacklevel=2)
            self.share = 0.0
            return None, 0.0
        order = np.argsort(
            np.concatenate([np.arange(number)[k :: team.world_size] for k in range(team.world_size)])
        )
        gone = [part for part, _, _ in parts if part is not None]
        whole = _Found(*(np.concatenate(arrays)[order] for arrays in zip(*gone, strict=True)))
        return whole, sum(seconds for _, seconds, _ in parts)

    def _labelled(self, starts: list[Start], space: PixelSpace | QuantileSpace) -> tuple[_Found, float]:
        """What is met on ways, and the seconds that labels take, by the fastest of them."""
        emulator, device = self.learner.emulator, self.learner.device
        emulator.eval()
        first = np.stack([start.field for start in starts])
        beside_them = [start.beside for start in starts if start.beside is not None]
        observed = [np.stack(beside_them)] if beside_them else []
        goals = np.stack([start.goal for start in starts])
        aims, distance = torch.from_numpy(goals).to(device), default_distance(self.metric).to(device)
        length, softness = (
            torch.tensor(numbers, dtype=torch.float32, device=device)[:, None, None]
            for numbers in ([start.length for start in starts], [start.softness for start in starts])
        )
        kept = np.stack([start.kept for start in starts])
        met = np.empty((len(starts), _KEPT, *first.shape[1:]), np.float32)
        said = np.empty((len(starts), _KEPT, *goals.shape[1:]), np.float32)
        with self.learner.autocast():
            gone = way(
                beside(emulator, observed),
                lambda curves: distance(curves, aims).sum(1),
                torch.from_numpy(first).to(device),
                space,
                length=length,
                softness=softness,
            )
            for step, (fields, curves) in enumerate(gone):
                which, place = np.nonzero(kept == step)
                met[which, place], said[which, place] = (
                    fields.cpu().numpy()[which],
                    curves.cpu().numpy()[which],
                )
        exact, seconds = np.empty(said.shape), math.inf
        for k in range(_KEPT):
            began = time.monotonic()
            exact[:, k] = self.metric(met[:, k], *observed)
            seconds = min(seconds, time.monotonic() - began)
        if observed:
            met = np.stack([met, np.broadcast_to(observed[0][:, None], met.shape)], axis=2)
        return _Found(met, said, exact, goals), _KEPT * seconds


def _share(options: Training, metric: Metric) -> float | None:
    """Share of each batch: as asked for, or what is known already where nobody asked."""
    if options.descents == 0:
        return 0.0
    try:
        default_distance(metric)  # which has to know what is better
    except ArgumentError:
        if options.descents is not None:
            raise
        return 0.0
    if options.descents is not None:
        return float(options.descents)
    if options.repeatable:  # what is measured would differ from run to run
        return 0.0 if metric.slow else SHARE
    return None


def _r_squared(exact: NDArray[Any], said: NDArray[Any]) -> float:
    """Mean over outputs and levels of the R2 of curves (W, K, C, Q); NaN where none is defined."""
    x, e = (array.reshape(-1, *array.shape[2:]).astype(np.float64) for array in (exact, said))
    spread = np.square(x - x.mean(0)).sum(0)
    defined = spread > 0
    if not defined.any():
        return math.nan
    return float((1 - np.square(e - x).sum(0)[defined] / spread[defined]).mean())
