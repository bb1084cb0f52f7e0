"""Faces of packages whose parts are imported when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A `__getattr__` for a package.

    Args:
        package: its `__name__`.
        homes: where it has each of its names from, relative to it: {"load": ".zoo"}; a part as such is its
            own: {"plot": "."}.
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if homes[name] == ".":
            return import_module(f".{name}", package)
        return getattr(import_module(homes[name], package), name)

    return find
