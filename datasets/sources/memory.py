"""Fields that are in memory already: arrays of NumPy, dask and xarray."""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError
from .frames import Frames
from .stored import Stored, is_data_array, of_data_array
from .tiling import Crop, Size


class InMemory(Frames):
    """Frames of an array (T, H, W) in order of time, or one frame (H, W), whole or cut into patches.

    A chunk holds whole frames: at most 64 fields, or one frame where that has more patches. Axes of length 1
    besides these are left out. What dask holds is computed chunk by chunk, never all at once.

    Attributes:
        variable: Name of an xarray array; None where it has none.
        array: The frames: an array of dask, or of NumPy (T, H, W), float32.
    """

    name = "memory"
    describing = (*Frames.describing, "variable")

    def __init__(
        self,
        fields: Any,
        pixel_size: float | None = None,
        unit: str | None = None,
        length_unit: str | None = None,
        size: Size = None,
        stride: Size = None,
        quantum: float | None = None,
        nodata: float | Sequence[float] | None = None,
        wet: float | None = None,
        min_coverage: float = 0.0,
        crop: Crop = None,
        coarsen: int = 1,
        to_unit: str | None = None,
    ) -> None:
        """Take the array; one that is float32 already is not copied, so leave its values as they are.

        Of one that dask holds, three frames are computed here, and all of them, chunk by chunk, when `config`
        is asked for: labels are told by all values that they are of.

        Args:
            fields: NumPy array, dask array or xarray DataArray (T, H, W) or (H, W) of real numbers; NaN where
                nothing was measured, as where a masked array is masked. What a DataArray says by attributes
                of CF about its numbers counts, see `Arrays`.
            pixel_size: Side of a pixel, in `length_unit`; by default the spacing of a DataArray's
                coordinates in m or km, or 1.
            unit: Physical unit of the values; that of a DataArray is its attribute "units" by default.
            length_unit: Unit of the pixel size; by default that of the coordinates, or "pixel".
            size: Size of the patches to cut, one number or (height, width); whole frames if None.
            stride: Distance between training patches; their size by default.
            quantum: Step that the values lie apart; by default it is found in them, if they have one.
            nodata: Values that stand for nothing measured.
            wet: See `FieldSource`; by default the data tell.
            min_coverage: Least share of measured pixels in a field; those with less are left out.
            crop: Part of each frame to take, (first row, first column, height, width); all of it if None.
            coarsen: Side of the square blocks of pixels whose means, after conversion, become the pixels of
                fields: 2 makes pixels of 2 km of those of 1 km. A block of which less than half was measured
                is NaN. Sizes and strides are in blocks, all else is told as it is in the data.
            to_unit: Unit to convert the values to. Reflectivity in dBZ becomes rain by Z = 200 R^1.6.

        Raises:
            ArgumentError: If an argument is out of range, or `fields` is no such array.
            DataError: If the array is not (T, H, W) or (H, W) of real numbers, or says that its numbers are
                packed.
        """
        if not is_array(fields):
            raise ArgumentError(
                "fields must be a NumPy array or a dask array or an xarray DataArray, "
                f"got {type(fields).__name__}"
            )
        super().__init__(
            pixel_size=pixel_size,
            length_unit=length_unit,
            unit=unit,
            to_unit=to_unit,
            size=size,
            stride=stride,
            min_coverage=min_coverage,
            crop=crop,
            coarsen=coarsen,
            quantum=quantum,
            wet=wet,
            nodata=nodata,
        )
        stored = of_data_array(fields) if is_data_array(fields) else Stored(fields)
        self.array = fields.data if is_data_array(fields) else fields  # which may be masked
        name = fields.name if is_data_array(fields) else None
        # Of an array of dask without a name xarray takes the token of its graph for one.
        told = name is not None and not (self._lazy and name == self.array.name)
        self.variable = str(name) if told else None
        self.lay_out(self.variable or "fields", stored)
        self.refuse_scaled(self.variable or "fields", fields.dtype)
        if not self._lazy:
            self.array = self._arranged(self.array)
        self.find_quantum()

    def frames_at(self, first: int, last: int) -> NDArray[np.float32]:
        """The frames (n, H, W) from the first to before the last, as far as there are any."""
        return self._arranged(self.array[self.at(first, last)]) if self._lazy else self.array[first:last]

    def _arranged(self, array: Any) -> NDArray[np.float32]:
        """The values (n, H, W) of numbers as they are held."""
        values = self.packing.unpacked(array)
        return values.reshape(-1, *(self.shape[axis] for axis in self.axes[-2:]))

    def origin(self) -> dict[str, Any]:
        """The array, which counts by its name and all of its values, whatever holds them."""
        return {"variable": self.variable, "shape": list(self.shape), "digest": self._digest}

    @property
    def _lazy(self) -> bool:
        return _is_lazy(self.array)

    @functools.cached_property
    def _digest(self) -> str:
        """Digest of all values.

        The name of a graph of dask, its token, costs nothing, but is another one in each process where a
        graph was made of delayed or of random things, and from version to version of dask: labelling could
        not go on in another process. Values are the same wherever they are computed.
        """
        seen = hashlib.sha256()
        for first, last in self._pieces():
            seen.update(np.ascontiguousarray(self.frames_at(first, last)).data)
        return seen.hexdigest()[:16]

    def _pieces(self) -> Iterator[tuple[int, int]]:
        """First and last frame, exclusive, of pieces; those of dask are whole chunks, each computed once."""
        ends = np.arange(1, self.frames + 1)
        if self._lazy and len(self.axes) == 3:
            ends = np.cumsum(self.array.chunks[self.axes[0]])
        first = 0
        while first < self.frames:
            place = int(np.searchsorted(ends, first + self.chunk))
            last = int(ends[min(place, len(ends) - 1)])
            yield first, last
            first = last


def is_array(thing: object) -> bool:
    """Whether something is an array of NumPy, dask or xarray; the last two are not imported to find out."""
    return isinstance(thing, np.ndarray) or _is_lazy(thing) or is_data_array(thing)


def is_tensor(thing: object) -> bool:
    """Whether something is a tensor of torch, which is not imported to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(thing, torch.Tensor)


def _is_lazy(thing: object) -> bool:
    """Whether something is an array of dask, which is not imported to find out."""
    dask = sys.modules.get("dask.array")
    return dask is not None and isinstance(thing, dask.Array)
