"""The `emuloss` command."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from ..foundation.lazy import lazily
from .command import QUIET_TYPER, AsGiven, Version, run

BEGINS = {
    "fields": "Look at fields before they are labelled: how many there are, when, in which unit, "
    "and what is missing.",
    "train": "Label fields with an exact metric, train an emulator, evaluate it, and freeze it as a loss.",
    "label": "Label fields with an exact metric, and store both in one HDF5 file, without training.",
    "list": "List the surrogates that ship with the package, or the metrics that can be emulated.",
    "show": "Show what a frozen surrogate emulates, and how well.",
    "evaluate": "Measure a frozen surrogate on labelled fields: fidelity, gradients, descent, "
    "inversion, shift.",
    "certify": "Bound a frozen surrogate's Lipschitz constant, and search for the largest slope that it has.",
    "verify": "Replay the golden outputs that a checkpoint was saved with; fails where they differ.",
    "publish": "Publish a run on the Hugging Face Hub, once its golden outputs replay.",
}
"""How the help of each command begins: what lists them imports none of them."""
_function = lazily(
    "emuloss.cli",
    {
        "fields": ".fields",
        **dict.fromkeys(("train", "label"), ".train"),
        **dict.fromkeys(("list_names", "show", "verify", "publish"), ".zoo"),
        **dict.fromkeys(("evaluate", "certify"), ".measure"),
    },
)
_NAMED = {"list": "list_names"}
"""Functions that are not called as their command."""
_QUICK = ("list", "show")
"""Commands that have texts and flags alone for options."""


class _Quick(AsGiven, TyperCommand):
    """A command that should not take longer to start than to work."""


class _Commands(AsGiven, TyperGroup):
    """Commands each of which is imported once it is asked for."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a name; None where there is none."""
        if cmd_name not in BEGINS:
            return None
        alone = typer.Typer(**QUIET_TYPER)
        kind: type[TyperCommand] = _Quick
        if cmd_name not in _QUICK:
            from .options import Listing as kind
        alone.command(cmd_name, cls=kind)(_function(_NAMED.get(cmd_name, cmd_name)))
        return typer.main.get_command(alone)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List them, by what is known before they are imported."""
        TyperGroup(commands=dict(self.commands)).format_commands(ctx, formatter)


def main(arguments: list[str] | None = None) -> int:
    """Run the `emuloss` command; returns its exit code."""
    app = typer.Typer(cls=_Commands, **QUIET_TYPER)
    app.callback(invoke_without_command=True)(_whole)
    for name, begins in BEGINS.items():
        app.command(name, help=begins)(_stand_in)
    return run(app, arguments)


def _stand_in() -> None:
    """What stands in a list for a command that is not imported yet."""


def _whole(context: typer.Context, version: Version = False) -> None:
    """Turn any metric of a 2-D field into a training loss."""
    if context.invoked_subcommand is None:
        print(context.get_help())
