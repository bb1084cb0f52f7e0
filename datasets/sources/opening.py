"""The sources that have a name, and how any source is opened."""

from __future__ import annotations

import glob
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import ArgumentError, EmulossError, one_line
from ...foundation.docs import entry, with_section
from ...foundation.registry import Registry
from .arrays import Arrays
from .images import Images
from .memory import InMemory, is_array, is_tensor
from .odim import Opera
from .pysteps_files import PystepsFiles
from .rain import Rain
from .source import FieldSource
from .stored import is_xarray
from .xarray_files import XarrayFiles
from .xarray_objects import of_xarray

Kind = Callable[..., FieldSource]
"""A class of sources, or a function that makes one."""


def _unusable(scheme: str, kind: Any) -> str:
    """What is wrong with a class that another package offers as a source."""
    if isinstance(kind, type) and issubclass(kind, FieldSource):
        return ""
    return "is no subclass of emuloss.datasets.FieldSource"


SOURCES: Registry[str, type[FieldSource]] = Registry(
    "source of fields", group="emuloss.sources", usable=_unusable
)
"""The scheme of a source, the part of a specification before the colon, and its class.

The first parameter of a class, where it has no default, takes the place of the data, after the colon; the
others are options. Other packages offer theirs as entry points: scheme = "module:Class".
"""
_OWN: dict[str, type[FieldSource]] = {
    "rain": Rain,
    "opera": Opera,
    "images": Images,
    "array": Arrays,
    "pysteps": PystepsFiles,
    "xarray": XarrayFiles,
}
for _scheme, _kind in _OWN.items():
    SOURCES.register(_scheme)(_kind)

_PLACES = {"folder": "DIR", "path": "FILE", "place": "IMPORTER:DIR", "files": "FILES"}
"""What messages call the place of the data, by the parameter that takes it."""


def open_source(spec: str, **options: Any) -> FieldSource:
    """Open a source of fields from a short text, as the command line does.

    Args:
        spec: "rain", "opera:DIR", "images:DIR", "pysteps:IMPORTER:DIR", "xarray:FILES", "array:FILE", or a
            file with one of the suffixes of `Arrays`.
        **options: Options of the source, which are listed below for each.

    Returns:
        The source.

    Raises:
        ArgumentError: If the specification is unknown or the source lacks an option.
        DataError: If the files cannot be used.
    """
    scheme, place = _read_spec(spec)
    return _built(scheme, SOURCES[scheme], [place] if place else [], options)


open_source.__doc__ = with_section(
    open_source.__doc__, "Sources", (entry(scheme, kind) for scheme, kind in _OWN.items())
)


def as_source(fields: Any, *, seed: int | None = None, **options: Any) -> FieldSource:
    """The source of fields that are given in any form.

    Args:
        fields: A source, which stays as it is; a specification or a file, see `open_source`; an array
            (T, H, W) or (H, W) of NumPy, dask or torch, see `InMemory`; or a DataArray or Dataset of xarray,
            which also takes the options of `XarrayFiles` that choose a variable and dimensions.
        seed: Of what is drawn; a source that draws nothing does without it.
        **options: Options of what is opened, such as `size` or `pixel_size`; none for a source.

    Returns:
        The source.

    Raises:
        ArgumentError: If `fields` is none of these, or an option does not fit.
        DataError: If the files or the array cannot be used.
    """
    if isinstance(fields, FieldSource):
        if options:
            raise ArgumentError(
                f"a source that is open takes no options, got {', '.join(options)}; give them to its class"
            )
        return fields
    if isinstance(fields, str | os.PathLike):
        spec = os.fspath(fields)
        seeded = seed is not None and "seed" in options_taken(spec)
        return open_source(spec, **options, **({"seed": seed} if seeded else {}))
    if is_xarray(fields):
        return _built(InMemory.name, of_xarray, [fields], options)
    if is_tensor(fields):
        fields = _of_tensor(fields)
    if is_array(fields):
        return _built(InMemory.name, InMemory, [fields], options)
    raise ArgumentError(
        "fields must be a source, a specification like 'rain' or 'array:FILE', a NumPy array, one of dask "
        f"or torch, or an xarray DataArray or Dataset, got {type(fields).__name__}"
    )


