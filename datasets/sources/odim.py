"""Radar composites in ODIM-HDF5, the format of the European OPERA programme.

Format: Michelson et al., "EUMETNET OPERA weather radar information model for implementation with the HDF5
file format", version 2.x. A file holds groups /datasetN/dataM; gain, offset, nodata, undetect and quantity
stand in a `what` group beside the data, or in that of the data set, or at the root, and the nearest one
counts. Writers differ in case and in the types of attributes, leave markers out that they do not need, and
round the size of a pixel.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError, DataError
from ...foundation.arguments import as_choice, shown
from ...foundation.files import first_line
from ...foundation.hdf5 import open_hdf5
from .archive import SAME_SIZE, Archive, Entry, MisfitError, Told, files_in
from .attributes import attribute, number_of, text_of
from .grids import Grid
from .packing import equals
from .reflectivity import rain_of
from .tiling import Size, half

_QUANTITIES = ("RATE", "ACRR", "DBZH")
_POLAR = ("PVOL", "SCAN", "RAY", "AZIM", "ELEV", "ETOP")


@dataclass(frozen=True)
class _Layout:
    """Where a file keeps the asked quantity, and how to turn its numbers into values."""

    dataset: str
    shape: tuple[int, int]
    gain: float
    offset: float
    nodata: float | None
    undetect: float | None
    pixel_size: float
    time: np.datetime64 | None
    hours: float | None


class Opera(Archive):
    """Patches of the rain rate in a folder of ODIM-HDF5 composites, one chunk a file, in order of time.

    The value of a pixel is gain * raw + offset. Pixels that no radar saw are NaN; pixels without echo, and
    those below the lower bound, are 0; those above the upper bound are set to it. Values are rounded to
    `quantum`, so that the float32 is the nearest one to the decimal number that the producer meant.

    Accumulations (`quantity="ACRR"`) are divided by the time from their start to their end, as the file tells
    them. Reflectivity (`quantity="DBZH"`) is turned into rain with Z = 200 R^1.6 (Marshall and Palmer 1948).
    """

    name = "opera"
    dry = 0.0
    describing: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        folder: str | Path,
        size: Size = 128,
        stride: Size = None,
        min_coverage: float | None = None,
        bounds: tuple[float, float] = (0.1, 150.0),
        pattern: str = "*.h*",
        quantity: str = "RATE",
        quantum: float | None = 0.01,
        wet: float | None = None,
        nodata: float | Sequence[float] | None = None,
        skip_unreadable: bool = False,
    ) -> None:
        """Find the files and look into each; those that do not fit are left out, see `Archive`.

        Args:
            folder: Folder that holds the files.
            size: Size of a patch in pixels, one number or (height, width); whole composites if None.
            stride: Distance between training patches; half their size by default. Patches of the other splits
                lie side by side.
            min_coverage: Least share of measured pixels in a field; by default 0.9 of patches, and 0 of whole
                composites.
            bounds: Rates (mm/h) below the first are dry, and those above the second are set to it.
            pattern: Shell pattern of the file names; "**/*.h5" searches subfolders, too.
            quantity: "RATE" (mm/h), "ACRR" (mm, accumulated) or "DBZH" (dBZ).
            quantum: Step that rates are rounded to, in mm/h; None leaves them alone.
            wet: Rate in mm/h above which pixels count where thresholds are placed at quantiles; 0 by default.
            nodata: Numbers, as they are in the files, that stand for nothing measured, besides what they say.
            skip_unreadable: Leave files out that cannot be read, and count them.

        Raises:
            ArgumentError: If an argument is out of range.
            DataError: If the folder is missing or empty, a file is damaged, or none is an ODIM composite that
                has the quantity and is at least as large as a patch.

        Warns:
            UserWarning: Some files are left out.
        """
        super().__init__(
            size=size,
            stride=half(size) if stride is None else stride,
            min_coverage=min_coverage,
            wet=wet,
            quantum=quantum,
            nodata=nodata,
            skip_unreadable=skip_unreadable,
        )
        self.bounds = _as_bounds(bounds)
        self.quantity = as_choice("quantity", quantity, _QUANTITIES)
        self.scan(Path(folder), files_in(Path(folder), pattern, "ODIM-HDF5 files"))

    def look(self, path: Path) -> Told:
        """What one composite says about itself."""
        layout = _read_layout(path, self.quantity)
        return Told(
            layout.shape,
            (layout.time,),
            unit="mm/h",
            grid=Grid(layout.pixel_size, "km"),
            quantity="" if layout.hours is None else f"ACRR over {layout.hours * 60:g} min",
        )

    def frame(self, entry: Entry) -> NDArray[np.float32]:
        """Read one composite, (rows, columns) in mm/h, NaN where no radar measured."""
        layout = _read_layout(entry.path, self.quantity)
        with _open(entry.path) as file:
            raw = file[layout.dataset][()].reshape(layout.shape)
        values = raw.astype(np.float64) * layout.gain + layout.offset
        if self.quantity == "DBZH":
            values = rain_of(values)
        if layout.hours is not None:
            values /= layout.hours
        rates = _clean(values, raw, layout, self.bounds, self.quantum)
        for marker in self.nodata:
            rates[equals(raw, marker)] = np.nan
        return rates

    def find_quantum(self, told: float | None) -> float | None:
        """The step that rates are rounded to."""
        return self._quantum

    def config(self) -> dict[str, Any]:
        """Everything that decides the fields; files count by name and size, wherever the folder stands."""
        return {
            **self.listed(),
            "size": list(self.field_shape),
            "stride": list(self.tiling.stride_in(self.field_shape)),
            "min_coverage": self.tiling.min_coverage,
            "bounds": list(self.bounds),
            "quantity": self.quantity,
            "quantum": self.quantum,
            "pixel_size": self.pixel_size,
            **({"nodata": list(self.nodata)} if self.nodata else {}),
        }


def _as_bounds(bounds: tuple[float, float]) -> tuple[float, float]:
    """Validate the least and the greatest rate."""
    if len(bounds) != 2 or not 0 <= bounds[0] < bounds[1]:
        raise ArgumentError(f"`bounds` (={bounds!r}) must be two increasing rates, 0 or more.")
    return float(bounds[0]), float(bounds[1])


def _clean(
    values: NDArray[Any],
    raw: NDArray[Any],
    layout: _Layout,
    bounds: tuple[float, float],
    quantum: float | None,
) -> NDArray[np.float32]:
    """Round and bound rates, and mark the pixels without echo (0) and without measurement (NaN)."""
    if quantum is not None:
        values = np.rint(values / quantum) * quantum
    # A little slack: rounding leaves the lower bound itself within a few ulp of its decimal value.
    slack = 0.0 if quantum is None else quantum * 1e-6
    values[values < bounds[0] - slack] = 0.0
    values[values > bounds[1]] = bounds[1]
    if layout.undetect is not None:
        values[equals(raw, layout.undetect)] = 0.0
    if layout.nodata is not None:
        values[equals(raw, layout.nodata)] = np.nan
    return values.astype(np.float32)


@contextmanager
def _open(path: Path) -> Iterator[h5py.File]:
    """Open a file for reading, and turn what h5py raises inside the block into a DataError."""
    try:
        with open_hdf5(path) as file:
            yield file
    except (OSError, RuntimeError, KeyError) as error:  # h5py reports damage as any of these
        raise DataError(
            f"{path}: not a readable HDF5 file, truncated or of another format ({first_line(error)})."
        ) from error


def _read_layout(path: Path, quantity: str) -> _Layout:
    """Where a file keeps a quantity, and what its numbers mean.

    Raises:
        MisfitError: it is not an ODIM composite, lacks the quantity or the time that it was accumulated in,
            or its pixels are not square.
        DataError: it is damaged.
    """
    with _open(path) as file:
        data = _find_dataset(file, path, quantity)
        shape = tuple(n for n in data.shape if n > 1) if data.ndim > 2 else data.shape
        name = str(data.name).lstrip("/")
        if len(shape) != 2 or data.dtype.kind not in "iuf":
            raise MisfitError(
                f"{path}: /{name} has shape {data.shape} and type {data.dtype}; expected a 2-D grid."
            )
        places = (data.parent, data.parent.parent, file)

        def number(group: str, *keys: str) -> float | None:
            for key in keys:
                value = _nearest(data, places, group, key)
                if value is not None and number_of(value) is None:
                    raise DataError(f"{path}: attribute {group}/{key} (={shown(value)}) is not a number.")
                if value is not None:
                    return number_of(value)
            return None

        gain, nodata = number("what", "gain"), number("what", "nodata", "_FillValue", "missing_value")
        if nodata is None and data.dtype.kind == "u":
            nodata = float(np.iinfo(data.dtype).max)  # which nearly every writer takes
        return _Layout(
            dataset=name,
            shape=(int(shape[0]), int(shape[1])),
            gain=1.0 if gain is None else gain,
            offset=number("what", "offset") or 0.0,
            nodata=nodata,
            undetect=number("what", "undetect"),
            pixel_size=_pixel_size(path, file, number("where", "xscale"), number("where", "yscale")),
            time=_read_time(file, places),
            hours=_read_hours(path, data, places) if quantity == "ACRR" else None,
        )


def _pixel_size(path: Path, file: h5py.File, width: float | None, height: float | None) -> float:
    """Side of a square pixel in km, from those in m.

    Raises:
        MisfitError: they are missing, or differ.
    """
    if width is None or height is None:
        kind = text_of(_nearest(file, (file,), "what", "object")).upper()
        what = f"it holds a polar {kind}; make a composite of it" if kind in _POLAR else "add it"
        missing = "xscale" if width is None else "yscale"
        raise MisfitError(f"{path}: not an ODIM composite, attribute where/{missing} is missing; {what}.")
    if not math.isclose(abs(width), abs(height), rel_tol=SAME_SIZE) or not width:
        raise MisfitError(
            f"{path}: pixels of {abs(width) / 1000:g} by {abs(height) / 1000:g} km are not square; "
            "regrid the file."
        )
    return abs(width) / 1000


def _find_dataset(file: h5py.File, path: Path, quantity: str) -> h5py.Dataset:
    """The first /datasetN/dataM/data that holds the quantity.

    Raises:
        MisfitError: there is none.
    """
    seen = set()
    for dataset in _numbered(file, "dataset"):
        for data in _numbered(dataset, "data"):
            grid = _member(data, "data")
            if not isinstance(grid, h5py.Dataset):
                continue
            found = text_of(_nearest(grid, (data, dataset, file), "what", "quantity")).upper()
            if found == quantity:
                return grid
            seen.add(found or "unnamed")
    if not seen:
        raise MisfitError(f"{path}: not an ODIM file, group /dataset1/data1 is missing.")
    raise MisfitError(
        f"{path}: no data set of quantity {quantity!r}; the file holds {', '.join(sorted(seen))}."
    )


def _numbered(group: h5py.Group, prefix: str) -> list[h5py.Group]:
    """Subgroups prefix1, prefix2, ... in order of their numbers."""
    names = [name for name in group if re.fullmatch(rf"{prefix}\d+", name.casefold())]
    groups = (group[name] for name in sorted(names, key=lambda name: int(name[len(prefix) :])))
    return [member for member in groups if isinstance(member, h5py.Group)]


def _nearest(data: h5py.HLObject, places: tuple[h5py.Group, ...], group: str, key: str) -> Any:
    """An attribute of the data, or of the first of `places` whose subgroup sets it, or which does itself."""
    holders = [data]
    for place in places:
        subgroup = _member(place, group)
        holders += [place] if subgroup is None else [subgroup, place]
    return next((found for each in holders if (found := attribute(each.attrs, key)) is not None), None)


def _member(group: h5py.Group, name: str) -> Any:
    """A member of a group by its name, in upper or lower case; None if it has none."""
    return next((group[each] for each in group if each.casefold() == name), None)


def _read_time(file: h5py.File, places: tuple[h5py.Group, ...]) -> np.datetime64 | None:
    """Nominal time, or the start of the data; None leaves the order to file names."""
    nominal = _moment(file, (file,), "date", "time")
    return _moment(file, places, "startdate", "starttime") if nominal is None else nominal


def _read_hours(path: Path, data: h5py.Dataset, places: tuple[h5py.Group, ...]) -> float:
    """How long the data were accumulated, in hours.

    Raises:
        MisfitError: the file does not tell.
    """
    start = _moment(data, places, "startdate", "starttime")
    end = _moment(data, places, "enddate", "endtime")
    if start is None or end is None or not start < end:
        raise MisfitError(
            f"{path}: it does not tell when its accumulation starts and ends (what/startdate, starttime, "
            "enddate, endtime), so that no rate follows; add them."
        )
    return float((end - start) / np.timedelta64(1, "h"))


def _moment(
    data: h5py.HLObject, places: tuple[h5py.Group, ...], date: str, time: str
) -> np.datetime64 | None:
    """The time that two attributes tell, YYYYMMDD and hhmmss, of which the seconds may be missing."""
    told = [text_of(_nearest(data, places, "what", key)) for key in (date, time)]
    if not all(told):
        return None
    try:
        return np.datetime64(datetime.strptime("".join(told).ljust(14, "0"), "%Y%m%d%H%M%S"), "s")
    except ValueError:  # text of another kind
        return None
