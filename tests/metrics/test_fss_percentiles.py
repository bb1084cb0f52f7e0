"""The fractions skill score at percentiles of each field, against other libraries and plain thresholds."""

import math

import numpy as np
import pytest
from emuloss.errors import ArgumentError
from emuloss.metrics import FSS, metric_from_config
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

PERCENTILES = (40, 75, 97.5)
WINDOWS = (1, 3, 9)
teacher = FSS(percentiles=PERCENTILES, windows=WINDOWS)

fields_of_few_values = hnp.arrays(
    np.float64,
    st.tuples(st.just(2), st.integers(1, 9), st.integers(1, 9)),
    elements=st.sampled_from([0.0, 1.0, 2.0, 5.0, math.nan]),
)
quick = settings(deadline=None, max_examples=60)


def smooth(*shape: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).gamma(0.4, 4.0, shape)
    return ndimage.uniform_filter(noise, (0,) * (len(shape) - 2) + (3, 3))


def masked(field: np.ndarray, missing: np.ndarray, percentile: float) -> np.ndarray:
    """1 where a field reaches its percentile, as NumPy has it; NaN where it is missing."""
    known = field[~missing]
    if not known.size:
        return np.full(field.shape, np.nan)
    return np.where(missing, np.nan, field >= np.percentile(known, percentile))


def by_thresholds(predictions: np.ndarray, observations: np.ndarray) -> np.ndarray:
    """(N, C, Q) by the score at a threshold of fields of 0 and 1."""
    plain, found = FSS([0.5], windows=WINDOWS), []
    for pair in zip(predictions, observations, strict=True):
        missing = np.isnan(pair).any(0)
        masks = [np.stack([masked(each, missing, p) for p in PERCENTILES]) for each in pair]
        found.append(plain(*masks)[:, :, 0].T)
    return np.stack(found)


@quick
@given(pair=fields_of_few_values)
def test_fields_that_numpy_percentiles_cut(pair: np.ndarray) -> None:
    prediction, observation = pair[:1], pair[1:]
    np.testing.assert_allclose(
        teacher(prediction, observation), by_thresholds(prediction, observation), rtol=1e-12
    )


@pytest.mark.parametrize("shape", [(20, 24), (11, 9), (10, 10)], ids=str)
def test_smooth_fields_that_numpy_percentiles_cut(shape) -> None:
    predicted, observed = smooth(4, *shape), smooth(4, *shape, seed=1)
    predicted[1, :3], observed[2, 4] = np.nan, np.nan
    np.testing.assert_allclose(teacher(predicted, observed), by_thresholds(predicted, observed), rtol=1e-12)


def test_by_scores() -> None:
    pytest.importorskip("scores")
    from scores.spatial import fss_2d_single_field

    predicted, observed = smooth(3, 20, 24), smooth(3, 20, 24, seed=1)
    ours = teacher(predicted, observed)
    for n, c, q in np.ndindex(ours.shape):
        size, percentile = WINDOWS[c], PERCENTILES[q]
        # Windows beyond the edge find the world dry.
        cut = [
            np.pad(1.0 * (x >= np.percentile(x, percentile)), size // 2) for x in (predicted[n], observed[n])
        ]
        theirs = fss_2d_single_field(*cut, event_threshold=0.5, window_size=(size, size))
        assert ours[n, c, q] == pytest.approx(float(theirs), rel=1e-9)


def test_a_data_set_by_pysteps() -> None:
    pytest.importorskip("pysteps", exc_type=ImportError)
    from pysteps.verification.spatialscores import fss_accum, fss_compute, fss_init

    predicted, observed = smooth(6, 20, 24), smooth(6, 20, 24, seed=1)
    ours = teacher.of_sums(teacher.sums(predicted, observed).sum(1))
    for c, q in np.ndindex(ours.shape):
        state = fss_init(thr=0.5, scale=WINDOWS[c])
        for pair in zip(predicted, observed, strict=True):
            fss_accum(state, *(1.0 * (x >= np.percentile(x, PERCENTILES[q])) for x in pair))
        assert ours[c, q] == pytest.approx(fss_compute(state), rel=1e-9)


def test_each_member_has_percentiles_of_its_own() -> None:
    members, observed = smooth(3, 2, 16, 16), smooth(3, 16, 16, seed=1)
    sums = teacher.sums(members, observed)
    members[:, 1] = 7 * members[:, 1] + 3
    np.testing.assert_array_equal(teacher.sums(members, observed), sums)


def test_bias_is_not_seen() -> None:
    predicted, observed = smooth(3, 16, 16), smooth(3, 16, 16, seed=1)
    scores = teacher(predicted, observed)
    for biased in (3 * predicted, predicted - 9, np.exp(predicted)):
        np.testing.assert_array_equal(teacher(biased, observed), scores)
    np.testing.assert_array_equal(teacher(predicted, np.sqrt(observed)), scores)
    assert (FSS([1.0], windows=WINDOWS)(3 * predicted, observed) != scores).any()


def test_single_precision_infinities_and_what_was_not_measured() -> None:
    predicted, observed = smooth(3, 16, 16), smooth(3, 16, 16, seed=1)
    rounded = predicted.astype(np.float32)
    np.testing.assert_array_equal(teacher(rounded, observed), teacher(rounded.astype(np.float64), observed))
    greatest = predicted.copy()
    greatest[greatest > np.percentile(predicted, 99)] = np.inf
    np.testing.assert_array_equal(teacher(greatest, observed), teacher(predicted, observed))
    assert (teacher(np.full_like(predicted, np.nan), observed) == 1).all()


def test_what_is_mostly_dry_is_all_in_the_set() -> None:
    """The percentile is 0, which dry pixels reach."""
    rain = np.zeros((1, 10, 10))
    rain[0, :2] = 5.0
    found = FSS(percentiles=[50, 90], windows=(1,))(rain, rain[:, ::-1])
    assert found[0, 0].tolist() == [1.0, 0.0]


def test_definitions() -> None:
    assert (teacher.thresholds, teacher.levels) == ((), (0.4, 0.75, 0.975))
    assert metric_from_config(teacher.config()) == teacher
    assert "percentiles" not in FSS([1.0]).arguments()
    assert FSS(percentiles=[50], levels=[0.1]).levels == (0.1,)
    assert teacher.with_arguments(windows=[5]).percentiles == teacher.percentiles


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "fss takes thresholds, .* or percentiles, .* got neither"),
        ({"thresholds": [1], "percentiles": [50]}, "got both"),
        ({"percentiles": [0, 50]}, "percentiles must lie above 0 and below 100, got 0"),
        ({"percentiles": [50, 100]}, "percentiles must lie above 0 and below 100, got 100"),
        ({"percentiles": [95, 90]}, "percentiles must be strictly increasing"),
        ({"percentiles": []}, "percentiles must hold at least one"),
        ({"percentiles": 95}, "percentiles must be a sequence"),
    ],
)
def test_unusable_percentiles(arguments, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        FSS(**arguments)
