"""Ctrl-C, and what batch systems send, at a moment that suits."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

_TERMINATIONS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""What ends a process from outside: a batch system whose time is up, a terminal that is closed."""


class Terminated(SystemExit):
    """A signal that ends the process, as an exception: where nobody catches it, with exit code 128 + number.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number, self.code = number, 128 + number

    def __reduce__(self) -> tuple[type[Terminated], tuple[int]]:
        return Terminated, (self.number,)  # where Dask is loaded, exceptions without this lose their code


ENDED = (KeyboardInterrupt, Terminated)
"""What is raised where the work is to end: `except ENDED`."""


def ended_by(number: int) -> BaseException:
    """What a signal raises."""
    return KeyboardInterrupt() if number == signal.SIGINT else Terminated(number)


@contextlib.contextmanager
def terminations_raised() -> Iterator[None]:
    """Let what batch systems send raise `Terminated` in the block, as Ctrl-C raises KeyboardInterrupt.

    Signals that are ignored, or handled by the caller, stay so; all reach the main thread alone.
    """
    with _handled(_TERMINATIONS, _terminate):
        yield


@contextlib.contextmanager
def interrupts_deferred() -> Iterator[Callable[[], int]]:
    """Hold back Ctrl-C and what batch systems send, for the caller to act on when it suits.

    A second Ctrl-C strikes at once; batch systems send twice what they mean once. Signals reach the main
    thread alone; those that are ignored (as jobs in the background ignore Ctrl-C) stay so, and those that
    batch systems send are left to the caller's own handlers.

    Yields:
        A function that gives the number of the signal that is held back, 0 where there is none; the caller
        raises what `ended_by` makes of it.
    """
    hold = _Hold()
    with _handled([signal.SIGINT, *_TERMINATIONS], hold):
        yield lambda: hold.number


def interrupts_ignored() -> None:
    """Leave Ctrl-C and what batch systems send to another process, which tells this one."""
    for number in (signal.SIGINT, *_TERMINATIONS):
        signal.signal(number, signal.SIG_IGN)


def _terminate(number: int, frame: FrameType | None) -> None:
    """The handler that raises."""
    raise Terminated(number)


class _Hold:
    """The handler that holds back.

    Attributes:
        number: of the first signal that is held back, or 0.
    """

    def __init__(self) -> None:
        self.number = 0
        self._interrupt = signal.getsignal(signal.SIGINT)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Hold a signal back; Ctrl-C once."""
        self.number = self.number or number
        if number == signal.SIGINT:
            signal.signal(number, self._interrupt)


_Handler = Callable[[int, "FrameType | None"], None]


@contextlib.contextmanager
def _handled(numbers: Sequence[int], handler: _Handler) -> Iterator[None]:
    """Have a handler for signals until the end of the block, where they are not left to others."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in numbers if _is_ours(number)}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)


def _is_ours(number: int) -> bool:
    """Whether a signal may be handled here."""
    now = signal.getsignal(number)
    if number == signal.SIGINT:
        return callable(now)
    return now in (signal.SIG_DFL, _terminate) or isinstance(now, _Hold)
