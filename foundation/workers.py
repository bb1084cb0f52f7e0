"""Work shared among worker processes, for functions that are plain Python.

The processes are started with a command line of their own, so that they import nothing of the calling script:
it needs no `if __name__ == "__main__"`, and may be `python -c` or a notebook. They live in a session of their
own, where no Ctrl-C reaches them, ignore what batch systems send to all processes of a job, and end when the
pipe to them closes, however the caller ends.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import queue
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as WaitedInVain
from types import TracebackType
from typing import IO, Any, NamedTuple, cast

import numpy as np

from ..errors import ArgumentError, DataError, EmulossError, FieldError, one_line
from .interrupts import interrupts_ignored

Work = Callable[..., np.ndarray]
"""Maps one or more batches of fields, (N, ...) each, onto an array (N, ...), field by field."""

_START = "import sys; sys.path[:] = {path!r}; from emuloss.foundation.workers import serve; serve()"
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Settings that keep the processes from sharing each core among many threads."""
_SLICES = 4
"""Slices of a batch for each process, so that none waits long for the slowest field."""
_POLL = 0.1
"""Seconds between two looks at whether the caller was interrupted."""


class Workers:
    """Worker processes that do the work of fields; a context manager, at whose end they are gone.

    Args:
        work: what is called with fields; must pickle, and be importable where it comes from.
        number: of processes; they start with the first batch.
        title: what messages call the work.

    Raises:
        ArgumentError: the work does not pickle.
    """

    def __init__(self, work: Work, number: int, title: str) -> None:
        self._work, self._number, self._title = work, number, title
        self._begin = beginning(work, title)
        self._workers: list[Worker] = []
        self._idle: queue.Queue[Worker] = queue.Queue()
        self._threads = ThreadPoolExecutor(number, thread_name_prefix="emuloss-process")

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.process.kill()  # which also ends the threads that wait for its reply
        self._threads.shutdown(cancel_futures=True)
        for worker in self._workers:
            worker.close()

    def __call__(self, *fields: np.ndarray, poll: Callable[[], None] = lambda: None) -> np.ndarray:
        """What the work itself gives for the same fields.

        Args:
            *fields: as the work takes them, (N, ...) each.
            poll: called several times a second; what it raises ends the work.

        Returns:
            An array (N, ...).

        Raises:
            ArgumentError: the work cannot be unpickled in another process.
            FieldError: the work fails on a field; of several, on the first.
            DataError: a process died.
        """
        number = len(fields[0])
        if not number:
            return self._work(*fields)
        self.start(number)
        slices = min(number, _SLICES * self._number)
        ends = [number * k // slices for k in range(slices + 1)]
        pending: list[tuple[int, Future[np.ndarray]]] = [
            (first, self._threads.submit(self._ask, first, [each[first:last] for each in fields]))
            for first, last in itertools.pairwise(ends)
        ]
        try:
            return np.concatenate([_part(first, future, poll) for first, future in pending])
        finally:
            for _, future in pending:
                future.cancel()

    def start(self, number: int) -> None:
        """Start as many processes as there is work for, so many fields; the first work does it otherwise."""
        while len(self._workers) < min(self._number, number):
            worker = Worker.started(self._begin)
            self._workers.append(worker)
            self._idle.put(worker)

    def _ask(self, first: int, fields: list[np.ndarray]) -> np.ndarray:
        """Have a process do the work of a few fields, the first of which has a number for messages."""
        worker = self._idle.get()
        try:
            reply = worker.reply(fields)
        except (OSError, ValueError, EOFError, pickle.UnpicklingError):
            last = first + len(fields[0]) - 1
            which = f"field {first}" if first == last else f"fields {first} to {last}"
            raise DataError(
                f"the process that labelled {which} with {self._title} died "
                f"(exit code {worker.process.wait()}); what it ran may have crashed or used up the memory"
            ) from None
        finally:
            self._idle.put(worker)
        if isinstance(reply, EmulossError):
            raise reply
        return reply


class Worker(NamedTuple):
    """A process, and the pipes to it and from it."""

    process: subprocess.Popen[bytes]
    requests: IO[bytes]
    replies: IO[bytes]

    @classmethod
    def started(cls, begin: bytes) -> Worker:
        """A new process, which waits for fields; begin: what `beginning` gives."""
        process = subprocess.Popen(
            [sys.executable, "-c", _START.format(path=sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_ONE_THREAD | os.environ,
            start_new_session=True,
        )
        worker = cls(process, cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout))
        with contextlib.suppress(OSError):  # that it died is met when it is asked
            worker.requests.write(begin)
        return worker

    def reply(self, fields: list[np.ndarray]) -> Any:
        """What the process gives for fields: an array or an error."""
        pickle.dump(fields, self.requests, pickle.HIGHEST_PROTOCOL)
        self.requests.flush()
        return pickle.load(self.replies)

    def close(self) -> None:
        """Close the pipes of a process that was killed, and wait for its end."""
        for pipe in (self.requests, self.replies):
            with contextlib.suppress(OSError):  # what was still to be written has no reader
                pipe.close()
        self.process.wait()


def beginning(work: Work, title: str) -> bytes:
    """What a process is told at first: its work, and what messages call it.

    Raises:
        ArgumentError: the work does not pickle.
    """
    return pickle.dumps((title, pickled(work, title)))


def _part(first: int, future: Future[np.ndarray], poll: Callable[[], None]) -> np.ndarray:
    """The result of a slice that begins at a field; errors number the field in the whole batch."""
    while True:
        poll()
        try:
            return future.result(timeout=_POLL)
        except WaitedInVain:
            continue
        except FieldError as error:
            raise FieldError(first + error.index, error.reason) from error


# What other processes and machines do


def serve() -> None:
    """What a worker process does: read its work, then batches of fields, and reply to each."""
    interrupts_ignored()
    # The pipes are kept from the user's function, which may print or read.
    requests, replies = (os.fdopen(os.dup(number), mode) for number, mode in ((0, "rb"), (1, "wb")))
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    title, given = pickle.load(requests)
    work: Work | None = None
    try:
        work = pickle.loads(given)
    except Exception as error:
        failure = refusal(title, error)
    while True:
        try:
            fields = pickle.load(requests)
        except EOFError:
            return
        reply = failure if work is None else taken(work, fields, title)
        try:
            pickle.dump(reply, replies, pickle.HIGHEST_PROTOCOL)
            replies.flush()
        except BrokenPipeError:  # the caller was killed; closing the pipe would fail once more
            os._exit(0)


def taken(work: Work, fields: Sequence[np.ndarray], title: str) -> np.ndarray | EmulossError:
    """What the work gives for fields, or the error it ends in; where that names no field, it is searched."""
    try:
        return work(*fields)
    except FieldError as error:
        return error
    except Exception as error:
        for n in range(len(fields[0])):
            try:
                work(*(each[n : n + 1] for each in fields))
            except Exception as alone:
                return FieldError(n, f"{title} raised {one_line(alone)}")
        return FieldError(0, f"{title} raised {one_line(error)}")


def pickled(work: Work, title: str) -> bytes:
    """The work as it is sent to other processes.

    Raises:
        ArgumentError: it does not pickle.
    """
    try:
        return pickle.dumps(work)
    except Exception as error:
        raise refusal(title, error) from error


def refusal(title: str, error: Exception) -> ArgumentError:
    """The error to raise where work cannot be pickled, or not be unpickled elsewhere."""
    return ArgumentError(
        f"{title} cannot be sent to worker processes ({one_line(error)}); "
        "define it in a module or a file that they can import, not in a script or a notebook"
    )
