"""Labelling: the fields of a source and their exact curves, in one HDF5 file, safe from interruption.

Each chunk of the source becomes a part file, which appears under its name only when it is complete; a run
that was killed goes on from the parts that it finds. At the end the parts are joined into the file asked for,
which again appears only when it is complete.

A metric of a prediction and an observation is labelled on pairs: the fields of the source are observations,
and predictions are made from them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ...errors import ArgumentError, DataError
from ...foundation.arguments import as_choice, as_count, as_natural, as_path
from ...foundation.bars import Bar
from ...foundation.files import disk_errors
from ...foundation.interrupts import interrupts_deferred
from ...foundation.locks import one_writer
from ...foundation.threads import usable_cores
from ...metrics import Metric
from ..sources.predictions import predictions_of
from ..sources.source import ROLES, FieldSource, assign_splits
from .assembly import assemble, describe_anew
from .definition import Definition, define, refuse_difference
from .engines import engine_named
from .job import PREDICTIONS, Engine, Fields, Job
from .parts import is_whole, prepare_parts, write_parts
from .store import LabelledFields


def label(
    source: FieldSource,
    metric: Metric,
    path: str | Path,
    *,
    splits: Sequence[str] | None = None,
    workers: int | None = None,
    progress: bool = True,
    seed: int = 0,
    engine: str = "local",
    scheduler: str | None = None,
) -> LabelledFields:
    """Label the fields of a source with the exact values of a metric, and store both in one HDF5 file.

    Where the metric compares two fields, those of the source are observations, and `predictions_of` them are
    made and stored beside them.

    Killed at any moment, the same call goes on where it stopped, with either engine; called again once the
    file is finished, it returns it as it is. What only says what values mean, such as `lower_better` or the
    name of a unit, may have changed: the file then says that. Until it is finished, parts live in the folder
    `path + ".parts"`, and `path + ".lock"` keeps other processes away.

    Args:
        source: Where the fields come from.
        metric: The exact metric. It runs in the calling thread and brings its own threads; one that is plain
            Python (`parallel` is "processes") runs in worker processes, which import it anew.
        path: The HDF5 file to write.
        splits: Role of each chunk, from `assign_splits`; its defaults if None. Unused chunks are left out.
        workers: Threads that read the source, and processes that run the metric; the usable CPU cores by
            default.
        progress: Whether to show a progress bar on standard error.
        seed: Of the predictions of a metric that compares two fields.
        engine: Where the metric runs: "local" for this machine; "dask" for the workers of a Dask cluster.
            This version of emuloss is installed on them and on the scheduler, and a file of the metric's
            lies under the same path on the workers.
            Fields are read and parts are written here. Each task takes one thread of a worker; of a metric
            that is plain Python, a worker process runs one task at a time, so give those one thread each.
        scheduler: Address of the cluster's scheduler, such as "tcp://HOST:8786".

    Returns:
        A reader of the finished file.

    Raises:
        ArgumentError: If `splits` does not give a role to each chunk, `workers` is not positive, `seed` is
            negative, the engine is unknown, lacks its scheduler or is not installed, or the metric cannot be
            built in worker processes.
        ClusterError: If the cluster cannot be reached or is lost, has no workers, or a chunk costs it one
            after the other.
        DataError: If the path or its parts hold other work or are damaged, another process is writing them, a
            chunk cannot be read, the metric fails on a field or breaks one of its own constraints (its values
            would be wrong), or the disk is full.
    """
    path = as_path("path", path)
    parts = Path(f"{path}.parts")
    run = engine_named(engine, scheduler)
    roles = _roles(source, splits)
    workers = usable_cores() if workers is None else as_count("workers", workers)
    definition = define(source, metric, roles, as_natural("seed", seed))
    if not os.path.exists(path):
        wanted = [k for k, role in enumerate(roles) if role != "unused"]
        unreadable: dict[int, str] = {}
        read = partial(_read_chunk, source, roles, metric.arity == 2, seed, unreadable)
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        # A KeyboardInterrupt that strikes within h5py is lost: its objects run callbacks that swallow it.
        with one_writer(path) as alone, interrupts_deferred() as interrupted:
            job = Job(source, metric, wanted, read, workers, interrupted)
            if not os.path.exists(path):  # which another process may have finished while it held the lock
                with _left_to_another(path, alone):
                    _make(path, parts, definition, job, run, unreadable, progress, alone)
            job.stop_where_interrupted()
    return _finished(path, parts, definition, source, metric)


def _make(
    path: Path,
    parts: Path,
    definition: Definition,
    job: Job,
    engine: Engine,
    unreadable: Mapping[int, str],
    progress: bool,
    alone: bool,
) -> None:
    """Have an engine do what is missing of a job, and join the parts into the file."""
    with disk_errors(path):
        prepare_parts(parts, definition, job.source, job.metric, alone=alone)
    _label_missing(job, engine, parts, unreadable, progress)
    with disk_errors(path):
        assemble(path, parts, definition, job, progress)


@contextlib.contextmanager
def _left_to_another(path: Path, alone: bool) -> Iterator[None]:
    """Let an error pass where another process, which no lock kept away, has finished the file meanwhile."""
    try:
        yield
    except DataError:
        if alone or not os.path.exists(path):
            raise


def _finished(
    path: Path, parts: Path, definition: Definition, source: FieldSource, metric: Metric
) -> LabelledFields:
    """A finished store, which says of its values what the source and the metric say now.

    Raises:
        DataError: It is damaged, holds other work, or breaks what the metric declares.
    """
    store = LabelledFields(path)
    refuse_difference(path, store.definition, definition, source, metric)
    if store.definition != definition:
        with one_writer(path), disk_errors(path):
            store = describe_anew(store, definition, source, metric)
    shutil.rmtree(parts, ignore_errors=True)
    return store


def _roles(source: FieldSource, splits: Sequence[str] | None) -> list[str]:
    """The role of each chunk.

    Raises:
        ArgumentError: They are not one for each chunk, or unknown.
    """
    roles = assign_splits(source) if splits is None else list(splits)
    if len(roles) != len(source):
        raise ArgumentError(
            f"`splits` has {len(roles)} roles, and source {source.name!r} has {len(source)} chunks."
        )
    return [as_choice("each of splits", role, ROLES) for role in roles]


def _label_missing(
    job: Job, engine: Engine, parts: Path, unreadable: Mapping[int, str], progress: bool
) -> None:
    """Have an engine label the chunks that have no part yet, and write the part of each."""
    missing = [k for k in job.chunks if not is_whole(parts, k, job.names, job.source.field_shape)]
    total = len(job.chunks)
    bar = Bar(total=total, initial=total - len(missing), unit="chunk", disable=not progress)
    began, done = time.monotonic(), 0
    with bar, contextlib.closing(engine(job._replace(chunks=missing))) as finished:
        for chunk in write_parts(parts, finished, unreadable):
            done += len(chunk.curves)
            left_out = f", {len(unreadable)} skipped" if unreadable else ""
            speed = f"{done / (time.monotonic() - began):.3g} fields/s"
            bar.set_postfix_str(f"{speed}{left_out}", refresh=False)
            bar.update()


def _read_chunk(
    source: FieldSource, roles: list[str], pairs: bool, seed: int, unreadable: dict[int, str], k: int
) -> Fields:
    """The fields of a chunk, with predictions of them, which come first, where pairs are asked for.

    A chunk without fields whose file was left out comes into `unreadable`, with the name of the file.
    """
    fields = np.ascontiguousarray(source.read(k, roles[k]), np.float32)
    if fields.ndim != 3 or fields.shape[1:] != tuple(source.field_shape):
        raise DataError(
            f"source {source.name!r} gave shape {fields.shape} for chunk {k}; "
            f"its fields have shape {tuple(source.field_shape)}."
        )
    if not len(fields) and source.file_of(k) in source.skipped:
        unreadable[k] = source.file_of(k)
    if not pairs:
        return {"fields": fields}
    predictions = predictions_of(fields, np.random.default_rng([seed, k]), source.dry)
    return {PREDICTIONS: predictions, "fields": fields}
