"""Settings that Python callers fill and commands take: each has its name, default and help in one place."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, get_type_hints

from ..errors import ArgumentError

S = TypeVar("S", bound="Options")
R = TypeVar("R")

SEEDS = (0, 2**32 - 1)
"""The least and the largest seed."""


class Options:
    """A dataclass of settings, some of which are options of flat calls and commands."""

    @classmethod
    def of(cls: type[S], **given: Any) -> S:
        """The settings with those that are given, by field, and their defaults."""
        return cls(**given)


class Option(NamedTuple):
    """A field of settings that flat calls and commands take, too; see `option`.

    Attributes:
        field: name of the field.
        key: name in flat calls.
        flag: name on the command line.
        help: what a command says about it.
        default: of all of them; None where it is required.
        required: whether it has to be given.
        kind: type on the command line.
        parse: (flag, what the command line gives) -> value; None where that is the value.
        within: the least and the largest value on the command line; None where that is open.
    """

    field: str
    key: str
    flag: str
    help: str
    default: Any
    required: bool
    kind: Any
    parse: Callable[[str, Any], Any] | None
    within: tuple[int, int] | None


def option(
    default: Any = dataclasses.MISSING,
    help: str = "",
    *,
    key: str = "",
    flag: str = "",
    kind: Any = None,
    parse: Callable[[str, Any], Any] | None = None,
    within: tuple[int, int] | None = None,
) -> Any:
    """A field of a dataclass that flat calls and commands take, too.

    Args:
        default: of all of them; none where it has to be given.
        help: what a command says about it.
        key: its name in flat calls, where that is not the field's.
        flag: its name on the command line, where that is not --key with dashes.
        kind: its type on the command line, where that is not the field's; text where there is a `parse`.
        parse: (flag, what the command line gives) -> value.
        within: the least and the largest value that the command line takes.
    """
    said = {"help": help, "key": key, "flag": flag, "kind": kind, "parse": parse, "within": within}
    metadata = {"option": said}
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def options_of(settings: type[Options]) -> Iterator[Option]:
    """The options of a dataclass, in order."""
    hints = get_type_hints(settings)
    for field in dataclasses.fields(settings):  # type: ignore[arg-type]  # every `Options` is a dataclass
        if "option" not in field.metadata:
            continue
        said = field.metadata["option"]
        key = said["key"] or field.name
        required = field.default is dataclasses.MISSING
        yield Option(
            field=field.name,
            key=key,
            flag=said["flag"] or f"--{key.replace('_', '-')}",
            help=said["help"],
            default=None if required else field.default,
            required=required,
            kind=said["kind"] or (str if said["parse"] else hints[field.name]),
            parse=said["parse"],
            within=said["within"],
        )


def gathered(kinds: Sequence[type[Options]], given: Mapping[str, Any]) -> list[Any]:
    """Settings of some kinds, filled from a flat call.

    Raises:
        ArgumentError: an option that none of them has, or one that is missing; whatever they refuse.
    """
    known = {option.key: option for kind in kinds for option in options_of(kind)}
    if unknown := [key for key in given if key not in known]:
        raise ArgumentError(f"there is no option {unknown[0]!r}; options are {', '.join(known)}")
    if missing := [key for key, option in known.items() if option.required and key not in given]:
        raise ArgumentError(f"{missing[0]} is missing: {known[missing[0]].help}")
    return [kind.of(**{o.field: given[o.key] for o in options_of(kind) if o.key in given}) for kind in kinds]


def flat(*kinds: type[Options]) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Decorator: a function of settings becomes one of their options, by keyword, documented from them.

    Its docstring, which has a section on what it returns, gets one on them before.
    """

    def decorate(function: Callable[..., R]) -> Callable[..., R]:
        options = [option for kind in kinds for option in options_of(kind)]

        @functools.wraps(function)
        def call(**given: Any) -> R:
            return function(*gathered(kinds, given))

        parameters = [
            inspect.Parameter(
                option.key,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if option.required else option.default,
            )
            for option in options
        ]
        # What inspect, and so `help`, reads.
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # functions may have it
        said = "".join(f"    {option.key}: {option.help}.\n" for option in options)
        text = inspect.cleandoc(function.__doc__ or "")
        call.__doc__ = text.replace("\nReturns:", f"\nArgs:\n{said}\nReturns:")
        return call

    return decorate
