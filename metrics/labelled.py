"""Curves of xarray objects, which keep the names of their dimensions, and of dask arrays, which stay lazy."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..foundation.arguments import shown
from ..foundation.dimensions import column_among, may_be_time, row_among
from ..foundation.xarrays import import_xarray, is_data_array

Compute = Callable[..., np.ndarray]
"""Maps arrays (N, H, W) onto curves (N, C, Q)."""


def labelled(
    title: str, arity: int, given: Sequence[Any], compute: Compute, axes: dict[str, Any], units: Sequence[str]
) -> Any:
    """Curves of `xarray.DataArray`s: of each of the fields that their last two dimensions are.

    Args:
        title: what messages call the metric.
        arity: how many arrays it takes.
        given: those that it is given, (..., H, W) each; one may lack any of another's dimensions but these.
        compute: the curves of arrays.
        axes: coordinates of the curves' two dimensions by their names, as xarray takes them, outputs first.
        units: of each output.

    Returns:
        A DataArray (..., C, Q), float64, lazy where an array is.

    Raises:
        ArgumentError: another number of arrays, something else among them, or dimensions that do not suit.
    """
    xarray = import_xarray(f"metric {title!r} of a DataArray")
    if len(given) != arity or not all(is_data_array(each) for each in given):
        kinds = ", ".join(type(each).__name__ for each in given)
        raise ArgumentError(f"metric {title!r} takes {arity} arrays, all DataArrays or none, got {kinds}")
    space = given[0].dims[-2:]
    for each in given:
        if len(space) < 2 or each.dims[-2:] != space or 0 in each.shape[-2:]:
            raise ArgumentError(
                f"fields must have two last dimensions of the same names, of a pixel at least, "
                f"got {shown(dict(each.sizes))}; use .transpose(..., 'y', 'x')"
            )
        _check_space(each)
        if taken := set(each.dims) & set(axes):
            raise ArgumentError(f"fields have a dimension {min(taken)!r}, as the curves do; use .rename")
    try:
        given = xarray.align(*given, join="exact", copy=False)
    except ValueError as error:  # AlignmentError, where xarray is new enough to know it
        raise ArgumentError("predictions and observations have other coordinates; align them") from error
    curves = xarray.apply_ufunc(
        functools.partial(_of_any_shape, compute),
        *given,
        input_core_dims=[space] * arity,
        output_core_dims=[list(axes)],
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={
            "output_sizes": {name: len(values[1]) for name, values in axes.items()},
            "allow_rechunk": True,
        },
    )
    beside = {"units": (next(iter(axes)), list(units))}
    return curves.assign_coords(axes | beside).rename(title)


def _check_space(array: Any) -> None:
    """Raise ArgumentError where the last two dimensions seem not to be those of a field."""
    names = [str(name) for name in array.dims]
    last = names[-2:]
    if row_among(array, last) and column_among(array, last):
        return
    sides = [side for side in (row_among(array, names), column_among(array, names)) if side]
    if any(side not in last for side in sides) or any(may_be_time(array, name) for name in last):
        wanted = ", ".join(map(repr, sides)) if len(sides) == 2 else "ROWS, COLUMNS"
        raise ArgumentError(
            f"the last two dimensions are those of a field, got {shown(tuple(names))}; "
            f"use .transpose(..., {wanted}), or give .values if those are meant"
        )


def _of_any_shape(compute: Compute, *arrays: np.ndarray) -> np.ndarray:
    """Curves (..., C, Q) of arrays (..., H, W)."""
    together = np.broadcast_arrays(*arrays)
    *leading, rows, columns = together[0].shape
    curves = compute(*(each.reshape(math.prod(leading), rows, columns) for each in together))
    return curves.reshape(*leading, *curves.shape[1:])
