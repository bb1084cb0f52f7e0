"""Values of options out of what Python callers give, and of the text that a command line gives."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ArgumentError
from ..foundation.arguments import as_increasing
from ..metrics.found import is_spec
from ..metrics.registry import METRICS, class_of


def as_mapping(name: str, value: Any) -> dict[str, Any]:
    """Validate arguments by name; None is none of them.

    Raises:
        ArgumentError: no mapping whose keys are names.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ArgumentError(f"{name} must be a mapping of names, such as {{'size': 3}}, got {value!r}")
    return dict(value)


def numbers(flag: str, text: str) -> list[float]:
    """Numbers of an option such as "0.1,1,5".

    Raises:
        ArgumentError: not numbers, or not strictly increasing.
    """
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise ArgumentError(f"{flag} must be numbers separated by commas, got {text!r}") from None
    return list(as_increasing(flag, values))


def one_or_numbers(flag: str, text: str) -> float | list[float]:
    """A number, or several in any order, of an option such as "0.1" or "0.1,0.05".

    Raises:
        ArgumentError: not numbers.
    """
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise ArgumentError(
            f"{flag} must be a number, or numbers separated by commas, got {text!r}"
        ) from None
    return values[0] if len(values) == 1 else values


def whole_numbers(flag: str, text: str) -> list[int]:
    """Positive whole numbers of an option such as "16,32".

    Raises:
        ArgumentError: something else.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise ArgumentError(f"{flag} must be positive whole numbers separated by commas, got {text!r}")
    return [int(part) for part in parts]


def names(flag: str, text: str) -> list[str]:
    """Names of an option such as "area,holes"."""
    return [part.strip() for part in text.split(",")]


def metric_name(flag: str, text: str) -> str:
    """A metric as `emuloss.metric` knows it; a file NAME.py in the working directory is run for a new NAME.

    Raises:
        ArgumentError: a file that cannot be run, or that defines no such metric.
    """
    if is_spec(text) or text in METRICS or not Path(f"{text}.py").is_file():
        return text
    place = f"{text}.py:{text}"
    return text if class_of(place) else place


def key_values(flag: str, given: Sequence[str]) -> dict[str, Any]:
    """Arguments from KEY=VALUE, VALUE as JSON, as a Python literal (None, True), or else text.

    Raises:
        ArgumentError: no such pair, or a key that is given twice.
    """
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name.isidentifier() or not equals or name in found:
            raise ArgumentError(
                f"{flag} must be KEY=VALUE, each KEY once, such as windows=[1,5]; got {text!r}"
            )
        found[name] = _value(value)
    return found


def _value(text: str) -> Any:
    """A value as JSON, as a Python literal, or else the text itself."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text
