"""Cutting frames into patches, and reading the sizes that users give."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError

CHUNK = 64
"""Most fields in a chunk of a source that is free to choose."""


def positive_int(argument: str, value: Any) -> int:
    """Return `value` as an int of at least 1, or raise ArgumentError naming the argument."""
    if not isinstance(value, numbers.Integral) or value < 1:
        raise ArgumentError(f"`{argument}` (={value!r}) must be a whole number of at least 1.")
    return int(value)


def natural(argument: str, value: Any) -> int:
    """Return `value` as an int of at least 0, or raise ArgumentError naming the argument."""
    if not isinstance(value, numbers.Integral) or value < 0:
        raise ArgumentError(f"`{argument}` (={value!r}) must be a whole number, 0 or more.")
    return int(value)


def positive_float(argument: str, value: Any) -> float:
    """Return `value` as a finite float above 0, or raise ArgumentError naming the argument."""
    if isinstance(value, numbers.Real) and 0 < float(value) < np.inf:
        return float(value)
    raise ArgumentError(f"`{argument}` (={value!r}) must be a finite number above 0.")


def as_shape(argument: str, value: Any) -> tuple[int, int]:
    """Read a size that is one number (a square) or a pair (height, width)."""
    if isinstance(value, (tuple, list)) and len(value) == 2:
        return positive_int(argument, value[0]), positive_int(argument, value[1])
    if not isinstance(value, numbers.Integral):
        raise ArgumentError(f"`{argument}` (={value!r}) must be a whole number or a pair (height, width).")
    side = positive_int(argument, value)
    return side, side


def chunk_length(count: int, per_step: int = 1) -> int:
    """Steps to put in a chunk: at most 64 fields, and few enough for about twelve chunks to split."""
    return max(1, min(CHUNK // max(per_step, 1), -(-count // 12)))


def count_patches(shape: tuple[int, ...], size: tuple[int, int], stride: tuple[int, int]) -> int:
    """Number of patches that `cut` finds in a frame of this shape."""
    along = [max((n - m) // step + 1, 0) for n, m, step in zip(shape, size, stride, strict=True)]
    return along[0] * along[1]


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
