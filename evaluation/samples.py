"""A picture of some fields, on one scale of colours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import SubFigure
from numpy.typing import NDArray

from ..emulators.spaces import Values
from .axes import colour_bar, field_colours, framed, head, with_unit
from .sheet import WIDTH, Row, write_sheet

_COLUMNS = 4
_TITLE, _BETWEEN = 0.6, 0.3
"""Heights of the title of all, and of those of each row, in inches."""
_FOR_IMAGES = 0.86
"""Share of the width that images have, beside the colour bar."""
_TALLEST = 6.0
"""Height of an image, at most, in inches."""
_LONGEST = 90
"""Most characters of a name."""


def draw_samples(
    path: str | Path,
    fields: Sequence[NDArray[Any]],
    *,
    titles: Sequence[str],
    name: str,
    unit: str,
    dry: float | None,
    lowest: float | None,
) -> None:
    """Draw fields side by side; what was not measured is grey, and what is dry white.

    Args:
        path: the PNG file to write.
        fields: (H, W) each, of one shape; some pixels are measured.
        titles: one for each.
        name: of the data.
        unit: of the values; empty where it is not told.
        dry: value up to which pixels do not count; None where all do.
        lowest: value from which colours are told apart, where some are dry.

    Raises:
        DataError: the picture cannot be written.
    """
    columns = min(len(fields), _COLUMNS)
    lines = -(-len(fields) // columns)
    height, width = fields[0].shape
    inches = min(WIDTH * _FOR_IMAGES / columns * height / width, _TALLEST)

    def draw(figure: SubFigure) -> None:
        missing = any(np.isnan(field).any() for field in fields)
        told = f"…{name[1 - _LONGEST :]}" if len(name) > _LONGEST else name
        head(figure, f"{told}{'; grey: not measured' if missing else ''}")
        shown = np.stack(fields)
        values = Values.of(shown)._replace(dry=dry)
        # Of a mask all that count are equal.
        least = lowest if lowest is not None and lowest < np.nanmax(shown) else None
        colours, scale = field_colours(least, values, shown)
        panels = figure.subplots(lines, columns, squeeze=False).ravel()
        for axes in panels[len(fields) :]:
            axes.set_axis_off()
        for axes, field, title in zip(panels, fields, titles, strict=False):
            image = axes.imshow(field, cmap=colours, norm=scale, interpolation="nearest")
            framed(axes)
            axes.set_title(title)
        colour_bar(figure, image, panels.tolist(), with_unit("value", unit), dry)

    write_sheet(path, [Row(_TITLE + lines * (inches + _BETWEEN), draw)])
