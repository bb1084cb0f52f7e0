"""The pictures of an evaluation: one PNG."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LogNorm, Normalize, to_rgb
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from numpy.typing import NDArray
from torch import nn

from ..errors import ArgumentError, DataError
from ..metrics import Metric
from .classes import fullness
from .descent import Descent
from .evaluate import Evaluation
from .gradients import GradientQuality
from .inversion import Inversion

_WIDTH, _DPI = 12.0, 150
_HEIGHTS = {"curves": 4.0, "fidelity": 4.3, "gradients": 3.1, "blurred": 3.5, "noisy": 3.5}
"""Heights of the report's rows, in inches."""
_THOROUGH_HEIGHTS = {"inversion": 4.4, "shift": 3.3}
"""Of those that only a thorough evaluation has."""
_INK, _FAINT, _UNMEASURED = "#2a2e35", "#dfe2e6", "#c9ccd1"
_COLOURS = ("#2f6690", "#c0703a", "#4d8061", "#7d5a8c", "#a08a2c", "#a84f62", "#4f9a9a", "#7b6049")
_SAMPLES = (("sparse", 0.15, 0.4), ("medium", 0.55, 0.65), ("dense", 0.95, 1.0))
"""Fields whose curves are drawn: name, rank among the fields that are not empty, depth of colour."""
_CONSTRAINTS_SHOWN, _LABEL = 10, 38
"""Constraints that are shown one by one, and characters of their labels."""
_LEAST_GAP = 1e-5
"""Least 1 - R2 that the axis can show."""
_LEAST_NORM = 1e-4
"""Least norm of a gradient that the axis can show, as a share of the largest."""
_STYLE: Any = {
    "axes.edgecolor": _INK,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.labelcolor": _INK,
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.titlesize": 11.5,
    "figure.titleweight": "bold",
    "font.size": 9,
    "grid.color": _FAINT,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "text.color": _INK,
    "xtick.color": _INK,
    "xtick.labelsize": 8.5,
    "ytick.color": _INK,
    "ytick.labelsize": 8.5,
}

TrainingLog = str | Path | Iterable[dict[str, Any]]
"""A CSV file, or rows, with the columns "fields", "train_loss", "validation_loss" and
"validation_<output>"; a cell without a number is left out."""


def write_report(
    path: str | Path,
    surrogate: nn.Module,
    evaluation: Evaluation,
    fields: NDArray[Any],
    curves: NDArray[Any],
    training_log: TrainingLog | None = None,
) -> None:
    """Draw an evaluation: curves, fidelity, training, gradients, descents; if thorough, inversion and shift.

    Args:
        path: the PNG file to write.
        surrogate: the surrogate that was evaluated; its `metric` names outputs and units.
        evaluation: what `evaluate` returned.
        fields: (N, H, W), or pairs (N, 2, H, W), that it was given.
        curves: (N, C, Q), their exact curves.
        training_log: see `TrainingLog`; None where nothing was trained.

    Raises:
        ArgumentError: fields, curves and evaluation do not belong together.
        DataError: the log cannot be read, or the picture cannot be written.
    """
    metric = surrogate.metric
    if not isinstance(metric, Metric):
        raise ArgumentError(f"surrogate.metric must be an exact metric, got {type(metric).__name__}")
    fields, curves = np.asarray(fields), np.asarray(curves)
    if curves.shape != evaluation.emulated.shape or len(fields) != len(curves):
        raise ArgumentError(
            f"fields, curves and evaluation must be of the same fields, got {fields.shape}, {curves.shape} "
            f"and {evaluation.emulated.shape}"
        )
    log = None if training_log is None else _columns(training_log)
    with matplotlib.rc_context(_STYLE):
        layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.06, hspace=0.05, wspace=0.04)
        heights = [
            *_HEIGHTS.values(),
            *(height for name, height in _THOROUGH_HEIGHTS.items() if name in evaluation.figures),
        ]
        figure = Figure(figsize=(_WIDTH, sum(heights)), dpi=_DPI, facecolor="white", layout=layout)
        FigureCanvasAgg(figure)
        rows = iter(figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0])
        unit = evaluation.figures["field_unit"]
        if len(metric.levels) > 1:
            _draw_curves(next(rows), metric, evaluation, fields, curves)
        else:
            _draw_values(next(rows), metric, evaluation, curves)
        _draw_fidelity(next(rows), metric, evaluation, log)
        _draw_gradients(next(rows), metric, evaluation)
        _draw_descent(next(rows), metric, evaluation.descent, unit)
        _draw_descent(next(rows), metric, evaluation.descent_noisy, unit)
        if evaluation.inversion:
            _draw_inversion(next(rows), metric, evaluation.inversion)
        if "shift" in evaluation.figures:
            _draw_shift(next(rows), metric, evaluation.figures["shift"])
        try:
            figure.savefig(path, format="png")
        except OSError as error:
            raise DataError(f"cannot write the report {str(path)!r}: {error.strerror or error}") from None


