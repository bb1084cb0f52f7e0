"""What dimensions of xarray objects are, by CF or by common names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .attributes import text_of

_ROWS = ("y", "lat", "latitude", "rlat", "south_north", "nj", "projection_y_coordinate", "rows")
_COLUMNS = ("x", "lon", "longitude", "rlon", "west_east", "ni", "projection_x_coordinate", "columns")
_TIMES = ("time", "valid_time", "forecast_period", "forecast_reference_time")


def row_among(array: Any, names: Iterable[str]) -> str | None:
    """The dimension of rows among those of a DataArray; None where none is told."""
    return _recognised(array, names, "Y", _ROWS)


def column_among(array: Any, names: Iterable[str]) -> str | None:
    """The dimension of columns, likewise."""
    return _recognised(array, names, "X", _COLUMNS)


def is_time(name: str, coordinate: Any) -> bool:
    """Whether a coordinate is one of times, decoded or not, by CF or by its name."""
    told = coordinate.attrs
    return (
        coordinate.dtype.kind in "Mm"
        or " since " in text_of(told.get("units"))
        or text_of(told.get("axis")) == "T"
        or text_of(told.get("standard_name")) in _TIMES
        or name.casefold() in _TIMES
    )


def may_be_time(array: Any, name: str) -> bool:
    """Whether a dimension is one of times, by its coordinate or, where there is none, by its name."""
    return is_time(name, array.coords[name]) if name in array.coords else name.casefold() in _TIMES


def _recognised(array: Any, names: Iterable[str], axis: str, known: Sequence[str]) -> str | None:
    """The dimension of rows or of columns, by CF or by its name."""
    for name in names:
        told = array.coords[name].attrs if name in array.coords else {}
        standard = text_of(told.get("standard_name"))
        if text_of(told.get("axis")) == axis or standard in known or name.casefold() in known:
            return name
    return None
