"""How many thresholds each pixel reaches: against counting one by one, whatever the numbers."""

import sys

import numpy as np
import pytest
from emuloss.metrics import Clusters, Minkowski, Morphology
from emuloss.metrics.kernels import clusters, digitise, excursions
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import euler_number, label

KINDS = (np.float32, np.float64)
TINY = float(np.finfo(np.float32).smallest_subnormal)
LARGEST = float(np.finfo(np.float32).max)
MARKS = [0.0, -0.0, TINY, -TINY, 1e-310, 5e-324, -5e-324, 1.0, LARGEST, -LARGEST, 3.5e38, 1e300]

finite = st.floats(allow_nan=False, allow_infinity=False)
numbers = (st.sampled_from(MARKS) | st.floats(-3, 3, width=32) | finite).map(lambda u: u + 0.0)
increasing = st.sets(numbers, min_size=1, max_size=40).map(lambda given: tuple(sorted(given)))


def by_counting(fields: np.ndarray, thresholds: tuple[float, ...]) -> np.ndarray:
    """The definition, in double precision."""
    with np.errstate(invalid="ignore"):
        return (fields.astype(np.float64)[..., None] >= np.array(thresholds)).sum(-1)


def around(thresholds: tuple[float, ...], kind: type) -> np.ndarray:
    """The thresholds in a precision, their neighbours, and the numbers that have rules of their own."""
    with np.errstate(over="ignore"):
        own = np.array([*thresholds, *MARKS], kind)
    with np.errstate(over="ignore", under="ignore"):
        near = [own, np.nextafter(own, kind(np.inf)), np.nextafter(own, kind(-np.inf)), -own]
    return np.concatenate([*near, np.array([np.nan, -np.nan, np.inf, -np.inf], kind)])


def assert_counted(fields: np.ndarray, thresholds: tuple[float, ...]) -> None:
    found = digitise.digitise(fields, thresholds)
    np.testing.assert_array_equal(found[:, 1:-1, 1:-1], by_counting(fields, thresholds))
    found[:, 1:-1, 1:-1] = 0
    assert not found.any()


@settings(deadline=None, max_examples=80)
@given(increasing, st.sampled_from(KINDS), st.data())
@example((0.0,), np.float32, None)
@example((-0.0, TINY), np.float64, None)
@example(tuple(np.nextafter(0.7, 1) + np.arange(30) * 2e-16), np.float64, None)
@example((-LARGEST, *np.linspace(272, 274, 1000), LARGEST), np.float32, None)
def test_any_numbers_and_thresholds(thresholds, kind, data) -> None:
    values = around(thresholds, kind)
    if data is not None:
        width = 8 * np.dtype(kind).itemsize
        drawn = data.draw(hnp.arrays(kind, st.integers(0, 30), elements=st.floats(width=width)))
        values = np.concatenate([values, drawn])
    for columns in (1, 7, 8, 9, len(values)):
        rows = len(values) // columns
        assert_counted(values[: rows * columns].reshape(1, rows, columns), thresholds)


@pytest.mark.parametrize("count", [1, 2, 8, 9, 21, 255, 256, 1000, 70_000])
@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_thresholds(count: int, kind: type) -> None:
    rng = np.random.default_rng(count)
    fields = rng.gamma(0.3, 3, (3, 20, 33) if count <= 1000 else (1, 5, 9)).astype(kind)
    fields[rng.random(fields.shape) < 0.1] = np.nan
    for thresholds in (np.geomspace(0.1, 30, count), np.linspace(-1, 9, count), np.arange(count) / 7.0):
        assert_counted(fields, tuple(thresholds.tolist()))
        assert_counted(np.nan_to_num(fields) - 1, tuple(thresholds.tolist()))


@settings(deadline=None, max_examples=60)
@given(increasing)
def test_the_table_is_in_order(thresholds) -> None:
    for kind in ("f4", "f8"):
        table = digitise.table_of(thresholds, kind)
        for increasing_ones in (table.limits, table.keys, table.before):
            assert (increasing_ones[1:] >= increasing_ones[:-1]).all()
        assert (table.before[0], table.before[-1]) == (0, len(thresholds))
        assert len(table.before) <= 2**12 + 2


@pytest.mark.skipif(sys.platform == "darwin", reason="tiny numbers cannot be taken for 0 there")
def test_tiny_numbers_that_the_processor_takes_for_zero() -> None:
    import torch

    thresholds = tuple((TINY * np.arange(1, 40)).tolist())
    fields = np.array([[[0.0, TINY, 5 * TINY, 1.0]]], np.float32)
    digitise.digitise(fields, thresholds)  # compiled before the processor is set
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor takes no number for 0")
    try:
        found = digitise.digitise(fields, thresholds)
    finally:
        torch.set_flush_denormal(False)
    assert found[0, 1, 4] == 39
    assert found.max() == 39


@pytest.mark.parametrize("connectivity", [1, 2])
def test_more_wet_pixels_than_gains_are_summed_at_once(connectivity: int) -> None:
    mask = np.random.default_rng(0).random((173, 131)) < 0.8
    assert mask.sum() > 2 * excursions._TURNS * excursions._SUMMED
    outputs = ("area", "euler", "components")
    found = Minkowski([0.5], outputs=outputs, connectivity=connectivity)(mask[None])[0, :, 0]
    euler = euler_number(mask, connectivity=connectivity)
    assert found.tolist() == [mask.sum(), euler, label(mask, connectivity=connectivity).max()]


def test_packed_gains_do_not_run_over() -> None:
    most = np.array([1, 1, 4, 4, 4])
    assert (most * excursions._SUMMED < 2 ** np.array(excursions._BITS)).all()
    assert sum(excursions._BITS) < 64


@pytest.mark.slow
def test_positions_of_fields_that_exceed_32_bits(monkeypatch) -> None:
    fields = np.random.default_rng(1).normal(size=(3, 40, 50))
    metrics = [
        Minkowski([-1, 0, 1], outputs=("area", "perimeter", "euler", "components", "holes")),
        Clusters([-1, 0, 1]),
        Morphology([0, 1]),
    ]
    expected = [each(fields) for each in metrics]
    changes = excursions.component_changes(fields, False)
    for module in (digitise, excursions, clusters):
        monkeypatch.setattr(module, "positions", lambda size: np.empty(size, np.uint64))
    for each, values in zip(metrics, expected, strict=True):
        np.testing.assert_array_equal(each(fields), values)
    np.testing.assert_array_equal(excursions.component_changes(fields, False), changes)
