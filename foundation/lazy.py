"""Faces of packages whose parts are imported when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A `__getattr__` for a package.

    Args:
        package: its `__name__`.
        homes: where it has each of its names from, relative to it: {"load": ".zoo"}; a part of its own has
            itself as its home: {"plot": ".plot"}.
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = import_module(homes[name], package)
        return home if homes[name] == f".{name}" else getattr(home, name)

    return find
