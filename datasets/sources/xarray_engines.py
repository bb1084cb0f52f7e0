"""Files in the hands of xarray, whose engines open them."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ...errors import ArgumentError, DataError
from ...foundation.xarrays import import_xarray

NETCDF, ZARR, GRIB, GEOTIFF = "netcdf4", "zarr", "cfgrib", "rasterio"
ENGINES = {
    ".nc": NETCDF,
    ".nc4": NETCDF,
    ".cdf": NETCDF,
    ".h5": NETCDF,
    ".hdf5": NETCDF,
    ".zarr": ZARR,
    ".grib": GRIB,
    ".grib2": GRIB,
    ".grb": GRIB,
    ".grb2": GRIB,
    ".tif": GEOTIFF,
    ".tiff": GEOTIFF,
}
"""What opens files, by their suffix."""
_NEEDS = {
    NETCDF: ("netCDF4", "xarray"),
    ZARR: ("zarr", "xarray"),
    GRIB: ("cfgrib", "grib"),
    GEOTIFF: ("rioxarray", "geotiff"),
}
"""The package behind an engine, and the extra that brings it."""

_ALONE = threading.RLock()
"""Held while a file is open: the libraries of NetCDF and of GRIB crash where two threads are in them, and
xarray's locks guard reading alone, not opening."""

_LAST = 4096
"""Bytes at the end of a GRIB file in which its last message ends; some are padded."""

Backend = Mapping[str, Any]
_NONE: Backend = MappingProxyType({})


def engine_of(path: Path, engine: str | None = None) -> str:
    """What opens a file: what is asked for, or else what its suffix says.

    Raises:
        ArgumentError: The suffix says nothing, or a package is missing.
    """
    found = ENGINES.get(path.suffix.casefold()) if engine is None else engine
    if found is None:
        raise ArgumentError(f"{path.name} ends in none of {', '.join(ENGINES)}; give engine='netcdf4'.")
    import_xarray(path.name)
    package, extra = _NEEDS.get(found, ("xarray", "xarray"))
    if importlib.util.find_spec(package) is None:
        raise ArgumentError(f"{path.name} needs {package}; run: pip install 'emuloss[{extra}]'.")
    return found


@contextmanager
def opened(path: Path, engine: str, backend: Backend = _NONE) -> Iterator[Any]:
    """A file as an xarray Dataset that reads values when they are asked for, as they are stored.

    GRIB alone comes decoded, for which it has no attributes.

    Args:
        path: The file.
        engine: What opens it.
        backend: More arguments of the engine, such as "group" or "filter_by_keys".
    """
    with nullcontext() if engine in (ZARR, GEOTIFF) else _ALONE:
        if engine == GRIB:
            status = path.stat()
            yield _scanned(path, status.st_mtime_ns, status.st_size, json.dumps(dict(backend)))
        elif _is_plain(engine, backend):
            with _store(path, backend) as store:
                yield _as_stored(store)
        else:
            with _as_stored(path, engine=engine, backend_kwargs=dict(backend)) as dataset:
                yield dataset


@contextmanager
def opened_variable(path: Path, engine: str, backend: Backend, name: str) -> Iterator[Any]:
    """One variable of a file as an xarray Variable, see `opened`; of NetCDF nothing else is looked at.

    Raises:
        KeyError: The file has no such variable.
    """
    if _is_plain(engine, backend):
        with _ALONE, _store(path, backend) as store:
            yield store.open_store_variable(name, store.ds.variables[name])
    else:
        with opened(path, engine, backend) as dataset:
            yield dataset[name].variable


def _is_plain(engine: str, backend: Backend) -> bool:
    """Whether a file is opened by the library of NetCDF without arguments of xarray's own."""
    return engine == NETCDF and set(backend) <= {"group"}


@contextmanager
def _store(path: Path, backend: Backend) -> Iterator[Any]:
    """A NetCDF file as xarray sees it through the library of NetCDF."""
    xarray = import_xarray(path.name)
    import netCDF4

    try:
        file = netCDF4.Dataset(path)
    except OSError:
        # The library locks what it opens, for which some file systems have no means.
        file = netCDF4.Dataset(path.name, memory=path.read_bytes())
    with file:
        yield xarray.backends.NetCDF4DataStore(file, group=backend.get("group"))


def _as_stored(place: Any, **options: Any) -> Any:
    """A file or a store as an xarray Dataset, its numbers as they are stored, its times not decoded."""
    xarray = import_xarray("a file")
    if options.get("engine") != GEOTIFF:
        options |= {"decode_times": False, "cache": False}
        if _may_leave_indexes_out():
            options["create_default_indexes"] = False  # which cost more than opening, and nothing looks into
    return xarray.open_dataset(place, mask_and_scale=False, **options)


@functools.cache
def _may_leave_indexes_out() -> bool:
    """Whether this version of xarray can open files without indexes of their coordinates."""
    return "create_default_indexes" in inspect.signature(import_xarray("a file").open_dataset).parameters


@functools.lru_cache(maxsize=4)
def _scanned(path: Path, modified: int, size: int, backend: str) -> Any:
    """A GRIB file, of which all messages are looked at to open it, and which is not held open afterwards."""
    xarray = import_xarray(path.name)
    with path.open("rb") as file:
        file.seek(-min(size, _LAST), os.SEEK_END)
        if not file.read().rstrip(b"\0\r\n").endswith(b"7777"):  # with which the standard ends a message
            # cfgrib leaves out what it cannot read, with a line in a log.
            raise DataError(f"{path}: truncated, or no GRIB: its last message has no end.")
    # Without a path of an index none is written beside the data.
    arguments = {"indexpath": "", **json.loads(backend)}
    return xarray.open_dataset(path, engine=GRIB, cache=False, backend_kwargs=arguments)
