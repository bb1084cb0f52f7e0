"""What values fields take, and spaces of their pixels in which steps are of one size: no unit, no zero."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ArgumentError
from ..foundation.arguments import filled
from ..metrics.distribution import dry_value

_DECADES = 2.5
"""Values that reach so many times as far from the dry value as is typical of them span decades: of those that
are spread evenly the largest is twice as far, of rates of rain many times."""
_LEVELS = tuple((k + 0.5) / 24 for k in range(24))
"""Of the quantiles that say how values are distributed."""
_DEVIATES = tuple(NormalDist().inv_cdf(level) / NormalDist().inv_cdf(0.75) for level in _LEVELS)
"""Those of normal numbers, in units of their median distance from 0."""


class Values(NamedTuple):
    """What values a data set takes. Of a x + b (a > 0) they are the same, moved and scaled.

    Attributes:
        dry: the value of pixels where there is nothing, such as 0 mm/h; None where there is none, as in
            temperatures.
        centre: the dry value, or the median.
        scale: typical distance from the centre; 0 where all values are equal.
        lowest: the least value.
        highest: the largest one.
        quantiles: of the values that are not dry.
    """

    dry: float | None
    centre: float
    scale: float
    lowest: float
    highest: float
    quantiles: tuple[float, ...] = ()

    @classmethod
    def of(cls, fields: NDArray[Any]) -> Values:
        """Those of fields of any shape; NaN is left out. Where nothing was measured, all of them are 0."""
        known = fields[~np.isnan(fields)]
        if known.size == 0:
            return cls(None, 0.0, 0.0, 0.0, 0.0)
        dry = dry_value(known)
        centre = float(np.median(known)) if dry is None else dry
        wet = known if dry is None else known[known != dry]
        return cls(
            dry,
            centre,
            typical_distance(known, centre),
            float(known.min()),
            float(known.max()),
            tuple(np.quantile(wet.astype(np.float64), _LEVELS).tolist()),
        )

    def among(self, fields: NDArray[Any]) -> Values:
        """Those of some of the fields: where the data set is dry they are, too."""
        known = fields[~np.isnan(fields)]
        if known.size == 0:
            return self
        scale = typical_distance(known, self.centre)
        return self._replace(scale=scale, lowest=float(known.min()), highest=float(known.max()))

    @property
    def varied(self) -> bool:
        """Whether there are two values for a `QuantileSpace`."""
        return len({*self.quantiles, *(() if self.dry is None else (self.dry,))}) > 1

    @property
    def decades(self) -> bool:
        """Whether values above the dry one span decades, as rates of rain do."""
        return self.dry is not None and self.highest - self.dry > _DECADES * self.scale

    def times(self, factor: float, fields: NDArray[Any]) -> NDArray[Any]:
        """Fields whose values are so many times as far from the centre."""
        dtype = fields.dtype.type
        return dtype(self.centre) + dtype(factor) * (fields - dtype(self.centre))


def typical_distance(known: NDArray[Any], centre: float) -> float:
    """Median distance from a centre of the values that differ from it; 0 where none does."""
    sizes = np.abs(known[known != centre] - known.dtype.type(centre))
    middle = (sizes.size - 1) // 2  # of an even number the lower one: a value that was met
    return float(np.partition(sizes, middle)[middle]) if sizes.size else 0.0


class PixelSpace(NamedTuple):
    """The space z = asinh((x - origin)/scale): logarithmic for pixels beyond the scale, else linear.

    Attributes:
        origin: in the fields' unit.
        scale: likewise.
        lowest: the least z that a pixel may take.
        highest: the largest.
    """

    origin: float
    scale: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Values, *, lowest: float, highest: float = math.inf) -> PixelSpace:
        """The space about the centre of some values, for pixels within a range."""
        return cls.about(values.centre, values.scale or 1.0, lowest=lowest, highest=highest)

    @classmethod
    def about(cls, origin: float, scale: float, *, lowest: float, highest: float = math.inf) -> PixelSpace:
        """The space about an origin, for pixels within a range, all in the fields' unit."""
        return cls(
            origin, scale, math.asinh((lowest - origin) / scale), math.asinh((highest - origin) / scale)
        )

    def enter(self, fields: Tensor) -> Tensor:
        """The z of fields, of any shape."""
        return torch.asinh((fields - self.origin) / self.scale)

    def leave(self, z: Tensor) -> Tensor:
        """The fields of z, of any shape."""
        return self.origin + self.scale * torch.sinh(z)

    def within(self, z: Tensor) -> Tensor:
        """The nearest z in the range."""
        return z.clamp(self.lowest, self.highest)

    def slope(self, fields: Tensor) -> Tensor:
        """dx/dz at fields."""
        return ((fields - self.origin) ** 2 + self.scale**2).sqrt()


