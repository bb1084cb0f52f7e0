"""Functions and classes of the user's own: where they stand, and which of them this process may call."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import ArgumentError, one_line
from ..foundation.digests import digest_of_function
from ..foundation.near import did_you_mean

_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
PASSED = ("thresholds", "pixel_size")
"""Attributes of the metric that a function gets which has a parameter of that name."""


def is_spec(name: str) -> bool:
    """Whether a metric's name is the place of a function."""
    return ":" in name


def passed_to(function: str | Callable[..., Any]) -> tuple[str, ...]:
    """The attributes of a metric that a function, or that at a place, takes: thresholds, pixel_size.

    Raises:
        ArgumentError: no such module, file or function.
    """
    return parameters_of(find(function).function if isinstance(function, str) else function, PASSED)


@dataclass(frozen=True)
class Found:
    """A function of the user's own.

    Attributes:
        source: where a configuration says that it is.
        location: where a worker process finds it; "" where none can.
        function: the function.
    """

    source: str
    location: str
    function: Callable[..., Any]


NAMED: dict[str, Found] = {}
"""The functions that the user named in this process, by source: the only ones that configurations reach."""
CLASSES: dict[type, Found] = {}
"""The classes that the user named in this process and that other processes find in a file alone."""
_FILES: dict[str, tuple[tuple[int, int], ModuleType]] = {}
"""Files that were run, by absolute path, with their time of change and size."""


def find(spec: str) -> Found:
    """The function or class at a place, whose module or file is run.

    Args:
        spec: "module:NAME" or "path/file.py:NAME"; NAME may be that of the metric that a class is, too.

    Raises:
        ArgumentError: no such module, file or function.
    """
    place, _, name = spec.rpartition(":")
    in_file = place.endswith(".py")
    if not _NAME.fullmatch(name) or not (in_file or _NAME.fullmatch(place)):
        raise ArgumentError(f"metric {spec!r} must be 'module:function' or 'path/file.py:function'")
    if place == "__main__":
        raise ArgumentError(
            f"metric {spec!r}: worker processes cannot import __main__; put the function into a file of its "
            f"own and name it 'file.py:{name}'"
        )
    if in_file:
        path = Path(place).expanduser().resolve()
        module, source, location = _run_file(path), f"{path.name}:{name}", f"{path}:{name}"
    else:
        module, location = _import(place, name)
        source = spec
    function: Any = module
    for part in name.split("."):
        function = getattr(function, part, None)
    if not callable(function):
        named = [each for each in vars(module).values() if isinstance(each, type)]
        function = next((each for each in named if getattr(each, "name", None) == name), None)
    if not callable(function):
        there = {key: value for key, value in vars(module).items() if callable(value) and key[0] != "_"}
        own = [key for key, value in there.items() if getattr(value, "__module__", "") == module.__name__]
        known = ", ".join((own or list(there))[:10]) or "none"
        raise ArgumentError(
            f"{place} has no function or class {name!r}; it has {known}{did_you_mean(name, own)}"
        )
    return Found(source, location, function)


def class_at(spec: str) -> Any:
    """The class at a place, or whatever is there, which this process now finds again where it pickles it.

    Raises:
        ArgumentError: no such module, file or class.
    """
    found = find(spec)
    if isinstance(found.function, type) and found.location.rpartition(":")[0].endswith(".py"):
        CLASSES[found.function] = found
    return found.function


def found_of(function: Callable[..., Any]) -> Found:
    """A function that the user holds; others can import it where its module has it under its own name."""
    module, name = getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
    if not name:
        raise ArgumentError(f"a metric's function must have a name, got {function!r}; define it with def")
    there: Any = sys.modules.get(module)
    for part in name.split("."):
        there = getattr(there, part, None)
    named = f"{module}:{name.replace('<', '').replace('>', '')}"
    return Found(named, _location(module, name) if there is function else "", function)


def _location(module: str, name: str) -> str:
    """Where another process finds what a module has under a name; "" where it finds nothing.

    A script is not run once more, for it would do all that it does.
    """
    if module == "__main__":
        return ""
    if PathFinder.find_spec(module.partition(".")[0]) is not None:
        return f"{module}:{name}"
    file = getattr(sys.modules[module], "__file__", None) or ""
    return f"{file}:{name}" if file.endswith(".py") else ""


def digest_of(found: Found) -> str:
    """Digest of the file in which a function stands; of itself where no other process finds it."""
    file = getattr(inspect.getmodule(found.function), "__file__", None)
    if found.location and file and Path(file).is_file():
        content = Path(file).read_bytes()
    else:
        content = digest_of_function(found.function)
    return hashlib.sha256(content).hexdigest()[:16]


def _import(name: str, function: str) -> tuple[ModuleType, str]:
    """A module by its name, or that of a file in the working directory, and where workers find it."""
    try:
        return importlib.import_module(name), f"{name}:{function}"
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ArgumentError(f"module {name!r} cannot be imported: {one_line(error)}") from error
        path = Path(*name.split(".")).with_suffix(".py").resolve()
        if not path.is_file():
            raise ArgumentError(
                f"there is no module {name!r}; give 'module:function' or 'path/file.py:function'"
            ) from None
        return _run_file(path), f"{path}:{function}"
    except (Exception, SystemExit) as error:
        raise ArgumentError(f"module {name!r} cannot be imported: {one_line(error)}") from error


def _run_file(path: Path) -> ModuleType:
    """The module that a file makes; run anew where the file has changed."""
    if not path.is_file():
        raise ArgumentError(f"{path} does not exist; give a function as 'path/file.py:function'")
    facts = path.stat()
    state = (facts.st_mtime_ns, facts.st_size)
    known = _FILES.get(str(path))
    if known is not None and known[0] == state:
        return known[1]
    name = f"emuloss_function_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ArgumentError(f"{path} cannot be imported; give a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))  # for what the file imports from beside it
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ArgumentError(f"{path} cannot be run: {one_line(error)}") from error
    finally:
        sys.path.remove(str(path.parent))
    _FILES[str(path)] = (state, module)
    return module


def parameters_of(function: Callable[..., Any], names: Iterable[str]) -> tuple[str, ...]:
    """Those of some names that a function has parameters of."""
    try:
        known = inspect.signature(function).parameters
    except (TypeError, ValueError):  # some functions written in C have no signature
        return ()
    return tuple(name for name in names if name in known)


def failure(found: Found, arity: int, error: Exception) -> str:
    """What to tell of an error that a function raised; one that wants two arrays can have them."""
    told = f"{found.source} raised {one_line(error)}"
    if isinstance(error, TypeError) and arity == 1 and _number_of_arrays(found.function) == 2:
        told += "; for a prediction and an observation give arity=2 (a command: --metric-option arity=2)"
    return told


def _number_of_arrays(function: Callable[..., Any]) -> int | None:
    """How many arrays a function has to be given, beside what it is told of the metric; None if not known."""
    try:
        known = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    given = (each for each in known if each.kind in by_position and each.name not in PASSED)
    return sum(each.default is inspect.Parameter.empty for each in given)
