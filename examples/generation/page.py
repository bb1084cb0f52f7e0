"""The page of a run: the picture, the table, what was aimed at, and the reading that people write."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from pages import add_bar, draw_rain, reading
from steering import LATE_STEPS, METRIC

_NAMES = {
    "unguided": "without guidance",
    "guided": f"**guided**: through the model, then {LATE_STEPS} steps without it",
    "without the model": "the same, never through the model",
    "too strong": "ten times as strong",
    "means alone": "super-resolution: coarse means alone",
    "means and curves": "super-resolution: coarse means and curves",
    "fine-tuned": "fine-tuned by the score of curves, without guidance",
    "further fields": "other fields held out, as if they were samples",
}
_LESS = {
    "guided": "**guided** as above",
    "twice as many late": f"{2 * LATE_STEPS} steps late",
    "every second": "through the model at every second step alone",
    "every second held": "the same, and in between what was added last",
    "from a quarter": "from a quarter of the way on",
    "to half": "to half of the way, and late",
    "late alone": "late alone",
    "half precision": "the model in bfloat16 wherever it is asked for guidance",
    "without the model": "never through the model",
}
_PEAKS = {
    "unguided": "without guidance",
    "peaks frozen": "guided by a network that learnt the function, frozen",
    "peaks live": "guided by the same network, live",
    "peaks best": "best of 8 samples, no gradients",
    "peaks resampled": "best of 8 particles, resampled on the way",
}
_FEW = {
    "few unguided": "without guidance",
    "few guided": "guided by emuloss",
    "few by persistence": "guided by persistent components of gudhi",
    "few best": "best of 8 samples, no gradients",
    "few resampled": "best of 8 particles, resampled on the way",
}


def write(page: Path, out: Path) -> None:
    """Write the page and its picture of the run in a folder."""
    results = json.loads((out / "results.json").read_text())
    training = json.loads((out / "flow.json").read_text())
    picture = page.parent / page.stem / "wishes.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    _draw(results["wishes"], out, picture)
    rows, asked = results["rows"], {**training["asked"], **results["asked"]}
    page.write_text(
        "\n\n".join(
            [
                "# Steering a generative model",
                f"Written by `python examples/generation --page {page.parent.name}/{page.name}`, but for the "
                "reading. A small flow-matching network draws "
                f"synthetic rain of {asked['size']} x {asked['size']} pixels in 16 Heun steps. It "
                f"was trained on {asked['fields']} fields, {training['step']} steps of {asked['batch']}, in "
                f"{training['seconds'] / 60:.0f} minutes on one core of a busy machine, and is frozen. "
                "`emuloss.Guidance` moves its estimate of the clean field towards what is asked.",
                f"![asked curves and samples]({picture.parent.name}/{picture.name})",
                "*Five samples for each wish; a column begins with the same noise in all rows. Left: curves "
                "asked (black) and exact curves of the samples.*",
                reading(page),
                "## Figures",
                f"{asked['count']} samples, each asked for the exact curves ({', '.join(METRIC.outputs)} at "
                f"{', '.join(f'{u:g}' for u in METRIC.thresholds)} mm/h) of another field held out; the "
                "distance is that of the loss, of exact curves. Spectrum: error of the logarithmic spectrum "
                "of log(1 + rain) against the fields held out, in decades. Diversity: mean distance between "
                "two samples. AUC: of networks that tell samples from fields held out, 0.5 is best; give or "
                f"take {(6 * asked['count']) ** -0.5:.2f}. "
                "Time: of the processor, for one sample.",
                _table(rows),
                "## Aims",
                _aims(rows),
                "## What costs less",
                f"The same samples. Time: by turns with a sample without guidance, {asked['few']} at once.",
                _less(rows),
                "## A metric without a relaxation",
                "The same samples, each asked for as many peaks (local maxima above 1 mm/h, counted by a "
                "few lines of Python) as another field held out has. The network learnt the function on "
                f"{asked['lessons']} fields (`emuloss.live`); live, it goes on learning on the estimates of "
                "the sampling. Resampled: a half of the particles is kept at a quarter, a half and three "
                "quarters of the way, where their estimates are nearest, and copied with fresh noise. "
                "All peaks are exact.",
                _peaks(rows),
                "## Against persistent homology",
                f"{asked['few']} samples. The objective of the peer is the Wasserstein distance between the "
                "persistence diagrams of components of sample and field held out, by torch-topological and "
                "gudhi, in the same guidance. It sees components at all levels and nothing of area or "
                "perimeter, so look at the distance of components.",
                _few(rows),
            ]
        )
        + "\n"
    )


def _table(rows: dict[str, Any]) -> str:
    lines = [
        "| | distance | of components | spectrum | diversity | AUC | time in s | RMSE of means |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for key, name in _NAMES.items():
        if key in rows and "auc" in rows[key]:
            row = rows[key]
            means = f"{row['means']:.3f}" if "means" in row else ""
            seconds = f"{row['seconds']:.2f}" if row["seconds"] else ""
            lines.append(
                f"| {name} | {row['distance']:.2f} | {row['components']:.2f} | {row['spectrum']:.3f} "
                f"| {row['diversity']:.1f} | {row['auc']:.2f} | {seconds} | {means} |"
            )
    return "\n".join(lines)


def _less(rows: dict[str, Any]) -> str:
    none = rows["unguided"]
    lines = [
        "| | distance, % | spectrum, times | diversity, % | AUC, more | time, times |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for key, name in _LESS.items():
        distance, spectrum, diversity = (
            rows[key][what] / none[what] for what in ("distance", "spectrum", "diversity")
        )
        lines.append(
            f"| {name} | {100 * distance:.1f} | {spectrum:.2f} | {100 * diversity:.0f} "
            f"| {rows[key]['auc'] - none['auc']:+.3f} | {rows[key]['times']:.2f} |"
        )
    return "\n".join(lines)


def _peaks(rows: dict[str, Any]) -> str:
    lines = [
        "| | difference in peaks | of log(1 + peaks) | spectrum | diversity | AUC | time in s |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for key, name in _PEAKS.items():
        row = rows[key]
        lines.append(
            f"| {name} | {row['peaks']:.1f} | {row['log_peaks']:.2f} | {row['spectrum']:.3f} "
            f"| {row['diversity']:.1f} | {row['auc']:.2f} | {row['seconds']:.2f} |"
        )
    return "\n".join(lines)


def _few(rows: dict[str, Any]) -> str:
    lines = ["| | distance | of components | diversity | time in s |", "| --- | --- | --- | --- | --- |"]
    for key, name in _FEW.items():
        if key in rows:
            row = rows[key]
            lines.append(
                f"| {name} | {row['distance']:.2f} | {row['components']:.2f} | {row['diversity']:.1f} "
                f"| {row['seconds']:.2f} |"
            )
    if "few by persistence" not in rows:
        lines.append("\nNot measured: gudhi or torch-topological was not installed.")
    return "\n".join(lines)


def _aims(rows: dict[str, Any]) -> str:
    none, guided, tuned, truth = (
        rows[name] for name in ("unguided", "guided", "fine-tuned", "further fields")
    )

    def share(name: str, row: Any = guided) -> float:
        return row[name] / none[name]

    excess = tuned["energy"][1] / none["energy"][1]
    score, floor = (row["energy"][0] / none["energy"][0] for row in (tuned, truth))
    lines = [
        (
            "guided: exact distance, of that without",
            "at most 15 %",
            f"{share('distance'):.1%}",
            share("distance") <= 0.15,
        ),
        (
            "spectrum error, times that without",
            "at most 1.2",
            f"{share('spectrum'):.2f}",
            share("spectrum") <= 1.2,
        ),
        (
            "diversity, of that without",
            "at least 80 %",
            f"{share('diversity'):.0%}",
            share("diversity") >= 0.8,
        ),
        (
            "AUC, more than that without",
            "at most 0.05",
            f"{guided['auc'] - none['auc']:+.3f}",
            guided["auc"] - none["auc"] <= 0.05,
        ),
        (
            "time of a sample, times that without",
            "at most 2",
            f"{guided['times']:.2f}",
            guided["times"] <= 2,
        ),
        (
            "fine-tuned: exact energy score of curves, of that before",
            "at most 50 %",
            f"{score:.0%}",
            score <= 0.5,
        ),
        (
            "the same score of other fields held out, which no network can beat but by chance",
            "",
            f"{floor:.0%}",
            None,
        ),
        (
            "fine-tuned: what of the score exceeds that of the truth, of that before",
            "",
            f"{excess:.0%}",
            None,
        ),
        (
            "fine-tuned: spectrum error, times that before",
            "at most 1",
            f"{share('spectrum', tuned):.2f}",
            share("spectrum", tuned) <= 1,
        ),
    ]
    verdicts = {True: "met", False: "**missed**", None: ""}
    return "\n".join(
        ["| | aim | measured | |", "| --- | --- | --- | --- |"]
        + [f"| {what} | {aim} | {found} | {verdicts[met]} |" for what, aim, found, met in lines]
    )


def _draw(wishes: list[dict[str, Any]], out: Path, path: Path) -> None:
    """Draw asked curves beside those of samples, and the samples."""
    with np.load(out / "wishes.npz") as kept:
        samples, free = kept["rain"], kept["free"]
    rows = [
        {**wishes[0], "title": "without guidance", "has": METRIC(free).tolist(), "distance": None},
        *wishes,
    ]
    fields = [free, *samples]
    figure, axes = plt.subplots(
        len(rows), len(METRIC.outputs) + len(free), figsize=(15, 2.0 * len(rows) + 0.9), layout="constrained"
    )
    places = np.arange(len(METRIC.thresholds))
    for n, (line, row, drawn) in enumerate(zip(axes, rows, fields, strict=True)):
        for axis, output, unit, k in zip(line, METRIC.outputs, METRIC.units, range(9), strict=False):
            for has in row["has"]:
                axis.plot(places, has[k], color="C0", alpha=0.6, linewidth=1)
            axis.plot(places, row["asked"][k], "ko-", markersize=3, linewidth=1.5)
            axis.set_yscale("symlog", linthresh=1)
            axis.set_xticks(places, [f"{u:g}" for u in METRIC.thresholds])
            axis.tick_params(labelsize="x-small")
            if n == 0:
                axis.set_title(f"{output}{f' in {unit}' if unit != '1' else ''}", fontsize="small")
            if n == len(rows) - 1:
                axis.set_xlabel("threshold in mm/h", fontsize="x-small")
        title = row["title"] + ("" if row["distance"] is None else f" (distance {row['distance']:.2f})")
        line[0].set_ylabel("\n".join(textwrap.wrap(title, 22)), fontsize="small")
        for axis, field in zip(line[len(METRIC.outputs) :], drawn, strict=True):
            image = draw_rain(axis, field)
    add_bar(figure, image, axes[:, len(METRIC.outputs) :])
    figure.savefig(path, dpi=80)
    plt.close(figure)
