"""Progress bars of what may take long."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")

_DELAY = 3.0
"""Seconds before a bar shows."""
_RARELY = 30.0
"""Seconds between two lines where nobody sees a bar move."""

if TYPE_CHECKING:

    class _Tqdm(tqdm[Any]):
        leave: bool

else:
    _Tqdm = tqdm


class Bar(_Tqdm):
    """A bar of tqdm's, whose arguments it takes; in the log of a job a line now and then.

    Where standard error is neither a terminal nor a notebook, a bar that is drawn anew ten times a second
    fills the file that it ends in.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        seen = getattr(options.get("file") or sys.stderr, "isatty", bool)()
        self._moves = seen or "ipykernel" in sys.modules
        self._told = time.monotonic()
        super().__init__(*arguments, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Draw it, or write a line if the last one is long ago."""
        if self._moves:
            return bool(super().display(msg, pos))
        if msg is None and time.monotonic() - self._told >= _RARELY:
            self._tell()
        return False  # there is nothing to wipe out

    def close(self) -> None:
        """End it; what stays on a terminal is a line of a log, too."""
        if not (getattr(self, "disable", True) or self._moves):
            if self.leave and self.last_print_t >= self.start_t + self.delay:
                self._tell()
            self.leave = False
        super().close()

    def _tell(self) -> None:
        self._told = time.monotonic()
        self.fp.write(f"{self}\n")
        self.fp.flush()


def counted(items: Iterable[T], title: str, unit: str, shown: bool | None) -> Iterator[T]:
    """Items, one after the other, with a bar on standard error if they take longer than a few seconds.

    Args:
        items: The items.
        title: What the bar is called.
        unit: What an item is called.
        shown: Whether to show the bar; None for where standard error is a terminal.
    """
    disabled = None if shown is None else not shown
    yield from Bar(items, title, unit=unit, delay=_DELAY, disable=disabled, leave=False)
