"""Fields in array files: NumPy, HDF5, NetCDF and Zarr."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError, DataError
from ...foundation.files import first_line
from ...foundation.hdf5 import open_hdf5
from .frames import Frames, Size


class Arrays(Frames):
    """Frames of an array (T, H, W) in order of time, or one frame (H, W), whole or cut into patches.

    A chunk holds whole frames: at most 64 fields, or one frame where that has more patches.
    """

    name = "array"
    suffixes = (".npy", ".npz", ".h5", ".hdf5", ".nc", ".zarr")

    def __init__(
        self,
        path: str | Path,
        variable: str | None = None,
        pixel_size: float = 1.0,
        unit: str = "",
        size: Size = None,
        stride: Size = None,
        quantum: float | None = None,
    ) -> None:
        """Look into the file; values are read chunk by chunk later.

        Args:
            path: A .npy, .npz, .h5, .hdf5, .nc or .zarr file; the last two need the extra `emuloss[xarray]`.
            variable: Name of the array in files that hold several.
            pixel_size: Side of a pixel, in the unit that lengths are to be measured in.
            unit: Physical unit of the values.
            size: Size of the patches to cut, one number or (height, width); whole frames if None.
            stride: Distance between training patches; their size by default.
            quantum: Step that the values are known to be multiples of, if any.

        Raises:
            ArgumentError: If an argument is out of range, the variable is unknown or not chosen, the suffix
                is not one of `Arrays.suffixes`, or xarray is missing.
            DataError: If the file is missing or damaged, or its array is not (T, H, W) or (H, W) of real
                numbers.
        """
        super().__init__(pixel_size, unit, quantum, size, stride)
        self.path = Path(path)
        if self.path.suffix.lower() not in self.suffixes:
            raise ArgumentError(f"`path` (={str(path)!r}) must end in {', '.join(self.suffixes)}.")
        if not self.path.exists():
            raise DataError(f"{self.path} does not exist; give an array file.")
        with _open_arrays(self.path) as arrays:
            self.variable = _choose(arrays, variable, self.path)
            array = arrays[self.variable]
            shape, kind = array.shape, array.dtype.kind
        self.lay_out(str(self.path), shape, kind)

    def frames_at(self, first: int, last: int) -> NDArray[np.float32]:
        """Read the frames (n, H, W) from the first to before the last, as far as there are any."""
        with _open_arrays(self.path) as arrays:
            array = arrays[self.variable]
            frames = array[first:last] if len(self.shape) == 3 else array[...][None]
            return np.asarray(frames, np.float32)

    def origin(self) -> dict[str, Any]:
        """The file, which counts by its name and by its first, middle and last frame."""
        seen = [self.frames_at(i, i + 1).tobytes() for i in (0, self.frames // 2, self.frames - 1)]
        return {
            "file": self.path.name,
            "variable": self.variable,
            "shape": list(self.shape),
            "digest": hashlib.sha256(b"".join(seen)).hexdigest()[:16],
        }


def _choose(arrays: Mapping[str, Any], variable: str | None, path: Path) -> str:
    """Name of the array to read: the one asked for, or the only one that can hold fields."""
    if variable is not None:
        if variable not in arrays:
            raise ArgumentError(f"`variable` (={variable!r}) is not in {path}; it holds {', '.join(arrays)}.")
        return variable
    fitting = [name for name in arrays if len(arrays[name].shape) in (2, 3)]
    if not fitting:
        raise DataError(f"{path} holds no array of shape (T, H, W) or (H, W).")
    if len(fitting) > 1:
        raise ArgumentError(f"`variable` must choose one of {', '.join(fitting)} in {path}.")
    return fitting[0]


@contextmanager
def _open_arrays(path: Path) -> Iterator[Mapping[str, Any]]:
    """Open a file as a mapping from names to arrays that are read when sliced."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".npy":
            yield {"array": np.load(path, mmap_mode="r", allow_pickle=False)}
        elif suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                yield archive
        elif suffix in (".h5", ".hdf5"):
            with open_hdf5(path) as file:
                yield _list_datasets(file)
        else:
            engine = "zarr" if suffix == ".zarr" else "netcdf4"
            with _import_xarray(path).open_dataset(path, engine=engine, decode_times=False) as dataset:
                yield {str(name): dataset[name] for name in dataset.data_vars}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, ArgumentError):
            raise
        raise DataError(
            f"{path} cannot be read as {suffix}, truncated or of another format ({first_line(error)})."
        ) from error


def _list_datasets(file: h5py.File) -> dict[str, h5py.Dataset]:
    """The data sets of a file by their whole name, those in groups included."""
    found: dict[str, h5py.Dataset] = {}

    def keep(name: str, member: Any) -> None:
        if isinstance(member, h5py.Dataset):
            found[name] = member

    file.visititems(keep)
    return found


def _import_xarray(path: Path) -> Any:
    """The module that reads NetCDF and Zarr files, which is optional."""
    try:
        import xarray
    except ImportError as error:
        raise ArgumentError(f"{path.name} needs xarray; run: pip install 'emuloss[xarray]'.") from error
    return xarray
