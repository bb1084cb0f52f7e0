"""Files of weather services, as the importers of pysteps read them.

Pulkkinen et al. (2019), "Pysteps: an open-source Python library for probabilistic precipitation nowcasting
(v1.0)", Geoscientific Model Development 12, 4185-4219.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError, DataError
from ...foundation.arguments import as_name, as_positive, as_positives, shown
from ...foundation.attributes import number_of, text_of
from ...foundation.units import conversion
from .archive import SAME_SIZE, Archive, Entry, MisfitError, Told, files_in
from .file_times import Times, reader_of, times_in
from .grids import Coordinate, Grid, grid_of
from .packing import equals
from .pysteps_importers import (
    Described,
    Importer,
    arguments_of,
    check_arguments,
    check_importer,
    described,
)
from .reflectivity import MARSHALL_PALMER, is_reflectivity, rain_of
from .tiling import Crop, Size

_RATE, _DEPTH = "mm/h", "mm"
_UNTIMED = ("odim_hdf5", "opera_hdf5", "mch_hdf5", "knmi_hdf5")
"""Importers that tell one accumulation time, whatever a file holds."""
_FAINT = 0.0
"""Largest reflectivity, in dBZ, that counts as no echo where an importer has it for its zero value: that of a
frame with echoes everywhere is the least of them."""


class _Kind(NamedTuple):
    """What an importer says of a file, which those of one archive have in common."""

    unit: str
    width: float | None
    height: float | None
    length_unit: str


class PystepsFiles(Archive):
    """Files that an importer of pysteps reads, one a chunk, in order of the times that their names tell.

    Rain comes in mm/h: accumulations become rates where their time is known, and reflectivity becomes rain by
    the importer's relation Z = a R^b, or that of Marshall and Palmer (a = 200, b = 1.6); pixels at its zero
    value are then 0. `to_unit="mm"` and `to_unit="dBZ"` keep what is in the files. Values in other units are
    left as they are, and so are all whose `unit` is given, unless `to_unit` asks for more.

    An importer says what a file holds once it has read all of it, so one file tells what all are like, and
    others that differ show when they are read. By default the configuration of pysteps (pystepsrc) tells the
    importer's arguments and the times in names, if it knows files of such names. Files that end in .gz or
    .bz2 are unpacked.

    Attributes:
        importer: What reads the files.
        accutime: Accumulation time in minutes, where it is given.
    """

    name = "pysteps"

    def __init__(
        self,
        place: str,
        pattern: str = "*",
        accutime: float | None = None,
        zr: tuple[float, float] | None = None,
        time_format: str | None = None,
        size: Size = None,
        stride: Size = None,
        min_coverage: float | None = None,
        crop: Crop = None,
        coarsen: int = 1,
        wet: float | None = None,
        quantum: float | None = None,
        nodata: float | Sequence[float] | None = None,
        unit: str | None = None,
        to_unit: str | None = None,
        pixel_size: float | None = None,
        length_unit: str | None = None,
        skip_unreadable: bool = False,
        **arguments: Any,
    ) -> None:
        """Find the files, and read one to know what they hold and three to know how values are spaced.

        Args:
            place: Importer and folder, "fmi_pgm:FOLDER".
            pattern: Shell pattern of the file names; "**/" looks into subfolders, too.
            accutime: Accumulation time in minutes; by default what the importer knows.
            zr: a and b of Z = a R^b; by default the importer's.
            time_format: How names tell times, such as "AQC%y%j%H%M"; by default the digits tell.
            size: Size of the patches to cut, one number or (height, width); whole frames if None.
            stride: Distance between training patches; their size by default.
            min_coverage: Least share of measured pixels in a field; by default 0.9 of patches, and 0 of whole
                frames.
            crop: Part of each frame to take, (first row, first column, height, width); all of it if None.
            coarsen: Side of the square blocks of pixels whose means, after conversion, become the pixels of
                fields: 2 makes pixels of 2 km of those of 1 km. A block of which less than half was measured
                is NaN. Sizes and strides are in blocks, all else is told as it is in the data.
            wet: See `FieldSource`; by default the data tell.
            quantum: Step that the values lie apart; by default it is found in them, if they have one.
            nodata: More values, as the importer gives them, that stand for nothing measured.
            unit: Unit of the values that the importer gives; by default what it says. It converts nothing.
            to_unit: Unit to convert the values to; by default mm/h of rain.
            pixel_size: Side of a pixel, in `length_unit`; by default what the importer says.
            length_unit: Unit of the pixel size; by default what the importer says, or "pixel".
            skip_unreadable: Leave files out that cannot be read, and count them.
            **arguments: Arguments of the importer, such as `qty`, `product` or `window_size`.

        Raises:
            ArgumentError: If an argument is out of range or not known, or so is the importer, or a package is
                missing.
            DataError: If the folder is missing or empty, or a file that is read cannot be.
        """
        super().__init__(
            size=size,
            stride=stride,
            min_coverage=min_coverage,
            crop=crop,
            coarsen=coarsen,
            wet=wet,
            quantum=quantum,
            nodata=nodata,
            to_unit=to_unit,
            pixel_size=pixel_size,
            length_unit=length_unit,
            skip_unreadable=skip_unreadable,
        )
        name, self.folder = _split(place)
        self._given_unit = None if unit is None else as_name("unit", unit, "mm")
        self.accutime = None if accutime is None else as_positive("accutime", accutime)
        self._given_relation = None if zr is None else _as_relation(zr)
        check_importer(name)
        check_arguments(name, _jsonable(arguments), _OPTIONS)
        files = files_in(self.folder, pattern, f"files for {name}")
        names = [path.name for path in files]
        known = described(name, names)
        self._like = known.pattern if known else None
        self._times = dict(zip(files, _times_of(names, known, time_format), strict=True))
        told = known.arguments if known else {}
        if self.accutime is None and "accutime" in told:
            self.accutime = as_positive("accutime", told["accutime"])
        chosen = {"accutime": self.accutime, "unit": self._given_unit}
        chosen = {key: value for key, value in chosen.items() if value is not None}
        self.importer = Importer(name, arguments_of(name, told, chosen, arguments))
        self._told: Told | None = None
        self.scan(self.folder, files)
        self.dry = 0.0 if any(conversion(self.unit, each) for each in (_RATE, _DEPTH)) else None

    def look(self, path: Path) -> Told:
        """What the first file that can be read says, and the time that the name of this one tells."""
        time = self._times[path]
        if self._like and time is None:
            raise MisfitError(f"{path}: its name is not like {self._like}; choose such files by `pattern`.")
        if self._told is None:
            self._told = self._read_first(path)
        return self._told._replace(times=(time,))

    def frame(self, entry: Entry) -> NDArray[Any]:
        """Read one frame (H, W): rain in mm/h, or what the importer gives; NaN where nothing was measured."""
        values, metadata = self._imported(entry.path)
        kind = _kind_of(metadata)
        if not _alike(kind, self._kind):
            raise MisfitError(
                f"{entry.path}: it holds {_words(kind)}, the first file {_words(self._kind)}; "
                "choose files of one kind by `pattern`."
            )
        for marker in self.nodata:
            values = np.where(equals(values, marker), np.nan, values)
        if self._manner == "rate":
            minutes = self._minutes(metadata)
            if minutes is None:
                raise MisfitError(f"{entry.path}: {self._untimed()}")
            depth = conversion(self._given_unit or kind.unit, _DEPTH) or 1.0
            # Importers may leave no rain below 0, as dwd_radolan does.
            return np.maximum(values, 0.0) * (depth * 60 / minutes)
        if self._manner == "rain":
            zero = number_of(metadata.get("zerovalue"))
            rain = rain_of(values, self._relation)
            return rain if zero is None or zero > _FAINT else np.where(values <= zero, 0.0, rain)
        return values

    def choices(self) -> dict[str, Any]:
        """The importer, its arguments, and how its values become rain."""
        return {
            "importer": self.importer.name,
            "arguments": dict(self.importer.arguments),
            **({"accutime": self.accutime} if self._manner == "rate" else {}),
            **({"zr": list(self._relation)} if self._manner == "rain" else {}),
        }

    def _imported(self, path: Path) -> tuple[NDArray[Any], dict[str, Any]]:
        """Values (H, W) of a file, and what the importer says of them."""
        values, metadata = self.importer(path)
        if values.ndim != 2 or values.dtype.kind not in "biuf":
            raise DataError(f"{path}: the importer gives {values.dtype} of shape {values.shape}, no field.")
        return values, metadata

    def _read_first(self, path: Path) -> Told:
        """What a file says; settles how its values and those of all others become rain."""
        values, metadata = self._imported(path)
        self._kind = kind = _kind_of(metadata)
        unit = kind.unit if self._given_unit is None else self._given_unit
        transform = metadata.get("transform")
        if transform and not (transform == "dB" and is_reflectivity(unit)):
            raise DataError(f"{path}: the importer gives values after the transform {transform!r}.")
        stated = tuple(number_of(metadata.get(key)) for key in ("zr_a", "zr_b"))
        self._relation = self._given_relation or _as_relation(stated if all(stated) else MARSHALL_PALMER)
        self._manner = self._manner_of(unit, metadata)
        return Told(
            shape=(values.shape[0], values.shape[1]),
            unit=unit if self._manner == "kept" else _RATE,
            grid=Grid() if self._pixel_size else _grid_of(path, kind),
        )

    def _manner_of(self, unit: str, metadata: Mapping[str, Any]) -> str:
        """How values become what is asked for: "rain" of reflectivity, "rate" of accumulations, or "kept".

        Raises:
            ArgumentError: Rates are asked for, and the accumulation time is not known.
        """
        asked = self._to_unit
        if is_reflectivity(unit):
            kept = self._given_unit is not None if asked is None else is_reflectivity(asked)
            return "kept" if kept else "rain"
        if conversion(unit, _DEPTH) is None:
            return "kept"
        timed = self._minutes(metadata) is not None
        if asked is None:
            return "rate" if timed and self._given_unit is None else "kept"
        if conversion(unit, asked) is not None:
            return "kept"
        if not timed:
            raise ArgumentError(self._untimed())
        return "rate"

    def _minutes(self, metadata: Mapping[str, Any]) -> float | None:
        """The accumulation time; None where it is not known."""
        if self.accutime is not None or self.importer.name in _UNTIMED:
            return self.accutime
        return number_of(metadata.get("accutime")) or None

    def _untimed(self) -> str:
        return (
            f"importer {self.importer.name!r} does not know over which time rain was summed up; "
            "give `accutime`, in minutes."
        )


_OPTIONS = tuple(inspect.signature(PystepsFiles).parameters)[1:-1]
"""Options of the source that are no arguments of importers."""


def _split(place: str) -> tuple[str, Path]:
    """Importer and folder.

    Raises:
        ArgumentError: One of them is missing.
    """
    name, _, folder = str(place).partition(":")
    if not name or not folder:
        raise ArgumentError(f"pysteps:{place} must be pysteps:IMPORTER:FOLDER, such as pysteps:fmi_pgm:data.")
    return name, Path(folder)


def _as_relation(zr: Any) -> tuple[float, float]:
    """Validate a and b of Z = a R^b."""
    numbers = as_positives("zr", zr)
    if len(numbers) != 2:
        raise ArgumentError(f"zr must be two numbers, a and b of Z = a R^b, got {shown(zr)}")
    return numbers[0], numbers[1]


def _jsonable(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Validate arguments of an importer, which the configuration of the source tells."""
    try:
        json.dumps(arguments)
    except (TypeError, ValueError):
        raise ArgumentError(
            f"arguments of importers must be numbers, texts or lists, got {shown(arguments)}"
        ) from None
    return arguments


