"""Descents as data: where an emulator's own gradient leads, labelled exactly, to learn from.

A frozen emulator is true where it was trained, and an optimiser goes elsewhere: to fields that the emulator
takes for better ones than they are. So that it meets them before it is frozen, some fields are moved along
its gradient towards curves that others have, and the exact metric tells what was gained. What it then says
of differences between neighbours on such a way is what an optimiser will go by.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..emulators.distances import default_distance
from ..emulators.spaces import PixelSpace, QuantileSpace
from ..errors import ArgumentError, EmulossError, one_line
from ..metrics import Metric
from .labels import Labels
from .learner import Learner, Neighbours
from .options import Training
from .reservoir import Reservoir
from .terms import beside
from .ways import KEPT, Start, Starts, way

SHARE = 0.25
"""Share of each batch that comes from descents, where labels are cheap and no other share is given."""
EVERY = 16
"""Batches between two rounds of descents."""
_CAPACITY = 512
"""Fields that are held at most."""
_AFFORDABLE = 0.1
"""Share of the machine's time that labels may take where nobody has asked for descents."""
_DRAWN = 3
"""Sets what is drawn for batches apart from all else under the same seed."""


class _Met(NamedTuple):
    """Ways that were gone: W of them with K fields each.

    Attributes:
        fields: (W, K, H, W), or pairs (W, K, 2, H, W).
        said: (W, K, C, Q), what the emulator says.
        goals: (W, C, Q).
    """

    fields: NDArray[np.float32]
    said: NDArray[np.float32]
    goals: NDArray[np.float32]


