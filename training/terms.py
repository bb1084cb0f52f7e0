"""What a training step asks of gradients, at some fields of its batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from ..emulators import ConstrainedHeads
from ..emulators.differentiable import Differentiable
from ..emulators.gradients import directions, pulled_back
from ..emulators.relaxations.relaxation import NoRelaxation, relaxation
from ..errors import ArgumentError
from ..metrics import Metric
from .options import Training
from .penalties import gradient_penalty, probes, sobolev_distance

_GRADIENTS = 1
"""Sets what is drawn for gradients apart from what is drawn for batches, under the same seed."""


class GradientTerms:
    """Terms of the objective on an emulator's gradients: a penalty of slopes, a distance from a relaxation's.

    They are means over some fields of a batch, which depend on the seed and the step alone. They are
    computed in float32 whatever the precision: with a relaxed prior, bfloat16 gets the weights' derivative of
    a penalty wrong by more than its size, without one by a sixth of it.

    Args:
        emulator: whose gradients are meant.
        options: what is asked of them.
        part: of the fields, what falls to this process; it gives its share of the means.
        device: where the emulator is.

    Raises:
        ArgumentError: Sobolev training without a relaxation of the metric.
    """

    def __init__(
        self, emulator: Differentiable, options: Training, part: slice, device: torch.device
    ) -> None:
        self.emulator, self.options, self.part, self.device = emulator, options, part, device
        self.relaxed = _reference(emulator.metric).to(device) if options.sobolev else None

    def __call__(self, fields: Tensor, step: int) -> dict[str, Tensor]:
        """The terms that are asked for, by name, at some of the fields (B, H, W) or pairs (B, 2, H, W)."""
        options, metric = self.options, self.emulator.metric
        if not options.terms:
            return {}
        rng = np.random.default_rng([options.seed, step, _GRADIENTS])
        number = max(1, round(options.penalty_share * len(fields)))
        chosen, *observed = metric.parts(fields.numpy()[rng.choice(len(fields), number, replace=False)])
        places = torch.from_numpy(probes(chosen, rng))
        along = directions((number, len(metric.outputs), len(metric.levels)), rng)
        part = self.part
        share = len(places[part]) / number
        if not share:  # one field for nothing: power iterations go on alike in all processes
            part = slice(1)
        places, along = (drawn[part].contiguous().to(self.device) for drawn in (places, along))
        observed = [field[part] for field in observed]
        with as_frozen(self.emulator):
            gradients = pulled_back(
                beside(self.emulator, observed), places, along, metric.scales, differentiable=True
            )
        terms = {}
        if "penalty" in options.terms:
            terms["penalty"] = share * gradient_penalty(options.penalty, gradients, options.penalty_limit)
        if self.relaxed is not None:
            wanted = pulled_back(beside(self.relaxed, observed), places, along, metric.scales)
            terms["sobolev"] = share * sobolev_distance(gradients, wanted, options.penalty_limit)
        return terms


@contextmanager
def as_frozen(emulator: Differentiable) -> Iterator[None]:
    """Let the heads of an emulator have the gradients that they have in the end, not those of training."""
    heads = [module for module in emulator.modules() if isinstance(module, ConstrainedHeads)]
    modes = [head.training for head in heads]
    for head in heads:
        head.eval()
    try:
        yield
    finally:
        for head, mode in zip(heads, modes, strict=True):
            head.train(mode)


def beside(model: Differentiable, observed: list[np.ndarray]) -> Callable[[Tensor], Tensor]:
    """A model of pairs as one of predictions, with observations (N, H, W) beside them; others as they are."""
    if not observed:
        return model
    return lambda places: model(torch.stack([places, torch.from_numpy(observed[0]).to(places)], dim=1))


def _reference(metric: Metric) -> Differentiable:
    """The relaxation whose gradients Sobolev training hands on."""
    try:
        return relaxation(metric)
    except NoRelaxation as error:
        raise ArgumentError(
            f"sobolev needs a metric whose relaxation is known, got {metric.name!r}; set it to 0"
        ) from error
