"""Pictures of ensembles: fields side by side, spectra, and ranks."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from data import Coarsening
from emuloss.evaluation.axes import COLOURS
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray
from pages import add_bar, draw_rain
from results import Row, Weather

_SAMPLES = 4
_WET = 0.6
"""Up to which place among the kept fields, the wettest first, some are shown."""
_SHOWN = 3
"""Members of the best combination."""
_OUTPUTS = {"euler": "Euler number", "components": "number of components"}
_LEAST = 1e-3
"""Share of the observed power below which none is drawn."""
_WIDTH = 26
"""Characters of a title over a column."""
_LINES = ("-", "--", "-.", ":")
_HATCHES = ("", "//", "..", "xx")
_MOST = 2.2
"""Where bars of ranks are cut, with their value beside."""
_FLAT = 0.2
"""What the share of a rank may deviate from flatness, of it: the grey band."""


def draw_fields(weather: Weather, rows: Sequence[Row], path: Path) -> None:
    """Draw observed fields beside what is seen of them and what objectives make of it, the last thrice."""
    columns: dict[str, NDArray[Any]] = {}
    for row in rows:
        with np.load(row.runs[0].folder / "samples.npz") as kept:
            members, observed = (kept[name].astype(np.float32) for name in ("members", "observed"))
        count = min(_SAMPLES, len(observed))
        chosen = np.linspace(0, _WET * (len(observed) - 1), count).round().astype(int)
        members, observed = members[chosen], observed[chosen]
        if not columns:
            columns = {**_seen(weather, observed), "observed": observed}
        members = np.where(np.isnan(observed)[:, None], np.nan, members)
        if row.deterministic:
            columns[f"{_lines(row.label)}\n(one prediction)"] = members[:, 0]
            continue
        for k in range(_SHOWN if row is rows[-1] else 1):
            columns[f"{_lines(row.label)}\nmember {k + 1}"] = members[:, k % members.shape[1]]
    count = len(next(iter(columns.values())))
    figure, axes = plt.subplots(
        count,
        len(columns),
        figsize=(2.0 * len(columns), 2.0 * count + 0.9),
        layout="constrained",
        squeeze=False,
    )
    for column, (title, fields) in zip(axes.T, columns.items(), strict=True):
        column[0].set_title(title, fontsize="small")
        for axis, field in zip(column, fields, strict=True):
            image = draw_rain(axis, field)
    add_bar(figure, image, axes)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _lines(label: str) -> str:
    """A label in lines that fit over a column."""
    return "\n".join(textwrap.wrap(label.replace("+", " +"), _WIDTH)).replace(" +", "+")


def _seen(weather: Weather, observed: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """What is seen of fields (n, H, W), interpolated to their pixels."""
    factor = weather.facts["asked"]["factor"]
    coarsening = Coarsening(observed.shape[1:], factor)
    seen = coarsening.interpolate(coarsening(torch.from_numpy(observed))).numpy()
    side = factor * weather.facts["pixel_size"]
    return {f"input: means over\n{side:g} km, interpolated": np.where(np.isnan(observed), np.nan, seen)}


def draw_spectra(weather: Weather, rows: Sequence[Row], path: Path) -> None:
    """Draw the power at each scale, and how many times the observed power it is."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    observed = np.array(rows[0].runs[0].figures["log_spectra"][1])
    nyquist = 2 * weather.facts["pixel_size"]
    lengths = nyquist * len(observed) / (np.arange(len(observed)) + 0.5)
    left.plot(lengths, 10**observed, color="k", linewidth=2.5, label="observed")
    right.axhline(1.0, color="k", linewidth=2.5)
    for k, row in enumerate(rows):
        power = np.mean([run.figures["log_spectra"][0] for run in row.runs], axis=0)
        look: dict[str, Any] = {"color": COLOURS[k % len(COLOURS)], "linestyle": _LINES[k % len(_LINES)]}
        left.plot(lengths, 10**power, linewidth=1.6, label=row.label, **look)
        right.plot(lengths, 10 ** (power - observed), linewidth=1.6, **look)
    for axes in (left, right):
        axes.set(xscale="log", yscale="log", xlabel="wavelength in km (fine scales to the right)")
        axes.set_xlim(lengths[0], lengths[-1])
        axes.xaxis.set_major_locator(FixedLocator([4, 8, 16, 32, 64, 128, 256]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.grid(alpha=0.3)
    left.set_title("Power of log(1 + rain)", fontsize="medium")
    right.set_title("Over the observed power", fontsize="medium")
    right.set_ylim(bottom=max(right.get_ylim()[0], _LEAST))
    right.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    right.yaxis.set_minor_locator(NullLocator())
    right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=len(rows) + 1)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def draw_ranks(rows: Sequence[Row], path: Path) -> None:
    """Draw how often the observed value had each rank among the members; deterministic rows have none."""
    drawn = [(COLOURS[k % len(COLOURS)], row) for k, row in enumerate(rows) if not row.deterministic]
    counts = [_counts(row) for _, row in drawn]
    outputs = list(counts[0])
    figure, axes = plt.subplots(
        1, len(outputs), figsize=(2.9 * len(outputs), 3.2), sharey=True, layout="constrained", squeeze=False
    )
    for axis, output in zip(axes[0], outputs, strict=True):
        axis.axhspan(1 - _FLAT, 1 + _FLAT, color="0.9", zorder=0)
        axis.axhline(1.0, color="k", linestyle="--", linewidth=1)
        for k, ((color, row), found) in enumerate(zip(drawn, counts, strict=True)):
            shares = found[output] / max(found[output].mean(), 1)
            places = np.arange(len(shares)) + 0.8 * ((k + 0.5) / len(drawn) - 0.5)
            look: dict[str, Any] = {"color": color, "hatch": _HATCHES[k % len(_HATCHES)], "edgecolor": "w"}
            axis.bar(places, shares, 0.8 / len(drawn), label=row.label, **look)
            for rank, share in enumerate(shares):
                if share > _MOST:  # one line for each row, or their values would lie on one another
                    side, way = (0.5, "left") if rank < len(shares) / 2 else (-0.5, "right")
                    height = (0.97 - 0.09 * k) * _MOST
                    axis.text(rank + side, height, f"{share:.1f}", va="top", ha=way, color=color)
        axis.set_title(_OUTPUTS.get(output, output), fontsize="medium")
        axis.set_xlabel("members below the observed")
        axis.set_xticks(np.arange(len(shares)))
    axes[0, 0].set_ylim(top=min(axes[0, 0].get_ylim()[1], _MOST))
    axes[0, 0].set_ylabel("how often,\nover an equal share")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(drawn))
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _counts(row: Row) -> Mapping[str, NDArray[Any]]:
    """Counts of ranks by output, over all seeds."""
    found = [run.figures["ranks"] for run in row.runs]
    return {output: np.sum([ranks[output] for ranks in found], axis=0) for output in found[0]}