class QuantileSpace(NamedTuple):
    """The space in which a data set is distributed as normal numbers are, linear between its quantiles.

    A step is the same share of the data wherever values lie close together or far apart.

    Attributes:
        values: (K,), quantiles, increasing, the dry value before them.
        places: (K,), their z.
        lowest: least value of a pixel, in the fields' unit.
        highest: largest one.
    """

    values: Tensor
    places: Tensor
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Values, *, lowest: float, highest: float) -> QuantileSpace:
        """The space of some values, two of which differ, for pixels within a range."""
        distinct, which = np.unique(values.quantiles, return_inverse=True)
        places = np.bincount(which, _DEVIATES) / np.bincount(which)
        if values.dry is not None:
            distinct, places = np.append(values.dry, distinct), np.append(places[0] - 1, places)
        return cls(torch.from_numpy(distinct), torch.from_numpy(places), lowest, highest)

    def enter(self, fields: Tensor) -> Tensor:
        """The z of fields, of any shape."""
        return _interpolated(fields, self.values, self.places)

    def leave(self, z: Tensor) -> Tensor:
        """The fields of z, of any shape."""
        return _interpolated(z, self.places, self.values)

    def slope(self, fields: Tensor) -> Tensor:
        """dx/dz at fields."""
        values, places = self.values.to(fields), self.places.to(fields)
        above = _above(fields, values)
        return (values[above] - values[above - 1]) / (places[above] - places[above - 1])

    def within(self, z: Tensor) -> Tensor:
        """The nearest z in the range."""
        low, high = self.enter(z.new_tensor([self.lowest, self.highest]))
        return torch.maximum(torch.minimum(z, high), low)


def _interpolated(x: Tensor, points: Tensor, values: Tensor) -> Tensor:
    """Values given at increasing points, linear between them and beyond."""
    points, values = points.to(x), values.to(x)
    above = _above(x, points)
    below = above - 1
    share = (x - points[below]) / (points[above] - points[below])
    return values[below] + share * (values[above] - values[below])


def _above(x: Tensor, points: Tensor) -> Tensor:
    """Numbers of the points that end the sections on which values lie, beyond both ends those of the ends."""
    return torch.searchsorted(points, x.detach().contiguous()).clamp(1, len(points) - 1)


def space_of(values: Values, nearby: Values, *, lowest: float, highest: float) -> PixelSpace | QuantileSpace:
    """Where to step among the fields of a data set, for pixels within a range.

    Args:
        values: of the data set.
        nearby: of the fields that steps lead to; see `Values.among`.
        lowest: least value of a pixel, in the fields' unit.
        highest: largest one.
    """
    if values.decades or not values.varied:
        return PixelSpace.of(nearby, lowest=lowest, highest=highest)
    return QuantileSpace.of(values, lowest=lowest, highest=highest)


def floating(array: NDArray[Any]) -> NDArray[Any]:
    """Numbers in single precision, or in double, if they are."""
    return array if array.dtype == np.float64 else array.astype(np.float32)


def as_fields(name: str, fields: NDArray[Any]) -> NDArray[Any]:
    """Fields (N, H, W) in floating point, see `floating`; ArgumentError where they are none."""
    array = filled(fields)
    if array.ndim != 3 or 0 in array.shape or array.dtype.kind not in "fiub":
        raise ArgumentError(
            f"{name} must be real numbers of shape (N, H, W) with N, H, W >= 1, "
            f"got {array.dtype} of {array.shape}"
        )
    return floating(array)
