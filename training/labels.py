"""Exact labels of what is met on descents: at once, or in other processes while training goes on."""

from __future__ import annotations

import math
import time
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError
from ..foundation.threads import usable_cores
from ..foundation.workers import Work, Workers, pickled
from ..metrics import Metric


class Labels:
    """Labels fields by an exact metric; one in plain Python is called in other processes meanwhile.

        with Labels(metric) as labels:
            labels.begin(fields)
            ...  # whatever there is to do
            curves, seconds = labels.finish(fields)

    Args:
        metric: the exact metric.
        sharing: processes that learn together, each with labels of its own, taken to share a machine.

    Attributes:
        behind: whether labels come from other processes, so that it pays to begin early. Not where the metric
            cannot be sent to them: it is called here.
    """

    def __init__(self, metric: Metric, sharing: int = 1) -> None:
        self._metric = metric
        self.behind = metric.parallel == "processes" and _can_be_sent(metric)
        # The other half is left to the training.
        self._sharing, self._processes = sharing, max(1, usable_cores() // (2 * sharing))
        self._workers: Workers | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._begun: Future[tuple[NDArray[np.float64], float]] | None = None

    def __enter__(self) -> Labels:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the other processes, whatever they do; new ones are started where they are needed again."""
        if self._workers is not None and self._thread is not None:
            self._workers.__exit__(None, None, None)  # which also ends what the thread waits for
            self._thread.shutdown()
        self._workers = self._thread = self._begun = None

    def begin(self, fields: NDArray[np.float32]) -> None:
        """Have fields (N, K, H, W), or pairs (N, K, 2, H, W), labelled, if other processes do that."""
        if not (self.behind and len(fields)):
            return
        if self._workers is None or self._thread is None:
            self._workers = Workers(self._metric, self._processes, self._metric.title)
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="emuloss-descents")
        self._workers.start(len(fields))
        self._begun = self._thread.submit(self._made, self._workers, fields)

    def finish(self, fields: NDArray[np.float32]) -> tuple[NDArray[np.float64], float]:
        """The exact curves of fields, which it waits for.

        Args:
            fields: (N, K, H, W), or pairs (N, K, 2, H, W), those that it last began with, if it did.

        Returns:
            Curves (N, K, C, Q), and the seconds for which making them, and those of the others that share the
            machine, keeps all of it busy, by the fastest of the K.

        Raises:
            FieldError: the metric fails on a field.
            DataError: a process died.
        """
        if self._begun is None:
            self.begin(fields)
        if self._begun is not None:
            begun, self._begun = self._begun, None
            try:
                curves, seconds = begun.result()
            except ArgumentError:  # the others cannot import it
                self.behind = False
                self.close()
            else:
                busy = min(self._processes, len(fields)) * self._sharing
                return curves, seconds * min(1.0, busy / usable_cores())
        return self._made(self._metric, fields)

    def _made(self, work: Work, fields: NDArray[np.float32]) -> tuple[NDArray[np.float64], float]:
        """Curves (N, K, C, Q), and K times the seconds of the fastest part of them."""
        made, seconds = [], math.inf
        for k in range(fields.shape[1]):
            began = time.monotonic()
            made.append(work(*self._metric.parts(fields[:, k])))
            seconds = min(seconds, time.monotonic() - began)
        return np.stack(made, axis=1), fields.shape[1] * seconds


def _can_be_sent(metric: Metric) -> bool:
    """Whether a metric can be sent to other processes; that they can import it is seen there."""
    try:
        pickled(metric, metric.title)
    except ArgumentError:
        return False
    return True
