"""The commands that make something of fields: train and label."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from ..foundation.launchers import first_of_several
from ..pipeline.saying import say
from ..pipeline.settings import Data, Labelling, Network, Run, Teacher
from ..training.options import Training
from .command import QUIET_TYPER, run
from .options import Listing, command

if TYPE_CHECKING:
    from ..findings.figures import Figures
    from ..zoo import Surrogate


def _train(**given: Any) -> None:
    from ..pipeline.run import train as train_surrogate

    surrogate = train_surrogate(**given)
    if first_of_several():
        tell(surrogate, given["out"])


def tell(surrogate: Surrogate, folder: Path) -> None:
    """What came out of a training: a table, how to use it, and what it is good for."""
    from ..evaluation import headline, summary_table, verdict_of
    from ..findings.verdict import UNFIT

    figures = cast("Figures", surrogate.evaluation)
    found = verdict_of(figures)
    print(summary_table(figures), flush=True)
    live = "live=True" if found["fit"] == UNFIT else ""
    say(
        f"frozen in {folder}: loss = emuloss.load({str(folder)!r}).as_loss({live}); "
        f"pictures in {folder / 'report.png'}"
    )
    say(f"verdict: {headline(found)}")


def _label(**given: Any) -> None:
    from ..pipeline.labelling import label as label_fields

    store = label_fields(**given)
    counts = ", ".join(f"{number} {role}" for role, number in store.counts.items())
    print(f"{given['out']}: {counts} {'pairs' if store.pairs else 'fields'}; {', '.join(store.outputs)}")


train = command(
    "train",
    (Data, Teacher, Network, Training, Run),
    _train,
    inspect.cleandoc("""
    Label fields with an exact metric, train an emulator, evaluate it, and freeze it as a loss.

    The folder OUT then holds config.json and model.safetensors, for emuloss.load(OUT); report.png,
    evaluation.json, log.csv, labels.h5, and the state from which an interrupted run goes on.

    `accelerate launch` starts it on several devices or machines, which share the folder OUT.
    """),
)
label = command(
    "label",
    (Data, Teacher, Labelling),
    _label,
    "Label fields with an exact metric, and store both in one HDF5 file, without training.",
)


def main(arguments: list[str] | None = None) -> int:
    """Run the training command alone; returns its exit code."""
    app = typer.Typer(**QUIET_TYPER)
    app.command(cls=Listing)(train)
    return run(app, arguments, speaks=first_of_several)
