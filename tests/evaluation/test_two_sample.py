"""Whether a network tells sets of fields apart: equal ones not, noisy, blurred or leaning ones."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from emuloss.errors import ArgumentError
from emuloss.evaluation import ClassifierTest, classifier_test
from emuloss.evaluation.pixels import waves
from emuloss.evaluation.two_sample import area_under_curve, divided
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

SIDE = 24
ROW, COLUMN = np.mgrid[:SIDE, :SIDE]
told_apart = partial(classifier_test, folds=2, steps=30, progress=False)


def rain(count: int, seed: int) -> NDArray[np.float32]:
    """Log-normal rain, half of the pixels dry, (N, H, W)."""
    z = waves(count, (SIDE, SIDE), 2.5, seed)
    return np.where(z > 0, np.exp(2 * z), 0).astype(np.float32)


def blurred(fields: NDArray[np.float32]) -> NDArray[np.float32]:
    return (fields + sum(np.roll(fields, k, axis) for k in (-1, 1) for axis in (1, 2))) / 5


def leaning(count: int, seed: int) -> NDArray[np.float64]:
    """Noise and crests along the main diagonal, whose places differ."""
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 2 * np.pi, (count, 1, 1))
    return 2 * np.sin(2 * np.pi * (ROW - COLUMN) / 6 + phase) + rng.normal(size=(count, SIDE, SIDE))


@pytest.mark.parametrize(("n", "m"), [(64, 64), (64, 50)])
def test_equal_distributions_are_not_told_apart(n: int, m: int) -> None:
    # Three times the deviation in 2 folds, by Mann and Whitney.
    bound = 3 * ((n + m) / (12 * n * m)) ** 0.5
    assert told_apart(rain(n, 0), rain(m, 1)).auc == pytest.approx(0.5, abs=bound)


@pytest.mark.parametrize(
    "defect",
    [
        lambda fields: fields * np.random.default_rng(9).lognormal(0, 0.8, fields.shape),
        blurred,
        lambda fields: fields * (1 + 0.2 * (-1.0) ** (ROW + COLUMN)),
        lambda fields: np.minimum(fields, 4),
    ],
    ids=["noise", "blur", "checkerboard", "no extremes"],
)
def test_defects_are_found(defect) -> None:
    # Five deviations of that of equal distributions; this short a training does not find all there is.
    assert told_apart(defect(rain(48, 1)), rain(48, 2), steps=40).auc > 0.8


def test_which_way_fields_lean_is_seen() -> None:
    assert told_apart(leaning(48, 0), leaning(48, 1)[:, :, ::-1]).auc > 0.9


def test_groups_are_kept_together() -> None:
    # Who has seen one group of each set tells them by what differs, direction or length of the waves, and in
    # the other two groups that is the other way round.
    def group(place: NDArray[np.int64], length: int) -> NDArray[np.float64]:
        rng = np.random.default_rng(length)
        phase = rng.uniform(0, 2 * np.pi, (24, 1, 1))
        return np.sin(2 * np.pi * place / length + phase) + 0.3 * rng.normal(size=(24, SIDE, SIDE))

    fields = np.concatenate([group(COLUMN, 3), group(ROW, 8)])
    observed = np.concatenate([group(COLUMN, 8), group(ROW, 3)])
    labels = np.arange(4).repeat(24)
    assert told_apart(fields, observed).auc > 0.9
    assert told_apart(fields, observed, groups=labels[:48], observed_groups=labels[48:]).auc < 0.1


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=60),
    st.lists(st.integers(0, 30), min_size=1, max_size=60),
    st.integers(2, 4),
    st.integers(0, 99),
)
def test_folds_hold_whole_groups_and_both_sets(first, second, folds: int, seed: int) -> None:
    labels = [np.array(first), np.array(second)]
    try:
        places = divided(labels, folds, np.random.default_rng(seed))
    except ArgumentError:
        assert min(len(set(first)), len(set(second))) < 3 * folds
        return
    for numbers in np.union1d(*labels):
        assert len({int(k) for x, y in zip(labels, places, strict=True) for k in y[x == numbers]}) == 1
    for each in places:
        assert set(each.tolist()) == set(range(folds))


def test_folds_are_even_where_groups_are() -> None:
    places = divided([np.arange(24), np.arange(24)], 4, np.random.default_rng(0))
    np.testing.assert_array_equal(places[0], places[1])
    assert np.bincount(places[0]).tolist() == [6] * 4


@given(st.lists(st.integers(-3, 3), min_size=1), st.lists(st.integers(-3, 3), min_size=1))
def test_area_is_that_over_all_pairs(first, second) -> None:
    wins = [(x > y) + (x == y) / 2 for x in first for y in second]
    assert area_under_curve(np.array(first), np.array(second)) == pytest.approx(np.mean(wins))


def test_auc_is_the_mean_over_pairs_within_folds() -> None:
    found = told_apart(rain(25, 0), rain(25, 1), steps=3)
    assert isinstance(found, ClassifierTest)
    assert {round(169 * 2 * area) % 1 or round(144 * 2 * area) % 1 for area in found.by_fold} == {0}
    expected = np.average(found.by_fold, weights=[13**2, 12**2])
    reverse = np.average(found.by_fold, weights=[12**2, 13**2])
    assert found.auc in (pytest.approx(expected), pytest.approx(reverse))


def test_same_seed_same_figures_whatever_the_caller_does() -> None:
    sets = rain(16, 0), rain(16, 1)
    first = told_apart(*sets, steps=5, seed=3)
    assert told_apart(*sets, steps=5, seed=4) != first
    torch.manual_seed(7)
    states = torch.random.get_rng_state(), np.random.get_state()  # noqa: NPY002  the state of callers of old
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            assert told_apart(*sets, steps=5, seed=3) == first
            assert torch.is_inference_mode_enabled()
        with torch.no_grad():
            assert told_apart(*sets, steps=5, seed=3) == first
    finally:
        torch.set_default_dtype(before)
    assert torch.equal(torch.random.get_rng_state(), states[0])
    np.testing.assert_equal(np.random.get_state(), states[1])  # noqa: NPY002


def test_units_make_no_difference() -> None:
    sets = rain(16, 0), rain(16, 1)
    first = told_apart(*sets, steps=5)
    assert told_apart(*(1024 * x for x in sets), steps=5) == first
    assert told_apart(*(x.astype(np.float64) for x in sets), steps=5) == first


def test_an_outlier_harms_nothing() -> None:
    fields = blurred(rain(48, 0))
    fields[3, 4, 5] = 1e30
    assert told_apart(fields, rain(48, 1)).auc > 0.9


@pytest.mark.parametrize("value", [0, 280.5, np.nan])
@pytest.mark.parametrize("side", [1, 5])
def test_constants_are_all_alike(value: float, side: int) -> None:
    constant = np.full((6, side, side + 1), value)
    assert told_apart(constant, constant, steps=2) == (0.5, (0.5, 0.5))


def test_only_measured_pixels_count() -> None:
    gaps = np.where(COLUMN < SIDE // 2, np.nan, 0)
    sets = rain(48, 0) + gaps, blurred(rain(48, 1)) + gaps
    assert told_apart(*sets).auc > 0.9
    masked = [np.ma.masked_invalid(x) for x in sets]
    assert told_apart(*masked, steps=2) == told_apart(*sets, steps=2)


def test_progress_is_told() -> None:
    told: list[float] = []
    told_apart(rain(8, 0), rain(8, 1), steps=1, progress=told.append)
    assert told == [0.5, 1]


def test_refused() -> None:
    x = np.zeros((6, 8, 8))
    with pytest.raises(ArgumentError, match=r"one size \(H, W\), got \(8, 8\) and \(8, 7\)"):
        classifier_test(x, x[:, :, 1:])
    with pytest.raises(ArgumentError, match="observed must be finite"):
        classifier_test(x, np.where(np.eye(8), np.inf, x))
    with pytest.raises(ArgumentError, match=r"folds must be at least 2, .* got 4 folds for 3 groups"):
        classifier_test(x, x, groups=[0, 0, 1, 1, 2, 2])
    with pytest.raises(ArgumentError, match=r"folds must be at least 2, .* got 1 folds"):
        classifier_test(x, x, folds=1)
    with pytest.raises(ArgumentError, match="both sets, got 2 folds for 3 groups"):
        classifier_test(x, x, folds=2, groups=["a"] * 6, observed_groups=["b"] * 3 + ["c"] * 3)
    with pytest.raises(ArgumentError, match=r"groups must be 6 labels, one for each field, got shape \(5,\)"):
        classifier_test(x, x, groups=range(5))
    with pytest.raises(ArgumentError, match="observed_groups must be 5 labels"):
        classifier_test(x, x[1:], groups=range(6))
    with pytest.raises(ArgumentError, match="groups must be given where observed_groups are"):
        classifier_test(x, x, observed_groups=range(6))
    for name in ("folds", "steps"):
        with pytest.raises(ArgumentError, match=f"{name} must be a whole number of at least 1, got 0"):
            classifier_test(x, x, **{name: 0})
    with pytest.raises(ArgumentError, match="seed must be a whole number, 0 or more, got -1"):
        classifier_test(x, x, seed=-1)
