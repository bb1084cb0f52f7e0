"""The relaxations that are known, and their temperatures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...errors import ArgumentError
from ...foundation.registry import Registry
from ...metrics import Metric
from ..differentiable import Relaxation

HOT, COLD = 0.2, 0.05
"""Relative temperatures between which losses of networks in training are annealed: see
docs/super_resolution.md."""

RELAXATIONS: Registry[type[Metric], Callable[..., Relaxation]] = Registry("relaxation")
"""Relaxations by the kind of metric, built as relaxed(metric, temperature=..., forward=...). One that does
not know an output of its metric raises `NoRelaxation`."""


class NoRelaxation(ArgumentError):
    """No relaxation of a metric, or of one of its outputs, is known."""


def relaxation(metric: Metric, **arguments: Any) -> Relaxation:
    """The analytical relaxation of a metric; a kind of metric gets one by `RELAXATIONS.register(kind)`.

    Raises:
        NoRelaxation: none is known for it; an `ArgumentError`.
    """
    build = RELAXATIONS.of(metric)
    if build is None:
        raise NoRelaxation(
            f"no relaxation of metric {metric.name!r} is known; train an emulator with train_surrogate.py"
        )
    return build(metric, **arguments)


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
