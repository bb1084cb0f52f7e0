"""Errors in the words of whoever hears them: the package names arguments, a command line its flags."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

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
