"""Sources of frames whose unit, pixels and steps are what is asked for, or else what the data say."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError
from ...foundation.arguments import as_name, as_pixel_size, as_positive
from ...foundation.units import converter, same_unit
from ...metrics.declared import as_finite
from .grids import Grid
from .packing import as_markers
from .reflectivity import is_reflectivity, rain_of
from .source import FieldSource
from .tiling import Crop, Size, Tiling

COVERAGE = 0.9
"""Least share of measured pixels in a patch, where nothing else is asked for."""


class Described(FieldSource):
    """Frames, whole or cut, whose values and pixels mean what is asked for, or else what the data say.

    A subclass calls `__init__`, then `settle` once it knows what the data say.

    Attributes:
        own_unit: Unit of the values before they are converted.
        tiling: How frames become fields.
        nodata: Numbers, as they are kept, that stand for nothing measured; a subclass masks them.
    """

    own_unit: str

    def __init__(
        self,
        *,
        size: Size = None,
        stride: Size = None,
        min_coverage: float | None = None,
        crop: Crop = None,
        coarsen: int = 1,
        wet: float | None = None,
        quantum: float | None = None,
        nodata: float | Sequence[float] | None = None,
        unit: str | None = None,
        to_unit: str | None = None,
        pixel_size: float | None = None,
        length_unit: str | None = None,
    ) -> None:
        """Check the options.

        Args:
            size: Size of the patches to cut, one number or (height, width); whole frames if None.
            stride: Distance between training patches; their size by default.
            min_coverage: Least share of measured pixels in a field; by default 0.9 of patches, and 0 of whole
                frames.
            crop: Part of each frame to take, (first row, first column, height, width); all of it if None.
            coarsen: Side of the square blocks of pixels whose means, after conversion, become the pixels of
                fields: 2 makes pixels of 2 km of those of 1 km. A block of which less than half was measured
                is NaN. Sizes and strides are in blocks, all else is told as it is in the data.
            wet: See `FieldSource`; by default the data tell.
            quantum: Step that the values lie apart; by default it is found in them, if they have one.
            nodata: Numbers, as they are kept, that stand for nothing measured.
            unit: Physical unit of the values as they are kept; by default what the data say. It converts
                nothing.
            to_unit: Unit to convert the values to. Reflectivity in dBZ becomes rain by Z = 200 R^1.6.
            pixel_size: Side of a pixel, in `length_unit`; by default what the data say.
            length_unit: Unit of the pixel size; by default what the data say, or "pixel".

        Raises:
            ArgumentError: If one is out of range.
        """
        if min_coverage is None:
            min_coverage = 0.0 if size is None else COVERAGE
        self.tiling = Tiling.of(size, stride, min_coverage, crop, coarsen)
        self.wet = as_finite("wet", wet)
        self._quantum = None if quantum is None else as_positive("quantum", quantum)
        self.nodata = as_markers(nodata)
        self._unit = None if unit is None else as_name("unit", unit, "mm/h")
        self._to_unit = None if to_unit is None else as_name("to_unit", to_unit, "mm/h")
        self._pixel_size = None if pixel_size is None else as_pixel_size(pixel_size)
        self._length_unit = None if length_unit is None else as_name("length_unit", length_unit, "km")

    def settle(self, what: str, unit: str, grid: Grid) -> None:
        """Settle what values and pixels mean.

        Args:
            what: What messages call the data.
            unit: Unit that they say their values have; empty where they do not.
            grid: Pixels that they say they have.

        Raises:
            ArgumentError: If the values cannot be converted, or reflectivity would be averaged.
        """
        self.own_unit = unit if self._unit is None else self._unit
        self.unit = self.own_unit if self._to_unit is None else self._to_unit
        pixel_size = grid.pixel_size if self._pixel_size is None else self._pixel_size
        self.pixel_size = pixel_size * self.tiling.coarsen
        self.length_unit = grid.length_unit if self._length_unit is None else self._length_unit
        if self._to_unit is not None and not self.own_unit:
            raise ArgumentError(
                f"{what} does not tell the unit of its values, which cannot be converted to "
                f"{self._to_unit}; give `unit`."
            )
        if self.tiling.coarsen > 1 and is_reflectivity(self.unit):
            raise ArgumentError(
                f"{what} has {self.unit}, whose means are none of rain; give to_unit='mm/h' beside `coarsen`."
            )
        _conversion(self.own_unit, self.unit)

    def converted(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Values in `unit`, of those in `own_unit`."""
        return np.asarray(_conversion(self.own_unit, self.unit)(values), np.float32)

    def converted_step(self, step: float | None) -> float | None:
        """A step after conversion; None where there is none, or values no longer lie evenly."""
        if step is None:
            return None
        first, second = np.diff(_conversion(self.own_unit, self.unit)(np.arange(3) * step))
        return abs(float(first)) if math.isclose(first, second, rel_tol=1e-6) else None

    def conversion(self) -> dict[str, Any]:
        """What values are converted from and to, JSON-able; nothing where they stay: a part of `config`."""
        same = same_unit(self.own_unit, self.unit)
        return {} if same else {"converted": [self.own_unit, self.unit]}


@functools.lru_cache
def _conversion(given: str, wanted: str) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """What turns values of one unit into those of another.

    Raises:
        ArgumentError: nothing does.
    """
    if same_unit(given, wanted):
        return lambda values: values
    if is_reflectivity(given):
        of_rain = converter("mm/h", wanted)
        return lambda values: of_rain(rain_of(values))
    return converter(given, wanted)
