"""Losses of metrics that have no relaxation: what gradient steps remove, by several ways to a gradient.

    python benchmarks/any_metric [--only NAME ...] [--ways WAY ...] [--budget FIELDS] [--out FOLDER]
                                 [--page docs/live_figures.md]

The metrics are plain functions of rain and of pictures, and some of the package's; see functions.py. Those of
later.py are measured where they are named (`--only skeleton gini ...`), for a table of their own. Of each,
spoilt fields are changed by 200 gradient steps on their pixels, as `emuloss.evaluation.descent` has it, and
the exact metric tells how much of the distance is gone. The gradient comes from perturbations and as many
calls of the metric; from a network that learnt on fields as they are, and was frozen, by its own slopes and
by measured ones; from one that learnt on its own descents, too; and from one that goes on learning beside
the steps, by measured slopes. What is measured is kept in the folder, from which a later run goes on;
another folder measures anew. Ways that are named are measured again, and take the place of those kept.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import numpy as np
from fields import Fields, pictures, rain
from functions import CASES, LATER
from measured import WAYS, Row, measured

_NETWORKS = ("frozen", "with descents", "live")
"""Ways that say something of curves; that by measured slopes has the network of the frozen one."""
_TABLES: dict[str, dict[str, str]] = {
    "Removed from blurred fields, %": {way: f"removed from blurred, %: {way}" for way in WAYS},
    "Removed from noisy fields, %": {way: f"removed from noisy, %: {way}" for way in WAYS},
    "R2": {
        "held out": "R2: frozen",
        **{f"on descents: {way}": f"R2 on descents: {way}" for way in _NETWORKS},
    },
}
"""Columns of each table, by heading."""


def main() -> None:
    """Measure the metrics that are named, print a table, and write it to the page."""
    parser = argparse.ArgumentParser(
        description="Measure ways to a gradient of metrics without relaxation.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    known = CASES | LATER
    parser.add_argument("--only", nargs="+", choices=known, default=list(CASES), help="metrics")
    parser.add_argument("--ways", nargs="+", choices=WAYS, help="ways to measure again; default: none")
    parser.add_argument("--budget", type=int, default=12800, help="fields that each network learns on")
    parser.add_argument("--out", type=Path, default=Path("docs/live"), help="folder of the figures")
    parser.add_argument("--page", type=Path, help="to write the table to, between its markers")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    data: dict[str, Fields] = {}
    rows: dict[str, Row] = {}
    for name in arguments.only:
        path = arguments.out / f"{name.replace(': ', '-')}.json"
        kept = json.loads(path.read_text()) if path.exists() else {}
        if arguments.ways or not kept:
            case = known[name]
            if case.fields not in data:
                data[case.fields] = {"rain": rain, "pictures": pictures}[case.fields]()
            ways = (arguments.ways if kept else None) or WAYS
            kept |= measured(case.metric(), data[case.fields], arguments.budget, ways)
            path.write_text(json.dumps(kept, indent=1))
        rows[name] = kept
        print(f"{name}: {rows[name]}", flush=True)
    text = "\n\n".join(f"**{title}**\n\n{table(rows, columns)}" for title, columns in _TABLES.items())
    print(text)
    if arguments.page:
        marker = "later" if set(rows) <= set(LATER) else "table"
        marked = f"<!-- {marker} -->\n{text}\n<!-- end -->"
        page = arguments.page.read_text()
        arguments.page.write_text(
            re.sub(rf"<!-- {marker} -->.*?<!-- end -->", lambda _: marked, page, flags=re.S)
        )


def table(rows: dict[str, Row], columns: dict[str, str]) -> str:
    """In Markdown: a line for each metric, and the middle and least of each column."""
    found = [f"| metric | {' | '.join(columns)} |", "| --- |" + len(columns) * " ---: |"]
    found += [_line(name, columns, row) for name, row in rows.items()]
    for name, of in (("*median*", np.median), ("*least*", np.min)):
        known = {c: [row[c] for row in rows.values() if row[c] is not None] for c in columns.values()}
        found.append(_line(name, columns, {c: float(of(v)) if v else None for c, v in known.items()}))
    return "\n".join(found)


def _line(name: str, columns: dict[str, str], row: Row) -> str:
    return f"| {name} | {' | '.join(_shown(column, row[column]) for column in columns.values())} |"


def _shown(column: str, figure: float | None) -> str:
    """Shares as whole percents, R2 to two places."""
    if figure is None:
        return "-"
    return f"{figure:.0f}" if column.startswith("removed") else f"{figure:.2f}"


if __name__ == "__main__":
    main()
