"""The training loop: in one process or several, resumable to the batch, stoppable at any time."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..datasets._interrupts import interrupts_deferred
from ..errors import ArgumentError, DataError
from ..metrics import Metric, Minkowski
from .batches import Batches, prefetched, separate
from .curves import CurveDistance
from .penalties import PENALTIES, directions, gradient_penalty, probes, pulled_back, sobolev_distance
from .processes import processes
from .relaxed import relaxation

_SAVE_EVERY = 60.0
"""Seconds between saved states."""
_LEARNT = 0.8
"""Share of the distance of constant curves, the median's, below which an emulator has learnt something."""
_LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
"""Memory formats of the network."""
_GRADIENTS = 1
"""Sets what is drawn for gradients apart from what is drawn for batches, under the same seed."""


@dataclass(frozen=True)
class Training:
    """What decides a training run, given data and emulator.

    Attributes:
        minutes: budget of training time; the learning rate falls to 0 over it.
        fields: budget of fields seen; the run ends at whichever budget is spent first. A run with
            this budget alone, in float32, is reproducible to the last bit: bfloat16 has two memory
            formats, and the faster one is found by measuring.
        batch_size: fields a step (over all processes).
        learning_rate: peak of the schedule: linear warm-up, then a half cosine.
        warmup: share of the budget spent warming up.
        weight_decay: of AdamW.
        clip: largest norm of the gradient of the weights.
        rescaled: share of fields whose intensities are multiplied by a random factor, and
        mixed: share of fields mixed with their coarsened, noisy selves; both get exact new labels.
        validations: number of validations over the budget.
        patience: validations without improvement after which training stops early, once it has learnt
            more than a constant: metrics that are 0 for most fields stay there for a while.
        seed: of the batches and their augmentation.
        precision: "float32", "bfloat16" (autocast), or "auto": the faster one. The memory format is the
            faster one in each case.
        penalty: of the gradients on the pixels, on the log scale of curves: "none", "one-sided" (steep
            is penalised), "two-sided" (flat too) or "jacobian" (the flatter the better); see
            `gradient_penalty`.
        penalty_weight: its weight in the loss; small, since squares of slopes have long tails.
        penalty_limit: slope, in log units per unit of the field, that counts as steep. 1.5 per mm/h is
            the median slope of the relaxation at temperature 0.05 on radar fields of rain of 128 x 128
            pixels; in other units, measure it with `emuloss.emulators.penalties.slopes`.
        penalty_share: share of each batch's fields at which gradients are penalised and compared, a
            third of them blurred, a third in between.
        sobolev: weight of the distance between the emulator's gradients and those of the metric's
            relaxation; 0 to do without.
    """

    minutes: float | None = 10.0
    fields: int | None = None
    batch_size: int = 32
    learning_rate: float = 1e-3
    warmup: float = 0.03
    weight_decay: float = 1e-4
    clip: float = 1.0
    rescaled: float = 0.25
    mixed: float = 0.25
    validations: int = 30
    patience: int = 10
    seed: int = 0
    precision: str = "auto"
    penalty: str = "none"
    penalty_weight: float = 0.01
    penalty_limit: float = 1.5
    penalty_share: float = 0.25
    sobolev: float = 0.0

    def __post_init__(self) -> None:
        if self.minutes is None and self.fields is None:
            raise ArgumentError("a budget is needed: give minutes, fields, or both")
        for name in ("fields", "batch_size", "validations", "patience"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int) and value > 0):
                raise ArgumentError(f"{name} must be a positive whole number, got {value!r}")
        for name in ("minutes", "learning_rate", "clip", "penalty_weight", "penalty_limit"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ArgumentError(f"{name} must be positive, got {value!r}")
        for name in ("weight_decay", "sobolev"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ArgumentError(f"{name} must be 0 or more, got {value!r}")
        if not (isinstance(self.seed, int) and self.seed >= 0):
            raise ArgumentError(f"seed must be a whole number, 0 or more, got {self.seed!r}")
        for name in ("warmup", "rescaled", "mixed"):
            if not 0 <= getattr(self, name) <= 1:
                raise ArgumentError(f"{name} must be a share in [0, 1], got {getattr(self, name)!r}")
        if self.rescaled + self.mixed > 1:
            raise ArgumentError(f"rescaled + mixed must be at most 1, got {self.rescaled + self.mixed:g}")
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise ArgumentError(f"precision must be auto, float32 or bfloat16, got {self.precision!r}")
        if self.penalty not in ("none", *PENALTIES):
            raise ArgumentError(f"penalty must be one of none, {', '.join(PENALTIES)}, got {self.penalty!r}")
        if not 0 < self.penalty_share <= 1:
            raise ArgumentError(f"penalty_share must be a share in (0, 1], got {self.penalty_share!r}")


class HomoscedasticLoss(nn.Module):
    """Sum over outputs of d_c exp(-s_c) + s_c, with learned s: the Laplace likelihood of distances d_c.

    After Kendall, Gal and Cipolla, "Multi-task learning using uncertainty to weigh losses" (2018):
    outputs that can be learnt better weigh more.

    Args:
        outputs: number of outputs C.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(outputs))

    def forward(self, distances: Tensor) -> Tensor:
        """Scalar loss of distances (C,)."""
        return (distances * torch.exp(-self.log_scale) + self.log_scale).sum()


class Trainer:
    """Trains an emulator of an exact metric, with a state on disk from which it resumes.

    In several processes, each takes its part of every batch and of the validation fields. Batches, the
    fields at which gradients are penalised, and the learning rate do not depend on how many there are;
    sums over fields are taken in another order, so that weights agree within rounding. On one kind of
    machine all processes hold the same weights to the bit, and with a budget in fields alone, in float32,
    a state goes on to the bit under as many processes as saved it, and within rounding under any other
    number.

    Args:
        emulator: fields (N, H, W), or pairs (N, 2, H, W) -> curves (N, C, Q), physical units; has
            `arguments()`, and may have `start_at`, by which it starts from the median label (of a Minkowski
            metric it starts from what the heads are made for).
        metric: the exact metric.
        training: fields (N, H, W), or pairs (N, 2, H, W), and exact curves (N, C, Q); all of them in
            every process.
        validation: likewise; decides which weights are kept, and when to stop early.
        options: what decides the run.
        folder: where the main process keeps the state `training.pt` and the log `log.csv`.
        quantum: step of the data's values, or None.
        progress: whether to show a progress bar on standard error.

    Raises:
        ArgumentError: empty data, an emulator without weights to train, Sobolev training without a
            relaxation of the metric, a state on disk of another run (options, metric, network), fewer
            fields in a batch than processes, or processes with different data.
        DataError: the state on disk cannot be read.
    """

    def __init__(
        self,
        emulator: nn.Module,
        metric: Metric,
        training: tuple[np.ndarray, np.ndarray],
        validation: tuple[np.ndarray, np.ndarray],
        options: Training,
        folder: Path,
        *,
        quantum: float | None = None,
        progress: bool = True,
    ) -> None:
        if not len(training[0]) or not len(validation[0]):
            raise ArgumentError("training and validation need at least one field each")
        weights = [p for p in emulator.parameters() if p.requires_grad]
        if not weights:
            raise ArgumentError(
                f"emulator ({type(emulator).__name__}) has no weights to train; use it as it is"
            )
        if not isinstance(metric, Minkowski) and hasattr(emulator, "start_at"):
            _start(emulator, metric, *training)
        self.metric, self.options, self.folder = metric, options, folder
        self.processes = processes()
        if options.batch_size < self.processes.world_size:
            raise ArgumentError(
                f"batch_size (={options.batch_size}) must be at least the number of processes, "
                f"{self.processes.world_size}"
            )
        self.device = self.processes.device
        self.batches = Batches(metric, *training, options, quantum, self.processes.part)
        self.validation = tuple(torch.from_numpy(np.asarray(a, np.float32)) for a in validation)
        self.progress = progress and self.processes.main
        self.data = _digest(*training, *validation, np.array([quantum], np.float64))
        if len(set(self.processes.all_gather(self.data))) > 1:
            raise ArgumentError("all processes need the same data: the trainer gives each its part of them")
        self.emulator = emulator.to(self.device)
        self.relaxed = _reference(metric).to(self.device) if options.sobolev else None
        self.distance = CurveDistance(metric.levels, metric.scales).to(self.device)
        median = torch.from_numpy(np.median(training[1], axis=0)).float().to(self.device)
        self.constant = float(self.distance(median, self.validation[1].to(self.device)).sum(1).mean())
        self.objective = HomoscedasticLoss(len(metric.outputs)).to(self.device)
        decayed = [p for p in weights if p.ndim > 1]
        others = [p for p in weights if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": options.weight_decay},
                {"params": [*others, *self.objective.parameters()], "weight_decay": 0.0},
            ],
            lr=options.learning_rate,
            fused=True,
        )
        self._trained = [*weights, *self.objective.parameters()]
        self.step, self.seconds = 0, 0.0
        self.best: dict[str, Any] = {"loss": math.inf, "weights": None, "step": 0}
        self.validated, self.stale, self.finished = 0, 0, False
        self.precision, self.layout = options.precision, "auto"
        self.log: list[dict[str, float]] = []
        self._between_steps = True
        self._resume()

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

        Ctrl-C ends the step at hand, saves the state, loads the best weights and is passed on. What
        strikes within a step (an error, a second Ctrl-C) leaves the state that was saved before.
        Another trainer on the same folder goes on from there. Of several processes, all end so when
        one does.
        """
        with self.processes.together():
            self._prepare()
            try:
                if not self.finished:
                    self._train()
                    self.finished = True
            finally:
                if self.step and self._between_steps:
                    self._save()
                if self.best["weights"] is not None:
                    self.emulator.load_state_dict(self.best["weights"])

    def _prepare(self) -> None:
        """Settle the precision and the memory format, unless a state from disk has, and start all alike."""
        if self.layout == "auto":
            self.precision, self.layout = self.processes.of_main(self._fastest_setting)
        self.emulator.to(memory_format=_LAYOUTS[self.layout])
        if self.processes.world_size > 1:  # measuring has moved the power iterations of the main process
            self.emulator.load_state_dict(self.processes.of_main(self._weights))

    def _train(self) -> None:
        bar = tqdm(
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
            prefetched(self.batches.__getitem__, self.step) as batches,
            interrupts_deferred() as interrupted,
        ):
            for fields, curves in batches:
                told = self.processes.all_gather((self.seconds, interrupted()))
                self.seconds = told[0][0]
                if any(stop for _, stop in told):
                    raise KeyboardInterrupt
                if self.spent >= 1 or (self.stale >= self.options.patience and self._has_learnt):
                    break
                self._between_steps = False
                recent.append(self._step(fields, curves))
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
                if now - saved > _SAVE_EVERY:
                    self._save()
                    saved = now

    @property
    def _has_learnt(self) -> bool:
        return self.best["loss"] < _LEARNT * self.constant

    def _status(self, recent: list[Tensor]) -> str:
        rate = self.seen / max(self.seconds, 1e-9)
        best = f", validation {self.best['loss']:.4f}" if self.best["weights"] else ""
        return f"{self.seen} fields, {rate:.0f}/s, distance {recent[-1][0].item():.4f}{best}"

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    @property
    def _terms(self) -> dict[str, float]:
        """Weights in the loss of what is asked of gradients, by the names that the log gives them."""
        options = self.options
        asked = {
            "penalty": 0.0 if options.penalty == "none" else options.penalty_weight,
            "sobolev": options.sobolev,
        }
        return {name: weight for name, weight in asked.items() if weight}

    def _step(self, fields: Tensor, curves: Tensor) -> Tensor:
        """Take one step; returns its distance and its terms on gradients, without their weights.

        Args:
            fields: the whole batch (B, H, W), or pairs (B, 2, H, W).
            curves: exact, of the part of this process, (b, C, Q).
        """
        rise = min(1.0, self.spent / self.options.warmup) if self.options.warmup else 1.0
        fall = 0.5 * (1 + math.cos(math.pi * self.spent))
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.learning_rate * max(rise, 1e-3) * fall
        self.emulator.train()
        own = fields[self.processes.part].contiguous()
        with self._autocast():
            emulated = self.emulator(own.to(self.device))
        distances = self.distance(emulated.float(), curves.to(self.device)).mean(0)
        terms = self._on_gradients(fields) if self._terms else {}
        # Linear in distances: the objectives of the parts, weighed by size, add up to that of the batch.
        share = len(own) / len(fields)
        loss = share * self.objective(distances)
        for name, weight in self._terms.items():
            loss = loss + weight * terms[name]
        self.optimizer.zero_grad(set_to_none=True)
        # Of the weights alone: second derivatives in the pixels would cost time for nothing.
        loss.backward(inputs=self._trained)
        values = torch.stack([share * distances.sum(), *(terms[name] for name in self._terms)]).detach()
        self.processes.all_reduce([*(p.grad for p in self._trained if p.grad is not None), values])
        nn.utils.clip_grad_norm_(self.emulator.parameters(), self.options.clip)
        self.optimizer.step()
        self.step += 1
        return values

    def _on_gradients(self, fields: Tensor) -> dict[str, Tensor]:
        """The terms on gradients at some fields of a batch; these depend on the seed and the step alone.

        They are means over fields, of which this process computes its part, divided by the number of all.
        They are computed in float32 whatever the precision: with a relaxed prior, bfloat16 gets the
        weights' derivative of a penalty wrong by more than its size, without one by a sixth of it.
        """
        rng = np.random.default_rng([self.options.seed, self.step, _GRADIENTS])
        number = max(1, round(self.options.penalty_share * len(fields)))
        chosen, *observed = separate(fields.numpy()[rng.choice(len(fields), number, replace=False)])
        places = torch.from_numpy(probes(chosen, rng))
        along = directions((number, len(self.metric.outputs), len(self.metric.levels)), rng)
        part = self.processes.part
        share = len(places[part]) / number
        if not share:  # one field for nothing: power iterations go on alike in all processes
            part = slice(1)
        places, along = (drawn[part].contiguous().to(self.device) for drawn in (places, along))
        observed = [field[part] for field in observed]
        scales = self.metric.scales
        gradients = pulled_back(_beside(self.emulator, observed), places, along, scales, differentiable=True)
        kind, limit = self.options.penalty, self.options.penalty_limit
        terms = {}
        if kind != "none":
            terms["penalty"] = share * gradient_penalty(kind, gradients, limit)
        if self.relaxed is not None:
            wanted = pulled_back(_beside(self.relaxed, observed), places, along, scales)
            terms["sobolev"] = share * sobolev_distance(gradients, wanted, limit)
        return terms

    def _fastest_setting(self) -> tuple[str, str]:
        """Measure forward and backward passes in each setting, on this machine and network.

        Channels last is what GPUs want of bfloat16; on CPUs it slows normalisation more than it
        speeds convolution up.
        """
        settings = [("float32", "contiguous"), ("bfloat16", "contiguous"), ("bfloat16", "channels last")]
        settings = [setting for setting in settings if self.precision in ("auto", setting[0])]
        if len(settings) == 1:
            return settings[0]
        fields = self.batches[0][0][self.processes.part].contiguous().to(self.device)
        times = dict.fromkeys(settings, math.inf)
        # In turn, so that other work on the machine slows all alike.
        for setting in 4 * settings:
            self.precision, layout = setting
            self.emulator.to(memory_format=_LAYOUTS[layout])
            began = time.monotonic()
            with self._autocast():
                total = self.emulator(fields).sum()
            total.backward()
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            times[setting] = min(times[setting], time.monotonic() - began)
        self.optimizer.zero_grad(set_to_none=True)
        return min(times, key=lambda setting: times[setting])

    @torch.no_grad()
    def _validate(self, trained: list[float]) -> None:
        """Measure, log and keep the weights if they are the best; trained: means of what steps gave."""
        self.validated = int(self.spent * self.options.validations)
        self.emulator.eval()
        totals = torch.zeros(len(self.metric.outputs), dtype=torch.float64)
        fields, curves = self.validation
        size = math.ceil(self.options.batch_size / self.processes.world_size)
        for start in range(0, len(fields), size)[self.processes.part]:
            part = slice(start, start + size)
            emulated = self.emulator(fields[part].to(self.device))
            totals += self.distance(emulated.float(), curves[part].to(self.device)).sum(0).double().cpu()
        distances = (torch.stack(self.processes.all_gather(totals)).sum(0) / len(fields)).tolist()
        loss = sum(distances)
        if not math.isfinite(loss + sum(trained)):
            raise ArgumentError(f"training diverged before step {self.step}; lower the learning rate")
        if loss < self.best["loss"]:
            self.best, self.stale = {"loss": loss, "weights": self._weights(), "step": self.step}, 0
        else:
            self.stale += 1
        row = {
            "step": self.step,
            "fields": self.seen,
            "seconds": round(self.seconds, 3),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            **dict(zip(("train_loss", *self._terms), trained, strict=True)),
            "validation_loss": loss,
        }
        row.update({f"validation_{name}": d for name, d in zip(self.metric.outputs, distances, strict=True)})
        self.log.append(row)
        if self.processes.main:
            self._write_log()

    def _weights(self) -> dict[str, Tensor]:
        """A copy of the emulator's weights and buffers, on the CPU."""
        return {name: tensor.detach().cpu().clone() for name, tensor in self.emulator.state_dict().items()}

    def _write_log(self) -> None:
        temporary = self.folder / "log.csv.tmp"
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(self.log[0]))
            writer.writeheader()
            writer.writerows(self.log)
        os.replace(temporary, self.folder / "log.csv")

    def _save(self) -> None:
        """Write the whole state aside, then rename it: a kill leaves the old state or the new one."""
        if not self.processes.main:
            return
        temporary = self.folder / "training.pt.tmp"
        state = io.BytesIO()  # writing bytes meets a full disk as an OSError, torch as an internal error
        torch.save(self._state(), state)
        temporary.write_bytes(state.getbuffer())
        os.replace(temporary, self.folder / "training.pt")

    def _state(self) -> dict[str, Any]:
        return {
            "options": asdict(self.options),
            "metric": self.metric.config(),
            "data": self.data,
            "network": self.emulator.arguments(),  # type: ignore[operator]
            "precision": self.precision,
            "layout": self.layout,
            "weights": self.emulator.state_dict(),
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "counters": {
                name: getattr(self, name) for name in ("step", "seconds", "validated", "stale", "finished")
            },
            "best": self.best,
            "log": self.log,
        }

    def _resume(self) -> None:
        path = self.folder / "training.pt"
        found = self.processes.of_main(lambda: path.read_bytes() if path.exists() else None)
        if found is None:
            return
        try:
            state = torch.load(io.BytesIO(found), map_location=self.device, weights_only=True)
            if state.keys() != self._state().keys():
                raise KeyError("other entries")
        except Exception as error:
            raise DataError(
                f"{path} is not a training state ({type(error).__name__}); delete it to start afresh"
            ) from error
        wanted = self._state()
        for name in ("options", "metric", "data", "network"):
            if state[name] != wanted[name]:
                raise ArgumentError(
                    f"{path} belongs to a run with other {name}; choose another folder or delete it"
                )
        self.emulator.load_state_dict(state["weights"])
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name, value in state["counters"].items():
            setattr(self, name, value)
        self.precision, self.layout = state["precision"], state["layout"]
        self.best, self.log = state["best"], state["log"]


def _beside(model: nn.Module, observed: list[np.ndarray]) -> Callable[[Tensor], Tensor]:
    """A model of pairs as one of predictions, with observations (N, H, W) beside them; others as they are."""
    if not observed:
        return model
    return lambda places: model(torch.stack([places, torch.from_numpy(observed[0]).to(places)], dim=1))


def _reference(metric: Metric) -> nn.Module:
    """The relaxation whose gradients Sobolev training hands on."""
    try:
        return relaxation(metric)
    except ArgumentError as error:
        raise ArgumentError(
            f"sobolev needs a metric whose relaxation is known, got {metric.name!r}; set it to 0"
        ) from error


def _start(emulator: nn.Module, metric: Metric, fields: np.ndarray, curves: np.ndarray) -> None:
    """Let an emulator start from the median label; labels may be of any size."""
    median = torch.from_numpy(np.median(curves, axis=0)).float()
    frame = float(fields.shape[-2] * fields.shape[-1]) * metric.pixel_size**2
    emulator.start_at(median, frame)  # type: ignore[operator]


def _digest(*arrays: np.ndarray) -> str:
    """Hash of the arrays' values: a state resumes on the data that it was saved on."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
