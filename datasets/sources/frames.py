"""Frames in order of time, wherever they are kept: whole, or cut into patches."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from ...foundation.dimensions import may_be_time
from ...metrics import found_quantum
from .described import Described
from .grids import Grid, grid_of
from .packing import packing_of
from .source import FEWEST_VALUES
from .stored import Stored, is_data_array, unit_of


class Frames(Described):
    """Frames of an array (T, H, W) in order of time, or one frame (H, W), whole or cut into patches.

    A chunk holds whole frames: at most 64 fields, or one frame where that has more patches. Axes of length 1
    besides these are left out.

    A subclass calls `__init__`, then `lay_out` once it knows the array, gives its frames in `frames_at`, and
    calls `find_quantum` at the end.

    Attributes:
        shape: Shape of the array.
        axes: Those of its axes that times, rows and columns lie along.
        frames: Number of frames.
        chunk: Number of frames in a chunk.
        packing: How the numbers of the array are packed.
    """

    chronological = True
    describing: ClassVar[tuple[str, ...]] = ("pixel_size", "unit", "quantum")

    def lay_out(self, what: str, stored: Stored) -> None:
        """Settle fields, chunks and what values mean: what is asked for, or else what the array says.

        Args:
            what: What messages call the array, such as its file.
            stored: The array.

        Raises:
            ArgumentError: If its values cannot be converted.
            DataError: If it is not (T, H, W) or (H, W) of real numbers, as far as its dimensions tell, has no
                frame, its frames are too small, or its numbers are packed in a way that is not known.
        """
        self.shape = tuple(int(n) for n in stored.array.shape)
        self.axes = axes_of_frames(self.shape)
        kind = stored.array.dtype.kind
        if len(self.axes) not in (2, 3) or kind not in "biuf":
            raise DataError(
                f"{what}: shape {self.shape} is not (T, H, W) or (H, W) of real numbers; "
                f"{_remedy(len(self.axes), kind)}."
            )
        *times, height, width = (self.shape[axis] for axis in self.axes)
        frame = (height, width)
        _refuse_late_times(what, stored.array, self.axes)
        self.field_shape = self.tiling.size_in(frame)
        misfit = self.tiling.misfit(frame, self.field_shape)
        if misfit:
            raise DataError(f"{what}: {misfit}.")
        self.frames = times[0] if times else 1
        if 0 in self.shape:
            raise DataError(f"{what}: shape {self.shape} holds no frame.")
        self.chunk = self.tiling.chunk_length(self.frames, frame)
        self.packing = packing_of(
            stored.attributes, stored.array.dtype, what, around=stored.around, nodata=self.nodata
        )
        grid = Grid()
        if self._pixel_size is None and stored.axes:
            grid = grid_of(what, *(stored.axes[axis] for axis in self.axes[-2:]))
        self.settle(what, unit_of(stored), grid)

    def tell_times(self, times: Sequence[np.datetime64 | None] | None) -> None:
        """Settle the times of the chunks by those of all frames, if none is missing and they are in order."""
        known = [time for time in times or () if time is not None]
        if len(known) == self.frames and known == sorted(known):
            self.times = known[:: self.chunk]
            self.ends = [*known[self.chunk - 1 :: self.chunk], known[-1]][: len(self)]

    def refuse_scaled(self, what: str, kind: np.dtype[Any]) -> None:
        """Refuse an array in memory of floating-point values that says how they were packed.

        Args:
            what: What messages call it.
            kind: Type of its values.

        Raises:
            DataError: Whether they still are cannot be known.
        """
        if self.packing.scales and kind.kind == "f":
            raise DataError(
                f"{what}: floating-point values with the attributes scale_factor and add_offset may be "
                "packed or not; delete these attributes from what is unpacked."
            )

    def find_quantum(self) -> None:
        """Settle the step of the values, once frames can be read: what is asked for, or what is found."""
        step = self._quantum
        if step is None:
            seen = [self.frames_at(i, i + 1) for i in (0, self.frames // 2, self.frames - 1)]
            found = found_quantum(self.converted(np.stack(seen)), FEWEST_VALUES)
            step = found or self.converted_step(self.packing.step)
        self.quantum = self.tiling.step(step)

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
        """The frames (n, H, W) from the first to before the last, as far as there are any, in `own_unit`."""

    @abc.abstractmethod
    def origin(self) -> dict[str, Any]:
        """What tells this array from others, JSON-able: the first part of `config`."""

    def __len__(self) -> int:
        return -(-self.frames // self.chunk)

    def read(self, k: int, role: str) -> NDArray[np.float32]:
        """Read the frames of one chunk, or their patches, (n, H, W); see `FieldSource.read`."""
        values = self.converted(self.frames_at(k * self.chunk, (k + 1) * self.chunk))
        return np.concatenate([self.tiling.cut(frame, role) for frame in values])

    def config(self) -> dict[str, Any]:
        """Everything that decides the fields."""
        return {
            "name": self.name,
            **self.origin(),
            "pixel_size": self.pixel_size,
            "unit": self.unit,
            **self.conversion(),
            "size": list(self.field_shape),
            "stride": list(self.tiling.stride_of(self.field_shape)),
            **({"min_coverage": self.tiling.min_coverage} if self.tiling.min_coverage else {}),
            **self.tiling.taking(),
            "quantum": self._quantum,
            **({"nodata": list(self.nodata)} if self.nodata else {}),
        }


def axes_of_frames(shape: Sequence[int]) -> list[int]:
    """The axes of an array that frames and times lie along: without those of length 1 that are too many."""
    axes = list(range(len(shape)))
    # A last axis of length 1 holds channels; rows are given up last.
    for axis in (*axes[-1:], *axes[:-2], *axes[-2:-1]):
        if len(axes) > 3 and shape[axis] == 1:
            axes.remove(axis)
    return axes


def _refuse_late_times(what: str, array: Any, axes: Sequence[int]) -> None:
    """Refuse an array (H, W, T) or (H, T, W), where its dimensions have names that tell.

    Raises:
        DataError: It is one.
    """
    if not is_data_array(array) or len(axes) < 3:
        return
    names = [str(array.dims[axis]) for axis in axes]
    late = [name for name in names[1:] if may_be_time(array, name)]
    if late and not may_be_time(array, names[0]):
        raise DataError(
            f"{what}: its dimensions are {', '.join(names)}, but {late[0]} must be the first; read a file as "
            "xarray:FILE, which finds it, or transpose the array."
        )


def _remedy(axes: int, kind: str) -> str:
    """What to do about an array that has too few axes or too many, or other values."""
    if kind not in "biuf":
        return f"convert its values, which are of NumPy's kind {kind!r}"
    if axes < 2:
        return "reshape it"
    return "choose one member of each further axis, such as array[:, 0], or by xarray:FILE of a NetCDF file"
