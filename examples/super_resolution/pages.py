"""What pages of results share: the reading that people write into them, and how rain is drawn."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from matplotlib import colormaps
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, LogLocator
from numpy.typing import NDArray
from torch import Tensor

_READING = re.compile(r"<!-- reading -->\n.*?<!-- end -->", re.DOTALL)
_TITLE = re.compile(r"\A# .*$", re.MULTILINE)
_RAIN = colormaps["YlGnBu"].with_extremes(under="white", bad="lightgrey")
_RATES = LogNorm(0.1, 20)
"""Colours of rain in mm/h: white where it is dry, grey where nothing was measured."""


def reading(page: Path) -> str:
    """What people have written between the marks of a page, with these; nothing on a new page."""
    kept = _READING.search(page.read_text()) if page.exists() else None
    return kept[0] if kept else "<!-- reading -->\n<!-- end -->"


def title(page: Path, default: str) -> str:
    """The title that people gave to a page; the default for a new page."""
    kept = _TITLE.search(page.read_text()) if page.exists() else None
    return kept[0] if kept else f"# {default}"


def shown(fields: Tensor, count: int) -> Tensor:
    """Which of fields (N, H, W) in mm/h are shown, at most so many: from wet ones to middling."""
    order = (fields >= 0.1).flatten(1).float().mean(1).argsort(descending=True)
    places = torch.linspace(0, len(order) / 2, min(count, len(order)) + 2).long()[1:-1]
    return order[places.unique()]


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
