"""What the numbers of an ODIM file mean as rates, in one compiled pass over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...foundation.compiled import compiled

Mark = tuple[float, float]
"""A number that stands for no value, and the rate that it stands for."""


def as_numbers(raw: NDArray[Any]) -> NDArray[Any]:
    """Numbers of any real type as those that are compared here: float32 or float64, contiguous."""
    kind = np.float32 if raw.dtype.kind == "f" and raw.dtype.itemsize <= 4 else np.float64
    return raw.astype(kind, order="C", copy=False)


def rates_of(
    raw: NDArray[Any],
    values: NDArray[Any],
    marks: Sequence[Mark],
    *,
    gain: float,
    offset: float,
    hours: float,
    quantum: float | None,
    bounds: tuple[float, float],
) -> NDArray[np.float32]:
    """Rates of numbers: scaled, divided, rounded and bounded, but for those of a meaning of their own.

    Args:
        raw: (rows, columns), as they are in the file.
        values: of that shape; what is scaled, such as raw.
        marks: numbers of a meaning of their own; of several that are the same, the last counts.
        gain: value of one, less that of 0.
        offset: value of the number 0.
        hours: what values are divided by.
        quantum: step that rates are rounded to; None leaves them alone.
        bounds: rates below the first are 0, and those above the second are set to it.

    Returns:
        (rows, columns), the nearest float32 to what double precision gives.
    """
    numbers = as_numbers(raw)
    kind = numbers.dtype.type
    known = [mark for mark in marks if _may_be(mark[0], raw.dtype)]
    # Floating-point marks may have been written with other rounding.
    slack = 1e-6 if raw.dtype.kind == "f" else 0.0
    table = np.empty((3, len(known)), kind)
    for k, (number, meaning) in enumerate(known):
        own = raw.dtype.type(number) if raw.dtype.kind == "f" else number
        table[:, k] = own, slack * abs(number) if np.isfinite(number) else 0.0, meaning
    # A little slack: rounding leaves the lower bound itself within a few ulp of its decimal value.
    low = bounds[0] - (0.0 if quantum is None else quantum * 1e-6)
    rates = np.empty(raw.shape, np.float32)
    _write(numbers, as_numbers(values), table, gain, offset, hours, quantum or 0.0, low, bounds[1], rates)
    return rates


def _may_be(number: float, kind: np.dtype[Any]) -> bool:
    """Whether there may be such a number among those of a type."""
    return kind.kind != "f" or not np.isfinite(number) or abs(number) <= float(np.finfo(kind).max)


@compiled(error_model="numpy")
def _write(numbers, values, marks, gain, offset, hours, quantum, low, high, rates):
    """Row by row, each in loops that are vectorised."""
    for i in range(len(rates)):
        number, value, rate = numbers[i], values[i], rates[i]
        for j in range(len(rate)):
            x = (value[j] * gain + offset) / hours
            if quantum > 0:
                x = np.rint(x / quantum) * quantum
            x = 0.0 if x < low else x
            rate[j] = high if x > high else x
        for k in range(marks.shape[1]):
            mark, slack, meaning = marks[0, k], marks[1, k], marks[2, k]
            for j in range(len(rate)):
                n = number[j]
                same = (n == mark) | (abs(n - mark) <= slack) | ((n != n) & (mark != mark))
                rate[j] = meaning if same else rate[j]
