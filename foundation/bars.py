"""Progress bars of what may take long."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

_DELAY = 3.0
"""Seconds before a bar shows."""


def counted(items: Iterable[T], title: str, unit: str, shown: bool | None) -> Iterator[T]:
    """Items, one after the other, with a bar on standard error if they take longer than a few seconds.

    Args:
        items: The items.
        title: What the bar is called.
        unit: What an item is called.
        shown: Whether to show the bar; None for where standard error is a terminal.
    """
    disabled = None if shown is None else not shown
    yield from tqdm(items, title, unit=unit, delay=_DELAY, disable=disabled, leave=False)
