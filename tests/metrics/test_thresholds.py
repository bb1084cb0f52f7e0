"""Thresholds: validation, and quantiles placed between the steps of the data."""

import functools
import math

import numpy as np
import pytest
from emuloss.errors import ArgumentError
from emuloss.foundation.arguments import as_increasing
from emuloss.metrics import WET_LEVELS, Minkowski, quantile_thresholds
from hypothesis import given, settings
from hypothesis import strategies as st


def quantised(seed: int = 0, quantum: float = 0.01) -> np.ndarray:
    """Rates like those of a radar product, (6, 40, 40) float32, dry and not measured pixels included."""
    rng = np.random.default_rng(seed)
    rate = np.round(np.exp(rng.normal(-1, 1.4, (6, 40, 40))) / quantum) * quantum
    rate[rng.random(rate.shape) < 0.4] = 0.0
    rate[rng.random(rate.shape) < 0.1] = np.nan
    return rate.astype(np.float32)


def test_showcase_levels() -> None:
    assert len(WET_LEVELS) == 21
    assert WET_LEVELS[:3] == (0.01, 0.05, 0.1)
    assert WET_LEVELS[-2:] == (0.95, 0.99)
    assert as_increasing("levels", WET_LEVELS) == WET_LEVELS


@pytest.mark.parametrize("quantum", [0.01, 0.1, 0.5, 0.03])
def test_thresholds_lie_between_the_steps(quantum: float) -> None:
    thresholds = np.array(quantile_thresholds(quantised(0, quantum), quantum=quantum))
    assert (np.diff(thresholds) > 0).all()
    np.testing.assert_allclose(thresholds / quantum % 1, 0.5, atol=1e-6)


def test_thresholds_are_short_decimals() -> None:
    for threshold in quantile_thresholds(quantised(), quantum=0.01):
        assert threshold == round(threshold, 3)


def test_quantile_is_moved_half_a_step_down() -> None:
    fields = np.arange(101) / 100
    assert quantile_thresholds(fields, (0.01, 0.25, 0.5, 0.99), wet=0) == (0.005, 0.245, 0.495, 0.985)
    # The least value parts nothing from the rest.
    assert quantile_thresholds(fields[1:], (0.01, 0.25, 0.5, 0.99)) == (0.015, 0.245, 0.495, 0.985)


def test_share_of_wet_pixels_above_each_threshold() -> None:
    fields = quantised()
    wet = fields[fields > 0.1]
    for level, threshold in zip(WET_LEVELS, quantile_thresholds(fields, wet=0.1, quantum=0.01), strict=True):
        # At least the share 1 - level is above, and the step below would exceed it no more.
        assert (wet >= threshold).mean() >= 1 - level - 1e-9
        assert (wet >= threshold + 0.01).mean() <= 1 - level + 1e-9


def test_masks_do_not_hang_on_rounding() -> None:
    fields = quantised()
    thresholds = quantile_thresholds(fields, quantum=0.01)
    outputs = ("area", "perimeter", "euler", "components", "holes")
    single, double = (
        Minkowski(thresholds, outputs=outputs)(each)
        for each in (fields, np.round(fields.astype(np.float64), 2))
    )
    np.testing.assert_array_equal(single, double)
    steps = Minkowski(np.round(np.array(thresholds) * 100, 1), outputs=outputs)
    np.testing.assert_array_equal(steps(np.round(fields.astype(np.float64) * 100)), double)


def test_a_threshold_on_a_step_does_hang_on_rounding() -> None:
    field = np.array([[[0.11]]])
    area = Minkowski([0.11], outputs=["area"])
    assert area(field) == 1
    assert area(field.astype(np.float32)) == 0


def test_ties_move_to_the_next_free_step() -> None:
    fields = np.array([0.11] * 90 + [0.12] * 5 + [5.0] * 5)
    place = functools.partial(quantile_thresholds, fields, wet=0.0, quantum=0.01)
    assert place((0.1, 0.5, 0.8, 0.94)) == (0.105, 0.115, 0.125, 0.135)
    assert place((0.1, 0.93, 0.99)) == (0.105, 0.115, 4.995)


def test_ties_at_the_greatest_value_move_down() -> None:
    fields = np.array([0.0] * 50 + [0.1, 0.2, 0.3] * 10 + [0.4] * 70)
    assert quantile_thresholds(fields, (0.1, 0.5, 0.8, 0.9)) == (0.05, 0.15, 0.25, 0.35)
    assert quantile_thresholds(fields, (0.5, 0.8, 0.9)) == (0.15, 0.25, 0.35)


