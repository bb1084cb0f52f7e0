"""Panels of a report on gradients: beside exact ones, and their sizes."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.lines import Line2D

from ..findings.figures import Agreement, GradientSizes
from ..metrics import Metric
from .axes import COLOURS, INK, category_axis, colour_of, framed, head, legend_below, plain_log_axis, tint
from .gradients import GradientQuality

_LEAST_NORM = 1e-4
"""Least norm of a gradient that the axis can show, as a share of the largest."""
_NOTHING = """\
There is no exact gradient to compare with: the metric stays as it is when tiles of {} pixels
of these fields get a little larger or smaller."""


def draw_gradients(figure: SubFigure, metric: Metric, found: GradientQuality, sizes: GradientSizes) -> None:
    """Gradients beside exact ones, tile by tile and by output; their sizes."""
    total = found.figures["total"]
    if total["cosine"] is None and total["cosine_smoothed"] is None:
        head(figure, "The gradient at blurred fields")
        words, panel = figure.subplots(1, 2, width_ratios=(3.0, 0.6))
        words.axis("off")
        words.text(0, 0.5, _NOTHING.format(found.figures["tile"]), va="center", transform=words.transAxes)
        draw_sizes(panel, sizes)
        return
    head(figure, "The gradient at blurred fields, beside the exact metric's")
    panels = figure.subplots(1, 4, width_ratios=(0.9, 0.9, 1.2, 0.6))
    _draw_slopes(figure, panels[0], panels[1], found)
    _draw_cosines(panels[2], metric, found)
    draw_sizes(panels[3], sizes)


def _draw_slopes(figure: SubFigure, left: Axes, right: Axes, found: GradientQuality) -> None:
    """The exact gradient and the surrogate's at one field, summed over outputs, tile by tile."""
    exact, own = found.exact.sum(1), found.surrogate.sum(1)
    pick = int(np.argsort(np.linalg.norm(exact, axis=(1, 2)))[len(exact) // 2])
    for axes, slopes, title in (
        (left, exact[pick], "exact, smoothed"),
        (right, own[pick], "surrogate"),
    ):
        largest = float(np.abs(slopes).max()) or 1.0
        image = axes.imshow(slopes / largest, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        framed(axes)
        axes.set_title(title)
        axes.set_xlabel(f"tiles of {found.figures['tile']} pixels")
    bar = figure.colorbar(image, ax=[left, right], ticks=[-1, 0, 1], aspect=20, pad=0.02)
    bar.set_label("share of the largest")


def _draw_cosines(axes: Axes, metric: Metric, found: GradientQuality) -> None:
    """Cosine between the surrogate's gradient and the exact one, by output."""
    rows: dict[str, Agreement] = {"total": found.figures["total"], **found.figures["outputs"]}
    for place, (name, figures) in enumerate(rows.items()):
        colour = INK if name == "total" else colour_of(metric.outputs.index(name))
        cosine, smoothed, ceiling = (
            math.nan if value is None else value
            for value in (figures["cosine"], figures["cosine_smoothed"], figures["ceiling"])
        )
        axes.plot([ceiling, ceiling], [place - 0.3, place + 0.3], color=tint(INK, 0.5), lw=1.6)
        axes.scatter(smoothed, place, s=42, facecolor="white", edgecolor=colour, lw=1.5, zorder=2)
        axes.scatter(cosine, place, s=42, color=colour, zorder=3)
    shown = (
        Line2D([], [], color=INK, marker="o", lw=0, label="at the field"),
        Line2D([], [], color=INK, marker="o", mfc="white", lw=0, label="smoothed"),
        Line2D([], [], color=tint(INK, 0.5), marker="|", ms=10, mew=1.6, lw=0, label="exact, twice"),
    )
    legend_below(axes, 3, drop=0.1, handles=shown)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.4, -0.6)
    least = min((x for x in (*axes.dataLim.intervalx, 0.0) if math.isfinite(x)), default=0.0)
    axes.set_xlim(least - 0.05, 1.05)
    category_axis(axes.yaxis)
    axes.set_title("cosine with the exact gradient")


def draw_sizes(axes: Axes, sizes: GradientSizes) -> None:
    """Spread over fields of the gradient's norm, and the share of pixels that it leaves alone."""
    share = "undefined" if sizes["near_zero"] is None else f"{sizes['near_zero']:.3g} %"
    axes.set_xlabel(f"near zero: {share}\nof the pixels")
    axes.set_xticks([])
    axes.set_title("gradient norm")
    norm = sizes["norm"]
    largest = norm["max"]
    if largest == 0:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "0 everywhere", ha="center", transform=axes.transAxes)
        return
    low, middle, high = (
        max(quantile, _LEAST_NORM * largest) for quantile in (norm["q05"], norm["q50"], norm["q95"])
    )
    axes.scatter(0, largest, s=80, marker="_", color=INK, lw=1.6, zorder=3, label="largest")
    axes.plot([0, 0], [low, high], color=tint(COLOURS[0], 0.45), lw=7, solid_capstyle="butt", label="5-95 %")
    axes.scatter(0, middle, s=42, color=COLOURS[0], zorder=3, label="median")
    axes.set_yscale("log")
    axes.set_ylim(low / 1.6, largest * 1.6)
    plain_log_axis(axes.yaxis, low, largest)
    axes.set_xlim(-0.2, 1)
    axes.legend(loc="center right", handlelength=0.7, handletextpad=0.4, borderaxespad=0.0)
