"""The page of a comparison: fronts, operating points, scores, costs and fields side by side."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from data import Fields
from emuloss.emulators.curves import signed_log1p
from emuloss.evaluation.axes import COLOURS
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from objectives import OUTPUTS, minkowski
from pages import add_bar, draw_rain, reading, shown
from scores import RATES, Scores, interval, mean

from training import trained

_POINTS = (0.05, 0.20)
"""Shares of squared error that an operating point may add to that of squared error alone."""
_AIMS = {0.05: 30.0, 0.20: 15.0}
"""At each of them the share of the distance, in %, that we aimed at: grey bars in the fronts."""
_LEAST = 14.0
"""Where its axis begins, in %."""
_MARKS = "osD^vPX"
_LINES = ("-", "--", "-.", ":")
_SAMPLES = 3
_COLUMNS = {
    "log MSE": "log MSE",
    "MSE": "MSE",
    "distance": "distance",
    **{name: name for name in OUTPUTS},
    "clusters": "clusters",
    "spectrum": "spectrum",
    **{f"{name} {rate:g}": f"{name.upper()} {rate:g}" for name in ("fss", "csi") for rate in RATES},
    "wet": "wet",
    "bins": "q99",
}


class Run(NamedTuple):
    """A finished training and the scores of its predictions.

    Attributes:
        folder: where it is.
        training: what was asked, and what happened.
        scores: of the test fields.
        chosen_by: scores of the validation fields, by which weights are chosen.
    """

    folder: Path
    training: dict[str, Any]
    scores: Scores
    chosen_by: Scores

    @property
    def name(self) -> str:
        """The loss."""
        return self.training["asked"]["name"]

    @property
    def label(self) -> str:
        """The loss and its weight."""
        weight = self.training["asked"]["weight"]
        return f"{self.name}, {weight:g}" if weight else self.name


def write(page: Path, runs: Path, fields: Fields) -> None:
    """Write the page of all runs in a folder, with pictures in a folder of its name beside it."""
    found = _collect(runs)
    base = next(run for run in found if run.name == "mse")
    pictures = page.with_suffix("")
    pictures.mkdir(parents=True, exist_ok=True)
    points = {allowed: _winners(found, base, allowed) for allowed in _POINTS}
    drawn = [best for winners in points.values() if (best := _best_network(winners))]
    _write_scores(found, pictures / "scores.csv")
    draw_fronts(_fronts(found, base), pictures / "fronts.png")
    _draw_samples([base, *drawn], fields, pictures / "samples.png")
    winning = {run.folder for winners in points.values() for run in winners.values()}
    chosen = [run for run in found if run is base or run.folder in winning]
    text = "\n\n".join(
        [
            "# Super-resolution of rain with each loss",
            _setting(base, fields, runs),
            f"![Exact Minkowski distance against squared error]({pictures.name}/fronts.png)",
            reading(page),
            "## Operating points",
            "Weights are chosen on the validation fields: the least exact distance within the allowed "
            "squared error (log space). Figures are of the test fields, over those of squared error alone; "
            "in brackets the middle 95 % over resampled fields, which takes them for independent: patches of "
            "the same composites are not.",
            _points_table(points, base),
            *_limits(runs, base),
            "## Scores",
            "Held out, all exact. Distance: the sum of the four outputs'. Clusters: likewise, of the outputs "
            "of the metric of clusters. Spectrum: mean error of the logarithm (base 10) of the radially "
            "averaged spectrum. FSS (windows of 5 pixels) and CSI: "
            "fields where such rain was observed. Wet (0.5 mm/h) and q99: share of wet pixels and 99 % "
            "quantile of all, over the observed ones. "
            f"[All runs, with intervals]({pictures.name}/scores.csv).",
            _scores_table(chosen),
            "## Fields",
            f"![Coarse, predicted and observed fields and their curves]({pictures.name}/samples.png)",
            "## Cost of the losses",
            _costs_table(runs / "costs.json"),
        ]
    )
    page.write_text(text + "\n")


def scored(path: Path) -> bool:
    """Whether a file holds all scores that a report has; those of earlier versions hold fewer."""
    if not path.exists():
        return False
    with np.load(path) as kept:
        return set(_COLUMNS) <= set(kept.files)


def _collect(runs: Path) -> list[Run]:
    """The runs in a folder that have all scores; of others, which one has to name again, it is said."""
    found = []
    for path in sorted(runs.glob("*/test.npz")):
        if not all(scored(path.with_name(f"{split}.npz")) for split in ("test", "validation")):
            print(f"left out: {path.parent} was scored by an earlier version; name its loss once more")
            continue
        training = json.loads((path.parent / "training.json").read_text())
        parts = []
        for split in ("test", "validation"):
            with np.load(path.with_name(f"{split}.npz")) as arrays:
                parts.append(dict(arrays))
        found.append(Run(path.parent, training, *parts))
    return sorted(found, key=lambda run: (run.name != "mse", run.name, run.training["asked"]["weight"]))


def _winners(found: list[Run], base: Run, allowed: float) -> dict[str, Run]:
    """Of each loss, the run of the least exact distance among those within the allowed squared error.

    Both are those of the validation fields: chosen by the test fields, the best would look better than it is.
    """
    limit = (1 + allowed) * mean(base.chosen_by, "log MSE")
    winners: dict[str, Run] = {}
    for run in sorted(found, key=lambda run: mean(run.chosen_by, "distance")):
        if run is not base and mean(run.chosen_by, "log MSE") <= limit:
            winners.setdefault(run.name, run)
    return winners


def _best_network(winners: dict[str, Run]) -> Run | None:
    """Of the winners that are networks, the one of the least exact distance, as validated."""
    networks = [run for run in winners.values() if (run.folder / "weights.safetensors").exists()]
    return min(networks, key=lambda run: mean(run.chosen_by, "distance"), default=None)


def _setting(base: Run, fields: Fields, runs: Path) -> str:
    start = json.loads((runs / "start" / "training.json").read_text())
    asked = base.training["asked"]
    parameters = sum(p.numel() for p in trained(base.folder, fields).network.parameters())
    height, width = fields.train.shape[1:]
    side = asked["factor"] * fields.pixel_size
    return (
        f"Fields of {height} x {width} pixels of {fields.pixel_size:g} km are averaged over cells of "
        f"{side:g} km ({asked['factor']:g} pixels); a U-Net of {parameters:,} weights predicts log(1 + rain) "
        f"from the interpolated averages. {len(fields.train):,} fields to train on, "
        f"{len(fields.validation)} to validate, {len(fields.test)} to test. All networks start from the "
        f"same one, which has seen {start['fields']:,} fields with squared error alone, and see "
        f"{asked['budget']:,} more with each loss, or with squared error alone (fewer where the validation "
        "objective stops to improve)."
    )


def _limits(runs: Path, base: Run) -> list[str]:
    """What can be told of the curves from the coarse field alone, if it was tried."""
    if not (runs / "limits" / "distances.json").exists():
        return []
    found = json.loads((runs / "limits" / "distances.json").read_text())
    left = sum(found["distances"].values())
    return [
        "A network that was trained on the exact distance itself, to predict the exact curves from the "
        f"coarse field without drawing a field ({found['asked']['budget']:,} fields seen), is {left:.2f} "
        f"away from them, {100 * left / mean(base.scores, 'distance'):.0f} % of squared error's distance."
    ]


def _ratio(run: Run, base: Run, name: str) -> float:
    return mean(run.scores, name) / mean(base.scores, name)


def _points_table(points: dict[float, dict[str, Run]], base: Run) -> str:
    names = sorted(
        set().union(*points.values()),
        key=lambda name: min(
            _ratio(winners[name], base, "distance") for winners in points.values() if name in winners
        ),
    )
    rows = ["| loss | " + " | ".join(f"at most {100 * allowed:g} % more" for allowed in points) + " |"]
    rows.append("| --- |" + " --- |" * len(points))
    for name in names:
        cells = []
        for winners in points.values():
            if name not in winners:
                cells.append("none within")
                continue
            run = winners[name]
            low, high = interval(run.scores, "distance", than=base.scores)
            more, linear = (_ratio(run, base, key) - 1 for key in ("log MSE", "MSE"))
            cells.append(
                f"{100 * _ratio(run, base, 'distance'):.0f} % ({100 * low:.0f} to {100 * high:.0f}) at "
                f"{100 * more:+.1f} % log MSE, {100 * linear:+.1f} % MSE; "
                f"weight {run.training['asked']['weight']:g}"
            )
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _scores_table(chosen: list[Run]) -> str:
    rows = ["| loss, weight | " + " | ".join(_COLUMNS.values()) + " | minutes |"]
    rows.append("| --- |" + " --- |" * (len(_COLUMNS) + 1))
    for run in chosen:
        cells = [f"{mean(run.scores, name):.3g}" for name in _COLUMNS]
        rows.append(f"| {run.label} | " + " | ".join(cells) + f" | {run.training['seconds'] / 60:.1f} |")
    return "\n".join(rows)


def _write_scores(found: list[Run], path: Path) -> None:
    """All scores of all runs, with the middle 95 % over resampled fields, as CSV."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["loss", "weight", "score", "value", "low", "high"])
        for run in found:
            for name, title in _COLUMNS.items():
                values = mean(run.scores, name), *interval(run.scores, name)
                weight = f"{run.training['asked']['weight']:g}"
                writer.writerow([run.name, weight, title, *(f"{value:.5g}" for value in values)])


