"""Frames are cut into patches, and chunks get their length."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CHUNK = 64
"""Most fields in a chunk of a source that is free to choose."""


def chunk_length(count: int, per_step: int = 1) -> int:
    """Steps to put in a chunk: at most 64 fields, and few enough for about twelve chunks to split."""
    return max(1, min(CHUNK // max(per_step, 1), -(-count // 12)))


def count_patches(shape: tuple[int, ...], size: tuple[int, int], stride: tuple[int, int]) -> int:
    """Number of patches that `cut` finds in a frame of this shape."""
    along = [max((n - m) // step + 1, 0) for n, m, step in zip(shape, size, stride, strict=True)]
    return along[0] * along[1]


def too_small(shape: tuple[int, ...], size: tuple[int, int]) -> bool:
    """Whether no patch fits into a frame (H, W) of this shape."""
    return any(n < m for n, m in zip(shape, size, strict=True))


def cut(
    frame: NDArray[np.float32], size: tuple[int, int], stride: tuple[int, int], min_coverage: float = 0.0
) -> NDArray[np.float32]:
    """Cut a frame (H, W) into the patches (n, *size) whose share of measured pixels is large enough.

    Patches start at multiples of `stride` from the first corner, row by row.
    """
    windows = np.lib.stride_tricks.sliding_window_view(frame, size)[:: stride[0], :: stride[1]]
    if min_coverage <= 0:
        return np.ascontiguousarray(windows.reshape(-1, *size))
    measured = np.lib.stride_tricks.sliding_window_view(~np.isnan(frame), size)[:: stride[0], :: stride[1]]
    coverage = measured.sum(axis=(2, 3)) / (size[0] * size[1])
    return np.ascontiguousarray(windows[coverage >= min_coverage])
