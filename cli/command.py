"""What the package's commands share: settings, and how errors end."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer

from .. import __version__
from ..errors import EmulossError, one_line, printable
from ..foundation.interrupts import ENDED, Terminated, terminations_raised
from ..foundation.threads import sleep_while_waiting

QUIET_TYPER: dict[str, Any] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,
}
"""Settings of every command: one line an error, no traceback drawn by typer."""

_INTERRUPTED = 130
"""Exit code after Ctrl-C, by convention 128 + SIGINT."""
_PIPE_CLOSED = 141
"""Exit code where nobody reads any more, such as after `| head`: 128 + SIGPIPE."""


def _tell_version(asked: bool) -> None:
    if asked:
        print(f"emuloss {__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", help="say which version this is", callback=_tell_version, is_eager=True)
]
"""The option that tells the version, of any command."""


class AsGiven:
    """A command, mixed into a class of typer's, whose options are texts and flags: values stay as they come.

    What typer converts values with takes longer to import than all the rest of it.
    """

    def get_params(self, ctx: Any) -> list[Any]:
        """The options, that which gives help among them."""
        options: list[Any] = super().get_params(ctx)  # type: ignore[misc]  # of the class it is mixed into
        for each in options:
            each.process_value = functools.partial(_as_given, each)
        return options


def _as_given(option: Any, context: Any, value: Any) -> Any:
    """The value of a text or a flag; typer says what is wrong with others, and what is missing."""
    if isinstance(value, str | bool) or (value is None and not option.required):
        return value if option.callback is None else option.callback(context, option, value)
    return type(option).process_value(option, context, value)


class Kept(Exception):
    """What ended a command that keeps what it has done: Ctrl-C, or what batch systems send.

    Attributes:
        code: of the exit.
    """

    def __init__(self, end: BaseException) -> None:
        super().__init__()
        self.code = _code_of(end)


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
    sleep_while_waiting()
    try:
        with terminations_raised(), _warnings_in_one_line():
            # Commands return nothing; typer, the code of an early end.
            code = app(arguments, standalone_mode=False) or 0
            return _end(speaks, "interrupted", code) if code == _INTERRUPTED else code
    except EmulossError as error:
        return _end(speaks, f"error: {error}")
    except BrokenPipeError:
        # What is still to be written on the way out goes nowhere, rather than into another error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except OSError as error:
        place = f": {error.filename}" if error.filename else ""
        return _end(speaks, f"error: {error.strerror or error}{place}")
    except Kept as end:
        return _end(speaks, "interrupted; run the same command again to go on", end.code)
    except (*ENDED, typer.Abort) as end:
        return _end(speaks, "interrupted", _code_of(end))
    except MemoryError as error:
        return _end(speaks, f"error: the memory is too small ({one_line(error)}); take smaller fields")
    except Exception as error:
        # Typer's own complaints about the command line, whichever click it brings.
        if hasattr(error, "format_message"):
            return _end(speaks, f"error: {error.format_message()}")
        raise


@contextlib.contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """A block whose warnings are told like all else that a command says, without the code that warned."""
    usual = warnings.formatwarning
    warnings.formatwarning = _warning_line
    try:
        yield
    finally:
        warnings.formatwarning = usual


def _warning_line(message: Warning | str, *_: object, **__: object) -> str:
    return printable(f"emuloss: warning: {' '.join(str(message).split())}") + "\n"


def _code_of(end: BaseException) -> int:
    """The exit code after a signal."""
    return 128 + end.number if isinstance(end, Terminated) else _INTERRUPTED


def _end(speaks: Callable[[], bool], message: str, code: int = 2) -> int:
    if speaks():
        with contextlib.suppress(OSError):  # a terminal that is closed
            print(printable(" ".join(message.split())), file=sys.stderr, flush=True)
    return code
