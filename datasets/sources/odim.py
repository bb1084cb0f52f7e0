"""Radar composites in ODIM-HDF5, the format of the European OPERA programme.

Format: Michelson et al., "EUMETNET OPERA weather radar information model for implementation with the HDF5
file format", version 2.x. A file holds groups /datasetN/dataM; gain, offset, nodata, undetect and quantity
stand in a `what` group beside the data, or in that of the data set, or at the root, and the nearest one
counts. Writers differ in case and in the types of attributes, leave markers out that they do not need, and
round the size of a pixel.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError, DataError
from ...foundation.arguments import as_choice, as_positive, as_shape, shown
from ...foundation.files import first_line
from ...foundation.hdf5 import open_hdf5
from ...metrics.declared import as_finite
from .attributes import attribute, number_of, text_of
from .packing import equals
from .source import FieldSource
from .tiling import Tiling

_MARSHALL_PALMER = (200.0, 1.6)
"""Factor and exponent of the reflectivity of rain, Z = factor * R ** exponent."""
_QUANTITIES = ("RATE", "DBZH")
_SAME_SIZE = 1e-3
"""Difference of pixels that are of one size, as a share of it: writers compute sizes from corners."""
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
    time: str


class Opera(FieldSource):
    """Patches of the rain rate in a folder of ODIM-HDF5 composites, one chunk a file, in order of time.

    The value of a pixel is gain * raw + offset. Pixels that no radar saw are NaN; pixels without echo, and
    those below the lower bound, are 0; those above the upper bound are set to it. Values are rounded to
    `quantum`, so that the float32 is the nearest one to the decimal number that the producer meant.

    Reflectivity (`quantity="DBZH"`) is turned into rain with Z = 200 R^1.6 (Marshall and Palmer 1948).
    """

    name = "opera"
    unit = "mm/h"
    length_unit = "km"
    dry = 0.0
    chronological = True

    def __init__(
        self,
        folder: str | Path,
        size: int | tuple[int, int] = 128,
        stride: int | tuple[int, int] | None = None,
        min_coverage: float = 0.9,
        bounds: tuple[float, float] = (0.1, 150.0),
        pattern: str = "*.h*",
        quantity: str = "RATE",
        quantum: float | None = 0.01,
        wet: float | None = None,
    ) -> None:
        """Find the files and check that every one can be used.

        Args:
            folder: Folder that holds the files; it is not searched recursively.
            size: Size of a patch in pixels, one number or (height, width).
            stride: Distance between training patches; half their size by default. Patches of the other splits
                lie side by side.
            min_coverage: Least share of measured pixels in a patch.
            bounds: Rates (mm/h) below the first are dry, and those above the second are set to it.
            pattern: Shell pattern of the file names.
            quantity: "RATE" (mm/h) or "DBZH" (dBZ).
            quantum: Step that rates are rounded to, in mm/h; None leaves them alone.
            wet: Rate in mm/h above which pixels count where thresholds are placed at quantiles; 0 by default.

        Raises:
            ArgumentError: If an argument is out of range.
            DataError: If the folder is missing or empty, or a file is damaged, is not an ODIM composite,
                lacks the quantity, is smaller than a patch, or differs from the others in pixel size.
        """
        self.folder = Path(folder)
        self.field_shape = as_shape("size", size)
        half = (max(self.field_shape[0] // 2, 1), max(self.field_shape[1] // 2, 1))
        self.stride = half if stride is None else as_shape("stride", stride)
        self.tiling = Tiling.of(self.field_shape, self.stride, min_coverage)
        self.bounds = _as_bounds(bounds)
        self.quantity = as_choice("quantity", quantity, _QUANTITIES)
        self.quantum = None if quantum is None else as_positive("quantum", quantum)
        self.wet = as_finite("wet", wet)
        layouts = {path: _read_layout(path, self.quantity) for path in _files_in(self.folder, pattern)}
        self.files = sorted(layouts, key=lambda path: (layouts[path].time, path.name))
        self.pixel_size = layouts[self.files[0]].pixel_size
        for path in self.files:
            self._check_grid(path, layouts[path])

    def _check_grid(self, path: Path, layout: _Layout) -> None:
        """Raise DataError for a file whose pixels are not those of the first, or that no patch fits into."""
        if not math.isclose(layout.pixel_size, self.pixel_size, rel_tol=_SAME_SIZE):
            raise DataError(
                f"{path.name}: pixel size {layout.pixel_size} km differs from {self.pixel_size} km in "
                f"{self.files[0].name}; keep one grid in a folder."
            )
        misfit = self.tiling.misfit(layout.shape, layout.shape)
        if misfit:
            raise DataError(f"{path.name}: {misfit}.")

    def __len__(self) -> int:
        return len(self.files)

    def read(self, k: int, role: str) -> NDArray[np.float32]:
        """Read the patches of one file, (n, H, W) in mm/h; see `FieldSource.read`."""
        return self.tiling.cut(self.read_frame(k), role)

    def read_frame(self, k: int) -> NDArray[np.float32]:
        """Read one whole composite, (rows, columns) in mm/h, NaN where no radar measured.

        Raises:
            DataError: If the file cannot be read.
        """
        path = self.files[k]
        layout = _read_layout(path, self.quantity)
        with _open(path) as file:
            raw = file[layout.dataset][()].reshape(layout.shape)
        values = raw.astype(np.float64) * layout.gain + layout.offset
        if self.quantity == "DBZH":
            factor, exponent = _MARSHALL_PALMER
            with np.errstate(over="ignore"):  # markers of missing values, masked below
                values = (10 ** (values / 10) / factor) ** (1 / exponent)
        return _clean(values, raw, layout, self.bounds, self.quantum)

    def config(self) -> dict[str, Any]:
        """Everything that decides the fields; files count by name and size, wherever the folder stands."""
        listing = "\n".join(f"{path.name} {path.stat().st_size}" for path in self.files)
        return {
            "name": self.name,
            "files": len(self.files),
            "first": self.files[0].name,
            "last": self.files[-1].name,
            "digest": hashlib.sha256(listing.encode()).hexdigest()[:16],
            "size": list(self.field_shape),
            "stride": list(self.stride),
            "min_coverage": self.tiling.min_coverage,
            "bounds": list(self.bounds),
            "quantity": self.quantity,
            "quantum": self.quantum,
            "pixel_size": self.pixel_size,
        }


def _as_bounds(bounds: tuple[float, float]) -> tuple[float, float]:
    """Validate the least and the greatest rate."""
    if len(bounds) != 2 or not 0 <= bounds[0] < bounds[1]:
        raise ArgumentError(f"`bounds` (={bounds!r}) must be two increasing rates, 0 or more.")
    return float(bounds[0]), float(bounds[1])


def _files_in(folder: Path, pattern: str) -> list[Path]:
    """The files in a folder whose name matches, sorted.

    Raises:
        DataError: there is no such folder, or no file in it matches.
    """
    if not os.path.isdir(folder):
        raise DataError(f"radar folder {str(folder)!r} does not exist; give a folder of ODIM-HDF5 files.")
    found = [path for path in sorted(folder.glob(pattern)) if path.is_file()]
    if not found:
        raise DataError(f"no file in {str(folder)!r} matches {pattern!r}; change `pattern` or the folder.")
    return found


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
        DataError: it is damaged, is not an ODIM composite, lacks the quantity, or its pixels are not square.
    """
    with _open(path) as file:
        data = _find_dataset(file, path, quantity)
        shape = tuple(n for n in data.shape if n > 1) if data.ndim > 2 else data.shape
        name = str(data.name).lstrip("/")
        if len(shape) != 2 or data.dtype.kind not in "iuf":
            raise DataError(
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
        )


