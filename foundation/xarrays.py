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


def refuse_dataset(value: object) -> None:
    """Raise ArgumentError for an `xarray.Dataset`, of which one variable is to be chosen."""
    xarray = sys.modules.get("xarray")
    if xarray is not None and isinstance(value, xarray.Dataset):
        names = [str(name) for name in value.data_vars]
        first = names[0] if names else "rain"
        raise ArgumentError(
            f"fields are a Dataset of {', '.join(names) or 'nothing'}; choose one, such as data[{first!r}]"
        )


def is_data_array(value: object) -> bool:
    """Whether something is an `xarray.DataArray`; nothing is, before xarray was imported."""
    xarray = sys.modules.get("xarray")
    return xarray is not None and isinstance(value, xarray.DataArray)
