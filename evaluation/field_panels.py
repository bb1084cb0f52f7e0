"""Panels of a report on what gradient steps make of fields: descent and inversion."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import SubFigure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from ..emulators.spaces import Values
from ..metrics import Metric
from .axes import colour_bar, colour_of, field_colours, framed, head, plain_log_axis, tint, with_unit
from .descent import Descent
from .inversion import Inversion

_LEAST_DISTANCE = 1e-4
"""Least distance that the axis can show."""


def draw_descent(figure: SubFigure, metric: Metric, found: Descent, values: Values, unit: str) -> None:
    """A field, spoilt and after the steps, beside the truth; the distances of all fields.

    Args:
        figure: to draw in.
        metric: the exact one.
        found: the descent.
        values: of the data set that its fields are from.
        unit: of the fields.
    """
    spoilt = found.figures["start"]
    by = f"blurred {found.figures['factor']}x" if spoilt == "blurred" else "made noisy"
    head(figure, f"Descent: gradient steps on the pixels, from a field {by}, judged by the exact metric")
    pick = int(np.argsort(found.before.sum(1))[len(found.before) // 2])
    before, after = found.before[pick].sum(), found.after[pick].sum()
    panels = figure.subplots(1, 4, width_ratios=(1, 1, 1, 0.8))
    titles = (
        f"{spoilt}: distance {before:.2f}",
        f"after {found.figures['steps']} steps: distance {after:.2f}",
        "truth",
    )
    colours, scale = field_colours(_lowest(metric), values, found.truth[pick])
    for axes, title, field in zip(panels, titles, (found.start, found.final, found.truth), strict=False):
        image = _draw_field(axes, field[pick], title, colours, scale)
    colour_bar(figure, image, panels[:3].tolist(), with_unit("value", unit), values.dry)
    _draw_removed(panels[3], metric, found)


def _draw_removed(axes: Axes, metric: Metric, found: Descent) -> None:
    """Exact distance per output before and after, means over all the fields of the descent."""
    shown = []
    for c, name in enumerate(metric.outputs):
        figures = found.figures["outputs"][name]
        before, after = (max(distance, _LEAST_DISTANCE) for distance in (figures["before"], figures["after"]))
        shown += [before, after]
        axes.plot([before, after], [c, c], color=tint(colour_of(c), 0.5), lw=2, zorder=1)
        axes.scatter(before, c, s=46, facecolor="white", edgecolor=colour_of(c), lw=1.6, zorder=2)
        axes.scatter(after, c, s=46, color=colour_of(c), zorder=2)
        axes.annotate(
            f"{name}{_share(figures['removed'])}",
            (0.02, c),
            (0, 7),
            xycoords=axes.get_yaxis_transform(),
            textcoords="offset points",
        )
    if max(shown) > _LEAST_DISTANCE:
        axes.set_xscale("log")
        axes.set_xlim(min(shown) / 2, max(shown) * 2)
        plain_log_axis(axes.xaxis, min(shown), max(shown))
    else:  # there was nothing to remove
        axes.set_xticks([_LEAST_DISTANCE], ["0"])
    axes.set_ylim(len(metric.outputs) - 0.5, -0.7)
    axes.set_yticks([])
    axes.spines.left.set_visible(False)
    axes.set_xlabel("before (open), after (filled)")
    fields = f"{len(found.truth)} field{'s' if len(found.truth) > 1 else ''}"
    axes.set_title(f"exact distance, {fields}")


def _share(removed: float | None) -> str:
    """How much of a distance is gone, in words."""
    if removed is None:
        return ""
    return f": {removed:.0f} % removed" if removed >= 0 else f": {-removed:.0f} % more"


def draw_inversion(figure: SubFigure, metric: Metric, found: Inversion, values: Values, unit: str) -> None:
    """Each target, and below it the field that was found; arguments as of `draw_descent`."""
    head(
        figure,
        f"Inversion: from noise to given curves in {found.figures['steps']} steps, "
        "judged by the exact metric",
    )
    panels = figure.subplots(2, len(found.targets), squeeze=False)
    colours, scale = field_colours(_lowest(metric), values, found.targets)
    for column, (name, figures) in enumerate(found.figures["targets"].items()):
        rmse = "undefined" if figures["rmse"] is None else f"{figures['rmse']:.2f}"
        for axes, field, title in (
            (panels[0, column], found.targets[column], f"target: {name}"),
            (panels[1, column], found.found[column], f"found: RMSE {rmse}"),
        ):
            image = _draw_field(axes, field, title, colours, scale)
    colour_bar(figure, image, panels.ravel().tolist(), with_unit("value", unit), values.dry)


def _draw_field(
    axes: Axes, field: NDArray[Any], title: str, colours: Colormap, scale: Normalize
) -> AxesImage:
    """A field as an image, which is returned."""
    image = axes.imshow(field, cmap=colours, norm=scale, interpolation="nearest")
    framed(axes)
    axes.set_title(title)
    return image


def _lowest(metric: Metric) -> float | None:
    """The lowest threshold; None where there are none."""
    return next(iter(metric.thresholds), None)
