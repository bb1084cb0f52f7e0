"""Masked arrays and their like: what a mask hides was not measured, whatever number stands below it."""

import numpy as np
import pytest
from emuloss import metric
from emuloss.foundation.arguments import filled
from emuloss.metrics import Metric
from emuloss.metrics.registry import METRICS

FILL = {"f": 9.97e36, "i": 32767, "u": 255}
"""Numbers that files keep where nothing was measured: those of a wet field, to whom the mask is lost."""
BUILT_IN = [kind.name for kind in METRICS.things() if kind.__module__.startswith("emuloss.")]


def built(name: str) -> Metric:
    options = {"spectrum": {"bins": 4}, "sal": {}}
    return metric(name, **options.get(name, {"thresholds": [0.5, 2.0]}))


def field_of(dtype: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two fields of whole numbers from 0 to 3, and where they were not measured."""
    values = np.random.default_rng(seed).integers(0, 4, (2, 12, 12)).astype(dtype)
    hidden = np.zeros(values.shape, bool)
    hidden[:, 8:] = hidden[0, 2, 3] = True
    return values, hidden


def masked(values: np.ndarray, hidden: np.ndarray) -> np.ma.MaskedArray:
    below = values.copy()
    below[hidden] = FILL[values.dtype.kind]
    return np.ma.array(below, mask=hidden)


def with_nan(values: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    return np.where(hidden, np.nan, values.astype(np.float64))


def test_masked_pixels_of_a_drawn_field_are_missing() -> None:
    field = np.ma.zeros((1, 8, 8), "f4")
    field[0, 2:4, 2:4] = 3
    field.data[0, 6:, 6:] = 9.97e36
    field[0, 6:, 6:] = np.ma.masked
    curves = metric("minkowski", thresholds=[1.0], outputs=["area", "components"])(field)
    assert curves[0, :, 0].tolist() == [4, 1]


@pytest.mark.parametrize("dtype", ["f4", "f8", ">f4", "i2", ">i2", "u1"])
@pytest.mark.parametrize("name", BUILT_IN)
def test_masked_pixels_are_missing(name: str, dtype: str) -> None:
    exact = built(name)
    pairs = [field_of(dtype, seed) for seed in range(exact.arity)]
    found = exact(*(masked(*pair) for pair in pairs))
    np.testing.assert_array_equal(found, exact(*(with_nan(*pair) for pair in pairs)))
    assert not np.array_equal(found, exact(*(masked(*pair).data for pair in pairs)))  # what a lost mask gives


def test_a_mask_of_either_side_of_a_pair_counts() -> None:
    (values, hidden), (other, _) = field_of("f4"), field_of("f4", 1)
    csi = built("csi")
    clear = with_nan(values, hidden)
    np.testing.assert_array_equal(csi(masked(values, hidden), other), csi(clear, other))
    np.testing.assert_array_equal(csi(other, masked(values, hidden)), csi(other, clear))
    assert csi.check_pairs(masked(values, hidden), other) == csi.check_pairs(clear, other)


def test_the_functions_of_users_are_given_no_masks() -> None:
    def missing(field):
        return float(np.isnan(field).sum())

    values, hidden = field_of("f4")
    counted = metric(missing, fields=masked(values, hidden))
    assert counted(masked(values, hidden)).ravel().tolist() == hidden.sum((1, 2)).tolist()


def test_check_takes_masked_curves_for_missing_ones() -> None:
    exact = metric("minkowski", thresholds=[0.5, 1.0])
    curves = exact(field_of("f4")[0])
    hidden = np.ma.array(curves, mask=np.isfinite(curves))
    assert exact.check(hidden) == exact.check(np.full_like(curves, np.nan))
    assert exact.check(hidden) != exact.check(curves)


def dask_of(array):
    return pytest.importorskip("dask.array").from_array(array)


def xarray_of(array):
    return pytest.importorskip("xarray").DataArray(array, dims=("n", "y", "x"))


class Variable:
    """What netCDF4 gives: it offers itself as a masked array."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


@pytest.mark.parametrize("hold", [list, tuple, Variable, dask_of, xarray_of])
def test_masks_are_kept_by_what_holds_them(hold) -> None:
    values, hidden = field_of("f4")
    np.testing.assert_array_equal(filled(hold(masked(values, hidden))), with_nan(values, hidden))


def test_filled_keeps_what_has_no_mask_as_it_is() -> None:
    values = np.arange(6, dtype="i2").reshape(2, 3)
    assert filled(values) is values
    assert filled(np.ma.array(values)).dtype == "i2"
    assert filled(np.ma.array(values.astype("f4"), mask=values > 3)).dtype == "f4"
    np.testing.assert_array_equal(filled([1.0, np.ma.masked]), [1.0, np.nan])
