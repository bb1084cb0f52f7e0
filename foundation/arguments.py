"""Validation of arguments: one check and one message for each kind."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArgumentError, one_line
from .limits import LARGEST, LARGEST_COUNT, LONGEST, MOST_COUNTS, shown
from .near import did_you_mean

_NO_NUMBERS = (str, bytes, bool, np.bool_, complex, np.complexfloating, np.ma.core.MaskedConstant)
_HOLDERS = (list, tuple, np.ma.MaskedArray)
"""What may hold a mask that NumPy would drop."""


def filled(values: Any) -> np.ndarray:
    """Anything that NumPy takes for an array, with NaN where a mask says that nothing was measured.

    Args:
        values: an array, a masked one, a list of either, or what offers itself as one (xarray, netCDF4,
            dask).

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


def as_array(name: str, values: Any) -> np.ndarray:
    """Validate an array of real numbers; see `filled`.

    Raises:
        ArgumentError: what is no array, such as a ragged list, or holds something else.
    """
    try:
        array = filled(values)
    except Exception as error:  # what offers itself as an array may raise anything
        remedy = "pass x.detach().cpu().float()" if hasattr(values, "detach") else "pass a NumPy array"
        raise ArgumentError(
            f"{name} must be an array of numbers, got {type(values).__name__}: {one_line(error)}; {remedy}"
        ) from error
    if array.dtype.kind not in "fiub":
        raise ArgumentError(
            f"{name} must be real numbers, got dtype {array.dtype}; convert them, such as by .astype(float)"
        )
    return array


def known_names(name: str, known: Iterable[str]) -> str:
    """The remedy for a name that is not known: those that are, and the nearest of them."""
    names = tuple(known)
    return f"{', '.join(names)}{did_you_mean(name, names)}"


def as_real(value: Any) -> float:
    """A real number in double precision; NaN where it is none: text, true and false, complex or too large."""
    try:
        return math.nan if isinstance(value, _NO_NUMBERS) or np.ndim(value) else float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return math.nan


def as_outputs(outputs: Any, known: Sequence[str]) -> tuple[str, ...]:
    """Validate a choice of outputs; None chooses all that are known.

    Raises:
        ArgumentError: no sequence of distinct known names.
    """
    if outputs is None:
        return tuple(known)
    names = outputs if isinstance(outputs, Sequence) and not isinstance(outputs, str) else ()
    if not names or any(name not in known for name in names) or len(set(names)) != len(names):
        remedy = f"; pass a list, [{shown(outputs)}]" if isinstance(outputs, str) else ""
        raise ArgumentError(
            f"outputs must be distinct names out of {', '.join(known)}, got {shown(outputs)}{remedy}"
        )
    return tuple(outputs)


def as_levels(levels: Any, thresholds: Sequence[float]) -> tuple[float, ...]:
    """Validate one coordinate for each threshold; None spaces them evenly within (0, 1).

    Raises:
        ArgumentError: not strictly increasing, or not one for each threshold.
    """
    count = len(thresholds)
    if levels is None:
        return tuple((q + 0.5) / count for q in range(count))
    numbers = as_increasing("levels", levels, LARGEST)
    if len(numbers) != count:
        raise ArgumentError(f"levels must match the {count} thresholds one by one, got {len(numbers)}")
    return numbers


def as_positive(name: str, value: Any, low: float = 0.0, high: float = math.inf) -> float:
    """Validate a finite number above 0, from low to high.

    Raises:
        ArgumentError: it is not one.
    """
    number = as_real(value)
    if not 0 < number < math.inf:
        raise ArgumentError(f"{name} must be a positive number, got {shown(value)}")
    if not low <= number <= high:
        raise ArgumentError(
            f"{name} must be a positive number from {low:g} to {high:g}, got {shown(value)}; "
            "take another unit"
        )
    return number


def as_pixel_size(value: Any, name: str = "pixel_size") -> float:
    """Validate the edge length of a pixel, whose square single precision has to hold.

    Raises:
        ArgumentError: no positive number, or one beyond.
    """
    return as_positive(name, value, LARGEST**-0.5, LARGEST**0.5)


def as_count(name: str, value: Any, most: int = LARGEST_COUNT) -> int:
    """Validate a whole number of at least 1, and of at most so many.

    Raises:
        ArgumentError: it is not one.
    """
    if not _is_whole(value) or value < 1:
        raise ArgumentError(f"{name} must be a whole number of at least 1, got {shown(value)}")
    if value > most:
        raise ArgumentError(f"{name} must be a whole number from 1 to {most}, got {shown(value)}")
    return int(value)


def as_counts(name: str, values: Any) -> tuple[int, ...]:
    """Validate strictly increasing whole numbers of at least 1, at most `MOST_COUNTS` of them.

    Raises:
        ArgumentError: they are not.
    """
    given = _listed(name, values, "whole numbers", MOST_COUNTS)
    numbers = tuple(as_count(f"each of {name}", value) for value in given)
    as_increasing(name, numbers)
    return numbers


