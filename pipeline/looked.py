"""What a source of fields was found to be, in numbers and in words."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

_WIDTH = 92
"""Characters of a line of text beside its title."""
_GAPS_TOLD = 3
_TOLERANCE = 1.5
"""Times are a gap apart where that is so many times their step."""


class Times(NamedTuple):
    """When the chunks of a source were measured.

    Attributes:
        first: The earliest time, UTC.
        last: The latest.
        step: How far apart most of them are; None where all are the same.
        gaps: Time before and time after each gap.
        repeated: Chunks whose time another chunk has, too.
    """

    first: np.datetime64
    last: np.datetime64
    step: np.timedelta64 | None
    gaps: tuple[tuple[np.datetime64, np.datetime64], ...]
    repeated: int

    @classmethod
    def of(cls, times: Sequence[np.datetime64] | None) -> Times | None:
        """Those of chunks; None where they are not told."""
        known = np.asarray([] if times is None else times, "datetime64[s]")
        known = np.sort(known[~np.isnat(known)])
        if not known.size:
            return None
        distinct = np.unique(known)
        apart = np.diff(distinct)
        steps, counts = np.unique(apart, return_counts=True)
        step = steps[counts.argmax()] if steps.size else None
        gaps = tuple(
            (distinct[k], distinct[k + 1])
            for k, each in enumerate(apart)
            if step is not None and each > _TOLERANCE * step
        )
        return cls(known[0], known[-1], step, gaps, len(known) - len(distinct))

    def __str__(self) -> str:
        told = f"{minute(self.first)} to {minute(self.last, self.first)} UTC"
        if self.step is None:
            return f"{minute(self.first)} UTC" if not self.repeated else f"{told}, all the same"
        told += f", every {duration(self.step)}"
        if self.repeated:
            told += f", {counted(self.repeated, 'time')} repeated"
        if not self.gaps:
            return f"{told}, no gap"
        shown = [f"{minute(start)} to {minute(end, start)}" for start, end in self.gaps[:_GAPS_TOLD]]
        more = ", ..." if len(self.gaps) > _GAPS_TOLD else ""
        return f"{told}, {counted(len(self.gaps), 'gap')}: {', '.join(shown)}{more}"


@dataclass(frozen=True)
class Look:
    """What a source of fields is, as far as some of its chunks tell; printed, it is a table.

    Attributes:
        source: What the source is called.
        chunks: Number of its chunks, such as files or time steps.
        read: Numbers of those that were read.
        fields: Number of fields in these.
        shape: Of a field, (H, W).
        unit: Of the values; empty where it is not told.
        pixel_size: Side of a pixel, in `length_unit`.
        length_unit: Unit of the pixel size; "pixel" where it is not told.
        quantum: Step that the values lie apart; None where they are continuous.
        dry: Value up to which pixels count as dry: what the source says, or else what the values tell; None
            where there is none.
        missing: Share of the pixels that were not measured; None where no field was read.
        above: Share of the measured pixels above `dry`; None where that is none, or nothing was measured.
        least: Least value; None where nothing was measured.
        greatest: Greatest value.
        marker: Value that may stand for nothing measured; None where none looks like it.
        quantiles: Values by level, of those above `dry`: of a sample spread over all that was read.
        times: When chunks were measured; None where it is not told.
        splits: Number of chunks in each role; none where there are too few chunks.
        tested_from: Earliest time of the chunks kept for the test; None where it is not told.
        too_few: Why the chunks cannot be shared out between training and testing; empty where they can.
        skipped: Why each file was left out, by its name.
        unreadable: What is wrong with each chunk that could not be read, by its number.
    """

    source: str
    chunks: int
    read: tuple[int, ...]
    fields: int
    shape: tuple[int, int]
    unit: str
    pixel_size: float
    length_unit: str
    quantum: float | None
    dry: float | None
    missing: float | None
    above: float | None
    least: float | None
    greatest: float | None
    marker: float | None
    quantiles: Mapping[float, float]
    times: Times | None
    splits: Mapping[str, int]
    tested_from: np.datetime64 | None
    too_few: str
    skipped: Mapping[str, str]
    unreadable: Mapping[int, str]

    def __str__(self) -> str:
        rows = [(title, textwrap.wrap(text, _WIDTH)) for title, text in self._rows()]
        width = max(len(title) for title, _ in rows)
        return "\n".join(
            f"{'' if k else title:{width}}  {line}" for title, lines in rows for k, line in enumerate(lines)
        )

    def _rows(self) -> Iterator[tuple[str, str]]:
        """Title and text of each row."""
        yield "source", self.source
        yield "chunks", f"{self.chunks:,}" + self._share_read()
        height, width = self.shape
        yield "fields", f"{self._count()}, {height} x {width} pixels {self._pixels()}"
        yield "times", "not told" if self.times is None else str(self.times)
        yield "unit", self.unit or "not told; give `unit`"
        yield "steps", "none, continuous" if self.quantum is None else self._with_unit(f"{self.quantum:.6g}")
        if self.missing is not None:
            yield "missing", f"{percent(self.missing)} of the pixels"
        elif len(self.unreadable) < len(self.read):
            yield "missing", "too much in every field; give a lower `min_coverage` or a smaller `size`"
        if self.least is not None:
            yield "range", self._with_unit(f"{self.least:.6g} to {self.greatest:.6g}")
        if self.marker is not None:
            yield "marker?", f"{self.marker:.6g} may stand for nothing measured; name it by `nodata`"
        if self.above is not None:
            yield f"above {self.dry:.6g}", f"{percent(self.above)} of the measured pixels"
        if self.quantiles:
            shown = (f"{100 * level:g} %: {value:.4g}" for level, value in self.quantiles.items())
            yield (
                "quantiles",
                f"{', '.join(shown)}" + ("" if self.dry is None else f" (above {self.dry:.6g})"),
            )
        if self.too_few:
            yield "splits", f"none: {self.too_few}"
        else:
            yield "splits", self._splits()
        if self.skipped:
            name, reason = next(iter(self.skipped.items()))
            yield "left out", f"{counted(len(self.skipped), 'file')}, first {name}: {reason}"
        if self.unreadable:
            k, reason = next(iter(self.unreadable.items()))
            yield "unreadable", f"{len(self.unreadable)} of these chunks, first {k}: {reason}"

    def _share_read(self) -> str:
        """How many of the chunks were read, where that is not all."""
        return "" if len(self.read) == self.chunks else f", {len(self.read)} of them read"

    def _count(self) -> str:
        """Number of fields, or about how many there are where not all chunks were read."""
        if len(self.read) == self.chunks:
            return f"{self.fields:,}"
        about = float(f"{self.fields / len(self.read) * self.chunks:.2g}")
        return f"{self.fields:,} in these, about {about:,.0f} in all"

    def _pixels(self) -> str:
        """Size of a pixel in words."""
        if self.length_unit == "pixel" and self.pixel_size == 1:
            return "of a size that is not told"
        return f"of {self.pixel_size:g} {self.length_unit}"

    def _splits(self) -> str:
        """Chunks in each role, in words."""
        told = "chunks: " + ", ".join(f"{number} {role}" for role, number in self.splits.items() if number)
        return told if self.tested_from is None else f"{told}; test from {minute(self.tested_from)} UTC"

    def _with_unit(self, text: str) -> str:
        return f"{text} {self.unit}".rstrip()


def minute(time: np.datetime64, other: np.datetime64 | None = None) -> str:
    """A time in words, to the minute; without the date where that is the day of another time."""
    date, _, text = np.datetime_as_string(time, "m").partition("T")
    same = other is not None and date == np.datetime_as_string(other, "D")
    return text if same else f"{date} {text}"


def duration(span: np.timedelta64) -> str:
    """A duration in words, in the largest unit of which it has a whole number: "15 min"."""
    seconds = int(span / np.timedelta64(1, "s"))
    for name, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return "day" if name == "days" and seconds == size else f"{seconds // size} {name}"
    return f"{seconds} s"


def percent(share: float) -> str:
    """A share in words; what is not quite none or all is told from it."""
    if share in (0, 1):
        return f"{100 * share:.0f} %"
    return "< 0.01 %" if share < 1e-4 else "> 99.99 %" if share > 1 - 1e-4 else f"{100 * share:.3g} %"


def counted(number: int, noun: str) -> str:
    """A number of things in words."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