class Descents:
    """Makes ways as an emulator learns, and mixes what was met on them into its batches.

    A metric in plain Python labels them in other processes until the next round: a context manager, at whose
    end those are gone. All processes hold the same reservoir: each goes some of the ways and labels them,
    and all are told what it found.

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
        self._shape = fields.shape[1:]
        self.share = _share(options, self.metric)
        self.reservoir = Reservoir(_CAPACITY)
        self._starts = None if self.share == 0 else Starts(self.metric, fields, curves, options.seed)
        self._labels = Labels(self.metric, learner.team.world_size)
        self._waiting: _Met | None = None
        self._new: list[tuple[_Met, NDArray[np.float64]]] = []

    def __enter__(self) -> Descents:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._labels.close()

    def prepare(self, step: int, seconds: float = math.inf) -> None:
        """Go ways before a step, if it is the turn, and hold what was met on them.

        Args:
            step: of the training.
            seconds: that a step has taken so far; where no share is asked for they decide, once, whether
                labels are cheap enough.
        """
        number = self._number(SHARE if self.share is None else self.share)
        if not number or self._starts is None or step % EVERY:
            return
        self._take_in(seconds)  # what was met a round ago
        if self.share == 0:
            return
        self._waiting = self._gone(self._starts, step, number)
        self._labels.begin(self._waiting.fields[self.learner.team.part])
        if not self._labels.behind:
            self._take_in(seconds)

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
        said, goals, exact = (
            np.concatenate(arrays)
            for arrays in zip(*((met.said, met.goals, exact) for met, exact in self._new), strict=True)
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
        waiting = None
        if self._waiting is not None:  # they are labelled anew, since that gives the same
            waiting = {name: torch.from_numpy(a) for name, a in self._waiting._asdict().items()}
        return {"share": self.share, "reservoir": self.reservoir.state_dict(), "waiting": waiting}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that `state_dict` gave.

        Raises:
            ValueError: it is no such state.
        """
        share, reservoir = state["share"], state["reservoir"]
        if not (share is None or (type(share) is float and 0 <= share <= 1)):
            raise ValueError(f"its share of descents is {share!r}")
        if reservoir is not None:  # earlier versions had none
            self.reservoir.load_state_dict(reservoir)
            shape = tuple(reservoir["fields"].shape[1:])
            if len(self.reservoir) and shape != self._shape:
                raise ValueError(f"its reservoir has fields {shape}")
        self.share = share
        waiting = state.get("waiting")  # earlier versions had none
        self._waiting = None if waiting is None else _read(waiting, self._shape)

    def _number(self, share: float) -> int:
        return round(share * self.options.batch_size)

    def _distances(self, curves: NDArray[Any], goals: NDArray[Any]) -> float:
        """Sum of the distances of curves (W, C, Q) from their goals."""
        both = (torch.from_numpy(array.astype(np.float64)) for array in (curves, goals))
        return float(default_distance(self.metric)(*both).sum())

    def _gone(self, starts: Starts, step: int, number: int) -> _Met:
        """What is met on a number of ways, of which each process goes some."""
        team = self.learner.team
        own = [starts(step, way, self.reservoir) for way in range(number)[team.part]]
        parts = team.all_gather(self._met(own, starts.space) if own else None)
        return _Met(*map(_whole, zip(*(part for part in parts if part is not None), strict=True)))

    def _take_in(self, seconds: float) -> None:
        """Hold what was met and waits for its labels, if there is any; seconds: that a step has taken.

        Where nobody asked for descents, there are none if labels are dear, or the metric fails.
        """
        if self._waiting is None:
            return
        team, met = self.learner.team, self._waiting
        self._waiting = None
        own = met.fields[team.part]
        exact, label_seconds, reason = None, 0.0, ""
        try:
            if len(own):
                exact, label_seconds = self._labels.finish(own)
        except EmulossError as error:
            if self.options.descents is not None:
                raise
            reason = one_line(error)
        told = team.all_gather((exact, label_seconds, reason, self._labels.behind))
        curves, taken, reasons, behind = zip(*told, strict=True)
        self._labels.behind = all(behind)  # who has no way to go learns it from the others
        if reason := next((reason for reason in reasons if reason), ""):
            if team.main:
                warnings.warn(f"descents are left out, since {reason}", stacklevel=2)
            self.share = 0.0
        elif self.share is None:
            affordable = max(taken) <= _AFFORDABLE * EVERY * seconds
            self.share = team.of_main(lambda: SHARE if affordable else 0.0)
        if self.share == 0:
            self._labels.close()
            return
        labels = _whole([part for part in curves if part is not None])
        ways = np.repeat(np.arange(len(labels)), KEPT)
        self.reservoir.add(
            met.fields.reshape(-1, *met.fields.shape[2:]), labels.reshape(-1, *labels.shape[2:]), ways
        )
        self._new.append((met, labels))

    def _met(self, starts: list[Start], space: PixelSpace | QuantileSpace) -> _Met:
        """What is met on ways."""
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
        met = np.empty((len(starts), KEPT, *first.shape[1:]), np.float32)
        said = np.empty((len(starts), KEPT, *goals.shape[1:]), np.float32)
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
        if observed:
            met = np.stack([met, np.broadcast_to(observed[0][:, None], met.shape)], axis=2)
        return _Met(met, said, goals)


def _read(waiting: Mapping[str, Tensor], shape: tuple[int, ...]) -> _Met:
    """What a state says was met on ways; shape: of a field or pair.

    Raises:
        ValueError: it is no such thing.
    """
    met = _Met(*(waiting[name].cpu().numpy() for name in _Met._fields))
    ways, levels = met.fields.shape[0], met.goals.shape[1:]
    if met.fields.shape != (ways, KEPT, *shape) or met.said.shape != (ways, KEPT, *levels):
        raise ValueError(f"its descents met fields {met.fields.shape}")
    return met


def _whole(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """What P processes have, of which the k-th has every P-th beginning with the k-th, in order."""
    number = sum(map(len, parts))
    order = np.concatenate([range(number)[k :: len(parts)] for k in range(len(parts))])
    return np.concatenate(parts)[np.argsort(order)]


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
