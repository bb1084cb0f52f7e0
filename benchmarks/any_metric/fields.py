"""What the metrics are measured on: synthetic rain, and tiles of pictures."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from emuloss.datasets import Rain
from numpy.typing import NDArray
from skimage import data

_SIDE, _COUNT, _HELD_OUT, _SPOILT = 64, 2048, 256, 8
_PICTURES = (data.camera, data.moon, data.coins, data.brick, data.grass, data.gravel)
_STEP = 32
"""Pixels between tiles of pictures."""


class Fields(NamedTuple):
    """Fields (N, H, W), float32.

    Attributes:
        observed: to learn on.
        tested: held out.
        spoilt: of these, the ones with the most going on.
    """

    observed: NDArray[np.float32]
    tested: NDArray[np.float32]
    spoilt: NDArray[np.float32]


def rain() -> Fields:
    """Synthetic rain in mm/h; the fullest fields are spoilt."""
    source = Rain(_COUNT, size=_SIDE, seed=0)
    fields = np.concatenate([source.read(k, "train") for k in range(len(source))])
    return _parted(fields[:-_HELD_OUT], fields[-_HELD_OUT:], (fields[-_HELD_OUT:] > 0.1).mean((1, 2)))


def pictures() -> Fields:
    """Tiles of 8-bit pictures of scikit-image; the lower fifth of each is held out, or a row of tiles."""
    parts: tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]] = ([], [])
    for picture in _PICTURES:
        grey = picture().astype(np.float32)
        border = min(len(grey) * 4 // 5, len(grey) - _SIDE)
        for part, image in zip(parts, (grey[:border], grey[border:]), strict=True):
            part.extend(_tiles(image))
    observed, tested = (np.random.default_rng(0).permutation(np.stack(part)) for part in parts)
    return _parted(observed, tested[:_HELD_OUT], tested[:_HELD_OUT].std((1, 2)))


def _tiles(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Square tiles (N, H, W) of an image, which overlap by half."""
    views = np.lib.stride_tricks.sliding_window_view(image, (_SIDE, _SIDE))
    return views[::_STEP, ::_STEP].reshape(-1, _SIDE, _SIDE)


def _parted(
    observed: NDArray[np.float32], tested: NDArray[np.float32], fullness: NDArray[np.floating]
) -> Fields:
    return Fields(observed, tested, tested[np.argsort(-fullness)[:_SPOILT]])
