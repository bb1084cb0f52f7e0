"""The option by which commands get to know a metric of the user's own."""

from __future__ import annotations

from typing import Annotated

import typer

Teacher = Annotated[
    str | None,
    typer.Option("--metric", help="place of a metric of yours, FILE.py:NAME: a checkpoint imports nothing"),
]


def introduce(teacher: str | None) -> None:
    """Run the place of a metric, if there is one, so that a checkpoint may speak of it.

    Raises:
        ArgumentError: no such place, or nothing there that is a metric.
    """
    from ..metrics import registry
    from ..pipeline.parsing import metric_name

    if teacher is not None:
        registry.introduce(metric_name("--metric", teacher))