def _draw_curves(
    figure: SubFigure, metric: Metric, evaluation: Evaluation, fields: NDArray[Any], curves: NDArray[Any]
) -> None:
    _head(figure, "Curves of three fields: exact and emulated")
    picks = _samples(metric, fields)
    axis = metric.thresholds or metric.levels
    for c, axes in enumerate(figure.subplots(1, len(metric.outputs), squeeze=False)[0]):
        for index, (_, _, depth) in zip(picks, _SAMPLES, strict=True):
            colour = _tint(_colour(c), depth)
            axes.plot(axis, curves[index, c], color=colour, alpha=0.35, lw=5, solid_capstyle="round")
            axes.plot(axis, evaluation.emulated[index, c], color=colour, lw=1.2, marker="o", ms=2.6)
        _threshold_axis(axes, metric, evaluation.figures["field_unit"])
        _value_axis(axes, np.concatenate([curves[picks, c], evaluation.emulated[picks, c]]))
        axes.set_title(_with_unit(metric.outputs[c], metric.units[c]))
    shown = [
        Line2D([], [], color=_INK, alpha=0.35, lw=5, label="exact"),
        Line2D([], [], color=_INK, lw=1.2, marker="o", ms=2.6, label="emulated"),
    ]
    for index, (name, _, depth) in zip(picks, _SAMPLES, strict=True):
        share = 100 * fullness(metric, fields[index : index + 1])[0]
        wet = f"reach {metric.thresholds[0]:g}" if metric.thresholds else "are above 0"
        label = f"{name}: {share:.3g} % of pixels {wet}"
        shown.append(Line2D([], [], color=_tint(_INK, depth), lw=3, label=label))
    figure.legend(
        handles=shown, loc="outside lower center", ncols=len(shown), handlelength=1.8, columnspacing=1.8
    )


def _draw_values(figure: SubFigure, metric: Metric, evaluation: Evaluation, curves: NDArray[Any]) -> None:
    """Of outputs that are one number: the emulated one over the exact one, a point a field."""
    _head(figure, "Values of all fields: emulated over exact")
    for c, axes in enumerate(figure.subplots(1, len(metric.outputs), squeeze=False)[0]):
        exact, emulated = curves[:, c, 0], evaluation.emulated[:, c, 0]
        ends = [min(exact.min(), emulated.min()), max(exact.max(), emulated.max())]
        axes.plot(ends, ends, color=_tint(_INK, 0.4), lw=1.0)
        axes.scatter(exact, emulated, s=12, color=_colour(c), alpha=0.4, lw=0)
        axes.xaxis.set_major_formatter(FuncFormatter(_plain))
        axes.yaxis.set_major_formatter(FuncFormatter(_plain))
        axes.set_xlabel("exact")
        axes.set_title(_with_unit(metric.outputs[c], metric.units[c]))


