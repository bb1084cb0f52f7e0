"""What decides a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..errors import ArgumentError
from ..foundation.arguments import as_choice, as_natural, as_positive, as_real, as_share, shown
from ..foundation.options import SEEDS, Options, option

_PRECISIONS = ("auto", "float32", "bfloat16")


def _penalties() -> tuple[str, ...]:
    """Penalties that there are, and none."""
    from .penalties import PENALTIES  # which needs torch

    return ("none", *PENALTIES)


@dataclass(frozen=True)
class Training(Options):
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
        compiled: whether the network is compiled (`torch.compile`) for its training steps. The first step
            then takes a minute, the others less time on a GPU.
        penalty: of the gradients on the pixels, on the log scale of curves: "none", "one-sided" (steep
            is penalised), "two-sided" (flat too) or "jacobian" (the flatter the better); see
            `gradient_penalty`.
        penalty_weight: its weight in the loss; small, since squares of slopes have long tails.
        penalty_limit: slope, in log units per unit of the field, that counts as steep. 1.5 per mm/h is
            the median slope of the relaxation at temperature 0.05 on radar fields of rain of 128 x 128
            pixels; in other units, measure it with `emuloss.emulators.gradients.slopes`.
        penalty_share: share of each batch's fields at which gradients are penalised and compared, a
            third of them blurred, a third in between.
        descents: share of each batch that is met on descents of the emulator itself, exactly labelled, once
            it has learnt more than a constant; 0 to do without. None: a quarter where labels are cheap.
            Whether they are is measured, and kept in the state; in a run that is reproducible nothing is
            measured, and labels of metrics that are not `slow` are taken for cheap.
        sobolev: weight of the distance between the emulator's gradients and those of the metric's
            relaxation; 0 to do without.
    """

    minutes: float | None = option(
        10.0, "minutes of training, and at most of the evaluation; default: 10, or none with a budget"
    )
    fields: int | None = option(
        None, "fields seen after which training ends; default: none, the time decides", key="budget"
    )
    batch_size: int = option(32, "fields a step, over all processes")
    learning_rate: float = option(1e-3, "peak learning rate")
    warmup: float = 0.03
    weight_decay: float = 1e-4
    clip: float = 1.0
    rescaled: float = 0.25
    mixed: float = 0.25
    validations: int = 30
    patience: int = 10
    seed: int = option(0, "seed of weights, batches and synthetic fields", within=SEEDS)
    precision: str = option("auto", "precision of the training", choices=lambda: _PRECISIONS)
    compiled: bool = option(False, "compile the network: a minute at first, then faster steps on a GPU")
    penalty: str = option("none", "penalty of the gradients on the pixels", choices=_penalties)
    penalty_weight: float = option(0.01, "weight of the penalty")
    penalty_limit: float = option(1.5, "slope beyond which it sets in, in log units per field unit")
    penalty_share: float = 0.25
    sobolev: float = option(0.0, "weight of the distillation of the relaxed surrogate's gradient")

    descents: float | None = option(
        None,
        "share of each batch from the emulator's own descents, exactly labelled, 0 to do without; "
        "default: 0.25 where labels are cheap",
    )

    def __post_init__(self) -> None:
        if self.minutes is None and self.fields is None:
            raise ArgumentError("a budget is needed: give minutes, fields, or both")
        for name in ("fields", "batch_size", "validations", "patience"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int) and value > 0):
                title = "budget of fields" if name == "fields" else name
                raise ArgumentError(f"{title} must be a positive whole number, got {shown(value)}")
        for name in ("minutes", "learning_rate", "clip", "penalty_weight", "penalty_limit"):
            if getattr(self, name) is not None:
                as_positive(name, getattr(self, name))
        for name in ("weight_decay", "sobolev"):
            if not 0 <= as_real(getattr(self, name)) < math.inf:
                raise ArgumentError(f"{name} must be 0 or more, got {shown(getattr(self, name))}")
        as_natural("seed", self.seed)
        for name in ("warmup", "rescaled", "mixed", *(() if self.descents is None else ("descents",))):
            as_share(name, getattr(self, name))
        if not 0 < as_real(self.penalty_share) <= 1:
            raise ArgumentError(f"penalty_share must be a share in (0, 1], got {shown(self.penalty_share)}")
        if self.rescaled + self.mixed > 1:
            raise ArgumentError(f"rescaled + mixed must be at most 1, got {self.rescaled + self.mixed:g}")
        as_choice("precision", self.precision, _PRECISIONS)
        if self.penalty != "none":
            as_choice("penalty", self.penalty, _penalties())

    @property
    def repeatable(self) -> bool:
        """Whether nothing that is measured decides what is learnt: a budget of fields alone, in float32."""
        return self.minutes is None and self.precision == "float32"

    @property
    def terms(self) -> dict[str, float]:
        """Weights in the objective of what is asked of gradients, by name; those that are asked for."""
        asked = {"penalty": 0.0 if self.penalty == "none" else self.penalty_weight, "sobolev": self.sobolev}
        return {name: weight for name, weight in asked.items() if weight}

    def rate(self, spent: float) -> float:
        """Learning rate once that share of the budget is spent: a linear rise, then a half cosine."""
        rise = min(1.0, spent / self.warmup) if self.warmup else 1.0
        return self.learning_rate * max(rise, 1e-3) * (0.5 * (1 + math.cos(math.pi * spent)))

    @classmethod
    def of(cls, **given: Any) -> Training:
        """The settings of a flat call: 10 minutes, unless a budget of fields is given."""
        if given.get("fields") is not None:
            given = {"minutes": None} | given
        return cls(**given)
