"""The commands about surrogates that exist: list, show, verify, publish."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import ArgumentError, printable
from .flags import flagged
from .teachers import Teacher, introduce

Source = Annotated[str, typer.Argument(help="bundled name, folder, or org/repo[@revision] on the Hub")]


def list_names(
    filter: Annotated[str, typer.Argument(help='names to list, such as "*opera*"')] = "",
    metrics: Annotated[bool, typer.Option("--metrics", help="list the exact metrics")] = False,
) -> None:
    """List the surrogates that ship with the package, or the metrics that can be emulated."""
    from ..zoo import info, list_models

    if metrics:
        _print_metrics(filter)
        return
    names = list_models(filter)
    if not names:
        raise ArgumentError(f"no bundled surrogate matches {filter!r}; there are {', '.join(list_models())}")
    print("\n".join(str(info(name)) for name in names))


def _print_metrics(filter: str) -> None:
    """A table of the metrics whose names match."""
    from ..emulators import relaxable
    from ..metrics import list_metrics, metric, takes
    from ..zoo import info, list_models
    from ..zoo.names import matches

    pretrained = {info(name).metric for name in list_models()}
    rows = [("metric", "arity", "outputs", "relaxation", "pretrained")]
    for name in list_metrics():
        if not matches(name, filter):
            continue
        needed: dict[str, Any] = {"thresholds": [1.0]} if "thresholds" in takes(name) else {}
        example = metric(name, **needed)
        relaxed = _yes(relaxable(example))
        if relaxed == "no" and "outputs" in takes(name):
            alone = [x for x in example.outputs if relaxable(metric(name, **needed, outputs=[x]))]
            relaxed = ", ".join(alone) or relaxed
        outputs = ", ".join(example.outputs)
        rows.append((name, str(example.arity), outputs, relaxed, _yes(name in pretrained)))
    if len(rows) == 1:
        raise ArgumentError(f"no metric matches {filter!r}; there are {', '.join(list_metrics())}")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print("or any Python function of yours: --metric FILE.py:NAME or MODULE:NAME")


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"


def show(source: Source) -> None:
    """Show what a frozen surrogate emulates, and how well."""
    from ..zoo import info
    from ..zoo.recorded import summary

    found = info(source)
    print(found)
    print(summary(found.evaluation) if found.evaluation else "not evaluated")


def verify(source: Source, teacher: Teacher = None) -> None:
    """Replay the golden outputs that a checkpoint was saved with; fails where they differ."""
    from ..zoo import verify as replay

    introduce(teacher)
    replay(source)
    print(f"{printable(source)} gives what it gave when it was saved")


@flagged(teacher="--metric")
def publish(
    folder: Annotated[Path, typer.Argument(help="folder of a run, evaluated")],
    repo: Annotated[str, typer.Argument(help="org/repo on the Hugging Face Hub")],
    private: Annotated[bool, typer.Option("--private", help="make a new repository private")] = False,
    revision: Annotated[str | None, typer.Option(help="branch; default: main")] = None,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="open a pull request instead")] = False,
    tag: Annotated[str | None, typer.Option(help="name for the new commit, such as v1")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show what would be sent")] = False,
    teacher: Teacher = None,
) -> None:
    """Publish a run on the Hugging Face Hub, once its golden outputs replay."""
    from ..zoo import publish as send

    introduce(teacher)
    print(
        send(folder, repo, private=private, revision=revision, create_pr=create_pr, tag=tag, dry_run=dry_run)
    )
