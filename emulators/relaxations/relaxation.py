"""The relaxations that are known, and their temperatures."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ...errors import ArgumentError
from ...foundation.arguments import known_names, shown
from ...foundation.registry import Registry
from ...metrics import Metric
from ..differentiable import Analytical

HOT, COLD = 0.2, 0.05
"""Relative temperatures between which losses of networks in training are annealed: see
docs/super_resolution.md."""

RELAXATIONS: Registry[type[Metric], Callable[..., Analytical]] = Registry("relaxation")
"""Relaxations by the kind of metric, built as relaxed(metric, temperature=..., forward=...); without a
temperature where the metric has a gradient itself. One that does not know an output of its metric raises
`NoRelaxation`."""


class NoRelaxation(ArgumentError):
    """No relaxation of a metric, or of one of its outputs, is known."""


def relaxation(metric: Metric, **arguments: Any) -> Analytical:
    """The analytical relaxation of a metric; a kind of metric gets one by `RELAXATIONS.register(kind)`.

    Raises:
        NoRelaxation: none is known for it; an `ArgumentError`.
        ArgumentError: no metric, or an argument that its relaxation does not take, or that is out of range.
    """
    if not isinstance(metric, Metric):
        raise ArgumentError(
            "relax takes a metric, such as emuloss.metric('minkowski', thresholds=[0.1, 1, 5]), "
            f"got {shown(metric)}"
        )
    build = RELAXATIONS.of(metric)
    if build is None:
        raise NoRelaxation(
            f"no relaxation of metric {metric.name!r} is known; take emuloss.live(metric, fields), "
            "or train an emulator by emuloss.train"
        )
    takes = arguments_of(build)
    if unknown := [name for name in arguments if takes and name not in takes]:
        raise ArgumentError(
            f"the relaxation of metric {metric.name!r} has no argument {unknown[0]!r}; "
            f"it takes {known_names(unknown[0], takes)}"
        )
    return build(metric, **arguments)


def arguments_of(build: Callable[..., Analytical]) -> tuple[str, ...]:
    """Names of the arguments of a relaxation, beside the metric and its thresholds; empty if it takes any."""
    parameters = list(inspect.signature(build).parameters.values())[1:]
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return ()
    return tuple(parameter.name for parameter in parameters if parameter.name != "thresholds")


def takes_spreads(metric: Metric) -> bool:
    """Whether the relaxation of a metric can be told how far data lie from the metric's thresholds."""
    return bool(metric.thresholds) and _takes(metric, "spreads")


def takes_temperature(metric: Metric) -> bool:
    """Whether the relaxation of a metric has a temperature."""
    return _takes(metric, "temperature")


def _takes(metric: Metric, argument: str) -> bool:
    build = RELAXATIONS.of(metric)
    return build is not None and argument in (arguments_of(build) or (argument,))


def relaxable(metric: Metric) -> bool:
    """Whether a relaxation of a metric is known."""
    try:
        relaxation(metric)
    except NoRelaxation:
        return False
    return True


def geometric(start: float, end: float, progress: float) -> float:
    """Annealing: the temperature at progress in [0, 1] on the geometric way from start to end."""
    return start * (end / start) ** min(max(progress, 0.0), 1.0)
