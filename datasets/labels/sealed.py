"""HDF5 files with a seal in front of them: damage is told before HDF5 sees it.

The seal lies in a block of the file that HDF5 leaves to its user, so that other programs read the file as it
is. Files of version 0.1.0 have none.
"""

from __future__ import annotations

from typing import IO

from ...foundation.seals import seal_of

BLOCK = 512
"""Bytes in front of a sealed file, the least that HDF5 allows."""
_HDF5 = b"\x89HDF\r\n\x1a\n"
"""What an HDF5 file without such a block begins with."""


def is_sealable(file: IO[bytes]) -> bool:
    """Whether an HDF5 file has room for a seal."""
    file.seek(0)
    return file.read(len(_HDF5)) != _HDF5


def seal(file: IO[bytes]) -> None:
    """Seal an HDF5 file that was made with a user block of `BLOCK` bytes; open for reading and writing."""
    file.seek(BLOCK)
    line = seal_of(file)
    file.seek(0)
    file.write(line.ljust(BLOCK, b"\0"))


def check_seal(file: IO[bytes]) -> None:
    """Read a file to see whether its content is what was sealed.

    Raises:
        OSError: it is damaged, or no HDF5 file.
    """
    if is_sealable(file):
        file.seek(0)
        if file.read(BLOCK) != seal_of(file).ljust(BLOCK, b"\0"):
            raise OSError("its content is not what was sealed")
