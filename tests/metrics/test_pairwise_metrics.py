"""Metrics of a prediction and an observation: against slow references, other packages and themselves."""

import functools
import json
import math
import pickle

import numpy as np
import pytest
from drawn import read_all
from emuloss.datasets import Rain
from emuloss.errors import ArgumentError
from emuloss.metrics import Metric
from emuloss.metrics.betti_error import BettiError
from emuloss.metrics.csi import CSI
from emuloss.metrics.fss import FSS
from emuloss.metrics.sal import SAL
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage.measure import euler_number, label

THRESHOLDS = (0.5, 1.5, 2.5)
SCORES = ("csi", "pod", "far")
SAL_OUTPUTS = ("structure", "amplitude", "location", "total")
METRICS: dict[str, Metric] = {
    "fss": FSS(THRESHOLDS, windows=(1, 3, 9, 101)),
    "csi": CSI(THRESHOLDS),
    "csi, pod, far": CSI(THRESHOLDS, outputs=SCORES),
    "sal": SAL(outputs=SAL_OUTPUTS),
    "signed sal": SAL(wet=0.2, outputs=SAL_OUTPUTS, absolute=False, connectivity=2),
    "betti-error": BettiError(THRESHOLDS),
    "betti-error of 8-connected sets": BettiError(THRESHOLDS, connectivity=2),
}
CLASSES = (FSS, CSI, SAL, BettiError)
SHAPES = [(1, 1), (1, 9), (9, 1), (2, 2), (5, 8), (17, 13)]

every_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
quick = settings(deadline=None, max_examples=60)
few_values = st.sampled_from([0.0, 1.0, 2.0, 3.0, -1.0, 0.25, math.nan, math.inf])
pairs_of_fields = hnp.array_shapes(min_dims=2, max_dims=2, max_side=9).flatmap(
    lambda shape: hnp.arrays(np.float64, (2, 1, *shape), elements=few_values)
)


