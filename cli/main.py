"""The `emuloss` command."""

from __future__ import annotations

import typer

from .command import QUIET_TYPER, Version, run
from .fields import fields
from .measure import certify, evaluate
from .options import Listing
from .train import label, train
from .zoo import list_names, publish, show, verify


def main(arguments: list[str] | None = None) -> int:
    """Run the `emuloss` command; returns its exit code."""
    app = typer.Typer(**QUIET_TYPER)
    app.callback(invoke_without_command=True)(_whole)
    app.command(cls=Listing)(fields)
    app.command(cls=Listing)(train)
    app.command("label", cls=Listing)(label)
    app.command("list")(list_names)
    app.command()(show)
    app.command()(evaluate)
    app.command()(certify)
    app.command()(verify)
    app.command()(publish)
    return run(app, arguments)


def _whole(context: typer.Context, version: Version = False) -> None:
    """Turn any metric of a 2-D field into a training loss."""
    if context.invoked_subcommand is None:
        print(context.get_help())
