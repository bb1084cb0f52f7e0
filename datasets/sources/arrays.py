"""Fields in array files: NumPy, HDF5, NetCDF and Zarr."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError, DataError
from ...foundation.near import did_you_mean
from .dimensions import Layout
from .frames import Frames, axes_of_frames
from .stored import SUFFIXES, Stored, is_data_array, open_arrays
from .tiling import Crop, Size
from .xarray_times import times_of


class Arrays(Frames):
    """Frames of an array (T, H, W) in order of time, or one frame (H, W), whole or cut into patches.

    A chunk holds whole frames: at most 64 fields, or one frame where that has more patches. Axes of length 1
    besides these are left out. Times are those of the coordinates of .nc and .zarr, where they are in order.

    Numbers that a file packs by `scale_factor` and `add_offset` are unpacked; its markers of missing values
    (`_FillValue`, `missing_value`, ..., what lies outside `valid_range`, a boolean array "mask" or NAME_mask
    in .npz) are NaN. Numbers that are packed otherwise are refused.

    Attributes:
        variable: Name of the array.
    """

    name = "array"
    suffixes = SUFFIXES

    def __init__(
        self,
        path: str | Path,
        variable: str | None = None,
        pixel_size: float | None = None,
        unit: str | None = None,
        size: Size = None,
        stride: Size = None,
        quantum: float | None = None,
        length_unit: str | None = None,
        nodata: float | Sequence[float] | None = None,
        wet: float | None = None,
        min_coverage: float = 0.0,
        crop: Crop = None,
        coarsen: int = 1,
        to_unit: str | None = None,
    ) -> None:
        """Look into the file; most values are read chunk by chunk later.

        Args:
            path: A .npy, .npz, .h5, .hdf5, .nc or .zarr file; the last two need the extra `emuloss[xarray]`.
            variable: Name of the array in files that hold several.
            pixel_size: Side of a pixel, in `length_unit`; by default the spacing of the file's coordinates in
                m or km, or 1 where it has none.
            unit: Physical unit of the values; by default what the file says. It converts nothing.
            size: Size of the patches to cut, one number or (height, width); whole frames if None.
            stride: Distance between training patches; their size by default.
            quantum: Step that the values lie apart; by default it is found in them, if they have one.
            length_unit: Unit of the pixel size; by default that of the file's coordinates, or "pixel".
            nodata: Numbers, as they are in the file, that stand for nothing measured.
            wet: See `FieldSource`; by default the data tell.
            min_coverage: Least share of measured pixels in a field; those with less are left out.
            crop: Part of each frame to take, (first row, first column, height, width); all of it if None.
            coarsen: Side of the square blocks of pixels whose means, after conversion, become the pixels of
                fields: 2 makes pixels of 2 km of those of 1 km. A block of which less than half was measured
                is NaN. Sizes and strides are in blocks, all else is told as it is in the data.
            to_unit: Unit to convert the values to. Reflectivity in dBZ becomes rain by Z = 200 R^1.6.

        Raises:
            ArgumentError: If an argument is out of range, the variable is unknown or not chosen, the suffix
                is not one of `Arrays.suffixes`, or xarray is missing.
            DataError: If the file is missing or damaged, its array is not (T, H, W) or (H, W) of real
                numbers, or its numbers are packed in a way that is not known.
        """
        super().__init__(
            pixel_size=pixel_size,
            length_unit=length_unit,
            unit=unit,
            to_unit=to_unit,
            size=size,
            stride=stride,
            min_coverage=min_coverage,
            crop=crop,
            coarsen=coarsen,
            quantum=quantum,
            wet=wet,
            nodata=nodata,
        )
        self.path = Path(path)
        if self.path.suffix.lower() not in self.suffixes:
            raise ArgumentError(f"`path` (={str(path)!r}) must end in {', '.join(self.suffixes)}.")
        if not os.path.exists(self.path):
            raise DataError(f"{self.path} does not exist; give an array file.")
        with open_arrays(self.path) as arrays:
            self.variable = _choose(arrays, variable, self.path)
            what = f"{self.path}, {self.variable}" if len(arrays) > 1 else str(self.path)
            self.lay_out(what, arrays[self.variable])
            if is_data_array(arrays[self.variable].array):
                self.tell_times(self._times_of(arrays[self.variable].array))
        self.find_quantum()

    def _times_of(self, array: Any) -> Sequence[np.datetime64 | None] | None:
        """The times of the frames of an xarray DataArray, as far as it tells them."""
        *time, rows, columns = (str(array.dims[axis]) for axis in self.axes)
        fixed = tuple((str(name), 0) for axis, name in enumerate(array.dims) if axis not in self.axes)
        return times_of(array, Layout(rows, columns, time[0] if time else None, (), fixed))

    def frames_at(self, first: int, last: int) -> NDArray[np.float32]:
        """Read the frames (n, H, W) from the first to before the last, as far as there are any."""
        with open_arrays(self.path, self.variable) as arrays:
            values = self.packing.unpacked(arrays[self.variable].array[self.at(first, last)])
        return values if len(self.axes) == 3 else values[None]

    def origin(self) -> dict[str, Any]:
        """The file, which counts by its name and by its first, middle and last frame."""
        seen = [self.frames_at(i, i + 1).tobytes() for i in (0, self.frames // 2, self.frames - 1)]
        return {
            "file": self.path.name,
            "variable": self.variable,
            "shape": list(self.shape),
            "digest": hashlib.sha256(b"".join(seen)).hexdigest()[:16],
        }


def _choose(arrays: Mapping[str, Stored], variable: str | None, path: Path) -> str:
    """Name of the array to read: the one asked for, or the only one that can hold fields."""
    if variable is not None:
        variable = variable.strip("/")  # of HDF5, whose names are paths
        if variable not in arrays:
            raise ArgumentError(
                f"`variable` (={variable!r}) is not in {path}; it holds {', '.join(arrays)}"
                f"{did_you_mean(variable, arrays)}."
            )
        return variable
    fitting = [name for name, stored in arrays.items() if _may_hold_fields(stored.array)]
    if not fitting:
        held = ", ".join(f"{name} {stored.array.shape}" for name, stored in arrays.items()) or "nothing"
        remedy = "; choose by xarray:FILE" if path.suffix.lower() in (".nc", ".zarr") else ""
        raise DataError(f"{path} holds no array of shape (T, H, W) or (H, W), but {held}{remedy}.")
    if len(fitting) > 1:
        raise ArgumentError(f"`variable` must choose one of {', '.join(fitting)} in {path}.")
    return fitting[0]


def _may_hold_fields(array: Any) -> bool:
    """Whether an array has two or three axes and holds numbers."""
    return len(axes_of_frames(array.shape)) in (2, 3) and array.dtype.kind in "biuf"
