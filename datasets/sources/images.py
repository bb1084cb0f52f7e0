"""Folders of pictures, read as grey values between 0 and 1."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from ...foundation.arguments import as_name, as_natural, as_pixel_size, as_positive
from ...foundation.attributes import numbers_of
from ...metrics import found_quantum
from ...metrics.declared import as_finite
from .packing import as_markers, equals
from .source import FEWEST_VALUES, FieldSource
from .tiling import Crop, Size, Tiling

if TYPE_CHECKING:
    from PIL.Image import Image

_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".ppm", ".pgm")
_LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue, ITU-R BT.601."""
_GDAL_NODATA = 42113
"""Tag under which TIFF files of GDAL name the level that stands for nothing measured."""


class Images(FieldSource):
    """Grey pictures, 0 black to 1 white, from a folder and its subfolders (such as one for each class).

    The files are shuffled once, so that every chunk holds pictures from all subfolders.
    """

    name = "images"
    chronological = False
    describing = ("pixel_size", "unit")

    def __init__(
        self,
        folder: str | Path,
        size: Size = None,
        stride: Size = None,
        pixel_size: float = 1.0,
        unit: str = "",
        seed: int = 0,
        nodata: float | Sequence[float] | None = None,
        quantum: float | None = None,
        wet: float | None = None,
        min_coverage: float = 0.0,
        crop: Crop = None,
        coarsen: int = 1,
    ) -> None:
        """Find the pictures; a few of them are opened.

        Args:
            folder: Folder of png, jpeg, tiff, bmp or webp files.
            size: Size of the patches to cut, one number or (height, width); whole pictures if None, which
                must then be of one shape.
            stride: Distance between training patches; their size by default.
            pixel_size: Side of a pixel, in the unit that lengths are to be measured in.
            unit: What the grey values are called.
            seed: Seed of the order of the files.
            nodata: Grey levels, as they are in the files (255, say), that stand for nothing measured.
            quantum: Step that the grey values lie apart; by default it is found in them: 1/255 in pictures of
                8 bits.
            wet: See `FieldSource`; by default the data tell.
            min_coverage: Least share of measured pixels in a field; those with less are left out.
            crop: Part of each picture to take, (first row, first column, height, width); all of it if None.
            coarsen: Side of the square blocks of pixels whose means become the pixels of fields; sizes and
                strides are in blocks.

        Raises:
            ArgumentError: If an argument is out of range.
            DataError: If the folder is missing or holds no picture, or the first picture cannot be used.
        """
        self.folder = Path(folder)
        self.unit = as_name("unit", unit, "grey")
        self.nodata = as_markers(nodata)
        self.wet = as_finite("wet", wet)
        self.seed = as_natural("seed", seed)
        self.tiling = Tiling.of(size, stride, min_coverage, crop, coarsen)
        self.pixel_size = as_pixel_size(pixel_size) * self.tiling.coarsen
        self.files = _shuffled(_pictures_in(self.folder), self.seed)
        first = _read_grey(self.files[0], self.nodata)
        shape = (first.shape[0], first.shape[1])
        self.field_shape = self.tiling.size_in(shape)
        misfit = self.tiling.misfit(shape, self.field_shape)
        if misfit:
            raise DataError(f"{self.files[0]}: {misfit}.")
        self.chunk = self.tiling.chunk_length(len(self.files), shape)
        step = self._found_quantum(first) if quantum is None else as_positive("quantum", quantum)
        self.quantum = self.tiling.step(step)

    def __len__(self) -> int:
        return -(-len(self.files) // self.chunk)

    def read(self, k: int, role: str) -> NDArray[np.float32]:
        """Read the pictures of one chunk, or their patches, (n, H, W); see `FieldSource.read`."""
        files = self.files[k * self.chunk : (k + 1) * self.chunk]
        return np.concatenate([self.tiling.cut(self._read_picture(path), role) for path in files])

    def config(self) -> dict[str, Any]:
        """Everything that decides the fields; files count by name and size, wherever the folder stands."""
        listing = "\n".join(
            f"{path.relative_to(self.folder).as_posix()} {path.stat().st_size}" for path in self.files
        )
        return {
            "name": self.name,
            "files": len(self.files),
            "digest": hashlib.sha256(listing.encode()).hexdigest()[:16],
            "size": None if self.tiling.size is None else list(self.tiling.size),
            "stride": list(self.tiling.stride_of(self.field_shape)),
            **({"min_coverage": self.tiling.min_coverage} if self.tiling.min_coverage else {}),
            **self.tiling.taking(),
            "pixel_size": self.pixel_size,
            "unit": self.unit,
            "seed": self.seed,
            **({"nodata": list(self.nodata)} if self.nodata else {}),
        }

    def _found_quantum(self, first: NDArray[np.float32]) -> float | None:
        """Step of the grey values in the first, the middle and the last picture."""
        others = sorted({len(self.files) // 2, len(self.files) - 1} - {0})
        pictures = [first, *(_read_grey(self.files[k], self.nodata) for k in others)]
        return found_quantum(np.concatenate([picture.ravel() for picture in pictures]), FEWEST_VALUES)

    def _read_picture(self, path: Path) -> NDArray[np.float32]:
        """A picture (H, W) that fits beside the others."""
        picture = _read_grey(path, self.nodata)
        misfit = self.tiling.misfit((picture.shape[0], picture.shape[1]), self.field_shape)
        if misfit:
            raise DataError(f"{path}: {misfit}.")
        return picture


def _pictures_in(folder: Path) -> list[Path]:
    """The pictures in a folder and its subfolders, sorted.

    Raises:
        DataError: there is no such folder, or no picture in it.
    """
    if not os.path.isdir(folder):
        raise DataError(f"image folder {str(folder)!r} does not exist; give a folder of pictures.")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    if not found:
        raise DataError(f"no picture ({', '.join(_SUFFIXES)}) in {str(folder)!r}; choose another folder.")
    return found


def _shuffled(files: list[Path], seed: int) -> list[Path]:
    """Files in the order that a seed draws."""
    order = np.random.default_rng(seed).permutation(len(files))
    return [files[i] for i in order]


def _read_grey(path: Path, nodata: Sequence[float]) -> NDArray[np.float32]:
    """Read a picture as luminance (ITU-R BT.601) between 0 and 1, at any depth.

    Pixels that are wholly transparent, have one of the levels `nodata`, or the level that a TIFF file itself
    names as such, are NaN.
    """
    from PIL import Image as pillow

    try:
        with pillow.open(path) as picture:
            markers = (*nodata, *numbers_of(getattr(picture, "tag_v2", {}).get(_GDAL_NODATA, ())))
            levels, white, missing = _luminance(picture)
    except Exception as error:  # the decoders behind PIL share no class of errors
        raise DataError(
            f"{path}: not a readable picture ({type(error).__name__}); remove or repair it."
        ) from error
    for marker in markers:
        missing |= equals(levels, marker)
    field = np.where(missing, np.nan, levels / white).astype(np.float32)
    if not (np.nanmin(field, initial=0) >= 0 and np.nanmax(field, initial=0) <= 1):
        raise DataError(f"{path}: grey values outside 0 to 1; scale them, or save them as an array.")
    return field


def _luminance(picture: Image) -> tuple[NDArray[np.float64], float, NDArray[np.bool_]]:
    """Grey levels (H, W) of a picture, the level of white, and which pixels are missing."""
    transparent = picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info
    if picture.mode.startswith("I;16") or (picture.mode in ("1", "L", "F", "I") and not transparent):
        stored = np.asarray(picture)
        white = 65535.0 if stored.dtype.itemsize > 1 else 255.0
        levels = stored.astype(np.float64)
        return levels, 1.0 if stored.dtype.kind in "bf" else white, np.isnan(levels)
    bands = np.asarray(picture.convert("RGBA"), np.float64)
    # Weighed levels of a grey picture that is kept in colours would differ from them by rounding.
    grey = (bands[..., :2] == bands[..., 1:3]).all()
    levels = bands[..., 0] if grey else bands[..., :3] @ _LUMINANCE
    return levels, 255.0, bands[..., 3] == 0
