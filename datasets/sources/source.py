"""What a source of fields is, and how its chunks are shared out between training and testing."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError
from ...foundation.arguments import as_natural
from ...foundation.durations import as_duration

ROLES = ("train", "validation", "test", "unused")
"""The parts that a chunk can play; the fields of an unused chunk are never read."""


FEWEST_VALUES = 16
"""Distinct values of a few fields that tell the step between those of all."""


class FieldSource(abc.ABC):
    """Fields in physical units, in numbered chunks that can be read alone and in any order.

    A source is cheap to build and to pickle: it opens files only inside `read`, so that chunks can be read
    from any thread or process. To add a source, subclass this, set the attributes below, write the three
    methods and register the class by `emuloss.datasets.SOURCES.register(scheme)`; a package may offer it as
    an entry point of the group "emuloss.sources" instead.

    Attributes:
        name: What the source is called in reports and in the store.
        unit: Physical unit of the values, such as "mm/h".
        pixel_size: Side of a pixel, in `length_unit`.
        length_unit: Unit of the pixel size; "pixel" where the data do not say.
        chronological: Whether chunks are ordered in time. Their splits then keep a gap before the test
            period; otherwise chunks must be exchangeable.
        quantum: Step that the values lie apart, or None where they are continuous.
        dry: Value of the pixels where there is nothing, such as 0 in rain; None where fields have no such
            value, or themselves tell it (see `emuloss.metrics.dry_value`).
        wet: Pixels above it count where thresholds are placed at quantiles of the data; None for those that
            are not dry.
        field_shape: Shape (H, W) of every field.
        times: Time (UTC) of each chunk, where the data tell, or of its first frame; None where they do not.
        ends: Time of the last frame of each chunk, where chunks hold several.
        skipped: Why each file was left out that does not fit or cannot be read, by its name; one that turns
            out to be unreadable when its chunk is read comes in then.
        describing: Entries of `config` that say what the values mean, such as their unit, and decide none of
            them: labels outlast a change of these.
    """

    name: str
    unit: str
    pixel_size: float
    length_unit: str = "pixel"
    chronological: bool
    quantum: float | None
    dry: float | None = None
    wet: float | None = None
    field_shape: tuple[int, int]
    times: Sequence[np.datetime64] | None = None
    ends: Sequence[np.datetime64] | None = None
    skipped: Mapping[str, str] = MappingProxyType({})
    describing: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def __len__(self) -> int:
        """Number of chunks."""

    @abc.abstractmethod
    def read(self, k: int, role: str) -> NDArray[np.float32]:
        """Read one chunk.

        Args:
            k: Number of the chunk, from 0.
            role: The split that the chunk belongs to. Only training fields may overlap one another.

        Returns:
            Fields of shape (n, H, W), float32, n >= 0; NaN where nothing was measured.

        Raises:
            DataError: If the chunk cannot be read.
        """

    @abc.abstractmethod
    def config(self) -> dict[str, Any]:
        """Everything that decides the values of the fields, as JSON-able data."""

    def file_of(self, k: int) -> str:
        """Name of the file that a chunk lies in, as `skipped` knows it; "" where that is not one file."""
        return ""


def assign_splits(
    source: FieldSource,
    *,
    train: int | None = None,
    validation: int | None = None,
    test: int | None = None,
    gap: int | str | timedelta | np.timedelta64 | None = None,
) -> list[str]:
    """Share the chunks of a source out between training, validation and test.

    The order is train, validation, gap, test: the last sixth is tested, and in a chronological source a gap
    of a twelfth is left unused before it, because neighbouring times show nearly the same weather. A twelfth
    validates; the rest trains. 24 radar composites give 16, 2, 2 (gap) and 4.

    Where the source tells the times of its chunks, this is their order, so that no test chunk is earlier than
    one that trains or validates; otherwise it is that of their numbers. Of several
    chunks at one time some may be tested and some not, unless the gap is a duration.

    Args:
        source: The source to share out.
        train: Number of training chunks; all that remain by default. Chunks left over are unused.
        validation: Number of validation chunks, if not the default share.
        test: Number of test chunks, if not the default share.
        gap: Number of unused chunks before the test chunks, if not the default share; or a duration, such as
            "3h", "90min" or a timedelta: all chunks that lie less than that before the first test chunk are
            unused.

    Returns:
        The role of each chunk: "train", "validation", "test" or "unused".

    Raises:
        ArgumentError: If a count is negative, the source has too few chunks, or the gap is a duration and the
            source does not tell the times of all its chunks.
    """
    n = len(source)
    for argument, count in (("train", train), ("validation", validation), ("test", test)):
        if count is not None:
            as_natural(argument, count)
    order = _in_order_of_time(source)
    n_test = max(1, round(n / 6)) if test is None else test
    n_gap = _length_of_gap(source, gap, order, n_test)
    n_validation = max(1, round(n / 12)) if validation is None else validation
    rest = n - n_test - n_gap - n_validation
    n_train = rest if train is None else train
    if rest < n_train or (train is None and n_train < 1):
        remedy = "give it more fields or a shorter gap" if n_gap else "give it more fields"
        raise ArgumentError(
            f"source {source.name!r} has {n} chunks, too few for {max(n_train, 1)} train, "
            f"{n_validation} validation, {n_gap} gap and {n_test} test chunks; {remedy}."
        )
    unused = rest - n_train
    in_order = (
        ["train"] * n_train
        + ["unused"] * unused
        + ["validation"] * n_validation
        + ["unused"] * n_gap
        + ["test"] * n_test
    )
    roles = np.empty(n, object)
    roles[order] = in_order
    return roles.tolist()


def _in_order_of_time(source: FieldSource) -> NDArray[np.intp]:
    """The chunks in order of time; of their numbers where times are the same, or not all of them known."""
    times = _times_of(source)
    return np.arange(len(source)) if times is None else np.argsort(times, kind="stable")


def _times_of(source: FieldSource) -> NDArray[np.datetime64] | None:
    """Time of each chunk, in microseconds; None where one of them is not known."""
    if source.times is None:
        return None
    times = np.asarray(source.times, "datetime64[us]")
    return None if np.isnat(times).any() else times


def _length_of_gap(source: FieldSource, gap: Any, order: NDArray[np.intp], n_test: int) -> int:
    """Number of chunks to leave unused before the test chunks, which are the last in an order.

    Raises:
        ArgumentError: The gap is neither a number nor a duration, or times are not known.
    """
    n = len(order)
    if gap is None:
        return round(n / 12) if source.chronological else 0
    if not isinstance(gap, str | timedelta | np.timedelta64):
        return as_natural("gap", gap)
    least, times = as_duration("gap", gap), _times_of(source)
    if times is None:
        raise ArgumentError(
            f"gap (={gap!r}) needs the times of the chunks, which source {source.name!r} does not tell; "
            "give a number of chunks instead"
        )
    first = n - n_test
    if not 0 < first < n:
        return 0
    ends = times if source.ends is None else np.asarray(source.ends, "datetime64[us]")
    near = np.flatnonzero(times[order[first]] - ends[order[:first]] < least)
    return first - int(near[0]) if len(near) else 0