def _pixel_size(path: Path, file: h5py.File, width: float | None, height: float | None) -> float:
    """Side of a square pixel in km, from those in m.

    Raises:
        DataError: they are missing, or differ.
    """
    if width is None or height is None:
        kind = text_of(_nearest(file, (file,), "what", "object")).upper()
        what = f"it holds a polar {kind}; make a composite of it" if kind in _POLAR else "add it"
        missing = "xscale" if width is None else "yscale"
        raise DataError(f"{path}: not an ODIM composite, attribute where/{missing} is missing; {what}.")
    if not math.isclose(abs(width), abs(height), rel_tol=_SAME_SIZE) or not width:
        raise DataError(
            f"{path}: pixels of {abs(width) / 1000:g} by {abs(height) / 1000:g} km are not square; "
            "regrid the file."
        )
    return abs(width) / 1000


def _find_dataset(file: h5py.File, path: Path, quantity: str) -> h5py.Dataset:
    """The first /datasetN/dataM/data that holds the quantity."""
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
        raise DataError(f"{path}: not an ODIM file, group /dataset1/data1 is missing.")
    raise DataError(
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


def _read_time(file: h5py.File, places: tuple[h5py.Group, ...]) -> str:
    """Nominal time YYYYMMDDhhmmss, or the start of the data; or "", which leaves the order to file names."""
    for group, keys in (((file,), ("date", "time")), (places, ("startdate", "starttime"))):
        found = [text_of(_nearest(file, group, "what", key)) for key in keys]
        if all(found):
            return "".join(found)
    return ""