def _draw_fidelity(
    figure: SubFigure, metric: Metric, evaluation: Evaluation, log: dict[str, NDArray[np.float64]] | None
) -> None:
    panels = figure.subplots(1, 2 if log is None else 3, squeeze=False)[0]
    _draw_r_squared(panels[0], metric, evaluation)
    _draw_violations(panels[1], evaluation)
    if log is not None:
        _draw_training(panels[2], metric, log)
    _head(figure, "Fidelity" if log is None else "Fidelity and training")


def _draw_r_squared(axes: Axes, metric: Metric, evaluation: Evaluation) -> None:
    """R2 by threshold on an axis on which 0.9, 0.99 and 0.999 are equally far apart."""
    least = 0.1
    for c, (name, found) in enumerate(evaluation.figures["fidelity"]["outputs"].items()):
        gaps = np.array([_gap(r2) for r2 in found["r2"]])
        mean = "" if found["r2_mean"] is None else f", mean {found['r2_mean']:.4f}"
        axes.plot(
            metric.thresholds or metric.levels,
            gaps,
            color=_colour(c),
            lw=1.4,
            marker="o",
            ms=3,
            label=f"{name}{mean}",
        )
        least = min(least, np.nanmin(gaps, initial=least))
    _gap_axis(axes, least)
    _threshold_axis(axes, metric, evaluation.figures["field_unit"])
    axes.set_title("$R^2$ over fields, by threshold")
    axes.legend(loc="upper center", bbox_to_anchor=(0.45, -0.2), ncols=2, handlelength=1.4, columnspacing=1.2)


def _gap(r2: float | None) -> float:
    """1 - R2, within what the axis can show; NaN where it is undefined."""
    return math.nan if r2 is None else min(max(1 - r2, _LEAST_GAP), 1.0)


