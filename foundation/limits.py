"""What is too large to be meant, and how a value is shown that is refused."""

from __future__ import annotations

from typing import Any

LARGEST = 1e30
"""Numbers beyond are refused wherever single precision has to hold them, and sums of them."""
LARGEST_COUNT = 2**31 - 1
"""Whole numbers beyond count nothing that there is; the square of this fits into 64 bits."""
LONGEST = 2**20
"""Entries beyond are refused: a sequence of so many numbers is a mistake, or endless."""
MOST_COUNTS = 96
"""Sizes, windows or scales beyond are refused: each is an output of its own."""
_LONGEST_SHOWN = 80


def shown(value: Any) -> str:
    """A value as messages show it: in one line of bounded length."""
    try:
        text = repr(value)
    except Exception:  # whole numbers of thousands of digits have no text
        text = object.__repr__(value)
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_SHOWN else f"{line[: _LONGEST_SHOWN - 4]} ..."
