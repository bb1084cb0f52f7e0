"""A loss whose surrogate goes on learning on the predictions that it judges."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...emulators.differentiable import Differentiable
from ...training.reservoir import Reservoir
from ..loss import Compared, Sides, SurrogateLoss
from .gauge import Gauge, GaugeWarning
from .labels import AtOnce, Behind, Labels, LabelWarning
from .lessons import Heard, Lesson, as_asked, lesson_of, together
from .options import Live
from .student import Student, rank

_UNLEARNT = 32
"""Batches that wait to be learnt, at most."""


class LiveLoss(SurrogateLoss):
    """A loss whose surrogate goes on learning on what it is asked about.

    A frozen emulator is true where it was trained, not where an optimiser goes. This one is told the exact
    values of the predictions that it just judged, and takes a step of learning on them, on observed fields
    and on remembered predictions, as MetricGAN (Fu et al. 2019) has it for scores of speech:

        value = mse(prediction, target) + weight * loss(prediction, target)
        value.backward()
        optimizer.step()
        loss.learn()

    In evaluation mode, and where no gradient is asked for, it listens to nothing. The weights of the
    surrogate get no gradient from the loss, so that an optimizer of a model that holds it leaves them alone.

    Of several processes, each of which calls it and `learn` as often, surrogates stay equal to the bit. The
    state dict holds what it goes on from: weights, moments of its optimizer, and what it remembers. A
    training that is resumed ends as it would have, to the bit, but for metrics in plain Python, whose labels
    come some steps late. With `in_state_dict=False`, for formats that hold tensors alone and averages over
    state dicts, a resumed one begins to learn from the surrogate that it is made of.

    Args:
        surrogate: an emulator with weights, which belongs to this loss alone. Bounds that it had on its
            slopes are lost as it learns.
        network: what of it learns.
        facts: where it is noted, under "live", what was learnt.
        live: how it learns beside the model: a `Live`; of `as_loss` also True, for its defaults.
        **arguments: those of `SurrogateLoss`. By default values are exact (`forward`), the gradient leads to
            the surrogate's own goal, and slopes are "checked". Where labels would have to be waited for,
            values and slopes are the surrogate's, unless `slopes` are asked for, which are made at once.

    Attributes:
        surrogate: what learns; frozen between two steps. Of a surrogate's `as_loss` it is a copy, which can
            be evaluated, saved and published.
        gauge: how far it is believed, measured on the last predictions.

    Raises:
        ArgumentError: an argument out of range, or a surrogate without weights.
    """

    @torch.inference_mode(False)
    def __init__(
        self,
        surrogate: Differentiable,
        network: Differentiable,
        facts: dict[str, Any],
        live: Live,
        *,
        forward: str | None = None,
        reference: str | None = None,
        slopes: str | None = None,
        **arguments: Any,
    ) -> None:
        metric = surrogate.metric
        late = metric.parallel == "processes" and slopes in (None, "surrogate")
        behind = late if live.background is None else live.background
        open_values, open_slopes = forward is None and reference is None, slopes is None
        forward = forward or ("surrogate" if behind else "exact")
        slopes = slopes or ("surrogate" if behind or forward == "surrogate" else "checked")
        super().__init__(surrogate, forward=forward, reference=reference, slopes=slopes, **arguments)
        self.live, self.gauge, self._facts = live, Gauge(), facts
        self._student = Student(network, live)
        self._labels: Labels = Behind(metric) if behind else AtOnce(metric)
        self._memory = Reservoir(live.memory)
        self._heard: list[Heard] = []
        self._random: np.random.Generator | None = None
        self._size = self._learnt = self._left_out = self._calls = 0
        self._warned = False
        self._open_values, self._open_slopes = open_values, open_slopes

    def _compared(
        self, prediction: Tensor, target: Tensor | None, target_curves: Tensor | None, mask: Tensor | None
    ) -> Compared:
        """As of a frozen surrogate; in training a poor one whose slopes are its own is heeded less."""
        compared = super()._compared(prediction, target, target_curves, mask)
        if self.heeded == 1:
            return compared
        weight = compared.distances.new_full(compared.distances.shape[:1], self.heeded)
        gate = compared.sides.gate
        gated = compared.sides._replace(gate=weight if gate is None else gate * weight)
        return compared._replace(sides=gated)

    @property
    def heeded(self) -> float:
        """What the loss is multiplied by now: less than 1 in training by a surrogate that errs.

        Not where the metric is asked where gradients lead.
        """
        return self.gauge.weight if self.live.gated and self.training and not self.asks_slopes else 1.0

    def _curves_of(
        self, prediction: Tensor, counted: Tensor, target: Tensor | None, target_curves: Tensor | None
    ) -> Sides:
        """As of a frozen surrogate; what is asked in training is kept, to be learnt."""
        if not (self.training and torch.is_grad_enabled() and prediction.requires_grad):
            return super()._curves_of(prediction, counted, target, target_curves)
        with self._student.autocast(prediction.device):
            sides = super()._curves_of(prediction, counted, target, target_curves)
        # Curves of doubles are not to the bit those of the single precision that is kept.
        kept = prediction.dtype != torch.float64
        exact = sides.exact if kept else None
        reference = sides.reference if kept and self.exact_reference and target is not None else None
        if exact is not None:  # that of a field without what is broken is not that of the field
            filled = (prediction.detach().isfinite() != counted.isfinite()).flatten(1).any(1)
            exact = exact.masked_fill(filled[:, None, None], math.nan)
        self._hear(Heard.of(prediction, target, target_curves, exact, reference))
        return sides

    def _believed(self, emulated: Tensor, exact: Tensor, agree: Tensor) -> Tensor:
        """One that learns what it was asked goes to its own goal, which moves to the exact one."""
        return emulated

    def _hear(self, heard: Heard) -> None:
        """Keep a batch until the next step of learning, unless nobody seems to take any."""
        self._heard.append(heard)
        if len(self._heard) <= _UNLEARNT:
            return
        self._heard.pop(0)
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"a live loss was asked {_UNLEARNT} times and has learnt nothing of it; call loss.learn() "
                "after each step of the model's optimizer",
                GaugeWarning,
                stacklevel=9,
            )

    @torch.inference_mode(False)
    def learn(self) -> dict[str, float]:
        """Learn on what the loss was asked since the last call; call it after each step of the model.

        Of several processes all have to call it.

        Returns:
            "loss", the distance from exact curves in the last step, NaN where there was none or nothing to
            learn; the figures of the gauge: mean distances "said" and "exact" of the last predictions that
            were learnt, "error" and "ranks"; "weight", as `heeded`; and "left_out", how many fields so far
            could not be learnt: not finite, or without labels.
        """
        if self._random is None:
            self._random = np.random.default_rng([self.live.seed, rank()])
        heard, self._heard = self._heard, []
        due = self._due()
        # What is only to be remembered needs no anchors; late labels may be there when a step is due.
        anchors = self.live.anchors if due or isinstance(self._labels, Behind) else None
        for each in heard:
            asked, broken = as_asked(each, self.metric, anchors, self._random)
            self._left_out += broken
            if asked is not None:
                self._labels.put(asked)
        lessons = [lesson_of(asked, curves) for asked, curves in self._labels.known()]
        loss = math.nan
        for step in range(due):
            if step == 0:
                for lesson in lessons:
                    self._measure(lesson)
            loss = self._student.learn(*self._batch(lessons, self._random))
        for lesson in lessons:
            self._memory.add(lesson.predictions, lesson.exact)
            self._size = max(self._size, len(lesson.predictions))
            self._learnt += len(lesson.predictions)
        if not self.asks_slopes:
            self.gauge.warn(self._student.steps, self.metric.title)
        figures = self.gauge.figures() | {"weight": self.heeded}
        left_out = self._left_out + self._labels.left_out
        self._note(figures)
        self._wait_no_more()
        return {"loss": loss, **figures, "left_out": left_out}

    def _due(self) -> int:
        """Steps to take in this call, so that after k calls there were k `steps` of them, rounded up."""
        self._calls += 1
        return math.ceil(self._calls * self.live.steps) - math.ceil((self._calls - 1) * self.live.steps)

    def _wait_no_more(self) -> None:
        """Label at once from now on, where labels are known to take next to no time."""
        if self.live.background is None and isinstance(self._labels, Behind) and self._labels.short:
            self._left_out += self._labels.left_out
            before = self.exact_forward, self.slopes
            self._label_at_once()
            if before != (self.exact_forward, self.slopes):
                warnings.warn(
                    f"exact values of {self.metric.title} take next to no time: from now on the loss waits "
                    "for them, its value is exact, which may change its size, and its slopes are checked; "
                    "Live(background=False) has it so from the first step, Live(background=True) never",
                    LabelWarning,
                    stacklevel=4,
                )

    def _label_at_once(self) -> None:
        """Go over to labels at once, and to what they allow where nothing else was asked for."""
        self._labels = AtOnce(self.metric)
        if self._open_values:
            self.exact_forward, self.exact_reference = True, self.metric.arity == 1
        if self._open_slopes and self.exact_forward:
            self.slopes = "checked"

    def _measure(self, lesson: Lesson) -> None:
        """Let the gauge see what the surrogate makes of predictions, as it is before it learns of them."""
        emulated = self._student.curves(lesson.predictions).double()
        exact = lesson.exact.to(emulated)
        reference = None if lesson.reference is None else lesson.reference.to(emulated)
        said, true = (self._weighed(self.distance(curves, reference)) for curves in (emulated, exact))
        pairs = self.metric.arity == 2
        errors = (said - true).abs() if pairs else self._weighed(self.distance(emulated, exact))
        self.gauge.add(*(x.double().cpu().numpy() for x in (said, true, errors)))

    def _batch(self, lessons: list[Lesson], random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Fields of a step, and their exact curves: what was just asked, anchors, and what is remembered."""
        size = sum(len(lesson.predictions) for lesson in lessons)
        # Where labels are late, as many as otherwise are remembered.
        number = self.live.remembered * size if size else (1 + self.live.remembered) * self._size
        batches = [(lesson.fields, lesson.curves) for lesson in lessons]
        if len(self._memory):
            drawn = self._memory.draw(round(number), random)
            batches.append((drawn.fields, drawn.curves))
        return together(batches, self.metric)

    def _note(self, figures: dict[str, float]) -> None:
        """Keep what a card says about the learning; figures: of the gauge."""
        finite = {name: value for name, value in figures.items() if math.isfinite(value)}
        self._facts["live"] = {"steps": self._student.steps, "predictions": self._learnt, **finite}

    def get_extra_state(self) -> dict[str, Any]:
        """What the learning goes on from, beside the weights."""
        random = None if self._random is None else self._random.bit_generator.state
        return {
            "student": self._student.state_dict(),
            "memory": self._memory.state_dict(),
            "gauge": self.gauge.state_dict(),
            "random": random,
            "counts": [self._size, self._learnt, self._left_out, self._calls],
            "at once": isinstance(self._labels, AtOnce),
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on from a state that `get_extra_state` gave."""
        self._student.load_state_dict(state["student"])
        self._memory.load_state_dict(state["memory"])
        self.gauge.load_state_dict(state["gauge"])
        if state["random"] is not None:
            self._random = np.random.default_rng(0)
            self._random.bit_generator.state = state["random"]
        self._size, self._learnt, self._left_out, *calls = state["counts"]
        self._calls = calls[0] if calls else 0  # earlier versions had none
        if state.get("at once") and isinstance(self._labels, Behind):  # earlier versions did not tell
            self._label_at_once()

    def _told(self) -> dict[str, str]:
        """What `print` shows, by name."""
        learnt = f"{self._learnt} predictions in {self._student.steps} steps"
        return super()._told() | {"learnt": learnt}
