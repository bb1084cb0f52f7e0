"""What the package's commands share: settings, and how errors end."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import typer

from ..errors import EmulossError

QUIET_TYPER: dict[str, Any] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,
}
"""Settings of every command: one line an error, no traceback drawn by typer."""

_INTERRUPTED = 130
"""Exit code after Ctrl-C, by convention 128 + SIGINT."""


def run(
    app: typer.Typer, arguments: list[str] | None = None, *, speaks: Callable[[], bool] = lambda: True
) -> int:
    """Run a command line: bad arguments and unusable data end in one line and exit code 2.

    Args:
        app: the commands.
        arguments: of the command line; default: this program's.
        speaks: whether this process says why it ends; see `emuloss.foundation.launchers.first_of_several`.

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
