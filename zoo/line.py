"""A talk with the Hub in a thread of its own, bounded in time, which can be cut off."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from typing import Any, TypeVar

from .faults import explained, no_answer
from .place import Place

T = TypeVar("T")


class Line:
    """What one thread is told and hears; another may cut it, and the thread then ends in an error.

    Args:
        seconds: that it may take.
    """

    def __init__(self, seconds: float) -> None:
        self.deadline = time.monotonic() + seconds
        self._cut = False
        self._socket: Any = None

    def follow(self, event: str, facts: dict[str, Any]) -> None:
        """Keep the connection that a request takes; what the HTTP library calls at each of its steps."""
        connection = getattr(facts.get("return_value"), "get_extra_info", None)
        if connection is not None:
            self._socket = connection("socket")
            if self._cut:
                self.cut()

    def check(self) -> None:
        """Go on only while there is time.

        Raises:
            TimeoutError: the line was cut, or its time is over.
        """
        if self._cut or time.monotonic() > self.deadline:
            raise TimeoutError("it takes too long")

    def cut(self) -> None:
        """End the talk: what waits for the other side wakes up."""
        self._cut = True
        if self._socket is not None:
            with suppress(OSError):  # it is closed already
                self._socket.shutdown(socket.SHUT_RDWR)


def within(seconds: float, place: Place, function: Callable[..., T], *arguments: Any, **keywords: Any) -> T:
    """What a function of a `Line` gives within so many seconds, or an error of this package.

    The limits of the HTTP library count from byte to byte, and looking up a host has none; only another
    thread can be left waiting. It is a daemon, so that a stalled one does not keep the interpreter from
    ending, and its line is cut, so that nothing goes on behind the caller's back.

    Args:
        seconds: after which it is given up.
        place: what is asked for, for messages.
        function: (line, *arguments, **keywords) -> what is asked for.
        *arguments: of the function.
        **keywords: of the function.

    Raises:
        EmulossError: what the function's exception means, in the errors of this package.
        HubConnectionError: it takes too long.
    """
    future: Future[T] = Future()
    line = Line(max(seconds, 0.0))

    def work() -> None:
        try:
            future.set_result(function(line, *arguments, **keywords))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, name="emuloss-hub", daemon=True).start()
    try:
        return future.result(max(seconds, 0.0))
    except FutureTimeoutError:
        problem: Exception = no_answer(place, "it takes too long")
    except Exception as error:  # the client's own, the HTTP library's, the disk's, of any version
        problem = explained(error, place)
    finally:
        line.cut()
    # Out here, so that no context leads to exceptions that quote headers and addresses.
    raise problem
