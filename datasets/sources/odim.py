"""Radar composites in ODIM-HDF5, the format of the European OPERA programme."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError
from ...foundation.arguments import as_choice
from ...foundation.hdf5 import read_whole
from .archive import Archive, Entry, Told, files_in
from .file_times import times_in
from .grids import Grid
from .odim_layout import Layout, opened, read_layout
from .reflectivity import rain_of
from .tiling import Crop, Size, half

_QUANTITIES = ("RATE", "ACRR", "DBZH")


class Opera(Archive):
    """Patches of the rain rate in a folder of ODIM-HDF5 composites, one chunk a file, in order of time.

    The value of a pixel is gain * raw + offset. Pixels that no radar saw are NaN; pixels without echo, and
    those below the lower bound, are 0; those above the upper bound are set to it. Values are rounded to
    `quantum`, so that the float32 is the nearest one to the decimal number that the producer meant.

    Accumulations (`quantity="ACRR"`) are divided by the time from their start to their end, as the file tells
    them. Reflectivity (`quantity="DBZH"`) is turned into rain with Z = 200 R^1.6 (Marshall and Palmer 1948).
    """

    name = "opera"
    dry = 0.0
    describing: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        folder: str | Path,
        size: Size = 128,
        stride: Size = None,
        min_coverage: float | None = None,
        bounds: tuple[float, float] = (0.1, 150.0),
        pattern: str = "*.h*",
        quantity: str = "RATE",
        quantum: float | None = 0.01,
        wet: float | None = None,
        nodata: float | Sequence[float] | None = None,
        crop: Crop = None,
        coarsen: int = 1,
        skip_unreadable: bool = False,
    ) -> None:
        """Find the files and look into each; those that do not fit are left out, see `Archive`.

        Args:
            folder: Folder that holds the files.
            size: Size of a patch in pixels, one number or (height, width); whole composites if None.
            stride: Distance between training patches; half their size by default. Patches of the other splits
                lie side by side.
            min_coverage: Least share of measured pixels in a field; by default 0.9 of patches, and 0 of whole
                composites.
            bounds: Rates (mm/h) below the first are dry, and those above the second are set to it.
            pattern: Shell pattern of the file names; "**/*.h5" searches subfolders, too.
            quantity: "RATE" (mm/h), "ACRR" (mm, accumulated) or "DBZH" (dBZ).
            quantum: Step that rates are rounded to, in mm/h; None leaves them alone.
            wet: Rate in mm/h above which pixels count where thresholds are placed at quantiles; 0 by default.
            nodata: Numbers, as they are in the files, that stand for nothing measured, besides what they say.
            crop: Part of each composite to take, (first row, first column, height, width); all of it if None.
            coarsen: Side of the square blocks of pixels whose mean rates become the pixels of fields: 2 makes
                pixels of 2 km of those of 1 km. A block of which less than half was measured is NaN. Sizes
                and strides are in blocks, all else is told as it is in the files.
            skip_unreadable: Leave files out that cannot be read, and count them.

        Raises:
            ArgumentError: If an argument is out of range.
            DataError: If the folder is missing or empty, a file is damaged, or none is an ODIM composite that
                has the quantity and is at least as large as a patch.

        Warns:
            UserWarning: Some files are left out.
        """
        super().__init__(
            size=size,
            stride=half(size) if stride is None else stride,
            min_coverage=min_coverage,
            crop=crop,
            coarsen=coarsen,
            wet=wet,
            quantum=quantum,
            nodata=nodata,
            skip_unreadable=skip_unreadable,
        )
        self.bounds = _as_bounds(bounds)
        self.quantity = as_choice("quantity", quantity, _QUANTITIES)
        files = files_in(Path(folder), pattern, "ODIM-HDF5 files")
        self._named = dict(zip(files, times_in([path.name for path in files]), strict=True))
        self.scan(Path(folder), files)

    def look(self, path: Path) -> Told:
        """What one composite says about itself."""
        layout = read_layout(path, self.quantity)
        return Told(
            layout.shape,
            (self._named[path] if layout.time is None else layout.time,),
            unit="mm/h",
            grid=Grid(layout.pixel_size, "km"),
            quantity="" if layout.hours is None else f"ACRR over {layout.hours * 60:g} min",
        )

    def frame(self, entry: Entry) -> NDArray[np.float32]:
        """Read one composite, (rows, columns) in mm/h, NaN where no radar measured."""
        layout = read_layout(entry.path, self.quantity)
        with opened(entry.path) as file:
            raw = read_whole(file[layout.dataset]).reshape(layout.shape)
        if raw.dtype.kind == "f" or raw.dtype.itemsize > 2:
            return self._rates(raw, layout)
        # Of numbers of one or two bytes there are few: each is turned into a rate once.
        limits = np.iinfo(raw.dtype)
        every = np.arange(limits.min, limits.max + 1)
        return self._rates(every[None], layout)[0].take(raw.astype(np.intp) - limits.min)

    def _rates(self, raw: NDArray[Any], layout: Layout) -> NDArray[np.float32]:
        """Rates of numbers (rows, columns) in mm/h: 0 without echo, NaN without measurement."""
        from .odim_values import rates_of

        values, gain, offset = raw, layout.gain, layout.offset
        if self.quantity == "DBZH":
            values, gain, offset = rain_of(raw.astype(np.float64) * gain + offset), 1.0, 0.0
        marks = [(layout.undetect, 0.0), *((number, np.nan) for number in (layout.nodata, *self.nodata))]
        return rates_of(
            raw,
            values,
            [(number, meaning) for number, meaning in marks if number is not None],
            gain=gain,
            offset=offset,
            hours=1.0 if layout.hours is None else layout.hours,
            quantum=self._quantum,
            bounds=self.bounds,
        )

    def find_quantum(self, told: float | None) -> float | None:
        """The step that rates are rounded to, or that between their means."""
        return self.tiling.step(self._quantum)

    def config(self) -> dict[str, Any]:
        """Everything that decides the fields; files count by name and size, wherever the folder stands."""
        return {
            **self.listed(),
            "size": list(self.field_shape),
            "stride": list(self.tiling.stride_of(self.field_shape)),
            "min_coverage": self.tiling.min_coverage,
            "bounds": list(self.bounds),
            "quantity": self.quantity,
            "quantum": self._quantum,
            "pixel_size": self.pixel_size,
            **self.tiling.taking(),
            **({"nodata": list(self.nodata)} if self.nodata else {}),
        }


def _as_bounds(bounds: tuple[float, float]) -> tuple[float, float]:
    """Validate the least and the greatest rate."""
    if len(bounds) != 2 or not 0 <= bounds[0] < bounds[1]:
        raise ArgumentError(f"`bounds` (={bounds!r}) must be two increasing rates, 0 or more.")
    return float(bounds[0]), float(bounds[1])