def as_connectivity(value: Any) -> int:
    """Validate how pixels connect.

    Raises:
        ArgumentError: neither 1 nor 2.
    """
    if as_real(value) not in (1, 2):
        raise ArgumentError(
            f"connectivity must be 1 (4-connected set) or 2 (8-connected set), got {shown(value)}"
        )
    return int(value)


def as_flag(name: str, value: Any) -> bool:
    """Validate a choice between two.

    Raises:
        ArgumentError: neither true nor false.
    """
    if not isinstance(value, bool | np.bool_):
        raise ArgumentError(f"{name} must be True or False, got {shown(value)}")
    return bool(value)


def as_name(name: str, value: Any, example: str) -> str:
    """Validate the name of a unit.

    Raises:
        ArgumentError: not a string.
    """
    if not isinstance(value, str):
        raise ArgumentError(f"{name} must be a string such as {example!r}, got {shown(value)}")
    return value


def as_positives(name: str, values: Any) -> tuple[float, ...]:
    """Validate a sequence of finite numbers above 0.

    Raises:
        ArgumentError: it is not one.
    """
    return tuple(as_positive(f"each of {name}", value) for value in _listed(name, values, "numbers"))


def as_increasing(name: str, values: Iterable[float], largest: float = math.inf) -> tuple[float, ...]:
    """Validate a sequence of finite, strictly increasing numbers, none of them beyond the largest.

    Raises:
        ArgumentError: empty, not numbers, not finite or not strictly increasing.
    """
    given = _listed(name, values, "numbers")
    numbers = tuple(as_real(value) for value in given)
    if not numbers:
        raise ArgumentError(f"{name} must hold at least one number, got none")
    for number, value in zip(numbers, given, strict=True):
        if not math.isfinite(number):
            raise ArgumentError(f"{name} must be finite numbers, got {shown(value)} among them")
        if abs(number) > largest:
            raise ArgumentError(
                f"{name} must be numbers from {-largest:g} to {largest:g}, got {shown(value)}"
            )
    for low, high in itertools.pairwise(numbers):
        if high <= low:
            raise ArgumentError(f"{name} must be strictly increasing, got {low:g} before {high:g}; sort them")
    return numbers


def as_natural(name: str, value: Any) -> int:
    """Validate a whole number of at least 0 that fits into 63 bits.

    Raises:
        ArgumentError: it is not one.
    """
    if not _is_whole(value) or not 0 <= value < 2**63:
        raise ArgumentError(f"{name} must be a whole number, 0 or more, got {shown(value)}")
    return int(value)


def as_share(name: str, value: Any) -> float:
    """Validate a number between 0 and 1.

    Raises:
        ArgumentError: it is not one.
    """
    number = as_real(value)
    if not 0 <= number <= 1:
        raise ArgumentError(f"{name} must be a share in [0, 1], got {shown(value)}")
    return number


def as_choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """Validate one of some names.

    Raises:
        ArgumentError: it is none of them.
    """
    known = tuple(choices)
    if not isinstance(value, str) or value not in known:
        raise ArgumentError(f"{name} must be one of {', '.join(known)}, got {shown(value)}")
    return value


def as_shape(name: str, value: Any) -> tuple[int, int]:
    """Validate a size that is one number (a square) or a pair (height, width).

    Raises:
        ArgumentError: it is neither.
    """
    if isinstance(value, tuple | list) and len(value) == 2:
        return as_count(name, value[0]), as_count(name, value[1])
    if not isinstance(value, Integral):
        raise ArgumentError(f"{name} must be a whole number or a pair (height, width), got {shown(value)}")
    side = as_count(name, value)
    return side, side


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _listed(name: str, values: Any, what: str, most: int = LONGEST) -> tuple[Any, ...]:
    """The entries of a sequence, which may be endless."""
    try:
        if isinstance(values, str | bytes | Mapping):
            raise TypeError
        given = tuple(itertools.islice(values, most + 1))
    except TypeError:
        raise ArgumentError(
            f"{name} must be a sequence of {what}, such as [1, 2], got {shown(values)}"
        ) from None
    if len(given) > most:
        raise ArgumentError(f"{name} must hold at most {most} numbers, got more")
    return given


def as_path(name: str, value: Any) -> Path:
    """Validate a place on the disk; ~ is the home.

    Raises:
        ArgumentError: neither text nor a path, or one that no file can have.
    """
    if not isinstance(value, str | os.PathLike) or not str(value) or "\0" in str(value):
        raise ArgumentError(f"{name} must be a path such as 'runs/first', got {value!r}")
    return Path(os.path.expanduser(value))  # unlike that of Path, it leaves unknown users as they are
