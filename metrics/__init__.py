"""Exact metrics of 2-D fields: the teachers of surrogates. NumPy in, NumPy out."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError
from ._base import Metric
from .minkowski import Minkowski
from .thresholds import WET_LEVELS, quantile_thresholds

_REGISTRY: dict[str, type[Metric]] = {cls.name: cls for cls in (Minkowski,)}

__all__ = [
    "WET_LEVELS",
    "Metric",
    "Minkowski",
    "list_metrics",
    "metric",
    "metric_from_config",
    "quantile_thresholds",
]


def list_metrics() -> list[str]:
    """Names of the metrics that `metric` builds."""
    return sorted(_REGISTRY)


def metric(
    name: str,
    *,
    quantiles: Any = None,
    fields: np.ndarray | None = None,
    wet: float = 0.0,
    quantum: float | None = None,
    **arguments: Any,
) -> Metric:
    """Build an exact metric by name.

    Args:
        name: one of `list_metrics()`.
        quantiles: instead of `thresholds`: place them at these quantile levels of the wet pixels
            of `fields` (see `quantile_thresholds`), and integrate curves over the levels.
        fields: the data whose quantiles are taken; any shape.
        wet: pixels > wet count.
        quantum: step of the data's values, or None where they are continuous.
        **arguments: the metric's own.

    Raises:
        ArgumentError: unknown name, unknown or unusable argument.
    """
    if name not in _REGISTRY:
        raise ArgumentError(f"unknown metric {name!r}; available: {', '.join(list_metrics())}")
    if quantiles is not None:
        if fields is None or "thresholds" in arguments:
            raise ArgumentError("quantiles= needs fields= to take them from, and no thresholds=")
        arguments["thresholds"] = quantile_thresholds(fields, quantiles, wet=wet, quantum=quantum)
        arguments.setdefault("levels", tuple(quantiles))
    try:
        return _REGISTRY[name](**arguments)
    except TypeError as error:
        raise ArgumentError(f"metric {name!r}: {str(error).removeprefix(_REGISTRY[name].__name__)}") from None


def metric_from_config(config: dict[str, Any]) -> Metric:
    """Build the metric that `Metric.config()` describes.

    Raises:
        ArgumentError: the configuration is not one.
    """
    if set(config) != {"name", "arguments"} or not isinstance(config["arguments"], dict):
        raise ArgumentError(
            f"a metric's configuration has the keys 'name' and 'arguments', got {sorted(config)}"
        )
    return metric(config["name"], **config["arguments"])
