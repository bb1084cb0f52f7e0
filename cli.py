"""The `emuloss` command."""

from __future__ import annotations

from typing import Annotated

import typer

from ._command import QUIET_TYPER, run
from .train_surrogate import train


def main(arguments: list[str] | None = None) -> int:
    """Run the `emuloss` command; returns its exit code."""
    app = typer.Typer(help="Turn any metric of a 2-D field into a training loss.", **QUIET_TYPER)
    app.command()(train)
    app.command("list")(list_metrics)
    app.command()(show)
    return run(app, arguments)


def list_metrics() -> None:
    """List the metrics that can be emulated."""
    from . import metrics

    for name in metrics.list_metrics():
        print(name)


def show(directory: Annotated[str, typer.Argument(help="folder of a frozen surrogate")]) -> None:
    """Show what a frozen surrogate emulates, and how well."""
    from .evaluation import summary_table
    from .zoo import load

    surrogate = load(directory)
    print(f"{surrogate.metric!r}, {surrogate.architecture}")
    print(summary_table(surrogate.evaluation) if surrogate.evaluation else "not evaluated")
