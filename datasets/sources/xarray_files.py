"""Files that xarray opens: NetCDF, HDF5, Zarr, GRIB and GeoTIFF."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import pickle
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError, DataError
from ...foundation.arguments import as_name, shown
from ...foundation.attributes import number_of, text_of
from ...foundation.dimensions import is_time
from ...foundation.near import did_you_mean
from .archive import Archive, Entry, MisfitError, Told
from .dimensions import Choice, Layout, Wanted, coordinates, layout_of
from .file_times import times_in
from .grids import measured
from .packing import Packing, packing_of
from .stored import fields_of
from .tiling import Crop, Size
from .xarray_engines import ENGINES, ZARR, engine_of, opened, opened_variable
from .xarray_times import count_times, times_of

_NO_UNITS = ("unknown", "undefined", "~")
"""What GRIB calls units that it does not know."""


@dataclass(frozen=True)
class _Kind:
    """What files have in common that say the same, but for their times.

    Attributes:
        variable: Name of the variable.
        layout: Which of its dimensions are what.
        sizes: Its dimensions, and how long they are.
        told: What such a file says, without times.
        sizeless: Why no size of a pixel follows from its coordinates; empty where one does.
    """

    variable: str
    layout: Layout
    sizes: tuple[tuple[str, int], ...]
    told: Told
    sizeless: str


class XarrayFiles(Archive):
    """Fields of files that xarray opens, one time step a chunk, in order of time.

    Files are opened one at a time, and only what is wanted of them is read. Numbers are unpacked and markers
    of missing values are NaN as CF says; so are those of GRIB and of GeoTIFF. Times are those of the
    coordinates (forecasts: when they are valid), or those that names of files tell. Rows and columns are told
    by CF or by common names, or else are the last two dimensions; other dimensions of length 1 are left out.

    Attributes:
        variable: Name of the variable.
        wanted: What is asked for of its dimensions.
        engine: What opens the files; None goes by their suffix.
        backend: More arguments of the engine.
    """

    name = "xarray"

    def __init__(
        self,
        files: str | Path,
        variable: str | None = None,
        time: str | None = None,
        select: Mapping[str, Choice] | str | None = None,
        members: Sequence[str] | str | None = None,
        rows: str | None = None,
        columns: str | None = None,
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
        engine: str | None = None,
        backend: Mapping[str, Any] | None = None,
    ) -> None:
        """Look into the files; values are read chunk by chunk later.

        Args:
            files: A folder, a file, or a shell pattern such as "era5/*.nc"; "**/" looks into subfolders, too.
            variable: Name of the variable in files that hold several.
            time: Dimension of the times; by default what CF or its name tells.
            select: What to take of further dimensions, by coordinate, or by position where there is none:
                "number=0,level=850".
            members: Further dimensions of which all are taken, as more fields of the same time: "number".
            rows: Dimension of the rows; by default what CF or its name tells.
            columns: Dimension of the columns, likewise.
            size: Size of the patches to cut, one number or (height, width); whole frames if None.
            stride: Distance between training patches; their size by default.
            min_coverage: Least share of measured pixels in a field; by default 0.9 of patches, and 0 of whole
                frames.
            crop: Part of each frame to take, (first row, first column, height, width); all of it if None.
            coarsen: Side of the square blocks of pixels whose means, after conversion, become the pixels of
                fields: 2 makes pixels of 2 km of those of 1 km. A block of which less than half was measured
                is NaN. Sizes and strides are in blocks, all else is told as it is in the data.
            wet: See `FieldSource`; by default the data tell.
            quantum: Step that the values lie apart, in the unit that they come in; by default it is found in
                them, if they have one.
            nodata: More numbers, as they are in the files, that stand for nothing measured.
            unit: Physical unit of the values in the files; by default what they say. It converts nothing.
            to_unit: Unit to convert the values to. Reflectivity in dBZ becomes rain by Z = 200 R^1.6.
            pixel_size: Side of a pixel, in `length_unit`; by default the spacing of coordinates in m or km,
                or 1 where there are none.
            length_unit: Unit of the pixel size; by default that of the coordinates, or "pixel".
            skip_unreadable: Leave files out that cannot be read, and count them.
            engine: What opens the files; by default the suffix tells.
            backend: More arguments of the engine, such as {"group": "Grid"} or {"filter_by_keys": {...}}.

        Raises:
            ArgumentError: If an argument is out of range, values cannot be converted, or a package is
                missing.
            DataError: If there are no files, or none holds such fields, or one cannot be read.

        Warns:
            UserWarning: Files are left out, or no size of a pixel follows from their coordinates.
        """
        super().__init__(
            size=size,
            stride=stride,
            min_coverage=min_coverage,
            wet=wet,
            quantum=quantum,
            nodata=nodata,
            unit=unit,
            to_unit=to_unit,
            pixel_size=pixel_size,
            length_unit=length_unit,
            skip_unreadable=skip_unreadable,
            crop=crop,
            coarsen=coarsen,
        )
        self.wanted = Wanted.of(time, rows, columns, select, members)
        self.engine = None if engine is None else as_name("engine", engine, "netcdf4")
        self.backend = _as_backend(backend)
        self._variable = None if variable is None else as_name("variable", variable, "rain")
        folder, found = _listed(os.fspath(files), self.engine is not None)
        self._named = dict(zip(found, times_in([path.name for path in found]), strict=True))
        self._engines: dict[str, str] = {}
        self._kinds: dict[Path, _Kind] = {}
        self._known: dict[bytes, _Kind] = {}
        self.scan(folder, found)
        self._known.clear()
        self.variable = self._kinds[self.entries[0].path].variable
        sizeless = next((path for path, kind in self._kinds.items() if kind.sizeless), None)
        if sizeless and self._pixel_size is None:
            warnings.warn(f"{sizeless}: {self._kinds[sizeless].sizeless}", stacklevel=2)

    def look(self, path: Path) -> Told:
        """What the coordinates and attributes of a file say; of files that say the same, only the times."""
        with opened(path, self._engine_of(path), self.backend) as dataset:
            said = _said_by(dataset, [name for name, _ in self.wanted.select])
            kind = self._known.get(said) or self._kind_of(path, dataset)
            self._known[said] = self._kinds[path] = kind
            return kind.told._replace(times=self._times_of(path, dataset[kind.variable], kind.layout))

    def _kind_of(self, path: Path, dataset: Any) -> _Kind:
        """What a file says, but for its times."""
        name = chosen(dataset, self._variable)
        array = dataset[name]
        layout = layout_of(array, self.wanted)
        grid, reason = measured(*(_in_projection(array, each) for each in coordinates(array, layout)))
        told = Told(
            shape=(array.sizes[layout.rows], array.sizes[layout.columns]),
            unit=_unit_of(array.attrs),
            grid=grid,
            quantity=name,
            quantum=self._packing(array, path).step,
        )
        return _Kind(name, layout, _sizes_of(array), told, reason)

    def frame(self, entry: Entry) -> NDArray[Any]:
        """Read the frame (H, W) of one time, or its members' (n, H, W)."""
        kind = self._kinds[entry.path]
        engine = self._engine_of(entry.path)
        with opened_variable(entry.path, engine, self.backend, kind.variable) as variable:
            if _sizes_of(variable) != kind.sizes:
                raise DataError(f"{entry.path}: it has changed since it was looked into.")
            numbers = kind.layout.at(variable, entry.index).values
            packing = self._packing(variable, entry.path)
        values = packing.unpacked(numbers)
        return values.reshape(-1, *values.shape[-2:]) if kind.layout.members else values

    def find_quantum(self, told: float | None) -> float | None:
        """The step of the values; what files say counts only if they say the same."""
        steps = {kind.told.quantum for kind in self._kinds.values()}
        return super().find_quantum(told if len(steps) == 1 else None)

    def choices(self) -> dict[str, Any]:
        """What is taken of the files."""
        return {
            "variable": self.variable,
            **self.wanted.described(),
            **({"engine": self.engine} if self.engine else {}),
            **({"backend": dict(self.backend)} if self.backend else {}),
        }

    def _engine_of(self, path: Path) -> str:
        """What opens a file; looked up once for each suffix."""
        if path.suffix not in self._engines:
            self._engines[path.suffix] = engine_of(path, self.engine)
        return self._engines[path.suffix]

    def _packing(self, array: Any, path: Path) -> Packing:
        """How the numbers of a file are packed, which may differ from that of the others."""
        attributes = array.attrs
        if self._engine_of(path) == ZARR and number_of(attributes.get("_FillValue")) == 0:
            attributes = {key: value for key, value in attributes.items() if key != "_FillValue"}
        return packing_of(attributes, array.dtype, str(path), nodata=self.nodata)

    def _times_of(self, path: Path, array: Any, layout: Layout) -> list[np.datetime64 | None]:
        """The time of each frame of a file."""
        count = count_times(array, layout)
        told = times_of(array, layout)
        if told is None and count == 1:
            return [self._named[path]]
        return [None] * count if told is None else told


