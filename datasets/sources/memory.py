"""Fields that are in memory already: NumPy arrays, and arrays of xarray."""

from __future__ import annotations

import functools
import hashlib
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError
from ...foundation.arguments import as_name
from .frames import Frames, Size


class InMemory(Frames):
    """Frames of an array (T, H, W) in order of time, or one frame (H, W), whole or cut into patches.

    A chunk holds whole frames: at most 64 fields, or one frame where that has more patches.

    Attributes:
        variable: Name of an xarray array; None where it has none.
        values: The frames (T, H, W), float32.
    """

    name = "memory"
    describing = (*Frames.describing, "variable")

    def __init__(
        self,
        fields: Any,
        pixel_size: float = 1.0,
        unit: str | None = None,
        length_unit: str = "pixel",
        size: Size = None,
        stride: Size = None,
        quantum: float | None = None,
    ) -> None:
        """Take the array; one that is float32 already is not copied, so leave its values as they are.

        Args:
            fields: NumPy array or xarray DataArray (T, H, W) or (H, W) of real numbers; NaN where nothing
                was measured, as where a masked array is masked.
            pixel_size: Side of a pixel, in `length_unit`.
            unit: Physical unit of the values; that of a DataArray is its attribute "units" by default.
            length_unit: Unit of the pixel size.
            size: Size of the patches to cut, one number or (height, width); whole frames if None.
            stride: Distance between training patches; their size by default.
            quantum: Step that the values are known to be multiples of, if any.

        Raises:
            ArgumentError: If an argument is out of range, or `fields` is no such array.
            DataError: If the array is not (T, H, W) or (H, W) of real numbers.
        """
        labelled = is_data_array(fields)
        if not (labelled or isinstance(fields, np.ndarray)):
            raise ArgumentError(
                f"fields must be a NumPy array or an xarray DataArray, got {type(fields).__name__}"
            )
        if unit is None:
            unit = str(fields.attrs.get("units", "")) if labelled else ""
        super().__init__(pixel_size, unit, quantum, size, stride)
        self.length_unit = as_name("length_unit", length_unit, "km")
        self.variable = None if not labelled or fields.name is None else str(fields.name)
        self.lay_out("fields" if self.variable is None else self.variable, fields.shape, fields.dtype.kind)
        values = _unmasked(fields.values if labelled else fields)
        self.values = values if values.ndim == 3 else values[None]

    def frames_at(self, first: int, last: int) -> NDArray[np.float32]:
        """The frames (n, H, W) from the first to before the last, as far as there are any."""
        return self.values[first:last]

    def origin(self) -> dict[str, Any]:
        """The array, which counts by its name and by all of its values."""
        return {"variable": self.variable, "shape": list(self.shape), "digest": self._digest}

    @functools.cached_property
    def _digest(self) -> str:
        """Digest of all values."""
        seen = hashlib.sha256()
        for frame in self.values:
            seen.update(np.ascontiguousarray(frame).data)
        return seen.hexdigest()[:16]


def is_data_array(thing: object) -> bool:
    """Whether something is an xarray DataArray; xarray is not imported to find out."""
    xarray = sys.modules.get("xarray")
    return xarray is not None and isinstance(thing, xarray.DataArray)


def _unmasked(array: NDArray[Any]) -> NDArray[np.float32]:
    """Values in single precision; NaN where they are masked."""
    if isinstance(array, np.ma.MaskedArray):
        return np.ma.filled(array.astype(np.float32), np.nan)
    return np.asarray(array, np.float32)
