"""Exact labels of what a live surrogate is asked about: at once, or from other processes, steps behind."""

from __future__ import annotations

import queue
import threading
import time
import warnings
import weakref
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ...emulators.exact import exact_curves
from ...errors import EmulossError
from ...foundation.workers import Worker, beginning
from ...metrics import Metric
from .lessons import Asked

_PROCESSES = 2
"""Processes that label for a slow metric."""
_WAITING = 4
"""Batches that may wait for labels; what comes beyond is not labelled."""
_LATE = 60.0
"""Seconds without any label, while batches find no place, after which that is worth a warning."""


class LabelWarning(UserWarning):
    """Predictions that a live surrogate was asked about get no exact labels."""


class Labels(Protocol):
    """Labels of batches, given when they are known."""

    def put(self, asked: Asked) -> None:
        """Have a batch labelled."""

    def known(self) -> Iterator[tuple[Asked, Tensor]]:
        """Batches that have got their exact curves (N, C, Q) by now, in the order in which they did."""

    def figures(self) -> dict[str, float]:
        """Counts, by name."""


def labels_of(metric: Metric) -> Labels:
    """The way to label with a metric: at once, or in other processes where it is plain Python."""
    return Behind(metric) if metric.parallel == "processes" else AtOnce(metric)


class AtOnce:
    """Labels each batch when they are asked for."""

    def __init__(self, metric: Metric) -> None:
        self.metric, self._put = metric, list[Asked]()

    def put(self, asked: Asked) -> None:
        """Have a batch labelled."""
        self._put.append(asked)

    def known(self) -> Iterator[tuple[Asked, Tensor]]:
        """All batches, with their exact curves."""
        put, self._put = self._put, []
        for asked in put:
            yield asked, exact_curves(self.metric, asked.fields)

    def figures(self) -> dict[str, float]:
        """No counts: nothing waits, and nothing fails."""
        return {}


class Behind:
    """Labels batches in other processes, and never waits for them.

    What fails, or finds no place because functions are slow or hang, is left out, counted, and told once.

    Args:
        metric: plain Python.

    Raises:
        ArgumentError: it cannot be sent to other processes.
    """

    def __init__(self, metric: Metric) -> None:
        self.metric, self._begin = metric, beginning(metric, metric.title)
        self._todo: queue.SimpleQueue[Asked] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[Asked, Tensor | str]] = queue.SimpleQueue()
        self._started = False
        self._waiting = self.failed = self.dropped = 0
        self._last = 0.0
        self._warned: set[str] = set()

    def __reduce__(self) -> tuple[type[Behind], tuple[Metric]]:
        return Behind, (self.metric,)  # copies label for themselves

    def put(self, asked: Asked) -> None:
        """Have a batch labelled, if there is a place for it."""
        if self._waiting >= _WAITING:
            self.dropped += len(asked.fields)
            if time.monotonic() - self._last > _LATE:
                self._tell("late", f"have not come for {_LATE:g} s; it learns on what it remembers")
            return
        if not self._started:
            self._start()
        self._waiting += 1
        self._todo.put(asked)

    def known(self) -> Iterator[tuple[Asked, Tensor]]:
        """Batches that have got their labels meanwhile."""
        while True:
            try:
                asked, found = self._done.get_nowait()
            except queue.Empty:
                return
            self._waiting -= 1
            self._last = time.monotonic()
            if isinstance(found, str):
                self.failed += len(asked.fields)
                self._tell("failed", f"failed ({found}); such predictions are left out")
            else:
                yield asked, found

    def figures(self) -> dict[str, float]:
        """Fields that were left out because labels failed, or because there was no place."""
        return {"failed": self.failed, "dropped": self.dropped}

    def _start(self) -> None:
        """Start processes, each with a thread that brings it work; all end with this object."""
        self._started = True
        self._last = time.monotonic()
        for _ in range(_PROCESSES):
            worker = Worker.started(self._begin)
            weakref.finalize(self, worker.process.kill)
            work = (worker, self._todo, self._done)
            # A daemon: a function that hangs must not keep the program from ending.
            threading.Thread(target=_serve, args=work, daemon=True, name="emuloss-live").start()

    def _tell(self, kind: str, what: str) -> None:
        """Warn once of each kind of trouble."""
        if kind not in self._warned:
            self._warned.add(kind)
            warnings.warn(f"exact labels by {self.metric.title} {what}", LabelWarning, stacklevel=5)


def _serve(
    worker: Worker, todo: queue.SimpleQueue[Asked], done: queue.SimpleQueue[tuple[Asked, Tensor | str]]
) -> None:
    """Have a process label batches as they come, until it is killed."""
    while True:
        asked = todo.get()
        try:
            reply: Any = worker.reply(_parts(asked.fields))
        except (OSError, ValueError, EOFError):
            done.put((asked, "the process died"))
            return
        done.put((asked, str(reply) if isinstance(reply, EmulossError) else torch.from_numpy(reply)))


def _parts(fields: Tensor) -> list[np.ndarray]:
    """Fields (N, H, W), or both of pairs (N, 2, H, W), as a metric takes them."""
    array = fields.numpy()
    return [array] if array.ndim == 3 else [array[:, 0], array[:, 1]]
