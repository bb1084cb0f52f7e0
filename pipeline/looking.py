"""Looking at fields before they are labelled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets import ROLES, FieldSource, assign_splits
from ..datasets.sources.opening import as_source
from ..errors import ArgumentError, DataError
from ..foundation.bars import counted
from ..foundation.options import flat
from ..metrics import dry_value
from .looked import Look, Times, minute
from .places import as_writable
from .settings import Data, Looking

LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
"""Levels of the quantiles that are told."""
_SAMPLED = 2**22
"""Most values that quantiles are taken of."""
_MANY = 1e-3
"""Share of the pixels that a value has to have at least to be taken for a marker."""
_SHOWN = 8
"""Most fields in a picture."""
_KEPT = 4 * _SHOWN
"""Most chunks whose fields may be drawn: some may have none."""
_SIDE = 700
"""Most pixels along a side of a field in a picture; of larger ones every second, third, ... is drawn."""

Fields = NDArray[np.float32]


@flat(Data, Looking)
def look(data: Data, looking: Looking) -> Look:
    """Look at fields before they are labelled: how many there are, when, in which unit, and what is missing.

    A few chunks, spread over all of them, are read one after the other.

        print(emuloss.look(fields="opera:FOLDER", picture="fields.png"))

    Returns:
        What was found; printed, it is a table.

    Raises:
        ArgumentError: an option that cannot be used.
        DataError: fields that cannot be opened, or none of the chunks can be read; a picture that cannot be
            written.
    """
    if looking.picture is not None:
        as_writable(looking.picture.parent)
    source = as_source(data.fields, **{"seed": looking.seed, **data.opened_with})
    seen = _Seen(source)
    chunks = _spread(len(source), looking.chunks)
    drawn = [chunks[i] for i in _spread(len(chunks), _KEPT)] if looking.picture is not None else []
    for k in counted(chunks, "reading", "chunk", looking.progress):
        seen.take(k, -(-_SHOWN // len(drawn)) if k in drawn else 0)
    if len(seen.unreadable) == len(chunks):
        raise DataError(seen.unreadable[chunks[0]])
    found = seen.told(data.title, chunks, **_splits(source, data))
    if looking.picture is not None:
        seen.draw(looking.picture, found)
    return found


class _Seen:
    """What was met in the chunks of a source so far, in bounded memory."""

    def __init__(self, source: FieldSource) -> None:
        self.source = source
        self.unreadable: dict[int, str] = {}
        self._fields = self._pixels = self._measured = 0
        self._least, self._greatest = np.inf, -np.inf
        self._sample, self._step = np.empty(0, np.float32), 1
        self._shown: list[tuple[str, Fields]] = []

    def take(self, k: int, shown: int) -> None:
        """Read a chunk, and keep so many of its fields to be drawn."""
        try:
            fields = self.source.read(k, "test")
        except DataError as error:
            self.unreadable[k] = str(error)
            return
        known = fields[~np.isnan(fields)]
        self._fields += len(fields)
        self._pixels += fields.size
        self._measured += known.size
        self._least = min(self._least, float(known.min(initial=np.inf)))
        self._greatest = max(self._greatest, float(known.max(initial=-np.inf)))
        # Every so many-th value of all: more seldom, once there are too many.
        self._sample = np.append(self._sample, known[:: self._step])
        while self._sample.size > _SAMPLED:
            self._sample, self._step = self._sample[::2], 2 * self._step
        for i in _most_telling(fields, self._dry_of(known))[: shown if known.size else 0]:
            by = -(-max(fields.shape[1:]) // _SIDE)
            self._shown.append((self._name_of(k, int(i), len(fields)), fields[i, ::by, ::by].copy()))

    def told(self, title: str, chunks: Sequence[int], **splits: Any) -> Look:
        """What all that tells."""
        source, dry = self.source, self._dry_of(self._sample)
        counts = self._sample if dry is None else self._sample[self._sample > dry]
        quantiles = np.quantile(counts.astype(np.float64), LEVELS).tolist() if counts.size else ()
        anything = self._measured > 0
        return Look(
            source=title,
            chunks=len(source),
            read=tuple(chunks),
            fields=self._fields,
            shape=source.field_shape,
            unit=source.unit,
            pixel_size=source.pixel_size,
            length_unit=source.length_unit,
            quantum=source.quantum,
            dry=dry,
            missing=1 - self._measured / self._pixels if self._pixels else None,
            above=counts.size / self._sample.size if anything and dry is not None else None,
            least=self._least if anything else None,
            greatest=self._greatest if anything else None,
            marker=_marker_in(self._sample, dry),
            quantiles=dict(zip(LEVELS, quantiles, strict=False)),
            times=Times.of(source.times),
            **splits,
            skipped=dict(source.skipped),
            unreadable=self.unreadable,
        )

    def draw(self, picture: Path, found: Look) -> None:
        """Draw the fields that were kept.

        Raises:
            DataError: there are none, or the picture cannot be written.
        """
        if not self._shown or found.least is None:
            raise DataError(
                f"{found.source} has no field to draw in the chunks that were read; read more chunks"
            )
        from ..evaluation.samples import draw_samples  # what draws is slow to import

        some = [self._shown[i] for i in _spread(len(self._shown), _SHOWN)]
        titles, fields = zip(*some, strict=True)
        draw_samples(
            picture,
            fields,
            titles=titles,
            name=found.source,
            unit=found.unit,
            dry=found.dry,
            lowest=next(iter(found.quantiles.values()), None),
        )

    def _dry_of(self, values: NDArray[Any]) -> float | None:
        """Value up to which pixels do not count."""
        told = self.source.dry if self.source.wet is None else self.source.wet
        return dry_value(values) if told is None and values.size else told

    def _name_of(self, k: int, i: int, count: int) -> str:
        """What a picture calls a field of a chunk."""
        name = f"chunk {k}" if self.source.times is None else minute(self.source.times[k])
        return name if count == 1 else f"{name}, field {i}"


def _marker_in(values: NDArray[Any], dry: float | None) -> float | None:
    """The least or greatest of some values, if it is one that nobody would measure, but many have.

    It lies farther from all others than these from one another, such as 9999; or it is negative, and most are
    0, such as -3 in rain.
    """
    distinct, counts = np.unique(values.astype(np.float64), return_counts=True)
    if len(distinct) < 3:
        return None
    mode = distinct[counts.argmax()]
    for end, others in ((0, distinct[1:]), (-1, distinct[:-1])):
        value, share = distinct[end], counts[end] / values.size
        apart = np.abs(others - value).min() > np.ptp(others)
        if value != dry and share >= _MANY and (apart or (value < 0 and mode == 0)):
            return float(value)
    return None


def _spread(count: int, most: int) -> list[int]:
    """Some of so many chunks, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int)).tolist()


def _most_telling(fields: Fields, dry: float | None) -> NDArray[np.intp]:
    """The fields in order of the share of their pixels that count; where all do, of those measured."""
    with np.errstate(invalid="ignore"):
        counts = ~np.isnan(fields) if dry is None else fields > dry
    return np.argsort(-counts.sum(axis=(1, 2)), kind="stable")


def _splits(source: FieldSource, data: Data) -> dict[str, Any]:
    """What `Look` tells about how the chunks are shared out."""
    try:
        gap = data.gap_chunks if data.gap is None else data.gap
        roles = assign_splits(source, test=data.test_chunks, gap=gap)
    except ArgumentError as error:
        return {"splits": {}, "tested_from": None, "too_few": str(error)}
    tested = [k for k, role in enumerate(roles) if role == "test"]
    times = np.asarray([] if source.times is None else [source.times[k] for k in tested], "datetime64[s]")
    return {
        "splits": {role: roles.count(role) for role in ROLES},
        "tested_from": times.min() if times.size else None,
        "too_few": "",
    }
