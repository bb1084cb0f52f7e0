"""The reference: a page for everything that the package offers by name, found by asking it."""

import inspect
from importlib import import_module

import emuloss

from . import put

FLOORS = ("metrics", "datasets", "emulators", "losses", "evaluation", "zoo", "training")
"""Floors whose faces are for those who extend the package."""


def write(app, config) -> None:
    """The pages of the reference."""
    offered = {name: getattr(emuloss, name) for name in emuloss.__all__}
    groups = {"Functions": [], "Classes": [], "Modules": [], "Errors": []}
    for name, thing in sorted(offered.items(), key=lambda item: item[0].lower()):
        groups[_kind(thing)].append(f"emuloss.{name}")
        put(f"api/emuloss.{name}.rst", _page(f"emuloss.{name}", thing))
    parts = [
        "API reference\n=============\n",
        "Everything below is at hand after ``import emuloss``, which itself imports little: the rest is "
        "loaded on first use. Each page ends with the tutorials that use it.\n",
    ]
    for title, names in groups.items():
        if names:
            parts.append(_heading(title, "-") + _table(names) + _toctree(names))
    shown = {id(thing) for thing in offered.values()}
    names = []
    for floor in FLOORS:
        put(f"api/emuloss.{floor}.rst", _floor(floor, shown))
        names.append(f"emuloss.{floor}")
    parts.append(_heading("For those who extend it", "-") + _table(names) + _toctree(names))
    put("api/index.rst", "\n".join(parts))


def _kind(thing) -> str:
    if inspect.ismodule(thing):
        return "Modules"
    if inspect.isclass(thing):
        return "Errors" if issubclass(thing, Exception) else "Classes"
    return "Functions"


def _heading(title: str, line: str) -> str:
    return f"{title}\n{line * len(title)}\n\n"


def _summary(name: str) -> str:
    """First sentence of a docstring, code in two backticks, on one line."""
    owner, _, last = name.rpartition(".")
    thing = getattr(import_module(owner), last, None)
    thing = import_module(name) if thing is None else thing
    first = (inspect.getdoc(thing) or "").strip().partition("\n\n")[0].replace("\n", " ")
    return first.replace("`", "``").replace("*", r"\*").replace("|", r"\|")


def _table(names: list[str]) -> str:
    rows = "".join(
        f"   * - :doc:`{name.removeprefix('emuloss.')} <{name}>`\n     - {_summary(name)}\n" for name in names
    )
    return f".. list-table::\n   :class: names\n   :widths: 26 74\n\n{rows}\n"


def _toctree(names: list[str]) -> str:
    return ".. toctree::\n   :hidden:\n\n" + "".join(f"   {name}\n" for name in names) + "\n"


def _directive(name: str, thing) -> str:
    if inspect.isclass(thing):
        return f".. autoclass:: {name}\n   :members:\n   :show-inheritance:\n\n"
    if callable(thing):
        return f".. autofunction:: {name}\n\n"
    return f".. autodata:: {name}\n   :no-value:\n\n"


def _page(name: str, thing) -> str:
    title = _heading(name, "=")
    if inspect.ismodule(thing):
        names = getattr(thing, "__all__", None) or [each for each in vars(thing) if not each.startswith("_")]
        body = f".. automodule:: {name}\n\n"
        body += "".join(_directive(f"{name}.{each}", getattr(thing, each)) for each in names)
    else:
        body = _directive(name, thing)
    return f"{title}{body}.. minigallery:: {name}\n   :add-heading: Used in\n   :heading-level: -\n"


def _floor(floor: str, shown: set[int]) -> str:
    """The face of a floor, without what has a page of its own, and without values that are no code."""
    name = f"emuloss.{floor}"
    module = import_module(name)
    body = f".. automodule:: {name}\n\n"
    for each in module.__all__:
        thing = getattr(module, each)
        # A page of its own, or of the floor that defines it.
        if id(thing) in shown or not callable(thing):
            continue
        shown.add(id(thing))
        body += _directive(f"{name}.{each}", thing)
    return _heading(name, "=") + body
