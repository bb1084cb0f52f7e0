"""Content with one bit flipped."""

from collections.abc import Iterator

import numpy as np


def flipped(content: bytes, number: int, seed: int = 0) -> Iterator[bytes]:
    """The content, with one of its bits flipped, at as many random places."""
    places = np.random.default_rng(seed).choice(8 * len(content), number, replace=False)
    for place in places.tolist():
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        yield bytes(changed)
