"""The size of a pixel, from the coordinates that a file gives to rows and columns."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...foundation.units import conversion

_EVEN = 0.01
"""Largest deviation of distances between neighbours, as a share of their mean: coordinates are rounded."""
_SQUARE = 1e-3
"""Largest difference of height and width of a square pixel, as a share of its side."""
_LARGE = 100.0
"""Metres from which the sides of pixels are told in km."""


class Coordinate(NamedTuple):
    """Where the rows or the columns of an array lie.

    Attributes:
        name: What they are called.
        values: One number for each.
        unit: Of these numbers; empty where it is not told.
    """

    name: str
    values: NDArray[Any]
    unit: str


class Grid(NamedTuple):
    """Size of a square pixel, and the unit of length that it is in."""

    pixel_size: float = 1.0
    length_unit: str = "pixel"


def grid_of(what: str, *axes: Coordinate | None) -> Grid:
    """The pixels of a grid: in km if it is told in metres and they are large; 1 where that is not told.

    Args:
        what: What messages call the array.
        *axes: Where the rows and the columns lie; None where that is not told.

    Warns:
        UserWarning: Coordinates are given from which no size of a pixel follows: in degrees, unevenly spaced,
            or of pixels that are not square. Lengths are then in pixels.
    """
    grid, reason = measured(*axes)
    if reason:
        warnings.warn(f"{what}: {reason}", stacklevel=2)
    return grid


def measured(*axes: Coordinate | None) -> tuple[Grid, str]:
    """The pixels of a grid, see `grid_of`; and why coordinates that are given tell no size of a pixel."""
    told = [axis for axis in axes if axis is not None and len(axis.values) > 1]
    for axis in told:
        if axis.unit.casefold().startswith("degree"):
            return _without_size(f"{axis.name} is in {axis.unit}, in which pixels have no one size")
    sizes = [size for axis in told if (size := conversion(axis.unit, "m")) is not None]
    if len(sizes) < 2:
        return Grid(), ""
    steps = [np.diff(np.asarray(axis.values, np.float64)) for axis in told]
    for axis, step in zip(told, steps, strict=True):
        if not np.ptp(step) < 2 * _EVEN * abs(step.mean()):
            return _without_size(f"the values of {axis.name} are not evenly spaced")
    height, width = (abs(float(step.mean())) * size for step, size in zip(steps, sizes, strict=True))
    if abs(height - width) > _SQUARE * width:
        return _without_size(f"its pixels of {height:g} by {width:g} m are not square")
    unit = told[0].unit if sizes[0] != 1 else "km" if height >= _LARGE else "m"
    return Grid(float(f"{height / (conversion(unit, 'm') or 1):.6g}"), unit), ""


def _without_size(reason: str) -> tuple[Grid, str]:
    return Grid(), f"{reason}; lengths are in pixels unless you give pixel_size=, or regrid the data"
