"""Functions that numba compiles, whose machine code stays on disk where there is a place for it.

Without one (an installation that nobody may write to, no home, a full disk) they are compiled anew in each
process: slower to start, and right.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections.abc import Callable
from typing import Any

import numba
from numba.core.caching import FunctionCache

from ..errors import one_line

_logger = logging.getLogger(__name__)
_TOLD = threading.Event()


def compiled(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Decorator: `numba.njit`, the interpreter's lock released, with a cache if there can be one.

    Args:
        function: plain Python that numba understands.
        **options: of `numba.njit`.

    Returns:
        What `numba.njit` returns, which other compiled functions may call; without a function, the decorator.
    """
    if function is None:
        return functools.partial(compiled, **options)
    dispatcher: Any = numba.njit(function, nogil=True, **options)
    try:
        # What `enable_caching` sets, but for what happens when the cache fails later.
        dispatcher._cache = _Cache(function)
    except (RuntimeError, OSError) as error:  # numba finds no folder that it may write to
        _say_that_nothing_is_kept(error)
    return dispatcher


class _Cache(FunctionCache):
    """Numba's cache, without which a function is compiled all the same."""

    def load_overload(self, *given: Any) -> Any:
        """The compiled function of a signature; None where there is none, or none that can be read."""
        try:
            return super().load_overload(*given)
        except Exception as error:  # a disk that fails, or half of a file, of which a pickle raises anything
            _say_that_nothing_is_kept(error)
            with contextlib.suppress(Exception):
                self.flush()  # so that the next process finds none, rather than half of one
            return None

    def save_overload(self, *given: Any) -> None:
        """Keep a compiled function, if that can be."""
        try:
            super().save_overload(*given)
        except Exception as error:
            _say_that_nothing_is_kept(error)


def _say_that_nothing_is_kept(error: BaseException) -> None:
    """Say so once in a process."""
    if not _TOLD.is_set():
        _TOLD.set()
        _logger.warning(
            "compiled code is not kept, so that each process compiles it anew; set NUMBA_CACHE_DIR to a "
            "folder that can be written to (%s)",
            one_line(error),
        )
