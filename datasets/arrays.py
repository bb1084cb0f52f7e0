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

from ..errors import ArgumentError, DataError
from ._patches import as_shape, chunk_length, count_patches, cut, positive_float
from .source import FieldSource


class Arrays(FieldSource):
    """Frames of an array (T, H, W) in order of time, or one frame (H, W), whole or cut into patches.

    A chunk holds whole frames: at most 64 fields, or one frame where that has more patches.
    """

    name = "array"
    chronological = True
    suffixes = (".npy", ".npz", ".h5", ".hdf5", ".nc", ".zarr")

    def __init__(
        self,
        path: str | Path,
        variable: str | None = None,
        pixel_size: float = 1.0,
        unit: str = "",
        size: int | tuple[int, int] | None = None,
        stride: int | tuple[int, int] | None = None,
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
        self.path = Path(path)
        self.pixel_size = positive_float("pixel_size", pixel_size)
        self.unit = unit
        self.quantum = None if quantum is None else positive_float("quantum", quantum)
        if self.path.suffix.lower() not in self.suffixes:
            raise ArgumentError(f"`path` (={str(path)!r}) must end in {', '.join(self.suffixes)}.")
        if stride is not None and size is None:
            raise ArgumentError(f"`stride` (={stride!r}) needs `size`: whole frames are not cut.")
        if not self.path.exists():
            raise DataError(f"{self.path} does not exist; give an array file.")
        with _open_arrays(self.path) as arrays:
            self.variable = _choose(arrays, variable, self.path)
            array = arrays[self.variable]
            self.shape = tuple(int(n) for n in array.shape)
            kind = array.dtype.kind
        if len(self.shape) not in (2, 3) or kind not in "biuf":
            raise DataError(
                f"{self.path}: shape {self.shape} is not (T, H, W) or (H, W) of real numbers; reshape it."
            )
        frame = self.shape[-2:]
        self.field_shape = (frame[0], frame[1]) if size is None else as_shape("size", size)
        self.stride = self.field_shape if stride is None else as_shape("stride", stride)
        if any(n < m for n, m in zip(frame, self.field_shape, strict=True)):
            raise DataError(
                f"{self.path}: `size` (={self.field_shape}) exceeds the shape {frame} of its frames."
            )
        self.frames = self.shape[0] if len(self.shape) == 3 else 1
        if not self.frames:
            raise DataError(f"{self.path}: shape {self.shape} holds no frame.")
        self.chunk = chunk_length(self.frames, count_patches(frame, self.field_shape, self.stride))

    def __len__(self) -> int:
        return -(-self.frames // self.chunk)

    def read(self, k: int, role: str) -> NDArray[np.float32]:
        """Read the frames of one chunk, or their patches, (n, H, W); see `FieldSource.read`."""
        values = self._read_frames(k * self.chunk, (k + 1) * self.chunk)
        stride = self.stride if role == "train" else self.field_shape
        return np.concatenate([cut(frame, self.field_shape, stride) for frame in values])

    def config(self) -> dict[str, Any]:
        """Everything that decides the fields; the file counts by its first, middle and last frame."""
        seen = [self._read_frames(i, i + 1).tobytes() for i in (0, self.frames // 2, self.frames - 1)]
        return {
            "name": self.name,
            "file": self.path.name,
            "variable": self.variable,
            "shape": list(self.shape),
            "digest": hashlib.sha256(b"".join(seen)).hexdigest()[:16],
            "pixel_size": self.pixel_size,
            "unit": self.unit,
            "size": list(self.field_shape),
            "stride": list(self.stride),
            "quantum": self.quantum,
        }

    def _read_frames(self, first: int, last: int) -> NDArray[np.float32]:
        with _open_arrays(self.path) as arrays:
            array = arrays[self.variable]
            frames = array[first:last] if len(self.shape) == 3 else array[...][None]
            return np.asarray(frames, np.float32)


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
            with h5py.File(path, "r") as file:
                yield _list_datasets(file)
        else:
            engine = "zarr" if suffix == ".zarr" else "netcdf4"
            with _import_xarray(path).open_dataset(path, engine=engine, decode_times=False) as dataset:
                yield {str(name): dataset[name] for name in dataset.data_vars}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, ArgumentError):
            raise
        detail = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{path} cannot be read as {suffix}, truncated or of another format ({detail})."
        ) from error


def _list_datasets(file: h5py.File) -> dict[str, h5py.Dataset]:
    found: dict[str, h5py.Dataset] = {}

    def keep(name: str, member: Any) -> None:
        if isinstance(member, h5py.Dataset):
            found[name] = member

    file.visititems(keep)
    return found


def _import_xarray(path: Path) -> Any:
    try:
        import xarray
    except ImportError as error:
        raise ArgumentError(f"{path.name} needs xarray; run: pip install 'emuloss[xarray]'.") from error
    return xarray
