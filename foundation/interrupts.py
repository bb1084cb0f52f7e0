"""Ctrl-C at a moment that suits."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def interrupts_deferred() -> Iterator[Callable[[], bool]]:
    """Hold back the first Ctrl-C, for the caller to act on when it suits; a second one strikes at once.

    Yields a function that says whether one is held back. Signals reach the main thread alone, and
    where they are ignored (jobs in the background) they stay so.
    """
    held = threading.Event()
    before = signal.getsignal(signal.SIGINT)

    def hold(number: int, frame: Any) -> None:
        held.set()
        signal.signal(signal.SIGINT, before)

    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield held.is_set
        return
    signal.signal(signal.SIGINT, hold)
    try:
        yield held.is_set
    finally:
        signal.signal(signal.SIGINT, before)
