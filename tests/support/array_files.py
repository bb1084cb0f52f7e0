"""Array files as people have them, and the values that they hold."""

import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

CF = {"scale_factor": 0.1, "add_offset": 20.0, "_FillValue": np.int16(-9999), "units": "mm h-1"}
"""How `packed` numbers say what they mean."""


def masked_fields() -> np.ma.MaskedArray:
    """Fields (3, 12, 16) in steps of 0.1, float32; 9.97e36 lies below the mask of a square."""
    fields = np.random.default_rng(0).integers(-50, 200, (3, 12, 16)).astype("f4") / np.float32(10)
    masked = np.ma.array(fields, mask=False)
    masked[:, 2:5, 3:7] = np.ma.masked
    masked.data[:, 2:5, 3:7] = 9.969209968386869e36
    return masked


def packed(values: np.ma.MaskedArray, kind: str = "i2", marker: int = -9999) -> np.ndarray:
    """Numbers that stand for values: 0.1 * number + 20."""
    return np.rint((values.astype(float) - 20) * 10).filled(marker).astype(kind)


def write_hdf5(path: Path, numbers: np.ndarray, attributes: dict[str, Any], place: str = "rain") -> Path:
    """An HDF5 file of one data set."""
    with h5py.File(path, "w") as file:
        file[place] = numbers
        file[place].attrs.update(attributes)
    return path


def swiss(folder: Path, name: str, pixels: np.ndarray) -> Path:
    """A composite as the Swiss service writes it: a GIF of levels (rows, columns), 255 where none is."""
    picture = Image.fromarray(pixels.astype(np.uint8)).convert("P")
    picture.putpalette([level for level in range(256) for _ in "RGB"][::-1])
    picture.save(folder / name, optimize=False)
    return folder / name


def write_netcdf(
    path: Path,
    numbers: np.ndarray,
    attributes: dict[str, Any],
    dims: tuple[str, ...] = ("time", "y", "x"),
    coords: dict[str, Any] | None = None,
) -> Path:
    """A NetCDF or Zarr file of one variable."""
    import xarray  # which is optional

    encoding = {"rain": {"_FillValue": attributes.get("_FillValue")}}
    rest = {key: value for key, value in attributes.items() if key != "_FillValue"}
    data = xarray.Dataset({"rain": (dims, numbers, rest)}, coords=coords)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the writing libraries; reading must not warn
        (data.to_zarr if path.suffix == ".zarr" else data.to_netcdf)(path, encoding=encoding)
    return path


WRITERS = {".h5": write_hdf5, ".nc": write_netcdf, ".zarr": write_netcdf}


def same(found: np.ndarray, values: np.ma.MaskedArray) -> None:
    """Whether fields are those values, NaN where they are masked."""
    np.testing.assert_array_equal(np.isnan(found), np.ma.getmaskarray(values))
    np.testing.assert_allclose(found[~np.isnan(found)], values.compressed(), atol=1e-5)
