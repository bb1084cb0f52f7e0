"""Units as files spell them: whether two are one, how far they differ, how one becomes another."""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError
from .arguments import shown

_NAMES: dict[str, tuple[float, str]] = {
    **dict.fromkeys(("m", "meter", "metre"), (1.0, "m")),
    **dict.fromkeys(("km", "kilometer", "kilometre"), (1e3, "m")),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), (1e-2, "m")),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), (1e-3, "m")),
    **dict.fromkeys(("um", "µm", "μm", "micrometer", "micrometre", "micron"), (1e-6, "m")),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), (1e-9, "m")),
    **dict.fromkeys(("s", "sec", "second"), (1.0, "s")),
    **dict.fromkeys(("min", "minute"), (60.0, "s")),
    **dict.fromkeys(("h", "hr", "hour"), (3600.0, "s")),
    **dict.fromkeys(("d", "day"), (86400.0, "s")),
    "kg": (1.0, "kg"),
    "g": (1e-3, "kg"),
    **dict.fromkeys(("K", "kelvin", "degK"), (1.0, "K")),
    **dict.fromkeys(("Pa", "pascal"), (1.0, "Pa")),
    **dict.fromkeys(("hPa", "mbar", "millibar"), (100.0, "Pa")),
    "kPa": (1000.0, "Pa"),
}
"""Size and kind of each unit by the names that are read; plurals are, too."""
_CELSIUS = ("degc", "°c", "celsius", "degrees_celsius", "degree_celsius", "degrees_c", "deg_c")
_NUMBER = ("none", "unitless", "dimensionless", "-")
_FACTOR = re.compile(r"(\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)|(°?[^\W\d]+)\s*(?:\*\*|\^)?\s*([-+\u2212]?\d+)?")
_WATER = re.compile(r"\bof water( equivalent)?\b", re.IGNORECASE)
"""What some add to a depth of water, which is a length here."""
_GLUED = re.compile(r"(?<=[^\W\d])(?=[-+]?\d)")
"""Where an exponent follows its unit at once, as CF writes it: "mm h-1"."""
_POWER = re.compile(r"[\d)]\s*(\*\*|\^)")
"""A power of a number, which a hostile file can make as large as it likes."""

Parsed = tuple[float, dict[str, int]]


def same_unit(one: str, other: str) -> bool:
    """Whether two texts name one unit: "mm h-1", "mm/hr" and "mm / hour" do."""
    factor = conversion(one, other)
    return one.strip() == other.strip() or (factor is not None and math.isclose(factor, 1.0, rel_tol=1e-9))


def conversion(one: str, other: str) -> float | None:
    """What values in the first unit are multiplied by to be in the second; None if there is no such number.

    A mass of water over an area counts as a depth: 1 kg m-2 is 1 mm. A name that is not known is a unit of
    its own, and so are degrees Celsius, which have another zero than kelvins.
    """
    first, second = _parsed(one), _parsed(other)
    if first is None or second is None or first[1] != second[1]:
        return None
    return first[0] / second[0]


def converter(given: str, wanted: str) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """What turns values in one unit into another.

    Factors between units of length, time, water, temperature and pressure need nothing; all else is left to
    pint: degrees Celsius, inches, knots, percent.

    Args:
        given: The unit of the values, such as "kg m-2 s-1"; a mass of water over an area counts as a depth.
        wanted: The unit that they are to have, such as "mm/h".

    Returns:
        A function of values that gives as many in the other unit, floating-point ones in the same precision
        where that is by a factor or an offset. It can be pickled.

    Raises:
        ArgumentError: No conversion is known, or it needs pint, which is missing.
    """
    if same_unit(given, wanted):
        return np.asarray
    factor = conversion(given, wanted)
    if factor is not None:
        return functools.partial(np.multiply, factor)
    by_pint = functools.partial(_by_pint, given, wanted)
    by_pint(np.zeros(1))  # refuses here what it cannot do
    return by_pint


def _by_pint(given: str, wanted: str, values: NDArray[Any]) -> NDArray[Any]:
    """Values in another unit, as pint converts them."""
    units = [_unit_of_pint(given, wanted, text) for text in (given, wanted)]
    try:
        return np.asarray(_registry().Quantity(values, units[0]).to(units[1]).magnitude)
    except Exception as error:  # pint's errors are of many classes
        raise _no_conversion(given, wanted) from error


def _unit_of_pint(given: str, wanted: str, text: str) -> Any:
    """A unit of pint, of its text, which is one of the two."""
    plain = "degC" if text.strip().casefold() in _CELSIUS else _GLUED.sub("**", text)
    if not text.strip() or _POWER.search(plain):
        raise _no_conversion(given, wanted)
    try:
        return _registry().parse_units(plain)
    except ImportError as error:
        raise ArgumentError(
            f"values in {shown(given)} become {shown(wanted)} by pint; run: pip install 'emuloss[xarray]'."
        ) from error
    except Exception as error:  # pint's errors are of many classes, and of Python's tokenizer
        raise _no_conversion(given, wanted) from error


@functools.cache
def _registry() -> Any:
    """The units that pint knows."""
    import pint

    return pint.UnitRegistry()


def _no_conversion(given: str, wanted: str) -> ArgumentError:
    """The error of two units between which nothing is known."""
    return ArgumentError(
        f"values in {shown(given or 'no unit')} cannot be turned into {shown(wanted)}; convert "
        "them yourself, or give `unit` if theirs is named wrongly"
    )


def refuse_other_unit(what: str, found: str, wanted: str, who: str) -> None:
    """Refuse fields in another unit than the one that they are taken in; one that is not told passes.

    Args:
        what: what messages call the fields.
        found: their unit.
        wanted: the unit that they are to have.
        who: what takes them.

    Raises:
        ArgumentError: the units differ.
    """
    if not found or not wanted or same_unit(found, wanted):
        return
    factor = conversion(found, wanted)
    remedy = "convert them" if factor is None else f"multiply them by {factor:.9g}"
    raise ArgumentError(
        f"{what} come in {found}, {who} takes {wanted}; {remedy}, or give unit={wanted!r} to the source if "
        "it names its unit wrongly"
    )


def _parsed(text: str) -> Parsed | None:
    """Size of a product of units, and the power of each kind; None if it is none."""
    if text.strip().casefold() in _NUMBER:
        return 1.0, {}
    size, powers = 1.0, Counter[str]()
    for place, part in enumerate(re.sub(r"\bper\b", "/", _WATER.sub("", text)).split("/")):
        if re.sub(r"[\s.*·()]", "", _FACTOR.sub("", part)):
            return None
        for number, name, power in _FACTOR.findall(part):
            factor, kind = (float(number), "") if number else _named(name)
            exponent = int((power or "1").replace("\u2212", "-")) * (-1 if place else 1)
            size *= factor**exponent
            powers[kind] += exponent
    # Masses are of water, of which 1000 kg fill a cubic metre.
    masses = powers.pop("kg", 0)
    size, powers["m"] = size / 1000.0**masses, powers["m"] + 3 * masses
    return size, {kind: power for kind, power in powers.items() if kind and power}


def _named(name: str) -> tuple[float, str]:
    """Size and kind of a unit by its name."""
    plain = name.casefold()
    if plain in _CELSIUS:
        return 1.0, "celsius"
    known = (_NAMES.get(each) for each in (name, plain, plain.removesuffix("s")))
    return next((found for found in known if found), (1.0, plain))
