"""Fidelity by how much of a field is wet, or high: a mean over all fields hides the few that matter."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..emulators.spaces import Values
from ..errors import ArgumentError
from ..findings.figures import CLASSES, ClassFigures, ClassFit
from ..metrics import Metric
from .fidelity import curve_distance, number, over_finite, r_squared, sample_r_squared


def reached(metric: Metric, values: Values) -> float:
    """The value that pixels of a data set reach to count as wet, or as high.

    Of data that have a dry value the lowest threshold; of others the one in the middle, since most pixels
    reach the lowest. Without thresholds the dry value, or the median, which they have to exceed.
    """
    if not metric.thresholds:
        return values.centre
    return metric.thresholds[0 if values.dry is not None else len(metric.thresholds) // 2]


def fullness(metric: Metric, fields: NDArray[Any], level: float | None = None) -> NDArray[np.float64]:
    """Share of each field's pixels that count, (N,); NaN does not.

    Args:
        metric: with or without thresholds, see `reached`.
        fields: (N, H, W); of pairs (N, 2, H, W) the observation counts.
        level: the value that pixels reach; default: `reached`, of these fields.
    """
    observed = fields if fields.ndim == 3 else fields[:, 1]
    if level is None:
        level = reached(metric, Values.of(observed))
    return (observed >= level if metric.thresholds else observed > level).mean((1, 2))


def wetness_classes(share: NDArray[np.float64]) -> dict[str, NDArray[np.intp]]:
    """Indices of the fields of each of `CLASSES`, from the shares (N,) of pixels that count.

    Equal shares keep the order of the fields, so that each field has one class and the terciles
    differ by one field at most.
    """
    order = np.argsort(share, kind="stable")
    dry = np.count_nonzero(share == 0)
    return dict(zip(CLASSES, (order[:dry], *np.array_split(order[dry:], 3)), strict=True))


def fidelity_by_class(
    metric: Metric,
    fields: NDArray[Any],
    exact: ArrayLike,
    emulated: ArrayLike,
    level: float | None = None,
) -> dict[str, ClassFigures]:
    """Figures of emulated curves against exact ones, by how much of a field is wet, or high.

    Args:
        metric: the exact metric of both.
        fields: (N, H, W), or pairs (N, 2, H, W).
        exact: (N, C, Q), their exact curves, in the metric's units.
        emulated: (N, C, Q), likewise.
        level: see `fullness`.

    Returns:
        JSON-able, for each of `CLASSES`: "fields", their number; "share", the [least, largest]
        share of pixels that count, in %; and for each of "outputs" "r2_mean" (over the levels where it
        is defined, see `r_squared`), "distance" (mean of `curve_distance`) and "sample_r2_median"
        (see `sample_r_squared`). None stands where a figure is undefined.

    Raises:
        ArgumentError: the arguments do not belong together.
    """
    fields, x, e = np.asarray(fields), np.asarray(exact, np.float64), np.asarray(emulated, np.float64)
    if len(fields) != len(x):
        raise ArgumentError(f"fields and curves must come in equal number, got {len(fields)} and {len(x)}")
    share = fullness(metric, fields, level)
    return {
        name: {
            "fields": len(members),
            "share": _range_in_percent(share[members]),
            "outputs": _fits(metric, x[members], e[members]),
        }
        for name, members in wetness_classes(share).items()
    }


def _range_in_percent(shares: NDArray[np.float64]) -> list[float] | None:
    """The least share and the largest; None where there is none."""
    return [100 * float(bound(shares)) for bound in (np.min, np.max)] if len(shares) else None


def _fits(metric: Metric, x: NDArray[np.float64], e: NDArray[np.float64]) -> dict[str, ClassFit]:
    """The figures of each output of a class, which may be empty."""
    if len(x) == 0:
        return {
            name: {"r2_mean": None, "distance": None, "sample_r2_median": None} for name in metric.outputs
        }
    r2, samples = r_squared(x, e), sample_r_squared(x, e)
    distances = curve_distance(x, e, metric.levels, metric.scales).mean(0)
    return {
        name: {
            "r2_mean": over_finite(np.mean, r2[c]),
            "distance": number(distances[c]),
            "sample_r2_median": over_finite(np.median, samples[:, c]),
        }
        for c, name in enumerate(metric.outputs)
    }
