"""Frames in order of time, wherever they are kept: whole, or cut into patches."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError, DataError
from ...foundation.arguments import as_name, as_pixel_size, as_positive, as_shape
from ...metrics import found_quantum
from .grids import Grid
from .packing import as_markers
from .patches import chunk_length, count_patches, cut, too_small
from .source import FieldSource, as_wet

Size = int | tuple[int, int] | None


class Frames(FieldSource):
    """Frames of an array (T, H, W) in order of time, or one frame (H, W), whole or cut into patches.

    A chunk holds whole frames: at most 64 fields, or one frame where that has more patches. Axes of length 1
    besides these are left out.

    A subclass calls `__init__`, then `lay_out` once it knows the array, and gives its frames in `frames_at`.

    Attributes:
        shape: Shape of the array.
        axes: Those of its axes that times, rows and columns lie along.
        stride: Distance between training patches.
        frames: Number of frames.
        chunk: Number of frames in a chunk.
        nodata: Numbers that stand for nothing measured, as they are kept.
    """

    chronological = True
    describing = ("pixel_size", "unit", "quantum")

    def __init__(
        self,
        *,
        pixel_size: float | None,
        length_unit: str | None,
        unit: str | None,
        size: Size,
        stride: Size,
        quantum: float | None,
        wet: float | None,
        nodata: float | Sequence[float] | None,
    ) -> None:
        """Check the options; their meaning is that of `Arrays`.

        Raises:
            ArgumentError: If one is out of range.
        """
        self._pixel_size = None if pixel_size is None else as_pixel_size(pixel_size)
        self._length_unit = None if length_unit is None else as_name("length_unit", length_unit, "km")
        self._unit = None if unit is None else as_name("unit", unit, "mm/h")
        self._quantum = None if quantum is None else as_positive("quantum", quantum)
        self.wet = as_wet(wet)
        self.nodata = as_markers(nodata)
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
        self.axes = axes_of_frames(self.shape)
        if len(self.axes) not in (2, 3):
            raise DataError(f"{what}: shape {self.shape} is not (T, H, W) or (H, W); {_remedy(self.shape)}.")
        if kind not in "biuf":
            raise DataError(f"{what}: its values are not real numbers (NumPy's kind {kind!r}); convert them.")
        *times, height, width = (self.shape[axis] for axis in self.axes)
        frame = (height, width)
        self.field_shape = frame if self._size is None else self._size
        self.stride = self.field_shape if self._stride is None else self._stride
        if too_small(frame, self.field_shape):
            raise DataError(f"{what}: `size` (={self.field_shape}) exceeds the shape {frame} of its frames.")
        self.frames = times[0] if times else 1
        if 0 in self.shape:
            raise DataError(f"{what}: shape {self.shape} holds no frame.")
        self.chunk = chunk_length(self.frames, count_patches(frame, self.field_shape, self.stride))

    def describe(self, unit: str, grid: Grid, step: float | None = None) -> None:
        """Settle what values mean, once frames can be read: what is asked for, or else what the data say.

        Args:
            unit: Unit that the data tell; empty where they do not.
            grid: Pixels that the data tell.
            step: Step that the data tell, for values that show none.
        """
        self.unit = unit if self._unit is None else self._unit
        self.pixel_size = grid.pixel_size if self._pixel_size is None else self._pixel_size
        told = grid.length_unit if self._pixel_size is None else "pixel"
        self.length_unit = told if self._length_unit is None else self._length_unit
        self.quantum = self._quantum
        if self.quantum is None:
            seen = np.concatenate([self.frames_at(i, i + 1) for i in self.some_frames])
            self.quantum = found_quantum(seen) or step

    @property
    def asks_for_pixels(self) -> bool:
        """Whether the size of a pixel is to be found in the data."""
        return self._pixel_size is None

    @property
    def some_frames(self) -> list[int]:
        """Numbers of the first, the middle and the last frame."""
        return sorted({0, self.frames // 2, self.frames - 1})

    def at(self, first: int, last: int) -> tuple[int | slice, ...]:
        """The index of frames from the first to before the last in the array, which has other axes, too."""
        index: list[int | slice] = [0] * len(self.shape)
        for axis in self.axes[-2:]:
            index[axis] = slice(None)
        if len(self.axes) == 3:
            index[self.axes[0]] = slice(first, last)
        return tuple(index)

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
            "quantum": self._quantum,
            **({"nodata": list(self.nodata)} if self.nodata else {}),
        }


def axes_of_frames(shape: Sequence[int]) -> list[int]:
    """The axes of an array that frames and times lie along: without those of length 1 that are too many."""
    axes = list(range(len(shape)))
    # Those before rows and columns first: a field may be one pixel high.
    for axis in [*axes[:-2], *axes[:-3:-1]]:
        if len(axes) > 3 and shape[axis] == 1:
            axes.remove(axis)
    return axes


def _remedy(shape: tuple[int, ...]) -> str:
    """What to do about an array that has too few axes, or too many."""
    if len(shape) < 2:
        return "give an array of frames"
    return "choose one member of each further axis, such as array[:, 0]"
