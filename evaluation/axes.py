"""Axes, colours and labels that the panels of a report share: they follow the data, whatever the unit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import Colormap, FuncNorm, Normalize, to_rgb
from matplotlib.figure import SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, Locator, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from ..emulators.spaces import Values
from ..metrics import Metric

INK, FAINT, _UNMEASURED = "#2a2e35", "#dfe2e6", "#c9ccd1"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#332288", "#882255")
"""Told apart by the colour-blind, too: six of Okabe and Ito (2008), two of Tol (2021)."""
_MARKS = ("o", "s", "^", "D")
_LABEL = 32
"""Most characters of a label."""
_LEAST_GAP = 1e-5
"""Least 1 - R2 that the axis can show."""
_EVEN = 5.0
"""Thresholds are even if none of their distances is so many times as large as another."""
_CHARACTER = 0.075
"""Width of a character of a tick's label, in inches."""
_APART = 0.09
"""Least distance of ticks, as a share of the axis."""

Map = Callable[[NDArray[Any]], NDArray[Any]]
"""Of numbers on an axis to places along it, or back."""


def gap(r2: float | None) -> float:
    """1 - R2, within what the axis can show; NaN where it is undefined."""
    return math.nan if r2 is None else min(max(1 - r2, _LEAST_GAP), 1.0)


def gap_axis(axes: Axes, least: float, along: Literal["x", "y"] = "y") -> None:
    """R2 along an axis, on a log scale of 1 - R2 that ends below the least gap."""
    axes.set(**{f"{along}scale": "log", f"{along}lim": (1.2, 10 ** math.floor(math.log10(least)) / 1.3)})
    axis = axes.xaxis if along == "x" else axes.yaxis
    between = [0.5, 0.2] if least > 0.01 else []
    axis.set_major_locator(FixedLocator([1, *between, 0.1, 0.01, 1e-3, 1e-4, 1e-5]))
    axis.set_major_formatter(FuncFormatter(lambda gap, _: "≤ 0" if gap >= 1 else f"{1 - gap:.6g}"))
    axis.set_minor_locator(NullLocator())


def legend_below(
    axes: Axes, columns: int, drop: float = 0.2, handles: Sequence[Line2D] | None = None
) -> None:
    """A legend below the axes and their label, where no line runs through its words."""
    axes.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.45, -drop),
        ncols=columns,
        handlelength=1.4,
        columnspacing=1.2,
    )


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
    few, many = high < 3 * low, high > 30 * low
    locator = MaxNLocator(4) if few else LogLocator(subs=(1.0,) if many else (1.0, 2.0, 5.0))
    axis.set_major_locator(locator)
    axis.set_major_formatter(FuncFormatter(plain))
    axis.set_minor_locator(NullLocator())


def shortened(text: str) -> str:
    """A label that leaves room for the panel."""
    return text if len(text) <= _LABEL else text[: _LABEL - 1] + "…"


def threshold_axis(axes: Axes, metric: Metric, unit: str, inches: float) -> None:
    """Thresholds along x, or levels where there are none.

    Thresholds that are far from even, such as quantiles of rain, stand one step apart from each other.

    Args:
        axes: of the panel.
        metric: whose thresholds.
        unit: of the fields.
        inches: width of the panel, for as many labels as have room.
    """
    along = np.array(metric.thresholds or metric.levels)
    room = max(2, int(inches / (_CHARACTER * (max(len(short(u)) for u in along) + 2))))
    gaps = np.diff(along)
    if metric.thresholds and len(gaps) > 1 and gaps.max() > _EVEN * gaps.min():
        forward, inverse = _steps(along)
        axes.set_xscale("function", functions=(forward, inverse))
        margin = 0.05 * (len(along) - 1)
        axes.set_xlim(*inverse(np.array([-margin, len(along) - 1 + margin])).tolist())
        axes.xaxis.set_major_locator(FixedLocator(along.tolist(), nbins=room))
    else:
        # Limits of their own: what is undefined throughout leaves an axis without any.
        margin = 0.05 * (along[-1] - along[0]) or 1.0
        axes.set_xlim(along[0] - margin, along[-1] + margin)
        axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(with_unit("threshold", unit) if metric.thresholds else "level")


def _steps(points: NDArray[np.float64]) -> tuple[Map, Map]:
    """A scale on which points are one step apart from each other, and its inverse."""
    # A step beyond either end, so that the scale goes on there.
    ends = np.concatenate([[2 * points[0] - points[1]], points, [2 * points[-1] - points[-2]]])
    places = np.arange(-1.0, len(points) + 1)
    return (lambda x: np.interp(x, ends, places)), (lambda place: np.interp(place, places, ends))


