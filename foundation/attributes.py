"""Attributes of files, which writers spell in many ways: as text, bytes or numbers, alone or in an array."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np


def text_of(value: Any) -> str:
    """Text of an attribute; empty where it is missing or none."""
    value = _alone(value)
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    return value.strip("\0 \t\r\n") if isinstance(value, str) else ""


def number_of(value: Any) -> float | None:
    """The decimal number that an attribute was meant to be; None where it is missing or none."""
    value = _alone(value)
    if isinstance(value, np.float16 | np.float32):
        return float(str(value))  # of 0.01 in single precision, 0.01
    if isinstance(value, bytes | str):
        value = text_of(value)
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def numbers_of(value: Any) -> tuple[float, ...]:
    """The numbers of an attribute that may be one or several, given as numbers or as text."""
    several = text_of(value).replace(",", " ").split() or np.atleast_1d(np.asarray(value, object)).ravel()
    return tuple(number for number in map(number_of, several) if number is not None)


def attribute(attributes: Mapping[str, Any], name: str) -> Any:
    """An attribute by its name, in upper or lower case; None where it is missing."""
    return next((value for key, value in attributes.items() if key.casefold() == name.casefold()), None)


def spelled(attributes: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Each attribute as (name without case and punctuation, name, value)."""
    for key, value in attributes.items():
        yield "".join(filter(str.isalnum, key)).casefold(), key, value


def _alone(value: Any) -> Any:
    """What an array of one holds; other values as they are."""
    return value.flat[0] if isinstance(value, np.ndarray) and value.size == 1 else value
