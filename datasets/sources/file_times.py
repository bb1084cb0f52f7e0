"""Times that file names tell."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime

import numpy as np

from ...errors import ArgumentError

Times = list[np.datetime64 | None]
TimeOf = Callable[[str], np.datetime64 | None]

_DIGITS = {"Y": 4, "y": 2, "j": 3, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2}
"""Digits of each part of a time, by its directive of strptime."""
_FORMATS = (
    (r"(\d{4})[-_.]?(\d\d)[-_.]?(\d\d)[-_. ]?[TtSs]?(\d\d)[-_.:h]?(\d\d)(?:[-_.:m]?(\d\d))?", "YmdHMS"),
    (r"(\d{4})(\d{3})[-_. ]?[TtSs]?(\d\d)(\d\d)(\d\d)?", "YjHMS"),
    (r"(\d{4})[-_.]?(\d\d)[-_.]?(\d\d)[-_. ]?[TtSs]?(\d\d)", "YmdH"),
    (r"(\d\d)(\d\d)(\d\d)[-_. ]?(\d\d)(\d\d)", "ymdHM"),
    (r"(\d\d)(\d{3})(\d\d)(\d\d)", "yjHM"),
    (r"(\d{4})[-_.]?(\d\d)[-_.]?(\d\d)", "Ymd"),
)
"""How digits in a row tell a time, and in which order: where two read as many names, the first counts."""
_EARLIEST, _LATEST = 1950, 2099
"""Years outside are none."""


def times_in(names: Sequence[str]) -> Times:
    """The time (UTC) that each name tells, all in one format: that which reads most names.

    Such as 201609281445, 20190610-000000 or 2019-06-10T00:00, year and day of the year as in 161932045, the
    year alone in two digits as in 1605280050, and a day alone where no two names tell the same. Of several
    times in a name the first counts.
    """
    best: Times = [None] * len(names)
    for pattern, parts in _FORMATS:
        found = list(map(_reader(rf"(?<!\d){pattern}(?!\d)", parts), names))
        told = [time for time in found if time is not None]
        ambiguous = "H" not in parts and len(set(told)) < len(told)
        if not ambiguous and len(told) > len(best) - best.count(None):
            best = found
    return best


def reader_of(pattern: str, whole: bool = False) -> TimeOf:
    """What reads times (UTC) in names that hold a pattern, such as "AQC%y%j%H%M?_00005".

    Args:
        pattern: %Y %y %j %m %d %H %M %S as in `datetime.strptime`; "?" stands for any character.
        whole: Whether names are to be the pattern, rather than to hold it.

    Returns:
        A function from a name to its time, None where it does not hold the pattern.

    Raises:
        ArgumentError: If the pattern tells no day, or has other directives.
    """
    regex, parts = "", ""
    for piece in re.findall(r"%.?|[^%]", pattern):
        if piece[0] != "%":
            regex += "." if piece == "?" else re.escape(piece)
        elif piece[1:] in _DIGITS:
            once = piece[1:] not in parts
            regex += rf"{'(' if once else '(?:'}\d{{{_DIGITS[piece[1:]]}}})"
            parts += piece[1:] if once else ""
        else:
            raise ArgumentError(f"time_format {pattern!r} may have %{' %'.join(_DIGITS)}, not {piece!r}")
    if not {"Y", "y"} & set(parts) or not ("j" in parts or {"m", "d"} <= set(parts)):
        raise ArgumentError(f"time_format {pattern!r} must tell year and day, such as %Y%m%d%H%M or %y%j%H%M")
    return _reader(rf"\A{regex}\Z" if whole else regex, parts)


def _reader(regex: str, parts: str) -> TimeOf:
    """What reads the first place in a name where a regular expression finds the parts of a time."""
    found = re.compile(regex)

    def time_of(name: str) -> np.datetime64 | None:
        told = (_time(match.groups(), parts) for match in found.finditer(name))
        return next((time for time in told if time is not None), None)

    return time_of


def _time(digits: Sequence[str | None], parts: str) -> np.datetime64 | None:
    """The time of the digits of its parts; None where there is no such day or hour."""
    told = {part: each for part, each in zip(parts, digits, strict=True) if each}
    try:
        time = datetime.strptime(" ".join(told.values()), " ".join(f"%{part}" for part in told))
    except ValueError:
        return None
    return np.datetime64(time, "s") if _EARLIEST <= time.year <= _LATEST else None
