"""The losses that are compared, by name: squared error, and squared error beside a surrogate loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import emuloss
import torch
from emuloss.emulators.relaxations.relaxation import COLD, HOT
from emuloss.losses import Live, LiveLoss
from torch import Tensor, nn

OUTPUTS = ("area", "perimeter", "euler", "components")
"""Outputs of the exact Minkowski distance, by which all losses are judged."""
RISE = 0.25
"""Share of the training over which the weight of a loss rises, along a half cosine."""
SETTLE = 0.75
"""Share of the training after which a temperature stays at its last value."""


def minkowski() -> emuloss.Metric:
    """The metric of the bundled surrogate for radar, with `OUTPUTS`."""
    return _excursion().metric


def clusters() -> emuloss.Metric:
    """The metric of the bundled surrogate for sizes of clusters, which has no relaxation."""
    return emuloss.load("clusters-opera").metric


@dataclass(frozen=True)
class Kind:
    """A loss to compare.

    Attributes:
        build: makes the surrogate.
        weights: of it, beside the squared error, that the sweep goes through.
        arguments: of `as_loss`.
        temperature: relative ones of a relaxation, at the start and at the end; None without.
        share: of a batch's fields that the loss sees in each step: fewer make it cheaper and its gradient
            noisier.
        balanced: whether weights are shares of the gradient's norm (`emuloss.Share`), rather than numbers.
        place: of a surrogate of the user's own.
    """

    build: Callable[[], emuloss.Surrogate]
    weights: tuple[float, ...]
    arguments: tuple[tuple[str, Any], ...] = ()
    temperature: tuple[float, float] | None = None
    share: float = 1.0
    balanced: bool = False
    place: str | None = None

    def settings(self) -> dict[str, Any]:
        """What decides a training beside the surrogate and its weight, as JSON gives it back."""
        temperature = None if self.temperature is None else list(self.temperature)
        arguments = {name: asdict(v) if isinstance(v, Live) else v for name, v in self.arguments}
        found: dict[str, Any] = {"arguments": arguments, "temperature": temperature, "share": self.share}
        found |= {"place": self.place} if self.place else {}
        return found | ({"balanced": True, "kept": "last"} if self.balanced else {})


def relaxed(**arguments: Any) -> emuloss.Surrogate:
    """The relaxed metric. Rain, most of it dry, lies as far from thresholds as these from 0."""
    metric = minkowski()
    return emuloss.relax(metric, spreads=metric.thresholds, **arguments)


def _excursion() -> emuloss.Surrogate:
    surrogate = emuloss.load("minkowski-opera")
    return surrogate.with_thresholds(surrogate.thresholds, levels=surrogate.metric.levels, outputs=OUTPUTS)


def _bundled(name: str) -> Callable[[], emuloss.Surrogate]:
    return lambda: emuloss.load(name)


_LABELS = (("reference", "exact"),)
"""Curves of targets are computed once, not in every step: a relaxation that ends cold is close to them."""
_EXACT = (("forward", "exact"),)
_GATED = (("trust", 1.0),)
_WEIGHTS = (0.003, 0.01)
_ONE = (0.01,)
_HEAVY = {"euler": 2.0, "components": 2.0}
_COOLING = (HOT, COLD)
"""Networks need a hot relaxation at first, whose gradient reaches far, and end closer with a colder one."""
_LIVE = (("live", True),)
"""Values are exact, the metric checks where the gradient leads, and the surrogate goes on learning."""
_RARELY = (("live", Live(steps=0.25)),)
"""It learns in one step of four, which is cheaper."""
_OWN = (*_LIVE, ("forward", "surrogate"), ("reference", "exact"))
"""Values and slopes are the surrogate's: the metric labels what it learns from, and nothing else."""
_MEASURED = (*_LIVE, ("slopes", "measured"))
_SHARES = (0.5, 0.7, 0.85)
"""Of the gradient's norm: slopes of different kinds differ in length."""
_SHARE = 0.25
"""Networks as losses cost more than the network that is trained: they see a quarter of each batch."""


def _live(name: str, arguments: tuple[tuple[str, Any], ...]) -> Kind:
    """A bundled surrogate that goes on learning."""
    return Kind(_bundled(name), _SHARES, arguments, share=_SHARE, balanced=True)


KINDS: dict[str, Kind] = {
    "relaxed": Kind(relaxed, (0.002, 0.004, 0.01, 0.02), _LABELS, temperature=_COOLING),
    "relaxed-balanced": Kind(relaxed, (0.5, 0.7, 0.9), _LABELS, temperature=_COOLING, balanced=True),
    "relaxed-exact": Kind(relaxed, _WEIGHTS, _EXACT, temperature=_COOLING),
    "excursion": Kind(_excursion, (0.002, 0.003, 0.01), _LABELS, temperature=_COOLING),
    "constrained": Kind(_bundled("minkowski-opera-constrained"), _WEIGHTS, _GATED, share=_SHARE),
    "constrained-live": _live("minkowski-opera-constrained", _LIVE),
    "constrained-live-rarely": _live("minkowski-opera-constrained", _RARELY),
    "constrained-live-own": _live("minkowski-opera-constrained", _OWN),
    "constrained-live-measured": _live("minkowski-opera-constrained", _MEASURED),
    "clusters-live": _live("clusters-opera", _LIVE),
    "lipschitz": Kind(_bundled("minkowski-opera-lipschitz"), _WEIGHTS, _GATED, share=_SHARE),
    "certified": Kind(_bundled("minkowski-opera-certified"), _WEIGHTS, _GATED, share=_SHARE),
    "components": Kind(_bundled("components-opera"), (0.01, 0.03), _GATED, share=_SHARE),
    "clusters": Kind(_bundled("clusters-opera"), (0.01, 0.03), _GATED, share=_SHARE),
    "fss": Kind(_bundled("fss-opera"), (0.03, 0.1), share=_SHARE),
    # What else was tried: the bundled surrogate as it is loaded, other temperatures, two of them at once,
    # and outputs that are hard to get right weighing more.
    "minkowski-opera": Kind(_bundled("minkowski-opera"), _ONE),
    "relaxed-hot": Kind(relaxed, (0.004,), temperature=(HOT, HOT)),
    "relaxed-cold": Kind(relaxed, (0.004,), _LABELS, temperature=(COLD, COLD)),
    "relaxed-mixed": Kind(lambda: relaxed(temperature=0.05, tail=(0.5, 0.5)), _ONE),
    "relaxed-weighted": Kind(relaxed, _ONE, (("weights", _HEAVY), *_LABELS), temperature=_COOLING),
}


