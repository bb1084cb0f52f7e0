"""Exact metrics of 2-D fields: the teachers of surrogates. NumPy in, NumPy out."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ._base import Metric
from .betti_error import BettiError
from .boxcount import BoxCount
from .clusters import Clusters
from .csi import CSI
from .fss import FSS
from .functions import FieldError, FunctionMetric, from_spec, is_spec, passed_to
from .minkowski import Minkowski
from .morphology import Morphology
from .percolation import Percolation
from .registry import build, list_metrics, metric_class, metric_from_config, register
from .sal import SAL
from .spectrum import Spectrum
from .thresholds import WET_LEVELS, quantile_thresholds

__all__ = [
    "CSI",
    "FSS",
    "SAL",
    "WET_LEVELS",
    "BettiError",
    "BoxCount",
    "Clusters",
    "FieldError",
    "FunctionMetric",
    "Metric",
    "Minkowski",
    "Morphology",
    "Percolation",
    "Spectrum",
    "list_metrics",
    "metric",
    "metric_from_config",
    "quantile_thresholds",
    "register",
    "takes",
]


def metric(
    name: str,
    *,
    quantiles: Any = None,
    fields: np.ndarray | None = None,
    wet: float = 0.0,
    quantum: float | None = None,
    **arguments: Any,
) -> Metric:
    """Build an exact metric, by name or from a function of your own.

    Args:
        name: one of `list_metrics()`; or the place of a Python function, "module:function" or
            "path/file.py:function", which becomes a `FunctionMetric`. The module or file is run.
        quantiles: instead of `thresholds`: place them at these quantile levels of the wet pixels
            of `fields` (see `quantile_thresholds`), and integrate curves over the levels.
        fields: the data whose quantiles are taken, any shape; (N, H, W) for a function, whose outputs and
            levels are found by calling it on the first of them, where they are not given.
        wet: pixels > wet count.
        quantum: step of the data's values, or None where they are continuous.
        **arguments: the metric's own.

    Raises:
        ArgumentError: unknown name, unknown or unusable argument, or no such function.
    """
    if not isinstance(name, str):
        raise ArgumentError(
            f"a metric is given by its name or by the place of a function, such as 'peaks.py:count', "
            f"got {name!r}; a function must stand in a module or file, for worker processes import it"
        )
    if quantiles is not None:
        if fields is None or "thresholds" in arguments:
            raise ArgumentError("quantiles= needs fields= to take them from, and no thresholds=")
        if "thresholds" not in takes(name):
            raise ArgumentError(f"metric {name!r} has no thresholds; leave quantiles= out")
        arguments["thresholds"] = quantile_thresholds(fields, quantiles, wet=wet, quantum=quantum)
        arguments.setdefault("levels", tuple(quantiles))
    if is_spec(name):
        return from_spec(name, arguments, fields)
    return build(metric_class(name), arguments)


def takes(name: str) -> tuple[str, ...]:
    """Names of the arguments that a metric takes; of a function, thresholds only where it asks for them.

    Raises:
        ArgumentError: unknown name, or no such function.
    """
    cls = FunctionMetric if is_spec(name) else metric_class(name)
    known = tuple(parameter for parameter in inspect.signature(cls).parameters if parameter != "source")
    if is_spec(name) and "thresholds" not in passed_to(name):
        return tuple(parameter for parameter in known if parameter != "thresholds")
    return known
