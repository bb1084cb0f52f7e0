"""Frames in order of time, wherever they are kept: whole, or cut into patches."""

from __future__ import annotations

import abc
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError, DataError
from ...foundation.arguments import as_name, as_positive, as_shape
from .patches import chunk_length, count_patches, cut, too_small
from .source import FieldSource

Size = int | tuple[int, int] | None


class Frames(FieldSource):
    """Frames of an array (T, H, W) in order of time, or one frame (H, W), whole or cut into patches.

    A chunk holds whole frames: at most 64 fields, or one frame where that has more patches.

    A subclass calls `__init__`, then `lay_out` once it knows the array, and gives its frames in `frames_at`.

    Attributes:
        shape: Shape of the array.
        stride: Distance between training patches.
        frames: Number of frames.
        chunk: Number of frames in a chunk.
    """

    chronological = True

    def __init__(self, pixel_size: float, unit: str, quantum: float | None, size: Size, stride: Size) -> None:
        """Check the options; their meaning is that of `Arrays`.

        Raises:
            ArgumentError: If one is out of range.
        """
        self.pixel_size = as_positive("pixel_size", pixel_size)
        self.unit = as_name("unit", unit, "mm/h")
        self.quantum = None if quantum is None else as_positive("quantum", quantum)
        if stride is not None and size is None:
            raise ArgumentError(f"`stride` (={stride!r}) needs `size`: whole frames are not cut.")
        self._size = None if size is None else as_shape("size", size)
        self._stride = None if stride is None else as_shape("stride", stride)

    def lay_out(self, what: str, shape: tuple[int, ...], kind: str) -> None:
        """Settle fields and chunks for an array.

        Args:
            what: What messages call the array, such as its file.
            shape: Its shape.
            kind: The letter of its kind of numbers, as NumPy's `dtype.kind`.

        Raises:
            DataError: If it is not (T, H, W) or (H, W) of real numbers, has no frame, or its frames are too
                small.
        """
        self.shape = tuple(int(n) for n in shape)
        if len(self.shape) not in (2, 3) or kind not in "biuf":
            raise DataError(
                f"{what}: shape {self.shape} is not (T, H, W) or (H, W) of real numbers; reshape it."
            )
        frame = self.shape[-2:]
        self.field_shape = (frame[0], frame[1]) if self._size is None else self._size
        self.stride = self.field_shape if self._stride is None else self._stride
        if too_small(frame, self.field_shape):
            raise DataError(f"{what}: `size` (={self.field_shape}) exceeds the shape {frame} of its frames.")
        self.frames = self.shape[0] if len(self.shape) == 3 else 1
        if 0 in self.shape:
            raise DataError(f"{what}: shape {self.shape} holds no frame.")
        self.chunk = chunk_length(self.frames, count_patches(frame, self.field_shape, self.stride))

    @abc.abstractmethod
    def frames_at(self, first: int, last: int) -> NDArray[np.float32]:
        """The frames (n, H, W) from the first to before the last, as far as there are any."""

    @abc.abstractmethod
    def origin(self) -> dict[str, Any]:
        """What tells this array from others, JSON-able: the first part of `config`."""

    def __len__(self) -> int:
        return -(-self.frames // self.chunk)

    def read(self, k: int, role: str) -> NDArray[np.float32]:
        """Read the frames of one chunk, or their patches, (n, H, W); see `FieldSource.read`."""
        values = self.frames_at(k * self.chunk, (k + 1) * self.chunk)
        stride = self.stride if role == "train" else self.field_shape
        return np.concatenate([cut(frame, self.field_shape, stride) for frame in values])

    def config(self) -> dict[str, Any]:
        """Everything that decides the fields."""
        return {
            "name": self.name,
            **self.origin(),
            "pixel_size": self.pixel_size,
            "unit": self.unit,
            "size": list(self.field_shape),
            "stride": list(self.stride),
            "quantum": self.quantum,
        }
