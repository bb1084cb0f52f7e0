"""What the result of a user's function implies: it is called on a few fields, and looked at."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError, FieldError
from ..foundation.arguments import as_array, as_increasing, filled
from .declared import as_names
from .fields import as_fields
from .found import PASSED, Found, failure, parameters_of
from .metric import Metric

_PROBED = 4
"""Fields that a function is called on to find the shape of its result."""


def implied(
    found: Found, metric: Metric, batched: bool, given: dict[str, Any], fields: Any
) -> dict[str, Any]:
    """Arguments with the outputs and levels that the shape of a result implies, where they are missing.

    Args:
        found: the function.
        metric: a metric of it that has the arguments which decide how it is called.
        batched: whether the function takes batches.
        given: the arguments.
        fields: what it is called on, see `first_of`.
    """
    outputs = as_names("outputs", given["outputs"]) if "outputs" in given else None
    levels = as_increasing("levels", given["levels"]) if "levels" in given else metric.thresholds
    arrays = first_of(fields, metric.arity)
    if not batched:
        arrays = [each[0] for each in arrays]
    try:
        result = found.function(
            *(np.array(each) for each in arrays),
            **{name: getattr(metric, name) for name in parameters_of(found.function, PASSED)},
        )
    except Exception as error:
        raise FieldError(0, failure(found, metric.arity, error)) from error
    shape = as_numbers(result, found.source, 0).shape
    shape = shape[1:] if batched else shape
    if len(shape) > 2:
        raise FieldError(0, f"{found.source} gave shape {shape}; give a number, (C,) or (C, Q)")
    if len(shape) == 1:
        # Along the only output where its axis, or the only name, says so; one an output otherwise.
        one = (outputs is not None and len(outputs) == 1) or (outputs is None and len(levels) == shape[0] > 1)
        shape = (1, *shape) if one else (*shape, 1)
    count, points = shape or (1, 1)
    name = name_in(found.source)
    found_out: dict[str, Any] = {
        "outputs": (name,) if count == 1 else tuple(f"{name}_{c + 1}" for c in range(count))
    }
    if not metric.thresholds:
        found_out["levels"] = tuple((q + 0.5) / points for q in range(points))
    return found_out | given


def first_of(fields: Any, arity: int) -> list[np.ndarray]:
    """The first of some fields, a field (H, W) being one; of arity 2 pairs of each with the next."""
    given = as_array("fields", fields)
    first = as_fields(given[None] if given.ndim == 2 else given)[:_PROBED]
    if not len(first):
        raise ArgumentError(f"fields must have shape (N, H, W) with N >= 1, got {given.shape}")
    return [first] if arity == 1 else [np.roll(first, 1, axis=0), first]


def name_in(source: str) -> str:
    """The name of a function in its place."""
    return source.rpartition(":")[2].rpartition(".")[2]


def as_numbers(result: Any, source: str, index: int) -> np.ndarray:
    """A function's result as finite numbers, in double precision."""
    try:
        values = filled(result)
    except Exception:  # what offers itself as an array, such as a tensor with gradient, may raise anything
        values = np.array(None)
    if values.dtype.kind not in "fiub":
        raise FieldError(
            index,
            f"{source} gave {type(result).__name__} that holds no real numbers; "
            "return a number, or a list of them, which outputs=[...] names",
        )
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        found = values[~np.isfinite(values)][0]
        raise FieldError(
            index, f"{source} gave {found:g}; give a finite number for every field, dry ones too"
        )
    return values
