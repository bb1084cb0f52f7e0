"""The command that looks at fields before they are labelled."""

from __future__ import annotations

import inspect
from typing import Any

from ..pipeline.saying import say
from ..pipeline.settings import Data, Looking
from .flags import in_flags
from .options import command

_TOLD = {
    "unit": "--unit",
    "min_coverage": "--min-coverage",
    "size": "--size",
    "skip_unreadable": "--skip-unreadable",
    "nodata": "--source-option nodata",
}
"""Flags of the options that a look may advise."""


def _look(**given: Any) -> None:
    from ..pipeline.looking import look

    print(in_flags(str(look(**given)), _TOLD))
    if "picture" in given:
        say(f"some fields are drawn in {given['picture']}")


fields = command(
    "fields",
    (Data, Looking),
    _look,
    inspect.cleandoc("""
    Look at fields before they are labelled: how many there are, when, in which unit, and what is missing.

    A few chunks (files, time steps or blocks of fields), spread over all of them, are read. Options of the
    source are those of label and train.
    """),
    first="fields",
    keeps=False,
)
