"""Digests of functions and of what they hold, the same in every process."""

from __future__ import annotations

import hashlib
import inspect
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

_TOKENS: WeakKeyDictionary[Callable[..., Any], bytes] = WeakKeyDictionary()
"""What stands in this process for functions of which nobody can tell what they hold."""


class _Untold(Exception):
    """Nobody can tell what an object holds."""


def digest_of_function(function: Callable[..., Any]) -> bytes:
    """Digest of a function's text, its defaults, and what it has from the function or object that made it.

    Functions within these are told by the same. Where nobody can tell what is held, the digest is another one
    in each process. What a function finds in its module does not count.
    """
    try:
        return _digest(function, ())
    except (_Untold, RecursionError):
        return _TOKENS.setdefault(function, uuid.uuid4().bytes)


def _digest(value: Any, within: tuple[int, ...]) -> bytes:
    """Digest of a value by its structure; within: what it is held by, which a cycle comes back to."""
    if id(value) in within:
        return _hashed("cycle", [str(within[::-1].index(id(value))).encode()])
    inner = (*within, id(value))

    def each(values: Iterable[Any]) -> list[bytes]:
        return [_digest(one, inner) for one in values]

    kind = type(value).__qualname__
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | np.generic):
        return _hashed(kind, [repr(value).encode()])
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return _hashed(kind, [repr((value.dtype.str, value.shape)).encode(), value.tobytes()])
    if isinstance(value, list | tuple):
        return _hashed(kind, each(value))
    if isinstance(value, set | frozenset):
        return _hashed(kind, sorted(each(value)))
    if isinstance(value, Mapping):
        return _hashed(kind, sorted(a + b for a, b in zip(each(value), each(value.values()), strict=True)))
    if isinstance(value, CodeType):
        return _hashed(kind, [value.co_code, *each([value.co_consts, value.co_names])])
    if isinstance(value, FunctionType):
        return _hashed(kind, each([_text_of(value), *_held_by(value)]))
    if isinstance(value, MethodType):
        return _hashed(kind, each([value.__func__, value.__self__]))
    if isinstance(value, ModuleType | type) or inspect.isbuiltin(value):
        return _hashed(kind, [repr((value.__name__, getattr(value, "__module__", ""))).encode()])
    try:
        made = value.__reduce_ex__(4)
    except Exception as error:  # whatever an object makes of being taken apart
        raise _Untold from error
    parts = (made,) if isinstance(made, str) else made
    return _hashed(kind, each(list(one) if isinstance(one, Iterator) else one for one in parts))


def _hashed(kind: str, parts: Iterable[bytes]) -> bytes:
    """Digest of parts, in their order; one of another division is another one."""
    found = hashlib.sha256(kind.encode())
    for part in parts:
        found.update(len(part).to_bytes(8, "little") + part)
    return found.digest()


def _text_of(function: FunctionType) -> str | CodeType:
    """The text of a function, or its code where it was typed into a prompt."""
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return function.__code__


def _held_by(function: FunctionType) -> list[Any]:
    """Defaults, and the values of names from around the function; None for one that has no value yet."""
    held: list[Any] = [function.__defaults__, function.__kwdefaults__]
    for cell in function.__closure__ or ():
        try:
            held.append(cell.cell_contents)
        except ValueError:
            held.append(None)
    return held
