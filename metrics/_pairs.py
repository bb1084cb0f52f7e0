"""What the metrics of a prediction and an observation share."""

from __future__ import annotations

import numpy as np

from .constraints import AtLeast, AtMost, Constraint


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


def reached(field: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Number of thresholds that each pixel of a field (H, W) reaches, in double precision; 0 for NaN."""
    count = np.searchsorted(thresholds, field.astype(np.float64, copy=False), side="right")
    count[np.isnan(field)] = 0
    return count


def ratio(numerator: np.ndarray, denominator: np.ndarray, empty: float) -> np.ndarray:
    """Their ratio, float64; `empty` where the denominator is 0. Both of one shape."""
    return np.divide(
        numerator, denominator, out=np.full(numerator.shape, float(empty)), where=denominator != 0
    )
