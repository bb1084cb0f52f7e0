"""Engines: what labels the chunks of a source, here or elsewhere, and yields those that are finished.

An engine decides where the metric runs. It keeps nothing: its caller puts each chunk that it yields into a
part file of its own, so that whatever happens to an engine costs no more than the chunks in work.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, DataError
from ..metrics import FieldError

if TYPE_CHECKING:
    from ..metrics import Metric
    from .source import FieldSource

ENGINES = ("local", "dask")
PREDICTIONS = "predictions"
"""Dataset that holds the predictions of pairs, beside their observations, the fields."""
_CHECKED_PAIRS = 2
"""Pairs of a chunk on which the declared symmetry and identity are checked: that takes more labels."""

Fields = dict[str, NDArray[np.float32]]
"""Fields (n, H, W) of a chunk by the name of their dataset: "fields", and "predictions" of them in pairs."""
CurvesOf = Callable[..., NDArray[np.float64]]
"""Maps fields, or predictions and observations, onto curves; it may call the metric in other processes."""


class Job(NamedTuple):
    """What an engine has to do.

    Attributes:
        source: Where the fields come from.
        metric: What they are labelled with.
        chunks: Numbers of the chunks to label.
        read: Gives the fields of a chunk; may be called from any thread of this process.
        workers: Threads that read, and processes that run the metric on this machine.
        interrupted: Whether the work is to end in a KeyboardInterrupt, as soon as that suits.
    """

    source: FieldSource
    metric: Metric
    chunks: Sequence[int]
    read: Callable[[int], Fields]
    workers: int
    interrupted: Callable[[], bool]

    def stop_where_interrupted(self) -> None:
        """Raise the KeyboardInterrupt that was held back, if there is one."""
        if self.interrupted():
            raise KeyboardInterrupt


class Labelled(NamedTuple):
    """A finished chunk: its number, its fields, and their curves (n, C, Q)."""

    k: int
    fields: Fields
    curves: NDArray[np.float64]


Engine = Callable[[Job], Generator[Labelled, None, None]]
"""Yields every chunk of a job once, in any order; closing the generator ends the work."""


def engine_named(name: str, scheduler: str | None) -> Engine:
    """The engine of a name; nothing is connected yet.

    Args:
        name: One of `ENGINES`.
        scheduler: Address of the Dask scheduler, for "dask".

    Raises:
        ArgumentError: If the name is unknown, the address is missing or of no use, or Dask is not installed.
    """
    if name not in ENGINES:
        raise ArgumentError(f"`engine` (={name!r}) must be one of {', '.join(ENGINES)}.")
    if name == "local":
        if scheduler is not None:
            raise ArgumentError(f"`scheduler` (={scheduler!r}) goes with engine 'dask'; choose that, too.")
        return label_here
    if find_spec("distributed") is None:
        raise ArgumentError("engine 'dask' needs Dask distributed; run: pip install 'emuloss[dask]'.")
    if scheduler is None:
        # A cluster of this machine alone could be started, but would do what the local engine does anyway.
        raise ArgumentError(
            "engine 'dask' needs `scheduler`, the address of a running scheduler such as 'tcp://HOST:8786'; "
            "for this machine alone, leave the engine out."
        )
    from ._dask import label_on_cluster

    return partial(label_on_cluster, scheduler)


def label_here(job: Job) -> Generator[Labelled, None, None]:
    """Label chunks in this process, or in processes of this machine where the metric is plain Python."""
    with _running(job) as curves_of, closing(read_ahead(job)) as coming:
        for k, fields in coming:
            curves = label_chunk(
                job.metric, curves_of, k, list(fields.values()), job.source.name, job.source.field_shape
            )
            yield Labelled(k, fields, curves)


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


def label_chunk(
    metric: Metric,
    curves_of: CurvesOf,
    k: int,
    fields: Sequence[NDArray[np.float32]],
    source: str,
    field_shape: tuple[int, int],
) -> NDArray[np.float64]:
    """Curves of the fields of a chunk, which obey what the metric declares.

    Args:
        metric: Says what curves obey.
        curves_of: Gives the curves: the metric itself, or what calls it elsewhere.
        k: Number of the chunk, for messages.
        fields: Fields (n, H, W), or predictions and observations.
        source: Name of the source, for messages.
        field_shape: Shape (H, W) of a field.

    Returns:
        Curves (n, C, Q).

    Raises:
        DataError: If the metric fails on a field, or its curves break what it declares.
    """
    if not len(fields[0]):
        return np.empty((0, len(metric.outputs), 0))
    try:
        curves = np.asarray(curves_of(*fields), np.float64)
    except FieldError as error:
        raise DataError(f"field {error.index} of chunk {k} of source {source!r}: {error.reason}") from error
    broken = [
        f"{name} ({share:.2%} of the labels, first in field {_first(name, metric, curves, field_shape)})"
        for name, share in metric.check(curves, field_shape).items()
        if share > 0
    ]
    if metric.arity == 2:
        predictions, observations = (each[:_CHECKED_PAIRS] for each in fields)
        found = metric.check_pairs(predictions, observations, curves_of)
        broken += [
            f"{name} (in the first {len(predictions)} pairs)" for name, share in found.items() if share > 0
        ]
    if broken:
        raise DataError(
            f"metric {metric.name!r} breaks its own constraints in chunk {k} of source {source!r}: "
            f"{', '.join(broken)}; correct the metric or the constraints that it declares."
        )
    return curves


def _first(label: str, metric: Metric, curves: NDArray[np.float64], field_shape: tuple[int, int]) -> int:
    """Number of the first field whose curves break the constraint of a label."""
    alone = (metric.check(curves[n : n + 1], field_shape)[label] for n in range(len(curves)))
    return next(n for n, share in enumerate(alone) if share > 0)


@contextmanager
def _running(job: Job) -> Iterator[CurvesOf]:
    """The metric, in as many processes where it is plain Python."""
    if not job.chunks or job.metric.parallel != "processes":
        yield job.metric
        return
    from ..metrics._processes import MetricProcesses

    with MetricProcesses(job.metric, job.workers) as processes:
        yield partial(processes, poll=job.stop_where_interrupted)
