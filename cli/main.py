"""The `emuloss` command."""

from __future__ import annotations

import typer

from .command import QUIET_TYPER, run
from .measure import certify, evaluate
from .train import label, train
from .zoo import list_names, publish, show, verify


def main(arguments: list[str] | None = None) -> int:
    """Run the `emuloss` command; returns its exit code."""
    app = typer.Typer(help="Turn any metric of a 2-D field into a training loss.", **QUIET_TYPER)
    app.command()(train)
    app.command("label")(label)
    app.command("list")(list_names)
    app.command()(show)
    app.command()(evaluate)
    app.command()(certify)
    app.command()(verify)
    app.command()(publish)
    return run(app, arguments)