def _times_of(names: Sequence[str], known: Described | None, time_format: str | None) -> Times:
    """The times that names of files tell.

    Raises:
        ArgumentError: None of them is like the format that is given.
    """
    if time_format is None:
        return times_in(names) if known is None else list(map(known.time_of, names))
    found = list(map(reader_of(time_format), names))
    if not any(time is not None for time in found):
        raise ArgumentError(f"time_format {time_format!r} fits no file, such as {names[0]}.")
    return found


def _kind_of(metadata: Mapping[str, Any]) -> _Kind:
    """What an importer says of a file."""
    return _Kind(
        unit=text_of(metadata.get("unit")),
        width=number_of(metadata.get("xpixelsize")),
        height=number_of(metadata.get("ypixelsize")),
        length_unit=text_of(metadata.get("cartesian_unit")),
    )


def _alike(one: _Kind, other: _Kind) -> bool:
    """Whether two files can be of one archive."""
    pairs = zip((one.width, one.height), (other.width, other.height), strict=True)
    same_size = all(a == b or (a and b and math.isclose(a, b, rel_tol=SAME_SIZE)) for a, b in pairs)
    return bool(same_size and (one.unit, one.length_unit) == (other.unit, other.length_unit))


def _words(kind: _Kind) -> str:
    return f"{kind.unit or 'values'} in pixels of {kind.width} by {kind.height} {kind.length_unit}".strip()


def _grid_of(path: Path, kind: _Kind) -> Grid:
    """The pixels of a file."""
    if kind.width is None or kind.height is None:
        return Grid()
    sides = (kind.height, kind.width)
    axes = [
        Coordinate(name, np.arange(2) * side, kind.length_unit)
        for name, side in zip("yx", sides, strict=True)
    ]
    return grid_of(path.name, *axes)
