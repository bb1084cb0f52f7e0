"""SAL: structure, amplitude and location of rain, by its objects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..errors import ArgumentError
from ..foundation.arguments import as_connectivity, as_flag, as_outputs, as_real, shown
from .constraints import Constraint, Identity, applicable
from .metric import Metric
from .pairwise import within
from .registry import register

OUTPUTS = ("structure", "amplitude", "location", "total")

FACTOR = 1 / 15
"""Height of the contour around objects, as a share of the quantile."""
QUANTILE = 0.95
"""Level of the quantile of the wet pixels."""


@register
class SAL(Metric):
    r"""Structure, amplitude and location errors (Wernli et al. 2008, Mon. Wea. Rev. 136, 4470-4487).

    R is the rain of a field, D its mean, x its centre of mass. Objects are the connected sets of
    {R >= R*}; R* is 1/15 of the 95 % quantile of the wet pixels, of each field by itself (Wernli
    et al. 2009, Wea. Forecasting 24, 1472-1484; the first paper took the maximum for the quantile).
    Object n has mass R_n, centre x_n and volume V_n = R_n / (its maximum), which is large where it is
    wide and flat. With means over objects weighted by mass, V = sum R_n V_n / sum R_n and
    r = sum R_n |x_n - x| / sum R_n,

    - structure: S = (V_p - V_o) / ((V_p + V_o)/2), in [-2, 2]: > 0 where the prediction's objects are
      too wide or flat;
    - amplitude: A = (D_p - D_o) / ((D_p + D_o)/2), in [-2, 2]: > 0 where it rains too much;
    - location: L = |x_p - x_o|/d + 2 |r_p - r_o|/d, in [0, 2], d the diagonal of the field, between
      its outermost corners;
    - total: |S| + |A| + L, in [0, 6].

    Pure numbers; 0 is the best of each. By default S and A come without sign, so that smaller is
    better, and swapping prediction and observation changes nothing; with signs it reverses them.
    Where both fields are dry all are 0; where one is, |S| = |A| = L = 2, the worst.

    Values are compared in double precision. A pixel that is not finite in either field was not
    measured in both and counts as dry in both.

    Args:
        wet: pixels > wet rain, all others count as 0; >= 0, in the field's unit. Wernli et al. take
            the quantile above 0.1 mm.
        outputs: which values, in which order, out of structure, amplitude, location, total.
        absolute: whether structure and amplitude come as |S| and |A|.
        connectivity: 1: objects are 4-connected; 2: 8-connected.

    Raises:
        ArgumentError: any argument out of range.
    """

    name = "sal"
    arity = 2
    invariant = True
    lower_better = True
    identity = 0.0
    pixel_size = 1.0
    thresholds = ()
    levels = (0.5,)
    wet: float
    absolute: bool
    connectivity: int

    def __init__(
        self,
        wet: float = 0.0,
        outputs: Sequence[str] = ("structure", "amplitude", "location"),
        absolute: bool = True,
        connectivity: int = 1,
    ) -> None:
        self.wet = as_real(wet)
        if not 0 <= self.wet < math.inf:
            raise ArgumentError(f"wet must be a number >= 0, got {shown(wet)}")
        self.outputs = as_outputs(outputs, OUTPUTS)
        self.absolute = as_flag("absolute", absolute)
        self.connectivity = as_connectivity(connectivity)
        self.units = ("1",) * len(self.outputs)
        self.symmetric = absolute or not {"structure", "amplitude"} & set(self.outputs)
        self.constraints = applicable(_constraints(absolute), self.outputs)

    @property
    def located(self) -> bool:
        """Where location counts."""
        return not {"location", "total"}.isdisjoint(self.outputs)

    def _compute(self, predictions: np.ndarray, observations: np.ndarray) -> np.ndarray:
        values = np.empty((len(predictions), len(self.outputs), 1))
        for n, fields in enumerate(zip(predictions, observations, strict=True)):
            pair = np.stack(fields).astype(np.float64, copy=False)
            measured = np.isfinite(pair).all(axis=0)
            rain = np.where(measured & (pair > self.wet), pair, 0.0)
            # Only ratios count: in units of a power of two, no sum overflows and nothing is rounded.
            rain = np.ldexp(rain, -np.frexp(rain.max())[1])
            prediction, observation = (_describe(each, self.connectivity) for each in rain)
            values[n, :, 0] = self._compare(prediction, observation, math.hypot(*measured.shape))
        return values

    def _compare(self, prediction: _Rain, observation: _Rain, diagonal: float) -> list[float]:
        """The outputs, of two descriptions."""
        structure = _relative(prediction.volume, observation.volume)
        amplitude = _relative(prediction.mass, observation.mass)
        if prediction.mass and observation.mass:
            shift = math.dist(prediction.centre, observation.centre)
            location = (shift + 2 * abs(prediction.spread - observation.spread)) / diagonal
        else:
            location = abs(amplitude)  # 0 where both are dry, else 2
        by_name = {
            "structure": abs(structure) if self.absolute else structure,
            "amplitude": abs(amplitude) if self.absolute else amplitude,
            "location": location,
            "total": abs(structure) + abs(amplitude) + location,
        }
        return [by_name[output] for output in self.outputs]


class _Rain(NamedTuple):
    """What SAL compares of a field.

    Attributes:
        mass: sum over the field.
        centre: of mass, (row, column).
        spread: r, mean distance of the objects' centres from the centre.
        volume: V, mean of the objects' volumes.
    """

    mass: float
    centre: tuple[float, float]
    spread: float
    volume: float


def _describe(rain: np.ndarray, connectivity: int) -> _Rain:
    """Find the objects of a field (H, W), float64, finite and >= 0."""
    from skimage.measure import label

    where = np.nonzero(rain)
    values = rain[where]
    mass = float(values.sum())
    if mass == 0:
        return _Rain(0.0, (0.0, 0.0), 0.0, 0.0)
    row, column = (float((values * position).sum()) / mass for position in where)

    objects = label(rain >= FACTOR * np.quantile(values, QUANTILE), connectivity=connectivity)[where]
    # Object 0 is the rain outside the objects.
    masses = np.bincount(objects, values)[1:]
    rows, columns = (np.bincount(objects, values * position)[1:] / masses for position in where)
    peaks = np.zeros(len(masses) + 1)
    np.maximum.at(peaks, objects, values)
    spread = np.average(np.hypot(rows - row, columns - column), weights=masses)
    volume = np.average(masses / peaks[1:], weights=masses)
    return _Rain(mass, (row, column), float(spread), float(volume))


def _relative(prediction: float, observation: float) -> float:
    """Their difference relative to their mean, in [-2, 2]; both >= 0."""
    mean = (prediction + observation) / 2
    return (prediction - observation) / mean if mean else 0.0


def _constraints(absolute: bool) -> tuple[Constraint, ...]:
    """What exact values obey.

    The bound of the location: because x is the centre of the whole mass and rain outside the objects
    is below R*, at least 15/34 of the mass is in the objects (the quantile leaves at most 19 pixels
    below for each that reaches it). With both inside the circle around the field, L <= 1.93.
    """
    low = 0.0 if absolute else -2.0
    return (
        *within("structure", low, 2.0),
        *within("amplitude", low, 2.0),
        *within("location", 0.0, 2.0),
        *within("total", 0.0, 6.0),
        Identity(
            "total",
            "total = |structure| + |amplitude| + location",
            lambda s, a, l: abs(s) + abs(a) + l,
            ("structure", "amplitude", "location"),
        ),
    )
