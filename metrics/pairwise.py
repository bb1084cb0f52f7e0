"""What the metrics of a prediction and an observation share."""

from __future__ import annotations

import math

import numpy as np

from .constraints import AtLeast, AtMost, Constraint
from .metric import Metric


def within(output: str, low: float, high: float) -> tuple[Constraint, Constraint]:
    """The constraints low <= output <= high."""
    return (
        AtLeast(output, f"{output} >= {low:g}", lambda: low),
        AtMost(output, f"{output} <= {high:g}", lambda: high),
    )


def measured_in_both(prediction: np.ndarray, observation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both, in floating point, with NaN wherever either is NaN; any one shape."""
    missing = np.isnan(prediction) | np.isnan(observation)
    return np.where(missing, np.nan, prediction), np.where(missing, np.nan, observation)


def reached(field: np.ndarray, thresholds: tuple[float, ...]) -> np.ndarray:
    """Number of thresholds that each pixel of a field (H, W) reaches, in double precision; 0 for NaN."""
    from .kernels.digitise import digitise

    return digitise(field[None], thresholds)[0, 1:-1, 1:-1]


def ratio(numerator: np.ndarray, denominator: np.ndarray, empty: float) -> np.ndarray:
    """Their ratio, float64; `empty` where the denominator is 0. Both of one shape."""
    return np.divide(
        numerator, denominator, out=np.full(numerator.shape, float(empty)), where=denominator != 0
    )


def identity_values(metric: Metric) -> tuple[float, ...] | None:
    """The value of each output for a field and itself; None where the metric does not declare it."""
    if metric.best:
        return tuple(metric.best[name] for name in metric.outputs)
    return None if metric.identity is None else (metric.identity,) * len(metric.outputs)


def constant_range(metric: Metric, output: str) -> tuple[float, float]:
    """Declared bounds of an output that depend on nothing; infinite where there are none."""
    low, high = -math.inf, math.inf
    for c in metric.constraints:
        if c.output == output and isinstance(c, AtLeast | AtMost) and not c.of:
            bound = float(c.bound())
            low, high = (max(low, bound), high) if isinstance(c, AtLeast) else (low, min(high, bound))
    return low, high
