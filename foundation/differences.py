"""Where two JSON values differ, in a few words."""

from __future__ import annotations

import json
from typing import Any


def first_difference(found: Any, wanted: Any, name: str = "") -> str:
    """Describe the first difference between two JSON values; empty if they are equal.

    Args:
        found: what is there.
        wanted: what it is compared with, here.
        name: what messages call the values.
    """
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in [*wanted, *(key for key in found if key not in wanted)]:
            inner = first_difference(found.get(key), wanted.get(key), f"{name}.{key}" if name else key)
            if inner:
                return inner
        return ""
    if found == wanted:
        return ""
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted) > _SHOWN:
        k = next(k for k, (there, here) in enumerate(zip(found, wanted, strict=True)) if there != here)
        return f"{name} is {_short(found[k])} there and {_short(wanted[k])} here, in place {k}"
    return f"{name} is {_short(found)} there and {_short(wanted)} here"


_SHOWN = 4
"""Entries up to which lists are shown whole: of longer ones, one would not see where they differ."""


def _short(value: Any) -> str:
    """A JSON value, as far as it fits into a message."""
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
