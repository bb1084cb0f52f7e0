"""The picture of a set of ensembles: members beside what was observed, and their exact scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ..emulators.spaces import Values
from ..errors import ArgumentError
from ..foundation.arguments import filled
from ..metrics.fields import as_fields
from .axes import (
    INK,
    category_axis,
    colour_bar,
    colour_of,
    field_colours,
    framed,
    head,
    legend_below,
    mark_of,
    plain_log_axis,
    shortened,
    threshold_axis,
    with_unit,
)
from .classes import fullness
from .ensembles import EnsembleScores
from .sheet import WIDTH, Row, write_sheet

_FIELDS, _MEMBERS = 3, 4
"""Observed fields that are drawn, and members beside each."""
_FOR_IMAGES = 0.9
"""Share of the width that images have, beside the colour bar."""
_TALLEST = 4.0
"""Height of an image, at most, in inches."""


def write_ensembles(
    path: str | Path, found: EnsembleScores, members: Any, observed: Any, *, unit: str = ""
) -> None:
    """Draw some observed fields with members beside them, and the scores of all.

    The fields are spread over the fullest half. What was not measured is grey.

    Args:
        path: the PNG file to write.
        found: what `ensemble_scores` returned.
        members: (N, M, H, W) that it was given.
        observed: (N, H, W) or (N, 1, H, W), likewise.
        unit: of the fields.

    Raises:
        ArgumentError: the arrays do not belong to the scores.
        DataError: the picture cannot be written.
    """
    members, observed = filled(members), as_fields(observed, "observed")
    if members.shape[:2] != (len(found.energy), found.members) or observed.shape != (
        len(members),
        *members.shape[2:],
    ):
        raise ArgumentError(
            f"members and observed must be those of the scores, {len(found.energy)} ensembles of "
            f"{found.members}, got {members.shape} and {observed.shape}"
        )
    picks = _spread(fullness(found.metric, observed))
    columns = 1 + min(_MEMBERS, found.members)
    inches = min(WIDTH * _FOR_IMAGES / columns * members.shape[2] / members.shape[3], _TALLEST)
    values = Values.of(observed)
    shown = np.concatenate([observed[picks, None], members[picks, : columns - 1]], axis=1)
    shown = np.where(np.isnan(observed[picks, None]), np.nan, shown)
    lowest = next(iter(found.metric.thresholds), None)
    write_sheet(
        path,
        [
            Row(0.7 + len(picks) * inches, lambda place: _draw_fields(place, shown, values, lowest, unit)),
            Row(3.3, lambda place: _draw_scores(place, found, unit)),
        ],
    )


def _spread(full: NDArray[np.float64]) -> NDArray[np.intp]:
    """Indices of fields spread over the fullest half, from the fullest."""
    order = np.argsort(-full, kind="stable")
    return order[np.unique(np.linspace(0, (len(order) - 1) // 2, _FIELDS).round().astype(int))]


def _draw_fields(
    figure: SubFigure, shown: NDArray[Any], values: Values, lowest: float | None, unit: str
) -> None:
    """Rows of images (R, 1 + K, H, W), the observed field first."""
    head(figure, f"Observed fields and {shown.shape[1] - 1} members of each")
    panels = figure.subplots(*shown.shape[:2], squeeze=False)
    colours, scale = field_colours(lowest, values, shown)
    for row, fields in zip(panels, shown, strict=True):
        for axes, field in zip(row, fields, strict=True):
            image = axes.imshow(field, cmap=colours, norm=scale, interpolation="nearest")
            framed(axes)
    for k, axes in enumerate(panels[0]):
        axes.set_title(f"member {k}" if k else "observed")
    colour_bar(figure, image, panels.ravel().tolist(), with_unit("value", unit), values.dry)


def _draw_scores(figure: SubFigure, found: EnsembleScores, unit: str) -> None:
    """Energy scores, CRPS along thresholds, spread and skill, ranks; an output has one colour in all."""
    count = len(found.energy)
    head(figure, f"Exact curves of {found.members} members, {count} field{'s' if count > 1 else ''}")
    panels = figure.subplots(1, 4, width_ratios=(0.9, 1.2, 1, 1.2))
    _draw_distances(panels[0], found)
    _draw_crps(panels[1], found, unit)
    _draw_spread(panels[2], found)
    _draw_ranks(panels[3], found)


def _draw_distances(axes: Axes, found: EnsembleScores) -> None:
    """Mean distance of a member, and the energy score, by output."""
    outputs = found.metric.outputs
    distance, energy = found.distance.mean(0), found.energy.mean(0)
    for c in range(len(outputs)):
        axes.plot([energy[c], distance[c]], [c, c], color=colour_of(c), alpha=0.4, lw=2, zorder=1)
        axes.scatter(distance[c], c, s=42, facecolor="white", edgecolor=colour_of(c), lw=1.5, zorder=2)
        axes.scatter(energy[c], c, s=42, color=colour_of(c), zorder=2)
    axes.set_yticks(range(len(outputs)), [shortened(name) for name in outputs])
    axes.set_ylim(len(outputs) - 0.5, -0.5)
    category_axis(axes.yaxis)
    axes.set_xlim(min(0.0, 1.1 * float(np.nanmin(energy))), 1.1 * float(np.nanmax(distance)) or 1.0)
    axes.set_xlabel("score (filled), distance (open)")
    axes.set_title("energy score, member's distance")


def _draw_crps(axes: Axes, found: EnsembleScores, unit: str) -> None:
    """CRPS on the signed-log scale, by output."""
    axis = found.metric.thresholds or found.metric.levels
    for c, name in enumerate(found.metric.outputs):
        score = found.log_crps[:, c].mean(0)
        axes.plot(axis, score, color=colour_of(c), marker=mark_of(c), ms=3.5, lw=1.3, label=shortened(name))
    threshold_axis(axes, found.metric, unit, 3.2)
    axes.set_title("CRPS, signed-log scale")
    legend_below(axes, 3)


def _draw_spread(axes: Axes, found: EnsembleScores) -> None:
    """Spread against skill, by output; the diagonal is that of calibrated ensembles."""
    both = np.concatenate([found.spread, found.skill])
    known = both[np.isfinite(both) & (both > 0)]
    low, high = (known.min() / 1.5, known.max() * 1.5) if len(known) else (0.1, 1.0)
    axes.plot([low, high], [low, high], color=INK, lw=1)
    for c in range(len(found.metric.outputs)):
        axes.scatter(found.skill[c], found.spread[c], s=42, color=colour_of(c), marker=mark_of(c), zorder=2)
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
    for axis in (axes.xaxis, axes.yaxis):
        plain_log_axis(axis, low, high)
    axes.set_xlabel("error of the ensemble mean")
    axes.set_title("spread over error")


def _draw_ranks(axes: Axes, found: EnsembleScores) -> None:
    """Rank histograms, each over its mean, by output."""
    expected = np.maximum(found.ranks.sum(1, keepdims=True), 1) / (found.members + 1)
    axes.axhline(1, color=INK, lw=1)
    for c, ranks in enumerate(found.ranks / expected):
        axes.plot(range(len(ranks)), ranks, color=colour_of(c), marker=mark_of(c), ms=3.5, lw=1.3)
    axes.set_ylim(0, None)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set_xlabel("members below the observed value")
    axes.set_title("ranks, 1 where they are even")