def _said_by(dataset: Any, selected: Sequence[str]) -> bytes:
    """Digest of all that a file says of its variables, but for the values of fields and of times.

    Args:
        dataset: The file.
        selected: Dimensions of which something is taken by its coordinate.
    """
    said = []
    for name, each in dataset.variables.items():
        timing = each.ndim < 2 and is_time(str(name), each)
        values = each.values if name in selected or (each.dims == (name,) and not timing) else None
        # Each file may count its times from another day.
        attributes = {key: value for key, value in each.attrs.items() if not (timing and key == "units")}
        said.append(
            (name, name in dataset.coords, timing, each.dims, each.shape, each.dtype, attributes, values)
        )
    return hashlib.sha256(pickle.dumps(said)).digest()


def _as_backend(backend: Any) -> dict[str, Any]:
    """Arguments of an engine.

    Raises:
        ArgumentError: they are none that JSON can keep.
    """
    try:
        return dict(json.loads(json.dumps(dict(backend or {}))))
    except (TypeError, ValueError) as error:
        raise ArgumentError(f'backend (={shown(backend)}) must be like {{"group": "Grid"}}') from error


def _listed(files: str, any_suffix: bool) -> tuple[Path, list[Path]]:
    """The folder that files stand in, and the files.

    Raises:
        DataError: there are none.
    """
    place = Path(files)
    if place.is_file() or (place.is_dir() and place.suffix.casefold() == ".zarr"):
        return place.parent, [place]
    if place.is_dir():
        found = sorted(path for path in place.iterdir() if path.suffix.casefold() in ENGINES or any_suffix)
        if not found:
            raise DataError(f"no file in {files!r} ends in {', '.join(ENGINES)}; choose files by a pattern.")
        return place, found
    found = [Path(path) for path in sorted(glob.glob(files, recursive=True))]
    found = [path for path in found if path.is_file() or path.suffix.casefold() == ".zarr"]
    if not found:
        raise DataError(f"no file is {files!r}; give a folder, a file, or a pattern such as 'radar/*.nc'.")
    parts = place.parts
    fixed = next((i for i, part in enumerate(parts) if re.search(r"[*?\[]", part)), len(parts) - 1)
    return Path(*parts[:fixed]), found


