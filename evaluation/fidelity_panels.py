"""Panels of a report on fidelity: curves, R2, broken constraints, training, wetness, shift."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from ..metrics import Metric
from .axes import (
    COLOURS,
    INK,
    category_axis,
    colour_of,
    gap,
    gap_axis,
    head,
    legend_inside,
    plain,
    plain_log_axis,
    shortened,
    threshold_axis,
    tint,
    value_axis,
    with_unit,
)
from .classes import fullness
from .evaluate import Evaluation
from .figures import ClassFigures, ShiftFigures

_SAMPLES = (("sparse", 0.15, 0.4), ("medium", 0.55, 0.65), ("dense", 0.95, 1.0))
"""Fields whose curves are drawn: name, rank among the fields that are not empty, depth of colour."""
_CONSTRAINTS_SHOWN = 10
"""Constraints that are shown one by one."""

Columns = dict[str, NDArray[np.float64]]
"""Those of a training log, by name; NaN where a cell has no number."""


def draw_curves(
    figure: SubFigure, metric: Metric, evaluation: Evaluation, fields: NDArray[Any], curves: NDArray[Any]
) -> None:
    """Of outputs that are curves: those of three fields, exact and emulated."""
    head(figure, "Curves of three fields: exact and emulated")
    picks = _samples(metric, fields)
    axis = metric.thresholds or metric.levels
    for c, axes in enumerate(figure.subplots(1, len(metric.outputs), squeeze=False)[0]):
        for index, (_, _, depth) in zip(picks, _SAMPLES, strict=True):
            colour = tint(colour_of(c), depth)
            axes.plot(axis, curves[index, c], color=colour, alpha=0.35, lw=5, solid_capstyle="round")
            axes.plot(axis, evaluation.emulated[index, c], color=colour, lw=1.2, marker="o", ms=2.6)
        threshold_axis(axes, metric, evaluation.figures["field_unit"])
        value_axis(axes, np.concatenate([curves[picks, c], evaluation.emulated[picks, c]]))
        axes.set_title(with_unit(metric.outputs[c], metric.units[c]))
    shown = [
        Line2D([], [], color=INK, alpha=0.35, lw=5, label="exact"),
        Line2D([], [], color=INK, lw=1.2, marker="o", ms=2.6, label="emulated"),
    ]
    for index, (name, _, depth) in zip(picks, _SAMPLES, strict=True):
        share = 100 * fullness(metric, fields[index : index + 1])[0]
        wet = f"reach {metric.thresholds[0]:g}" if metric.thresholds else "are above 0"
        label = f"{name}: {share:.3g} % of pixels {wet}"
        shown.append(Line2D([], [], color=tint(INK, depth), lw=3, label=label))
    figure.legend(
        handles=shown, loc="outside lower center", ncols=len(shown), handlelength=1.8, columnspacing=1.8
    )


def _samples(metric: Metric, fields: NDArray[Any]) -> list[int]:
    """Indices of the fields whose curves are drawn."""
    full = fullness(metric, fields)
    order = np.argsort(full, kind="stable")
    order = order[np.count_nonzero(full == 0) :] if full.any() else order
    return [int(order[round(rank * (len(order) - 1))]) for _, rank, _ in _SAMPLES]


def draw_values(figure: SubFigure, metric: Metric, evaluation: Evaluation, curves: NDArray[Any]) -> None:
    """Of outputs that are one number: the emulated one over the exact one, a point a field."""
    head(figure, "Values of all fields: emulated over exact")
    for c, axes in enumerate(figure.subplots(1, len(metric.outputs), squeeze=False)[0]):
        exact, emulated = curves[:, c, 0], evaluation.emulated[:, c, 0]
        ends = [min(exact.min(), emulated.min()), max(exact.max(), emulated.max())]
        axes.plot(ends, ends, color=tint(INK, 0.4), lw=1.0)
        axes.scatter(exact, emulated, s=12, color=colour_of(c), alpha=0.4, lw=0)
        axes.xaxis.set_major_formatter(FuncFormatter(plain))
        axes.yaxis.set_major_formatter(FuncFormatter(plain))
        axes.set_xlabel("exact")
        axes.set_title(with_unit(metric.outputs[c], metric.units[c]))


def draw_fidelity(figure: SubFigure, metric: Metric, evaluation: Evaluation, log: Columns | None) -> None:
    """R2 by threshold, constraints broken and, where there is a log, the training."""
    panels = figure.subplots(1, 2 if log is None else 3, squeeze=False)[0]
    _draw_r_squared(panels[0], metric, evaluation)
    draw_violations(panels[1], evaluation)
    if log is not None:
        _draw_training(panels[2], metric, log)
    head(figure, "Fidelity" if log is None else "Fidelity and training")


def _draw_r_squared(axes: Axes, metric: Metric, evaluation: Evaluation) -> None:
    """R2 by threshold on an axis on which 0.9, 0.99 and 0.999 are equally far apart."""
    least = 0.1
    for c, (name, found) in enumerate(evaluation.figures["fidelity"]["outputs"].items()):
        gaps = np.array([gap(r2) for r2 in found["r2"]])
        mean = "" if found["r2_mean"] is None else f", mean {found['r2_mean']:.4f}"
        axes.plot(
            metric.thresholds or metric.levels,
            gaps,
            color=colour_of(c),
            lw=1.4,
            marker="o",
            ms=3,
            label=f"{name}{mean}",
        )
        least = min(least, np.nanmin(gaps, initial=least))
    gap_axis(axes, least)
    threshold_axis(axes, metric, evaluation.figures["field_unit"])
    axes.set_title("$R^2$ over fields, by threshold")
    axes.legend(loc="upper center", bbox_to_anchor=(0.45, -0.2), ncols=2, handlelength=1.4, columnspacing=1.2)


def draw_violations(axes: Axes, evaluation: Evaluation) -> None:
    """Bars of the constraints that are broken most, and a word on the others."""
    shares = evaluation.figures["fidelity"]["violations"]
    # Emulators of many outputs declare dozens, nearly all of which hold.
    number = len(shares) if len(shares) <= _CONSTRAINTS_SHOWN + 1 else _CONSTRAINTS_SHOWN
    shown = sorted(shares, key=lambda label: -shares[label])[:number]
    labels = [shortened(label.replace(">=", "≥").replace("<=", "≤")) for label in shown]
    values = [shares[label] for label in shown]
    if len(shown) < len(shares):
        labels.append(f"each of {len(shares) - len(shown)} others")
        values.append(max(share for label, share in shares.items() if label not in shown))
    axes.barh(range(len(values)), values, height=0.55, color=tint(COLOURS[1], 0.8))
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
    category_axis(axes.yaxis)
    axes.set_xlabel("% of fields and thresholds")
    axes.set_title("Constraints broken")


def _draw_training(axes: Axes, metric: Metric, log: Columns) -> None:
    """Losses against fields seen."""
    seen = log["fields"]
    for column, colour, width, label in (
        ("train_loss", tint(INK, 0.45), 1.0, "training"),
        ("validation_loss", INK, 1.8, "validation"),
        *((f"validation_{name}", colour_of(c), 1.2, name) for c, name in enumerate(metric.outputs)),
    ):
        values = log.get(column)
        if values is not None and np.isfinite(values).any():
            known = np.isfinite(values)
            axes.plot(seen[known], values[known], color=colour, lw=width, label=label)
    axes.set_yscale("log")
    plain_log_axis(axes.yaxis, *axes.get_ylim())
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel("fields seen")
    axes.set_title("Loss, and validation distance")
    axes.xaxis.set_major_formatter(FuncFormatter(plain))
    legend_inside(axes, "upper right", 2)


def draw_classes(axes: Axes, evaluation: Evaluation) -> None:
    """Bars of R2 by class of wetness, on the axis of `_draw_r_squared`."""
    classes = {
        name: found
        for name, found in evaluation.figures["classes"].items()
        if any(output["r2_mean"] is not None for output in found["outputs"].values())
    }
    outputs = list(evaluation.figures["fidelity"]["outputs"])
    width, least = 0.8 / len(outputs), 0.1
    for c, output in enumerate(outputs):
        gaps = np.array([gap(found["outputs"][output]["r2_mean"]) for found in classes.values()])
        places = np.arange(len(classes)) + (c - (len(outputs) - 1) / 2) * width
        axes.bar(places, gaps - 1.2, 0.85 * width, 1.2, color=tint(colour_of(c), 0.85), label=output)
        least = min(least, np.nanmin(gaps, initial=least))
    gap_axis(axes, least)
    axes.set_xticks(range(len(classes)), [_class_label(name, found) for name, found in classes.items()])
    category_axis(axes.xaxis)
    axes.set_title("mean $R^2$, by share of wet pixels")


def _class_label(name: str, found: ClassFigures) -> str:
    """Name of a class, its range of shares of wet pixels, and its number of fields."""
    share = " to ".join(f"{bound:.3g}" for bound in found["share"] or ())
    return f"{name}\n{share} %\n{found['fields']} fields"


def draw_shift(figure: SubFigure, metric: Metric, found: dict[str, ShiftFigures]) -> None:
    """Dots of R2 by data set, on the axis of `_draw_r_squared`."""
    head(figure, "Fidelity under shift: mean $R^2$ on data unlike the fields, and at other thresholds")
    axes = figure.subplots()
    least = 0.1
    for c, output in enumerate(metric.outputs):
        offset = (c - (len(metric.outputs) - 1) / 2) * 0.6 / len(metric.outputs)
        gaps = np.array(
            [
                gap(each["outputs"][output]["r2_mean"]) if "outputs" in each else math.nan
                for each in found.values()
            ]
        )
        places = np.arange(len(found)) + offset
        # Stems hang from the data themselves to what the shift makes of them.
        axes.vlines(places, gaps[0], gaps, color=tint(colour_of(c), 0.45), lw=1.6)
        axes.scatter(places, gaps, s=34, color=colour_of(c), label=output, zorder=3)
        least = min(least, np.nanmin(gaps, initial=least))
    for place, each in enumerate(found.values()):
        if "refused" in each:
            axes.text(
                place,
                0.5,
                "refused",
                ha="center",
                transform=axes.get_xaxis_transform(),
                color=tint(INK, 0.6),
            )
    gap_axis(axes, least)
    labels = [
        f"{name}\n{each['fields']} of {' x '.join(map(str, each['field_shape']))}"
        for name, each in found.items()
    ]
    axes.set_xticks(range(len(found)), labels)
    axes.set_xlim(-0.5, len(found) - 0.5)
    category_axis(axes.xaxis)
    figure.legend(loc="outside lower center", ncols=len(metric.outputs), handletextpad=0.2)
