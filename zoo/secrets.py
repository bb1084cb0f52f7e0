"""Tokens and passwords: kept out of every message."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar
from urllib.parse import unquote

from ..errors import EmulossError

P = ParamSpec("P")
R = TypeVar("R")

_HIDDEN = "***"
_SHORTEST = 6
"""Characters below which a word is too common to be taken for a secret wherever it stands."""
_OF_ADDRESSES = re.compile(r"(?<=://)[^\s'\"]*@")
"""User and password of an address, up to the last @: a password may hold most other characters."""
_QUERIES = re.compile(r"(://[^\s'\"?]*)\?[^\s'\"]*")
"""What follows an address: the signature of a link that was made for one."""
_TOKENS = re.compile(r"\bhf_[A-Za-z0-9]{12,}")


def without_secrets(text: str, token: object = None) -> str:
    """Text with "***" for passwords in addresses, what looks like a token, and what is known to be secret.

    Args:
        text: of a message.
        token: that was given, if it is text; those of the environment are known.
    """
    hidden = _QUERIES.sub(rf"\1?{_HIDDEN}", _OF_ADDRESSES.sub(f"{_HIDDEN}@", text))
    hidden = _TOKENS.sub(_HIDDEN, hidden)
    for secret in sorted(_known(token), key=len, reverse=True):
        hidden = hidden.replace(secret, _HIDDEN)
    return hidden


def basic(user: str, password: str) -> str:
    """How a header holds a user and a password, percent-encoded as in addresses."""
    from base64 import b64encode  # few have a proxy with a password

    return b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()


def _known(token: object) -> set[str]:
    """The secrets of the environment and a token, in the forms in which they may be quoted."""
    from urllib.request import getproxies_environment  # slow to import, and few messages are looked at

    tokens = [token, os.environ.get("HF_TOKEN"), os.environ.get("HUGGING_FACE_HUB_TOKEN")]
    addresses = [os.environ.get("HF_ENDPOINT", ""), *getproxies_environment().values()]
    found: set[str] = set()
    for text in tokens:
        if isinstance(text, str):
            found |= {text, text.strip(), repr(text)[1:-1], *re.findall(r"[\w.~+/=-]+", text)}
    for address in addresses:
        between = address.rpartition("@")[0].rpartition("://")[2]
        user, _, password = between.partition(":")
        if between:
            found |= {between, user, password, unquote(password), basic(user, password)}
            found |= {*re.findall(r"\w+", between)}
    return {form for form in found if len(form) >= _SHORTEST}


def discreet(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: errors that end a public function tell no secret, nor does what they were raised from."""

    @wraps(function)
    def call(*arguments: P.args, **keywords: P.kwargs) -> R:
        try:
            return function(*arguments, **keywords)
        except EmulossError as error:
            token = keywords.get("token")
            if not _tells(error, token):
                raise
            told = type(error)(without_secrets(str(error), token))
        raise told  # out here, so that no context leads to what was said before

    return call


def _tells(error: BaseException, token: object) -> bool:
    """Whether an error tells a secret, or what it was raised from, or while."""
    chain: list[BaseException] = [error]
    for each in chain:  # it grows on the way
        if without_secrets(str(each), token) != str(each):
            return True
        chain += [link for link in (each.__cause__, each.__context__) if link and link not in chain]
    return False
