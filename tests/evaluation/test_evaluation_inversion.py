"""Inversion from noise, shifted data, wetness classes and noisy starts."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from drawn import rain_array
from emuloss.emulators import ConvEmulator, Excursion, RelaxedMinkowski
from emuloss.errors import ArgumentError
from emuloss.evaluation import (
    descent,
    fidelity_by_class,
    inversion,
    invert,
    noisy,
    r_squared,
    sample_r_squared,
    shift,
    shifted,
    storms,
    wetness_classes,
)
from emuloss.losses import SurrogateLoss
from emuloss.metrics import Metric, Minkowski
from numpy.typing import NDArray
from stand_ins import Bare

METRIC = Minkowski((0.1, 0.3, 1.0, 3.0), outputs=("area", "perimeter", "components"))


def rain(number: int = 6) -> NDArray[np.float32]:
    return rain_array(number, 32, 40, law="storms")


def test_noise_becomes_storms_and_no_storm() -> None:
    result = inversion(RelaxedMinkowski(METRIC, 0.1), METRIC, rain()[4:5], steps=150)
    targets = result.figures["targets"]
    assert list(targets) == ["large storm", "small storm", "no storm", "field 1"]
    assert targets["no storm"]["rmse"] == 0.0
    assert max(found["rmse"] for found in targets.values()) < 0.5
    assert result.found.shape == result.targets.shape == (4, 32, 40)
    assert (result.found >= 0).all()
    assert json.loads(json.dumps(result.figures, allow_nan=False)) == result.figures
    errors = np.log1p(METRIC(result.found)) - np.log1p(METRIC(result.targets))
    assert targets["small storm"]["rmse"] == pytest.approx(math.sqrt((errors[1] ** 2).mean()))
    assert targets["small storm"]["outputs"]["area"] == pytest.approx(math.sqrt((errors[1, 0] ** 2).mean()))


def test_a_cold_surrogate_is_annealed_and_left_as_it_was() -> None:
    cold = Excursion(METRIC)
    result = inversion(cold, METRIC, rain()[4:5], steps=300)
    assert cold.temperature == Excursion(METRIC).temperature
    assert max(found["rmse"] for found in result.figures["targets"].values()) < 0.3
    # Without, the cold sigmoid sees less of the storms in the noise.
    curves = torch.from_numpy(METRIC(result.targets)).float()
    alone = invert(SurrogateLoss(cold), curves, (32, 40), scale=1.0, steps=300).fields.numpy()
    errors, errors_alone = (
        np.log1p(METRIC(x)) - np.log1p(METRIC(result.targets)) for x in (result.found, alone)
    )
    assert (errors**2).mean() < (errors_alone**2).mean()


def test_an_annealed_surrogate_is_left_as_it_was_where_inversion_fails() -> None:
    class Broken(RelaxedMinkowski):
        def forward(self, fields: torch.Tensor) -> torch.Tensor:
            return super().forward(fields) * math.nan

    surrogate = Broken(METRIC, 0.01)
    with pytest.raises(ArgumentError, match="finite"):
        inversion(surrogate, METRIC, rain()[4:5], steps=2)
    assert surrogate.temperature == 0.01


def test_inversion_is_seeded_and_more_starts_do_not_hurt() -> None:
    loss = SurrogateLoss(RelaxedMinkowski(METRIC, 0.1))
    curves = torch.from_numpy(METRIC(rain()[3:5])).float()
    once, again, many = (
        invert(loss, curves, (32, 40), scale=1.0, steps=20, starts=starts, seed=3) for starts in (1, 1, 3)
    )
    torch.testing.assert_close(once.fields, again.fields, rtol=0, atol=0)
    assert once.fields.shape == (2, 32, 40)
    assert many.losses[0] <= once.losses[0] * (1 + 1e-4)
    values = torch.stack(
        [loss(x[None], target_curves=c[None]) for x, c in zip(once.fields, curves, strict=True)]
    )
    torch.testing.assert_close(once.losses, values)
    assert len(once.history) == 21


def test_invert_refuses() -> None:
    loss, curves = SurrogateLoss(RelaxedMinkowski(METRIC)), torch.zeros(1, 3, 4)
    for arguments, message in (
        ({"scale": 0.0}, "scale"),
        ({"starts": 0, "scale": 1.0}, "starts"),
        ({"steps": 0, "scale": 1.0}, "steps"),
    ):
        with pytest.raises(ArgumentError, match=message):
            invert(loss, curves, (8, 8), **arguments)
    with pytest.raises(ArgumentError, match="target_curves"):
        invert(loss, curves[0], (8, 8), scale=1.0)
    with pytest.raises(ArgumentError, match="at step 0"):
        invert(loss, curves * math.nan, (8, 8), scale=1.0)


def test_storms_are_simple_and_pass_every_threshold() -> None:
    drawn = storms(METRIC, (64, 64))
    curves = METRIC(np.stack(list(drawn.values())))
    assert list(drawn) == ["large storm", "small storm", "no storm"]
    assert (curves[:2, 2] == 1).all()
    assert (curves[0, 0] > 3 * curves[1, 0]).all()
    assert (curves[2] == 0).all()


def test_shifted_fields() -> None:
    fields = rain(12)
    sets = shifted(fields, count=8, seed=1)
    assert {name: each.shape for name, each in sets.items()} == {
        **dict.fromkeys(("x 0.3", "x 3", "stratiform", "convective", "all-wet", "coarse"), (8, 32, 40)),
        "larger": (2, 64, 60),
        "smaller": (8, 16, 20),
    }
    np.testing.assert_allclose(sets["x 3"], 10 * sets["x 0.3"], rtol=1e-5)
    chosen = sets["x 3"] / 3
    np.testing.assert_allclose(sets["smaller"], chosen[:, 8:24, 10:30], rtol=1e-5)
    np.testing.assert_allclose(sets["larger"][:, 32:, :40], chosen[:2, ::-1], rtol=1e-5)
    np.testing.assert_allclose(sets["coarse"][:, 3, 5], chosen[:, 6:8, 10:12].mean((1, 2)), rtol=1e-5)
    assert (sets["all-wet"] > 0).all()
    for name, each in shifted(fields, count=8, seed=1).items():
        np.testing.assert_array_equal(each, sets[name])
    with pytest.raises(ArgumentError, match="count"):
        shifted(fields, count=0)


class Choosy(RelaxedMinkowski):
    """Takes no small fields."""

    def forward(self, fields: torch.Tensor) -> torch.Tensor:
        if fields.shape[1] < 20:
            raise ArgumentError("fields must be larger")
        return super().forward(fields)


def test_shift() -> None:
    figures = shift(Choosy(METRIC, 0.02), METRIC, rain(12), count=8)
    assert figures["smaller"]["refused"] == "fields must be larger"
    assert "outputs" not in figures["smaller"]
    assert figures["larger"]["field_shape"] == [64, 60]
    assert figures["unshifted"]["outputs"]["area"]["r2_mean"] > 0.99
    assert figures["thresholds"]["outputs"]["area"]["r2_mean"] > 0.99
    assert set(figures["x 3"]["outputs"]["area"]) == {"r2_mean", "r2_worst", "distance"}
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert "thresholds" not in shift(ConvEmulator(METRIC, widths=(8, 8), hidden=8), METRIC, rain(4), count=4)
    assert "thresholds" not in shift(Largest(), Single(), rain(4), count=4)  # it takes none


def test_wetness_classes_share_fields_out() -> None:
    share = np.array([0.4, 0.0, 0.1, 0.2, 0.0, 0.3, 0.2, 0.9])
    classes = wetness_classes(share)
    assert {name: members.tolist() for name, members in classes.items()} == {
        "dry": [1, 4],
        "low": [2, 3],
        "mid": [6, 5],
        "high": [0, 7],
    }
    empty = wetness_classes(np.zeros(2))
    assert [len(members) for members in empty.values()] == [2, 0, 0, 0]


def test_fidelity_by_class() -> None:
    fields = rain(8)
    exact = METRIC(fields)
    emulated = exact.copy()
    emulated[-2:, 0] *= 1.5
    figures = fidelity_by_class(METRIC, fields, exact, emulated)
    assert [found["fields"] for found in figures.values()] == [1, 3, 2, 2]
    assert figures["dry"]["outputs"]["area"] == {"r2_mean": None, "distance": 0.0, "sample_r2_median": None}
    assert figures["mid"]["outputs"]["area"]["r2_mean"] == 1.0
    expected = r_squared(exact[-2:], emulated[-2:])[0].mean()
    assert figures["high"]["outputs"]["area"]["r2_mean"] == pytest.approx(expected)
    assert expected < 1
    dry = fidelity_by_class(METRIC, fields[:1], exact[:1], emulated[:1])
    assert dry["high"] == {
        "fields": 0,
        "share": None,
        "outputs": {
            name: {"r2_mean": None, "distance": None, "sample_r2_median": None} for name in METRIC.outputs
        },
    }
    json.dumps([figures, dry], allow_nan=False)
    with pytest.raises(ArgumentError, match="equal number"):
        fidelity_by_class(METRIC, fields[:2], exact, emulated)


def test_sample_r_squared_by_hand() -> None:
    exact = np.array([[[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]]])
    emulated = np.array([[[1.0, 2.0, 4.0], [5.0, 5.0, 5.0]]])
    np.testing.assert_allclose(sample_r_squared(exact, emulated), [[0.5, np.nan]])


def test_noise_on_fields() -> None:
    fields = rain()
    fields[2, :5] = np.nan
    spoilt = noisy(fields)
    np.testing.assert_array_equal(np.isnan(spoilt), np.isnan(fields))
    np.testing.assert_array_equal(spoilt, noisy(fields))
    assert not np.array_equal(spoilt, noisy(fields, seed=1), equal_nan=True)
    assert np.nanmin(spoilt) == 0
    assert 0 < (spoilt[0] > 0).mean() < 0.06  # speckle alone
    wet = fields > 0
    ratios = np.log(noisy(fields, speckle=0.0)[wet] / fields[wet])
    assert ratios.std() == pytest.approx(0.5, rel=0.1)
    np.testing.assert_array_equal(noisy(fields, spread=0.0, speckle=0.0), fields)
    np.testing.assert_array_equal(noisy(fields[:1]), fields[:1])
    for arguments in ({"spread": -1.0}, {"speckle": 1.5}):
        with pytest.raises(ArgumentError, match="spread"):
            noisy(fields, **arguments)


def test_descent_from_noise() -> None:
    fields = rain()[3:]
    found = descent(SurrogateLoss(RelaxedMinkowski(METRIC, 0.2)), METRIC, fields, start="noisy", steps=80)
    np.testing.assert_array_equal(found.start, noisy(fields))
    assert found.figures["start"] == "noisy"
    assert found.figures["factor"] is None
    assert found.figures["removed"] > 70
    with pytest.raises(ArgumentError, match="start"):
        descent(SurrogateLoss(RelaxedMinkowski(METRIC)), METRIC, fields, start="sharp")


class Single(Metric):
    """A scalar metric of fields of any sign: no curve to speak of."""

    name = "largest"
    outputs, units, thresholds, levels = ("largest",), ("K",), (-1.0,), (0.5,)
    pixel_size, constraints = 1.0, ()

    def arguments(self) -> dict[str, object]:
        return {}

    def _compute(self, fields: np.ndarray) -> np.ndarray:
        return fields.max((1, 2)).astype(np.float64)[:, None, None]


class Largest(Bare):
    metric = Single()

    def forward(self, fields: torch.Tensor) -> torch.Tensor:
        return fields.amax((1, 2))[:, None, None]


def test_inversion_of_a_scalar_metric_of_any_sign() -> None:
    fields = -2 - rain()[3:4]
    result = inversion(Largest(), Single(), fields, steps=100, starts=1)
    assert max(found["rmse"] for found in result.figures["targets"].values()) < 0.05
    assert result.found.min() >= fields.min() - 1e-5
