"""Checksums over what is stored, so that damage is told when it is read."""

from __future__ import annotations

import hashlib
from typing import IO

_BLOCK = 1 << 20
"""Bytes that are read at a time."""


def seal_of(stream: IO[bytes]) -> bytes:
    """The line that vouches for the rest of a stream, which is read to its end: its SHA-256."""
    found = hashlib.sha256()
    while block := stream.read(_BLOCK):
        found.update(block)
    return f"emuloss seal, sha256 {found.hexdigest()}\n".encode()
