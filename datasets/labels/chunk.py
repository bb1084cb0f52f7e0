"""The exact curves of one chunk, checked against what the metric declares."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError, FieldError
from ...metrics import Metric

CurvesOf = Callable[..., NDArray[np.float64]]
"""Maps fields, or predictions and observations, onto curves; it may call the metric in other processes."""

_CHECKED_PAIRS = 2
"""Pairs of a chunk on which the declared symmetry and identity are checked: that takes more labels."""


def label_chunk(
    metric: Metric,
    curves_of: CurvesOf,
    k: int,
    fields: Sequence[NDArray[np.float32]],
    source: str,
    field_shape: tuple[int, int],
) -> NDArray[np.float64]:
    """Curves of the fields of a chunk, which obey what the metric declares.

    Args:
        metric: Says what curves obey.
        curves_of: Gives the curves: the metric itself, or what calls it elsewhere.
        k: Number of the chunk, for messages.
        fields: Fields (n, H, W), or predictions and observations.
        source: Name of the source, for messages.
        field_shape: Shape (H, W) of a field.

    Returns:
        Curves (n, C, Q).

    Raises:
        DataError: If the metric fails on a field, or its curves break what it declares.
    """
    if not len(fields[0]):
        return np.empty((0, len(metric.outputs), 0))
    try:
        curves = np.asarray(curves_of(*fields), np.float64)
    except FieldError as error:
        raise DataError(f"field {error.index} of chunk {k} of source {source!r}: {error.reason}") from error
    refuse_broken(metric, curves, field_shape, f"chunk {k} of source {source!r}", curves_of, fields)
    return curves


def refuse_broken(
    metric: Metric,
    curves: NDArray[np.float64],
    field_shape: tuple[int, int],
    where: str,
    curves_of: CurvesOf,
    fields: Sequence[NDArray[np.float32]],
) -> None:
    """Refuse curves that break what the metric declares.

    Args:
        metric: Says what curves obey.
        curves: Curves (n, C, Q).
        field_shape: Shape (H, W) of a field.
        where: What messages call the place of the curves.
        curves_of: Gives the curves of pairs.
        fields: Fields (n, H, W), or predictions and observations: the first ones are enough.

    Raises:
        DataError: They do; the message says what they break, and how often.
    """
    broken = [*_broken(metric, curves, field_shape), *_broken_between_pairs(metric, curves_of, fields)]
    if broken:
        raise DataError(
            f"metric {metric.name!r} breaks its own constraints in {where}: "
            f"{', '.join(broken)}; correct the metric or the constraints that it declares."
        )


def _broken(metric: Metric, curves: NDArray[np.float64], field_shape: tuple[int, int]) -> Iterator[str]:
    """The constraints that curves break, and how often."""
    for name, share in metric.check(curves, field_shape).items():
        if share > 0:
            first = _first(name, metric, curves, field_shape)
            yield f"{name} ({share:.2%} of the labels, first in field {first})"


def _broken_between_pairs(
    metric: Metric, curves_of: CurvesOf, fields: Sequence[NDArray[np.float32]]
) -> Iterator[str]:
    """The constraints that the curves of a pairwise metric break from one pair to another."""
    if metric.arity == 2:
        predictions, observations = (each[:_CHECKED_PAIRS] for each in fields)
        for name, share in metric.check_pairs(predictions, observations, curves_of).items():
            if share > 0:
                yield f"{name} (in the first {len(predictions)} pairs)"


def _first(label: str, metric: Metric, curves: NDArray[np.float64], field_shape: tuple[int, int]) -> int:
    """Number of the first field whose curves break the constraint of a label."""
    alone = (metric.check(curves[n : n + 1], field_shape)[label] for n in range(len(curves)))
    return next(n for n, share in enumerate(alone) if share > 0)
