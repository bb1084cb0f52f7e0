"""The training loop: the clock around a learner, resumable to the batch, stoppable at any time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..emulators.differentiable import Trainable
from ..emulators.distances import CurveDistance
from ..errors import ArgumentError
from ..foundation.bars import Bar
from ..foundation.interrupts import ended_by, interrupts_deferred
from .batches import Batches, loaders, prefetched
from .descents import Descents
from .learner import Learner
from .options import Training
from .state import STATE, digest, read_state, state_errors, stored_state, write_log, write_state

SAVE_EVERY = 60.0
"""Seconds between saved states."""
_LEARNT = 0.8
"""Share of the distance of constant curves, the median's, below which an emulator has learnt something."""
_COUNTERS = ("seconds", "validated", "stale", "finished")
"""Attributes of a trainer that its state holds, beside the learner's."""


class Trainer:
    """Trains an emulator of an exact metric, with a state on disk from which it resumes.

    In several processes, each takes its part of every batch and of the validation fields. Batches, the
    fields at which gradients are penalised, and the learning rate do not depend on how many there are;
    sums over fields are taken in another order, so that weights agree within rounding. On one kind of
    machine all processes hold the same weights to the bit, and with a budget in fields alone, in float32,
    a state goes on to the bit under as many processes as saved it, and within rounding under any other
    number.

    Args:
        emulator: fields (N, H, W), or pairs (N, 2, H, W) -> curves (N, C, Q), physical units. The metric
            labels the fields that augmentation changes.
        training: fields (N, H, W), or pairs (N, 2, H, W), and exact curves (N, C, Q); all of them in
            every process.
        validation: likewise; decides which weights are kept, and when to stop early.
        options: what decides the run.
        folder: where the main process keeps the state `training.pt` and the log `log.csv`.
        quantum: step of the data's values, or None.
        progress: whether to show a progress bar on standard error.
        fresh: whether the emulator has learnt nothing yet, and starts where its metric wants it to; otherwise
            it goes on from its weights.

    Raises:
        ArgumentError: empty data, an emulator without weights to train, Sobolev training without a
            relaxation of the metric, a state on disk of another run (options, metric, network), fewer fields
            in a batch than processes, or processes with different data.
    """

    def __init__(
        self,
        emulator: Trainable,
        training: tuple[np.ndarray, np.ndarray],
        validation: tuple[np.ndarray, np.ndarray],
        options: Training,
        folder: Path,
        *,
        quantum: float | None = None,
        progress: bool = True,
        fresh: bool = True,
    ) -> None:
        if not len(training[0]) or not len(validation[0]):
            raise ArgumentError("training and validation need at least one field each")
        self.learner = Learner(emulator, options)
        if fresh:
            self.learner.start(*training)
        self.emulator, self.metric, self.options, self.folder = emulator, emulator.metric, options, folder
        self.team = self.learner.team
        self.batches = Batches(self.metric, *training, options, quantum, self.team.part)
        self.descents = Descents(self.learner, *training, options)
        self.validation = tuple(torch.from_numpy(np.asarray(a, np.float32)) for a in validation)
        self.progress = progress and self.team.main
        self.data = digest(*training, *validation, np.array([quantum], np.float64))
        if len(set(self.team.all_gather(self.data))) > 1:
            raise ArgumentError("all processes need the same data: the trainer gives each its part of them")
        median = torch.from_numpy(np.median(training[1], axis=0)).float()
        self.constant = float(CurveDistance.of(self.metric)(median, self.validation[1]).sum(1).mean())
        self.seconds = 0.0
        self.best: dict[str, Any] = {"loss": math.inf, "weights": None, "step": 0}
        self.validated, self.stale, self.finished = 0, 0, False
        self.log: list[dict[str, float]] = []
        self._between_steps = True
        self._resume()

    @property
    def step(self) -> int:
        """Steps taken so far."""
        return self.learner.step

    @property
    def seen(self) -> int:
        """Fields seen so far."""
        return self.step * self.options.batch_size

    @property
    def spent(self) -> float:
        """Share of the budget spent, in [0, 1]."""
        shares = [0.0]
        if self.options.minutes is not None:
            shares.append(self.seconds / (60 * self.options.minutes))
        if self.options.fields is not None:
            shares.append(self.seen / self.options.fields)
        return min(1.0, max(shares))

    def run(self) -> None:
        """Train until the budget is spent or validation stops improving; then load the best weights.

        Ctrl-C, and SIGTERM or SIGHUP, which batch systems send, end the step at hand, save the state, load
        the best weights and are passed on: as KeyboardInterrupt, and as a SystemExit. What strikes within a
        step (an error, a second Ctrl-C) leaves the state that was saved before. Another trainer on the same
        folder goes on from there. Of several processes, all end so when one does.

        Raises:
            DataError: the state cannot be written.
        """
        with self.team.together(), self.descents, interrupts_deferred() as interrupted:
            self.learner.settle(self.batches[0][0])
            try:
                if not self.finished:
                    self._train(interrupted)
                    self.finished = True
            finally:
                if self.step and self._between_steps:
                    self.save()
                if self.best["weights"] is not None:
                    self.emulator.load_state_dict(self.best["weights"])
            if number := interrupted():  # it came after the last step
                raise ended_by(number)

    def batch(self, k: int) -> tuple[Tensor, Tensor]:
        """Batch k of `batches`; for a GPU in memory that it copies from while it computes."""
        batch = self.batches[k]
        return (batch[0].pin_memory(), batch[1].pin_memory()) if self.team.device.type == "cuda" else batch

    def save(self) -> None:
        """Write the state, if this is the main process."""
        if self.team.main:
            write_state(self.folder, self.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the run depends on, and what says which run it is of."""
        learnt = self.learner.state_dict()
        counters = {"step": learnt.pop("step"), **{name: getattr(self, name) for name in _COUNTERS}}
        return {
            "options": asdict(self.options),
            "metric": self.metric.config(),
            "data": self.data,
            "network": self.emulator.arguments(),
            **learnt,
            "counters": counters,
            "best": self.best,
            "log": self.log,
            "descents": self.descents.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state_dict` gave."""
        self.learner.load_state_dict({**state, "step": state["counters"]["step"]})
        for name in _COUNTERS:
            setattr(self, name, state["counters"][name])
        self.best, self.log = state["best"], state["log"]
        self.descents.load_state_dict(state["descents"])

    def _resume(self) -> None:
        path = self.folder / STATE
        found = self.team.of_main(lambda: stored_state(self.folder))
        if found is not None:
            state = read_state(found, path, self.state_dict(), self.learner.device)
            with state_errors(path):
                self.load_state_dict(state)

    def _train(self, interrupted: Callable[[], int]) -> None:
        bar = Bar(
            total=100,
            unit="%",
            disable=not self.progress,
            desc="training",
            bar_format="{l_bar}{bar}| {postfix}",
        )
        saved = began = time.monotonic()
        recent: list[Tensor] = []
        with (
            bar,
            prefetched(self.batch, self.step, loaders(self.team.device, self.team.world_size)) as batches,
        ):
            for fields, curves in batches:
                told = self.team.all_gather((self.seconds, interrupted()))
                self.seconds = told[0][0]
                if number := next((number for _, number in told if number), 0):
                    raise ended_by(number)
                if self._is_over:
                    break
                self._between_steps = False
                if self._has_learnt:
                    self.descents.prepare(self.step, self.seconds / max(self.step, 1))
                neighbours = self.descents.mixed(self.step, fields, curves)
                found = self.learner.learn(fields, curves, self.options.rate(self.spent), neighbours)
                recent.append(torch.stack([*found.values()]))
                bar.n = round(100 * self.spent, 1)
                if self.step % 10 == 0:
                    bar.set_postfix_str(self._status(recent))
                if self.spent * self.options.validations >= self.validated + 1:
                    self._validate(torch.stack(recent).mean(0).tolist())
                    recent.clear()
                # The clock runs through: waiting for batches, validating and saving count as well.
                now = time.monotonic()
                self.seconds, began = self.seconds + now - began, now
                self._between_steps = True
                if now - saved > SAVE_EVERY:
                    self.save()
                    saved = now

    @property
    def _is_over(self) -> bool:
        """Whether the budget is spent, or nothing improves any more once more than a constant is learnt."""
        return self.spent >= 1 or (self.stale >= self.options.patience and self._has_learnt)

    @property
    def _has_learnt(self) -> bool:
        """Whether the emulator has learnt more than a constant. Before it has, descents lead nowhere."""
        return bool(self.best["loss"] < _LEARNT * self.constant)

    def _status(self, recent: list[Tensor]) -> str:
        rate = self.seen / max(self.seconds, 1e-9)
        best = f", validation {self.best['loss']:.4f}" if self.best["weights"] else ""
        return f"{self.seen} fields, {rate:.0f}/s, distance {recent[-1][0].item():.4f}{best}"

    def _validate(self, trained: list[float]) -> None:
        """Measure, log and keep the weights if they are the best; trained: means of what steps gave."""
        self.validated = int(self.spent * self.options.validations)
        distances = self._validation_distances()
        loss = sum(distances)
        if not math.isfinite(loss + sum(trained)):
            raise ArgumentError(f"training diverged before step {self.step}; lower the learning rate")
        if loss < self.best["loss"]:
            self.best = {"loss": loss, "weights": self.learner.weights(), "step": self.step}
            self.stale = 0
        else:
            self.stale += 1
        row = {
            "step": self.step,
            "fields": self.seen,
            "seconds": round(self.seconds, 3),
            "learning_rate": self.learner.optimizer.param_groups[0]["lr"],
            **dict(zip(("train_loss", *self.options.terms), trained, strict=True)),
            "validation_loss": loss,
        }
        row.update({f"validation_{name}": d for name, d in zip(self.metric.outputs, distances, strict=True)})
        row.update(self.descents.told())
        self.log.append(row)
        if self.team.main:
            write_log(self.folder, self.log)

    def _validation_distances(self) -> list[float]:
        """Mean distance over the validation fields in each output; each process measures its part."""
        totals = torch.zeros(len(self.metric.outputs), dtype=torch.float64)
        fields, curves = self.validation
        size = math.ceil(self.options.batch_size / self.team.world_size)
        for start in range(0, len(fields), size)[self.team.part]:
            part = slice(start, start + size)
            totals += self.learner.distances(fields[part], curves[part]).sum(0).double().cpu()
        return (torch.stack(self.team.all_gather(totals)).sum(0) / len(fields)).tolist()
