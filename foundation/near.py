"""What a misspelt name was probably meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: object, known: Iterable[object]) -> str | None:
    """'count' for 'coutn' or 'cou'; None where no known name is near."""
    names = [str(each) for each in known]
    longer = [each for each in names if str(name) and each.startswith(str(name))]
    close = difflib.get_close_matches(str(name), names, n=1) or longer
    return close[0] if close else None


def did_you_mean(name: object, known: Iterable[object]) -> str:
    """' (did you mean 'count'?)' for 'coutn'; empty where no known name is near."""
    close = nearest(name, known)
    return "" if close is None else f" (did you mean {close!r}?)"
