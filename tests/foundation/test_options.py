"""Settings: flat calls, whole settings, and what is told of a wrong one."""

from dataclasses import dataclass

import pytest
from emuloss.errors import ArgumentError
from emuloss.foundation.near import did_you_mean
from emuloss.foundation.options import Options, flat, gathered, option, options_of


@dataclass(frozen=True)
class Place(Options):
    """Where."""

    out: str = option(help="where it goes")


@dataclass(frozen=True)
class Speed(Options):
    """How fast."""

    count: int = option(3, "how many", choices=lambda: ("1", "3"))
    fields: int | None = option(None, "how many fields; default: all", key="budget")
    hidden: float = 0.5


@flat(Place, Speed)
def called(place: Place, speed: Speed) -> tuple[Place, Speed]:
    """Give back what it was called with.

    Returns:
        Both.
    """
    return place, speed


def test_a_flat_call_fills_settings():
    assert called(out="x", budget=5) == (Place("x"), Speed(3, 5))


def test_whole_settings_are_accepted():
    """With what flat calls do not offer, too."""
    speed = Speed(count=2, hidden=0.1)
    assert called(out="x", speed=speed) == (Place("x"), speed)
    assert called(place=Place("y"), speed=speed) == (Place("y"), speed)
    assert called(place=Place("y"), speed=None, count=7) == (Place("y"), Speed(7))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"out": "x", "cuont": 1}, r"no option 'cuont' \(did you mean 'count'\?\); options are out, count"),
        ({"count": 1}, "out is missing: where it goes"),
        ({"speed": Speed(1)}, "out is missing"),
        ({"out": "x", "speed": 3}, "speed must be settings of kind Speed, got 3"),
        ({"out": "x", "speed": Place("x")}, "speed must be settings of kind Speed"),
        ({"out": "x", "speed": Speed(1), "count": 1}, r"count is given beside speed; set it in Speed\(...\)"),
    ],
)
def test_wrong_options_are_told(given, words):
    with pytest.raises(ArgumentError, match=words):
        called(**given)


def test_choices_and_defaults_are_documented_where_they_stand():
    assert "count: how many: 1 | 3." in called.__doc__
    assert "budget: how many fields; default: all." in called.__doc__
    assert "speed: `Speed` in place of its options above." in called.__doc__
    assert [each.flag for each in options_of(Speed)] == ["--count", "--budget"]
    assert gathered([Speed], {}) == [Speed()]


def test_near_names():
    assert did_you_mean("coutn", ["count", "size"]) == " (did you mean 'count'?)"
    assert did_you_mean("zebra", ["count", "size"]) == ""
    assert did_you_mean(3, []) == ""
