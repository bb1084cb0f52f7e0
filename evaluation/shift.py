"""Fidelity away from the training data: other intensities, weather, textures, sizes and thresholds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.sources.rain import Rain
from ..emulators.differentiable import Differentiable
from ..emulators.spaces import Values, as_fields, typical_distance
from ..errors import ArgumentError
from ..findings.figures import FidelityFigures, ShiftFigures, ShiftFit
from ..foundation.arguments import as_count
from ..metrics import Metric
from .emulate import emulate
from .fidelity import fidelity
from .pixels import waves

_FACTORS = (0.3, 3.0)
_REGIMES = ("stratiform", "convective", "all-wet")
_TEXTURES = {"rough": 1.0, "smooth": 4.0}
"""Spectral exponents of the noise that stands for other textures, where there is no weather."""
_GAUSSIAN_SCALE = 0.6745
"""Median distance of normal numbers from 0, in standard deviations."""
_BETWEEN = (3 - 5**0.5) / 2
"""How far between two neighbours the other thresholds lie. A midpoint may be a value that quantised
data take, of which it is then chance how many count as wet."""


def shifted(
    fields: NDArray[Any], *, count: int = 64, seed: int = 0, values: Values | None = None
) -> dict[str, NDArray[Any]]:
    """Fields unlike the given ones, by name of what was changed.

    - "x 0.3", "x 3": the distance of the pixels from the dry value, or from the median where there is none.
    - "stratiform", "convective", "all-wet", where the data have a dry value: synthetic rain
      (`emuloss.datasets.Rain`), brought to the typical wet pixel of the given fields.
    - "rough", "smooth", where they have none: Gaussian noise with their median and typical spread.
    - "coarse": block means of 2 x 2 pixels, mirrored to fill the old size: the texture of another
      pixel size.
    - "larger": twice as high and half as wide again, by mirroring; "smaller": the middle quarter.

    Args:
        fields: (N, H, W), H and W at least 2; NaN marks pixels that were not measured.
        count: fields of each kind, the same ones of the given fields for all kinds; a quarter as
            many for "larger". No more than there are.
        seed: of the choice among the given fields, and of the rain.
        values: of the data set that the fields are from; default: theirs.

    Returns:
        {name: (n, H', W')}.

    Raises:
        ArgumentError: an argument out of range.
    """
    shape = as_fields("fields", fields).shape[1:]
    as_count("count", count)
    if min(shape) < 2:
        raise ArgumentError(f"fields must be at least 2 x 2 pixels, got {tuple(shape)}")
    x = _picked(fields, count, seed)
    values = (values or Values.of(as_fields("fields", fields))).among(x)
    rows, columns = x.shape[1:]
    sets = {f"x {factor:g}": values.times(factor, x) for factor in _FACTORS}
    sets |= _noise(x, values, seed) if values.dry is None else _rain(x, values, seed)
    even = x[:, : rows // 2 * 2, : columns // 2 * 2].reshape(len(x), rows // 2, 2, columns // 2, 2)
    sets["coarse"] = _mirrored(even.mean((2, 4)), (rows, columns))
    sets["larger"] = _mirrored(x[: -(-len(x) // 4)], (2 * rows, 3 * columns // 2))
    top, left = (size - size // 2 for size in (rows, columns))
    sets["smaller"] = x[:, top // 2 : top // 2 + rows // 2, left // 2 : left // 2 + columns // 2]
    return {name: np.ascontiguousarray(each) for name, each in sets.items()}


def shift(
    surrogate: Differentiable,
    metric: Metric,
    fields: NDArray[Any],
    *,
    count: int = 64,
    seed: int = 0,
    batch_size: int = 64,
    values: Values | None = None,
    progress: bool = False,
) -> dict[str, ShiftFigures]:
    """Measure a surrogate's fidelity on fields unlike the given ones, and at other thresholds.

    Args:
        surrogate: maps fields (N, H, W) to curves (N, C, Q). If it is `threshold_free`, it is measured at
            thresholds between its own, too.
        metric: the exact metric.
        fields: see `shifted`.
        count: see `shifted`.
        seed: see `shifted`.
        batch_size: fields that the surrogate sees at a time.
        values: see `shifted`.
        progress: show a bar if it takes longer than a few seconds.

    Returns:
        JSON-able, for "unshifted" and each name of `shifted`, and "thresholds" where it can be
        asked: "fields", "field_shape", and for each of "outputs" "r2_mean", "r2_worst" and
        "distance" (see `fidelity`). Fields that the surrogate refuses, such as too small ones,
        have "refused", its message, in place of "outputs".

    Raises:
        ArgumentError: an argument out of range.
    """
    values = values or Values.of(as_fields("fields", fields))
    sets = {
        "unshifted": _picked(fields, count, seed),
        **shifted(fields, count=count, seed=seed, values=values),
    }

    def measured(asked: Differentiable, teacher: Metric, x: NDArray[Any]) -> ShiftFigures:
        shape = (x.shape[1], x.shape[2])
        try:
            emulated = emulate(asked, x, batch_size=batch_size, progress=progress)
        except ArgumentError as error:
            return {"fields": len(x), "field_shape": list(shape), "refused": str(error)}
        outputs = _fits(fidelity(teacher, teacher(x), emulated, shape))
        return {"fields": len(x), "field_shape": list(shape), "outputs": outputs}

    figures = {name: measured(surrogate, metric, x) for name, x in sets.items()}
    other = _between_thresholds(surrogate, values)
    if other is not None:
        figures["thresholds"] = measured(other, other.metric, sets["unshifted"])
    return figures


def _fits(found: FidelityFigures) -> dict[str, ShiftFit]:
    """The part of a fidelity's figures that is told of shifted data."""
    return {
        name: {"r2_mean": fit["r2_mean"], "r2_worst": fit["r2_worst"], "distance": fit["distance"]}
        for name, fit in found["outputs"].items()
    }