@functools.cache
def rain(count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of synthetic fields: shifted and scaled, of one regime of weather, and unrelated."""
    observations = read_all(Rain(count, size, seed=11))
    predictions = observations[::-1].copy()
    third = count // 3
    predictions[:third] = 1.3 * np.roll(observations[:third], (3, -5), (1, 2))
    predictions[third : 2 * third] = ndimage.gaussian_filter(observations[third : 2 * third], (0, 1.5, 1.5))
    return predictions, observations


def some_pairs() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    pairs: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for shape in SHAPES:
        densities = rng.choice([0.0, 0.02, 0.2, 0.5, 0.8, 1.0], (2, 40, 1, 1))
        wet = rng.random((2, 40, *shape)) < densities
        values = np.where(wet, rng.choice([1.0, 2.0, 3.0], wet.shape), 0.0)
        pairs[f"masks {shape}"] = values[0], values[1]
    noise = rng.gamma(0.3, 3.0, (2, 20, 17, 13))
    dry, wet = np.zeros((3, 17, 13)), np.full((3, 17, 13), 2.0)
    holes = np.where(rng.random(noise.shape) < 0.2, np.nan, noise)
    return pairs | {
        "noise": (noise[0], noise[1]),
        "negative": (noise[0] - 2, noise[1] - 2),
        "both dry": (dry, dry),
        "both wet": (wet, wet),
        "wet on dry": (wet, dry),
        "dry on wet": (dry, wet),
        "noise on dry": (noise[0, :3], dry),
        "not measured": (np.full_like(dry, np.nan), wet),
        "partly measured": (holes[0], holes[1]),
        "infinite": (np.where(noise[0] > 1, np.inf, -np.inf), noise[1]),
        "chequers on dry": ((np.indices((17, 13)).sum(0) % 2)[None] * 3.0, dry[:1]),
        "lattice on dry": (1.0 - np.indices((17, 13)).all(0)[None], dry[:1]),
        "no field": (dry[:0], dry[:0]),
    }


PAIRS = some_pairs()
every_pair = pytest.mark.parametrize("name", PAIRS)


def scored(metric: Metric, prediction: np.ndarray, observation: np.ndarray) -> np.ndarray:
    """Values (C, Q) of one pair."""
    return metric(prediction[None], observation[None])[0]


# References


def naive_fss(prediction: np.ndarray, observation: np.ndarray, threshold: float, size: int) -> float:
    missing = np.isnan(prediction) | np.isnan(observation)
    p, o = ((field >= threshold) & ~missing for field in (prediction, observation))
    radius, (rows, columns) = size // 2, p.shape
    error = reference = 0.0
    for i in range(rows):
        for j in range(columns):
            if missing[i, j]:
                continue
            window = np.s_[max(i - radius, 0) : i + radius + 1, max(j - radius, 0) : j + radius + 1]
            measured = size**2 - missing[window].sum()
            wet_p, wet_o = p[window].sum() / measured, o[window].sum() / measured
            error += (wet_p - wet_o) ** 2
            reference += wet_p**2 + wet_o**2
    return 1 - error / reference if reference else 1.0


def naive_csi(prediction: np.ndarray, observation: np.ndarray, threshold: float) -> list[float]:
    measured = ~(np.isnan(prediction) | np.isnan(observation))
    p, o = prediction[measured] >= threshold, observation[measured] >= threshold
    hits, misses, false_alarms = (p & o).sum(), (~p & o).sum(), (p & ~o).sum()
    return [
        hits / (hits + misses + false_alarms) if hits + misses + false_alarms else 1.0,
        hits / (hits + misses) if hits + misses else 1.0,
        false_alarms / (hits + false_alarms) if hits + false_alarms else 0.0,
    ]


def naive_sal(prediction: np.ndarray, observation: np.ndarray, wet=0.0, connectivity=1) -> list[float]:
    """S, A and L as Wernli et al. write them, with scipy."""
    measured = np.isfinite(prediction) & np.isfinite(observation)
    fields = [np.where(measured & (field > wet), field, 0.0) for field in (prediction, observation)]
    means = [field.mean() for field in fields]
    if max(means) == 0:
        return [0.0, 0.0, 0.0]
    diagonal = math.sqrt(sum(n**2 for n in prediction.shape))
    volumes, centres, spreads = [], [], []
    for field, mean in zip(fields, means, strict=True):
        if mean == 0:
            volumes.append(0.0)
            continue
        contour = np.quantile(field[field > 0], 0.95) / 15
        labels, count = ndimage.label(field >= contour, ndimage.generate_binary_structure(2, connectivity))
        centres.append(np.array(ndimage.center_of_mass(field)))
        mass = volume = distance = 0.0
        for n in range(1, count + 1):
            own = field[labels == n]
            centre = np.array(ndimage.center_of_mass(field, labels, n))
            mass += own.sum()
            volume += own.sum() * own.sum() / own.max()
            distance += own.sum() * np.linalg.norm(centre - centres[-1])
        volumes.append(volume / mass)
        spreads.append(distance / mass)
    structure, amplitude = ((a - b) / (0.5 * (a + b)) for a, b in (volumes, means))
    if min(means) == 0:
        return [structure, amplitude, 2.0]
    first = np.linalg.norm(centres[0] - centres[1]) / diagonal
    return [structure, amplitude, first + 2 * abs(spreads[0] - spreads[1]) / diagonal]


def naive_betti(field: np.ndarray, missing: np.ndarray, threshold: float, connectivity: int) -> np.ndarray:
    mask = (field >= threshold) & ~missing
    components = label(mask, connectivity=connectivity).max()
    return np.array([components, components - euler_number(mask, connectivity=connectivity)])


@every_pair
def test_fss_is_that_of_the_definition(name: str) -> None:
    sizes = (1, 3, 7, 41)
    for prediction, observation in list(zip(*PAIRS[name], strict=True))[:8]:
        expected = [[naive_fss(prediction, observation, u, size) for u in THRESHOLDS] for size in sizes]
        ours = scored(FSS(THRESHOLDS, windows=sizes), prediction, observation)
        np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-12)


@every_pair
def test_csi_is_that_of_the_contingency_table(name: str) -> None:
    for prediction, observation in zip(*PAIRS[name], strict=True):
        expected = np.transpose([naive_csi(prediction, observation, u) for u in THRESHOLDS])
        ours = scored(CSI(THRESHOLDS, outputs=SCORES), prediction, observation)
        np.testing.assert_array_equal(ours, expected)


def assert_sal(prediction: np.ndarray, observation: np.ndarray, **arguments) -> None:
    """Signed and unsigned values of one pair are those of the reference."""
    s, a, l = naive_sal(prediction, observation, **arguments)
    signed = scored(SAL(**arguments, outputs=SAL_OUTPUTS, absolute=False), prediction, observation)
    np.testing.assert_allclose(signed[:, 0], [s, a, l, abs(s) + abs(a) + l], rtol=1e-9, atol=1e-12)
    unsigned = scored(SAL(**arguments, outputs=SAL_OUTPUTS), prediction, observation)
    np.testing.assert_array_equal(unsigned, abs(signed))


@pytest.mark.parametrize("arguments", [{}, {"wet": 0.3, "connectivity": 2}], ids=str)
@every_pair
def test_sal_is_that_of_the_definition(name: str, arguments: dict) -> None:
    for prediction, observation in list(zip(*PAIRS[name], strict=True))[:20]:
        assert_sal(prediction, observation, **arguments)


def test_sal_of_rain_is_that_of_the_definition() -> None:
    for prediction, observation in zip(*rain(60, 48), strict=True):
        assert_sal(prediction.astype(np.float64), observation.astype(np.float64), wet=0.1)


@pytest.mark.parametrize("connectivity", [1, 2])
@every_pair
def test_betti_error_is_that_of_scikit_image(name: str, connectivity: int) -> None:
    metric = BettiError(THRESHOLDS, connectivity=connectivity)
    for prediction, observation in list(zip(*PAIRS[name], strict=True))[:8]:
        missing = np.isnan(prediction) | np.isnan(observation)
        predicted, observed = (
            np.transpose([naive_betti(field, missing, u, connectivity) for u in THRESHOLDS])
            for field in (prediction, observation)
        )
        np.testing.assert_array_equal(scored(metric, prediction, observation), abs(predicted - observed))


@pytest.mark.parametrize("size", [1, 3, 9])
def test_fss_is_that_of_scores(size: int) -> None:
    pytest.importorskip("scores")
    from scores.spatial import fss_2d_single_field

    predictions, observations = rain(24, 40)
    thresholds = (0.105, 0.505, 2.005)
    ours = FSS(thresholds, windows=(size,))(predictions, observations)[:, 0]
    for n, pair in enumerate(zip(predictions, observations, strict=True)):
        padded = [np.pad(field.astype(np.float64), size // 2) for field in pair]
        for q, threshold in enumerate(thresholds):
            if max(field.max() for field in pair) < threshold:
                assert ours[n, q] == 1
                continue
            theirs = fss_2d_single_field(
                *padded,
                event_threshold=threshold,
                window_size=(size, size),
                threshold_operator=np.greater_equal,
            )
            assert ours[n, q] == pytest.approx(theirs, abs=1e-12)


def test_csi_is_that_of_scores() -> None:
    pytest.importorskip("scores")
    import xarray as xr
    from scores.categorical import BinaryContingencyManager

    threshold = 0.505
    pairs = zip(*rain(24, 40), strict=True)
    both_wet = [pair for pair in pairs if min(field.max() for field in pair) > threshold]
    assert len(both_wet) > 5
    for prediction, observation in both_wet:
        events = (xr.DataArray((field >= threshold).astype(float)) for field in (prediction, observation))
        table = BinaryContingencyManager(*events).transform()
        theirs = (
            table.critical_success_index(),
            table.probability_of_detection(),
            table.false_alarm_ratio(),
        )
        ours = scored(CSI([threshold], outputs=SCORES), prediction, observation)[:, 0]
        np.testing.assert_allclose(ours, [float(score) for score in theirs], rtol=1e-12)


# Drawn pairs


def test_fss_of_displaced_rain_grows_with_the_window() -> None:
    prediction, observation = np.zeros((2, 64, 64))
    prediction[30:34, 30:34] = observation[30:34, 36:40] = 1
    values = scored(FSS([0.5], windows=(1, 5, 13, 33)), prediction, observation)[:, 0]
    assert values[0] == 0
    assert (np.diff(values) > 0).all()
    assert values[-1] > 0.8


def test_fss_of_a_window_beyond_the_field_compares_areas() -> None:
    prediction, observation = np.zeros((2, 8, 8))
    prediction[0, 0] = observation[5:, 5:7] = 1
    value = scored(FSS([0.5], windows=(15,)), prediction, observation)
    assert value == pytest.approx(2 * 1 * 6 / (1**2 + 6**2))


def test_fss_of_single_pixels_is_dice() -> None:
    for pair in PAIRS.values():
        csi = CSI(THRESHOLDS)(*pair)
        np.testing.assert_allclose(FSS(THRESHOLDS, windows=(1,))(*pair), 2 * csi / (1 + csi), atol=1e-12)


def test_sal_of_drawn_rain() -> None:
    observation = np.zeros((60, 80))
    observation[20:24, 20:24] = 3.0
    signed = SAL(absolute=False)

    shifted = scored(signed, np.roll(observation, (12, 16), (0, 1)), observation)[:, 0]
    np.testing.assert_allclose(shifted, [0, 0, 20 / 100], atol=1e-12)
    doubled = scored(signed, 2 * observation, observation)[:, 0]
    np.testing.assert_allclose(doubled, [0, 2 / 3, 0], atol=1e-12)
    wide = np.zeros_like(observation)
    wide[18:26, 18:26] = 3.0 / 4
    np.testing.assert_allclose(scored(signed, wide, observation)[:, 0], [6 / 5, 0, 0], atol=1e-12)
    # Two halves of the rain, each 8 pixels off its centre.
    split = np.zeros_like(observation)
    split[20:24, 12:16] = split[20:24, 28:32] = 1.5
    np.testing.assert_allclose(scored(signed, split, observation)[:, 0], [0, 0, 2 * 8 / 100], atol=1e-12)


def test_sal_where_one_field_is_dry_is_the_worst() -> None:
    dry, wet = np.zeros((5, 5)), np.ones((5, 5))
    assert scored(SAL(outputs=SAL_OUTPUTS), dry, wet)[:, 0].tolist() == [2, 2, 2, 6]
    assert scored(SAL(absolute=False), dry, wet)[:, 0].tolist() == [-2, -2, 2]
    assert scored(SAL(absolute=False), wet, dry)[:, 0].tolist() == [2, 2, 2]
    assert scored(SAL(wet=1.0), wet, dry)[:, 0].tolist() == [0, 0, 0]


def test_location_stays_below_its_bound_in_the_worst_case() -> None:
    """Drizzle below the contour draws the centre of mass away from the objects."""
    prediction, observation = np.zeros((2, 1, 10_000))
    prediction[0, :760] = 0.0666
    prediction[0, 760:772] = prediction[0, -29:] = 1.0
    observation[0, -1] = 1.0
    value = scored(SAL(outputs=("location",)), prediction, observation)[0, 0]
    assert 1.7 < value < 1.93


def test_betti_error_of_drawn_sets() -> None:
    prediction, observation = np.zeros((2, 9, 9))
    prediction[1:4, 1:4], prediction[2, 2], prediction[6, 6] = 1, 0, 1
    observation[4, 4] = 1
    assert scored(BettiError([0.5]), prediction, observation).tolist() == [[1], [1]]
    # It does not see where things are.
    assert not scored(BettiError([0.5]), np.flip(prediction), prediction).any()


# Symmetry, identity, bounds


def assert_identity(metric: Metric, field: np.ndarray) -> None:
    """A field compared with itself has the declared value."""
    values = metric(field, field)
    declared = metric.identity
    if declared is None:
        expected = np.array([metric.best[output] for output in metric.outputs])[None, :, None]
    else:
        expected = np.array(declared)
    assert (values == expected).all()


@every_metric
@quick
@given(pairs_of_fields)
def test_identity(metric: Metric, pair: np.ndarray) -> None:
    assert_identity(metric, pair[0])


def test_identity_of_rain() -> None:
    for metric in METRICS.values():
        assert_identity(metric, rain(60, 48)[0])


@every_metric
@quick
@given(pairs_of_fields)
def test_symmetry(metric: Metric, pair: np.ndarray) -> None:
    forth, back = metric(pair[0], pair[1]), metric(pair[1], pair[0])
    if metric.name == "csi":
        forth, back = (metric.named(curves) for curves in (forth, back))
        np.testing.assert_array_equal(forth["csi"], back["csi"])
        if "pod" in metric.outputs:
            np.testing.assert_allclose(forth["pod"], 1 - back["far"], atol=1e-15)
    elif metric.name == "sal":
        signs = 1 if metric.absolute else np.array([-1, -1, 1, 1])[None, :, None]
        np.testing.assert_array_equal(forth, signs * back)
    else:
        assert metric.symmetric
        np.testing.assert_array_equal(forth, back)


@pytest.mark.parametrize("metric", [CSI([0.5], outputs=SCORES), SAL(absolute=False)], ids=repr)
def test_what_is_not_declared_symmetric_is_not(metric: Metric) -> None:
    assert not metric.symmetric
    prediction, observation = PAIRS["noise"]
    assert (metric(prediction, observation) != metric(observation, prediction)).any()


@quick
@given(pairs_of_fields, st.randoms(use_true_random=False))
def test_betti_error_obeys_the_triangle_inequality(pair: np.ndarray, random) -> None:
    metric = BettiError(THRESHOLDS)
    pair = np.nan_to_num(pair, nan=0.0)
    third = np.array(random.choices([0.0, 1.0, 2.0, 3.0], k=pair[0].size)).reshape(pair[0].shape)
    assert (metric(*pair) <= metric(pair[0], third) + metric(third, pair[1])).all()


@every_metric
def test_turned_and_mirrored_pairs_have_the_same_values(metric: Metric) -> None:
    assert metric.invariant
    for name in ("noise", "partly measured", "masks (17, 13)"):
        pair = PAIRS[name]
        values = metric(*pair)
        for quarters in range(4):
            for step in (1, -1):
                turned = [np.rot90(field, quarters, (1, 2))[..., ::step] for field in pair]
                np.testing.assert_allclose(metric(*turned), values, rtol=1e-9, atol=1e-12)


def violations(metric: Metric, predictions: np.ndarray, observations: np.ndarray) -> dict[str, float]:
    values = metric(predictions, observations)
    assert np.isfinite(values).all()
    shares = metric.check(values, predictions.shape[1:])
    assert len(shares) == len(metric.constraints)
    return {constraint: share for constraint, share in shares.items() if share}


@every_metric
@every_pair
def test_exact_values_break_no_constraint(metric: Metric, name: str) -> None:
    assert violations(metric, *PAIRS[name]) == {}


@every_metric
@quick
@given(pairs_of_fields)
def test_any_pair_breaks_no_constraint(metric: Metric, pair: np.ndarray) -> None:
    assert violations(metric, pair[0], pair[1]) == {}


@every_metric
def test_rain_breaks_no_constraint(metric: Metric) -> None:
    assert violations(metric, *rain(60, 48)) == {}


@pytest.mark.slow
@every_metric
def test_much_rain_breaks_no_constraint(metric: Metric) -> None:
    assert violations(metric, *rain(2000, 128)) == {}


def test_ranges_are_exact() -> None:
    """Not only within the slack that checks allow for rounding."""
    for predictions, observations in PAIRS.values():
        fss = FSS(THRESHOLDS, windows=(1, 3, 9))(predictions, observations)
        sal = SAL(outputs=SAL_OUTPUTS, absolute=False)(predictions, observations)
        assert ((fss >= 0) & (fss <= 1)).all()
        assert (abs(sal[:, :2]) <= 2).all()


# Each constraint fires

BREAKS = [
    ("fss", "fss_3 >= 0", {"fss_3": -0.1}),
    ("fss", "fss_101 <= 1", {"fss_101": 1.1}),
    ("csi", "csi >= 0", {"csi": -0.1}),
    ("csi", "csi <= 1", {"csi": 1.1}),
    ("csi, pod, far", "pod >= 0", {"pod": -0.1}),
    ("csi, pod, far", "pod <= 1", {"pod": 1.1}),
    ("csi, pod, far", "far >= 0", {"far": -0.1}),
    ("csi, pod, far", "far <= 1", {"far": 1.1}),
    ("csi, pod, far", "csi <= pod", {"csi": 0.6, "pod": 0.5}),
    ("csi, pod, far", "csi <= 1 - far", {"csi": 0.6, "far": 0.5}),
    ("csi, pod, far", "1/csi = 1/pod + 1/(1 - far) - 1", {"csi": 0.5, "pod": 0.7, "far": 0.3}),
    ("csi, pod, far", "1/csi = 1/pod + 1/(1 - far) - 1", {"csi": 0.01, "pod": 0.0, "far": 1.0}),
    ("sal", "structure >= 0", {"structure": -0.1}),
    ("sal", "structure <= 2", {"structure": 2.1}),
    ("signed sal", "structure >= -2", {"structure": -2.1}),
    ("sal", "amplitude >= 0", {"amplitude": -0.1}),
    ("sal", "amplitude <= 2", {"amplitude": 2.1}),
    ("signed sal", "amplitude >= -2", {"amplitude": -2.1}),
    ("sal", "location >= 0", {"location": -0.1}),
    ("sal", "location <= 2", {"location": 2.1}),
    ("sal", "total >= 0", {"total": -0.1}),
    ("sal", "total <= 6", {"total": 6.1}),
    ("sal", "total = |structure| + |amplitude| + location", {"total": 0.1}),
    ("signed sal", "total = |structure| + |amplitude| + location", {"structure": -0.5, "total": -0.5}),
    ("betti-error", "components >= 0", {"components": -1}),
    ("betti-error", "components <= (field + 1)/2", {"components": 51}),
    ("betti-error", "holes >= 0", {"holes": -1}),
    ("betti-error", "holes <= field/4", {"holes": 26}),
    ("betti-error of 8-connected sets", "holes <= field/2", {"holes": 51}),
]


@pytest.mark.parametrize(("name", "constraint", "changes"), BREAKS, ids=lambda value: str(value))
def test_broken_values_are_found(name: str, constraint: str, changes: dict[str, float]) -> None:
    metric = METRICS[name]
    dry = np.zeros((1, 10, 10))
    values = metric(dry, dry)
    assert set(metric.check(values, (10, 10)).values()) == {0.0}
    for output, value in changes.items():
        values[0, metric.outputs.index(output), 0] = value
    assert metric.check(values, (10, 10))[constraint] == 1 / len(metric.levels)


def test_every_kind_of_constraint_is_seen_to_fail() -> None:
    declared = {c.label for metric in METRICS.values() for c in metric.constraints}
    seen = {constraint for _, constraint, _ in BREAKS}
    assert {c for c in declared - seen if not c.startswith("fss")} == set()


# Not measured


@every_metric
def test_not_measured_in_one_is_not_measured_in_both(metric: Metric) -> None:
    prediction, observation = PAIRS["noise"]
    gone = np.random.default_rng(1).random(prediction.shape) < 0.3
    nans = [np.where(gone, np.nan, field) for field in (prediction, observation)]
    expected = metric(*nans)
    np.testing.assert_array_equal(metric(nans[0], observation), expected)
    np.testing.assert_array_equal(metric(prediction, nans[1]), expected)


@pytest.mark.parametrize("metric", [METRICS["sal"], METRICS["betti-error"]], ids=["sal", "betti-error"])
def test_objects_take_what_is_not_measured_for_dry(metric: Metric) -> None:
    prediction, observation = PAIRS["partly measured"]
    missing = np.isnan(prediction) | np.isnan(observation)
    filled = [np.where(missing, 0.0, field) for field in (prediction, observation)]
    np.testing.assert_array_equal(metric(prediction, observation), metric(*filled))


@pytest.mark.parametrize("metric", [METRICS["csi, pod, far"], FSS(THRESHOLDS, windows=(1,))], ids=repr)
def test_pixelwise_scores_leave_out_what_is_not_measured(metric: Metric) -> None:
    for prediction, observation in zip(*PAIRS["partly measured"], strict=True):
        measured = ~(np.isnan(prediction) | np.isnan(observation))
        expected = scored(metric, prediction[measured][None], observation[measured][None])
        np.testing.assert_array_equal(scored(metric, prediction, observation), expected)


def test_fractions_are_shares_of_what_was_measured() -> None:
    """A window that misses a column compares as one without it; outside the field it is dry."""
    prediction = np.array([[1.0, 1.0, np.nan]])
    observation = np.array([[1.0, 0.0, 1.0]])
    # Windows of 3 x 3, all but three pixels outside; the NaN is left out of the two that hold it.
    shares = [(2 / 9, 1 / 9), (2 / 8, 1 / 8)]
    expected = 1 - sum((p - o) ** 2 for p, o in shares) / sum(p**2 + o**2 for p, o in shares)
    assert scored(FSS([0.5], windows=(3,)), prediction, observation) == pytest.approx(expected)


# Input and declaration


@every_metric
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64, np.uint8, bool, ">f4"])
def test_input_types(metric: Metric, dtype) -> None:
    rng = np.random.default_rng(3)
    pair = [rng.integers(0, 4, (4, 11, 7)).astype(dtype) for _ in range(2)]
    expected = metric(*(field.astype(np.float64) for field in pair))
    np.testing.assert_array_equal(metric(*pair), expected)
    np.testing.assert_array_equal(metric(pair[0], pair[1].astype(np.float64)), expected)


@every_metric
def test_memory_layout_and_batches(metric: Metric) -> None:
    rng = np.random.default_rng(3)
    pair = rng.gamma(0.3, 3.0, (2, 7, 150, 160))
    kept = pair.copy()
    whole = metric(*pair)
    assert whole.shape == (7, len(metric.outputs), len(metric.levels))
    assert whole.dtype == np.float64
    np.testing.assert_array_equal(pair, kept)
    one_by_one = [metric(p[None], o[None]) for p, o in zip(*pair, strict=True)]
    np.testing.assert_array_equal(whole, np.concatenate(one_by_one))
    np.testing.assert_array_equal(whole, metric(*(np.asfortranarray(field) for field in pair)))
    np.testing.assert_array_equal(whole[::2], metric(*pair[:, ::2]))
    assert metric(*pair[:, :0]).shape == (0, *whole.shape[1:])


@pytest.mark.parametrize("metric", [FSS([0.1]), CSI([0.1]), BettiError([0.1])], ids=lambda m: m.name)
def test_values_compare_in_double_precision(metric: Metric) -> None:
    low, high = np.float32(0.1), np.nextafter(np.float32(0.1), np.float32(0))
    assert float(low) > 0.1 > float(high)
    pair = np.full((1, 3, 3), low), np.full((1, 3, 3), high)
    exact = np.full((1, 3, 3), 0.2), np.full((1, 3, 3), 0.0)
    np.testing.assert_array_equal(metric(*pair), metric(*exact))


def test_wet_pixels_are_told_in_double_precision() -> None:
    pair = np.full((2, 1, 3, 3), np.float32(0.1))
    pair[1] *= 2
    assert SAL(wet=0.1, outputs=("amplitude",))(*pair).item() == pytest.approx(2 / 3)


@every_metric
def test_declaration(metric: Metric) -> None:
    assert metric.arity == 2
    assert metric.lower_better is (metric.name in ("sal", "betti-error"))
    assert metric.units == ("1",) * len(metric.outputs)
    again = type(metric)(**json.loads(json.dumps(metric.arguments())))
    assert again == metric
    assert hash(again) == hash(metric)
    thawed = pickle.loads(pickle.dumps(metric))
    assert thawed == metric
    np.testing.assert_array_equal(thawed(*PAIRS["noise"]), metric(*PAIRS["noise"]))


def test_axes() -> None:
    for metric in (FSS(THRESHOLDS), CSI(THRESHOLDS), BettiError(THRESHOLDS)):
        assert metric.thresholds == THRESHOLDS
        assert metric.levels == pytest.approx((1 / 6, 1 / 2, 5 / 6))
        assert type(metric)(THRESHOLDS, levels=(0.1, 0.2, 0.9)).levels == (0.1, 0.2, 0.9)
    assert (SAL().thresholds, len(SAL().levels)) == ((), 1)
    assert FSS([1], windows=(1, 5)).outputs == ("fss_1", "fss_5")
    assert CSI([1]).outputs == ("csi",)
    assert SAL().outputs == ("structure", "amplitude", "location")
    assert BettiError([1], outputs=("holes",)).outputs == ("holes",)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FSS([]), "thresholds must hold"),
        (lambda: FSS([1], windows=()), "windows must hold at least one"),
        (lambda: FSS([1], windows=(3, 4)), "windows must be odd.*got 4"),
        (lambda: FSS([1], windows=(3, 1)), "windows must be strictly increasing"),
        (lambda: FSS([1], windows=(0, 1)), "windows must be a whole number"),
        (lambda: FSS([1], windows=5), "windows must be a sequence"),
        (lambda: CSI([1, 1]), "thresholds must be strictly increasing"),
        (lambda: CSI([1], outputs=("csi", "hss")), "outputs must be distinct names out of csi, pod, far"),
        (lambda: CSI([1], outputs=()), "outputs must be"),
        (lambda: CSI([1], levels=(0.1, 0.2)), "levels must match the 1 thresholds"),
        (lambda: SAL(wet=-1), "wet must be a number >= 0"),
        (lambda: SAL(wet=math.nan), "wet must be a number >= 0"),
        (lambda: SAL(absolute="no"), "absolute must be True or False"),
        (lambda: SAL(outputs="total"), "outputs must be"),
        (lambda: SAL(connectivity=4), "connectivity must be"),
        (lambda: BettiError([1], outputs=("euler",)), "outputs must be distinct names out of components"),
        (lambda: BettiError([1], connectivity=0), "connectivity must be"),
    ],
)
def test_bad_arguments(build, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        build()


@every_metric
def test_bad_fields(metric: Metric) -> None:
    with pytest.raises(ArgumentError, match="takes predictions and observations, got 1 arrays"):
        metric(np.zeros((1, 3, 3)))
    with pytest.raises(ArgumentError, match="one shape"):
        metric(np.zeros((1, 3, 3)), np.zeros((1, 3, 4)))
