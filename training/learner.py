"""Learning, one step at a time: no clock, no disk, no batches of its own."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..emulators.differentiable import Trainable
from ..emulators.distances import CurveDistance
from ..errors import ArgumentError
from ..foundation.launched import Processes, processes
from .objective import HomoscedasticLoss
from .options import Training
from .terms import GradientTerms

_LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
"""Memory formats of the network."""
_SETTINGS = (("float32", "contiguous"), ("bfloat16", "contiguous"), ("bfloat16", "channels last"))
"""Precisions and memory formats that may be the fastest."""


_CHANGES = 0.1
"""Weight in the objective of what is said wrongly of differences between neighbours."""


class Neighbours(NamedTuple):
    """Fields of a batch that follow one another on a way.

    Attributes:
        places: (P, 2), in the whole batch, the earlier one first.
        curves: (P, 2, C, Q), exact.
    """

    places: Tensor
    curves: Tensor


class Learner:
    """Lets an emulator learn from exactly labelled fields, batch by batch.

        learner = Learner(emulator, Training(learning_rate=3e-4))
        for fields, curves in batches:
            learner.learn(fields, curves)

    Of several processes, each gives its part of a batch's labels, and all end with the same weights.

    Args:
        emulator: what learns; it is moved to the device of this process.
        options: learning rate, precision, and what else decides a step; budgets are the caller's concern.
        team: the processes that learn together; default: those of this run.

    Attributes:
        step: number of the next step.
        precision: "float32" or "bfloat16"; "auto" until `settle` has found it.
        layout: memory format of the network, likewise.

    Raises:
        ArgumentError: an emulator without weights to train, Sobolev training without a relaxation of the
            metric, or fewer fields in a batch than processes.
    """

    def __init__(self, emulator: Trainable, options: Training, *, team: Processes | None = None) -> None:
        weights = [p for p in emulator.parameters() if p.requires_grad]
        if not weights:
            raise ArgumentError(
                f"emulator ({type(emulator).__name__}) has no weights to train; use it as it is"
            )
        self.team = team or processes()
        if options.batch_size < self.team.world_size:
            raise ArgumentError(
                f"batch_size (={options.batch_size}) must be at least the number of processes, "
                f"{self.team.world_size}"
            )
        self.options, self.device = options, self.team.device
        self.emulator = emulator.to(self.device)
        # Gradient terms differentiate twice, which compiled networks cannot be: they keep the plain one.
        self.network: Callable[[Tensor], Tensor] = (
            torch.compile(self.emulator) if options.compiled else self.emulator
        )
        self.distance = CurveDistance.of(emulator.metric).to(self.device)
        self.objective = HomoscedasticLoss(len(emulator.metric.outputs)).to(self.device)
        self.terms = GradientTerms(self.emulator, options, self.team.part, self.device)
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
        self.step = 0
        self.precision, self.layout = options.precision, "auto"

    def start(self, fields: np.ndarray, curves: np.ndarray) -> None:
        """Let the emulator start where the metric wants it: from the median label, or as it is.

        Args:
            fields: (N, H, W), or pairs (N, 2, H, W).
            curves: (N, C, Q), exact; labels may be of any size.
        """
        metric = self.emulator.metric
        if metric.starts_at_median:
            median = torch.from_numpy(np.median(curves, axis=0)).float().to(self.device)
            self.emulator.start_at(median, metric.frame(fields.shape))

    def learn(
        self,
        fields: Tensor,
        curves: Tensor,
        learning_rate: float | None = None,
        neighbours: Neighbours | None = None,
    ) -> dict[str, Tensor]:
        """Take one step.

        Args:
            fields: the whole batch (B, H, W), or pairs (B, 2, H, W), on the CPU.
            curves: exact, of the part of this process, (b, C, Q); all of them where there is one process.
            learning_rate: of this step; default: that of the options.
            neighbours: fields of the batch whose difference is to be right, too; the same in all processes.

        Returns:
            Scalars on the device: "loss", the distance of the batch summed over outputs, and the terms on
            gradients that are asked for ("penalty", "sobolev"), without their weights.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.learning_rate if learning_rate is None else learning_rate
        if self.layout == "auto":
            self.settle(fields)
        self.emulator.train()
        own = fields[self.team.part].contiguous()
        with self.autocast():
            emulated = self.network(own.to(self.device, non_blocking=True)).float()
        exact = curves.to(self.device, non_blocking=True)
        distances = self.distance(emulated, exact).mean(0)
        terms = self.terms(fields, self.step)
        # Linear in distances: the objectives of the parts, weighed by size, add up to that of the batch.
        share = len(own) / len(fields)
        objective = share * self.objective(distances)
        for name, weight in self.options.terms.items():
            objective = objective + weight * terms[name]
        if neighbours is not None:
            changes = self._changes(self._whole(emulated, len(fields)), neighbours)
            objective = objective + _CHANGES * self.objective.weighed(changes)
        self.optimizer.zero_grad(set_to_none=True)
        # Of the weights alone: second derivatives in the pixels would cost time for nothing.
        objective.backward(inputs=self._trained)
        values = torch.stack([share * distances.sum(), *terms.values()]).detach()
        self.team.all_reduce([*(p.grad for p in self._trained if p.grad is not None), values])
        nn.utils.clip_grad_norm_(self.emulator.parameters(), self.options.clip)
        self.optimizer.step()
        self.step += 1
        return dict(zip(("loss", *terms), values.unbind(), strict=True))

    @torch.no_grad()
    def distances(self, fields: Tensor, curves: Tensor) -> Tensor:
        """Distances (N, C) between the emulator's and exact curves, in evaluation mode and float32."""
        self.emulator.eval()
        emulated = self.emulator(fields.to(self.device))
        return self.distance(emulated.float(), curves.to(self.device))

    def settle(self, fields: Tensor) -> None:
        """Settle the precision and the memory format, unless a state has, and start all processes alike.

        Args:
            fields: a batch, on which they are measured.
        """
        if self.layout == "auto":
            self.precision, self.layout = self.team.of_main(lambda: self._fastest_setting(fields))
        self.emulator.to(memory_format=_LAYOUTS[self.layout])
        if self.team.world_size > 1:  # measuring has moved the power iterations of the main process
            self.emulator.load_state_dict(self.team.of_main(self.weights))

    def weights(self) -> dict[str, Tensor]:
        """A copy of the emulator's weights and buffers, on the CPU."""
        return {name: tensor.detach().cpu().clone() for name, tensor in self.emulator.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, beside the batch; the tensors are those in use."""
        return {
            "step": self.step,
            "precision": self.precision,
            "layout": self.layout,
            "weights": self.emulator.state_dict(),
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state_dict` gave.

        Raises:
            Exception: of several kinds, where it is no such state, or that of another network.
        """
        self.step, self.precision, self.layout = state["step"], state["precision"], state["layout"]
        if self.precision not in ("auto", *dict(_SETTINGS)):
            raise ValueError(f"{self.precision!r} is no precision")
        if self.layout != "auto":
            self.emulator.to(memory_format=_LAYOUTS[self.layout])
        self.emulator.load_state_dict(state["weights"])
        self.objective.load_state_dict(state["objective"])
        self._load_moments(state["optimizer"])

    def _load_moments(self, optimizer: dict[str, Any]) -> None:
        """Go on with the moments of an optimizer like this one, whose shapes torch does not look at."""
        groups, own = [], self.optimizer.state_dict()["param_groups"]
        for ours, theirs in zip(own, optimizer["param_groups"], strict=True):
            groups.append(ours | {"lr": float(theirs["lr"])})
            if any(theirs.get(name, value) != value for name, value in ours.items() if name != "lr"):
                raise ValueError("it has another optimizer")
        self.optimizer.load_state_dict({"state": optimizer["state"], "param_groups": groups})
        for weight, moments in self.optimizer.state.items():
            shapes = {name: moment.shape for name, moment in moments.items()}
            if shapes != {"step": torch.Size(), "exp_avg": weight.shape, "exp_avg_sq": weight.shape}:
                raise ValueError(f"it has moments {shapes} of a weight of shape {weight.shape}")

    def autocast(self) -> torch.autocast:
        """The context in which the network computes at the precision that is settled."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def _whole(self, emulated: Tensor, number: int) -> Tensor:
        """Curves (B, C, Q) of the whole batch; those of this process alone have a gradient."""
        if self.team.world_size == 1:
            return emulated
        whole = emulated.new_zeros((number, *emulated.shape[1:]))
        whole[self.team.part] = emulated
        others = whole.detach().clone()
        self.team.all_reduce([others])
        return whole + (others - whole.detach())

    def _changes(self, emulated: Tensor, neighbours: Neighbours) -> Tensor:
        """Mean distances (C,) between emulated and exact differences of neighbours, of curves (B, C, Q).

        All processes know all of them: the gradients of their own curves add up to that of the mean.
        """
        exact = self.distance.scaled(neighbours.curves.to(self.device))
        said = self.distance.scaled(emulated)[neighbours.places.to(self.device)]
        return self.distance.size((said[:, 1] - said[:, 0]) - (exact[:, 1] - exact[:, 0])).mean(0)

    def _fastest_setting(self, fields: Tensor) -> tuple[str, str]:
        """Measure forward and backward passes in each setting, on this machine and network.

        Channels last is what GPUs want of bfloat16; on CPUs it slows normalisation more than it
        speeds convolution up.
        """
        settings = [setting for setting in _SETTINGS if self.precision in ("auto", setting[0])]
        if len(settings) == 1:
            return settings[0]
        fields = fields[self.team.part].contiguous().to(self.device)
        times = dict.fromkeys(settings, math.inf)
        # In turn, so that other work on the machine slows all alike.
        for setting in 4 * settings:
            self.precision, layout = setting
            self.emulator.to(memory_format=_LAYOUTS[layout])
            began = time.monotonic()
            with self.autocast():
                total = self.emulator(fields).sum()
            total.backward()
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            times[setting] = min(times[setting], time.monotonic() - began)
        self.optimizer.zero_grad(set_to_none=True)
        return min(times, key=lambda setting: times[setting])
