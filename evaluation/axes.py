"""Axes, colours and labels that the panels of a report share."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import Colormap, LogNorm, Normalize, to_rgb
from matplotlib.figure import SubFigure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

from ..metrics import Metric

INK, FAINT, _UNMEASURED = "#2a2e35", "#dfe2e6", "#c9ccd1"
COLOURS = ("#2f6690", "#c0703a", "#4d8061", "#7d5a8c", "#a08a2c", "#a84f62", "#4f9a9a", "#7b6049")
_LABEL = 38
"""Most characters of a label."""
_LEAST_GAP = 1e-5
"""Least 1 - R2 that the axis can show."""


def gap(r2: float | None) -> float:
    """1 - R2, within what the axis can show; NaN where it is undefined."""
    return math.nan if r2 is None else min(max(1 - r2, _LEAST_GAP), 1.0)


def gap_axis(axes: Axes, least: float) -> None:
    """R2 along y, on a log axis of 1 - R2 that ends below the least gap."""
    axes.set_yscale("log")
    axes.set_ylim(1.2, 10 ** math.floor(math.log10(least)) / 1.3)
    axes.yaxis.set_major_locator(FixedLocator([1, 0.1, 0.01, 1e-3, 1e-4, 1e-5]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda gap, _: "≤ 0" if gap >= 1 else f"{1 - gap:.6g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def legend_inside(axes: Axes, place: Literal["upper right"], columns: int) -> None:
    """A legend on a pale ground, so that lines under it do not run through its words."""
    axes.legend(loc=place, ncols=columns, frameon=True, framealpha=0.9, edgecolor="none")


def category_axis(axis: Axis) -> None:
    """An axis along which things with names stand: no tick marks, no grid."""
    axis.set_tick_params(length=0)
    axis.grid(False)


def framed(axes: Axes) -> None:
    """A frame around an image: no ticks, no grid."""
    axes.grid(False)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(True)


def head(figure: SubFigure, text: str) -> None:
    """The title of a row of panels, flush left."""
    figure.suptitle(text, x=0.008, ha="left")


def plain_log_axis(axis: Axis, low: float, high: float) -> None:
    """Plain numbers on a log axis: 1, 2 and 5 of each decade, or 1 where there are many."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 30 * low else (1.0,)))
    axis.set_major_formatter(FuncFormatter(plain))
    axis.set_minor_locator(NullLocator())


def shortened(text: str) -> str:
    """A label that leaves room for the panel."""
    return text if len(text) <= _LABEL else text[: _LABEL - 1] + "…"


def threshold_axis(axes: Axes, metric: Metric, unit: str) -> None:
    """Thresholds along x: on a log axis with plain numbers where all are positive; else levels."""
    # Limits of their own: what is undefined throughout leaves an axis without any.
    axis = metric.thresholds or metric.levels
    low, high = axis[0], axis[-1]
    margin = 0.05 * (high - low) or 1.0
    axes.set_xlim(low - margin, high + margin)
    if not metric.thresholds:
        axes.set_xlabel("level")
        return
    if low > 0:
        axes.set_xscale("log")
        span = math.log10(high / low)
        margin = 10 ** max(0.05 * span, 0.05)
        axes.set_xlim(low / margin, high * margin)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if span < 2.5 else (1.0,), numticks=12))
        axes.xaxis.set_major_formatter(FuncFormatter(plain))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(with_unit("threshold", unit))


def value_axis(axes: Axes, values: NDArray[np.float64]) -> None:
    """Values along y on the signed-log1p scale, on which distances are measured."""

    def forward(y: NDArray[Any]) -> NDArray[Any]:
        return np.sign(y) * np.log1p(np.abs(y))

    def inverse(z: NDArray[Any]) -> NDArray[Any]:
        return np.sign(z) * np.expm1(np.abs(z))

    axes.set_yscale("function", functions=(forward, inverse))
    low, high = forward(np.array([np.nanmin(values), np.nanmax(values)]))
    margin = max(0.05 * (high - low), 0.1)
    axes.set_ylim(*inverse(np.array([low - margin, high + margin])).tolist())
    decades = range(math.ceil(max(-low, high, 0) / math.log(10)) + 1)
    step = 1 if high - low < 14 else 2
    sizes = [10.0**k for k in decades][::step]
    axes.yaxis.set_major_locator(FixedLocator([*(-size for size in sizes), 0.0, *sizes]))
    axes.yaxis.set_major_formatter(FuncFormatter(plain))
    axes.yaxis.set_minor_locator(NullLocator())


def field_colours(metric: Metric, truth: NDArray[Any]) -> tuple[Colormap, Normalize]:
    """Colours of fields: logarithmic, and paper white below the lowest threshold, if that is positive."""
    colours = colormaps["YlGnBu"].with_extremes(under="white", bad=_UNMEASURED)
    highest = float(np.nanquantile(truth, 0.999))
    lowest = metric.thresholds[0] if metric.thresholds else 0.01 * highest
    if lowest > 0:
        return colours, LogNorm(lowest, max(highest, 10 * lowest))
    return colours, Normalize(float(np.nanmin(truth)), max(highest, float(np.nanmin(truth)) + 1e-12))


def colour_of(output: int) -> str:
    """The colour of an output, by its number."""
    return COLOURS[output % len(COLOURS)]


def tint(colour: str, depth: float) -> tuple[float, float, float]:
    """A colour mixed with white; depth 1 is the colour itself."""
    red, green, blue = (1 - depth * (1 - part) for part in to_rgb(colour))
    return red, green, blue


def plain(value: float, _: object) -> str:
    """A number on an axis: thousands apart, no powers of ten."""
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:g}"
    return text.replace("-", "\N{MINUS SIGN}")


def with_unit(name: str, unit: str) -> str:
    """A label such as "area (km²)"; pure numbers go without unit."""
    return name if unit in ("", "1") else f"{name} ({unit.replace('^2', '²')})"
