"""Files that appear whole under their name, or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..errors import DataError

TEMPORARY = ".tmp"
"""Suffix of a file that is being written; what a killed process left under it is of no use."""
_UNFINISHED = re.compile(rf"\.\d+\.\d+{re.escape(TEMPORARY)}$")
"""How the names end that `unfinished` gives."""
_FULL = {
    errno.ENOSPC: "is full; free some space",
    errno.EDQUOT: "is full as far as your quota goes; free some space",
    errno.EFBIG: "is full as far as the limit of a file's size goes; raise that (ulimit -f)",
}
"""What messages say where a disk takes no more."""
_REMEDIES = {
    errno.EROFS: "choose a place that can be written",
    errno.ENAMETOOLONG: "choose a shorter name",
}
"""What to do where a file cannot be written; "check the folder and its rights" elsewhere."""


def unfinished(path: Path) -> Path:
    """Where a file stands until it is finished: beside its place, where no other thread or process writes."""
    return path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}{TEMPORARY}")


def sweep(folder: Path) -> None:
    """Remove what killed processes left unfinished in a folder that nobody else writes to at present."""
    for leftover in folder.glob(f"*{TEMPORARY}"):
        if _UNFINISHED.search(leftover.name):  # others may call files of theirs so
            leftover.unlink(missing_ok=True)


def write_safely(path: Path, content: bytes | memoryview, *, lasting: bool = True) -> None:
    """Write a file that appears under its name only when it is whole.

    Args:
        path: its place.
        content: what it holds.
        lasting: whether to wait until all of it is on the disk. Otherwise a machine that loses its power may
            keep less of it under its name, and whoever reads it has to tell that.

    Raises:
        OSError: it cannot be written.
    """
    _write_all({path: content}, lasting)


def put_in_place(temporary: Path, path: Path) -> None:
    """Give a finished file its name, once all of it is on the disk; what had the name before is replaced.

    Args:
        temporary: the file, closed, on the disk of `path`.
        path: its name.

    Raises:
        OSError: the disk is full, or does not let it.
    """
    _to_disk(temporary)
    os.replace(temporary, path)


def write_together(folder: Path, contents: Mapping[str, bytes | memoryview]) -> None:
    """Write files of a folder, none of which appears before all of them are on the disk.

    They take their names in the order given, so that one that vouches for the others goes last.

    Args:
        folder: made if missing.
        contents: by name.

    Raises:
        OSError: the folder or a file cannot be written, or the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_all({folder / name: content for name, content in contents.items()}, lasting=True)


def _write_all(contents: Mapping[Path, bytes | memoryview], lasting: bool) -> None:
    """Write files, by their place, and then give them their names."""
    coming = {path: unfinished(path) for path in contents}
    try:
        for path, content in contents.items():
            coming[path].write_bytes(content)
            if lasting:
                _to_disk(coming[path])
        for path, temporary in coming.items():
            os.replace(temporary, path)
    finally:
        for temporary in coming.values():
            with contextlib.suppress(OSError):  # the error that led here counts
                temporary.unlink()


def _to_disk(path: Path) -> None:
    """Wait until all that was written to a file is on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full or unwritable disk into an error of one line.

    Args:
        path: what is being written, for the message.

    Raises:
        DataError: the block met such a disk.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:  # h5py reports a failed write as either
        number = _number_of(error)
        if number in _FULL:
            raise DataError(f"the disk of {path} {_FULL[number]} and run again to go on.") from error
        if isinstance(error, RuntimeError):
            raise
        remedy = _REMEDIES.get(number, "check the folder and its rights")
        raise DataError(f"{path} cannot be written ({first_line(error)}); {remedy}.") from error


def _number_of(error: OSError | RuntimeError) -> int:
    """The system's number of an error, which h5py has in its text; 0 where there is none."""
    told = re.search(r"errno = (\d+),", str(error))
    return int(told[1]) if told else getattr(error, "errno", None) or 0


def first_line(error: BaseException) -> str:
    """The first line of an error's message; its type where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
