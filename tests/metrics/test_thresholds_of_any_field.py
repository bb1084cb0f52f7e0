"""Default thresholds of fields of any kind: what counts, the data's own steps, the same in every unit."""

import itertools

import numpy as np
import pytest
from emuloss.datasets import Rain
from emuloss.metrics import WET_LEVELS, Minkowski, dry_value, found_quantum, metric, quantile_thresholds
from hypothesis import given, settings
from hypothesis import strategies as st

UNITS = [(1.0, 273.15), (10.0, -30.0), (0.01, 0.0), (255.0, 0.0), (3.7, -2.0)]


def smooth(seed: int = 0, shape=(6, 48, 48), reach: int = 6) -> np.ndarray:
    """Means of white noise over squares, brought to mean 0 and deviation 1, float64."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    for axis in (1, 2):
        noise = sum(np.roll(noise, k, axis) for k in range(reach))
    return (noise - noise.mean()) / noise.std()


def dbz() -> np.ndarray:
    """Reflectivity in steps of 0.5 dBZ; -32 where there is no echo."""
    return np.where(smooth() > 0.3, np.round(2 * (8 + 12 * smooth())) / 2, -32.0)


def mask(blur: int) -> np.ndarray:
    """A binary mask, blurred by a binomial filter so many times."""
    field = (smooth() > 0.4).astype(float)
    for _ in range(blur):
        for axis in (1, 2):
            field = (np.roll(field, 1, axis) + 2 * field + np.roll(field, -1, axis)) / 4
    return field


FIELDS = {
    "rain": lambda: Rain(24, 48).read(0, "train").astype(float),
    "continuous rain": lambda: np.maximum(np.exp(smooth()) - 1, 0),
    "z-scores": smooth,
    "kelvin": lambda: 285 + 8 * smooth(),
    "celsius in tenths": lambda: np.round(8 * smooth(), 1),
    "grey, 0 to 1": lambda: (smooth() - smooth().min()) / np.ptp(smooth()),
    "grey, 8 bit": lambda: np.round(128 + 40 * smooth()).clip(0, 255),
    "grey, 8 bit, 0 to 1": lambda: np.round(128 + 40 * smooth()).clip(0, 255) / 255,
    "grey, over-exposed": lambda: np.round(190 + 80 * smooth()).clip(0, 255),
    "dBZ": dbz,
    "a palette": lambda: np.array([0, 0.16, 0.25, 0.4, 0.63, 1, 1.6, 2.5, 4, 6.3])[
        np.digitize(smooth(), np.linspace(0, 3, 9))
    ],
    "a mask": lambda: mask(0),
    "a mask, blurred slightly": lambda: mask(1),
    "a mask, blurred": lambda: mask(4),
    "cloud cover": lambda: (0.5 + 0.6 * smooth()).clip(0, 1),
}


@pytest.mark.parametrize("kind", FIELDS)
@pytest.mark.parametrize("single", [True, False], ids=["float32", "float64"])
def test_default_thresholds_part_the_data(kind: str, single: bool) -> None:
    fields = FIELDS[kind]().astype(np.float32 if single else np.float64)
    thresholds = quantile_thresholds(fields)
    assert len(thresholds) == len(WET_LEVELS)
    assert (np.diff(thresholds) > 0).all()
    shares = [(fields.astype(float) >= u).mean() for u in thresholds]
    assert all(0 < share < 1 for share in shares)
    areas = Minkowski(thresholds, outputs=["area"])(fields)[:, 0]
    assert (np.ptp(areas, axis=0) > 0).all(), "an exact label is the same for all fields"
    distinct, counts = np.unique(fields.astype(float), return_counts=True)
    assert not np.isin(thresholds, distinct[counts > 1]).any(), "a threshold lies on a value that many have"


@pytest.mark.parametrize("kind", FIELDS)
@pytest.mark.parametrize(("a", "b"), UNITS)
def test_default_thresholds_do_not_know_the_unit(kind: str, a: float, b: float) -> None:
    fields = FIELDS[kind]()
    one, other = (np.array(quantile_thresholds(each)) for each in (fields, a * fields + b))
    np.testing.assert_allclose((other - b) / a, one, rtol=0, atol=1e-9 * np.ptp(one))


def test_rain_keeps_its_wet_pixels_and_other_fields_all() -> None:
    rain = np.maximum(smooth(), 0)
    wet = rain[rain > 0]
    np.testing.assert_allclose(quantile_thresholds(rain), np.quantile(wet, WET_LEVELS))
    np.testing.assert_allclose(quantile_thresholds(smooth())[1:-1], np.quantile(smooth(), WET_LEVELS[1:-1]))
    np.testing.assert_allclose(
        quantile_thresholds(smooth(), wet=0.0), np.quantile(smooth()[smooth() > 0], WET_LEVELS)
    )


DRY = {
    "rain": 0.0, "continuous rain": 0.0, "dBZ": -32.0, "a palette": 0.0, "a mask": 0.0,
    "a mask, blurred slightly": 0.0, "cloud cover": 0.0,
}  # fmt: skip


@pytest.mark.parametrize("kind", FIELDS)
def test_dry_pixels_are_told_by_their_number(kind: str) -> None:
    assert dry_value(FIELDS[kind]()) == DRY.get(kind)
    if kind in DRY:
        assert dry_value(FIELDS[kind]() * 3 - 7) == pytest.approx(3 * DRY[kind] - 7)


QUANTA = {
    "rain": 0.01, "celsius in tenths": 0.1, "grey, 8 bit": 1, "grey, 8 bit, 0 to 1": 1 / 255,
    "grey, over-exposed": 1, "dBZ": 0.5, "a mask": 1, "a mask, blurred slightly": 1 / 16,
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(FIELDS.keys() - {"a mask, blurred"}))
def test_quantised_data_are_recognised(kind: str) -> None:
    for fields in (FIELDS[kind](), FIELDS[kind]().astype(np.float32)):
        found = found_quantum(fields)
        assert found == QUANTA.get(kind)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([1e-3, 0.01, 0.03, 0.1, 0.5, 1 / 255, 1 / 16, 1.0, 5.0]),
    st.integers(-200, 200),
    st.integers(20, 3000),
    st.integers(0, 2**20),
)
def test_a_step_is_found_wherever_it_starts(quantum: float, start: int, spread: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    steps = np.unique(np.append(rng.geometric(5 / spread, 400), [1, 2]))  # a long tail, with holes
    for offset in (0.0, 0.37):
        values = ((start + steps + offset) * quantum).astype(np.float32)
        assert found_quantum(rng.choice(values, 5000)) == pytest.approx(quantum, rel=1e-5)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("count", [3, 5, 50, 20000])
def test_continuous_data_have_no_step(kind: type, count: int) -> None:
    for seed in range(5):
        values = 1 + np.random.default_rng(seed).standard_normal(count)
        found = found_quantum(values.astype(kind))
        # Half precision is made of steps, where one looks at enough of it.
        assert found is None or kind is np.float16


@pytest.mark.parametrize("kind", ["celsius in tenths", "dBZ", "grey, 8 bit, 0 to 1", "a palette"])
def test_default_thresholds_lie_in_the_middle_between_values(kind: str) -> None:
    values = FIELDS[kind]().astype(np.float32)
    found = np.array(quantile_thresholds(values, (0.2, 0.5, 0.8)))
    distinct = np.unique(values).astype(float)
    above = np.searchsorted(distinct, found)
    gaps = distinct[above] - distinct[above - 1]
    step = found_quantum(values) or np.inf
    np.testing.assert_allclose(distinct[above] - found, np.minimum(gaps, step) / 2, rtol=1e-3)


def test_masked_pixels_do_not_count() -> None:
    fields = np.round(40 * smooth()).astype(np.int16)
    hidden = np.ma.array(fields.copy(), mask=False)
    hidden[:, :9] = np.ma.masked
    hidden.data[:, :9] = 9999
    expected = quantile_thresholds(fields[:, 9:])
    assert quantile_thresholds(hidden) == expected
    assert quantile_thresholds(hidden.astype(np.float32)) == expected
    assert metric("minkowski", quantiles=WET_LEVELS, fields=hidden).thresholds == expected
    assert found_quantum(hidden) == 1
    assert quantile_thresholds([*hidden]) == expected


def test_a_metric_by_quantiles_takes_all_of_a_temperature() -> None:
    built = metric("minkowski", quantiles=(0.1, 0.5), fields=smooth())
    np.testing.assert_allclose(built.thresholds, np.quantile(smooth(), (0.1, 0.5)))


def test_thresholds_keep_a_distance() -> None:
    """Between inside and outside of a blurred mask many pixels are nearly one or the other."""
    field = 1 / (1 + np.exp(-40 * smooth()))
    found = np.array(quantile_thresholds(field))
    assert min(b - a for a, b in itertools.pairwise([0, *found, 1])) > 0.015
