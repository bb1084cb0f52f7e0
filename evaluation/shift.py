"""Fidelity away from the training data: other intensities, weather, textures, sizes and thresholds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..datasets.sources.rain import Rain
from ..emulators.differentiable import Differentiable
from ..errors import ArgumentError
from ..foundation.arguments import as_count
from ..metrics import Metric
from .emulate import emulate
from .fidelity import fidelity
from .figures import FidelityFigures, ShiftFigures, ShiftFit
from .pixels import as_fields, typical_size

_FACTORS = (0.3, 3.0)
_REGIMES = ("stratiform", "convective", "all-wet")
_BETWEEN = (3 - 5**0.5) / 2
"""How far between two neighbours the other thresholds lie. A midpoint may be a value that quantised
data take, of which it is then chance how many count as wet."""


def shifted(fields: NDArray[Any], *, count: int = 64, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Fields unlike the given ones, by name of what was changed.

    - "x 0.3", "x 3": the intensities.
    - "stratiform", "convective", "all-wet": synthetic rain (`emuloss.datasets.Rain`), brought to
      the median non-zero pixel of the given fields.
    - "coarse": block means of 2 x 2 pixels, mirrored to fill the old size: the texture of another
      pixel size.
    - "larger": twice as high and half as wide again, by mirroring; "smaller": the middle quarter.

    Args:
        fields: (N, H, W), H and W at least 2; NaN marks pixels that were not measured.
        count: fields of each kind, the same ones of the given fields for all kinds; a quarter as
            many for "larger". No more than there are.
        seed: of the choice among the given fields, and of the rain.

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
    rows, columns = x.shape[1:]
    sets = {f"x {factor:g}": np.float32(factor) * x for factor in _FACTORS}
    sets |= _rain(x, seed)
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
        progress: show a bar if it takes longer than a few seconds.

    Returns:
        JSON-able, for "unshifted" and each name of `shifted`, and "thresholds" where it can be
        asked: "fields", "field_shape", and for each of "outputs" "r2_mean", "r2_worst" and
        "distance" (see `fidelity`). Fields that the surrogate refuses, such as too small ones,
        have "refused", its message, in place of "outputs".

    Raises:
        ArgumentError: an argument out of range.
    """
    sets = {"unshifted": _picked(fields, count, seed), **shifted(fields, count=count, seed=seed)}

    def measured(asked: Differentiable, teacher: Metric, x: NDArray[np.float32]) -> ShiftFigures:
        shape = (x.shape[1], x.shape[2])
        try:
            emulated = emulate(asked, x, batch_size=batch_size, progress=progress)
        except ArgumentError as error:
            return {"fields": len(x), "field_shape": list(shape), "refused": str(error)}
        outputs = _fits(fidelity(teacher, teacher(x), emulated, shape))
        return {"fields": len(x), "field_shape": list(shape), "outputs": outputs}

    figures = {name: measured(surrogate, metric, x) for name, x in sets.items()}
    other = _between_thresholds(surrogate)
    if other is not None:
        figures["thresholds"] = measured(other, other.metric, sets["unshifted"])
    return figures


def _fits(found: FidelityFigures) -> dict[str, ShiftFit]:
    """The part of a fidelity's figures that is told of shifted data."""
    return {
        name: {"r2_mean": fit["r2_mean"], "r2_worst": fit["r2_worst"], "distance": fit["distance"]}
        for name, fit in found["outputs"].items()
    }


def _between_thresholds(surrogate: Differentiable) -> Differentiable | None:
    """The surrogate at thresholds between its own; None where it cannot be asked there."""
    if not surrogate.threshold_free:
        return None
    metric = surrogate.metric
    try:
        other = metric.with_arguments(thresholds=_between(metric.thresholds), levels=None)
    except ArgumentError:  # a kind of metric whose thresholds are no argument
        return None
    return surrogate.at(other)


def _picked(fields: NDArray[Any], count: int, seed: int) -> NDArray[np.float32]:
    """Some of the fields, in their order."""
    x = as_fields("fields", fields).numpy()
    return x[np.sort(np.random.default_rng(seed).choice(len(x), min(count, len(x)), replace=False))]


def _between(thresholds: Sequence[float]) -> list[float]:
    """One threshold between each two; a single one is moved by that share."""
    if len(thresholds) == 1:
        return [thresholds[0] * (1 + _BETWEEN)]
    return [low + _BETWEEN * (high - low) for low, high in itertools.pairwise(thresholds)]


def _rain(x: NDArray[np.float32], seed: int) -> dict[str, NDArray[np.float32]]:
    """As many fields of synthetic rain of each regime, of the same shape and of similar intensity."""
    shape = (x.shape[1], x.shape[2])

    def drawn(regime: str) -> NDArray[np.float32]:
        source = Rain(len(x), shape, seed=seed, regimes=regime)
        return np.concatenate([source.read(k, "test") for k in range(len(source))])

    factor = typical_size(torch.from_numpy(x)) / typical_size(torch.from_numpy(drawn("mixed")))
    return {regime: np.float32(factor) * drawn(regime) for regime in _REGIMES}


def _mirrored(x: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Fields continued to a larger shape by mirroring at their far edges."""
    return np.pad(
        x, ((0, 0), *((0, new - old) for old, new in zip(x.shape[1:], shape, strict=True))), "symmetric"
    )