OWN = ("own", "own-live")
"""Losses with a surrogate of the user's own, as it is and live."""


def kinds_of(place: str) -> dict[str, Kind]:
    """`OWN`, of a surrogate that is loaded from a place."""
    frozen = Kind(_bundled(place), _WEIGHTS, _GATED, share=_SHARE, place=place)
    return dict(zip(OWN, (frozen, replace(_live(place, _LIVE), place=place)), strict=True))


def risen(progress: float, rise: float = RISE) -> float:
    """Share of its weight that a loss has at a moment of the training, from 0 to 1, risen after `rise`."""
    return 0.5 * (1 - math.cos(math.pi * min(progress / rise, 1.0)))


class Objective(nn.Module):
    """Squared error of log(1 + rain), and a surrogate loss beside it.

    Args:
        name: "mse", or one of `KINDS`.
        weight: of the surrogate loss; of a balanced kind, its share of the gradient.
    """

    def __init__(self, name: str, weight: float) -> None:
        super().__init__()
        self.name, self.weight, self.risen = name, weight, 1.0
        self.loss: Any = None
        self.temperature: tuple[float, float] | None = None
        self.share = 1.0
        self.combined: emuloss.Combined | None = None
        if name != "mse":
            kind = KINDS[name]
            arguments = dict(kind.arguments)
            # What learns is part of the state of a training, what is frozen is not.
            self.loss = kind.build().as_loss(**{"in_state_dict": "live" in arguments, **arguments})
            self.temperature, self.share = kind.temperature, kind.share
            if kind.balanced:
                losses: dict[str, Callable[..., Tensor]] = {
                    "error": squared_error,
                    "distance": self._distance,
                }
                # Temperatures follow `at`, as those of kinds with weights do.
                self.combined = emuloss.Combined(
                    losses, distance=emuloss.Share(weight, rise=RISE), temperatures=None
                )
        self.at(1.0)

    @property
    def asked(self) -> dict[str, Any]:
        """What tells it from others, as JSON gives it back."""
        settings = KINDS[self.name].settings() if self.name in KINDS else None
        return {"name": self.name, "weight": self.weight, "settings": settings}

    def at(self, progress: float) -> None:
        """Set the weight and the temperature of a moment of the training, from 0 to 1."""
        self.risen = risen(progress)
        if self.combined is not None:
            self.combined.step(progress)
        if self.temperature:
            self.loss.anneal(progress / SETTLE, *self.temperature)

    def settled(self, progress: float) -> bool:
        """Whether weight and temperature will stay as they are."""
        return self.loss is None or progress >= SETTLE

    @property
    def comparable(self) -> bool:
        """Whether its values at two moments tell which is better: not where weights follow the gradient."""
        return self.combined is None

    @property
    def learns(self) -> bool:
        """Whether its surrogate goes on learning."""
        return isinstance(self.loss, LiveLoss)

    def learn(self) -> None:
        """Let the surrogate learn on what it was asked in the last step, if it does."""
        if self.learns:
            self.loss.learn()

    def labels(self, targets: Tensor) -> Tensor | None:
        """Exact curves (N, C, Q) of targets (N, H, W), if the loss compares with these.

        They are the same for a field that is turned or mirrored: once computed, they serve in every step.
        """
        if self.loss is None or self.learns or not self.loss.exact_reference:
            return None
        return torch.from_numpy(self.loss.metric(targets.numpy())).float()

    def forward(
        self, prediction: Tensor, target: Tensor, labels: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The objective, and the squared error alone.

        Args:
            prediction: log(1 + rain), (N, H, W).
            target: rain in mm/h, (N, H, W), NaN where nothing was measured.
            labels: of the targets, where there are any.
        """
        if self.combined is not None:
            total = self.combined(prediction, target, distance={"labels": labels})
            return total, self.combined.values["error"]
        error = squared_error(prediction, target)
        if self.loss is None:
            return error, error
        return error + self.risen * self.weight * self._distance(prediction, target, labels), error

    def _distance(self, prediction: Tensor, target: Tensor, labels: Tensor | None) -> Tensor:
        """The surrogate loss of the fields that it sees; arguments as for `forward`."""
        seen = math.ceil(self.share * len(target)) if self.training else len(target)
        # Not expm1, whose gradient takes three times as long; no threshold is near 0.
        rain, observed = prediction[:seen].exp() - 1, target[:seen]
        found: Tensor
        if labels is None:
            found = self.loss(rain, observed)
        else:
            found = self.loss(rain, target_curves=labels[:seen], mask=~observed.isnan())
        return found


def squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of log(1 + rain) over the measured pixels; arguments as for `Objective`."""
    measured = ~target.isnan()
    difference = prediction - torch.log1p(target.nan_to_num(0.0))
    return (difference.square() * measured).sum() / measured.sum().clamp(min=1)
