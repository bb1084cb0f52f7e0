"""Importers of pysteps: found by name, given their arguments, and called."""

from __future__ import annotations

import bz2
import contextlib
import functools
import gzip
import inspect
import io
import shutil
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError, one_line
from ...foundation.arguments import filled, known_names
from .file_times import TimeOf, reader_of

_ONE_AT_A_TIME = threading.Lock()
"""What importers stand on is not all safe among threads, and neither is keeping warnings silent."""
_UNPACKED: Mapping[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open}
"""What opens packed files, by their suffix."""
_INSTALLED = {
    "pygrib": "pip install pygrib",
    "gdal": "conda install -c conda-forge gdal",
    "netCDF4": "pip install 'emuloss[xarray]'",
}
"""How the packages are installed that importers need besides those of pysteps."""
_ELSEWHERE = {"mrms_grib": "GRIB", "fmi_geotiff": "GeoTIFF"}
"""Importers of formats that xarray reads as well, whose package is hard to install."""


@dataclass(frozen=True)
class Importer:
    """An importer with its arguments; it is looked up where it is called, so that it is cheap to pickle.

    Attributes:
        name: As pysteps calls it, such as "fmi_pgm".
        arguments: By name, but for that of the file.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, path: Path) -> tuple[NDArray[Any], dict[str, Any]]:
        """Values (H, W) of a file, NaN where nothing was measured, and what the importer says of them.

        Raises:
            ArgumentError: If the importer needs a package that is missing.
            Exception: Any other if the file cannot be read.
        """
        importer = _function(self.name)
        named = "gzipped" in _parameters(self.name)
        told = {"gzipped": path.suffix == ".gz"} if named else {}
        with _ONE_AT_A_TIME, warnings.catch_warnings(), _unpacked(path, not named) as file:
            warnings.simplefilter("ignore")  # of files without a measured pixel, and of old calls
            if self.name == "fmi_pgm":
                _refuse_endless(file)
            try:
                values, _, metadata = importer(str(file), **{**self.arguments, **told})
            except Exception as error:
                if type(error).__name__ == "MissingOptionalDependency" or isinstance(error, ImportError):
                    raise ArgumentError(_needs(self.name, error)) from error
                raise
        return filled(values), metadata


class Described(NamedTuple):
    """Files that the configuration of pysteps (pystepsrc) describes.

    Attributes:
        pattern: What their names are like.
        time_of: Reads the time in such a name.
        arguments: What their importer is given.
    """

    pattern: str
    time_of: TimeOf
    arguments: Mapping[str, Any]


def check_importer(name: str) -> None:
    """Refuse a name that no importer has.

    Raises:
        ArgumentError: There is none, or pysteps is missing.
    """
    known = importers()
    if name not in known:
        raise ArgumentError(f"pysteps has no importer {name!r}; use one of {known_names(name, known)}.")


def importers() -> list[str]:
    """The importers that pysteps has, those of its plugins included."""
    return [each[7:] for each in dir(_pysteps().io.importers) if each.startswith("import_")]


def described(name: str, files: Sequence[str]) -> Described | None:
    """What the configuration of pysteps says of files for an importer; None unless it knows half of them.

    Args:
        name: The importer.
        files: Names of the files.
    """
    for source in dict(_pysteps().rcparams.get("data_sources", {})).values():
        if source.get("importer") != name:
            continue
        pattern = _plain(f"{source.get('fn_pattern')}.{source.get('fn_ext')}")
        try:
            read = reader_of(pattern, whole=True)
        except ArgumentError:  # the user's own file may hold anything
            continue
        time_of = functools.partial(_time_of_plain, read)
        if 2 * sum(time_of(each) is not None for each in files) >= len(files):
            return Described(pattern, time_of, dict(source.get("importer_kwargs", {})))
    return None


def _time_of_plain(read: TimeOf, name: str) -> np.datetime64 | None:
    return read(_plain(name))


def _plain(name: str) -> str:
    """Name of a file once it is unpacked."""
    return name.removesuffix(".gz").removesuffix(".bz2")


def check_arguments(name: str, given: Mapping[str, Any], others: Sequence[str]) -> None:
    """Refuse arguments that an importer does not name: most take any, and disregard it.

    Args:
        name: The importer.
        given: The arguments.
        others: Options of the source, for the message.

    Raises:
        ArgumentError: One is not known.
    """
    own = [each for each in _parameters(name) if each != "gzipped"]
    for argument in given:
        if argument not in own:
            known = known_names(argument, dict.fromkeys([*own, *others]))
            raise ArgumentError(f"source 'pysteps:{name}' has no option {argument!r}; it takes {known}.")


def arguments_of(name: str, *given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of an importer out of what is given, the last counting most.

    Raises:
        ArgumentError: One is missing that it cannot do without.
    """
    parameters = _parameters(name)
    found = {key: value for each in given for key, value in each.items() if key in parameters}
    found.pop("gzipped", None)  # which the name of each file tells
    missing = [key for key, each in parameters.items() if each.default is each.empty and key not in found]
    if missing:
        raise ArgumentError(
            f"importer {name!r} of pysteps needs {' and '.join(missing)} for such files; give them as "
            f"options of the source, see help(pysteps.io.import_{name})."
        )
    return found


def _parameters(name: str) -> dict[str, inspect.Parameter]:
    """The named parameters of an importer, but for the file."""
    every = list(inspect.signature(_function(name)).parameters.items())[1:]
    return {key: each for key, each in every if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}


def _function(name: str) -> Callable[..., Any]:
    """An importer by its name."""
    return getattr(_pysteps().io.importers, f"import_{name}")


def _pysteps() -> Any:
    """The package, whose greeting is kept silent.

    Raises:
        ArgumentError: It is missing, or cannot be imported.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            import pysteps
    except ModuleNotFoundError as error:
        if error.name == "pysteps":
            raise ArgumentError("this source needs pysteps; run: pip install 'emuloss[pysteps]'.") from error
        raise ArgumentError(_broken(error)) from error
    except Exception as error:  # of a plugin, or of its configuration
        raise ArgumentError(_broken(error)) from error
    return pysteps


def _broken(error: Exception) -> str:
    return f"pysteps cannot be imported ({one_line(error)}); mend it, its plugins or its file pystepsrc."


def _needs(name: str, error: Exception) -> str:
    """Which package an importer misses: pysteps names it first."""
    package = error.name if isinstance(error, ImportError) and error.name else str(error).split()[0]
    remedy = f"run: {_INSTALLED[package]}" if package in _INSTALLED else "install it"
    other = f", or read the {_ELSEWHERE[name]} files as xarray:FOLDER" if name in _ELSEWHERE else ""
    return f"importer {name!r} of pysteps needs {package}; {remedy}{other}."


def _refuse_endless(path: Path) -> None:
    """Refuse a picture without comments: pysteps would look for them for ever.

    Raises:
        ValueError: It has none.
    """
    opened = _UNPACKED.get(path.suffix, open)
    with opened(path, "rb") as file:
        if not any(line.startswith(b"#") for line in file):
            raise ValueError("no comments that tell what the picture shows")


@contextmanager
def _unpacked(path: Path, wanted: bool) -> Iterator[Path]:
    """A file, unpacked for importers that do not do so themselves."""
    opened = _UNPACKED.get(path.suffix) if wanted else None
    if opened is None:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / path.stem
        with opened(path, "rb") as packed, file.open("wb") as plain:
            shutil.copyfileobj(packed, plain)
        yield file
