"""HDF5 files, opened in the one way that works wherever they lie."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import h5py


def open_hdf5(place: str | Path | IO[bytes], mode: str = "r", userblock_size: int | None = None) -> h5py.File:
    """Open an HDF5 file without locking it: where a file system has no locks, a sound file would be refused.

    Args:
        place: the file, or a stream that holds it.
        mode: as h5py has it.
        userblock_size: bytes at the start of a new file that HDF5 leaves alone.

    Raises:
        OSError: it cannot be opened, or is no such file.
    """
    return h5py.File(place, mode, userblock_size=userblock_size, locking=False)
