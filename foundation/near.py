"""What a misspelt name was probably meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: object, known: Iterable[object]) -> str | None:
    """'count' for 'coutn'; None where no known name is near."""
    close = difflib.get_close_matches(str(name), [str(each) for each in known], n=1)
    return close[0] if close else None


def did_you_mean(name: object, known: Iterable[object]) -> str:
    """' (did you mean 'count'?)' for 'coutn'; empty where no known name is near."""
    close = nearest(name, known)
    return "" if close is None else f" (did you mean {close!r}?)"
