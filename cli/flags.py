"""Errors in the words of whoever hears them: the package names arguments, a command line its flags."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..errors import EmulossError


class Told(EmulossError):
    """An error in the words of the command line."""


@contextmanager
def told_in_flags(flags: Callable[[], Mapping[str, str]]) -> Iterator[None]:
    """A block whose errors name flags where they named arguments.

    Args:
        flags: gives them by the name of the argument, once there is an error; see `in_flags`.

    Raises:
        Told: an error of the package.
    """
    try:
        yield
    except EmulossError as error:
        raise Told(in_flags(str(error), flags())) from error


def flagged(**flags: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorator of a command: its errors name flags, those given, or else the parameters with dashes."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        known = {name: f"--{name.replace('_', '-')}" for name in inspect.signature(command).parameters}

        @functools.wraps(command)
        def call(*given: Any, **named: Any) -> None:
            with told_in_flags(lambda: known | flags):
                command(*given, **named)

        return call

    return decorate


def in_flags(message: str, flags: Mapping[str, str]) -> str:
    """A message that names arguments, with their flags in place of them.

    An argument is named at the beginning of a message, in backquotes, or before an equals sign.

    Args:
        message: in one line.
        flags: by the name of the argument, such as {"size": "--size", "windows": "--metric-option windows"}.
    """
    names = "|".join(map(re.escape, flags))
    places = rf"^({names})(?= [\w(])|`({names})`|(?<![\w.'\"`-])({names})(?==)"
    return re.sub(places, lambda found: flags[found[found.lastindex or 0]], message)