def chosen(dataset: Any, variable: str | None) -> str:
    """Name of the variable to read: the one asked for, or the only one that can hold fields.

    Raises:
        MisfitError: there is none, or there are several.
    """
    names = [str(name) for name in fields_of(dataset)]
    if variable is not None:
        if variable not in dataset.variables:
            raise MisfitError(
                f"it has no variable {variable!r}, but {', '.join(names)}{did_you_mean(variable, names)}"
            )
        return variable
    fitting = [name for name in names if _may_hold_fields(dataset[name])]
    if len(fitting) != 1:
        several = f"several variables ({', '.join(fitting)}); choose one by `variable`"
        none = 'no variable of rows and columns; if it has groups, choose one by `backend`, {"group": "Grid"}'
        raise MisfitError(f"it holds {several if fitting else none}")
    return fitting[0]


def _may_hold_fields(array: Any) -> bool:
    """Whether a variable holds numbers along two dimensions or more, and is no coordinate of pixels."""
    places = ("latitude", "longitude", "projection_x_coordinate", "projection_y_coordinate")
    told = (text_of(array.attrs.get("standard_name")), str(array.name).casefold())
    is_field = array.dtype.kind in "biuf" and sum(size > 1 for size in array.shape) > 1
    return is_field and not set(told) & set(places)


def _sizes_of(array: Any) -> tuple[tuple[str, int], ...]:
    """The dimensions of an array, and how long they are."""
    return tuple((str(name), int(size)) for name, size in array.sizes.items())


def _unit_of(attributes: Mapping[str, Any]) -> str:
    """Unit of the values; that of all bands, where each has one; empty where it is not told."""
    units = attributes.get("units", attributes.get("unit"))
    several = {text_of(each) for each in units} if isinstance(units, tuple | list) else {text_of(units)}
    unit = several.pop() if len(several) == 1 else ""
    return "" if unit.casefold() in _NO_UNITS else unit


def _in_projection(array: Any, axis: Any) -> Any:
    """A coordinate with the unit of the projection of a GeoTIFF, where it has none of its own."""
    if axis is None or axis.unit or not hasattr(array, "rio") or array.rio.crs is None:
        return axis
    crs = array.rio.crs
    return axis._replace(unit="degrees" if crs.is_geographic else crs.linear_units)
