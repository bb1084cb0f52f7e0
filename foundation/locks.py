"""One writer at a time, wherever the file system has locks."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import DataError

fcntl: Any = import_module("fcntl") if find_spec("fcntl") else None
"""What locks files; None on Windows, which counts as a system without locks."""
_NAME = ".lock"
"""Name of a folder's lock, and what is added to a file's name for its own."""


@contextlib.contextmanager
def one_writer(path: Path) -> Iterator[bool]:
    """Let no other process write a file or a folder within the block.

    The lock is one of the system's, upon a file of its own: it ends with the process that holds it, however
    that ends, so that the file which a killed process leaves is taken over. Where there are no locks, as on
    some network file systems, writers have to manage without.

    Args:
        path: what is written; a folder exists already.

    Yields:
        Whether others are kept away.

    Raises:
        DataError: another process is writing it.
    """
    place = path / _NAME if os.path.isdir(path) else path.with_name(path.name + _NAME)
    held = _taken(place, path)
    try:
        yield held is not None
    finally:
        if held is not None:
            _given_back(held, place)


def _taken(place: Path, path: Path) -> int | None:
    """The open file of a lock that is now held; None where there are no locks.

    Raises:
        DataError: another process holds it.
    """
    while fcntl is not None:
        try:
            file = os.open(place, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(file, 200, 0).decode(errors="replace") or "it has just begun"
            os.close(file)
            raise DataError(
                f"another process is writing {path} ({holder}); wait for it, or choose another path"
            ) from None
        except OSError:
            _given_back(file, place)
            return None
        with contextlib.suppress(OSError):  # the disk may be full
            os.ftruncate(file, 0)
            os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), os.stat(place)):
                return file
        os.close(file)  # of a lock that who held it before has removed since it was opened here
    return None


def _given_back(file: int, place: Path) -> None:
    """Remove the file of a lock, which nobody else can hold yet, and close it."""
    with contextlib.suppress(OSError):
        place.unlink()
    os.close(file)
