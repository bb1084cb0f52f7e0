"""The labelled store: fields and their exact curves in one HDF5 file, safe from interruption.

Each chunk of the source becomes a part file, which appears under its name only when it is complete; a run
that was killed goes on from the parts that it finds. At the end the parts are joined into the file asked for,
which again appears only when it is complete.

A metric of a prediction and an observation is labelled on pairs: the fields of the source are observations,
and predictions are made from them.
"""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ..errors import ArgumentError, DataError
from ..metrics import FunctionMetric
from ._interrupts import interrupts_deferred
from ._patches import natural, positive_int
from .engines import PREDICTIONS, Engine, Fields, Job, Labelled, engine_named
from .pairs import predictions_of
from .source import ROLES, FieldSource, assign_splits

if TYPE_CHECKING:
    from ..metrics import Metric

FORMAT = "emuloss labelled fields"
FORMAT_VERSION = 1
_TEMPORARY = ".tmp"


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
    file is finished, it returns it as it is. Parts live in the folder `path + ".parts"` until then.

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
        DataError: If the path or its parts hold other work, a chunk cannot be read, the metric fails on a
            field or breaks one of its own constraints (its values would be wrong), or the disk is full.
    """
    path = Path(path)
    natural("seed", seed)
    labelling = engine_named(engine, scheduler)
    roles = _check_splits(source, splits)
    workers = _usable_cores() if workers is None else positive_int("workers", workers)
    definition = _define(source, metric, roles, seed)
    parts = Path(f"{path}.parts")
    if path.exists():
        finished = LabelledFields(path)
        _refuse_difference(path, finished.definition, definition)
        shutil.rmtree(parts, ignore_errors=True)
        return finished
    with _disk_errors(path):
        _prepare_parts(parts, definition)
    wanted = [k for k, role in enumerate(roles) if role != "unused"]
    read = partial(_read_chunk, source, roles, metric.arity == 2, seed)
    # A KeyboardInterrupt that strikes within h5py is lost: its objects run callbacks that swallow it.
    with interrupts_deferred() as interrupted:
        job = Job(source, metric, wanted, read, workers, interrupted)
        _label_missing(job, labelling, parts, progress)
        with _disk_errors(path):
            _assemble(path, parts, definition, source, metric, wanted)
        shutil.rmtree(parts, ignore_errors=True)
        if interrupted():
            raise KeyboardInterrupt
    return LabelledFields(path)


class LabelledFields:
    """Reader of a labelled store.

    Attributes:
        path: The file.
        definition: What decides the content: the configurations of metric and source, and the roles of
            chunks.
        outputs: Names of the metric's outputs.
        units: Units of the outputs.
        thresholds: The metric's thresholds, in `unit`; empty for a metric without thresholds.
        unit: Physical unit of the fields.
        pixel_size: Side of a pixel.
        quantum: Step that the fields are multiples of, or None.
        field_shape: Shape (H, W) of a field.
        pairs: Whether the metric compares two fields.
        violations: Share of the labels that break each declared constraint of the metric: all are 0.
        package_version: Version of emuloss that labelled the fields.
    """

    def __init__(self, path: str | Path) -> None:
        """Open a store and read what it says about itself.

        Args:
            path: File that `label` wrote.

        Raises:
            DataError: If the file is missing, truncated, not a labelled store, or of an unknown version.
        """
        self.path = Path(path)
        with self._open() as file:
            if file.attrs.get("format") != FORMAT:
                raise DataError(
                    f"{self.path} is not a labelled store; write one with `emuloss.datasets.label`."
                )
            found = int(file.attrs["format_version"])
            if found != FORMAT_VERSION:
                raise DataError(
                    f"{self.path} has format version {found}, and this emuloss reads {FORMAT_VERSION}; "
                    "label the fields again or use the version of emuloss that wrote it."
                )
            about = json.loads(file.attrs["about"])
            self.definition: dict[str, Any] = json.loads(file["definition"].asstr()[()])
            self._roles = np.asarray(file["split"][()])
            shape = file["fields"].shape
            self.pairs: bool = PREDICTIONS in file
        self.outputs: tuple[str, ...] = tuple(about["outputs"])
        self.thresholds: tuple[float, ...] = tuple(about["thresholds"])
        self.units: tuple[str, ...] = tuple(about["units"])
        self.unit: str = about["unit"]
        self.pixel_size: float = about["pixel_size"]
        self.quantum: float | None = about["quantum"]
        self.violations: dict[str, float] = about["violations"]
        self.package_version: str = about["package_version"]
        self.field_shape: tuple[int, int] = (shape[1], shape[2])

    def __len__(self) -> int:
        return len(self._roles)

    @property
    def metric_config(self) -> dict[str, Any]:
        """Configuration of the metric: its name and arguments."""
        return self.definition["metric"]

    @property
    def source_config(self) -> dict[str, Any]:
        """Configuration of the source of the fields."""
        return self.definition["source"]

    @property
    def counts(self) -> dict[str, int]:
        """Number of fields in each split."""
        return {role: int((self._roles == i).sum()) for i, role in enumerate(ROLES) if role != "unused"}

    def split(self, name: str) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Read the fields and curves of a split into memory.

        Args:
            name: "train", "validation" or "test".

        Returns:
            Fields (n, H, W), float32, in `unit`, and curves (n, C, Q), float64, in the metric's units. Where
            the metric compares two fields, these are pairs (n, 2, H, W): prediction and observation.

        Raises:
            ArgumentError: If there is no such split.
            DataError: If the file cannot be read.
        """
        if name not in self.counts:
            raise ArgumentError(f"`name` (={name!r}) must be one of {', '.join(self.counts)}.")
        with self._open() as file:
            chosen = self._roles == ROLES.index(name)
            fields = _rows(file["fields"], chosen)
            if self.pairs:
                fields = np.stack([_rows(file[PREDICTIONS], chosen), fields], axis=1)
            return fields, _rows(file["curves"], chosen)

    def constant_outputs(self) -> tuple[str, ...]:
        """Outputs whose curve is the same for all fields: nothing can be learnt of them.

        Raises:
            DataError: If the file cannot be read.
        """
        with self._open() as file:
            curves = file["curves"][()]
        varies = (curves != curves[:1]).any(axis=(0, 2))
        return tuple(name for name, moves in zip(self.outputs, varies, strict=True) if not moves)

    @contextmanager
    def _open(self) -> Iterator[h5py.File]:
        if not self.path.is_file():
            raise DataError(
                f"{self.path} is not a file; write a labelled store with `emuloss.datasets.label`."
            )
        try:
            with h5py.File(self.path, "r") as file:
                yield file
        except (OSError, KeyError) as error:
            raise DataError(
                f"{self.path} is truncated or not a labelled store ({_first_line(error)}); "
                "label the fields again."
            ) from error


