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
SHORT = 0.05
"""Seconds that labels of a batch may take to be made at once,"""
_ENOUGH = 3
"""and how many batches tell it."""


class LabelWarning(UserWarning):
    """Predictions that a live surrogate was asked about get no exact labels, or get them in another way."""


class Labels(Protocol):
    """Labels of batches, given when they are known.

    Attributes:
        left_out: fields that got none.
    """

    left_out: int

    def put(self, asked: Asked) -> None:
        """Have a batch labelled."""

    def known(self) -> Iterator[tuple[Asked, Tensor]]:
        """Batches that have got their exact curves (K, C, Q) by now, in the order in which they did."""


class AtOnce:
    """Labels batches when they are asked for. What fails is left out, counted, and told once."""

    def __init__(self, metric: Metric) -> None:
        self.metric, self.left_out = metric, 0
        self._put: list[Asked] = []
        self._warned = False

    def put(self, asked: Asked) -> None:
        """Have a batch labelled."""
        self._put.append(asked)

    def known(self) -> Iterator[tuple[Asked, Tensor]]:
        """All batches, with their exact curves."""
        put, self._put = self._put, []
        for asked in put:
            try:
                curves = asked.all(exact_curves(self.metric, asked.unknown))
            except EmulossError as error:  # of a function of the user's own
                self.left_out += asked.predictions
                if not self._warned:
                    self._warned = True
                    _tell(self.metric, f"failed ({error}); such predictions are left out")
            else:
                yield asked, curves


class Behind:
    """Labels batches in other processes, and never waits for them.

    What fails, or finds no place because a function is slow or hangs, is left out, counted, and told once.

    Args:
        metric: plain Python.

    Attributes:
        short: whether labels turned out to take so little time that they may as well be made at once.

    Raises:
        ArgumentError: it cannot be sent to other processes.
    """

    def __init__(self, metric: Metric) -> None:
        self.metric, self._begin = metric, beginning(metric, metric.title)
        self._todo: queue.SimpleQueue[Asked | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[Asked, Tensor | str, float]] = queue.SimpleQueue()
        self._started = False
        self._waiting = self.left_out = 0
        self._last = 0.0
        self._seconds: list[float] = []
        self._warned: set[str] = set()

    def __reduce__(self) -> tuple[type[Behind], tuple[Metric]]:
        return Behind, (self.metric,)  # copies label for themselves

    @property
    def short(self) -> bool:
        """See above."""
        return len(self._seconds) >= _ENOUGH and sorted(self._seconds)[1] < SHORT

    def put(self, asked: Asked) -> None:
        """Have a batch labelled, if there is a place for it."""
        if self._waiting >= _WAITING:
            self.left_out += asked.predictions
            if time.monotonic() - self._last > _LATE:
                self._tell_once("late", f"have not come for {_LATE:g} s; it learns on what it remembers")
            return
        if not self._started:
            self._start()
        self._waiting += 1
        self._todo.put(asked)

    def known(self) -> Iterator[tuple[Asked, Tensor]]:
        """Batches that have got their labels meanwhile."""
        while True:
            try:
                asked, found, seconds = self._done.get_nowait()
            except queue.Empty:
                return
            self._waiting -= 1
            self._last = time.monotonic()
            if isinstance(found, str):
                self.left_out += asked.predictions
                self._tell_once("failed", f"failed ({found}); such predictions are left out")
            else:
                self._seconds = [*self._seconds[1 - _ENOUGH :], seconds]
                yield asked, found

    def _start(self) -> None:
        """Start processes, each with a thread that brings it work; all end with this object."""
        self._started = True
        self._last = time.monotonic()
        for _ in range(_PROCESSES):
            worker = Worker.started(self._begin)
            weakref.finalize(self, _end, worker, self._todo)
            work = (worker, self._todo, self._done)
            # A daemon: a function that hangs must not keep the program from ending.
            threading.Thread(target=_serve, args=work, daemon=True, name="emuloss-live").start()

    def _tell_once(self, kind: str, what: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            _tell(self.metric, what)


def _tell(metric: Metric, what: str) -> None:
    """Warn of trouble with labels."""
    warnings.warn(f"exact labels by {metric.title} {what}", LabelWarning, stacklevel=6)


def _end(worker: Worker, todo: queue.SimpleQueue[Asked | None]) -> None:
    """End a process, whatever it does, and the thread that waits for it or for work."""
    worker.process.kill()
    todo.put(None)


def _serve(
    worker: Worker,
    todo: queue.SimpleQueue[Asked | None],
    done: queue.SimpleQueue[tuple[Asked, Tensor | str, float]],
) -> None:
    """Have a process label batches as they come, until it is killed."""
    while (asked := todo.get()) is not None:
        began = time.monotonic()
        try:
            reply: Any = worker.reply(_parts(asked.unknown))
        except (OSError, ValueError, EOFError):
            done.put((asked, "the process died", 0.0))
            break
        found = str(reply) if isinstance(reply, EmulossError) else asked.all(torch.from_numpy(reply))
        done.put((asked, found, time.monotonic() - began))
    worker.close()


def _parts(fields: Tensor) -> list[np.ndarray]:
    """Fields (N, H, W), or both of pairs (N, 2, H, W), as a metric takes them."""
    array = fields.numpy()
    return [array] if array.ndim == 3 else [array[:, 0], array[:, 1]]
