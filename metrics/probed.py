"""What the result of a user's function implies: it is called on a few fields, and looked at."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError, FieldError, one_line
from .found import PASSED, Found, parameters_of

_PROBED = 4
"""Fields that a function is called on to find the shape of its result."""


def implied(found: Found, given: dict[str, Any], fields: np.ndarray) -> dict[str, Any]:
    """Arguments with the outputs and levels that the shape of a result implies, where they are missing."""
    outputs, levels = given.get("outputs"), given.get("levels", given.get("thresholds"))
    arrays = first_of(fields, given.get("arity", 1))
    if not given["batched"]:
        arrays = [each[0] for each in arrays]
    passed = {
        "thresholds": tuple(given.get("thresholds") or ()),
        "pixel_size": given.get("pixel_size", 1.0),
    }
    try:
        result = found.function(
            *(np.array(each) for each in arrays),
            **{name: passed[name] for name in parameters_of(found.function, PASSED)},
        )
    except Exception as error:
        raise FieldError(0, f"{found.source} raised {one_line(error)}") from error
    if given["batched"] and np.ndim(result):
        result = result[0]
    shape = as_numbers(result, found.source, 0).shape
    if len(shape) > 2:
        raise FieldError(0, f"{found.source} gave shape {shape}; give a number, (C,) or (C, Q)")
    if len(shape) == 1:
        # Along the only output where its axis, or the only name, says so; one an output otherwise.
        one = (outputs is not None and len(outputs) == 1) or (
            outputs is None and levels is not None and len(levels) == shape[0] > 1
        )
        shape = (1, *shape) if one else (*shape, 1)
    count, points = shape or (1, 1)
    name = name_in(found.source)
    found_out: dict[str, Any] = {
        "outputs": (name,) if count == 1 else tuple(f"{name}_{c + 1}" for c in range(count))
    }
    if not given.get("thresholds"):
        found_out["levels"] = tuple((q + 0.5) / points for q in range(points))
    return found_out | given


def first_of(fields: np.ndarray, arity: int) -> list[np.ndarray]:
    """The first fields, or pairs of each with the next."""
    fields = fields[None] if fields.ndim == 2 else fields
    if fields.ndim != 3 or not len(fields):
        raise ArgumentError(f"fields must have shape (N, H, W) with N >= 1, got {fields.shape}")
    first = fields[:_PROBED]
    return [first] if arity == 1 else [np.roll(first, 1, axis=0), first]


def name_in(source: str) -> str:
    """The name of a function in its place."""
    return source.rpartition(":")[2].rpartition(".")[2]


def as_numbers(result: Any, source: str, index: int) -> np.ndarray:
    """A function's result as finite numbers, in double precision."""
    try:
        values = np.asarray(result)
    except ValueError:
        values = np.array(None)
    if values.dtype.kind not in "fiub":
        raise FieldError(index, f"{source} gave {type(result).__name__} that holds no real numbers")
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        found = values[~np.isfinite(values)][0]
        raise FieldError(
            index, f"{source} gave {found:g}; give a finite number for every field, dry ones too"
        )
    return values
