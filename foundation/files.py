"""Files that appear whole under their name, or not at all."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ..errors import DataError

TEMPORARY = ".tmp"
"""Suffix of a file that is being written; what a killed process left under it is of no use."""


def write_safely(path: Path, content: bytes | memoryview) -> None:
    """Write a file that appears under its name only when all of it is on the disk.

    Until then it stands beside it, under a name that no other thread or process writes to.

    Raises:
        OSError: it cannot be written.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}{TEMPORARY}")
    temporary.write_bytes(content)
    put_in_place(temporary, path)


def put_in_place(temporary: Path, path: Path) -> None:
    """Give a finished file its name, once all of it is on the disk; what had the name before is replaced.

    Args:
        temporary: the file, closed, in the folder of `path`.
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
    unfinished = {name: folder / f"{name}{TEMPORARY}" for name in contents}
    try:
        for name, content in contents.items():
            unfinished[name].write_bytes(content)
            _to_disk(unfinished[name])
        for name, path in unfinished.items():
            os.replace(path, folder / name)
    finally:
        for path in unfinished.values():
            path.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    """Wait until all that was written to a file is on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextmanager
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
        if getattr(error, "errno", None) == errno.ENOSPC or f"errno = {errno.ENOSPC}," in str(error):
            raise DataError(f"the disk of {path} is full; free some space and run again to go on.") from error
        if isinstance(error, RuntimeError):
            raise
        raise DataError(
            f"{path} cannot be written ({first_line(error)}); check the folder and its rights."
        ) from error


def first_line(error: BaseException) -> str:
    """The first line of an error's message; its type where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
