"""Times that the coordinates of an xarray array tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...foundation.attributes import text_of
from ...foundation.dimensions import is_time
from ...foundation.units import conversion
from .dimensions import Layout
from .packing import packing_of

_MADE = "forecast_reference_time"
_DAYS = {"360_day": 360, "all_leap": 366, "366_day": 366}
"""Days of a year in calendars that have others than the dates of NumPy."""
_TELLING = ("units", "_FillValue", "missing_value")
"""Attributes of numbers of times that tell whether one is missing, the first by being there."""
_HALF = np.timedelta64(500, "ms")


def count_times(array: Any, layout: Layout) -> int:
    """Number of times that an array holds."""
    return int(array.sizes.get(layout.time, 1)) if layout.time else 1


def times_of(array: Any, layout: Layout) -> list[np.datetime64 | None] | None:
    """The time (UTC) of each frame of a DataArray, as its coordinates tell; None where they do not.

    Returns:
        One time for each frame, None where that of a frame is missing; None where all are.
    """
    fixed = array.isel(dict(layout.fixed))
    own = [layout.time] if layout.time else []
    count = count_times(array, layout)
    names = ["valid_time", *own, "time", *(str(each) for each in fixed.coords)]
    for name in dict.fromkeys(names):
        if name not in fixed.coords or not is_time(name, fixed.coords[name]):
            continue
        coordinate = fixed.coords[name]
        if set(coordinate.dims) <= set(own) and coordinate.dtype.kind != "m":
            found = _decoded(coordinate)
            if found is not None and text_of(coordinate.attrs.get("standard_name")) == _MADE:
                found = found + _lead_of(fixed, own)
            # Several frames are never of one time: that is when a forecast was made.
            if found is not None and (found.ndim or count == 1):
                return [None if np.isnat(time) else time for time in np.broadcast_to(found, (count,))]
    return None


def _lead_of(array: Any, own: Sequence[str]) -> NDArray[np.timedelta64]:
    """How long after a forecast was made it is valid, as CF tells; nothing where it does not."""
    for coordinate in array.coords.values():
        told = coordinate.attrs
        if text_of(told.get("standard_name")) != "forecast_period" or not set(coordinate.dims) <= set(own):
            continue
        if coordinate.dtype.kind == "m":
            return coordinate.values.astype("timedelta64[s]")
        seconds = conversion(text_of(told.get("units")), "s")
        if seconds is not None and coordinate.dtype.kind in "iuf":
            found = np.full(coordinate.shape, "NaT", "timedelta64[s]")
            known = _known(coordinate)
            found[known] = np.rint(coordinate.values[known] * seconds).astype("timedelta64[s]")
            return found
    return np.zeros((), "timedelta64[s]")


def _decoded(coordinate: Any) -> NDArray[np.datetime64] | None:
    """Times of a coordinate that may be numbers "since" a time, NaT where one is missing.

    None where they are no times, all of them are missing, or one of them is no date.
    """
    unit = text_of(coordinate.attrs.get("units"))
    times = coordinate.values
    if times.dtype.kind == "M":
        return None if np.isnat(times).all() else times.astype("datetime64[s]")
    if times.dtype.kind != "O" and (" since " not in unit or times.dtype.kind not in "iuf"):
        return None
    import cftime

    known = _known(coordinate)
    calendar = text_of(coordinate.attrs.get("calendar")) or "standard"
    if not known.any():
        return None
    found = np.full(times.shape, "NaT", "datetime64[us]")
    try:
        dates = times[known] if times.dtype.kind == "O" else cftime.num2date(times[known], unit, calendar)
        found[known] = np.array([_date(each) for each in dates], found.dtype)
    except (ValueError, OverflowError):
        return None
    # Hours as floating-point numbers fall short of whole seconds.
    return (found + _HALF).astype("datetime64[s]")


def _known(coordinate: Any) -> NDArray[np.bool_]:
    """Where the numbers or the dates of cftime of a coordinate are none that stand for a missing one."""
    values = np.asarray(coordinate.values)
    if values.dtype.kind == "O":
        return np.reshape([hasattr(each, "calendar") for each in values.flat], values.shape)
    told = {key: value for key, value in coordinate.attrs.items() if key in _TELLING}
    packing = packing_of(told, values.dtype, str(coordinate.name))
    return np.asarray(np.isfinite(packing.unpacked(values)))


def _date(date: Any) -> np.datetime64:
    """A date of cftime; of a calendar not all of whose days are dates, what lies as far into the year."""
    days = _DAYS.get(date.calendar)
    if days is None:
        return np.datetime64(date.isoformat(), "us")
    start, end = (np.datetime64(f"{date.year + k:04}-01-01", "us") for k in (0, 1))
    hours = date.hour + date.minute / 60 + date.second / 3600
    share = (date.dayofyr - 1 + hours / 24) / days
    return start + np.timedelta64(round(share * (end - start).astype(int)), "us")
