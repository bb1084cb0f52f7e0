"""Fields of xarray objects."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import ArgumentError
from ...foundation.arguments import as_name
from .archive import MisfitError
from .dimensions import Choice, Layout, Wanted, layout_of
from .memory import InMemory
from .source import FieldSource
from .stored import is_data_array
from .tiling import Crop, Size
from .xarray_files import chosen
from .xarray_times import times_of


def of_xarray(
    fields: Any,
    variable: str | None = None,
    time: str | None = None,
    select: Mapping[str, Choice] | str | None = None,
    members: Sequence[str] | str | None = None,
    rows: str | None = None,
    columns: str | None = None,
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
) -> FieldSource:
    """The source of the fields of a DataArray or a Dataset, in order of their times.

    Args:
        fields: The object.
        variable: Name of the variable of a Dataset that holds several.
        time: Dimension of the times, see `XarrayFiles`, as for the next four.
        select: What to take of further dimensions.
        members: Further dimensions of which all are taken, as more fields.
        rows: Dimension of the rows.
        columns: Dimension of the columns.
        pixel_size: See `InMemory`, as for all that follow.
        unit: Physical unit of the values.
        length_unit: Unit of the pixel size.
        size: Size of the patches to cut.
        stride: Distance between training patches.
        quantum: Step that the values lie apart.
        nodata: Values that stand for nothing measured.
        wet: See `FieldSource`.
        min_coverage: Least share of measured pixels in a field.
        crop: Part of each frame to take.
        coarsen: Side of the square blocks of pixels whose means become the pixels of fields.
        to_unit: Unit to convert the values to.

    Raises:
        ArgumentError: If an argument is out of range, or a variable or a dimension has to be chosen.
        DataError: If the array does not hold real numbers, or says that they are packed.
    """
    wanted = Wanted.of(time, rows, columns, select, members)
    try:
        array = fields if is_data_array(fields) else fields[chosen(fields, _as_variable(variable))]
        layout = layout_of(array, wanted, sole_is_time=True)
    except MisfitError as error:
        raise ArgumentError(f"fields: {error}") from error
    frames, times = _in_order(array, layout)
    source = InMemory(
        frames,
        pixel_size=pixel_size,
        unit=unit,
        to_unit=to_unit,
        length_unit=length_unit,
        size=size,
        stride=stride,
        quantum=quantum,
        nodata=nodata,
        wet=wet,
        min_coverage=min_coverage,
        crop=crop,
        coarsen=coarsen,
    )
    source.tell_times(times)
    return source


def _as_variable(variable: str | None) -> str | None:
    return None if variable is None else as_name("variable", variable, "rain")


def _in_order(array: Any, layout: Layout) -> tuple[Any, list[np.datetime64] | None]:
    """The frames (T, H, W) or (H, W) of an array in order of their times, and these, if it tells them."""
    told = times_of(array, layout) or []
    known = [(time, i) for i, time in enumerate(told) if time is not None]
    order = [i for _, i in sorted(known)]
    arranged = layout.at(array, slice(None))
    if layout.time and known and order != list(range(len(told))):
        if len(known) < len(told):
            warnings.warn(
                f"left out {len(told) - len(known)} of {len(told)} frames, whose times are missing",
                stacklevel=3,
            )
        arranged = arranged.isel({layout.time: order})
    elif _long(arranged) == _long(array):
        arranged = array  # as it is given, for that is what it is told from others by
    count = int(np.prod([array.sizes[name] for name in layout.members]))
    if layout.members:
        arranged = _flat(arranged, layout)
    return arranged, [time for time, _ in sorted(known) for _ in range(count)] or None


def _long(array: Any) -> list[Any]:
    """The dimensions of an array that are longer than 1."""
    return [name for name in array.dims if array.sizes[name] > 1]


def _flat(array: Any, layout: Layout) -> Any:
    """An array (..., H, W) as frames (n, H, W)."""
    sides = (layout.rows, layout.columns)
    coords = {name: array.coords[name] for name in sides if name in array.coords}
    shape = (-1, *(array.sizes[name] for name in sides))
    values = array.data.reshape(shape)
    return type(array)(values, coords, ("field", *sides), array.name, array.attrs)
