"""Archives: folders of many files, of which each frame, a time step of a file, is a chunk."""

from __future__ import annotations

import abc
import functools
import hashlib
import math
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError, DataError, EmulossError, one_line
from ...foundation.arguments import as_flag
from ...foundation.bars import counted
from ...foundation.units import same_unit
from ...metrics import found_quantum
from .described import Described
from .grids import Grid
from .source import FEWEST_VALUES

T = TypeVar("T")

SAME_SIZE = 1e-3
"""Difference of pixels that are of one size, as a share of it: writers compute sizes from corners."""
_REMEDY = "; repair or remove it, or give `skip_unreadable` to leave such files out."


@dataclass(frozen=True)
class Entry:
    """One frame of an archive.

    Attributes:
        path: The file.
        index: Number of the frame (time step) in the file.
        time: When it was measured or is valid, UTC; None where that is not told.
    """

    path: Path
    index: int = 0
    time: np.datetime64 | None = None


class Told(NamedTuple):
    """What a file says about its frames.

    Attributes:
        shape: Of a frame, (H, W).
        times: Of each frame, UTC; None where that is not told.
        unit: Physical unit of the values; empty where that is not told.
        grid: Its pixels.
        quantity: What was measured; empty where that is not told, or where the file was asked for it.
        quantum: Step that the values lie apart, if it says so.
    """

    shape: tuple[int, int]
    times: Sequence[np.datetime64 | None] = (None,)
    unit: str = ""
    grid: Grid = Grid()
    quantity: str = ""
    quantum: float | None = None

    @property
    def timed(self) -> bool:
        """Whether the time of any frame is told."""
        return any(time is not None for time in self.times)


class MisfitError(DataError):
    """A file is sound, but has no place in the archive, such as one of another quantity."""


