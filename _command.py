"""What the package's commands share: settings, reading of options, and how errors end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import typer

from .errors import ArgumentError, EmulossError

QUIET_TYPER: dict[str, Any] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,
}
"""Settings of every command: one line an error, no traceback drawn by typer."""

_INTERRUPTED = 130
"""Exit code after Ctrl-C, by convention 128 + SIGINT."""
_SEEDED = ("rain", "images")
"""Sources that take the command's seed."""
_LAUNCHED = (
    ("RANK", "WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
)
"""Variables in which launchers of several processes tell each its index, and how many there are."""


def numbers(name: str, text: str | None) -> list[float] | None:
    """Numbers of an option such as "0.1,1,5".

    Raises:
        ArgumentError: not numbers, or not strictly increasing.
    """
    from .metrics.thresholds import as_increasing

    if text is None:
        return None
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise ArgumentError(f"--{name} must be numbers separated by commas, got {text!r}") from None
    return list(as_increasing(f"--{name}", values))


def whole_numbers(name: str, text: str | None) -> list[int] | None:
    """Positive whole numbers of an option such as "16,32".

    Raises:
        ArgumentError: something else.
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise ArgumentError(f"--{name} must be positive whole numbers separated by commas, got {text!r}")
    return [int(part) for part in parts]


def source_options(spec: str, *, seed: int, **given: Any) -> dict[str, Any]:
    """Options of a field source: those that were given, and the seed where the source is random."""
    options = {name: value for name, value in given.items() if value is not None}
    return options | ({"seed": seed} if spec.partition(":")[0] in _SEEDED else {})


def first_of_several() -> bool:
    """Whether this process has the word: of several that a launcher started, the first one alone.

    Only a command whose processes work together may go by it: others that are started side by side, such as
    one `emuloss label` for each part of an archive, know nothing of one another.
    """
    return not any(
        os.environ.get(rank, "0") != "0" and os.environ.get(size, "1") != "1" for rank, size in _LAUNCHED
    )


def run(
    app: typer.Typer, arguments: list[str] | None = None, *, speaks: Callable[[], bool] = lambda: True
) -> int:
    """Run a command line: bad arguments and unusable data end in one line and exit code 2.

    Args:
        app: the commands.
        arguments: of the command line; default: this program's.
        speaks: whether this process says why it ends; see `first_of_several`.

    Returns:
        The exit code.
    """
    try:
        status = app(arguments, standalone_mode=False)
    except EmulossError as error:
        return _fail(speaks, str(error))
    except OSError as error:
        return _fail(speaks, f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
    except (KeyboardInterrupt, typer.Abort):
        status = _INTERRUPTED
    except Exception as error:
        # Typer's own complaints about the command line, whichever click it brings.
        if hasattr(error, "format_message"):
            return _fail(speaks, error.format_message())
        raise
    # Commands return nothing; typer, the code of an early end.
    if status == _INTERRUPTED and speaks():
        print("interrupted; run the same command again to go on", file=sys.stderr)
    return status or 0


def _fail(speaks: Callable[[], bool], message: str) -> int:
    if speaks():
        print(f"error: {' '.join(message.split())}", file=sys.stderr, flush=True)
    return 2
