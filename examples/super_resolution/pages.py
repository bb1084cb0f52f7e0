"""What pages of results share: the reading that people write into them, and how rain is drawn."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, LogLocator
from numpy.typing import NDArray

_READING = re.compile(r"<!-- reading -->\n.*?<!-- end -->", re.DOTALL)
_RAIN = colormaps["YlGnBu"].with_extremes(under="white", bad="lightgrey")
_RATES = LogNorm(0.1, 20)
"""Colours of rain in mm/h: white where it is dry, grey where nothing was measured."""


def reading(page: Path) -> str:
    """What people have written between the marks of a page, with these; nothing on a new page."""
    kept = _READING.search(page.read_text()) if page.exists() else None
    return kept[0] if kept else "<!-- reading -->\n<!-- end -->"


def draw_rain(axes: Any, field: NDArray[Any]) -> AxesImage:
    """Draw a field (H, W) in mm/h."""
    axes.set(xticks=[], yticks=[])
    # Zeros have no place on a log scale.
    return axes.imshow(field.clip(min=0.01), norm=_RATES, cmap=_RAIN)


def add_bar(figure: Figure, image: AxesImage, axes: Any) -> None:
    """Draw the colours of rain below axes."""
    bar = figure.colorbar(image, ax=axes, location="bottom", aspect=60, extend="both")
    bar.ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    bar.ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    bar.set_label("rain in mm/h", fontsize="small")
