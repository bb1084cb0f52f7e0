"""Folders of pictures, read as grey values between 0 and 1."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError, DataError
from ...foundation.arguments import as_natural, as_positive, as_shape
from .patches import chunk_length, count_patches, cut, too_small
from .source import FieldSource

_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".ppm", ".pgm")
_LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue, ITU-R BT.601."""


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
        size: int | tuple[int, int] | None = None,
        stride: int | tuple[int, int] | None = None,
        pixel_size: float = 1.0,
        unit: str = "",
        seed: int = 0,
    ) -> None:
        """Find the pictures; only the first is opened.

        Args:
            folder: Folder of png, jpeg, tiff, bmp or webp files.
            size: Size of the patches to cut, one number or (height, width); whole pictures if None, which
                must then be of one shape.
            stride: Distance between training patches; their size by default.
            pixel_size: Side of a pixel, in the unit that lengths are to be measured in.
            unit: What the grey values are called.
            seed: Seed of the order of the files.

        Raises:
            ArgumentError: If an argument is out of range.
            DataError: If the folder is missing or holds no picture, or the first picture cannot be used.
        """
        self.folder = Path(folder)
        self.pixel_size = as_positive("pixel_size", pixel_size)
        self.unit = unit
        self.seed = as_natural("seed", seed)
        if stride is not None and size is None:
            raise ArgumentError(f"`stride` (={stride!r}) needs `size`: whole pictures are not cut.")
        self.files = _shuffled(_pictures_in(self.folder), self.seed)
        first = _read_grey(self.files[0])
        self.quantum = None
        self.cuts = size is not None
        self.field_shape = (first.shape[0], first.shape[1]) if size is None else as_shape("size", size)
        self.stride = self.field_shape if stride is None else as_shape("stride", stride)
        self.chunk = chunk_length(len(self.files), count_patches(first.shape, self.field_shape, self.stride))

    def __len__(self) -> int:
        return -(-len(self.files) // self.chunk)

    def read(self, k: int, role: str) -> NDArray[np.float32]:
        """Read the pictures of one chunk, or their patches, (n, H, W); see `FieldSource.read`."""
        stride = self.stride if role == "train" else self.field_shape
        fields = [
            self._read_fields(path, stride) for path in self.files[k * self.chunk : (k + 1) * self.chunk]
        ]
        return np.concatenate(fields)

    def config(self) -> dict[str, Any]:
        """Everything that decides the fields; files count by name and size, wherever the folder stands."""
        listing = "\n".join(
            f"{path.relative_to(self.folder).as_posix()} {path.stat().st_size}" for path in self.files
        )
        return {
            "name": self.name,
            "files": len(self.files),
            "digest": hashlib.sha256(listing.encode()).hexdigest()[:16],
            "size": list(self.field_shape) if self.cuts else None,
            "stride": list(self.stride),
            "pixel_size": self.pixel_size,
            "unit": self.unit,
            "seed": self.seed,
        }

    def _read_fields(self, path: Path, stride: tuple[int, int]) -> NDArray[np.float32]:
        """A picture, or its patches, (n, H, W)."""
        picture = _read_grey(path)
        if not self.cuts and picture.shape != self.field_shape:
            raise DataError(
                f"{path}: shape {picture.shape} differs from {self.field_shape}; give `size` to cut patches."
            )
        if too_small(picture.shape, self.field_shape):
            raise DataError(f"{path}: `size` (={self.field_shape}) exceeds its shape {picture.shape}.")
        return cut(picture, self.field_shape, stride)


def _pictures_in(folder: Path) -> list[Path]:
    """The pictures in a folder and its subfolders, sorted.

    Raises:
        DataError: there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise DataError(f"image folder {str(folder)!r} does not exist; give a folder of pictures.")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    if not found:
        raise DataError(f"no picture ({', '.join(_SUFFIXES)}) in {str(folder)!r}; choose another folder.")
    return found


def _shuffled(files: list[Path], seed: int) -> list[Path]:
    """Files in the order that a seed draws."""
    order = np.random.default_rng(seed).permutation(len(files))
    return [files[i] for i in order]


def _read_grey(path: Path) -> NDArray[np.float32]:
    """Read a picture as luminance (ITU-R BT.601) between 0 and 1, at any depth, without transparency."""
    import torch
    from PIL import Image
    from torchvision.transforms.v2 import functional

    try:
        with Image.open(path) as picture:
            indirect = picture.mode in ("P", "CMYK", "YCbCr", "HSV", "LAB")
            levels = functional.pil_to_tensor(picture.convert("RGB") if indirect else picture)
    except Exception as error:  # the decoders behind PIL share no class of errors
        raise DataError(
            f"{path}: not a readable picture ({type(error).__name__}); remove or repair it."
        ) from error
    grey = levels[:3] if len(levels) >= 3 else levels[:1]
    if levels.is_floating_point():
        scaled = grey.float()
    elif levels.dtype == torch.int32:  # how PIL holds greys of 16 bits in some files
        scaled = grey.float() / 65535
    else:
        scaled = functional.to_dtype(grey, torch.float32, scale=True)
    # torchvision's own weights for grey add up to 0.9999, which darkens a grey picture kept as RGB.
    field = (_LUMINANCE if len(scaled) == 3 else (1.0,)) @ scaled.flatten(1).numpy()
    field = field.reshape(scaled.shape[1:])
    if not (field.min() >= 0 and field.max() <= 1):
        raise DataError(f"{path}: grey values outside 0 to 1; scale them, or save them as an array.")
    return np.ascontiguousarray(field, np.float32)