def _costs_table(path: Path) -> str:
    costs: dict[str, float] = json.loads(path.read_text())["costs"] if path.exists() else {}
    rows = ["| loss | added to a training step |", "| --- | --- |"]
    rows += [f"| {name} | {100 * share:.0f} % |" for name, share in sorted(costs.items(), key=lambda x: x[1])]
    return "\n".join(rows)


def _fronts(found: list[Run], base: Run) -> dict[str, list[tuple[float, float]]]:
    """Of each loss and each of its weights what squared error is more and what distance is left, in %."""
    fronts: dict[str, list[tuple[float, float]]] = {}
    for run in found:
        if run is not base:
            point = 100 * (_ratio(run, base, "log MSE") - 1), 100 * _ratio(run, base, "distance")
            fronts.setdefault(run.name, []).append(point)
    return fronts


def draw_fronts(fronts: dict[str, list[tuple[float, float]]], path: Path) -> None:
    """Draw the points (% more squared error, % of the distance) of each loss into a PNG file."""
    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    axes.plot(0, 100, "k*", markersize=12, label="mse", linestyle="none")
    # Losses of a family share a colour and differ in their marks: fifteen colours cannot be told apart.
    families: dict[str, list[str]] = {}
    for name in fronts:
        families.setdefault(name.partition("-")[0], []).append(name)
    marks = itertools.cycle(_MARKS)
    for (_, members), color in zip(
        sorted(families.items()), itertools.cycle((*COLOURS, "0.4", "k")), strict=False
    ):
        for name, mark in zip(members, marks, strict=False):
            axes.plot(*zip(*fronts[name], strict=True), marker=mark, label=name, color=color, linewidth=1)
    for allowed, aim in _AIMS.items():
        axes.bar(100 * allowed, aim - _LEAST, 0.2, _LEAST, color="0.75", zorder=0)
    axes.set(
        xlabel="squared error of log(1 + rain), % more than alone",
        ylabel="exact Minkowski distance,\n% of that of squared error alone",
        yscale="log",
        ylim=(_LEAST, 115),
    )
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0, 7.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right center", fontsize="small")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_samples(runs: list[Run], fields: Fields, path: Path) -> None:
    chosen = fields.test[shown(fields.test, _SAMPLES)]
    models = {run.label: trained(run.folder, fields) for run in runs}
    columns = {name: model.predict(chosen) for name, model in models.items()}
    coarsening = next(iter(models.values())).coarsening
    columns = {"coarse": coarsening.interpolate(coarsening(chosen)), **columns, "observed": chosen}
    metric = minkowski()
    curves = {name: signed_log1p(torch.from_numpy(metric(x.numpy()))) for name, x in columns.items()}
    width = len(columns) + len(OUTPUTS)
    figure, axes = plt.subplots(
        _SAMPLES, width, figsize=(2.1 * width, 2.1 * _SAMPLES), layout="constrained", squeeze=False
    )
    for row in range(_SAMPLES):
        for axis, (name, drawn) in zip(axes[row], columns.items(), strict=False):
            image = draw_rain(axis, drawn[row].numpy())
            if row == 0:
                axis.set_title(name, fontsize="small")
        for c, axis in enumerate(axes[row, len(columns) :]):
            for k, (name, found) in enumerate(curves.items()):
                observed = name == "observed"
                axis.plot(
                    metric.levels,
                    found[row, c],
                    label=name,
                    color="k" if observed else COLOURS[k],
                    linestyle="-" if observed else _LINES[k % len(_LINES)],
                    linewidth=2.5 if observed else 1.2,
                    zorder=0 if observed else 2,
                )
            axis.tick_params(labelsize="xx-small")
            if row == 0:
                axis.set_title(f"log {OUTPUTS[c]}", fontsize="small")
            if row == _SAMPLES - 1:
                axis.set_xlabel("quantile level", fontsize="x-small")
    add_bar(figure, image, axes[:, : len(columns)])
    lines, names = axes[0, -1].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside lower right", ncols=len(names), fontsize="small")
    figure.savefig(path, dpi=100)
    plt.close(figure)
