"""Exact metrics of 2-D fields: the teachers of surrogates. NumPy in, NumPy out."""

from __future__ import annotations

from ..errors import FieldError
from .betti_error import BettiError
from .boxcount import BoxCount
from .clusters import Clusters
from .csi import CSI
from .distribution import dry_value, found_quantum
from .excursion import ExcursionMetric
from .fss import FSS
from .functions import FunctionMetric
from .metric import Metric
from .minkowski import Minkowski
from .morphology import Morphology
from .percolation import Percolation
from .registry import list_metrics, metric, metric_from_config, register, takes
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
    "ExcursionMetric",
    "FieldError",
    "FunctionMetric",
    "Metric",
    "Minkowski",
    "Morphology",
    "Percolation",
    "Spectrum",
    "dry_value",
    "found_quantum",
    "list_metrics",
    "metric",
    "metric_from_config",
    "quantile_thresholds",
    "register",
    "takes",
]
