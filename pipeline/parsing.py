"""Values of options out of the text that a command line gives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..errors import ArgumentError
from ..foundation.arguments import as_increasing


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


def key_values(flag: str, given: Sequence[str]) -> dict[str, Any]:
    """Arguments from KEY=VALUE, VALUE as JSON or else text.

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
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found
