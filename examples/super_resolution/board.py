"""The page of ensembles of rain: what was aimed at, what was reached, and how it looks.

    python examples/super_resolution/board.py runs/ensembles/opera runs/ensembles/mch --page docs/ensembles.md

Folders are those of `ensembles.py`, one a weather; the first is told in full.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pages import reading, title
from pictures import draw_fields, draw_ranks, draw_spectra
from results import ALLOWED, FIGURES, SCORES, Row, Weather, collect
from safetensors import safe_open

_FEW = 10
"""Times that intervals of 95 % take at least to be about right."""
_LOOKS = {
    "auc": "AUC",
    "spectrum": "spectrum error",
    "rain_spectrum": "of rain",
    "harmonics": "harmonics",
    "axes": "axes, p",
    "strength": "strength",
    "q99": "q99",
    "q99.99": "q99.99",
    "wet": "wet",
    "spread": "spread/skill",
    "ranks": "ranks, %",
    "chance": "of a member",
}
_DIGITS = {
    "crps": ".4f",
    "axes": ".3f",
    "ranks": ".0f",
    "chance": ".0f",
    "spectrum": ".3f",
    "rain_spectrum": ".2f",
}
_MEANINGS = """\
Figures are of test fields that no network was trained on, and exact: no surrogate judges.

In the first table less is better, but for FSS:

- CRPS: of log(1 + rain), pixel by pixel; the mean absolute error of a single prediction.
- Energy: the score of the members' Minkowski curves (area, perimeter, Euler number, components at each
  threshold), all members together. Distance: of a single member's curves from the observed ones. For a
  single prediction the energy score is this distance.
- FSS: fractions skill score of a member at 0.5, 2 and 10 mm/h in windows of 5 pixels, over fields where such
  rain was observed; what is drawn elsewhere does not count.

In the second, figures are of the first member of each field, but for spread and ranks. 1 is best, but for
these:

- AUC: how well a network that is trained to do so tells members from observed fields: 0.5, which is best, not
  at all, 1 always. None of fewer than 100 fields.
- Spectrum error (0 is best): mean error of the logarithm (base 10) of the power at each scale; 0.3 is a
  factor of 2. It is that of log(1 + rain), and in the next column that of rain, which a few heavy cells
  decide: two halves of the observed fields differ by {halves:.3f} and {rain_halves:.2f}.
- Harmonics: power at the wavenumbers of a grid of 2, 4, 8 or 16 pixels, over that of observed fields; the
  grid that is furthest from 1 counts. Above, members show a pattern of such a period; others are not seen.
- Axes: p-value of a test whether members lean in the directions of observed fields, small where they do not.
  Strength: how much they lean, over the observed.
- q99, q99.99 and wet: quantiles of rain, and share of wet pixels (0.1 mm/h), over the observed ones.
- Spread/skill: spread of the members over the error of their mean, curve by curve; the output that is
  furthest from 1 counts. Ranks (0 is best): how far the share of a rank of the observed value among the
  members is at most from what it would be if all ranks were as frequent, in % of it. Of a member: the same
  for the first member among the others, which is what so few fields leave to chance. Values that all
  members equal, such as those of dry fields, are left out.

