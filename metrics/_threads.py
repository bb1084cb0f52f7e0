"""Work shared among threads of Python's own.

The kernels release the interpreter's lock; unlike numba's parallel loops, such threads survive a
fork (data loaders) and calls from several threads at once.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

_WORTH_A_THREAD = 2**16
"""Pixels below which handing work to a thread costs more than it saves."""


def in_threads(work: Callable[[slice], object], number: int, pixels: int) -> None:
    """Call work on slices that together cover range(number), in as many threads as numba would use.

    Args:
        work: called with a slice of the batch; writes its result in place.
        number: fields in the batch.
        pixels: pixels in the batch.
    """
    import numba

    threads = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    batches = max(1, min(number, 4 * threads, pixels // _WORTH_A_THREAD))
    ends = [number * batch // batches for batch in range(batches + 1)]
    slices = list(map(slice, ends, ends[1:]))
    if min(threads, batches) == 1:
        for batch in slices:
            work(batch)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, slices))