def _check_splits(source: FieldSource, splits: Sequence[str] | None) -> list[str]:
    roles = assign_splits(source) if splits is None else list(splits)
    if len(roles) != len(source):
        raise ArgumentError(
            f"`splits` has {len(roles)} roles, and source {source.name!r} has {len(source)} chunks."
        )
    for role in roles:
        if role not in ROLES:
            raise ArgumentError(f"`splits` holds {role!r}; roles are {', '.join(ROLES)}.")
    return roles


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux: respects containers and job schedulers
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _define(source: FieldSource, metric: Metric, roles: list[str], seed: int) -> dict[str, Any]:
    """What decides the content of a store, in the form that it has after a trip through JSON."""
    definition: dict[str, Any] = {"metric": metric.config(), "source": source.config(), "splits": roles}
    if metric.arity == 2:
        definition["pairs"] = {"seed": seed}
    if isinstance(metric, FunctionMetric):
        definition["code"] = metric.code
    return json.loads(json.dumps(definition))


def _refuse_difference(place: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    difference = _difference(found, wanted)
    if difference:
        raise DataError(f"{place} was made for other work: {difference}; choose another path or delete it.")


def _difference(found: Any, wanted: Any, name: str = "") -> str:
    """Describe the first difference between two JSON values in a few words; empty if they are equal."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in [*wanted, *(key for key in found if key not in wanted)]:
            inner = _difference(found.get(key), wanted.get(key), f"{name}.{key}" if name else key)
            if inner:
                return inner
        return ""
    return "" if found == wanted else f"{name} is {_short(found)} there and {_short(wanted)} here"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _prepare_parts(parts: Path, definition: dict[str, Any]) -> None:
    """Make the folder of parts, or check that it belongs to this work and sweep what a killed run left."""
    parts.mkdir(parents=True, exist_ok=True)
    for leftover in parts.glob(f"*{_TEMPORARY}"):
        leftover.unlink(missing_ok=True)
    described = parts / "definition.json"
    if described.exists():
        _refuse_difference(parts, json.loads(described.read_text()), definition)
    else:
        _write_safely(described, json.dumps(definition, indent=1).encode())


def _label_missing(job: Job, engine: Engine, parts: Path, progress: bool) -> None:
    """Have an engine label the chunks that have no part yet, and write the part of each."""
    missing = [k for k in job.chunks if not _part(parts, k).exists()]
    total = len(job.chunks)
    bar = tqdm(total=total, initial=total - len(missing), unit="chunk", disable=not progress)
    began, done = time.monotonic(), 0
    with bar, closing(engine(job._replace(chunks=missing))) as finished:
        for chunk in finished:
            _write_part(parts, chunk)
            done += len(chunk.curves)
            bar.set_postfix_str(f"{done / (time.monotonic() - began):.3g} fields/s", refresh=False)
            bar.update()


def _read_chunk(source: FieldSource, roles: list[str], pairs: bool, seed: int, k: int) -> Fields:
    """The fields of a chunk, with predictions of them, which come first, where pairs are asked for."""
    fields = np.ascontiguousarray(source.read(k, roles[k]), np.float32)
    if fields.ndim != 3 or fields.shape[1:] != tuple(source.field_shape):
        raise DataError(
            f"source {source.name!r} gave shape {fields.shape} for chunk {k}; "
            f"its fields have shape {tuple(source.field_shape)}."
        )
    if not pairs:
        return {"fields": fields}
    return {PREDICTIONS: predictions_of(fields, np.random.default_rng([seed, k])), "fields": fields}


def _write_part(parts: Path, chunk: Labelled) -> None:
    """Write a finished chunk."""
    image = io.BytesIO()  # written to the disk in one piece, so that a full disk is met outside HDF5
    with h5py.File(image, "w") as memory:
        if len(chunk.curves):
            for name, values in chunk.fields.items():
                _create_fields(memory, name, values.shape)[...] = values
            memory["curves"] = chunk.curves
        memory.attrs["count"] = len(chunk.curves)
    with _disk_errors(parts):
        _write_safely(_part(parts, chunk.k), image.getbuffer())


def _create_fields(file: h5py.File, name: str, shape: tuple[int, ...]) -> h5py.Dataset:
    """One compressed block for each field, so that finished blocks move between files as they are."""
    return file.create_dataset(
        name, shape, np.float32, chunks=(1, *shape[1:]), compression="gzip", compression_opts=1
    )


def _part(parts: Path, k: int) -> Path:
    return parts / f"{k:06d}.h5"


def _assemble(
    path: Path,
    parts: Path,
    definition: dict[str, Any],
    source: FieldSource,
    metric: Metric,
    wanted: list[int],
) -> None:
    """Join the parts into the finished file."""
    counts = {}
    for k in wanted:
        with _open_part(_part(parts, k)) as part:
            counts[k] = int(part.attrs["count"])
    total = sum(counts.values())
    if not total:
        raise DataError(f"source {source.name!r} has no field to label; loosen what it asks of its fields.")
    chunks = np.repeat(np.array(wanted, np.int32), list(counts.values()))
    codes = np.array([ROLES.index(role) for role in definition["splits"]], np.uint8)
    about = {
        "outputs": list(metric.outputs),
        "thresholds": [float(u) for u in metric.thresholds],
        "units": list(metric.units),
        "unit": source.unit,
        "pixel_size": source.pixel_size,
        "quantum": source.quantum,
        "package_version": version("emuloss"),
    }
    unfinished = parts / f"assembled{_TEMPORARY}"
    with h5py.File(unfinished, "w") as file:
        names = ("fields", PREDICTIONS) if metric.arity == 2 else ("fields",)
        stored = {name: _create_fields(file, name, (total, *source.field_shape)) for name in names}
        start = 0
        curves = []
        for k, count in counts.items():
            if count:
                blocks, part_curves = _read_part(_part(parts, k), count, names)
                for name, found in blocks.items():
                    for i, (mask, block) in enumerate(found, start):
                        stored[name].id.write_direct_chunk((i, 0, 0), block, mask)
                curves.append(part_curves)
            start += count
        labels = np.concatenate(curves)
        file["curves"] = labels
        file["split"] = codes[chunks]
        file["split"].attrs["roles"] = json.dumps(ROLES)
        file["chunk"] = chunks
        file.attrs["format"] = FORMAT
        file.attrs["format_version"] = FORMAT_VERSION
        file["definition"] = json.dumps(definition)  # an attribute holds 64 kB at most
        file.attrs["about"] = json.dumps({**about, "violations": metric.check(labels, source.field_shape)})
    _publish(unfinished, path)


@contextmanager
def _open_part(path: Path) -> Iterator[h5py.File]:
    try:
        with h5py.File(path, "r") as part:
            yield part
    except (OSError, KeyError) as error:
        raise DataError(
            f"part {path} cannot be read ({_first_line(error)}); delete it and run again."
        ) from error


def _read_part(
    path: Path, count: int, names: Sequence[str]
) -> tuple[dict[str, list[tuple[int, bytes]]], NDArray[np.float64]]:
    """Read the fields of a part as compressed blocks, each with its filter mask, and their curves."""
    with _open_part(path) as part:
        blocks = {name: [part[name].id.read_direct_chunk((i, 0, 0)) for i in range(count)] for name in names}
        return blocks, part["curves"][()]


def _write_safely(path: Path, content: bytes | memoryview) -> None:
    """Write a file that appears under its name only when all of it is on the disk."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}{_TEMPORARY}")
    temporary.write_bytes(content)
    _publish(temporary, path)


def _publish(temporary: Path, path: Path) -> None:
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Turn a full or unwritable disk into a DataError of one line."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # h5py reports a failed write as either
        if getattr(error, "errno", None) == errno.ENOSPC or f"errno = {errno.ENOSPC}," in str(error):
            raise DataError(f"the disk of {path} is full; free some space and run again to go on.") from error
        if isinstance(error, RuntimeError):
            raise
        raise DataError(
            f"{path} cannot be written ({_first_line(error)}); check the folder and its rights."
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _rows(dataset: h5py.Dataset, chosen: NDArray[np.bool_]) -> NDArray[Any]:
    """The chosen rows of a dataset, read run by run."""
    rows = np.empty((int(chosen.sum()), *dataset.shape[1:]), dataset.dtype)
    start = 0
    for first, last in _runs(chosen):
        stop = start + last - first
        if stop > start:
            dataset.read_direct(rows, np.s_[first:last], np.s_[start:stop])
        start = stop
    return rows


def _runs(chosen: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and one past the last index of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], chosen, [False])).astype(np.int8)))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]
