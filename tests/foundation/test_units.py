"""Values in one unit become values in another."""

import pickle
import sys

import numpy as np
import pytest
from emuloss.errors import ArgumentError
from emuloss.foundation import units
from emuloss.foundation.units import converter, same_unit

VALUES = np.array([[0.0, 1.5], [np.nan, 40.0]])

PLAIN = [
    ("mm h-1", "mm/h", VALUES),
    ("kg m-2 s-1", "mm/h", 3600 * VALUES),
    ("kg m**-2 s**-1", "mm h-1", 3600 * VALUES),
    ("m of water equivalent", "mm", 1000 * VALUES),
    ("mm/5min", "mm/h", 12 * VALUES),
    ("hPa", "Pa", 100 * VALUES),
    ("dBZ", "dbz", VALUES),
]
BY_PINT = [
    ("degC", "K", VALUES + 273.15),
    ("K", "degrees_Celsius", VALUES - 273.15),
    ("°C", "degF", VALUES * 1.8 + 32),
    ("inch/hour", "mm h-1", 25.4 * VALUES),
    ("%", "1", VALUES / 100),
    ("knots", "m s-1", 1852 / 3600 * VALUES),
]


@pytest.fixture
def without_pint(monkeypatch):
    monkeypatch.setitem(sys.modules, "pint", None)
    units._registry.cache_clear()
    yield
    units._registry.cache_clear()


@pytest.mark.parametrize(("given", "wanted", "expected"), PLAIN)
def test_factors_need_no_pint(without_pint, given, wanted, expected):
    np.testing.assert_allclose(converter(given, wanted)(VALUES), expected, rtol=1e-12)


@pytest.mark.parametrize(("given", "wanted", "expected"), BY_PINT)
def test_the_rest_is_done_by_pint(given, wanted, expected):
    pytest.importorskip("pint")
    np.testing.assert_allclose(converter(given, wanted)(VALUES), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("given", "wanted", "expected"), [*PLAIN[:2], *BY_PINT[:2]])
def test_precision_stays_and_conversions_can_be_pickled(given, wanted, expected):
    pytest.importorskip("pint")
    found = pickle.loads(pickle.dumps(converter(given, wanted)))(VALUES.astype(np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


IMPOSSIBLE = [
    ("mm", "mm/h"),
    ("dBZ", "mm/h"),
    ("", "mm/h"),
    ("K", ""),
    ("degrees_north", "km"),
    ("junk((", "m"),
    ("9**9**9**9", "m"),
    ("(9)^9^9^9 m", "m"),
    ("__import__('os')", "m"),
]


@pytest.mark.parametrize(("given", "wanted"), IMPOSSIBLE)
def test_what_cannot_be_converted_is_refused(given, wanted):
    pytest.importorskip("pint")
    with pytest.raises(ArgumentError, match=r"cannot be turned into .*; convert them yourself") as caught:
        converter(given, wanted)
    assert "\n" not in str(caught.value)


def test_a_missing_pint_is_told(without_pint):
    with pytest.raises(ArgumentError, match=r"'degC' become 'K' by pint; run: pip install"):
        converter("degC", "K")


def test_water_is_a_length():
    assert same_unit("m of water equivalent", "m")
    assert not same_unit("m of snow", "m")
