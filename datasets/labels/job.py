"""What an engine is given to do, and what it gives back."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...foundation.interrupts import ended_by
from ...metrics import Metric
from ..sources.source import FieldSource

PREDICTIONS = "predictions"
"""Dataset that holds the predictions of pairs, beside their observations, the fields."""

Fields = dict[str, NDArray[np.float32]]
"""Fields (n, H, W) of a chunk by the name of their dataset: "fields", and "predictions" of them in pairs."""


class Job(NamedTuple):
    """What an engine has to do.

    Attributes:
        source: Where the fields come from.
        metric: What they are labelled with.
        chunks: Numbers of the chunks to label.
        read: Gives the fields of a chunk; may be called from any thread of this process.
        workers: Threads that read, and processes that run the metric on this machine.
        interrupted: Gives the number of the signal that is to end the work as soon as that suits, or 0.
    """

    source: FieldSource
    metric: Metric
    chunks: Sequence[int]
    read: Callable[[int], Fields]
    workers: int
    interrupted: Callable[[], int]

    @property
    def names(self) -> Sequence[str]:
        """Datasets that hold the fields of a chunk."""
        return ("fields", PREDICTIONS) if self.metric.arity == 2 else ("fields",)

    @property
    def title(self) -> str:
        """What messages about worker processes call the metric."""
        return f"metric {self.metric.title!r}"

    def stop_where_interrupted(self) -> None:
        """Raise what was held back, if there is anything."""
        if number := self.interrupted():
            raise ended_by(number)


class Labelled(NamedTuple):
    """A finished chunk: its number, its fields, and their curves (n, C, Q)."""

    k: int
    fields: Fields
    curves: NDArray[np.float64]


Engine = Callable[[Job], Generator[Labelled, None, None]]
"""Yields every chunk of a job once, in any order; closing the generator ends the work."""


def read_ahead(job: Job) -> Generator[tuple[int, Fields], None, None]:
    """The fields of each chunk, in order; threads read some chunks ahead."""
    ahead: deque[tuple[int, Future[Fields]]] = deque()
    with ThreadPoolExecutor(job.workers, thread_name_prefix="emuloss-read") as pool:
        try:
            coming = iter(job.chunks)
            while True:
                for k in itertools.islice(coming, 2 * job.workers + 1 - len(ahead)):
                    ahead.append((k, pool.submit(job.read, k)))
                if not ahead:
                    return
                job.stop_where_interrupted()
                k, pending = ahead.popleft()
                yield k, pending.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
