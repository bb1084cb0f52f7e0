"""Rows of the counts that kernels and soft histograms share."""

from __future__ import annotations

PIXELS, AXIAL, DIAGONAL, BLOCKS, AXIAL_DEGREE, DIAGONAL_DEGREE, COMPONENTS = range(7)
"""Pixels, pairs and 2 x 2 blocks of the set; pixels weighted by the number of their neighbours inside the
field (which counts the ends of pairs); components."""
LOCAL_ROWS, ROWS = COMPONENTS, COMPONENTS + 1
"""Leading rows, which `emuloss.metrics.minkowski.functionals` takes in this order; all of them."""
ROW_PAIRS, ROW_DEGREE, WEIGHTED = range(ROWS, ROWS + 3)
"""Where rows and columns differ: pairs along rows; pixels weighted by the number of their neighbours along
the row inside the field; and pixels weighted by their rows."""
WITH_ROWS = ROWS + 3
"""All rows, these included."""
