"""Progress: a bar for a loop, or one bar for all the parts of a work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from ..foundation import bars

T = TypeVar("T")

Progress = bool | Callable[[float], object]
"""Whether to show a bar if it takes longer than a few seconds; or what is told the share that is done."""


def counted(items: Sequence[T], title: str, unit: str, progress: Progress) -> Iterator[T]:
    """Items, one after the other, and how many of them are done."""
    if isinstance(progress, bool):
        yield from bars.counted(items, title, unit, progress)
        return
    for k, item in enumerate(items, 1):
        yield item
        progress(k / len(items))


class Parts:
    """One bar for several parts, each of which counts for the time that it is expected to take.

    Args:
        seconds: expected of each part, by name.
        progress: whether to show it.
    """

    def __init__(self, seconds: Mapping[str, float], progress: bool) -> None:
        self._seconds, self._total = dict(seconds), sum(seconds.values()) or 1.0
        self._done = 0.0
        self._bar = bars.Bar(
            total=100,
            disable=not progress,
            desc="evaluating",
            bar_format="{l_bar}{bar}| {elapsed}{postfix}",
            leave=False,
        )

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    @contextmanager
    def part(self, name: str) -> Iterator[Callable[[float], None]]:
        """A part of the work; gives what is to be told the share of it that is done."""
        whole = self._seconds.get(name, 0.0)
        self._bar.set_postfix_str(name)

        def tell(share: float) -> None:
            done = 100 * (self._done + whole * share) / self._total
            self._bar.update(max(0.0, min(done, 100.0) - self._bar.n))

        yield tell
        tell(1.0)
        self._done += whole
