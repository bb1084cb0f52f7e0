"""Rules for values that come from a file: what is wrong with one, said in one line."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from numbers import Integral, Real
from typing import Any

from ..errors import ArgumentError
from .limits import LARGEST, LARGEST_COUNT, MOST_COUNTS, shown

Rule = Callable[[Any, str], str]
"""(value, its place in the file) -> what is wrong with it, in one line; empty if nothing is."""


def of(kind: type | tuple[type, ...], what: str, fits: Callable[[Any], Any] = lambda value: True) -> Rule:
    """Values of a type that fit; true and false are no numbers."""

    def rule(value: Any, place: str) -> str:
        if isinstance(value, kind) and not isinstance(value, bool) and fits(value):
            return ""
        return f"{place} must be {what}, got {shown(value)}"

    return rule


def text(longest: int) -> Rule:
    """Printable text."""
    return of(
        str,
        f"printable text of at most {longest} characters",
        lambda value: len(value) <= longest and value.isprintable(),
    )


def whole(low: int, high: int) -> Rule:
    """Whole numbers from low to high."""
    return of(Integral, f"a whole number from {low} to {high}", lambda value: low <= value <= high)


def number_from(low: float, high: float) -> Rule:
    """Numbers from low to high."""
    return of(Real, f"a number from {low:g} to {high:g}", lambda value: low <= value <= high)


def list_of(rule: Rule, fewest: int, most: int) -> Rule:
    """Lists of so many entries, each of which a rule holds for."""
    what = f"a list of {fewest} to {most} entries"
    is_list = of((list, tuple), what, lambda value: fewest <= len(value) <= most)
    return lambda value, place: (
        is_list(value, place) or first(rule(v, f"{place}[{k}]") for k, v in enumerate(value))
    )


def multiples(step: int, what: str) -> Rule:
    """Lists of multiples of a whole number, above 0."""

    def fits(values: Any) -> bool:
        return bool(values) and all(
            isinstance(v, Integral) and int(v) > 0 and not int(v) % step for v in values
        )

    return of((list, tuple), what, fits)


def all_of(*rules: Rule) -> Rule:
    """What each of some rules holds for."""
    return lambda value, place: first(rule(value, place) for rule in rules)


def obey(rules: Mapping[str, Rule], arguments: Mapping[str, Any]) -> None:
    """Hold arguments to their rules.

    Raises:
        ArgumentError: the first one that breaks its rule.
    """
    problem = first(rules[name](value, name) for name, value in arguments.items())
    if problem:
        raise ArgumentError(problem)


def optional(rule: Rule) -> Rule:
    """None, or what a rule holds for."""
    return lambda value, place: "" if value is None else rule(value, place)


def one_or_more(rule: Rule) -> Rule:
    """A value that a rule holds for, or a list of such."""
    several = list_of(rule, 1, 1024)
    return lambda value, place: (several if isinstance(value, list) else rule)(value, place)


def record(rules: Mapping[str, Rule]) -> Rule:
    """Objects of exactly these keys."""

    def rule(value: Any, place: str) -> str:
        if not isinstance(value, dict):
            return an_object(value, place)
        unknown, missing = sorted(value.keys() - rules), sorted(rules.keys() - value)
        if unknown or missing:
            names = f"unknown keys: {', '.join(unknown) or 'none'}; missing: {', '.join(missing) or 'none'}"
            return f"{place} has {names}"
        return first(rules[key](value[key], f"{place}.{key}") for key in rules)

    return rule


def first(problems: Iterator[str]) -> str:
    """The first problem; empty where there is none."""
    return next(filter(None, problems), "")


an_object = of(dict, "an object")
positive = of(Real, "positive", lambda value: 0 < value < math.inf)
number = number_from(-LARGEST, LARGEST)
count = whole(1, LARGEST_COUNT)
counts = list_of(count, 1, MOST_COUNTS)
"""Sizes, scales and windows."""
increasing_numbers = list_of(number, 1, 1024)
"""Thresholds, and what stands for them."""
positive_numbers = list_of(number_from(1e-30, 1e30), 1, 1024)
"""Sizes, one for each threshold."""
