"""Labelled fields of a source: opened, shared out, labelled, and looked at."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..datasets import FieldSource, LabelledFields, assign_splits
from ..datasets import label as label_source
from ..datasets.labels.engines import engine_named
from ..datasets.sources.opening import as_source
from ..errors import DataError
from ..foundation.interrupts import terminations_raised
from ..foundation.options import flat
from ..metrics import Metric
from .places import as_writable
from .saying import say
from .settings import Data, Labelling, Teacher
from .teacher import metric_of


@flat(Data, Teacher, Labelling)
@terminations_raised()
def label(data: Data, teacher: Teacher, labelling: Labelling) -> LabelledFields:
    """Label fields with an exact metric, and store both in one HDF5 file, without training.

    Killed at any moment, the same call goes on where it stopped.

        store = emuloss.label(fields="rain", metric="clusters", out="labels.h5")
        fields, curves = store.split("train")

    Returns:
        A reader of the file.

    Raises:
        ArgumentError: an option that cannot be used.
        DataError: fields that cannot be read, a metric that fails on one, or a file that holds other work.
        ClusterError: a cluster that cannot be reached or is lost.
        SystemExit: SIGTERM or SIGHUP, which batch systems send; what was done is kept, as after Ctrl-C.
    """
    engine_named(labelling.engine, labelling.scheduler)  # refuses a wrong choice before any field is read
    source, roles = opened(data, labelling.seed)
    metric = metric_of(teacher, source, roles, progress=labelling.progress)
    if not os.path.exists(labelling.out):  # what is finished may lie where nothing can be written
        as_writable(labelling.out.parent)
    return labelled(source, roles, metric, data, labelling)


def opened(data: Data, seed: int) -> tuple[FieldSource, list[str]]:
    """The source of the fields, and the roles of its chunks.

    Raises:
        ArgumentError: an option that the source does not take, or too few chunks for the split.
        DataError: files that cannot be used.
    """
    source = as_source(data.fields, **{"seed": seed, **data.opened_with})
    gap = data.gap_chunks if data.gap is None else data.gap
    return source, assign_splits(source, test=data.test_chunks, gap=gap)


def labelled(
    source: FieldSource, roles: Sequence[str], metric: Metric, data: Data, labelling: Labelling
) -> LabelledFields:
    """The labelled store of a source; says what is the same for all fields."""
    where = f" at {len(metric.thresholds)} thresholds" if metric.thresholds else ""
    say(f"labelling {data.title} with {metric.title}{where}")
    store = label_source(
        source,
        metric,
        labelling.out,
        splits=roles,
        progress=labelling.progress,
        seed=labelling.seed,
        engine=labelling.engine,
        scheduler=labelling.scheduler,
    )
    if store.skipped_files:
        first = store.skipped[0]
        reason = source.skipped.get(first, "it could not be read")
        say(f"warning: files left out: {store.skipped_files}, first {first}: {reason}")
    for output in store.constant_outputs():
        say(f"warning: constant output: {output} is the same for all {len(store)} fields")
    return store


def refuse_what_teaches_nothing(store: LabelledFields, metric: Metric, data: Data) -> None:
    """Refuse labels from which nothing can be learnt.

    Raises:
        DataError: a split without fields, or labels that are the same for all fields.
    """
    for role, number in store.counts.items():
        if not number:
            raise DataError(f"{data.title} holds no usable field for the {role} split; give it more data")
    if store.constant_outputs() == store.outputs:
        raise DataError(
            f"constant output: {metric.title} is the same for all {len(store)} fields, so that there is "
            "nothing to learn; choose other thresholds, outputs or fields"
        )


def labels_path(folder: Path) -> Path:
    """Where a run keeps its labels."""
    return folder / "labels.h5"