Of several seeds the mean counts, but of harmonics, axes, spread and ranks the worst: faults of two seeds
shall not cancel."""


def main() -> None:
    """Write the page of the folders that are named."""
    parser = argparse.ArgumentParser(
        description="Write the page of ensembles of rain.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("folders", nargs="+", type=Path, help="--out of ensembles.py, one a weather")
    parser.add_argument("--page", type=Path, default=Path("docs/ensembles.md"), help="to write")
    arguments = parser.parse_args()
    write(arguments.page, arguments.folders)
    print(f"page: {arguments.page}")


def write(page: Path, folders: Sequence[Path]) -> None:
    """Write the page of some folders of runs, with pictures and all figures in a folder beside it.

    Args:
        page: to write; its title, and the reading between its marks, are kept.
        folders: of runs, one a weather; the first is told in full.

    Raises:
        SystemExit: a folder holds no finished run.
    """
    weathers = [collect(folder) for folder in folders]
    first, *others = weathers
    pictures = page.with_suffix("")
    pictures.mkdir(parents=True, exist_ok=True)
    _write_figures(weathers, pictures / "figures.csv")
    shown = _shown(first)
    spare = sum(row.deterministic for row in shown) - 1
    draw_fields(first, shown[max(spare, 0) :], pictures / "fields.png")
    draw_spectra(first, shown, pictures / "spectra.png")
    drawn = [row for row in shown if not row.deterministic]
    if drawn:
        draw_ranks(shown, pictures / "ranks.png")
    parts = [
        title(page, "Ensembles of rain"),
        _setting(first),
        f"![Input, observed fields, and what is drawn of them]({pictures.name}/fields.png)",
        _caption(first),
        reading(page),
        *aims_section(first),
        "## All objectives",
        _notes(first),
        _scores_table(first),
        "How members look, and whether they are spread as they should be:",
        _looks_table(first),
        f"[All figures of all weathers]({pictures.name}/figures.csv).",
        "## What the figures are",
        _meanings(first),
        "## Scales and ranks",
        f"![Power at each scale]({pictures.name}/spectra.png)",
        *([f"![Ranks of the observed values]({pictures.name}/ranks.png)"] if drawn else []),
        *([_RANKS] if drawn else []),
        *_elsewhere(first, others),
    ]
    page.write_text("\n\n".join(parts) + "\n")


_RANKS = """\
How often so many members of a field had a smaller value than the observed one, over all thresholds of its
Minkowski curves. Where members vary as the weather does, no number of them is more frequent than others
(dashed; grey: 20 % more or less). High at both ends: members differ too little. High at the right end alone:
they have too little of it; at the left: too much."""


def _shown(weather: Weather) -> list[Row]:
    """The rows of the pictures: squared error alone and beside curves, CRPS alone, and the best, the last."""
    names = [weather.rows.get("mse"), weather.rows.get("mse+relaxed") or weather.sharpest]
    found = [*names, weather.control, weather.best]
    if weather.best is None:
        found.append(min(weather.rows.values(), key=lambda row: row.score("energy")))
    return list({row.name: row for row in found if row}.values())


def _setting(weather: Weather) -> str:
    facts, rows = weather.facts, list(weather.rows.values())
    factor = facts["asked"]["factor"]
    run = rows[-1].runs[0]
    with np.load(run.folder / "samples.npz") as kept:
        height, width = kept["observed"].shape[1:]
    members = max(run.figures["members"] for row in rows for run in row.runs)
    drawn = f"; {members} members are drawn of each" * (members > 1)
    later = " later than those trained on" * (facts["test_composites"] < facts["test"])
    networks = {row.deterministic: f"{_weights(row):,}" for row in rows}
    told = " and ".join(
        f"{'a single prediction' if deterministic else 'members drawn from noise'} ({weights} weights)"
        for deterministic, weights in sorted(networks.items())
    )
    return (
        f"Fields of {weather.title}, {height} x {width} pixels of {facts['pixel_size']:g} km, are averaged "
        f"over cells of {factor * facts['pixel_size']:g} km ({factor:g} pixels). What fine rain may have "
        f"been there? We compare what a network is trained on to answer that, by {told}. Members "
        "are scaled to the coarse means that were given, and each is drawn turned and mirrored at "
        "random; predictions are of the U-Net of the comparison of losses, as it is. "
        f"Each network is trained from scratch on at most {_budget(weather)} fields, repeats included. "
        f"There are {facts['train']:,} fields to train on, {facts['validation']:,} to validate and "
        f"{facts['test']:,} to test, of {facts['test_composites']:,} "
        f"time{'s' * (facts['test_composites'] > 1)}{later}{drawn}."
    )


def _meanings(weather: Weather) -> str:
    """What the figures are, and how far halves of what was observed are apart."""
    figures = next(iter(weather.rows.values())).runs[0].figures
    halves, rain_halves = (figures[f"{name}_of_halves"] for name in ("spectrum", "rain_spectrum"))
    return _MEANINGS.format(halves=halves, rain_halves=rain_halves)


def _budget(weather: Weather) -> str:
    """How many fields its networks saw, in words."""
    budgets = {run.training["asked"]["budget"] for row in weather.rows.values() for run in row.runs}
    return " or ".join(f"{budget:,}" for budget in sorted(budgets))


def _weights(row: Row) -> int:
    """How many numbers the network of a row learns."""
    with safe_open(row.runs[0].folder / "weights.safetensors", "np") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def _caption(weather: Weather) -> str:
    if weather.best is None:
        return "White is dry, grey was not measured."
    text = (
        f"White is dry, grey was not measured. The last columns are three members of `{weather.best.name}`, "
        "which we call the best combination: of the objectives that add terms to CRPS, and whose CRPS is at "
        "most 1.5 % above that of CRPS alone, it has the least energy score. "
    )
    if not weather.close(weather.best):
        text += "Here no CRPS is as low, and it has the least energy score of all of them. "
    return text + (
        "It is chosen by the fields that it is judged by, which flatters it a little where others come close."
    )


class _Aim(NamedTuple):
    """What the best combination shall reach.

    Attributes:
        title: of what it is about.
        name: of the score or figure.
        aim: in words.
        met: whether a value does, given that of CRPS alone.
        relative: whether values are told over that of CRPS alone.
    """

    title: str
    name: str
    aim: str
    met: Callable[[float, float], bool]
    relative: bool = False


def _aims(sharpest: Row | None) -> list[_Aim]:
    least, beside = math.inf, ""
    if sharpest is not None and not math.isnan(sharpest.figure("auc")):
        least = sharpest.figure("auc")
        beside = f", and below `{sharpest.name}` ({least:.2f})"
    return [
        _Aim("CRPS", "crps", "at most 1.5 % more", lambda x, alone: x <= ALLOWED * alone, relative=True),
        _Aim(
            "energy score", "energy", "at most 25 % of it", lambda x, alone: x <= 0.25 * alone, relative=True
        ),
        _Aim(
            "a member's distance",
            "distance",
            "at most 50 % of it",
            lambda x, alone: x <= 0.5 * alone,
            relative=True,
        ),
        _Aim("spectrum error", "spectrum", "at most 0.08", lambda x, _: x <= 0.08),
        _Aim("AUC", "auc", f"0.10 below it{beside}", lambda x, alone: x <= min(alone, least) - 0.10),
        _Aim("spread/skill", "spread", "0.9 to 1.1, each output", lambda x, _: 0.9 <= x <= 1.1),
        _Aim("ranks, off flat", "ranks", "at most 20 %, each output", lambda x, _: x <= 20),
        _Aim("harmonics", "harmonics", "within a factor of 1.2, each grid", lambda x, _: 1 / 1.2 <= x <= 1.2),
        _Aim("axes, p", "axes", "at least 0.01", lambda x, _: x >= 0.01),
    ]


def aims_section(weather: Weather) -> list[str]:
    """The parts of the page that tell which aims are met; none without CRPS alone or a combination."""
    control, best = weather.control, weather.best
    if control is None or best is None:
        return []
    rows = [f"| | aim | `crps` alone | `{best.name}` | |", "| --- | --- | --- | --- | --- |"]
    for aim in _aims(weather.sharpest):
        alone, reached = (_value(row, aim.name) for row in (control, best))
        told = _told(aim.name, reached)
        if aim.relative:
            told = f"{told}: {100 * reached / alone:.1f} % of it"
            if found := best.interval(aim.name, than=control):
                told += f" ({100 * found[0]:.1f} to {100 * found[1]:.1f})"
        verdict = "met" if aim.met(reached, alone) else "**missed**"
        if math.isnan(reached):
            verdict = "-"
        rows.append(f"| {aim.title} | {aim.aim} | {_told(aim.name, alone)} | {told} | {verdict} |")
    chance = best.figure("chance")
    strengths = " and ".join(f"{row.figure('strength'):.2f} of `{row.name}`" for row in (control, best))
    text = (
        "Aims are for the best combination; those of CRPS, energy score, distance and AUC are set against "
        f"CRPS alone. Strength of the axes, for which none is set, over the observed one: {strengths}."
    )
    if not math.isnan(chance):
        text += f" Ranks of a member among the others are {chance:.0f} % off flat: so much so few fields do."
    return ["## Aims", text, "\n".join(rows)]


def _value(row: Row, name: str) -> float:
    return row.score(name) if name in SCORES else row.figure(name)


def _told(name: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:{_DIGITS.get(name, '.2f')}}" + " %" * (name in ("ranks", "chance"))


def _notes(weather: Weather) -> str:
    """What stands in brackets, and what is added to what."""
    notes = [
        "An objective is a score or error of pixels (`crps` of two members, `mse` of one prediction), and "
        "terms beside it, each with its own weight or that behind a colon. Figures are means over seeds."
    ]
    if weather.best is not None:
        notes.append("Bold: the best combination.")
    if any(row.interval("crps") for row in weather.rows.values()):
        notes.append(
            "In brackets: the middle 95 % over resampled seeds and times, in the second table the range over "
            "seeds; nothing where there is a single seed."
        )
        if weather.facts["test_composites"] < _FEW:
            notes.append(
                f"From {weather.facts['test_composites']} times the former are rough, and too narrow."
            )
    if weather.costs:
        notes.append("Cost: time added to a training step of `crps` alone, or of `mse`, on a CPU.")
    return " ".join(notes)


def _scores_table(weather: Weather) -> str:
    titles = [name.upper() if name.startswith("fss") else name for name in SCORES]
    titles[0] = "CRPS"
    rows = [_header("objective", "seeds", *titles, "cost")]
    for row in weather.rows.values():
        cells = [_with_range(name, row.score(name), row.interval(name)) for name in SCORES]
        cost = weather.costs.get(row.name)
        cells.append("-" if cost is None else f"{100 * cost:+.0f} %")
        rows.append(f"| {_marked(weather, row)} | {len(row.runs)} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _looks_table(weather: Weather) -> str:
    rows = [_header("objective", *_LOOKS.values())]
    for row in weather.rows.values():
        cells = [_with_range(name, row.figure(name), row.range(name)).replace(" %", "") for name in _LOOKS]
        rows.append(f"| {_marked(weather, row)} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _header(*titles: str) -> str:
    """The first two lines of a table whose cells but the first are numbers."""
    return f"| {' | '.join(titles)} |\n| --- |{' ---: |' * (len(titles) - 1)}"


def _marked(weather: Weather, row: Row) -> str:
    """The name of an objective, the best one in bold."""
    return f"**{row.name}**" if weather.best is row else row.name


def _with_range(name: str, value: float, found: tuple[float, float] | None) -> str:
    if found is None:
        return _told(name, value)
    told, low, high = (_told(name, each) for each in (value, *found))
    return told if low == told == high else f"{told} ({low} to {high})"


def _elsewhere(first: Weather, others: Sequence[Weather]) -> list[str]:
    """What holds in other weathers, or after other numbers of fields, too."""
    parts = ["## Other weathers and budgets"] if others else []
    for weather in others:
        title = f"### {weather.title}, networks that saw {_budget(weather)} fields"
        parts += [title, _order(first, weather), _short_table(weather)]
    return parts


def _order(first: Weather, other: Weather) -> str:
    """Whether objectives stand in the same order by energy score, in words."""
    common = [name for name in first.rows if name in other.rows]
    if len(common) < 2:
        return "It has no two objectives in common with the first."
    orders = [
        sorted(common, key=lambda name: weather.rows[name].score("energy")) for weather in (first, other)
    ]
    there, here = (", ".join(f"`{name}`" for name in order) for order in orders)
    reference = first.title if other.title != first.title else f"networks that saw {_budget(first)}"
    if here == there:
        order = f"The order by energy score is that of {reference}: {here}, the best first."
    else:
        same = orders[0][0] == orders[1][0]
        order = (
            f"The order by energy score is not that of {reference}, {'though' if same else 'and not'} the "
            f"same objective leads: here {here}, there {there}, the best first."
        )
    facts, factor = other.facts, other.facts["asked"]["factor"]
    return (
        f"{facts['train']:,} fields to train on and {facts['test']:,} to test, of "
        f"{facts['test_composites']:,} times; cells of {factor * facts['pixel_size']:g} km. {order}"
    )


def _short_table(weather: Weather) -> str:
    names = ("crps", "energy", "distance", "auc", "spectrum", "spread")
    titles = ("CRPS", "energy", "distance", "AUC", "spectrum error", "spread/skill")
    rows = [_header("objective", "seeds", *titles)]
    for row in weather.rows.values():
        cells = " | ".join(_told(name, _value(row, name)) for name in names)
        rows.append(f"| {_marked(weather, row)} | {len(row.runs)} | {cells} |")
    return "\n".join(rows)


def _write_figures(weathers: Sequence[Weather], path: Path) -> None:
    """All scores and figures, as CSV: means over seeds, with the middle 95 %, or the range over seeds."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["weather", "objective", "seeds", "figure", "value", "low", "high"])
        for weather in weathers:
            for row in weather.rows.values():
                told = {name: (row.score(name), row.interval(name)) for name in SCORES}
                told |= {name: (row.figure(name), row.range(name)) for name in FIGURES}
                if weather.control and row is not weather.control and not row.deterministic:
                    for name in SCORES[:3]:
                        over = row.score(name) / weather.control.score(name)
                        told[f"{name} over crps alone"] = over, row.interval(name, than=weather.control)
                minutes = [run.training["seconds"] / 60 for run in row.runs]
                told["minutes"] = float(np.mean(minutes)), None
                if row.name in weather.costs:
                    told["cost"] = weather.costs[row.name], None
                for name, (value, found) in told.items():
                    ends = ["", ""] if found is None else [f"{end:.5g}" for end in found]
                    writer.writerow(
                        [weather.folder.name, row.name, len(row.runs), name, f"{value:.5g}", *ends]
                    )


if __name__ == "__main__":
    main()
