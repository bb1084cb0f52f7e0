"""Looks of fields: waves of known direction, white noise, noise of known slope, textures of a grid."""

from __future__ import annotations

import numpy as np
import pytest
from drawn import rain_array
from emuloss.errors import ArgumentError
from emuloss.evaluation import realism
from emuloss.evaluation.pixels import waves
from emuloss.evaluation.realism import (
    energy_test,
    grid_harmonics,
    log_spectrum,
    main_axes,
    spectrum_error,
    structure_function,
)
from numpy.typing import NDArray

SIDE = 64
ROW, COLUMN = np.mgrid[:SIDE, :SIDE]


def white(count: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(count, SIDE, SIDE))


def wave(degrees: float, length: float) -> NDArray[np.float64]:
    """Crests along an angle from x towards y, (1, H, W)."""
    angle = np.radians(degrees + 90)
    return np.sin(2 * np.pi / length * (np.cos(angle) * COLUMN + np.sin(angle) * ROW))[None]


def checkerboard(period: int) -> NDArray[np.float64]:
    """Squares of half a period, (1, H, W)."""
    return ((ROW // (period // 2) + COLUMN // (period // 2)) % 2)[None].astype(float)


def test_spectrum_of_white_noise_is_flat() -> None:
    found = log_spectrum(3 * white(60))
    # The lowest rings lose what the mean takes.
    np.testing.assert_allclose(found[3:], np.log10(9), atol=0.06)


@pytest.mark.parametrize("exponent", [2.0, 3.0])
def test_spectrum_of_power_laws_has_their_slope(exponent: float) -> None:
    found = log_spectrum(waves(60, (2 * SIDE, SIDE), exponent, seed=0))
    rings = np.log10(np.arange(len(found)) + 0.5)
    slope = np.polyfit(rings[3:24], found[3:24], 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.1)


@pytest.mark.parametrize("value", [0, 0.1, 3e7, np.nan])
@pytest.mark.parametrize("shape", [(2, SIDE, SIDE), (1, 37, 50)])
def test_constants_have_no_power(value: float, shape: tuple[int, ...]) -> None:
    constant = np.full(shape, value)
    assert (log_spectrum(constant) == -np.inf).all()
    assert np.isnan(spectrum_error(constant + np.eye(*shape[1:]), constant))


def test_spectrum_error() -> None:
    noise = white(8)
    assert spectrum_error(noise, noise) == 0
    assert spectrum_error(10**0.25 * noise, noise[::-1]) == pytest.approx(0.5)
    assert spectrum_error(white(60, seed=1), white(60, seed=2), bins=16) < 0.03
    assert spectrum_error(waves(60, (SIDE, SIDE), 2.0, 0), white(60)) > 0.3
    # As far as shares of the power of the strongest ring go.
    assert spectrum_error(np.zeros_like(noise), noise) == pytest.approx(12, abs=0.3)
    assert np.isnan(spectrum_error(noise, np.zeros_like(noise)))


def test_structure_function_of_white_noise_is_twice_its_variance() -> None:
    np.testing.assert_allclose(structure_function(2 * white(40), [1, 3, 20]), 8, rtol=0.03)
    assert structure_function(white(40), [2], order=1)[0] == pytest.approx(2 / np.pi**0.5, rel=0.02)


def test_structure_function_of_a_wave() -> None:
    lags = np.array([1, 2, 4])
    # Along rows 1 - cos(2 pi r / 8) over whole periods, down columns 0.
    along = [1 - np.cos(2 * np.pi * r / 8) for r in lags]
    field = np.sin(2 * np.pi * COLUMN / 8)[None]
    np.testing.assert_allclose(structure_function(field, lags), np.array(along) / 2, rtol=0.05)


def test_structure_function_leaves_out_what_was_not_measured() -> None:
    field = np.arange(SIDE, dtype=float) + np.zeros((1, SIDE, 1))
    gaps = np.where(white(1) > 1, np.nan, field)
    along = np.isfinite(gaps[0, :, 2:] - gaps[0, :, :-2]).sum()
    down = np.isfinite(gaps[0, 2:] - gaps[0, :-2]).sum()
    assert structure_function(gaps, [2])[0] == pytest.approx(4 * along / (along + down))
    assert np.isnan(structure_function(np.full((1, 8, 8), np.nan), [1])).all()


@pytest.mark.parametrize("degrees", [0, 30, 90, 137])
def test_axis_of_a_wave_is_that_of_its_crests(degrees: float) -> None:
    (x, y) = main_axes(wave(degrees, 7.3))[0]
    assert np.hypot(x, y) == pytest.approx(1, abs=0.01)
    found = np.degrees(np.arctan2(y, x)) / 2
    assert abs((found - degrees + 90) % 180 - 90) < 1


def test_axes_turn_with_fields() -> None:
    fields = rain_array(6, SIDE, SIDE, law="cells")
    np.testing.assert_allclose(main_axes(np.rot90(fields, axes=(1, 2))), -main_axes(fields), atol=1e-9)
    mirrored = main_axes(fields[:, :, ::-1]) * [1, -1]
    np.testing.assert_allclose(mirrored, main_axes(fields), atol=1e-9)


def test_noise_has_no_axis_and_a_constant_none_at_all() -> None:
    axes = main_axes(white(60))
    assert np.hypot(*axes.T).mean() < 0.05
    assert np.isnan(main_axes(np.full((1, SIDE, SIDE), 0.1, np.float32))).all()


def test_energy_test_tells_directions_apart() -> None:
    noise = white(60)
    streaks = noise + np.roll(noise, (1, 1), (1, 2))
    turned = np.concatenate([np.rot90(streaks[:30], axes=(1, 2)), streaks[30:]])
    assert energy_test(main_axes(streaks), main_axes(turned)).p_value == pytest.approx(1e-3)
    assert energy_test(main_axes(streaks[:30]), main_axes(streaks[30:])).p_value > 0.01


def test_p_values_are_uniform_where_distributions_are_equal() -> None:
    rng = np.random.default_rng(0)
    found = [
        energy_test(rng.normal(size=(12, 2)), rng.normal(size=(15, 2)), permutations=99) for _ in range(200)
    ]
    values = np.array([each.p_value for each in found])
    for share in (0.05, 0.25, 0.5):
        assert (values <= share).mean() == pytest.approx(share, abs=4 * (share * (1 - share) / 200) ** 0.5)


def test_energy_distance_is_the_double_sum() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(5, 3)), rng.normal(size=(4, 3)) + 1

    def mean(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        return float(np.mean([np.linalg.norm(p - q) for p in a for q in b]))

    expected = 2 * mean(x, y) - mean(x, x) - mean(y, y)
    gap = np.full((1, 3), np.nan)
    assert energy_test(np.vstack([x, gap]), y).distance == pytest.approx(expected)
    for seed in range(20):
        x = np.random.default_rng(seed).normal(size=(7, 2))
        found = energy_test(x, x)
        assert found == (pytest.approx(0, abs=1e-12), 1)
        assert not np.signbit(found.distance)


@pytest.mark.parametrize("period", [2, 4, 8])
def test_checkerboards_show_at_their_period(period: int) -> None:
    textured = white(8) + checkerboard(period)
    assert grid_harmonics(textured, period) > 5
    assert grid_harmonics(textured, 7) < 1.5  # no multiple of the period
    assert grid_harmonics(checkerboard(period), period) > 1e6


@pytest.mark.parametrize("step", [2, 4, 8])
def test_fields_without_a_grid_have_no_harmonics(step: int) -> None:
    assert grid_harmonics(white(100), step) == pytest.approx(1, abs=0.2)
    assert grid_harmonics(waves(100, (SIDE + 1, SIDE + 3), 2.5, seed=0), step) == pytest.approx(1, abs=0.25)


def test_every_field_counts_alike() -> None:
    fields = white(6) + checkerboard(4)
    strong = fields * np.array([1, 1e3, 1, 1, 1e-3, 1])[:, None, None]
    assert grid_harmonics(strong, 4) == pytest.approx(grid_harmonics(fields, 4))
    with_dry = np.concatenate([fields, np.zeros((3, SIDE, SIDE))])
    assert grid_harmonics(with_dry, 4) == pytest.approx(grid_harmonics(fields, 4))
    assert np.isnan(grid_harmonics(np.ones((2, SIDE, SIDE)), 4))


def test_refused() -> None:
    field = np.zeros((1, 16, 16))
    with pytest.raises(ArgumentError, match="fields must be real numbers of shape"):
        main_axes(field[0])
    with pytest.raises(ArgumentError, match=r"one size \(H, W\), got \(16, 16\) and \(8, 16\)"):
        spectrum_error(field, field[:, :8])
    with pytest.raises(ArgumentError, match="lags must be below both sides"):
        structure_function(field, [1, 16])
    for step in (1, 5):
        with pytest.raises(ArgumentError, match="step must be at least 2, and at most a quarter"):
            grid_harmonics(field, step)
    with pytest.raises(ArgumentError, match="rows of one length, got 2 and 3"):
        energy_test(np.zeros((4, 2)), np.zeros((4, 3)))
    with pytest.raises(ArgumentError, match=r"first must have shape \(n, K\), K >= 1"):
        energy_test(np.zeros((4, 0)), np.zeros((4, 0)))
    with pytest.raises(ArgumentError, match="second must have shape"):
        realism.energy_test(np.zeros((4, 2)), np.full((4, 2), np.nan))


@pytest.mark.parametrize(
    "look",
    [
        log_spectrum,
        main_axes,
        lambda fields: spectrum_error(np.zeros((1, 16, 16)), fields),
        lambda fields: structure_function(fields, [1]),
        lambda fields: grid_harmonics(fields, 2),
    ],
)
def test_infinities_are_refused(look) -> None:
    fields = np.zeros((1, 16, 16))
    fields[0, 3, 4], fields[0, 5, 6] = np.inf, -np.inf
    with pytest.raises(ArgumentError, match=r"must be finite, or NaN .* infinite values in 2 of 256 pixels"):
        look(fields)
