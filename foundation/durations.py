"""Durations, such as "3h" or "90min"."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import numpy as np

from ..errors import ArgumentError
from .arguments import shown

_MICROSECONDS = {
    10**6: ("s", "sec", "second", "seconds"),
    60 * 10**6: ("min", "minute", "minutes"),
    3600 * 10**6: ("h", "hour", "hours"),
    86400 * 10**6: ("d", "day", "days"),
}
_UNITS = {name: number for number, names in _MICROSECONDS.items() for name in names}
"""Microseconds of each unit; "m" is none, for it may be minutes or months."""

_TEXT = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]+)\s*", re.IGNORECASE)
_LONGEST = 2**62
"""Microseconds, so that differences of times keep within 64 bits."""


def as_duration(name: str, value: Any) -> np.timedelta64:
    """Validate a duration of at least 0.

    Args:
        name: What messages call it.
        value: Text such as "3h", "90min", "1.5 days" or "1h30min"; or a timedelta of Python or NumPy.

    Returns:
        The duration, in microseconds.

    Raises:
        ArgumentError: It is none, or negative, or has no unit.
    """
    try:
        count = _microseconds(value)
        if 0 <= count < _LONGEST:
            return np.timedelta64(count, "us")
    except (ValueError, OverflowError):
        pass
    raise ArgumentError(
        f"{name} must be a duration, 0 or more, such as 3h, 90min, 45s or 2d, got {shown(value)}"
    )


def _microseconds(value: Any) -> int:
    """Microseconds of a duration.

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, timedelta):
        return value // timedelta(microseconds=1)
    if isinstance(value, np.timedelta64):
        # Without a unit, NumPy takes a number for one of whatever it is compared with; a month has no length.
        if np.isnat(value) or np.datetime_data(value)[0] in ("generic", "Y", "M"):
            raise ValueError
        return round(value / np.timedelta64(1, "us"))
    if not isinstance(value, str):
        raise ValueError
    return _of_text(value)


def _of_text(text: str) -> int:
    """Microseconds of a text.

    Raises:
        ValueError: It is no sequence of numbers, each with a unit.
    """
    parts = list(_TEXT.finditer(text))
    if not parts or "".join(part[0] for part in parts) != text:
        raise ValueError
    if any(part[2].lower() not in _UNITS for part in parts):
        raise ValueError
    return round(sum(float(part[1]) * _UNITS[part[2].lower()] for part in parts))
