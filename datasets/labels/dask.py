"""The engine that labels on a Dask cluster; imported by those who ask for it, and by the cluster's workers.

Fields are read by the caller and travel to the workers, which take the metric of them. They have to pass the
caller in any case, who writes them beside their curves into the part files: workers that read them would
send them instead of receiving them, and would have to see the source's files. They travel within the task
itself, not as data kept on a worker, so that a task whose worker is lost has all it needs to run on another.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
import pickle
import sys
import threading
import time
import uuid
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from importlib.metadata import version
from types import ModuleType
from typing import Any

import dask
import distributed
import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError, ClusterError, EmulossError, one_line
from ...foundation.threads import one_thread
from ...foundation.workers import pickled, refusal, taken
from ...metrics import Metric
from .chunk import label_chunk
from .job import Fields, Job, Labelled, read_ahead

_REACHED_IN = 10.0
"""Seconds within which a scheduler has to answer."""
_WORKERS_IN = 30.0
"""Seconds that the cluster may be without any worker: at the start, or while a lost one is replaced."""
_SPARE = 4
"""Chunks that wait on the cluster, besides one for each thread of its workers, so that none idles."""
_SUSPECTS_IN = 1.0
"""Seconds within which the chunks tell that a worker too many died while it had them."""
_POLL = 0.1
"""Seconds between two looks at whether the caller was interrupted, or workers came or went."""

_Reply = Future[Any]
"""What a task returned, an array or an error, once it was fetched."""


# On the caller's machine


def label_on_cluster(scheduler: str, job: Job) -> Generator[Labelled, None, None]:
    """Label chunks on the workers of a cluster; each is yielded as soon as it is finished.

    Raises:
        ArgumentError: If the metric cannot be built on a worker, or a worker would label otherwise than this
            machine.
        ClusterError: If the cluster cannot be reached, is lost, has no workers, or loses those that have a
            chunk again and again (as often as its setting `allowed-failures` says).
        DataError: As in `label_chunk`.
    """
    if not job.chunks:
        return
    task = _Task.of(job)
    running: dict[_Reply, tuple[int, Fields]] = {}
    absent: float | None = None
    with contextlib.closing(read_ahead(job)) as coming, _connected(scheduler) as client:
        while True:
            with _lost(scheduler):
                threads = sum(client.nthreads().values())
            absent = None if threads else absent or time.monotonic()
            if absent and time.monotonic() - absent > _WORKERS_IN:
                raise ClusterError(
                    f"the cluster at {scheduler} has had no workers for {_WORKERS_IN:g} seconds; "
                    "start some and run again to go on"
                )
            for k, fields in itertools.islice(coming, max(0, threads + _SPARE - len(running))):
                running[_submitted(client, task, k, fields)] = k, fields
            if not running:
                return
            job.stop_where_interrupted()
            for reply in wait(running, timeout=_POLL, return_when=FIRST_COMPLETED).done:
                k, fields = running[reply]
                try:
                    curves = _curves_in(reply, k, job.source.name, scheduler)
                except distributed.KilledWorker as error:
                    raise _killed(error, running, job.source.name) from error
                del running[reply]
                yield Labelled(k, fields, curves)


def _submitted(client: distributed.Client, task: _Task, k: int, fields: Fields) -> _Reply:
    """Have the cluster run a task; the client's own thread fetches the reply as soon as there is one.

    Where a worker dies between finishing a chunk and handing over its curves, Dask labels the chunk once
    more, and the caller goes on with other chunks meanwhile. Closing the client ends all that it waits for.
    """
    future = client.submit(task, k, list(fields.values()), key=f"emuloss-{uuid.uuid4().hex}")
    fetching = client.gather(future, asynchronous=True)
    loop = client.loop.asyncio_loop  # type: ignore[union-attr]  # a client that runs has a loop
    return asyncio.run_coroutine_threadsafe(fetching, loop)


def _curves_in(reply: _Reply, k: int, source: str, scheduler: str) -> NDArray[np.float64]:
    """Curves of a chunk, or the error that its task ended in."""
    try:
        with _lost(scheduler):
            found = reply.result()
    except (ClusterError, distributed.KilledWorker):
        raise
    except Exception as error:
        raise ClusterError(
            f"chunk {k} of source {source!r} cannot be labelled at {scheduler} ({one_line(error)}); "
            f"its scheduler and workers need emuloss {version('emuloss')}, as it is here"
        ) from error
    if isinstance(found, EmulossError):
        raise found
    return found


def _killed(
    error: distributed.KilledWorker, running: dict[_Reply, tuple[int, Fields]], source: str
) -> ClusterError:
    """The error that tells which chunk costs worker after worker.

    Dask does not know which of the chunks that a lost worker had it was working on. Those that were on all of
    them are told, which their replies say within a moment.
    """
    replies = wait(running, timeout=_SUSPECTS_IN).done
    suspects = sorted(
        running[reply][0] for reply in replies if isinstance(reply.exception(), distributed.KilledWorker)
    )
    which = (
        f"chunk {suspects[0]}" if len(suspects) == 1 else f"one of the chunks {', '.join(map(str, suspects))}"
    )
    return ClusterError(
        f"{which} of source {source!r} costs worker after worker: {error.allowed_failures + 1} of them died "
        f"while they had it, the last at {error.last_worker.address}; what the metric runs on it may crash "
        "or use up the memory"
    )


@contextlib.contextmanager
def _connected(scheduler: str) -> Iterator[distributed.Client]:
    """A connection to a scheduler that answers."""
    try:
        # In a thread of its own, for the caller's may run an event loop, as that of a notebook does.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, asyncio.wait_for(_identity(scheduler), _REACHED_IN)).result()
    except Exception as error:
        raise ClusterError(
            f"no Dask scheduler answers at {scheduler!r} ({one_line(error)}); "
            "give the address that `dask scheduler` prints, such as tcp://HOST:8786"
        ) from error
    # The fields in a task make it larger than Dask thinks wise, and they are wanted there (see above).
    settings = {"distributed.admin.large-graph-warning-threshold": sys.maxsize}
    with _quiet("distributed.client"), dask.config.set(settings):
        with _lost(scheduler):
            client = distributed.Client(scheduler, timeout=_REACHED_IN, set_as_default=False)
        with client:
            yield client


async def _identity(scheduler: str) -> None:
    """Ask a scheduler who it is: a `Client` that meets none leaves tasks behind which fail one by one."""
    arguments = distributed.Security().get_connection_args("client")
    async with distributed.rpc(scheduler, timeout=_REACHED_IN, connection_args=arguments) as there:
        await there.identity()


@contextlib.contextmanager
def _lost(scheduler: str) -> Iterator[None]:
    """Tell in one line that the connection broke."""
    try:
        yield
    except (OSError, asyncio.TimeoutError, distributed.CancelledError) as error:
        raise ClusterError(
            f"the scheduler at {scheduler} was lost ({one_line(error)}); run again to go on"
        ) from error


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keep a logger from filling the screen with the traces of what ends up in an error of one line."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


# On a worker


@dataclass(frozen=True)
class _Task:
    """Labels a chunk on a worker.

    Attributes:
        metric: The metric, pickled.
        title: What messages call the metric.
        code: Digest of the metric's code, where that is the user's own.
        version: The caller's version of emuloss.
        source: Name of the source.
        field_shape: Shape (H, W) of a field.
    """

    metric: bytes
    title: str
    code: str
    version: str
    source: str
    field_shape: tuple[int, int]

    @classmethod
    def of(cls, job: Job) -> _Task:
        """What all tasks of a job share.

        Raises:
            ArgumentError: The metric cannot be sent to workers.
        """
        metric, source = job.metric, job.source
        height, width = source.field_shape
        return cls(
            metric=pickled(metric, job.title),
            title=job.title,
            code=metric.code,
            version=version("emuloss"),
            source=source.name,
            field_shape=(int(height), int(width)),
        )

    def __call__(self, k: int, fields: Sequence[NDArray[np.float32]]) -> NDArray[np.float64] | EmulossError:
        """Curves, or the error to raise: returned, since Dask would log the traces of what is raised."""
        try:
            with _BUILDING:
                metric = _built(self)
            # Threads of a worker share its cores already. Plain Python is run as it is locally, one field at
            # a time in a process, for it may not be made for threads.
            with one_thread(), _BY_ITSELF if metric.parallel == "processes" else contextlib.nullcontext():
                curves_of = functools.partial(_curves, self.title, metric)
                return label_chunk(metric, curves_of, k, fields, self.source, self.field_shape)
        except EmulossError as error:
            return error


_BUILDING, _BY_ITSELF = threading.Lock(), threading.Lock()
_CODE_LOADED: dict[ModuleType, str] = {}
"""Digests of the code of metrics by its module, as it was loaded: a worker lives on while files change."""


@functools.lru_cache(maxsize=8)
def _built(task: _Task) -> Metric:
    """The metric of a task.

    Raises:
        ArgumentError: It cannot be built here, or would not be the caller's.
    """
    here = f"worker {distributed.get_worker().address}"
    if version("emuloss") != task.version:
        raise ArgumentError(
            f"{here} has emuloss {version('emuloss')}, and the caller {task.version}; "
            "install the same version there"
        )
    try:
        metric = pickle.loads(task.metric)
        code, module = metric.code, metric.module
    except Exception as error:
        raise ArgumentError(f"{here}: {refusal(task.title, error)}") from error
    loaded = code if module is None else _CODE_LOADED.setdefault(module, code)
    if loaded != task.code:
        raise ArgumentError(
            f"{here} has other code of {task.title} than the caller; "
            "copy the caller's there, and restart the worker if it has imported the old one"
        )
    return metric


def _curves(title: str, metric: Metric, *fields: NDArray[np.float32]) -> NDArray[np.float64]:
    """The metric of fields; an error names the field."""
    reply = taken(metric, fields, title)
    if isinstance(reply, EmulossError):
        raise reply
    return reply