def _gap_axis(axes: Axes, least: float) -> None:
    """R2 along y, on a log axis of 1 - R2 that ends below the least gap."""
    axes.set_yscale("log")
    axes.set_ylim(1.2, 10 ** math.floor(math.log10(least)) / 1.3)
    axes.yaxis.set_major_locator(FixedLocator([1, 0.1, 0.01, 1e-3, 1e-4, 1e-5]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda gap, _: "≤ 0" if gap >= 1 else f"{1 - gap:.6g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _legend_inside(axes: Axes, place: Literal["upper right"], columns: int) -> None:
    """A legend on a pale ground, so that lines under it do not run through its words."""
    axes.legend(loc=place, ncols=columns, frameon=True, framealpha=0.9, edgecolor="none")


def _draw_violations(axes: Axes, evaluation: Evaluation) -> None:
    """Bars of the constraints that are broken most, and a word on the others."""
    shares = evaluation.figures["fidelity"]["violations"]
    # Emulators of many outputs declare dozens, nearly all of which hold.
    number = len(shares) if len(shares) <= _CONSTRAINTS_SHOWN + 1 else _CONSTRAINTS_SHOWN
    shown = sorted(shares, key=lambda label: -shares[label])[:number]
    labels = [_shortened(label.replace(">=", "≥").replace("<=", "≤")) for label in shown]
    values = [shares[label] for label in shown]
    if len(shown) < len(shares):
        labels.append(f"each of {len(shares) - len(shown)} others")
        values.append(max(share for label, share in shares.items() if label not in shown))
    axes.barh(range(len(values)), values, height=0.55, color=_tint(_COLOURS[1], 0.8))
    for place, share in enumerate(values):
        at_most = "≤ " if place == len(shown) and share else ""
        axes.annotate(
            f"{at_most}{share:.3g} %",
            (share, place),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
        )
    axes.set_yticks(range(len(values)), labels)
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.set_xlim(0, max(1.0, 1.25 * max(values, default=0.0)))
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.set_xlabel("% of fields and thresholds")
    axes.set_title("Constraints broken")


def _draw_training(axes: Axes, metric: Metric, log: dict[str, NDArray[np.float64]]) -> None:
    """Losses against fields seen."""
    seen = log["fields"]
    for column, colour, width, label in (
        ("train_loss", _tint(_INK, 0.45), 1.0, "training"),
        ("validation_loss", _INK, 1.8, "validation"),
        *((f"validation_{name}", _colour(c), 1.2, name) for c, name in enumerate(metric.outputs)),
    ):
        values = log.get(column)
        if values is not None and np.isfinite(values).any():
            known = np.isfinite(values)
            axes.plot(seen[known], values[known], color=colour, lw=width, label=label)
    axes.set_yscale("log")
    _plain_log_axis(axes.yaxis, *axes.get_ylim())
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel("fields seen")
    axes.set_title("Loss, and validation distance")
    axes.xaxis.set_major_formatter(FuncFormatter(_plain))
    _legend_inside(axes, "upper right", 2)


def _draw_gradients(figure: SubFigure, metric: Metric, evaluation: Evaluation) -> None:
    _head(figure, "Fidelity by wetness, and the gradient at blurred fields beside the exact metric's")
    panels = figure.subplots(1, 5, width_ratios=(1.35, 0.7, 0.7, 1.0, 0.5))
    _draw_classes(panels[0], evaluation)
    _draw_slopes(panels[1], panels[2], evaluation.gradients)
    _draw_cosines(panels[3], metric, evaluation.gradients)
    _draw_sizes(panels[4], evaluation.figures["gradients"]["sizes"])


def _draw_classes(axes: Axes, evaluation: Evaluation) -> None:
    """Bars of R2 by class of wetness, on the axis of `_draw_r_squared`."""
    classes = {
        name: found
        for name, found in evaluation.figures["classes"].items()
        if any(output["r2_mean"] is not None for output in found["outputs"].values())
    }
    outputs = list(evaluation.figures["fidelity"]["outputs"])
    width, least = 0.8 / len(outputs), 0.1
    for c, output in enumerate(outputs):
        gaps = np.array([_gap(found["outputs"][output]["r2_mean"]) for found in classes.values()])
        places = np.arange(len(classes)) + (c - (len(outputs) - 1) / 2) * width
        axes.bar(places, gaps - 1.2, 0.85 * width, 1.2, color=_tint(_colour(c), 0.85), label=output)
        least = min(least, np.nanmin(gaps, initial=least))
    _gap_axis(axes, least)
    axes.set_xticks(
        range(len(classes)),
        [
            f"{name}\n{found['share'][0]:.3g} to {found['share'][1]:.3g} %\n{found['fields']} fields"
            for name, found in classes.items()
        ],
    )
    axes.tick_params(axis="x", length=0)
    axes.grid(False, axis="x")
    axes.set_title("mean $R^2$, by share of wet pixels")


def _draw_slopes(left: Axes, right: Axes, found: GradientQuality) -> None:
    """The exact gradient and the surrogate's at one field, summed over outputs, tile by tile."""
    exact, own = found.exact.sum(1), found.surrogate.sum(1)
    pick = int(np.argsort(np.linalg.norm(exact, axis=(1, 2)))[len(exact) // 2])
    for axes, slopes, title in (
        (left, exact[pick], "exact, smoothed"),
        (right, own[pick], "surrogate"),
    ):
        largest = float(np.abs(slopes).max()) or 1.0
        axes.imshow(slopes, cmap="RdBu_r", vmin=-largest, vmax=largest, interpolation="nearest")
        axes.set_title(title)
        axes.grid(False)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(True)
        axes.set_xlabel(f"tiles of {found.figures['tile']} pixels")


def _draw_cosines(axes: Axes, metric: Metric, found: GradientQuality) -> None:
    """Cosine between the surrogate's gradient and the exact one, by output."""
    rows = {"total": found.figures["total"], **found.figures["outputs"]}
    for place, (name, figures) in enumerate(rows.items()):
        colour = _INK if name == "total" else _colour(metric.outputs.index(name))
        cosine, smoothed, ceiling = (
            math.nan if figures[key] is None else figures[key]
            for key in ("cosine", "cosine_smoothed", "ceiling")
        )
        axes.plot([ceiling, ceiling], [place - 0.3, place + 0.3], color=_tint(_INK, 0.5), lw=1.6)
        axes.scatter(smoothed, place, s=42, facecolor="white", edgecolor=colour, lw=1.5, zorder=2)
        axes.scatter(cosine, place, s=42, color=colour, zorder=3)
    shown = (
        Line2D([], [], color=_INK, marker="o", lw=0, label="at the field"),
        Line2D([], [], color=_INK, marker="o", mfc="white", lw=0, label="smoothed"),
        Line2D([], [], color=_tint(_INK, 0.5), marker="|", ms=10, mew=1.6, lw=0, label="exact, twice"),
    )
    axes.legend(
        handles=shown,
        loc="upper center",
        bbox_to_anchor=(0.45, -0.1),
        ncols=3,
        handletextpad=0.1,
        columnspacing=0.8,
    )
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.4, -0.6)
    least = min((x for x in (*axes.dataLim.intervalx, 0.0) if math.isfinite(x)), default=0.0)
    axes.set_xlim(least - 0.05, 1.05)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.set_title("cosine with the exact gradient")


def _draw_sizes(axes: Axes, sizes: dict[str, Any]) -> None:
    """Spread over fields of the gradient's norm, and the share of pixels that it leaves alone."""
    share = "undefined" if sizes["near_zero"] is None else f"{sizes['near_zero']:.3g} %"
    axes.set_xlabel(f"near zero: {share}\nof the pixels")
    axes.set_xticks([])
    axes.set_title("gradient norm")
    largest = sizes["norm"]["max"]
    if largest == 0:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "0 everywhere", ha="center", transform=axes.transAxes)
        return
    low, middle, high = (max(sizes["norm"][name], _LEAST_NORM * largest) for name in ("q05", "q50", "q95"))
    axes.scatter(0, largest, s=80, marker="_", color=_INK, lw=1.6, zorder=3, label="largest")
    axes.plot(
        [0, 0], [low, high], color=_tint(_COLOURS[0], 0.45), lw=7, solid_capstyle="butt", label="5-95 %"
    )
    axes.scatter(0, middle, s=42, color=_COLOURS[0], zorder=3, label="median")
    axes.set_yscale("log")
    axes.set_ylim(low / 1.6, largest * 1.6)
    _plain_log_axis(axes.yaxis, low, largest)
    axes.set_xlim(-0.2, 1)
    axes.legend(loc="center right", handlelength=0.7, handletextpad=0.4, borderaxespad=0.0)


def _draw_inversion(figure: SubFigure, metric: Metric, found: Inversion) -> None:
    _head(
        figure,
        f"Inversion: from noise to given curves in {found.figures['steps']} steps, "
        "judged by the exact metric",
    )
    panels = figure.subplots(2, len(found.targets), squeeze=False)
    for column, (name, figures) in enumerate(found.figures["targets"].items()):
        rmse = "undefined" if figures["rmse"] is None else f"{figures['rmse']:.2f}"
        for axes, field, title in (
            (panels[0, column], found.targets[column], f"target: {name}"),
            (panels[1, column], found.found[column], f"found: RMSE {rmse}"),
        ):
            _draw_field(axes, field, title, *_field_colours(metric, found.targets))


def _draw_shift(figure: SubFigure, metric: Metric, found: dict[str, Any]) -> None:
    """Dots of R2 by data set, on the axis of `_draw_r_squared`."""
    _head(figure, "Fidelity under shift: mean $R^2$ on data unlike the fields, and at other thresholds")
    axes = figure.subplots()
    least = 0.1
    for c, output in enumerate(metric.outputs):
        offset = (c - (len(metric.outputs) - 1) / 2) * 0.6 / len(metric.outputs)
        gaps = np.array(
            [
                _gap(each["outputs"][output]["r2_mean"]) if "outputs" in each else math.nan
                for each in found.values()
            ]
        )
        places = np.arange(len(found)) + offset
        # Stems hang from the data themselves to what the shift makes of them.
        axes.vlines(places, gaps[0], gaps, color=_tint(_colour(c), 0.45), lw=1.6)
        axes.scatter(places, gaps, s=34, color=_colour(c), label=output, zorder=3)
        least = min(least, np.nanmin(gaps, initial=least))
    for place, each in enumerate(found.values()):
        if "refused" in each:
            axes.text(
                place,
                0.5,
                "refused",
                ha="center",
                transform=axes.get_xaxis_transform(),
                color=_tint(_INK, 0.6),
            )
    _gap_axis(axes, least)
    labels = [
        f"{name}\n{each['fields']} of {' x '.join(map(str, each['field_shape']))}"
        for name, each in found.items()
    ]
    axes.set_xticks(range(len(found)), labels)
    axes.set_xlim(-0.5, len(found) - 0.5)
    axes.tick_params(axis="x", length=0)
    axes.grid(False, axis="x")
    figure.legend(loc="outside lower center", ncols=len(metric.outputs), handletextpad=0.2)


def _draw_field(axes: Axes, field: NDArray[Any], title: str, colours: Colormap, scale: Normalize) -> Any:
    """A field as an image, which is returned."""
    # A log scale would show zeros as if they had not been measured.
    least = scale.vmin / 2 if isinstance(scale, LogNorm) and scale.vmin else -math.inf
    image = axes.imshow(np.maximum(field, least), cmap=colours, norm=scale, interpolation="nearest")
    axes.set_title(title)
    axes.grid(False)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(True)
    return image


def _draw_descent(figure: SubFigure, metric: Metric, found: Descent, unit: str) -> None:
    spoilt = found.figures["start"]
    by = f"blurred {found.figures['factor']}x" if spoilt == "blurred" else "made noisy"
    _head(figure, f"Descent: gradient steps on the pixels, from a field {by}, judged by the exact metric")
    pick = int(np.argsort(found.before.sum(1))[len(found.before) // 2])
    before, after = found.before[pick].sum(), found.after[pick].sum()
    panels = figure.subplots(1, 4, width_ratios=(1, 1, 1, 0.8))
    titles = (
        f"{spoilt}: distance {before:.2f}",
        f"after {found.figures['steps']} steps: distance {after:.2f}",
        "truth",
    )
    colours, scale = _field_colours(metric, found.truth[pick])
    for axes, title, field in zip(panels, titles, (found.start, found.final, found.truth), strict=False):
        image = _draw_field(axes, field[pick], title, colours, scale)
    bar = figure.colorbar(
        image,
        ax=panels[:3],
        location="right",
        aspect=28,
        pad=0.015,
        extend="both",
        format=FuncFormatter(_plain),
    )
    bar.set_label(_with_unit("value", unit))
    if isinstance(scale, LogNorm):
        bar.ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        bar.ax.yaxis.set_minor_locator(NullLocator())
    _draw_removed(panels[3], metric, found)


def _draw_removed(axes: Axes, metric: Metric, found: Descent) -> None:
    """Exact distance per output before and after, means over all the fields of the descent."""
    shown = []
    for c, name in enumerate(metric.outputs):
        figures = found.figures["outputs"][name]
        before, after = (max(figures[when], 1e-4) for when in ("before", "after"))
        shown += [before, after]
        axes.plot([before, after], [c, c], color=_tint(_colour(c), 0.5), lw=2, zorder=1)
        axes.scatter(before, c, s=46, facecolor="white", edgecolor=_colour(c), lw=1.6, zorder=2)
        axes.scatter(after, c, s=46, color=_colour(c), zorder=2)
        removed = "" if figures["removed"] is None else f": {figures['removed']:.0f} % removed"
        middle = math.sqrt(before * after)
        axes.annotate(f"{name}{removed}", (middle, c), (0, 7), textcoords="offset points", ha="center")
    axes.set_xscale("log")
    axes.set_xlim(min(shown) / 2, max(shown) * 2)
    _plain_log_axis(axes.xaxis, min(shown), max(shown))
    axes.set_ylim(len(metric.outputs) - 0.5, -0.7)
    axes.set_yticks([])
    axes.spines.left.set_visible(False)
    axes.set_xlabel("before (open), after (filled)")
    axes.set_title(f"exact distance, {len(found.truth)} fields")


def _samples(metric: Metric, fields: NDArray[Any]) -> list[int]:
    """Indices of the fields whose curves are drawn."""
    full = fullness(metric, fields)
    order = np.argsort(full, kind="stable")
    order = order[np.count_nonzero(full == 0) :] if full.any() else order
    return [int(order[round(rank * (len(order) - 1))]) for _, rank, _ in _SAMPLES]


def _head(figure: SubFigure, text: str) -> None:
    figure.suptitle(text, x=0.008, ha="left")


def _plain_log_axis(axis: Axis, low: float, high: float) -> None:
    """Plain numbers on a log axis: 1, 2 and 5 of each decade, or 1 where there are many."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 30 * low else (1.0,)))
    axis.set_major_formatter(FuncFormatter(_plain))
    axis.set_minor_locator(NullLocator())


def _shortened(text: str) -> str:
    return text if len(text) <= _LABEL else text[: _LABEL - 1] + "…"


def _threshold_axis(axes: Axes, metric: Metric, unit: str) -> None:
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
        axes.xaxis.set_major_formatter(FuncFormatter(_plain))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(_with_unit("threshold", unit))


def _value_axis(axes: Axes, values: NDArray[np.float64]) -> None:
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
    axes.yaxis.set_major_formatter(FuncFormatter(_plain))
    axes.yaxis.set_minor_locator(NullLocator())


def _field_colours(metric: Metric, truth: NDArray[Any]) -> tuple[Colormap, Normalize]:
    """Colours of fields: logarithmic, and paper white below the lowest threshold, if that is positive."""
    colours = colormaps["YlGnBu"].with_extremes(under="white", bad=_UNMEASURED)
    highest = float(np.nanquantile(truth, 0.999))
    lowest = metric.thresholds[0] if metric.thresholds else 0.01 * highest
    if lowest > 0:
        return colours, LogNorm(lowest, max(highest, 10 * lowest))
    return colours, Normalize(float(np.nanmin(truth)), max(highest, float(np.nanmin(truth)) + 1e-12))


def _columns(log: TrainingLog) -> dict[str, NDArray[np.float64]]:
    """Columns of a training log as arrays; NaN stands for cells without a number."""
    if isinstance(log, (str, Path)):
        try:
            with open(log, newline="", encoding="utf-8") as file:
                rows: list[dict[str, Any]] = list(csv.DictReader(file))
        except OSError as error:
            raise DataError(f"cannot read the training log {str(log)!r}: {error.strerror or error}") from None
    else:
        rows = list(log)
    if not rows or "fields" not in rows[0]:
        raise DataError("the training log needs at least one row, and a column 'fields'")
    return {name: np.array([_cell(row.get(name)) for row in rows]) for name in rows[0]}


def _cell(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _colour(output: int) -> str:
    return _COLOURS[output % len(_COLOURS)]


def _tint(colour: str, depth: float) -> tuple[float, float, float]:
    """A colour mixed with white; depth 1 is the colour itself."""
    red, green, blue = (1 - depth * (1 - part) for part in to_rgb(colour))
    return red, green, blue


def _plain(value: float, _: object) -> str:
    """A number on an axis: thousands apart, no powers of ten."""
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:g}"
    return text.replace("-", "\N{MINUS SIGN}")


def _with_unit(name: str, unit: str) -> str:
    """A label such as "area (km²)"; pure numbers go without unit."""
    return name if unit in ("", "1") else f"{name} ({unit.replace('^2', '²')})"
