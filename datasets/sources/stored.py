"""Arrays in files of NumPy, HDF5, NetCDF and Zarr, read when sliced, with what the file says about them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import h5py
import numpy as np

from ...errors import DataError, EmulossError
from ...foundation.attributes import attribute, number_of, text_of
from ...foundation.files import first_line
from ...foundation.hdf5 import open_hdf5
from .grids import Coordinate
from .xarray_engines import NETCDF, ZARR, opened

SUFFIXES = (".npy", ".npz", ".h5", ".hdf5", ".nc", ".zarr")

_TELLING = ("what", "What", "WHAT", "calibration", "Calibration", "CALIBRATION")
"""Groups of HDF5 files that say what the numbers beside them mean."""

Attributes = Mapping[str, Any]


class Stored(NamedTuple):
    """An array of a file that is open.

    Attributes:
        array: Is sliced, and has a shape and a dtype.
        attributes: Its own.
        around: Name and attributes of each group that may tell something about it.
        axes: Where its rows and its columns lie, as far as that is told: one for each axis.
    """

    array: Any
    attributes: Attributes = MappingProxyType({})
    around: Sequence[tuple[str, Attributes]] = ()
    axes: Sequence[Coordinate | None] = ()


@contextmanager
def open_arrays(path: Path, only: str | None = None) -> Iterator[Mapping[str, Stored]]:
    """Open a file as a mapping from names to arrays that are read when sliced.

    Args:
        path: A file that ends in one of `SUFFIXES`.
        only: The one array of a file that is wanted; None for all.

    Raises:
        ArgumentError: If xarray is missing, which reads NetCDF and Zarr.
        DataError: If the file cannot be read, when it is opened or within the block.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".npy":
            yield {"array": Stored(np.load(path, mmap_mode="r", allow_pickle=False))}
        elif suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                yield _with_masks(archive, only)
        elif suffix in (".h5", ".hdf5"):
            with open_hdf5(path) as file:
                yield _of_hdf5(file, only)
        else:
            with opened(path, ZARR if suffix == ".zarr" else NETCDF) as dataset:
                names = [only] if only else fields_of(dataset)
                found = {str(name): of_data_array(dataset[name]) for name in names}
                yield found if suffix == ".nc" else {name: _of_zarr(each) for name, each in found.items()}
    except (EmulossError, MemoryError):
        raise
    except Exception as error:  # the libraries behind share no class of errors
        raise DataError(
            f"{path} cannot be read as {suffix}, truncated or of another format ({first_line(error)})."
        ) from error


def unit_of(stored: Stored) -> str:
    """The unit that an array says its values have; empty where it does not."""
    told = (attribute(stored.attributes, name) for name in ("units", "unit"))
    return next(filter(None, map(text_of, told)), "")


def is_data_array(thing: object) -> bool:
    """Whether something is an xarray DataArray; xarray is not imported to find out."""
    xarray = sys.modules.get("xarray")
    return xarray is not None and isinstance(thing, xarray.DataArray)


def is_xarray(thing: object) -> bool:
    """Whether something is an xarray DataArray or Dataset; xarray is not imported to find out."""
    xarray = sys.modules.get("xarray")
    return xarray is not None and isinstance(thing, xarray.DataArray | xarray.Dataset)


def of_data_array(array: Any) -> Stored:
    """What an xarray DataArray says about itself."""
    return Stored(array, array.attrs, axes=[coordinate_of(array, name) for name in array.dims])


def _of_zarr(stored: Stored) -> Stored:
    """An array of Zarr: that it is filled with 0 says nothing, because it is where nobody chose a marker."""
    marker = number_of(attribute(stored.attributes, "_FillValue"))
    rest = {key: value for key, value in stored.attributes.items() if key != "_FillValue"}
    return stored._replace(attributes=rest) if marker == 0 else stored


def coordinate_of(array: Any, name: Any) -> Coordinate | None:
    """Where an axis of a DataArray lies; None where there are no numbers."""
    if name not in array.coords or array.coords[name].ndim != 1 or array.coords[name].dtype.kind not in "iuf":
        return None
    along = array.coords[name]
    return Coordinate(str(name), along.values, text_of(along.attrs.get("units")))


def fields_of(dataset: Any) -> Iterator[Any]:
    """The variables of a data set but for bounds of coordinates, which are arrays as well."""
    bounds = {text_of(each.attrs.get("bounds")) for each in dataset.variables.values()}
    return (name for name in dataset.data_vars if str(name) not in bounds)


def _with_masks(archive: Mapping[str, Any], only: str | None) -> dict[str, Stored]:
    """The arrays of an .npz file; a boolean one called "mask" hides values of others, NAME_mask of NAME."""
    found, used = {}, set()
    for name in [only] if only else archive:
        array = archive[name]
        mask = next((each for each in (f"{name}_mask", "mask") if each in archive and each != name), None)
        if mask and archive[mask].dtype == bool and archive[mask].shape == array.shape:
            array = np.ma.array(array, mask=archive[mask])
            used.add(mask)
        found[name] = Stored(array)
    return {name: stored for name, stored in found.items() if name not in used}


def _of_hdf5(file: h5py.File, only: str | None) -> dict[str, Stored]:
    """The data sets of a file by their whole name, those in groups included, but for its coordinates."""
    found: dict[str, Stored] = {}

    def keep(name: str, member: Any) -> None:
        if isinstance(member, h5py.Dataset) and not member.is_scale:
            found[name] = Stored(member, _attributes(member), _around(member), _axes(member))

    if only:
        keep(only, file[only])
    else:
        file.visititems(keep)
    return found


def _attributes(member: h5py.Dataset) -> dict[str, Any]:
    """Attributes of a data set, the marker among them that HDF5 itself fills it with, unless that is 0."""
    found = _read(member.attrs)
    plist = member.id.get_create_plist()
    given = plist.fill_value_defined() == h5py.h5d.FILL_VALUE_USER_DEFINED
    if given and member.dtype.kind in "iuf" and member.fillvalue != 0:
        found.setdefault("_FillValue", member.fillvalue)
    return found


def _around(member: h5py.Dataset) -> list[tuple[str, Attributes]]:
    """Groups that a data set lies in, from within, and those beside it that say what numbers mean."""
    found: list[tuple[str, Attributes]] = []
    group = member.parent
    while True:
        for each in (group, *(group[name] for name in _TELLING if name in group)):
            if isinstance(each, h5py.Group):
                found.append((str(each.name).strip("/"), _read(each.attrs)))
        if group.name == "/":
            return found
        group = group.parent


def _axes(member: h5py.Dataset) -> list[Coordinate | None]:
    """Where the axes of a data set lie, as its dimension scales say."""
    return [_coordinate_in(axis[0]) if len(axis) else None for axis in member.dims]


def _coordinate_in(scale: Any) -> Coordinate | None:
    """Where an axis lies, of its dimension scale; None where that holds no coordinates."""
    if scale.ndim != 1 or scale.dtype.kind not in "iuf":
        return None
    return Coordinate(str(scale.name).split("/")[-1], scale[()], text_of(scale.attrs.get("units")))


def _read(attributes: h5py.AttributeManager) -> dict[str, Any]:
    """Attributes that h5py can read."""
    found = {}
    for name in attributes:
        with contextlib.suppress(TypeError, OSError):  # of a type that NumPy has not
            found[name] = attributes[name]
    return found
