"""Commands out of settings: the name, the default and the help of an option stand with the setting."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperOption

from ..errors import EmulossError
from ..foundation.interrupts import ENDED
from ..foundation.options import Option, Options, gathered, options_of
from .command import Kept
from .flags import told_in_flags


class Listing(TyperCommand):
    """A command whose help lists what there is to choose from, which is looked up for the help alone."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        described: Mapping[str, Callable[[], str]] = getattr(self.callback, "described", {})
        for parameter in self.params:
            if isinstance(parameter, TyperOption | TyperArgument) and parameter.name in described:
                parameter.help = described[parameter.name]()
        super().format_help(ctx, formatter)


def command(
    name: str,
    kinds: Sequence[type[Options]],
    run: Callable[..., None],
    help: str,
    *,
    first: str = "",
    keeps: bool = True,
) -> Any:
    """A function that typer makes a command of, of class `Listing`.

    Args:
        name: of the command.
        kinds: the settings whose options it takes.
        run: called with those that are given, by keyword.
        help: what the command says about itself.
        first: the option that it takes without a flag, as the first word after its name; none if empty.
        keeps: whether its work is kept when it is interrupted.
    """
    options = {option.key: option for kind in kinds for option in options_of(kind)}

    def call(**given: Any) -> None:
        read = {key: value for key, value in given.items() if value is not None and value != []}
        with told_in_flags(lambda: _flags(options, read) | ({first: first.upper()} if first else {})):
            for key, value in read.items():
                parse = options[key].parse
                read[key] = value if parse is None else parse(options[key].flag, value)
            gathered(kinds, read)  # refuses what cannot be used before anything slow is imported
            try:
                run(**read)
            except ENDED as end:
                if not keeps:
                    raise
                raise Kept(end) from end

    call.__name__, call.__doc__ = name, help
    annotations = {option.key: _annotated(option, option.key == first) for option in options.values()}
    call.__annotations__ = annotations
    vars(call).update(
        # What typer reads, and what `Listing` does.
        __signature__=inspect.Signature(
            [_parameter(option, annotations[option.key]) for option in options.values()]
        ),
        described={key: _describing(option) for key, option in options.items()},
    )
    return call


def _flags(options: Mapping[str, Option], read: Mapping[str, Any]) -> dict[str, str]:
    """The flags of arguments: of options, of what is given as KEY=VALUE, of what metric and source take."""
    found = {option.key: option.flag for option in options.values()}
    if "metric_options" in options:
        from ..metrics import takes  # needed for errors alone, as is what follows

        with contextlib.suppress(EmulossError):
            names = takes(read.get("metric", options["metric"].default))
            found = {name: f"{options['metric_options'].flag} {name}" for name in names} | found
    if "source_options" in options and isinstance(read.get("fields"), str):
        from ..datasets.sources.opening import options_taken

        with contextlib.suppress(EmulossError):
            taken = options_taken(read["fields"])
            found = {name: f"{options['source_options'].flag} {name}" for name in taken} | found
    for key, value in read.items():
        if isinstance(value, Mapping):
            found = {name: f"{options[key].flag} {name}" for name in value} | found
    return found


def _parameter(option: Option, annotation: Any) -> inspect.Parameter:
    # Not given is None: what a default means can depend on other options.
    default = inspect.Parameter.empty if option.required else None
    return inspect.Parameter(
        option.key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def _annotated(option: Option, first: bool) -> Any:
    kind = option.kind if option.required else option.kind | None
    if first:
        return Annotated[kind, typer.Argument(metavar=option.key.upper(), help=_said(option, option.help))]
    flag = f"{option.flag}/--no-{option.flag[2:]}" if option.kind is bool else option.flag
    least, largest = option.within or (None, None)
    return Annotated[kind, typer.Option(flag, help=_said(option, option.help), min=least, max=largest)]


def _describing(option: Option) -> Callable[[], str]:
    """What gives an option's help with all that there is to choose from."""
    return lambda: _said(option, option.described())


def _said(option: Option, text: str) -> str:
    """A help with the default in it."""
    if option.required or "default" in text:
        return text
    default = option.default
    if isinstance(default, bool):
        default = option.flag if default else f"--no-{option.flag[2:]}"
    return f"{text}; default: {default}"
