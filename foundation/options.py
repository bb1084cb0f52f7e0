"""Settings that Python callers fill and commands take: each has its name, default and help in one place."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, get_type_hints

from ..errors import ArgumentError
from .near import did_you_mean

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
        choices: gives the values that there are to choose from, as a help lists them; None where that is
            open.
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
    choices: Callable[[], Iterable[str]] | None

    def described(self) -> str:
        """What it is, and what there is to choose from."""
        listed = "" if self.choices is None else f": {' | '.join(self.choices())}"
        said, semicolon, default = self.help.partition("; default")
        return f"{said}{listed}{semicolon}{default}"


def option(
    default: Any = dataclasses.MISSING,
    help: str = "",
    *,
    key: str = "",
    flag: str = "",
    kind: Any = None,
    parse: Callable[[str, Any], Any] | None = None,
    within: tuple[int, int] | None = None,
    choices: Callable[[], Iterable[str]] | None = None,
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
        choices: gives the values that there are to choose from; called for a help alone, since what knows
            them may be slow to import.
    """
    said = {"help": help, "key": key, "flag": flag, "kind": kind, "parse": parse, "within": within}
    metadata = {"option": {**said, "choices": choices}}
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
            choices=said["choices"],
        )


def gathered(kinds: Sequence[type[Options]], given: Mapping[str, Any]) -> list[Any]:
    """Settings of some kinds, filled from a flat call, or given as a whole: `training=Training(minutes=3)`.

    Raises:
        ArgumentError: an option that none of them has, or one that is missing; settings of another kind, or
            beside options of their own; whatever they refuse.
    """
    known = {option.key: option for kind in kinds for option in options_of(kind)}
    names = (*known, *map(whole_of, kinds))
    if unknown := [key for key in given if key not in names]:
        meant = did_you_mean(unknown[0], names)
        raise ArgumentError(f"there is no option {unknown[0]!r}{meant}; options are {', '.join(names)}")
    return [_filled(kind, given) for kind in kinds]


def whole_of(kind: type[Options]) -> str:
    """The name under which a flat call takes settings of a kind as a whole."""
    return kind.__name__.lower()


def _filled(kind: type[S], given: Mapping[str, Any]) -> S:
    """Settings of a kind out of a flat call."""
    options, name = list(options_of(kind)), whole_of(kind)
    asked = [option for option in options if option.key in given]
    whole = given.get(name)
    if whole is None:
        if missing := [option for option in options if option.required and option.key not in given]:
            raise ArgumentError(f"{missing[0].key} is missing: {missing[0].help}")
        return kind.of(**{option.field: given[option.key] for option in asked})
    if not isinstance(whole, kind):
        raise ArgumentError(f"{name} must be settings of kind {kind.__name__}, got {whole!r}")
    if asked:
        raise ArgumentError(f"{asked[0].key} is given beside {name}; set it in {kind.__name__}(...)")
    return whole


def flat(*kinds: type[Options]) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Decorator: a function of settings becomes one of their options, by keyword, documented from them.

    Settings may be given as a whole instead, each kind under its name in small letters. The docstring, which
    has a section on what the function returns, gets one on them before.
    """

    def decorate(function: Callable[..., R]) -> Callable[..., R]:
        options = [option for kind in kinds for option in options_of(kind)]

        @functools.wraps(function)
        def call(**given: Any) -> R:
            return function(*gathered(kinds, given))

        defaults = {
            option.key: inspect.Parameter.empty if option.required else option.default for option in options
        }
        defaults |= dict.fromkeys(map(whole_of, kinds))
        parameters = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default)
            for key, default in defaults.items()
        ]
        vars(call).update(__signature__=inspect.Signature(parameters))  # what inspect, and so `help`, reads
        said = "".join(f"    {option.key}: {option.described()}.\n" for option in options)
        said += "".join(
            f"    {whole_of(kind)}: `{kind.__name__}` in place of its options above.\n" for kind in kinds
        )
        text = inspect.cleandoc(function.__doc__ or "")
        call.__doc__ = text.replace("\nReturns:", f"\nArgs:\n{said}\nReturns:")
        return call

    return decorate
