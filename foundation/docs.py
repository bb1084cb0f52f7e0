"""What `help` shows of functions whose arguments are those of others: it is read there, never repeated."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def arguments_in(documented: Any) -> str:
    """The entries of the section Args in a docstring, as they stand; "" where there is none.

    Of a class it is that of its own docstring, of its `__init__`, or of the nearest class above it.
    """
    places = [documented]
    if isinstance(documented, type):
        places = [place for kind in documented.__mro__ for place in (kind, vars(kind).get("__init__", kind))]
    return next(filter(None, map(_section, places)), "")


def _section(documented: Any) -> str:
    text = inspect.cleandoc(documented.__doc__ or "")
    found = re.search(r"^Args:\n((?:[ \t]+\S.*\n|\n)+)", f"{text}\n", re.MULTILINE)
    return textwrap.dedent(found[1]).strip() if found else ""


def entry(name: str, documented: Any) -> str:
    """What a class or function is, in a section on several: its arguments, its first line, and theirs."""
    parameters = inspect.signature(documented).parameters.values()
    plain = inspect.Signature([each.replace(annotation=each.empty) for each in parameters])
    first = inspect.cleandoc(documented.__doc__ or "").partition("\n")[0]
    text = f"{name}{plain}: {first}"
    return f"{text}\n{textwrap.indent(arguments_in(documented), '    ')}".rstrip()


def with_section(doc: str | None, heading: str, entries: Iterable[str]) -> str:
    """A docstring that ends with one more section."""
    body = textwrap.indent("\n\n".join(entries), "    ")
    return f"{inspect.cleandoc(doc or '')}\n\n{heading}:\n{body}\n"


def takes_those_of(*documented: Any) -> Callable[[F], F]:
    """Decorator: a function gets from the sections Args of what it hands its arguments on to those it has."""

    def decorate(function: F) -> F:
        names = inspect.signature(function).parameters
        told = "\n".join(arguments_in(each) for each in documented)
        entries = {
            each.partition(":")[0]: each.rstrip() for each in re.split(r"^(?=\w)", told, flags=re.MULTILINE)
        }
        own = "\n".join(entries[name] for name in names if name in entries)
        text = inspect.cleandoc(function.__doc__ or "")
        following = "\nReturns:" if "\nReturns:" in text else "\nRaises:"
        text = text.replace(following, f"\nArgs:\n{textwrap.indent(own, '    ')}\n{following}", 1)
        function.__doc__ = text
        return function

    return decorate
