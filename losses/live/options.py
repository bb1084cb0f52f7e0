"""What decides how a live surrogate learns."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import ArgumentError
from ...foundation.arguments import as_choice, as_count, as_flag, as_natural, as_positive, as_real, shown

_PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class Live:
    """How a live surrogate learns: one call of `LiveLoss.learn` a step of the model.

    Attributes:
        learning_rate: of AdamW, after a short rise.
        steps: steps of learning a call; 0.25: one in every fourth call, a cheaper one. What the other calls
            were asked about is remembered, exactly labelled, all the same.
        anchors: observed fields in each step, as a share of the predictions; half of them are mixed with
            their blurred, noisy selves. They keep what was known of fields as they are.
        remembered: earlier predictions in each step, likewise.
        memory: earlier predictions that are kept, at most; of large fields fewer, 16.8 million pixels in all
            (64 MiB, in memory and in the state dict), but at least four.
        gated: whether the loss heeds itself less in training where it errs, see `Gauge`; not where its slopes
            are checked or measured.
        precision: of the network as it learns, and of the values and gradients that it gives a model in
            training: "float32", "bfloat16" (autocast), or "auto": bfloat16 where the device has instructions
            for it. In evaluation it is the caller's.
        background: whether exact labels are made in other processes, while the model goes on: they come some
            steps late. Only of functions that other processes can import. Default: of those, unless labels
            take next to no time: `emuloss.live` measures it, other live losses find it out in their first
            steps.
        seed: of what is drawn from the memory, and how anchors are mixed.

    Raises:
        ArgumentError: a value out of range.
    """

    learning_rate: float = 3e-4
    steps: float = 1
    anchors: float = 0.5
    remembered: float = 1.0
    memory: int = 512
    gated: bool = True
    precision: str = "auto"
    background: bool | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        as_positive("learning_rate", self.learning_rate)
        as_positive("steps", self.steps)
        as_count("memory", self.memory)
        for name in ("anchors", "remembered"):
            if not 0 <= as_real(getattr(self, name)) <= 100:
                raise ArgumentError(
                    f"{name} must be a number from 0 to 100, got {shown(getattr(self, name))}"
                )
        as_flag("gated", self.gated)
        if self.background is not None:
            as_flag("background", self.background)
        as_choice("precision", self.precision, _PRECISIONS)
        as_natural("seed", self.seed)


def as_live(value: object) -> Live | None:
    """Options of a live loss, or None where it is not to be one.

    Raises:
        ArgumentError: neither a truth value nor options.
    """
    if isinstance(value, Live):
        return value
    if isinstance(value, bool):
        return Live() if value else None
    raise ArgumentError(f"live must be True, False or an emuloss.losses.Live, got {type(value).__name__}")
