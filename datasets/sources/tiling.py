"""Frames are taken whole, or cut into patches: one mechanism for all sources of fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError
from ...foundation.arguments import as_shape, as_share

Shape = tuple[int, int]
Size = int | Shape | None

CHUNK = 64
"""Most fields in a chunk of a source that is free to choose."""


@dataclass(frozen=True)
class Tiling:
    """How frames become fields.

    Patches start at multiples of the stride from the first corner, row by row.

    Attributes:
        size: Size (H, W) of the patches to cut; None leaves frames whole.
        stride: Distance between training patches; None is their size. Patches of the other splits lie side
            by side.
        min_coverage: Least share of measured pixels in a field.
    """

    size: Shape | None
    stride: Shape | None
    min_coverage: float

    @classmethod
    def of(cls, size: Size, stride: Size = None, min_coverage: float = 0.0) -> Tiling:
        """Validate what is asked for, one number or (height, width) each.

        Raises:
            ArgumentError: an argument is out of range, or there is a stride and nothing to cut.
        """
        if stride is not None and size is None:
            raise ArgumentError(f"`stride` (={stride!r}) needs `size`: whole frames are not cut.")
        return cls(
            None if size is None else as_shape("size", size),
            None if stride is None else as_shape("stride", stride),
            as_share("min_coverage", min_coverage),
        )

    def size_in(self, frame: Shape) -> Shape:
        """Size of the fields of a frame (H, W)."""
        return frame if self.size is None else self.size

    def stride_in(self, frame: Shape) -> Shape:
        """Distance between the training fields of a frame (H, W)."""
        return self.size_in(frame) if self.stride is None else self.stride

    def misfit(self, frame: Shape, first: Shape) -> str:
        """Why a frame (H, W) has no place beside a first one; empty if it has."""
        if self.size is None:
            return "" if frame == first else f"shape {frame} differs from {first}; give `size` to cut patches"
        smaller = any(n < m for n, m in zip(frame, self.size, strict=True))
        return f"`size` (={self.size}) exceeds its shape {frame}" if smaller else ""

    def count(self, frame: Shape) -> int:
        """Number of training fields in a frame (H, W) that is measured everywhere."""
        sizes = zip(frame, self.size_in(frame), self.stride_in(frame), strict=True)
        down, across = (max((n - m) // step + 1, 0) for n, m, step in sizes)
        return down * across

    def chunk_length(self, frames: int, frame: Shape) -> int:
        """Frames (H, W) to put in a chunk, of so many."""
        return chunk_length(frames, self.count(frame))

    def cut(self, values: NDArray[np.float32], role: str) -> NDArray[np.float32]:
        """Cut a frame (H, W) into fields (n, h, w), without those that are measured too little."""
        frame = (values.shape[0], values.shape[1])
        size = self.size_in(frame)
        stride = self.stride_in(frame) if role == "train" else size
        fields = _windows(values, size, stride)
        if self.min_coverage <= 0:
            return np.ascontiguousarray(fields.reshape(-1, *size))
        measured = _windows(~np.isnan(values), size, stride).sum(axis=(2, 3))
        return np.ascontiguousarray(fields[measured / (size[0] * size[1]) >= self.min_coverage])


def half(size: Size) -> Size:
    """Half of a size, rounded down, but at least 1; None stays."""
    if size is None:
        return None
    height, width = as_shape("size", size)
    return max(height // 2, 1), max(width // 2, 1)


def chunk_length(count: int, per_step: int = 1) -> int:
    """Steps to put in a chunk: at most 64 fields, and few enough for about twelve chunks to split."""
    return max(1, min(CHUNK // max(per_step, 1), -(-count // 12)))


def _windows(values: NDArray[Any], size: Shape, stride: Shape) -> NDArray[Any]:
    """Views (rows, columns, h, w) of an array at multiples of the stride."""
    return np.lib.stride_tricks.sliding_window_view(values, size)[:: stride[0], :: stride[1]]
