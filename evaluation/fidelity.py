"""How closely emulated curves follow the exact ones, and what they break."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ..emulators.distances import CurveDistance
from ..errors import ArgumentError
from ..findings.figures import FidelityFigures, Isoperimetry, OutputFit
from ..metrics import Metric

_ROUNDING = 1e-6
"""Relative slack of inequalities between curves; surrogates compute in single precision."""


def r_squared(exact: ArrayLike, emulated: ArrayLike) -> NDArray[np.float64]:
    """Coefficient of determination over fields, in the curves' own units.

    R2 = 1 - sum_n (e_n - x_n)^2 / sum_n (x_n - mean x)^2, x exact and e emulated.

    Args:
        exact: (N, C, Q), exact curves.
        emulated: (N, C, Q), emulated curves.

    Returns:
        (C, Q), per output and threshold; NaN where the exact values are all equal.

    Raises:
        ArgumentError: the shapes differ, or are not (N, C, Q) with N >= 1.
    """
    x, e = _curves(exact, emulated)
    error = ((e - x) ** 2).sum(0)
    variation = ((x - x.mean(0)) ** 2).sum(0)
    varies = x.max(0) > x.min(0)
    return np.where(varies, 1 - error / np.where(varies, variation, 1.0), np.nan)


def sample_r_squared(exact: ArrayLike, emulated: ArrayLike) -> NDArray[np.float64]:
    """Coefficient of determination of each field's curves over the thresholds, in the curves' own units.

    Args:
        exact: (N, C, Q), exact curves.
        emulated: (N, C, Q), emulated curves.

    Returns:
        (N, C), per field and output; NaN where the exact curve is constant, such as a dry field's.

    Raises:
        ArgumentError: the shapes differ, or are not (N, C, Q) with N >= 1.
    """
    x, e = _curves(exact, emulated)
    return r_squared(np.moveaxis(x, 2, 0), np.moveaxis(e, 2, 0))


def curve_distance(
    exact: ArrayLike, emulated: ArrayLike, levels: Sequence[float], scales: Sequence[float] = ()
) -> NDArray[np.float64]:
    """Distance that the training loss uses (`emuloss.emulators.CurveDistance`), on arrays.

    Args:
        exact: (N, C, Q), curves in physical units.
        emulated: (N, C, Q), likewise.
        levels: Q coordinates of the axis of integration.
        scales: sizes of the C outputs (`Metric.scales`); empty: all 1.

    Returns:
        (N, C).

    Raises:
        ArgumentError: the shapes differ, are not (N, C, Q) with N >= 1, or do not fit the levels.
    """
    x, e = _curves(exact, emulated)
    if x.shape[2] != len(levels):
        raise ArgumentError(f"levels must match the {x.shape[2]} thresholds of the curves, got {len(levels)}")
    return CurveDistance(levels, scales)(torch.from_numpy(x), torch.from_numpy(e)).numpy()


def fidelity(
    metric: Metric, exact: ArrayLike, emulated: ArrayLike, field_shape: tuple[int, int]
) -> FidelityFigures:
    """Figures of emulated curves against exact ones.

    Args:
        metric: the exact metric of both.
        exact: (N, C, Q), in the metric's units.
        emulated: (N, C, Q), likewise.
        field_shape: (H, W) of the fields.

    Returns:
        JSON-able; None stands where a figure is undefined:

        - "fields", "field_shape", "thresholds".
        - "outputs": for each output its "unit", "r2" by threshold (by level, where the metric has no
          thresholds), "r2_mean", "r2_worst", "r2_worst_threshold", "distance", the mean over fields of
          `curve_distance`, and "sample_r2_median" and "sample_r2_mean" of `sample_r_squared` over the
          fields where it is defined and finite.
        - "violations": {label: % of (field, threshold) pairs that break this constraint}.
        - "textbook_isoperimetry": % of the non-empty sets that break P^2 >= 4 pi A, "exact" and
          "emulated"; None where the metric lacks area or perimeter. Exact digital sets do break
          it, and a good surrogate follows them.

    Raises:
        ArgumentError: the shapes differ or do not fit the metric.
    """
    x, e = _curves(exact, emulated)
    violations = metric.check(e, field_shape)
    r2, samples = r_squared(x, e), sample_r_squared(x, e)
    distances = curve_distance(x, e, metric.levels, metric.scales).mean(0)
    return {
        "fields": len(x),
        "field_shape": [int(size) for size in field_shape],
        "thresholds": list(metric.thresholds),
        "outputs": {
            name: _fit(unit, metric.thresholds or metric.levels, r2[c], distances[c], samples[:, c])
            for c, (name, unit) in enumerate(zip(metric.outputs, metric.units, strict=True))
        },
        "violations": {label: 100 * share for label, share in violations.items()},
        "textbook_isoperimetry": _textbook_isoperimetry(metric, x, e),
    }


def number(value: float) -> float | None:
    """A plain float, or None where it is not finite, which JSON cannot hold."""
    return float(value) if math.isfinite(value) else None


def over_finite(statistic: Callable[..., Any], values: NDArray[np.float64]) -> float | None:
    """A statistic of the finite values, such as `np.median`; None where there are none."""
    finite = values[np.isfinite(values)]
    return float(statistic(finite)) if len(finite) else None


def _fit(
    unit: str, axis: Sequence[float], r2: NDArray[np.float64], distance: float, samples: NDArray[np.float64]
) -> OutputFit:
    """The figures of an output: its R2 (Q,) along thresholds or levels, and that of each field (N,)."""
    defined = np.flatnonzero(np.isfinite(r2))
    worst = defined[r2[defined].argmin()] if len(defined) else None
    return {
        "unit": unit,
        "r2": [number(value) for value in r2],
        "r2_mean": over_finite(np.mean, r2),
        "r2_worst": None if worst is None else float(r2[worst]),
        "r2_worst_threshold": None if worst is None else float(axis[worst]),
        "distance": number(distance),
        "sample_r2_median": over_finite(np.median, samples),
        "sample_r2_mean": over_finite(np.mean, samples),
    }


def _textbook_isoperimetry(
    metric: Metric, exact: NDArray[np.float64], emulated: NDArray[np.float64]
) -> Isoperimetry | None:
    if not {"area", "perimeter"} <= set(metric.outputs):
        return None
    area, perimeter = metric.outputs.index("area"), metric.outputs.index("perimeter")
    filled = exact[:, area] > 0

    def broken(curves: NDArray[np.float64]) -> float | None:
        bound = 4 * math.pi * curves[:, area][filled]
        # Written so that NaN counts as broken, as in `Metric.check`.
        kept = curves[:, perimeter][filled] ** 2 >= bound * (1 - _ROUNDING)
        return 100 * float(1 - kept.mean()) if filled.any() else None

    return {"exact": broken(exact), "emulated": broken(emulated)}


def _curves(exact: ArrayLike, emulated: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, e = np.asarray(exact, np.float64), np.asarray(emulated, np.float64)
    if x.shape != e.shape or x.ndim != 3 or len(x) == 0:
        raise ArgumentError(
            f"exact and emulated must have one shape (N, C, Q) with N >= 1, got {x.shape} and {e.shape}"
        )
    return x, e
