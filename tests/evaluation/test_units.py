"""Units: where fields and thresholds are turned into a x + b together, an evaluation finds the same."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from drawn import rain_array
from emuloss.emulators.spaces import QuantileSpace, Values
from emuloss.evaluation import blurred, descent, evaluate, inversion, noisy, shift, shifted, storms
from emuloss.evaluation.classes import fullness
from emuloss.evaluation.pixels import waves
from emuloss.losses import SurrogateLoss
from emuloss.metrics import Minkowski, Spectrum
from numpy.typing import NDArray
from stand_ins import Bare

Fields = NDArray[np.float64]
LEVELS = (0.3, 0.5, 0.8)
UNITS = ((1.0, 273.15), (10.0, -30.0), (0.01, 0.0))
PER_UNIT = {"norm": -1, "largest_slope": -1, "rmse_before": 1, "rmse_after": 1}
"""Figures that go with the unit of the fields, and the power of it."""
IN_UNIT = {"thresholds", "r2_worst_threshold", "reached"}
"""Figures that are values of the field."""


def rain() -> Fields:
    """Mostly dry; some of it was not measured."""
    fields = rain_array(8, 24, 32, law="cells").astype(np.float64)
    fields[1, :3, :5] = np.nan
    return fields


def gaussian() -> Fields:
    """Of either sign, without any value that stands out."""
    return waves(8, (24, 32), 3.0, seed=1)


class Soft(Bare):
    """Areas by sigmoids as wide as a share of the distance between the outer thresholds."""

    def __init__(self, metric: Minkowski) -> None:
        super().__init__()
        self.metric = metric

    def forward(self, fields: torch.Tensor) -> torch.Tensor:
        u = fields.new_tensor(self.metric.thresholds)
        width = 0.05 * (u[-1] - u[0])
        steps = torch.sigmoid((fields.nan_to_num(nan=-1e30)[:, None] - u[:, None, None]) / width)
        return steps.sum((2, 3))[:, None]


def areas(thresholds: NDArray[np.float64]) -> Minkowski:
    return Minkowski(thresholds.tolist(), outputs=("area",), levels=LEVELS)


def leaves(figures: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Values of nested figures, each with the keys that lead to it."""
    parts = figures.items() if isinstance(figures, dict) else enumerate(figures)
    for key, value in parts:
        if isinstance(value, (dict, list)):
            yield from leaves(value, (*path, str(key)))
        else:
            yield (*path, str(key)), value


def measured(fields: Fields, thresholds: NDArray[np.float64]) -> dict[tuple[str, ...], Any]:
    metric = areas(thresholds)
    surrogate = Soft(metric)
    found: dict[str, Any] = dict(
        evaluate(
            surrogate, fields, metric(fields), descent_fields=2, descent_steps=12, progress=False
        ).figures
    )
    del found["timing"]
    values = Values.of(fields)
    found["shift"] = shift(surrogate, metric, fields, count=4, values=values)
    found["inversion"] = inversion(surrogate, metric, fields[-1:], steps=15, starts=1, values=values).figures
    return dict(leaves(found))


@functools.cache
def reference(draw: Callable[[], Fields]) -> tuple[Fields, NDArray[np.float64], dict[tuple[str, ...], Any]]:
    fields = draw()
    values = fields[~np.isnan(fields) & (fields != 0)]
    thresholds = np.quantile(values, LEVELS)
    return fields, thresholds, measured(fields, thresholds)


@pytest.mark.parametrize("draw", [rain, gaussian])
@pytest.mark.parametrize(("a", "b"), UNITS)
def test_an_evaluation_does_not_know_the_unit(draw: Callable[[], Fields], a: float, b: float) -> None:
    fields, thresholds, known = reference(draw)
    found = measured(a * fields + b, a * thresholds + b)
    assert found.keys() == known.keys()
    for path, value in known.items():
        power = next((power for key, power in PER_UNIT.items() if key in path), 0)
        if isinstance(value, float):
            expected = a * value + b if IN_UNIT & {*path[-2:]} else value * a**power
            assert found[path] == pytest.approx(expected, rel=1e-9, abs=1e-9 * a**power), path
        else:
            assert found[path] == value, path


