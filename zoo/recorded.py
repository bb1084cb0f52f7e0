"""Figures of an evaluation as a checkpoint records them, which anyone may have written: checked, and told."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, cast, get_args, get_origin, get_type_hints, is_typeddict

from ..errors import CheckpointError, plain
from ..findings.figures import Figures
from ..findings.tables import summary_table
from ..foundation.rules import Rule, an_object, first, list_of, number, optional, text, whole

_MOST = 4096
"""Entries of a list, or of an object."""
_WORDS = text(1000)
_PLAIN: Mapping[Any, Rule] = {float: number, int: whole(-(2**53), 2**53), str: _WORDS}


def summary(evaluation: dict[str, Any]) -> str:
    """The recorded figures as a table for people, of text that terminals take as it is.

    Raises:
        CheckpointError: they are not those of an evaluation.
    """
    problem = _rule_of(Figures)(evaluation, "evaluation")
    if not problem:
        try:
            return summary_table(cast(Figures, evaluation))
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            problem = f"its parts do not belong together ({type(error).__name__})"
    raise CheckpointError(
        f"its evaluation cannot be shown: {plain(problem)}; measure it anew with `emuloss evaluate`"
    )


@cache
def _rule_of(kind: Any) -> Rule:
    """The rule for values of a type: number, text, list, object, or one of these and None."""
    if is_typeddict(kind):
        return _record(kind)
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        (given,) = (each for each in inner if each is not NoneType)
        return optional(_rule_of(given))
    if origin is list:
        return list_of(_rule_of(inner[0]), 0, _MOST)
    if origin is dict:
        return _mapping(_rule_of(inner[1]))
    return _PLAIN.get(kind, lambda value, place: "")


def _record(kind: Any) -> Rule:
    """Objects with the keys of a TypedDict; others, which later versions may write, are passed over."""
    rules = {name: _rule_of(each) for name, each in get_type_hints(kind).items()}
    required = [name for name in rules if name in kind.__required_keys__]

    def rule(value: Any, place: str) -> str:
        if not isinstance(value, dict):
            return an_object(value, place)
        missing = [name for name in required if name not in value]
        if missing:
            return f"{place} lacks {', '.join(missing)}"
        return first(rules[name](value[name], f"{place}.{name}") for name in rules if name in value)

    return rule


def _mapping(rule_of_values: Rule) -> Rule:
    """Objects whose keys are names."""

    def rule(value: Any, place: str) -> str:
        if not isinstance(value, dict) or len(value) > _MOST:
            return an_object(value, place) or f"{place} has more than {_MOST} entries"
        return first(
            _WORDS(name, f"a name in {place}") or rule_of_values(each, f"{place}.{name}")
            for name, each in value.items()
        )

    return rule
