"""Work shared among worker processes, for metrics that are plain Python.

The processes are started with a command line of their own, so that they import nothing of the calling script:
it needs no `if __name__ == "__main__"`, and may be `python -c` or a notebook. They live in a session of their
own, where no Ctrl-C reaches them, and end when the pipe to them closes, however the caller ends.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import queue
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as WaitedInVain
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ArgumentError, DataError, EmulossError
from .functions import FieldError, one_line

if TYPE_CHECKING:
    from ._base import Metric

_START = "import sys; sys.path[:] = {path!r}; from emuloss.metrics._processes import serve; serve()"
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Settings that keep the processes from sharing each core among many threads."""
_SLICES = 4
"""Slices of a batch for each process, so that none waits long for the slowest field."""
_POLL = 0.1
"""Seconds between two looks at whether the caller was interrupted."""


class MetricProcesses:
    """Worker processes that take a metric of fields; a context manager, at whose end they are gone.

    Args:
        metric: must pickle, and be importable where it comes from.
        number: of processes; they start with the first batch.

    Raises:
        ArgumentError: the metric does not pickle.
    """

    def __init__(self, metric: Metric, number: int) -> None:
        self._metric, self._number = metric, number
        try:
            # Twice, so that all of it is read where building the metric fails.
            self._pickled = pickle.dumps(pickle.dumps(metric))
        except Exception as error:
            raise ArgumentError(refusal(metric, error)) from error
        self._processes: list[subprocess.Popen[bytes]] = []
        self._idle: queue.Queue[subprocess.Popen[bytes]] = queue.Queue()
        self._threads = ThreadPoolExecutor(number, thread_name_prefix="emuloss-process")

    def __enter__(self) -> MetricProcesses:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()  # which also ends the threads that wait for its reply
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):  # what was still to be written has no reader
                    pipe.close()  # type: ignore[union-attr]
            process.wait()

    def __call__(self, *fields: np.ndarray, poll: Callable[[], None] = lambda: None) -> np.ndarray:
        """Curves (N, C, Q) of fields (N, H, W), as the metric itself gives them.

        Args:
            *fields: as the metric takes them.
            poll: called several times a second; what it raises ends the work.

        Raises:
            ArgumentError: the metric cannot be built in another process.
            FieldError: the metric fails on a field; of several, on the first.
            DataError: a process died.
        """
        number = len(fields[0])
        if not number:
            return self._metric(*fields)
        self._start(number)
        slices = min(number, _SLICES * self._number)
        ends = [number * k // slices for k in range(slices + 1)]
        pending: list[tuple[int, Future[np.ndarray]]] = [
            (first, self._threads.submit(self._ask, first, [each[first:last] for each in fields]))
            for first, last in itertools.pairwise(ends)
        ]
        try:
            curves = []
            for first, future in pending:
                try:
                    curves.append(_patiently(future, poll))
                except FieldError as error:
                    raise FieldError(first + error.index, error.reason) from error
            return np.concatenate(curves)
        finally:
            for _, future in pending:
                future.cancel()

    def _start(self, number: int) -> None:
        """Start as many processes as there is work for, up to the number."""
        code = _START.format(path=sys.path)
        while len(self._processes) < min(self._number, number):
            process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=_ONE_THREAD | os.environ,
                start_new_session=True,
            )
            self._processes.append(process)
            with contextlib.suppress(OSError):  # that it died is met when it is asked
                process.stdin.write(self._pickled)  # type: ignore[union-attr]
            self._idle.put(process)

    def _ask(self, first: int, fields: list[np.ndarray]) -> np.ndarray:
        """Have a process take the metric of a few fields."""
        process = self._idle.get()
        try:
            pickle.dump(fields, process.stdin, pickle.HIGHEST_PROTOCOL)  # type: ignore[arg-type]
            process.stdin.flush()  # type: ignore[union-attr]
            reply = pickle.load(process.stdout)  # type: ignore[arg-type]
        except (OSError, ValueError, EOFError, pickle.UnpicklingError):
            last = first + len(fields[0]) - 1
            which = f"field {first}" if first == last else f"fields {first} to {last}"
            raise DataError(
                f"the process that labelled {which} with {_named(self._metric)} died "
                f"(exit code {process.wait()}); what it ran may have crashed or used up the memory"
            ) from None
        finally:
            self._idle.put(process)
        if isinstance(reply, EmulossError):
            raise reply
        return reply


def _patiently(future: Future[np.ndarray], poll: Callable[[], None]) -> np.ndarray:
    while True:
        poll()
        with contextlib.suppress(WaitedInVain):
            return future.result(timeout=_POLL)


def serve() -> None:
    """What a worker process does: read a metric, then batches of fields, and reply to each."""
    # The pipes are kept from the user's function, which may print or read.
    requests, replies = (os.fdopen(os.dup(number), mode) for number, mode in ((0, "rb"), (1, "wb")))
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    metric: Any = None
    try:
        metric = pickle.loads(pickle.load(requests))
    except Exception as error:
        failure = ArgumentError(refusal(None, error))
    while True:
        try:
            fields = pickle.load(requests)
        except EOFError:
            return
        reply = failure if metric is None else taken(metric, fields)
        try:
            pickle.dump(reply, replies, pickle.HIGHEST_PROTOCOL)
            replies.flush()
        except BrokenPipeError:  # the caller was killed; closing the pipe would fail once more
            os._exit(0)


def taken(metric: Metric, fields: list[np.ndarray]) -> np.ndarray | EmulossError:
    """The metric of fields, or the error that it ends in; where it does not say the field, it is searched."""
    try:
        return metric(*fields)
    except FieldError as error:
        return error
    except Exception as error:
        for n in range(len(fields[0])):
            try:
                metric(*(each[n : n + 1] for each in fields))
            except Exception as alone:
                return FieldError(n, f"{_named(metric)} raised {one_line(alone)}")
        return FieldError(0, f"{_named(metric)} raised {one_line(error)}")


def refusal(metric: Metric | None, error: Exception) -> str:
    name = "the metric" if metric is None else _named(metric)
    return (
        f"{name} cannot be sent to worker processes ({one_line(error)}); "
        "define it in a module or a file that they can import, not in a script or a notebook"
    )


def _named(metric: Metric) -> str:
    return f"metric {getattr(metric, 'source', metric.name)!r}"
