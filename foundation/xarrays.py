"""xarray, which is optional, ready to open files."""

from __future__ import annotations

import contextlib
import sys
from types import ModuleType

from ..errors import ArgumentError


def import_xarray(what: str) -> ModuleType:
    """Import xarray.

    Opening a file loads all of its backends. That of eccodes brings a library PROJ of its own, which pyproj
    crashes on unless it was loaded before.

    Args:
        what: What messages say that it is needed for.

    Raises:
        ArgumentError: It is missing.
    """
    with contextlib.suppress(ImportError):
        import pyproj  # noqa: F401
    try:
        import xarray
    except ImportError as error:
        raise ArgumentError(f"{what} needs xarray; run: pip install 'emuloss[xarray]'.") from error
    return xarray


def is_data_array(value: object) -> bool:
    """Whether something is an `xarray.DataArray`; nothing is, before xarray was imported."""
    xarray = sys.modules.get("xarray")
    return xarray is not None and isinstance(value, xarray.DataArray)
