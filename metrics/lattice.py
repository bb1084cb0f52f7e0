"""Lengths and areas of pixels that need not be square, nor of one size in every row."""

from __future__ import annotations

import math
from dataclasses import dataclass

_DIRECTION = math.pi / 8
"""Length of a transition along a row or a column of square pixels of edge 1, in Crofton's formula."""


@dataclass(frozen=True)
class Lattice:
    """Pixels dy high and dx wide, the area of each weighted.

    Attributes:
        spacing: (dy, dx).
        lightest: least weight of a pixel, and
        heaviest: greatest one.
    """

    spacing: tuple[float, float]
    lightest: float = 1.0
    heaviest: float = 1.0

    @property
    def pixel(self) -> float:
        """Area of a pixel of weight 1."""
        return self.spacing[0] * self.spacing[1]

    @property
    def steps(self) -> tuple[float, float, float]:
        """Lengths that transitions along rows, columns and diagonals stand for.

        Crofton's formula with four directions k of unequal shares c_k of all angles (Legland, Kieu and Devaux
        2007, Image Anal. Stereol. 26, 83-92): P = pi/2 sum c_k (dy dx / d_k) T_k, T_k the transitions along
        lines of direction k, on which pixels are d_k apart, so that the lines are dy dx / d_k apart. A
        direction has the angles that are nearer to it than to any other: with t = atan(dy/dx), that of the
        diagonal, c = t/pi along rows, 1/2 - t/pi along columns, and 1/4 along either diagonal.
        """
        dy, dx = self.spacing
        angle = math.atan2(dy, dx)
        return angle * dy / 2, (math.pi / 2 - angle) * dx / 2, _DIRECTION * self.pixel / math.hypot(dy, dx)

    @property
    def pixel_perimeter(self) -> float:
        """Perimeter of a single pixel, the greatest that a pixel adds."""
        row, column, diagonal = self.steps
        return 2 * row + 2 * column + 4 * diagonal

    @property
    def roundness(self) -> float:
        """What perimeters are at least, as multiples of those of the same set of square pixels of edge 1."""
        row, column, diagonal = self.steps
        return min(row, column, diagonal * math.sqrt(2)) / _DIRECTION

    def least_boundary(self, wraps: tuple[bool, bool]) -> float:
        """Least length of a closed boundary: two transitions along rows and two along columns, at least.

        One that goes straight around, where edges adjoin, crosses two columns (or rows) or more, and twice as
        many diagonals.
        """
        row, column, diagonal = self.steps
        lengths = [2 * row + 2 * column]
        lengths += [2 * row + 4 * diagonal] if wraps[0] else []
        lengths += [2 * column + 4 * diagonal] if wraps[1] else []
        return min(lengths)
