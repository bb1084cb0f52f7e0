"""Commands out of settings: the name, the default and the help of an option stand with the setting."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from ..foundation.options import Option, Options, gathered, options_of


def command(name: str, kinds: Sequence[type[Options]], run: Callable[..., None], help: str) -> Any:
    """A function that typer makes a command of.

    Args:
        name: of the command.
        kinds: the settings whose options it takes.
        run: called with those that are given, by keyword.
        help: what the command says about itself.
    """
    options = {option.key: option for kind in kinds for option in options_of(kind)}

    def call(**given: Any) -> None:
        read = {key: value for key, value in given.items() if value is not None and value != []}
        for key, value in read.items():
            parse = options[key].parse
            read[key] = value if parse is None else parse(options[key].flag, value)
        gathered(kinds, read)  # refuses what cannot be used before anything slow is imported
        run(**read)

    call.__name__, call.__doc__ = name, help
    # What typer reads.
    parameters = [_parameter(option) for option in options.values()]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # functions may have it
    call.__annotations__ = {option.key: _annotated(option) for option in options.values()}
    return call


def _parameter(option: Option) -> inspect.Parameter:
    # Not given is None: what a default means can depend on other options.
    default = inspect.Parameter.empty if option.required else None
    return inspect.Parameter(
        option.key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=_annotated(option)
    )


def _annotated(option: Option) -> Any:
    kind = option.kind if option.required else option.kind | None
    said = option.help
    if option.default not in (None, "") and "default" not in said and not isinstance(option.default, bool):
        said = f"{said}; default: {option.default}"
    flag = f"{option.flag}/--no-{option.flag[2:]}" if option.kind is bool else option.flag
    least, largest = option.within or (None, None)
    return Annotated[kind, typer.Option(flag, help=said, min=least, max=largest)]
