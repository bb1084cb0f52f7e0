"""Frames are taken whole, coarsened, or cut into patches: one mechanism for all sources of fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError
from ...foundation.arguments import as_count, as_natural, as_shape, as_share, shown

Shape = tuple[int, int]
Crop = tuple[int, int, int, int] | None
Size = int | Shape | None

CHUNK = 64
"""Most fields in a chunk of a source that is free to choose."""


@dataclass(frozen=True)
class Tiling:
    """How frames become fields.

    What is taken of a frame becomes means over blocks, and these are cut. Patches start at multiples of the
    stride from the first corner, row by row.

    Attributes:
        size: Size (H, W) of the patches to cut; None leaves frames whole.
        stride: Distance between training patches; None is their size. Patches of the other splits lie side
            by side.
        min_coverage: Least share of measured pixels in a field.
        crop: Part of each frame to take, (first row, first column, height, width); all of it if None.
        coarsen: Side of the square blocks of pixels whose means become the pixels of fields, see
            `block_means`.
    """

    size: Shape | None
    stride: Shape | None
    min_coverage: float
    crop: Crop = None
    coarsen: int = 1

    @classmethod
    def of(
        cls,
        size: Size,
        stride: Size = None,
        min_coverage: float = 0.0,
        crop: Crop = None,
        coarsen: int = 1,
    ) -> Tiling:
        """Validate what is asked for; sizes and strides are one number or (height, width).

        Raises:
            ArgumentError: an argument is out of range, or there is a stride and nothing to cut.
        """
        if stride is not None and size is None:
            raise ArgumentError(f"`stride` (={stride!r}) needs `size`: whole frames are not cut.")
        return cls(
            None if size is None else as_shape("size", size),
            None if stride is None else as_shape("stride", stride),
            as_share("min_coverage", min_coverage),
            None if crop is None else _as_crop(crop),
            as_count("coarsen", coarsen),
        )

    def size_in(self, frame: Shape) -> Shape:
        """Size of the fields of a frame (H, W)."""
        return self.size or self._taken(frame)

    def stride_of(self, fields: Shape) -> Shape:
        """Distance between training fields of a size (H, W)."""
        return self.stride or fields

    def taking(self) -> dict[str, Any]:
        """What is taken of each frame, JSON-able; nothing where it is all: a part of a source's `config`."""
        return {
            **({} if self.crop is None else {"crop": list(self.crop)}),
            **({} if self.coarsen == 1 else {"coarsen": self.coarsen}),
        }

    def step(self, quantum: float | None) -> float | None:
        """The step between means over whole blocks of values that lie a step apart, if they do."""
        return None if quantum is None else quantum / self.coarsen**2

    def _cropped(self, frame: Shape) -> Shape:
        """Size of what is taken of a frame (H, W), in its pixels."""
        return frame if self.crop is None else self.crop[2:]

    def _taken(self, frame: Shape) -> Shape:
        """Size of what is taken of a frame (H, W), in blocks."""
        height, width = self._cropped(frame)
        return height // self.coarsen, width // self.coarsen

    def misfit(self, frame: Shape, fields: Shape) -> str:
        """Why a frame (H, W) does not give fields of a shape; empty if it does."""
        if self.crop is not None and not _holds(
            frame, (self.crop[0] + self.crop[2], self.crop[1] + self.crop[3])
        ):
            return f"`crop` (={self.crop}) exceeds its shape {frame}"
        taken = self._taken(frame)
        if self.coarsen > 1 and 0 in taken:
            return f"`coarsen` (={self.coarsen}) exceeds its shape {self._cropped(frame)}"
        if self.size is not None:
            return "" if _holds(taken, self.size) else f"`size` (={self.size}) exceeds its shape {taken}"
        if self.crop is not None or taken == fields:
            return ""
        return f"shape {taken} differs from {fields}; give `size` to cut patches"

    def count(self, frame: Shape) -> int:
        """Number of training fields in a frame (H, W) that is measured everywhere."""
        size = self.size_in(frame)
        sizes = zip(self._taken(frame), size, self.stride_of(size), strict=True)
        down, across = (max((n - m) // step + 1, 0) for n, m, step in sizes)
        return down * across

    def chunk_length(self, frames: int, frame: Shape) -> int:
        """Frames (H, W) to put in a chunk, of so many."""
        return chunk_length(frames, self.count(frame))

    def cut(self, values: NDArray[np.float32], role: str) -> NDArray[np.float32]:
        """Cut a frame (H, W) into fields (n, h, w), without those that are measured too little."""
        if self.crop is not None:
            top, left, height, width = self.crop
            values = values[top : top + height, left : left + width]
        values = block_means(values, self.coarsen)
        size = self.size or (values.shape[0], values.shape[1])
        stride = self.stride_of(size) if role == "train" else size
        fields = _windows(values, size, stride)
        if self.min_coverage <= 0:
            return np.ascontiguousarray(fields.reshape(-1, *size))
        measured = _windows(~np.isnan(values), size, stride).sum(axis=(2, 3))
        return np.ascontiguousarray(fields[measured / (size[0] * size[1]) >= self.min_coverage])


def block_means(values: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Means over square blocks of the measured pixels of frames (..., H, W): (..., H // side, W // side).

    Blocks start in the first corner; pixels left over at the last rows and columns are left out. A block of
    which less than half was measured is NaN.
    """
    if side == 1:
        return values
    height, width = values.shape[-2] // side, values.shape[-1] // side
    whole = values[..., : height * side, : width * side]
    blocks = whole.reshape(*values.shape[:-2], height, side, width, side)
    measured = ~np.isnan(blocks)
    counts = measured.sum(axis=(-3, -1))
    sums = np.where(measured, blocks, 0).sum(axis=(-3, -1), dtype=np.float64)
    means = np.full(sums.shape, np.nan)
    np.divide(sums, counts, out=means, where=2 * counts >= side**2)
    return means.astype(np.float32)


def half(size: Size) -> Size:
    """Half of a size, rounded down, but at least 1; None stays."""
    if size is None:
        return None
    height, width = as_shape("size", size)
    return max(height // 2, 1), max(width // 2, 1)


def chunk_length(count: int, per_step: int = 1) -> int:
    """Steps to put in a chunk: at most 64 fields, and few enough for about twelve chunks to split."""
    return max(1, min(CHUNK // max(per_step, 1), -(-count // 12)))


def _as_crop(crop: Any) -> tuple[int, int, int, int]:
    """Validate a part of a frame.

    Raises:
        ArgumentError: it is not four whole numbers, or has no pixel.
    """
    if not isinstance(crop, tuple | list) or len(crop) != 4:
        raise ArgumentError(f"crop must be (first row, first column, height, width), got {shown(crop)}")
    top, left = (as_natural("each of crop", each) for each in crop[:2])
    height, width = (as_count("each of crop", each) for each in crop[2:])
    return top, left, height, width


def _holds(frame: Shape, part: Shape) -> bool:
    """Whether a part is no larger than a frame."""
    return part[0] <= frame[0] and part[1] <= frame[1]


def _windows(values: NDArray[Any], size: Shape, stride: Shape) -> NDArray[Any]:
    """Views (rows, columns, h, w) of an array at multiples of the stride."""
    return np.lib.stride_tricks.sliding_window_view(values, size)[:: stride[0], :: stride[1]]
