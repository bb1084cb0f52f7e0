"""Validation of arguments: what is a number, a count, a flag; one bounded line for what is none."""

import decimal
import fractions
import math

import numpy as np
import pytest
import torch
from emuloss import ArgumentError
from emuloss.foundation.arguments import (
    as_choice,
    as_count,
    as_counts,
    as_flag,
    as_increasing,
    as_natural,
    as_pixel_size,
    as_positive,
    as_real,
    as_shape,
    as_share,
    known_names,
    shown,
)
from emuloss.foundation.rules import count, counts, multiples, number, obey, positive

NUMBERS = [2, 2.0, np.float32(2), np.int16(2), np.array(2.0), torch.tensor(2.0), fractions.Fraction(4, 2),
           decimal.Decimal(2)]  # fmt: skip
NO_NUMBERS = [None, "2", b"2", True, np.True_, 2j, np.complex64(2), [2], np.array([2.0]), torch.ones(2),
              object(), np.ma.masked, 10**400, len, math.nan]  # fmt: skip


@pytest.mark.parametrize("value", NUMBERS, ids=repr)
def test_numbers_are_numbers_whatever_holds_them(value) -> None:
    assert as_real(value) == 2.0
    assert as_positive("size", value) == 2.0
    assert as_increasing("sizes", [1, value]) == (1.0, 2.0)


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: type(value).__name__)
def test_what_is_no_number_is_none(value) -> None:
    assert math.isnan(as_real(value))
    for call in (
        lambda: as_positive("it", value),
        lambda: as_share("it", value),
        lambda: as_increasing("it", [value]),
        lambda: as_pixel_size(value),
    ):
        with pytest.raises(ArgumentError, match=r"^(it|pixel_size) must be [^\n]{1,150}$"):
            call()


WHOLE = [3, np.int64(3), np.uint8(3)]
NOT_WHOLE = [*NO_NUMBERS, 3.0, np.float64(3), -1, 2**63, torch.tensor(3)]


@pytest.mark.parametrize("value", WHOLE)
def test_whole_numbers_are_counts(value) -> None:
    assert as_count("n", value) == as_natural("n", value) == 3
    assert as_shape("n", value) == as_shape("n", (value, 3)) == (3, 3)
    assert type(as_count("n", value)) is int


@pytest.mark.parametrize("value", NOT_WHOLE, ids=lambda value: type(value).__name__)
def test_what_is_not_whole_is_no_count(value) -> None:
    for call in (
        lambda: as_count("n", value),
        lambda: as_natural("n", value),
        lambda: as_counts("n", [value]),
        lambda: as_shape("n", (4, value)),
    ):
        with pytest.raises(ArgumentError, match=r"^(each of )?n must be [^\n]{1,150}$"):
            call()


def test_counts_have_a_bound() -> None:
    assert as_count("n", 2**31 - 1) == 2**31 - 1
    with pytest.raises(ArgumentError, match="n must be a whole number from 1 to 2147483647, got 2147483648"):
        as_count("n", 2**31)
    with pytest.raises(ArgumentError, match="n must be a whole number from 1 to 8, got 9"):
        as_count("n", 9, most=8)
    with pytest.raises(ArgumentError, match="n must hold at most 96 numbers, got more"):
        as_counts("n", range(1, 98))


@pytest.mark.parametrize("value", [True, False, np.True_])
def test_flags(value) -> None:
    assert as_flag("absolute", value) is bool(value)


@pytest.mark.parametrize("value", [0, 1, "yes", None, np.array([True])], ids=repr)
def test_what_is_no_flag(value) -> None:
    with pytest.raises(ArgumentError, match=r"^absolute must be True or False, got [^\n]*$"):
        as_flag("absolute", value)


@pytest.mark.parametrize("value", ["c", None, 5, ["a"], np.array(["a", "b"]), {}], ids=repr)
def test_what_is_no_choice(value) -> None:
    with pytest.raises(ArgumentError, match=r"^way must be one of a, b, got [^\n]*$"):
        as_choice("way", value, ("a", "b"))


@pytest.mark.parametrize("value", [1e-16, 1e16, 1e-200, 1e300])
def test_pixels_whose_area_single_precision_does_not_hold_are_refused(value: float) -> None:
    with pytest.raises(
        ArgumentError, match=r"pixel_size must be a positive number from .*; take another unit$"
    ):
        as_pixel_size(value)


@pytest.mark.parametrize("kind", ["text", "array", "list", "lines", "digits", "object"])
def test_values_are_shown_in_one_bounded_line(kind: str) -> None:
    value = {
        "text": "x" * 1000,
        "array": np.zeros((100, 100)),
        "list": [1] * 1000,
        "lines": "two\nlines",
        "digits": 10**5000,  # which Python refuses to write out
        "object": object(),
    }[kind]
    assert len(shown(value)) <= 80
    assert shown(value).isprintable()


def test_known_names_tell_what_was_meant() -> None:
    assert (
        known_names("treshold", ["thresholds", "levels"]) == "thresholds, levels (did you mean 'thresholds'?)"
    )
    assert known_names("temp", ["temperature", "tail"]) == "temperature, tail (did you mean 'temperature'?)"
    assert known_names("colour", ["thresholds", "levels"]) == "thresholds, levels"


# Rules, which hold for files and for Python callers


@pytest.mark.parametrize("value", [5, np.int32(5)])
def test_rules_take_the_numbers_of_numpy(value) -> None:
    assert [rule(value, "n") for rule in (count, number, positive)] == ["", "", ""]
    assert counts([value, 7], "n") == counts((value, 7), "n") == ""


@pytest.mark.parametrize("value", [True, "5", None, 0, -5, 2**31, math.nan, [5]], ids=repr)
def test_rules_refuse_what_is_no_count(value) -> None:
    assert count(value, "it").startswith("it must be a whole number from 1 to 2147483647, got ")


def test_obey_raises_for_the_first_that_breaks_its_rule() -> None:
    rules = {"n": count, "widths": multiples(8, "positive multiples of 8")}
    obey(rules, {"n": 3, "widths": (8, 16)})
    with pytest.raises(ArgumentError, match=r"^widths must be positive multiples of 8, got \(8, 12\)$"):
        obey(rules, {"n": 3, "widths": (8, 12)})
