"""Durations as people write them."""

import warnings
from datetime import timedelta

import numpy as np
import pytest
from emuloss.errors import ArgumentError
from emuloss.foundation.durations import as_duration


def without_unit(number):
    """What NumPy deprecates by now, and has been given all the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return np.timedelta64(number)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("3h", 10800),
        ("90min", 5400),
        ("45 s", 45),
        ("2 days", 172800),
        ("1.5d", 129600),
        (".5 hours", 1800),
        ("1h30min", 5400),
        ("1 H 30 Min", 5400),
        ("0s", 0),
        (timedelta(hours=3), 10800),
        (np.timedelta64(90, "m"), 5400),
        (np.timedelta64(2, "W"), 1209600),
    ],
)
def test_durations(given, seconds):
    assert as_duration("gap", given) == np.timedelta64(seconds, "s")


@pytest.mark.parametrize(
    "given",
    [
        "",
        "3",
        "h",
        "3m",
        "3 months",
        "-3h",
        "3h and more",
        "about 3h",
        "3h,90min",
        "1e30h",
        "9" * 400 + "h",
        "nan h",
        "3h\n4",
        3,
        3.0,
        True,
        None,
        timedelta(hours=-1),
        without_unit(3),
        np.timedelta64(3, "M"),
        np.timedelta64("NaT", "s"),
        timedelta.max,
    ],
    ids=str,
)
def test_what_is_no_duration(given):
    with pytest.raises(ArgumentError, match=r"^gap must be a duration, 0 or more, such as 3h, ") as caught:
        as_duration("gap", given)
    assert "\n" not in str(caught.value)