class Archive(Described):
    """Many files of one kind, one frame (file and time step) a chunk, in order of time.

    The names of files only break ties, or stand in where no time is told. Files are opened when the archive
    is built; values are read chunk by chunk later, but for three frames that tell the quantum. Files that do
    not fit beside most of the others are left out: those of another unit, quantity, pixel size or, where
    frames stay whole, shape. They are kept in `skipped`, and one warning tells how many they are. Files that
    cannot be read end the work, unless `skip_unreadable` leaves them out as well; if this shows when a chunk
    is read, it has no fields, and the copy of the archive that read it adds the file to its `skipped`.

    A subclass calls `__init__`, then `scan` with its files; it gives `look`, `frame` and, if it has options
    of its own that decide values, `choices`. What these raise of other libraries becomes a DataError that
    names the file; they raise MisfitError for a sound file that has no place here.

    Attributes:
        folder: Where the files stand, which their names are relative to.
        entries: The frames, in order of time.
        skip_unreadable: Whether files that cannot be read are left out.
    """

    chronological = True
    describing: ClassVar[tuple[str, ...]] = ("pixel_size", "length_unit", "unit", "quantum")
    folder: Path
    entries: Sequence[Entry]

    def __init__(self, *, skip_unreadable: bool = False, **options: Any) -> None:
        """Check the options.

        Args:
            skip_unreadable: Leave files out that cannot be read, and count them.
            **options: See `Described`; numbers are as they are in the files.

        Raises:
            ArgumentError: If one is out of range.
        """
        super().__init__(**options)
        self.skip_unreadable = as_flag("skip_unreadable", skip_unreadable)

    @abc.abstractmethod
    def look(self, path: Path) -> Told:
        """What one file says about its frames; reads no values where the format allows.

        Raises:
            MisfitError: If the file is sound, but has no place in this archive.
            Exception: Any other if it cannot be read.
        """

    @abc.abstractmethod
    def frame(self, entry: Entry) -> NDArray[Any]:
        """Read one frame (H, W) of real numbers in `own_unit`, NaN where nothing was measured.

        Where a time has several members, they are frames (n, H, W).

        Raises:
            Exception: Any if it cannot be read.
        """

    def choices(self) -> dict[str, Any]:
        """Options of a subclass that decide values, JSON-able: a part of `config`."""
        return {}

    def scan(self, folder: Path, files: Sequence[Path]) -> None:
        """Look into the files, put those that fit in order, and settle what their values mean.

        Args:
            folder: Where the files stand.
            files: The files, at least one.

        Raises:
            ArgumentError: If the values cannot be converted, or another package is needed.
            DataError: If no file fits, or one cannot be read and is not to be left out.

        Warns:
            UserWarning: Files are left out.
        """
        self.folder = folder
        self.skipped: dict[str, str] = {}
        told = self._looked_into(files)
        kind = _commonest(told.values())
        for path, each in list(told.items()):
            reason = self._misfit(each, kind)
            if reason:
                self.skipped[self.name_of(path)] = reason
                del told[path]
        if not told:
            raise DataError(_none_fits(self.skipped, folder))
        self._tell_skipped(len(files))
        self.field_shape = self.tiling.size_in(kind.shape)
        self.settle(str(folder), kind.unit, kind.grid)
        self.entries = self._in_order(told)
        times = [entry.time for entry in self.entries if entry.time is not None]
        self.times = times if len(times) == len(self.entries) else None
        self.quantum = self.find_quantum(kind.quantum)

    def find_quantum(self, told: float | None) -> float | None:
        """The step of the values: what is asked for, or what is found in three frames, or what is told."""
        if self._quantum is not None:
            return self.tiling.step(self._quantum)
        last = len(self) - 1
        values = np.concatenate([self._seen(k) for k in sorted({0, last // 2, last})])
        found = found_quantum(values, FEWEST_VALUES) if np.isfinite(values).any() else None
        return self.tiling.step(found or self.converted_step(told))

    def name_of(self, path: Path) -> str:
        """What a file is called: its place in the folder, wherever that stands."""
        return path.relative_to(self.folder).as_posix() if path.is_relative_to(self.folder) else path.name

    @property
    def files(self) -> list[Path]:
        """The files that hold the frames, in order of time."""
        return list(dict.fromkeys(entry.path for entry in self.entries))

    def __len__(self) -> int:
        return len(self.entries)

    def read(self, k: int, role: str) -> NDArray[np.float32]:
        """Read one frame, or its patches, (n, H, W); see `FieldSource.read`.

        Where unreadable files are left out and this one is, it has no fields.
        """
        try:
            values = self.read_frame(k)
            frames = values.reshape(-1, *values.shape[-2:])
            return np.concatenate([self.tiling.cut(frame, role) for frame in frames])
        except DataError as error:
            if not self.skip_unreadable:
                raise
            self.skipped[self.file_of(k)] = _reason(self.entries[k].path, error)
            return np.empty((0, *self.field_shape), np.float32)

    def read_frame(self, k: int) -> NDArray[np.float32]:
        """Read one whole frame (rows, columns), or those of its members, NaN where nothing was measured.

        Raises:
            DataError: If the file cannot be read, or its frame is of another shape than the archive's.
        """
        entry = self.entries[k]
        values = self._guarded(entry.path, lambda: self.frame(entry))
        misfit = self.tiling.misfit((values.shape[-2], values.shape[-1]), self.field_shape)
        if misfit:
            raise DataError(f"{entry.path}: {misfit}.")
        return self.converted(values)

    def file_of(self, k: int) -> str:
        """Name of the file of a chunk, as `skipped` knows it."""
        return self.name_of(self.entries[k].path)

    def config(self) -> dict[str, Any]:
        """Everything that decides the fields."""
        return {
            **self.listed(),
            "frames": len(self.entries),
            "size": None if self.tiling.size is None else list(self.tiling.size),
            "stride": list(self.tiling.stride_of(self.field_shape)),
            "min_coverage": self.tiling.min_coverage,
            **self.tiling.taking(),
            "unit": self.unit,
            **self.conversion(),
            "pixel_size": self.pixel_size,
            "length_unit": self.length_unit,
            "quantum": self._quantum,
            **({"nodata": list(self.nodata)} if self.nodata else {}),
            **self.choices(),
        }

    def listed(self) -> dict[str, Any]:
        """The files, which count by name and size, wherever the folder stands: a part of `config`."""
        files = self.files
        listing = "\n".join(f"{self.name_of(path)} {_bytes_of(path)}" for path in files)
        return {
            "name": self.name,
            "files": len(files),
            "first": self.name_of(files[0]),
            "last": self.name_of(files[-1]),
            "digest": hashlib.sha256(listing.encode()).hexdigest()[:16],
        }

    def _looked_into(self, files: Sequence[Path]) -> dict[Path, Told]:
        """What each file says; those that are left out without a look at the others are in `skipped`."""
        told = {}
        for path in counted(files, "looking into files", "file", shown=None):
            try:
                told[path] = self._guarded(path, functools.partial(self.look, path))
            except MisfitError as error:
                self.skipped[self.name_of(path)] = _reason(path, error)
            except DataError as error:
                if not self.skip_unreadable:
                    raise
                self.skipped[self.name_of(path)] = _reason(path, error)
        return told

    def _guarded(self, path: Path, work: Callable[[], T]) -> T:
        """What the work on a file gives; whatever goes wrong with the file is a DataError that names it."""
        try:
            return work()
        except (MisfitError, ArgumentError, MemoryError):
            raise
        except ModuleNotFoundError as error:
            raise ArgumentError(f"{path.name} needs {error.name}; run: pip install {error.name}.") from error
        except Exception as error:  # the libraries behind share no class of errors
            what = str(error) if isinstance(error, EmulossError) else f"cannot be read ({one_line(error)})"
            named = what if what.startswith(str(path)) else f"{path}: {what}"
            raise DataError(named.rstrip(".") + _REMEDY) from error

    def _misfit(self, told: Told, kind: Told) -> str:
        """Why a file has no place beside one of the kind that the archive is of; empty if it has."""
        if told.quantity != kind.quantity:
            return f"it holds {told.quantity or 'what is not told'}, most of the others {kind.quantity}"
        if not same_unit(told.unit, kind.unit):
            return f"unit {told.unit!r} differs from {kind.unit!r} of most of the others"
        if told.grid.length_unit != kind.grid.length_unit or not math.isclose(
            told.grid.pixel_size, kind.grid.pixel_size, rel_tol=SAME_SIZE
        ):
            sizes = [f"{grid.pixel_size:g} {grid.length_unit}" for grid in (told.grid, kind.grid)]
            return f"pixel size {sizes[0]} differs from {sizes[1]} of most of the others"
        if told.timed != kind.timed:
            return f"it tells {'a' if told.timed else 'no'} time, unlike most of the others"
        return self.tiling.misfit(told.shape, self.tiling.size_in(kind.shape))

    def _tell_skipped(self, count: int) -> None:
        if self.skipped:
            name, reason = next(iter(self.skipped.items()))
            warnings.warn(
                f"{self.folder}: left out {len(self.skipped)} of {count} files, first {name}: {reason}",
                stacklevel=4,
            )

    def _in_order(self, told: Mapping[Path, Told]) -> list[Entry]:
        """The frames of all files in order of time, then of names; a few without a time are left out."""
        entries = [Entry(path, i, time) for path, each in told.items() for i, time in enumerate(each.times)]
        untimed = [entry for entry in entries if entry.time is None]
        if untimed and len(untimed) < len(entries):
            warnings.warn(
                f"{self.folder}: left out {len(untimed)} of {len(entries)} frames, whose times are missing, "
                f"first in {self.name_of(untimed[0].path)}",
                stacklevel=4,
            )
            entries = [entry for entry in entries if entry.time is not None]

        def place_of(entry: Entry) -> tuple[Any, ...]:
            return () if entry.time is None else (entry.time,), self.name_of(entry.path), entry.index

        return sorted(entries, key=place_of)

    def _seen(self, k: int) -> NDArray[np.float32]:
        """The values of a frame; none of an unreadable file that is left out."""
        try:
            return self.read_frame(k).ravel()
        except DataError:
            if not self.skip_unreadable:
                raise
            return np.empty(0, np.float32)


def files_in(folder: Path, pattern: str, what: str) -> list[Path]:
    """The files in a folder whose name matches, sorted.

    Args:
        folder: Where to look.
        pattern: Shell pattern; "**/" looks into subfolders, too.
        what: What messages call the files, such as "ODIM-HDF5 files".

    Raises:
        DataError: there is no such folder, or no file in it matches.
    """
    if not os.path.isdir(folder):
        raise DataError(f"folder {str(folder)!r} does not exist; give a folder of {what}.")
    found = [path for path in sorted(folder.glob(pattern)) if path.is_file()]
    if not found:
        raise DataError(f"no file in {str(folder)!r} matches {pattern!r}; change `pattern` or the folder.")
    return found


def _commonest(told: Iterable[Told]) -> Told:
    """One file of the kind that most are of; the first of the kinds that are as common."""
    several = list(told)

    def kind_of(each: Told) -> tuple[Any, ...]:
        size = f"{each.grid.pixel_size:.2g} {each.grid.length_unit}"
        return each.quantity, each.unit, size, each.shape, each.timed

    ranks = Counter(map(kind_of, several)).most_common(1)
    return next((each for each in several if kind_of(each) == ranks[0][0]), Told((0, 0)))


def _none_fits(skipped: Mapping[str, str], folder: Path) -> str:
    """The message where no file is left."""
    name, reason = next(iter(skipped.items()))
    if len(skipped) == 1:
        return f"{folder / name}: {reason}."
    return f"none of {len(skipped)} files in {folder} can be used, first {name}: {reason}."


def _reason(path: Path, error: DataError) -> str:
    """What is wrong with a file, without its name and the remedy."""
    return str(error).removeprefix(f"{path}: ").removesuffix(_REMEDY).rstrip(".")


def _bytes_of(path: Path) -> int:
    """Size of a file, or of all files in a folder that stands for one."""
    if path.is_dir():
        return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
    return path.stat().st_size