def value_axis(axes: Axes, values: NDArray[np.float64], size: float) -> None:
    """Values along y on the scale of sign(y) log(1 + |y/size|), on which distances are measured."""

    def forward(y: NDArray[Any]) -> NDArray[Any]:
        return np.sign(y) * np.log1p(np.abs(y) / size)

    def inverse(z: NDArray[Any]) -> NDArray[Any]:
        return size * np.sign(z) * np.expm1(np.abs(z))

    axes.set_yscale("function", functions=(forward, inverse))
    low, high = forward(np.array([np.nanmin(values), np.nanmax(values)]))
    margin = max(0.05 * (high - low), 0.1)
    ends = inverse(np.array([low - margin, high + margin]))
    axes.set_ylim(*ends.tolist())
    axes.yaxis.set_major_locator(_decades(ends, forward))
    axes.yaxis.set_major_formatter(FuncFormatter(plain))
    axes.yaxis.set_minor_locator(NullLocator())


def _decades(ends: NDArray[np.float64], forward: Map) -> Locator:
    """Ticks at 0 and powers of ten, with 2 and 5 between if there is room, none too near another."""
    largest = math.ceil(math.log10(max(np.abs(ends).max(), 1e-300)))
    for digits in ((1,), (1, 2, 5)):
        sizes = [digit * 10.0**k for k in range(largest - 6, largest + 1) for digit in digits]
        # The smallest last: they are crowded about 0.
        ticks: list[float] = []
        for tick in (0.0, *reversed(sizes), *(-size for size in reversed(sizes))):
            places = forward(np.array([tick, *ticks])) / np.ptp(forward(ends))
            if ends[0] <= tick <= ends[1] and (np.abs(places[1:] - places[0]) > _APART).all():
                ticks.append(tick)
        if len(ticks) > 2:
            return FixedLocator(sorted(ticks))
    return MaxNLocator(4)


def field_colours(lowest: float | None, values: Values, shown: NDArray[Any]) -> tuple[Colormap, Normalize]:
    """Colours of fields: paper white below what counts where some are dry, else from end to end.

    Logarithmic in the distance from the dry value where that spans decades.

    Args:
        lowest: the value from which pixels count, such as the lowest threshold; None where none is known.
        values: of the data set.
        shown: the fields, some of which are measured.
    """
    low, high = (float(end) for end in np.nanquantile(shown, (0.001, 0.999)))
    if values.dry is None:
        return colormaps["YlGnBu"].with_extremes(bad=_UNMEASURED), Normalize(low, max(high, low + 1e-12))
    colours = colormaps["YlGnBu"].with_extremes(under="white", bad=_UNMEASURED)
    dry, least = values.dry, values.dry if lowest is None else lowest
    if least <= dry:
        least = dry + 0.01 * (high - dry)
    if not values.decades:
        return colours, Normalize(least, max(high, least + 1e-12))

    def forward(x: NDArray[Any]) -> NDArray[Any]:
        return np.log(np.maximum(x - dry, 1e-3 * (least - dry)))

    def inverse(z: NDArray[Any]) -> NDArray[Any]:
        return dry + np.exp(z)

    return colours, FuncNorm((forward, inverse), least, max(high, dry + 10 * (least - dry)))


def colour_bar(figure: SubFigure, image: Any, panels: Sequence[Axes], label: str, dry: float | None) -> None:
    """A colour bar beside some panels; on a log scale with 1, 2 and 5 of each decade above the dry value."""
    bar = figure.colorbar(
        image, ax=panels, location="right", aspect=28, pad=0.015, extend="both", format=FuncFormatter(plain)
    )
    bar.set_label(label)
    if isinstance(image.norm, FuncNorm) and dry is not None:
        low, high = (end - dry for end in image.get_clim())
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        digits = (1, 2, 5) if high < 300 * low else (1,)
        bar.ax.yaxis.set_major_locator(
            FixedLocator([dry + digit * 10.0**k for k in decades for digit in digits])
        )
    else:
        bar.ax.yaxis.set_major_locator(MaxNLocator(5))
    bar.ax.yaxis.set_minor_locator(NullLocator())


def colour_of(output: int) -> str:
    """The colour of an output, by its number."""
    return COLOURS[output % len(COLOURS)]


def mark_of(output: int) -> str:
    """The mark of an output, which tells those apart that share a colour."""
    return _MARKS[output // len(COLOURS) % len(_MARKS)]


def tint(colour: str, depth: float) -> tuple[float, float, float]:
    """A colour mixed with white; depth 1 is the colour itself."""
    red, green, blue = (1 - depth * (1 - part) for part in to_rgb(colour))
    return red, green, blue


def plain(value: float, _: object) -> str:
    """A number on an axis: thousands apart, no powers of ten."""
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:g}"
    return text.replace("-", "\N{MINUS SIGN}")


def short(value: float) -> str:
    """A threshold in few characters."""
    return plain(value, None) if abs(value) >= 1e4 else f"{value:.4g}".replace("-", "\N{MINUS SIGN}")


def with_unit(name: str, unit: str) -> str:
    """A label such as "area (km²)"; pure numbers go without unit."""
    return name if unit in ("", "1") else f"{name} ({unit.replace('^2', '²')})"
