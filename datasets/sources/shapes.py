"""Drawn shapes whose exact measures are known, for tests and teaching.

Each function returns a field (H, W), float32, with `value` inside the shape and 0 outside, and a dict of the
answers that hold for its excursion set at any threshold in (0, value], lengths in pixels: "area", and with
4-connected foreground "components", "holes" and "euler" (components - holes); for rectangles also
"perimeter", the 4-direction Crofton estimate with a dry outside.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError

Drawn = tuple[NDArray[np.float32], dict[str, float]]


def disk(shape: tuple[int, int] = (64, 64), radius: float = 20.0, value: float = 1.0) -> Drawn:
    """Draw the pixels whose centres lie within `radius` of the middle of the field."""
    return _finish(_distance(shape, radius) <= radius, value, components=1, holes=0)


def annulus(
    shape: tuple[int, int] = (64, 64), inner: float = 10.0, outer: float = 20.0, value: float = 1.0
) -> Drawn:
    """Draw the ring between two radii, both at least 2 pixels apart; it has one hole."""
    if not 1 <= inner <= outer - 2:
        raise ArgumentError(f"`inner` (={inner!r}) must be between 1 and `outer` - 2 (={outer - 2!r}).")
    distance = _distance(shape, outer)
    return _finish((distance <= outer) & (distance > inner), value, components=1, holes=1)


def two_disks(shape: tuple[int, int] = (64, 128), radius: float = 12.0, value: float = 1.0) -> Drawn:
    """Draw two disks side by side that do not touch."""
    half = (shape[0], shape[1] // 2)
    left = _distance(half, radius) <= radius
    mask = np.zeros(shape, bool)
    mask[:, : half[1]] = left
    mask[:, shape[1] - half[1] :] = left
    return _finish(mask, value, components=2, holes=0)


def rectangle(
    shape: tuple[int, int] = (64, 64), height: int = 20, width: int = 30, value: float = 1.0
) -> Drawn:
    """Draw a rectangle of pixels in the middle of the field.

    Its Crofton perimeter pi/8 (N_rows + N_columns + (N_diagonals) / sqrt 2) has 2 crossings for each row and
    column of pixels, and 2 for each of the height + width - 1 diagonals in both directions.
    """
    if not (1 <= height <= shape[0] and 1 <= width <= shape[1]):
        raise ArgumentError(f"`height` (={height!r}) and `width` (={width!r}) must fit into {shape}.")
    mask = np.zeros(shape, bool)
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    mask[top : top + height, left : left + width] = True
    crossings = 2 * (height + width) + 4 * (height + width - 1) / np.sqrt(2)
    return _finish(mask, value, components=1, holes=0, perimeter=float(np.pi / 8 * crossings))


def checkerboard(shape: tuple[int, int] = (16, 16), value: float = 1.0) -> Drawn:
    """Draw every second pixel: single components, and no hole, as the background is 8-connected."""
    mask = np.indices(shape).sum(0) % 2 == 0
    return _finish(mask, value, components=int(mask.sum()), holes=0)


def dots(shape: tuple[int, int] = (64, 64), spacing: int = 8, value: float = 1.0) -> Drawn:
    """Draw single pixels on a grid with the given spacing, at least 2."""
    if spacing < 2:
        raise ArgumentError(f"`spacing` (={spacing!r}) must be at least 2 pixels.")
    mask = np.zeros(shape, bool)
    mask[spacing // 2 :: spacing, spacing // 2 :: spacing] = True
    count = int(mask.sum())
    return _finish(mask, value, components=count, holes=0, perimeter=count * np.pi / 8 * (4 + 4 / np.sqrt(2)))


def _distance(shape: tuple[int, int], radius: float) -> NDArray[np.float64]:
    """Distance of each pixel centre from the middle of a field that the radius fits into."""
    if not 1 <= radius <= (min(shape) - 1) / 2:
        raise ArgumentError(f"radius (={radius!r}) must be at least 1 and fit into a field of shape {shape}.")
    i, j = np.indices(shape)
    return np.hypot(i - (shape[0] - 1) / 2, j - (shape[1] - 1) / 2)


def _finish(
    mask: NDArray[np.bool_], value: float, components: int, holes: int, perimeter: float | None = None
) -> Drawn:
    """A field of a mask, and the answers that hold for it."""
    answers: dict[str, float] = {
        "area": int(mask.sum()),
        "components": components,
        "holes": holes,
        "euler": components - holes,
    }
    if perimeter is not None:
        answers["perimeter"] = perimeter
    return np.where(mask, np.float32(value), np.float32(0)), answers
