"""Validation of arguments: one check and one message for each kind."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from ..errors import ArgumentError


def filled(values: Any) -> np.ndarray:
    """Anything that NumPy takes for an array, with NaN where a mask says that nothing was measured.

    Args:
        values: an array, a masked one, a list of either, or what offers itself as one (xarray, netCDF4, dask).

    Returns:
        An array of the same shape; of its own dtype, but float64 where whole numbers are masked.
    """
    if isinstance(values, list | tuple):  # NumPy drops the masks of what it stacks
        values = [filled(each) if isinstance(each, _HOLDERS) else each for each in values]
    lazy = getattr(values, "compute", None)  # dask, which drops masks where it is asked for an array
    array = np.asanyarray(lazy() if callable(lazy) else values)
    if not isinstance(array, np.ma.MaskedArray):
        return np.asarray(array)
    if array.dtype.kind in "iub" and np.ma.is_masked(array):
        array = array.astype(np.float64)
    return np.asarray(array.filled(np.nan) if array.dtype.kind in "fc" else array.data)


_HOLDERS = (list, tuple, np.ma.MaskedArray)
"""What may hold a mask that NumPy would drop."""


def as_outputs(outputs: Any, known: Sequence[str]) -> tuple[str, ...]:
    """Validate a choice of outputs; None chooses all that are known.

    Raises:
        ArgumentError: no sequence of distinct known names.
    """
    if outputs is None:
        return tuple(known)
    if (
        not isinstance(outputs, Sequence)
        or isinstance(outputs, str)
        or not outputs
        or len(set(outputs)) != len(outputs)
        or set(outputs) - set(known)
    ):
        raise ArgumentError(f"outputs must be distinct names out of {', '.join(known)}, got {outputs!r}")
    return tuple(outputs)


def as_levels(levels: Any, thresholds: Sequence[float]) -> tuple[float, ...]:
    """Validate one coordinate for each threshold; None spaces them evenly within (0, 1).

    Raises:
        ArgumentError: not strictly increasing, or not one for each threshold.
    """
    count = len(thresholds)
    if levels is None:
        return tuple((q + 0.5) / count for q in range(count))
    numbers = as_increasing("levels", levels)
    if len(numbers) != count:
        raise ArgumentError(f"levels must match the {count} thresholds one by one, got {len(numbers)}")
    return numbers


def as_positive(name: str, value: Any) -> float:
    """Validate a finite number above 0.

    Raises:
        ArgumentError: it is not one.
    """
    if isinstance(value, bool) or not (isinstance(value, Real) and 0 < float(value) < math.inf):
        raise ArgumentError(f"{name} must be a positive number, got {value!r}")
    return float(value)


def as_count(name: str, value: Any) -> int:
    """Validate a whole number of at least 1.

    Raises:
        ArgumentError: it is not one.
    """
    if isinstance(value, bool) or not (isinstance(value, Integral) and int(value) >= 1):
        raise ArgumentError(f"{name} must be a whole number of at least 1, got {value!r}")
    return int(value)


def as_counts(name: str, values: Any) -> tuple[int, ...]:
    """Validate strictly increasing whole numbers of at least 1.

    Raises:
        ArgumentError: they are not.
    """
    try:
        given = tuple(values)
    except TypeError:
        raise ArgumentError(f"{name} must be a sequence of whole numbers, got {values!r}") from None
    numbers = tuple(as_count(f"each of {name}", value) for value in given)
    as_increasing(name, numbers)
    return numbers


def as_connectivity(value: Any) -> int:
    """Validate how pixels connect.

    Raises:
        ArgumentError: neither 1 nor 2.
    """
    if value not in (1, 2):
        raise ArgumentError(f"connectivity must be 1 (4-connected set) or 2 (8-connected set), got {value!r}")
    return int(value)


def as_name(name: str, value: Any, example: str) -> str:
    """Validate the name of a unit.

    Raises:
        ArgumentError: not a string.
    """
    if not isinstance(value, str):
        raise ArgumentError(f"{name} must be a string such as {example!r}, got {value!r}")
    return value


def as_increasing(name: str, values: Iterable[float]) -> tuple[float, ...]:
    """Validate a sequence of finite, strictly increasing numbers.

    Raises:
        ArgumentError: empty, not numbers, not finite or not strictly increasing.
    """
    try:
        numbers = tuple(float(v) for v in values)
    except (TypeError, ValueError):
        raise ArgumentError(f"{name} must be a sequence of numbers, got {values!r}") from None
    if not numbers:
        raise ArgumentError(f"{name} must hold at least one number, got none")
    if not all(math.isfinite(v) for v in numbers):
        raise ArgumentError(f"{name} must be finite, got {list(numbers)}")
    for low, high in itertools.pairwise(numbers):
        if high <= low:
            raise ArgumentError(f"{name} must be strictly increasing, got {low:g} before {high:g}; sort them")
    return numbers


def as_natural(name: str, value: Any) -> int:
    """Validate a whole number of at least 0.

    Raises:
        ArgumentError: it is not one.
    """
    if isinstance(value, bool) or not (isinstance(value, Integral) and int(value) >= 0):
        raise ArgumentError(f"{name} must be a whole number, 0 or more, got {value!r}")
    return int(value)


def as_share(name: str, value: Any) -> float:
    """Validate a number between 0 and 1.

    Raises:
        ArgumentError: it is not one.
    """
    if isinstance(value, bool) or not (isinstance(value, Real) and 0 <= float(value) <= 1):
        raise ArgumentError(f"{name} must be a share in [0, 1], got {value!r}")
    return float(value)


def as_choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """Validate one of some names.

    Raises:
        ArgumentError: it is none of them.
    """
    known = tuple(choices)
    if value not in known:
        raise ArgumentError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    return str(value)


def as_shape(name: str, value: Any) -> tuple[int, int]:
    """Validate a size that is one number (a square) or a pair (height, width).

    Raises:
        ArgumentError: it is neither.
    """
    if isinstance(value, tuple | list) and len(value) == 2:
        return as_count(name, value[0]), as_count(name, value[1])
    if not isinstance(value, Integral):
        raise ArgumentError(f"{name} must be a whole number or a pair (height, width), got {value!r}")
    side = as_count(name, value)
    return side, side