def _between_thresholds(surrogate: Differentiable, values: Values) -> Differentiable | None:
    """The surrogate at thresholds between its own; None where it cannot be asked there."""
    if not surrogate.threshold_free:
        return None
    metric = surrogate.metric
    try:
        other = metric.with_arguments(thresholds=_between(metric.thresholds, values.scale), levels=None)
    except ArgumentError:  # a kind of metric whose thresholds are no argument
        return None
    return surrogate.at(other)


def _picked(fields: NDArray[Any], count: int, seed: int) -> NDArray[Any]:
    """Some of the fields, in their order."""
    x = as_fields("fields", fields)
    return x[np.sort(np.random.default_rng(seed).choice(len(x), min(count, len(x)), replace=False))]


def _between(thresholds: Sequence[float], scale: float) -> list[float]:
    """One threshold between each two; a single one is moved by that share of the data's scale."""
    if len(thresholds) == 1:
        return [thresholds[0] + _BETWEEN * scale]
    return [low + _BETWEEN * (high - low) for low, high in itertools.pairwise(thresholds)]


def _rain(x: NDArray[Any], values: Values, seed: int) -> dict[str, NDArray[Any]]:
    """As many fields of synthetic rain of each regime, of the same shape and of similar intensity."""
    shape = (x.shape[1], x.shape[2])

    def drawn(regime: str) -> NDArray[np.float32]:
        source = Rain(len(x), shape, seed=seed, regimes=regime)
        return np.concatenate([source.read(k, "test") for k in range(len(source))])

    factor = values.scale / typical_distance(drawn("mixed"), 0.0)
    dtype = x.dtype.type
    return {regime: dtype(values.centre) + dtype(factor) * drawn(regime).astype(dtype) for regime in _REGIMES}


def _noise(x: NDArray[Any], values: Values, seed: int) -> dict[str, NDArray[Any]]:
    """As many Gaussian fields of each texture, of the same shape, median and spread."""
    shape, spread = (x.shape[1], x.shape[2]), values.scale / _GAUSSIAN_SCALE
    return {
        name: (values.centre + spread * waves(len(x), shape, exponent, seed)).astype(x.dtype)
        for name, exponent in _TEXTURES.items()
    }


def _mirrored(x: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """Fields continued to a larger shape by mirroring at their far edges."""
    return np.pad(
        x, ((0, 0), *((0, new - old) for old, new in zip(x.shape[1:], shape, strict=True))), "symmetric"
    )
