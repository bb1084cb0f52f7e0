"""Work shared among threads of Python's own.

The kernels release the interpreter's lock; unlike numba's parallel loops, such threads allow for a
fork (data loaders), after which the child has its own, and for calls from several threads at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

_WORTH_A_THREAD = 2**17
"""Pixels below which handing work to a thread costs more than it saves."""
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Variables by which users say how threads of OpenMP, torch's on a CPU, wait for one another."""
_ALONE = ContextVar("_ALONE", default=False)


def usable_cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux: respects containers and job schedulers
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def sleep_while_waiting() -> None:
    """Have torch's threads sleep while they wait for one another; for programs that import torch later.

    By default they spin for a while, which saves microseconds where nothing else runs. Where other programs
    do, a thread that spins takes the core from the one that it waits for: work takes several times as long.
    Nothing is changed where the environment says how to wait, or where torch has already read it.
    """
    if "torch" not in sys.modules and not any(name in os.environ for name in _WAITING):
        os.environ["OMP_WAIT_POLICY"] = "passive"


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep to the calling thread, where the caller itself is one of many that share the cores."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def in_threads(work: Callable[[slice], object], number: int, pixels: int) -> None:
    """Call work on slices that together cover range(number), in as many threads as numba would use.

    Within `one_thread`, in the calling thread alone.

    Args:
        work: called with a slice of the batch; writes its result in place.
        number: fields in the batch.
        pixels: pixels in the batch.
    """
    import numba

    usual = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]  # set while numba is imported
    threads = 1 if _ALONE.get() else usual
    batches = max(1, min(number, 4 * threads, pixels // _WORTH_A_THREAD))
    if min(threads, batches) == 1:
        work(slice(0, number))
        return
    ends = [number * batch // batches for batch in range(batches + 1)]
    slices = iter(list(map(slice, ends, ends[1:])))

    def share() -> None:
        try:
            for batch in slices:
                work(batch)
        except BaseException:
            for _ in slices:  # what is left is of no use to anybody
                pass
            raise

    helpers = _helpers(os.getpid(), threads - 1)
    shares: list[Future[None]] = []
    try:
        shares += [helpers.submit(share) for _ in range(min(threads, batches) - 1)]
        share()
    finally:
        # The cores may be busy: torch's threads spin on for milliseconds after their last work. A helper
        # that has not begun is not waited for; one that has still writes.
        begun = [future for future in shares if not future.cancel()]
        wait(begun)
    for future in begun:
        future.result()


@lru_cache(maxsize=1)
def _helpers(process: int, number: int) -> ThreadPoolExecutor:
    """The threads that help this process; after a fork, the child needs its own."""
    return ThreadPoolExecutor(number, thread_name_prefix="emuloss-kernel")
