"""What a user declares of a function: names, units, bounds and directions, validated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ArgumentError
from ..foundation.arguments import as_name, as_real, shown
from .constraints import AtLeast, AtMost, Constraint, NonDecreasing, NonIncreasing

Bounds = tuple[tuple[str, float | None, float | None], ...]
"""(output, low, high) of some outputs, either bound None."""
Directions = tuple[tuple[str, str], ...]
"""(output, "non-increasing" or "non-decreasing") of some outputs."""

_DIRECTIONS: dict[str, type[NonIncreasing | NonDecreasing]] = {
    "non-increasing": NonIncreasing,
    "non-decreasing": NonDecreasing,
}


def as_names(name: str, values: Any) -> tuple[str, ...]:
    """Validate distinct names."""
    names = () if isinstance(values, str) or not isinstance(values, Sequence) else tuple(values)
    if (
        not names
        or not all(isinstance(each, str) and each for each in names)
        or len(set(names)) != len(names)
    ):
        raise ArgumentError(f"{name} must be distinct names, got {shown(values)}")
    return names


def as_units(units: Any, count: int) -> tuple[str, ...]:
    """Validate one unit for each output."""
    given = () if isinstance(units, str) or not isinstance(units, Sequence) else tuple(units)
    if len(given) != count:
        raise ArgumentError(f"units must match the {count} outputs one by one, got {shown(units)}")
    return tuple(as_name("each of units", unit, "km") for unit in given)


def as_finite(name: str, value: Any) -> float | None:
    """Validate a finite number, or None."""
    if value is None:
        return None
    number = as_real(value)
    if not math.isfinite(number):
        raise ArgumentError(f"{name} must be a finite number or None, got {shown(value)}")
    return number


def as_bounds(bounds: Any, outputs: tuple[str, ...]) -> Bounds:
    """Validate bounds: a mapping, or triples."""
    wrong = ArgumentError(
        f"bounds must be {{output: (low, high)}}, low < high, either of them None, for outputs out of "
        f"{', '.join(outputs)}; got {shown(bounds)}"
    )
    try:
        rows = [(o, *pair) for o, pair in bounds.items()] if isinstance(bounds, Mapping) else list(bounds)
        triples = [(o, as_finite("each bound", low), as_finite("each bound", high)) for o, low, high in rows]
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, ArgumentError) else wrong from None
    names = [output for output, _, _ in triples]
    if len(set(names)) != len(names) or set(names) - set(outputs):
        raise wrong
    if any(low is not None and high is not None and low >= high for _, low, high in triples):
        raise wrong
    return tuple(triples)


def as_directions(monotone: Any, outputs: tuple[str, ...]) -> Directions:
    """Validate directions: a mapping, or pairs."""
    wrong = ArgumentError(
        f"monotone must be {{output: 'non-increasing' or 'non-decreasing'}} for outputs out of "
        f"{', '.join(outputs)}; got {shown(monotone)}"
    )
    try:
        rows = monotone.items() if isinstance(monotone, Mapping) else monotone
        pairs = [(output, direction) for output, direction in rows]
    except (TypeError, ValueError):
        raise wrong from None
    names = [output for output, _ in pairs]
    if len(set(names)) != len(names) or set(names) - set(outputs):
        raise wrong
    if any(direction not in _DIRECTIONS for _, direction in pairs):
        raise wrong
    return tuple(pairs)


def constraints_of(directions: Directions, bounds: Bounds) -> tuple[Constraint, ...]:
    """The constraints that are declared."""
    declared: list[Constraint] = [_DIRECTIONS[direction](output) for output, direction in directions]
    for output, low, high in bounds:
        if low is not None:
            declared.append(AtLeast(output, f"{output} >= {low:g}", lambda low=low: low))
        if high is not None:
            declared.append(AtMost(output, f"{output} <= {high:g}", lambda high=high: high))
    return tuple(declared)
