"""Random changes of fields."""

import numpy as np
import pytest
from drawn import read_all
from emuloss.datasets import Rain, mixup, predictions_of, random_symmetry, rescale
from emuloss.errors import ArgumentError


@pytest.fixture(scope="module")
def fields():
    return read_all(Rain(64, size=32, regimes=["stratiform", "convective"]))


@pytest.mark.parametrize("change", [random_symmetry, rescale, mixup])
class TestEveryChange:
    def test_seeded_and_pure(self, fields, change):
        before = fields.copy()
        a, b = (change(fields, np.random.default_rng(1)) for _ in range(2))
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(fields, before)
        assert (a.shape, a.dtype) == (fields.shape, fields.dtype)
        assert not np.array_equal(a, change(fields, np.random.default_rng(2)))

    def test_missing_pixels_stay_missing(self, fields, change):
        holed = fields.copy()
        holed[:, 8:24, 8:24] = np.nan
        result = change(holed, np.random.default_rng(0))
        np.testing.assert_array_equal(np.isnan(result), np.isnan(holed))

    @pytest.mark.parametrize("bad", [np.zeros((4, 4), np.float32), np.zeros((1, 4, 4), int)])
    def test_not_a_batch(self, change, bad):
        with pytest.raises(ArgumentError, match="`fields`"):
            change(bad, np.random.default_rng(0))

    def test_odd_sizes_and_empty_batches(self, change):
        rng = np.random.default_rng(0)
        for shape in ((3, 1, 1), (3, 7, 5), (0, 8, 8)):
            assert change(np.ones(shape, np.float32), rng).shape == shape


@pytest.mark.parametrize(("shape", "count"), [((3, 3), 8), ((2, 3), 4)])
def test_all_symmetries_appear(shape, count):
    field = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    result = random_symmetry(np.stack([field] * 400), np.random.default_rng(0))
    seen = np.unique(result.reshape(400, -1), axis=0)
    assert len(seen) == count
    np.testing.assert_array_equal(np.sort(seen, axis=1), np.sort(field.ravel())[None].repeat(count, 0))


def test_rescale_is_within_bounds(fields):
    result = rescale(fields, np.random.default_rng(0), 0.5, 2.0)
    ratio = result[fields > 0] / fields[fields > 0]
    assert ratio.min() >= 0.4999
    assert ratio.max() <= 2.0001
    assert (result[fields == 0] == 0).all()


def test_rescale_gives_clean_decimals(fields):
    result = rescale(fields, np.random.default_rng(0), 0.1, 2.0, quantum=0.01, lower=0.1)
    steps = np.rint(result.astype(float) * 100)
    np.testing.assert_array_equal(result, (steps * 0.01).astype(np.float32))
    assert result[result > 0].min() == np.float32(0.1)
    np.testing.assert_array_equal(rescale(fields, np.random.default_rng(0), 1.0, 1.0, 0.01, 0.1), fields)


def test_mixup_without_noise_keeps_the_mean(fields):
    result = mixup(fields, np.random.default_rng(0), noise=0.0)
    np.testing.assert_allclose(result.mean(axis=(1, 2)), fields.mean(axis=(1, 2)), rtol=1e-4, atol=1e-6)
    assert (result.max(axis=(1, 2)) <= fields.max(axis=(1, 2)) * 1.0001).all()


def test_mixup_is_not_negative_and_leaves_dry_fields_dry(fields):
    assert mixup(fields, np.random.default_rng(0)).min() >= 0
    assert mixup(np.zeros((5, 16, 16), np.float32), np.random.default_rng(0)).max() == 0


def test_mixup_ignores_missing_pixels_in_block_means():
    field = np.full((50, 8, 8), 3, np.float32)
    field[:, ::2, ::2] = np.nan
    result = mixup(field, np.random.default_rng(0), noise=0.0)
    np.testing.assert_allclose(result[~np.isnan(field)], 3, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (rescale, {"low": 0.0}, "`low`"),
        (rescale, {"low": 3.0, "high": 2.0}, "`low`"),
        (rescale, {"quantum": 0.0}, "quantum must be a positive number, got 0.0"),
        (mixup, {"noise": -1.0}, "`noise`"),
    ],
)
def test_bad_arguments(fields, change, arguments, message):
    with pytest.raises(ArgumentError, match=f"^{message}"):
        change(fields, np.random.default_rng(0), **arguments)


def test_mixing_goes_below_zero_where_the_data_do(fields):
    assert mixup(fields, np.random.default_rng(0)).min() == 0
    anomalies = mixup(fields - 3, np.random.default_rng(0))
    assert anomalies.min() >= -3
    assert (anomalies < 0).mean() > 0.5


UNITS = [(1.0, 273.15), (10.0, -30.0), (0.01, 0.0), (3.7, -2.0)]
"""a and b of a x + b."""


@pytest.mark.parametrize(("a", "b"), UNITS)
@pytest.mark.parametrize("kind", ["rain", "z-scores"])
@pytest.mark.parametrize(
    "change",
    [rescale, mixup, predictions_of, lambda x, rng: rescale(x, rng, quantum=float(np.nanstd(x)) / 4)],
)
def test_changes_do_not_know_the_unit(fields, change, kind, a, b):
    """Of a x + b they are a times what they are of x, plus b."""
    if kind == "rain":
        x = fields.astype(float)
    else:
        x = np.random.default_rng(0).standard_normal((48, 32, 32))
        x[0, :4] = np.nan
    scale = np.nanmax(np.abs(x))
    one, other = (change(each, np.random.default_rng(1)).astype(float) for each in (x, a * x + b))
    precision = 1e-9 if one.dtype == other.dtype == float and change is not predictions_of else 1e-4
    np.testing.assert_allclose((other - b) / a, one, rtol=0, atol=precision * scale)


def test_intensities_are_counted_from_the_dry_value(fields):
    """-32 dBZ is nothing, and stays nothing."""
    dbz = np.where(fields > 0, 10 + 5 * np.log(fields + 1e-9), -32).astype(np.float32)
    assert (rescale(dbz, np.random.default_rng(0))[fields == 0] == -32).all()
    assert mixup(dbz, np.random.default_rng(0)).min() == -32
    moved = predictions_of(dbz, np.random.default_rng(0))
    assert moved.min() == -32
    assert (moved == -32).mean() > 0.2


def test_temperatures_keep_their_median():
    kelvin = (285 + 8 * np.random.default_rng(0).standard_normal((40, 32, 32))).astype(np.float32)
    for change in (rescale, mixup, predictions_of):
        changed = change(kelvin, np.random.default_rng(0))
        assert np.median(changed) == pytest.approx(285, abs=1)
        assert 2 < changed.std() < 20


def test_masked_fields_are_missing(fields):
    hidden = np.ma.array(fields, mask=False, copy=True)
    hidden[:, :8] = np.ma.masked
    hidden.data[:, :8] = 9.97e36
    for change in (random_symmetry, rescale, mixup):
        assert np.nanmax(change(hidden, np.random.default_rng(0))) < 1e4
    assert predictions_of(hidden, np.random.default_rng(0)).max() < 1e4


def test_infinite_pixels_become_the_greatest(fields):
    endless = fields.copy()
    endless[:, 3, 3] = np.inf
    for change in (mixup, predictions_of):
        assert np.isfinite(change(endless, np.random.default_rng(0))).all()
    huge = (1e30 * (fields - 3)).astype(np.float32)
    assert np.isfinite(predictions_of(huge, np.random.default_rng(0))).all()
