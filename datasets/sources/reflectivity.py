"""Rain from radar reflectivity.

Marshall and Palmer (1948), "The distribution of raindrops with size", Journal of Meteorology 5, 165-166:
Z = 200 R^1.6, Z in mm^6 m^-3 and R in mm/h.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MARSHALL_PALMER = (200.0, 1.6)
"""Factor and exponent of Z = factor * R ** exponent."""
UNIT = "dBZ"
"""How reflectivity is told: 10 log10 Z."""


def is_reflectivity(unit: str) -> bool:
    """Whether a unit is that of reflectivity in decibels."""
    return unit.strip().casefold() == UNIT.casefold()


def rain_of(dbz: NDArray[Any], relation: tuple[float, float] = MARSHALL_PALMER) -> NDArray[Any]:
    """Rain rate in mm/h of reflectivity in dBZ, of the same shape; NaN stays.

    Args:
        dbz: Reflectivity.
        relation: Factor and exponent of Z = factor * R ** exponent.
    """
    factor, exponent = relation
    with np.errstate(over="ignore"):  # markers of missing values, which are masked afterwards
        return (10 ** (dbz / 10) / factor) ** (1 / exponent)
