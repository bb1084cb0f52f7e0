"""What a caller gives a metric, as the arrays that it computes with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..foundation.arguments import as_array


def as_fields(values: Any, name: str = "fields") -> np.ndarray:
    """Validate a batch of fields, and drop the channel axis.

    Args:
        values: (N, H, W) or (N, 1, H, W), anything that NumPy takes for an array of real numbers.
        name: what messages call it.

    Returns:
        (N, H, W), of its own dtype; NaN where a mask says that nothing was measured.

    Raises:
        ArgumentError: no array, no real numbers, or another shape.
    """
    array = as_array(name, values)
    if array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 3 or 0 in array.shape[1:]:
        remedy = {2: "; pass one field as field[None]", 4: "; pass one channel as fields[:, k]"}
        raise ArgumentError(
            f"{name} must have shape (N, H, W) or (N, 1, H, W) with H, W >= 1, got {array.shape}"
            f"{remedy.get(array.ndim, '')}"
        )
    return array


def as_arrays(title: str, arity: int, given: Sequence[Any]) -> list[np.ndarray]:
    """Validate what a metric is called with: a batch of fields, or predictions and observations.

    Args:
        title: what messages call the metric.
        arity: how many batches it takes.
        given: those that it is given; see `as_fields`.

    Returns:
        As many arrays (N, H, W) of one shape.

    Raises:
        ArgumentError: another number of arrays, or what is no such array.
    """
    if len(given) != arity:
        wanted, remedy = (
            ("one array of fields", "call it for one batch at a time")
            if arity == 1
            else ("predictions and observations", "pass two arrays, such as pairs[:, 0], pairs[:, 1]")
        )
        raise ArgumentError(f"metric {title!r} takes {wanted}, got {len(given)} arrays; {remedy}")
    names = ("fields",) if arity == 1 else ("predictions", "observations")
    arrays = [as_fields(each, name) for each, name in zip(given, names, strict=True)]
    if arrays[0].shape != arrays[-1].shape:
        raise ArgumentError(
            f"predictions and observations must have one shape, got {arrays[0].shape} and {arrays[-1].shape}"
        )
    return arrays
