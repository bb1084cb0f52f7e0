"""Fields that are spoilt as predictions are: without their small scales, or with noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..errors import ArgumentError
from ..foundation.arguments import as_count
from .spaces import Values, as_fields


def blurred(fields: NDArray[Any], factor: int = 8) -> NDArray[Any]:
    """Fields without their small scales: block means, interpolated back bilinearly.

    Each field keeps its mean over the measured pixels, and no value falls below its least one.

    Args:
        fields: (N, H, W), any H and W; NaN marks pixels that were not measured, and stays.
        factor: edge of a block, in pixels; blocks at the edge may be smaller.

    Returns:
        (N, H, W), in double precision where the fields are, else in single.

    Raises:
        ArgumentError: another shape, or factor < 1.
    """
    given = torch.from_numpy(as_fields("fields", fields))
    x = given.double()
    as_count("factor", factor)
    rows, columns = x.shape[1:]
    measured = ~torch.isnan(x)
    least = torch.where(measured, x, torch.inf).amin((1, 2), keepdim=True)
    above = torch.where(measured, x - least, 0.0)

    def smooth(values: Tensor) -> Tensor:
        padded = F.pad(values[:, None], (0, -columns % factor, 0, -rows % factor))
        return refined(F.avg_pool2d(padded, factor), factor, (rows, columns))

    # What was not measured, and the padding, weigh nothing.
    soft = torch.where(measured, smooth(above) / smooth(measured.double()), 0.0)
    totals = (above.sum((1, 2), keepdim=True), soft.sum((1, 2), keepdim=True))
    kept = torch.where(totals[1] > 0, totals[0] / totals[1], 1.0)
    return torch.where(measured, least + kept * soft, torch.nan).to(given.dtype).numpy()


def noisy(
    fields: NDArray[Any],
    spread: float = 0.5,
    speckle: float = 0.05,
    seed: int = 0,
    *,
    values: Values | None = None,
) -> NDArray[Any]:
    """Fields with noise from pixel to pixel, as strong as their values are spread.

    Where the data have a dry value, as rain has, the distance of each pixel from it is multiplied by
    exp(spread * normal), which leaves its median as it was; elsewhere `spread * normal`, in units of
    the typical distance from the median, is added, within the range of the fields. Then a share of the
    pixels, picked at random, takes the values of pixels picked at random from all the fields, of those
    that are not dry: rain where it is dry. Fields that are all equal stay as they are.

    Args:
        fields: (N, H, W); NaN marks pixels that were not measured, and stays.
        spread: strength of the noise, in the above sense.
        speckle: share of the pixels that speckle replaces.
        seed: of the noise; the same seed gives the same fields.
        values: of the data set that the fields are from; default: theirs.

    Returns:
        (N, H, W), in double precision where the fields are, else in single.

    Raises:
        ArgumentError: another shape, or a number out of range.
    """
    x = as_fields("fields", fields)
    if not (spread >= 0 and 0 <= speckle <= 1):
        raise ArgumentError(
            f"spread must be at least 0, and speckle within [0, 1], got {spread} and {speckle}"
        )
    found = (values or Values.of(x)).among(x)
    rng = np.random.default_rng(seed)
    noise = spread * rng.standard_normal(x.shape)
    if found.dry is None:
        shaken = np.clip(x + found.scale * noise, found.lowest, found.highest)
    else:
        shaken = found.dry + (x - found.dry) * np.exp(noise)
    struck_by = x[(x != found.dry) & ~np.isnan(x)]
    if len(struck_by):
        struck = (rng.random(x.shape) < speckle) & ~np.isnan(x)
        shaken[struck] = rng.choice(struck_by, np.count_nonzero(struck))
    return shaken.astype(x.dtype)


def refined(tiles: Tensor, edge: int, shape: tuple[int, int]) -> Tensor:
    """Values of square tiles (N, 1, R, S), interpolated bilinearly to the pixels of fields (N, H, W)."""
    if edge > 1:
        tiles = F.interpolate(tiles, scale_factor=edge, mode="bilinear", align_corners=False)
    return tiles[:, 0, : shape[0], : shape[1]]
