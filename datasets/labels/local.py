"""The engine that labels on this machine."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from functools import partial

from ...foundation.workers import Workers
from .chunk import CurvesOf, label_chunk
from .job import Job, Labelled, read_ahead


def label_here(job: Job) -> Generator[Labelled, None, None]:
    """Label chunks in this process, or in processes of this machine where the metric is plain Python.

    Raises:
        ArgumentError: If the metric cannot be built in worker processes.
        DataError: If a worker process died, or as in `label_chunk`.
    """
    with _running(job) as curves_of, closing(read_ahead(job)) as coming:
        for k, fields in coming:
            curves = label_chunk(
                job.metric, curves_of, k, list(fields.values()), job.source.name, job.source.field_shape
            )
            yield Labelled(k, fields, curves)


@contextmanager
def _running(job: Job) -> Iterator[CurvesOf]:
    """The metric, in as many processes where it is plain Python."""
    if not job.chunks or job.metric.parallel != "processes":
        yield job.metric
        return
    with Workers(job.metric, job.workers, job.title) as workers:
        yield partial(workers, poll=job.stop_where_interrupted)
