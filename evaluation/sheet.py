"""Rows of panels on one sheet, a PNG."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from ..foundation.files import disk_errors, write_safely
from .axes import FAINT, INK

WIDTH, _DPI = 12.0, 150
"""In inches, and pixels per inch."""
_STYLE: Any = {
    "axes.edgecolor": INK,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.titlesize": 11.5,
    "figure.titleweight": "bold",
    "font.size": 9,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "text.color": INK,
    "xtick.color": INK,
    "xtick.labelsize": 8.5,
    "ytick.color": INK,
    "ytick.labelsize": 8.5,
}


class Row(NamedTuple):
    """A row of panels: its height, in inches, and what draws it."""

    height: float
    draw: Callable[[SubFigure], None]


def write_sheet(path: str | Path, rows: Sequence[Row]) -> None:
    """Draw rows of panels below one another.

    Args:
        path: the PNG file to write.
        rows: from the top.

    Raises:
        DataError: the picture cannot be written.
    """
    heights = [row.height for row in rows]
    with matplotlib.rc_context(_STYLE):
        layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.06, hspace=0.05, wspace=0.04)
        figure = Figure(figsize=(WIDTH, sum(heights)), dpi=_DPI, facecolor="white", layout=layout)
        FigureCanvasAgg(figure)
        places = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
        for row, place in zip(rows, places, strict=True):
            row.draw(place)
        picture = io.BytesIO()
        figure.savefig(picture, format="png")
    with disk_errors(Path(path)):
        write_safely(Path(path), picture.getbuffer())
