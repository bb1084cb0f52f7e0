"""Panels of a report on fidelity: curves, R2, broken constraints, training, classes, shift."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from ..emulators.spaces import Values
from ..findings.figures import ClassFigures, ShiftFigures, class_title
from ..metrics import Metric
from .axes import (
    COLOURS,
    INK,
    category_axis,
    colour_of,
    gap,
    gap_axis,
    head,
    legend_below,
    mark_of,
    plain,
    plain_log_axis,
    shortened,
    threshold_axis,
    tint,
    value_axis,
    with_unit,
)
from .classes import fullness, reached
from .evaluate import Evaluation

_SAMPLES = (("sparse", 0.15, 0.4), ("medium", 0.55, 0.65), ("dense", 0.95, 1.0))
"""Fields whose curves are drawn: name, rank among the fields that are not empty, depth of colour."""
_IN_A_LINE = 6
"""Most panels of outputs side by side."""
_CONSTRAINTS_SHOWN = 10
"""Constraints that are shown one by one."""

Columns = dict[str, NDArray[np.float64]]
"""Those of a training log, by name; NaN where a cell has no number."""


def lines_of_panels(count: int) -> int:
    """Lines in which so many panels stand."""
    return -(-count // _IN_A_LINE)


def _panels(figure: SubFigure, count: int) -> list[Axes]:
    """Panels in as many lines as they need, without empty ones."""
    lines = lines_of_panels(count)
    columns = -(-count // lines)
    places = figure.subplots(lines, columns, squeeze=False).ravel().tolist()
    for place in places[count:]:
        place.remove()
    return places[:count]


def draw_curves(
    figure: SubFigure, metric: Metric, evaluation: Evaluation, fields: NDArray[Any], curves: NDArray[Any]
) -> None:
    """Of outputs that are curves: those of a few fields, exact and emulated."""
    figures = evaluation.figures
    level = figures.get("reached", reached(metric, Values.of(fields)))
    picks = _samples(fullness(metric, fields, level))
    head(figure, f"Curves of {len(picks)} field{'s' if len(picks) > 1 else ''}: exact and emulated")
    axis = metric.thresholds or metric.levels
    panels = _panels(figure, len(metric.outputs))
    for c, axes in enumerate(panels):
        for (_, depth), index in picks.items():
            colour = tint(colour_of(c), depth)
            axes.plot(axis, curves[index, c], color=colour, alpha=0.35, lw=5, solid_capstyle="round")
            axes.plot(axis, evaluation.emulated[index, c], color=colour, lw=1.2, marker="o", ms=2.6)
        threshold_axis(axes, metric, figures["field_unit"], 9.0 / min(len(panels), _IN_A_LINE))
        shown = [*picks.values()]
        value_axis(axes, np.concatenate([curves[shown, c], evaluation.emulated[shown, c]]), metric.scales[c])
        axes.set_title(with_unit(metric.outputs[c], metric.units[c]))
    handles = [
        Line2D([], [], color=INK, alpha=0.35, lw=5, label="exact"),
        Line2D([], [], color=INK, lw=1.2, marker="o", ms=2.6, label="emulated"),
    ]
    verb = "reach" if metric.thresholds else "exceed"
    for (name, depth), index in picks.items():
        share = 100 * fullness(metric, fields[index : index + 1], level)[0]
        label = f"{name}: {share:.3g} % of pixels {verb} {level:.4g} {figures['field_unit']}".rstrip()
        handles.append(Line2D([], [], color=tint(INK, depth), lw=3, label=label))
    figure.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), handlelength=1.8, columnspacing=1.8
    )


def _samples(full: NDArray[np.float64]) -> dict[tuple[str, float], int]:
    """Indices of the fields whose curves are drawn, each once, by name and depth of colour."""
    order = np.argsort(full, kind="stable")
    order = order[np.count_nonzero(full == 0) :] if full.any() else order
    picks = {int(order[round(rank * (len(order) - 1))]): (name, depth) for name, rank, depth in _SAMPLES}
    return {shown: index for index, shown in picks.items()}


def draw_values(figure: SubFigure, metric: Metric, evaluation: Evaluation, curves: NDArray[Any]) -> None:
    """Of outputs that are one number: the emulated one over the exact one, a point a field."""
    head(figure, "Values of all fields: emulated over exact")
    for c, axes in enumerate(_panels(figure, len(metric.outputs))):
        exact, emulated = curves[:, c, 0], evaluation.emulated[:, c, 0]
        ends = [min(exact.min(), emulated.min()), max(exact.max(), emulated.max())]
        axes.plot(ends, ends, color=tint(INK, 0.4), lw=1.0)
        axes.scatter(exact, emulated, s=12, color=colour_of(c), alpha=0.4, lw=0)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(plain))
        axes.yaxis.set_major_formatter(FuncFormatter(plain))
        axes.set_box_aspect(0.9)
        axes.set_xlabel("exact")
        axes.set_ylabel("emulated")
        axes.set_title(with_unit(metric.outputs[c], metric.units[c]))


def draw_fidelity(figure: SubFigure, metric: Metric, evaluation: Evaluation, log: Columns | None) -> None:
    """R2 by threshold and by class, constraints that are broken and, where there is a log, the training."""
    found = evaluation.figures["fidelity"]
    drawn: list[tuple[float, Callable[[Axes], None]]] = []
    if any(fit["r2_mean"] is not None for fit in found["outputs"].values()):
        draw = draw_r_squared if len(metric.levels) > 1 else draw_scores
        drawn.append((1.1, lambda axes: draw(axes, metric, evaluation)))
    if _defined_classes(evaluation):
        drawn.append((1.1, lambda axes: draw_classes(axes, evaluation)))
    if any(found["violations"].values()):
        drawn.append((0.8, lambda axes: draw_violations(axes, evaluation)))
    if log is not None:
        drawn.append((1.0, lambda axes: _draw_training(axes, metric, log)))
    held = len(found["violations"]) if not any(found["violations"].values()) else 0
    title = "Fidelity" if log is None else "Fidelity and training"
    head(figure, title + (f"; none of the {held} constraints is broken" if held > 1 else ""))
    if not drawn:
        figure.text(0.5, 0.5, "the exact values do not vary", ha="center", color=tint(INK, 0.6))
        return
    ratios = [width for width, _ in drawn]
    panels = figure.subplots(1, len(drawn), squeeze=False, width_ratios=ratios)[0]
    for axes, (_, fill) in zip(panels, drawn, strict=True):
        fill(axes)


def draw_r_squared(axes: Axes, metric: Metric, evaluation: Evaluation) -> None:
    """R2 by threshold on an axis on which 0.9, 0.99 and 0.999 are equally far apart."""
    least = 0.1
    for c, (name, found) in enumerate(evaluation.figures["fidelity"]["outputs"].items()):
        gaps = np.array([gap(r2) for r2 in found["r2"]])
        mean = "" if found["r2_mean"] is None else f" {_score(found['r2_mean'])}"
        axes.plot(
            metric.thresholds or metric.levels,
            gaps,
            color=colour_of(c),
            lw=1.4,
            marker=mark_of(c),
            ms=3,
            label=f"{name}{mean}",
        )
        least = min(least, np.nanmin(gaps, initial=least))
    gap_axis(axes, least)
    threshold_axis(axes, metric, evaluation.figures["field_unit"], 3.2)
    axes.set_title(f"$R^2$ over fields, by {'threshold' if metric.thresholds else 'level'}; mean")
    legend_below(axes, 2)


def draw_scores(axes: Axes, metric: Metric, evaluation: Evaluation) -> None:
    """R2 of outputs that are one number, as bars and as numbers."""
    least, known = 0.1, evaluation.figures["fidelity"]["outputs"]
    for c, found in enumerate(known.values()):
        if found["r2_mean"] is None:
            continue
        reach = gap(found["r2_mean"])
        axes.barh(c, reach - 1.2, 0.55, 1.2, color=tint(colour_of(c), 0.85))
        axes.annotate(
            _score(found["r2_mean"]),
            (reach, c),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
        )
        least = min(least, reach)
    axes.set_yticks(range(len(known)), list(known))
    axes.set_ylim(len(known) - 0.4, -0.6)
    category_axis(axes.yaxis)
    gap_axis(axes, least, along="x")
    axes.set_title("$R^2$ over fields")


def _score(r2: float) -> str:
    return "below -9" if r2 < -9 else f"{r2:.4f}"


def draw_violations(axes: Axes, evaluation: Evaluation) -> None:
    """Bars of the constraints that are broken, the most broken ones first, and a word on the others."""
    shares = evaluation.figures["fidelity"]["violations"]
    broken = sorted((label for label, share in shares.items() if share), key=lambda label: -shares[label])
    # Emulators of many outputs declare dozens.
    shown = broken if len(broken) <= _CONSTRAINTS_SHOWN + 1 else broken[:_CONSTRAINTS_SHOWN]
    labels = [shortened(label.replace(">=", "≥").replace("<=", "≤")) for label in shown]
    values = [shares[label] for label in shown]
    if len(shown) < len(broken):
        labels.append(f"each of {len(broken) - len(shown)} others")
        values.append(shares[broken[len(shown)]])
    axes.barh(range(len(values)), values, height=0.55, color=tint(COLOURS[1], 0.8))
    for place, share in enumerate(values):
        at_most = "≤ " if place == len(shown) else ""
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
    axes.set_xlim(0, max(1.0, 1.35 * max(values, default=0.0)))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    category_axis(axes.yaxis)
    axes.set_xlabel("% of fields and thresholds")
    hold = len(shares) - len(broken)
    axes.set_title("Constraints broken" + (f"; {hold} hold" if hold else ""))


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
    if any(np.any(np.asarray(line.get_ydata(), float) > 0) for line in axes.lines):  # no log axis shows 0
        axes.set_yscale("log")
        plain_log_axis(axes.yaxis, *axes.get_ylim())
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.set_xlabel("fields seen")
    axes.set_title("Loss, and validation distance")
    axes.xaxis.set_major_formatter(FuncFormatter(plain))
    legend_below(axes, 2)


def _defined_classes(evaluation: Evaluation) -> dict[str, ClassFigures]:
    """Classes of fields in which some R2 is defined."""
    return {
        name: found
        for name, found in evaluation.figures["classes"].items()
        if any(output["r2_mean"] is not None for output in found["outputs"].values())
    }


def draw_classes(axes: Axes, evaluation: Evaluation) -> None:
    """Bars of R2 by class of fields, on the axis of `draw_r_squared`."""
    classes, figures = _defined_classes(evaluation), evaluation.figures
    outputs = list(figures["fidelity"]["outputs"])
    width, least = 0.8 / len(outputs), 0.1
    for c, output in enumerate(outputs):
        gaps = np.array([gap(found["outputs"][output]["r2_mean"]) for found in classes.values()])
        places = np.arange(len(classes)) + (c - (len(outputs) - 1) / 2) * width
        axes.bar(places, gaps - 1.2, 0.85 * width, 1.2, color=tint(colour_of(c), 0.85), label=output)
        least = min(least, np.nanmin(gaps, initial=least))
    gap_axis(axes, least)
    axes.set_xticks(range(len(classes)), [_class_label(name, found) for name, found in classes.items()])
    category_axis(axes.xaxis)
    level = f" {figures['reached']:.4g} {figures['field_unit']}".rstrip() if "reached" in figures else ""
    reach = "reach" if evaluation.figures["fidelity"]["thresholds"] else "exceed"
    axes.set_title(f"mean $R^2$, by share of pixels that {reach}{level}" if level else "mean $R^2$, by class")
    legend_below(axes, min(len(outputs), 3), drop=0.27)


def _class_label(name: str, found: ClassFigures) -> str:
    """Name of a class, its range of shares of pixels that reach the threshold, and its number of fields."""
    share = "-".join(f"{float(format(bound, '.2g')):g}" for bound in found["share"] or ())
    return f"{class_title(name)}\n{share} %\n{found['fields']} fields"


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