@pytest.mark.parametrize("draw", [rain, gaussian])
@pytest.mark.parametrize(("a", "b"), UNITS)
@pytest.mark.parametrize(
    "make",
    [
        lambda fields, _: blurred(fields),
        lambda fields, _: noisy(fields),
        lambda fields, _: np.concatenate([each.ravel() for each in shifted(fields, count=4).values()]),
        lambda fields, metric: np.stack(list(storms(metric, (24, 32), Values.of(fields).lowest).values())),
        lambda fields, metric: descent(SurrogateLoss(Soft(metric)), metric, fields[6:], steps=12).final,
        lambda fields, metric: (
            descent(SurrogateLoss(Soft(metric)), metric, fields[6:], start="noisy", steps=12).final
        ),
    ],
    ids=["blurred", "noisy", "shifted", "storms", "descended", "descended from noise"],
)
def test_what_is_made_of_fields_moves_with_their_unit(
    draw: Callable[[], Fields], a: float, b: float, make: Callable[[Fields, Minkowski], Fields]
) -> None:
    fields, thresholds, _ = reference(draw)
    known = make(fields, areas(thresholds))
    found = make(a * fields + b, areas(a * thresholds + b))
    spread = np.nanstd(known)
    np.testing.assert_allclose((found - b) / a, known, rtol=0, atol=1e-9 * spread)


def test_noise_on_temperatures_is_a_share_of_their_spread() -> None:
    kelvin = 285 + 8 * gaussian()
    noise = noisy(kelvin, speckle=0.0) - kelvin
    # Half of the median distance from the median, which of normal numbers is 0.6745 standard deviations.
    assert noise.std() == pytest.approx(0.5 * 0.6745 * 8, rel=0.1)
    spoilt = noisy(kelvin)
    assert kelvin.min() <= spoilt.min() <= spoilt.max() <= kelvin.max()


def test_shifted_temperatures_stay_temperatures() -> None:
    kelvin = 285 + 8 * gaussian()
    sets = shifted(kelvin)
    assert {"rough", "smooth"} < sets.keys()
    assert "stratiform" not in sets
    for name, each in sets.items():
        assert np.median(each) == pytest.approx(285, abs=2), name
    assert sets["x 3"].std() == pytest.approx(3 * kelvin.std(), rel=1e-6)
    assert sets["rough"].std() == pytest.approx(kelvin.std(), rel=0.2)
    # From pixel to pixel the rough ones change more than the smooth ones.
    rough, smooth = (np.abs(np.diff(sets[name])).mean() for name in ("rough", "smooth"))
    assert rough > 2 * smooth


def test_the_dry_value_of_the_data_set_holds_for_fields_without_dry_pixels() -> None:
    wet = 0.5 + rain()[6:]
    known = Values.of(np.concatenate([wet, np.zeros_like(wet)]))
    assert known.dry == 0.0
    spoilt = noisy(wet, speckle=0.0, values=known)
    ratios = np.log(spoilt / wet)
    assert ratios.std() == pytest.approx(0.5, rel=0.1)  # factors, as of rain


def test_full_fields_are_told_by_a_value_that_parts_the_data() -> None:
    kelvin = 285 + 8 * gaussian()
    metric = areas(np.quantile(kelvin, LEVELS))
    share = fullness(metric, kelvin)
    np.testing.assert_allclose(share, (kelvin >= metric.thresholds[1]).mean((1, 2)))
    assert 0.4 < share.mean() < 0.6
    without = fullness(Spectrum(), kelvin)
    np.testing.assert_allclose(without, (kelvin > np.median(kelvin)).mean((1, 2)))
    drizzle = fullness(areas(np.array([0.1, 1.0, 2.0])), rain())
    np.testing.assert_allclose(drizzle, (rain() >= 0.1).mean((1, 2)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, bool])
def test_precision_is_kept(dtype: type) -> None:
    fields = np.clip(rain(), 0, 9).astype(dtype) if dtype is not np.int16 else np.arange(64, dtype=dtype)
    expected = np.float64 if dtype is np.float64 else np.float32
    fields = np.nan_to_num(fields).reshape(-1, 8, 8)
    for spoilt in (blurred(fields), noisy(fields)):
        assert spoilt.dtype == expected


def test_masked_pixels_are_not_measured() -> None:
    fields = np.ma.masked_greater(rain(), 3.0)
    assert fields.mask.any()
    for spoilt in (blurred(fields), noisy(fields)):
        np.testing.assert_array_equal(np.isnan(spoilt), fields.mask | np.isnan(rain()))


@pytest.mark.parametrize(
    "fields", [rain(), gaussian(), np.round(30 * gaussian())], ids=["rain", "noise", "steps"]
)
def test_steps_are_shares_of_the_data(fields: Fields) -> None:
    values = Values.of(fields)
    space = QuantileSpace.of(values, lowest=values.lowest, highest=values.highest)
    x = torch.from_numpy(fields[~np.isnan(fields)])
    z = space.enter(x)
    torch.testing.assert_close(space.leave(z), x, rtol=1e-9, atol=1e-9)
    assert (z[x.argsort()].diff() >= 0).all()
    far = space.leave(space.within(2 * z))
    torch.testing.assert_close(far.clamp(x.min(), x.max()), far)
    if values.dry is None:  # half of the values of normal numbers in units of their median distance
        assert (z.abs() < 1).double().mean() == pytest.approx(0.5, abs=0.03)
