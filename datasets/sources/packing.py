"""What the numbers in a file mean: a scale and an offset, and markers of what was not measured.

These are the conventions of NetCDF and CF (Eaton et al., "NetCDF Climate and Forecast (CF) Metadata
Conventions", sections 2.5 and 8.1), which HDF5 and Zarr files use as well. Numbers that are packed in another
way are refused: read as they stand they would be wrong without a word.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ...errors import ArgumentError, DataError
from ...foundation.arguments import as_real, filled, shown
from ...foundation.attributes import number_of, numbers_of, spelled, text_of

_MISSING = ("fillvalue", "missingvalue", "codemissingvalue", "nodata", "nodatavalue")
_UNWRITTEN = {"f4": 9.969209968386869e36, "f8": 9.969209968386869e36, "i2": -32767, "i4": -2147483647}
"""What the NetCDF library leaves in numbers that nobody wrote, by their type."""
_ELSEWHERE = re.compile(
    r"(radiance|reflectance|(brightness)?temperature|(corrected)?counts?|data|pixel|value|raw)?"
    r"(?P<kind>gain|slope|scales?|scaling|scal(e|ing)factors?|multiplier|offset|addoffset|intercept|undetect)s?"
    r"|(?P<formula>calibration(formula|equation|coefficient|constant|slope|gain|offset|factor)s?)"
)
"""Names, without case and punctuation, by which other formats tell how numbers are packed."""
_NEUTRAL = ("gain", "slope", "scale", "scaling", "multiplier")
"""Those that change nothing where they are 1; the others change nothing where they are 0."""

Attributes = Mapping[str, Any]


@dataclass(frozen=True)
class Packing:
    """How values are found from packed numbers: scale * number + offset, NaN where there is none.

    Attributes:
        scale: Value of one, less that of 0.
        offset: Value of the number 0.
        whole: Whether the numbers are whole.
        missing: Numbers that stand for nothing measured.
        valid: Least and greatest number that stands for a value.
        unsigned: Whether whole numbers are meant without their sign.
    """

    scale: float = 1.0
    offset: float = 0.0
    whole: bool = False
    missing: tuple[float, ...] = ()
    valid: tuple[float, float] = (-np.inf, np.inf)
    unsigned: bool = False

    @property
    def scales(self) -> bool:
        """Whether values differ from the numbers."""
        return self.scale != 1 or self.offset != 0

    @property
    def step(self) -> float | None:
        """Distance of the values of whole numbers that are scaled; None of others."""
        return abs(self.scale) if self.whole and self.scale != 1 else None

    def unpacked(self, numbers: Any) -> NDArray[np.float32]:
        """Values of packed numbers, of the same shape."""
        raw = filled(numbers)
        if raw.dtype.kind in "iu" and raw.dtype.itemsize < 4 and raw.size > 2 ** (8 * raw.dtype.itemsize):
            # There are fewer numbers than pixels: the value of each is looked up.
            return _values_of_all(self, raw.dtype.newbyteorder("=")).take(
                raw.view(raw.dtype.str.replace("i", "u"))
            )
        return self._computed(raw)

    def _computed(self, raw: NDArray[Any]) -> NDArray[np.float32]:
        """Values of numbers without a mask."""
        if self.unsigned and raw.dtype.kind == "i":
            raw = raw.astype(raw.dtype.newbyteorder("=")).view(f"u{raw.dtype.itemsize}")
        with np.errstate(over="ignore"):  # markers, which are left out below
            scaled = raw.astype(np.float64) * self.scale + self.offset if self.scales else raw
            values = np.asarray(scaled, np.float32)
        gone = [equals(raw, marker) for marker in self.missing]
        if self.valid != (-np.inf, np.inf):
            gone.append((raw < self.valid[0]) | (raw > self.valid[1]))
        if not np.any(gone):
            return values
        return np.where(np.logical_or.reduce(gone), np.float32(np.nan), values)


@functools.lru_cache(maxsize=8)
def _values_of_all(packing: Packing, kind: np.dtype[Any]) -> NDArray[np.float32]:
    """Values of all whole numbers of a type, from 0 up, and then of those below 0."""
    plain = np.dtype(f"u{kind.itemsize}")
    return packing._computed(np.arange(2 ** (8 * kind.itemsize), dtype=plain).view(kind))


def packing_of(
    attributes: Attributes,
    kind: DTypeLike,
    what: str,
    *,
    around: Sequence[tuple[str, Attributes]] = (),
    nodata: Sequence[float] = (),
) -> Packing:
    """How the numbers of an array are packed, from its attributes and those of the groups around it.

    Args:
        attributes: Of the array.
        kind: Type of its numbers.
        what: What messages call it.
        around: Name and attributes of each group that may tell something about it.
        nodata: More numbers that stand for nothing measured.

    Raises:
        DataError: Attributes say that the numbers are packed in a way that is not known here.
    """
    own = {plain: value for plain, _, value in spelled(attributes)}
    dtype = np.dtype(kind)
    scale, offset = _linear(own, what)
    _refuse_unknown([("", attributes), *around], what)
    unsigned = text_of(own.get("unsigned")).casefold() == "true"
    size = 2 ** (8 * dtype.itemsize) if unsigned and dtype.kind == "i" else 0
    markers = list(nodata)
    # Of whole numbers a marker of the file's own takes the place of that of the library.
    unwritten = _UNWRITTEN.get(f"{dtype.kind}{dtype.itemsize}")
    if attributes and unwritten and (dtype.kind == "f" or not (unsigned or "fillvalue" in own)):
        markers.append(unwritten)
    for each in (attributes, *(attributes for _, attributes in around)):
        markers += [
            number for plain, _, value in spelled(each) if plain in _MISSING for number in numbers_of(value)
        ]
    low, high = _valid(own, what)
    if dtype.kind in "iu" and any(_is_float(own.get(f"valid{name}")) for name in ("range", "min", "max")):
        # Bounds of another type than the numbers are bounds of the values.
        low, high = sorted(((low - offset) / scale, (high - offset) / scale))
    low, high, *markers = (number + size if number < 0 else number for number in (low, high, *markers))
    return Packing(scale, offset, dtype.kind in "iu", tuple(markers), (low, high), unsigned)


def as_markers(nodata: Any) -> tuple[float, ...]:
    """Validate numbers that stand for nothing measured: none, one or several.

    Raises:
        ArgumentError: they are no numbers.
    """
    if nodata is None:
        return ()
    given = list(nodata) if isinstance(nodata, list | tuple | np.ndarray) else [nodata]
    markers = tuple(as_real(each) for each in given)
    if any(np.isnan(markers)):
        raise ArgumentError(f"nodata must be a number such as 255, or several, got {shown(nodata)}")
    return markers


def equals(numbers: NDArray[Any], marker: float) -> NDArray[np.bool_]:
    """Where numbers are a marker, which may have been written with other rounding."""
    if np.isnan(marker):
        return np.isnan(numbers) if numbers.dtype.kind == "f" else np.zeros(numbers.shape, bool)
    if numbers.dtype.kind != "f":
        return numbers == marker
    if abs(marker) > np.finfo(numbers.dtype).max:  # an infinity, or what no number of this type is
        return numbers == np.copysign(np.inf, marker) if np.isinf(marker) else np.zeros(numbers.shape, bool)
    return np.abs(numbers - marker) <= 1e-6 * abs(marker)


def _linear(own: Attributes, what: str) -> tuple[float, float]:
    """Scale and offset; 1 and 0 where there are none."""
    found = []
    for plain, name, default in (("scalefactor", "scale_factor", 1.0), ("addoffset", "add_offset", 0.0)):
        number = number_of(own[plain]) if plain in own else default
        if number is None or not np.isfinite(number) or (number == 0 and default):
            raise DataError(
                f"{what}: attribute {name} (={own[plain]!r}) must be one number; unpack the values yourself."
            )
        found.append(number)
    return found[0], found[1]


def _valid(own: Attributes, what: str) -> tuple[float, float]:
    """Least and greatest number that stands for a value."""
    bounds = numbers_of(own.get("validrange"))
    if bounds and len(bounds) != 2:
        raise DataError(f"{what}: attribute valid_range (={own['validrange']!r}) must be two numbers.")
    low, high = bounds or (number_of(own.get("validmin")), number_of(own.get("validmax")))
    return -np.inf if low is None else low, np.inf if high is None else high


def _is_float(value: Any) -> bool:
    return value is not None and np.asarray(value).dtype.kind == "f"


def _refuse_unknown(places: Sequence[tuple[str, Attributes]], what: str) -> None:
    """Refuse numbers of which some attribute says that they are packed in a way that is not known here."""
    for place, name, value in _unknown(places):
        remedy = "unpack the values yourself and give them as an array"
        if place.casefold().endswith("what"):
            remedy = "read the folder as opera:FOLDER, or unpack the values yourself"
        where = f" of /{place}" if place else ""
        found = shown(text_of(value) or np.asarray(value).tolist())
        raise DataError(
            f"{what}: attribute {name} (={found}){where} says that its numbers are packed; {remedy}."
        )


def _unknown(places: Sequence[tuple[str, Attributes]]) -> Iterator[tuple[str, str, Any]]:
    """(place, name, value) of each attribute that packs numbers in a place or way that is not known here."""
    for place, attributes in places:
        for plain, name, value in spelled(attributes):
            known = plain in ("scalefactor", "addoffset") and not place
            match = None if known else _ELSEWHERE.fullmatch(plain)
            if match and (match["formula"] or not _changes_nothing(match["kind"], value)):
                yield place, name, value


def _changes_nothing(kind: str, value: Any) -> bool:
    """Whether numbers are values all the same: a gain of 1, an offset of 0, a text that is no number."""
    return all(number == float(kind.startswith(_NEUTRAL)) for number in numbers_of(value))