def test_gaps_are_shared_where_there_are_too_few() -> None:
    assert quantile_thresholds(np.full((2, 3), 0.5), (0.2, 0.3, 0.7), wet=0.0, quantum=0.5) == (
        0.125, 0.25, 0.375,
    )  # fmt: skip
    fields = np.repeat([0.0, 0.5, 1.0], [10, 3, 4])
    found = quantile_thresholds(fields, (0.2, 0.3, 0.5, 0.7))
    np.testing.assert_allclose(found, [1 / 6, 1 / 3, 2 / 3, 5 / 6], rtol=1e-10)


def test_continuous_data_take_plain_quantiles() -> None:
    fields = np.random.default_rng(1).exponential(size=(4, 30, 30))
    fields[0, :5] = np.nan
    wet = fields[fields > 0.2]
    assert quantile_thresholds(fields, wet=0.2) == pytest.approx(np.quantile(wet, WET_LEVELS), rel=1e-12)


def test_dry_and_not_measured_pixels_do_not_count() -> None:
    fields = quantised()
    wet = fields[fields > 0]
    assert quantile_thresholds(fields) == quantile_thresholds(wet, wet=0.0, quantum=0.01)


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=80),
    st.lists(st.integers(1, 99), min_size=1, max_size=8, unique=True),
    st.sampled_from([0.01, 0.1, 1.0]),
)
def test_any_quantised_data_give_increasing_thresholds(steps, percents, quantum: float) -> None:
    levels = [percent / 100 for percent in sorted(percents)]
    values = np.array(steps) * quantum
    thresholds = np.array(quantile_thresholds(values, levels, wet=0.0, quantum=quantum))
    assert len(thresholds) == len(levels)
    assert (np.diff(thresholds) > 0).all()
    assert 0 < thresholds[0] < thresholds[-1] + 1e-12
    assert thresholds[-1] < values.max()
    # Half a step from any value where there are enough steps, and never on one.
    distance = abs(thresholds[:, None] - values) / quantum
    assert (distance > (0.499 if max(steps) >= len(levels) else 0.5 / (len(levels) + 1))).all()


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 1000), min_size=30, max_size=60, unique=True), st.integers(2, 9))
def test_thresholds_follow_the_unit(steps, factor: int) -> None:
    data = np.array(steps, float)
    levels = (0.2, 0.5, 0.8)
    one, other = (quantile_thresholds(data * f, levels, quantum=f) for f in (1.0, float(factor)))
    assert other == pytest.approx(np.array(one) * factor)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ([], "at least one"),
        ([0.5, 0.5], "0.5 before 0.5"),
        ([0.9, 0.5], "0.9 before 0.5"),
        ([0.1, math.nan], "finite"),
        ([-math.inf, 0.1], "finite"),
        (3, "got 3"),
        (["wet"], "wet"),
        ([None], "None"),
    ],
)
def test_values_that_are_no_increasing_numbers(values, named: str) -> None:
    with pytest.raises(ArgumentError, match="levels must") as caught:
        as_increasing("levels", values)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "arguments", "named"),
    [
        (np.ones(4), {"quantiles": []}, "quantiles"),
        (np.ones(4), {"quantiles": [0.0, 0.5]}, "between 0 and 1"),
        (np.ones(4), {"quantiles": [0.5, 1.0]}, "between 0 and 1"),
        (np.ones(4), {"quantiles": [0.5, 0.2]}, "0.5 before 0.2"),
        (np.zeros(4), {}, "too few distinct values to place thresholds between, 0 alone"),
        (np.zeros(4), {"wet": 0.0}, "no value above wet (=0)"),
        (np.ones(4), {"wet": 1.0}, "no value above wet (=1)"),
        (np.full(4, np.nan), {}, "no value that was measured"),
        (np.full(4, np.inf), {}, "no value that was measured"),
        (np.zeros((0, 3, 3)), {}, "no value that was measured"),
        (np.ma.masked_all((2, 3)), {}, "no value that was measured"),
        (np.ones(4), {"quantum": 0}, "quantum must be a positive number, got 0"),
        (np.ones(4), {"quantiles": [0.2, 0.8]}, "too few distinct values"),
    ],
)
def test_quantiles_that_cannot_be_taken(fields: np.ndarray, arguments: dict, named: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        quantile_thresholds(fields, **arguments)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