def _of_tensor(tensor: Any) -> Any:
    """The array of a tensor."""
    try:
        if tensor.dtype.itemsize == 2 and tensor.is_floating_point():
            tensor = tensor.float()  # NumPy knows no bfloat16
        return tensor.numpy(force=True)
    except (TypeError, RuntimeError) as error:
        raise ArgumentError(f"fields must be a dense tensor: {one_line(error)}") from error


def _read_spec(spec: str) -> tuple[str, str]:
    """The scheme of a specification, and the place of the data; "" where the source needs none.

    Raises:
        ArgumentError: If the scheme is unknown, lacks its place, or has one in vain.
    """
    scheme, _, place = spec.partition(":")
    is_file = Path(spec).suffix.lower() in Arrays.suffixes and not glob.has_magic(spec)
    if is_file and scheme not in SOURCES:
        return "array", spec
    if scheme not in SOURCES and (os.path.exists(spec) or glob.has_magic(spec)):
        raise ArgumentError(
            f"fields (={spec!r}) must tell what reads them: xarray:{spec} (NetCDF, Zarr, GRIB, GeoTIFF), "
            f"opera:{spec} (ODIM-HDF5), pysteps:IMPORTER:{spec} or images:{spec}"
        )
    if scheme not in SOURCES or bool(place) != bool(_place_of(SOURCES[scheme])):
        raise ArgumentError(
            f"unknown source of fields {spec!r}; use {', '.join(map(_usage, SOURCES))}, "
            f"or a file ending in {', '.join(Arrays.suffixes)}."
        )
    return scheme, place


def _place_of(kind: Kind) -> str:
    """The parameter that takes the place of the data: the first one, unless it has a default; else ""."""
    parameters = inspect.signature(kind).parameters.values()
    return next((p.name for p in list(parameters)[:1] if p.default is p.empty), "")


def options_taken(spec: str) -> list[str]:
    """Names of the options that the source of a specification takes.

    Raises:
        ArgumentError: If there is no such source.
    """
    return _options_of(SOURCES[_read_spec(spec)[0]])


def _options_of(kind: Kind) -> list[str]:
    """The options that a source takes, which come after the place of its data."""
    return [name for name in inspect.signature(kind).parameters if name != _place_of(kind)]


def _takes_any(kind: Kind) -> bool:
    """Whether a source takes options of any name, to hand them on, and checks them itself."""
    return any(each.kind is each.VAR_KEYWORD for each in inspect.signature(kind).parameters.values())


def _built(name: str, kind: Kind, place: Sequence[Any], options: Mapping[str, Any]) -> FieldSource:
    """A source of a class, or of a function.

    Raises:
        ArgumentError: If the source lacks an option, or an option is out of range.
        DataError: If the data cannot be used.
    """
    known = _options_of(kind)
    for option in options:
        if option not in known and not _takes_any(kind):
            raise ArgumentError(f"source {name!r} has no option {option!r}; it takes {', '.join(known)}.")
    try:
        return kind(*place, **options)
    except EmulossError:
        raise
    except (TypeError, ValueError, ArithmeticError) as error:
        given = ", ".join(options)
        raise ArgumentError(
            f"source {name!r} cannot be opened with {given}: {one_line(error)}; check the values"
        ) from error


def usages() -> list[str]:
    """How fields are asked for of each source, and as files."""
    return [*map(_usage, SOURCES), f"FILE ({' '.join(Arrays.suffixes)})"]


def _usage(scheme: str) -> str:
    """How a source is asked for; one that cannot be loaded, by its scheme alone."""
    try:
        place = _place_of(SOURCES[scheme])
    except ArgumentError:
        return scheme
    return f"{scheme}:{_PLACES.get(place, place.upper())}" if place else scheme
