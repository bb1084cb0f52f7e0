"""Gradient quality and slope search: against closed forms, and with faults put in."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from drawn import rain_array
from emuloss.emulators import RelaxedMinkowski, signed_log1p
from emuloss.errors import ArgumentError
from emuloss.evaluation import GradientQuality, blurred, gradient_quality, gradient_sizes, largest_slope
from emuloss.metrics import Metric, Minkowski
from numpy.typing import NDArray
from stand_ins import Bare

METRIC = Minkowski((0.1, 0.3, 1.0), outputs=("area", "components"))


def rain(number: int = 3) -> NDArray[np.float32]:
    return rain_array(number, 32, 40, law="patches")


class Altered(Bare):
    """A relaxation whose gradient is multiplied by a factor, its values kept."""

    def __init__(self, factor: float, metric: Metric = METRIC) -> None:
        super().__init__()
        self.metric, self.factor = metric, factor
        self.relaxed = RelaxedMinkowski(metric, 0.1)

    def forward(self, fields: torch.Tensor) -> torch.Tensor:
        kept = (1 - self.factor) * fields.detach()
        return self.relaxed(kept + self.factor * fields)


@pytest.fixture(scope="module")
def quality() -> GradientQuality:
    return gradient_quality(Altered(1.0), METRIC, rain(), tile=8, perturbations=24)


def test_a_relaxation_points_where_the_metric_improves(quality: GradientQuality) -> None:
    figures = quality.figures
    assert figures["total"]["ceiling"] > 0.8
    assert figures["total"]["cosine"] > 0.6
    assert figures["total"]["cosine_smoothed"] > 0.8
    assert figures["outputs"]["area"]["cosine"] > 0.6
    assert quality.exact.shape == quality.surrogate.shape == quality.smoothed.shape == (3, 2, 4, 5)
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


def test_a_gradient_of_the_wrong_sign_is_found_out(quality: GradientQuality) -> None:
    wrong = gradient_quality(Altered(-1.0), METRIC, rain(), tile=8, perturbations=24)
    assert wrong.figures["total"]["cosine"] == pytest.approx(-quality.figures["total"]["cosine"], abs=1e-5)
    assert wrong.figures["total"]["ceiling"] == quality.figures["total"]["ceiling"]


def test_no_gradient_has_no_direction() -> None:
    figures = gradient_quality(Altered(0.0), METRIC, rain(1), tile=16, perturbations=2).figures
    assert figures["total"]["cosine"] == 0.0


def test_dry_fields_leave_the_cosine_undefined() -> None:
    dry = np.zeros((1, 16, 16), np.float32)
    figures = gradient_quality(Altered(1.0), METRIC, dry, spread=0.0, step=0.01, perturbations=2).figures
    assert figures["total"] == {"cosine": None, "cosine_smoothed": None, "ceiling": None}


class Power(Metric):
    """The mean square of a field: smooth, so that its exact gradient is known."""

    name = "power"
    outputs, units, thresholds, levels = ("power",), ("1",), (0.5,), (0.5,)
    pixel_size, constraints = 1.0, ()

    def arguments(self) -> dict[str, object]:
        return {}

    def _compute(self, fields: np.ndarray) -> np.ndarray:
        return (fields.astype(np.float64) ** 2).mean((1, 2))[:, None, None]


class SoftPower(Bare):
    """The same, in torch."""

    metric = Power()

    def forward(self, fields: torch.Tensor) -> torch.Tensor:
        return (fields**2).mean((1, 2))[:, None, None]


class Mean(Bare):
    """The mean of a field, times a gain."""

    metric = Power()

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(gain))

    def forward(self, fields: torch.Tensor) -> torch.Tensor:
        return self.gain * fields.mean((1, 2))[:, None, None]


def test_the_exact_gradient_of_a_smooth_metric_is_the_surrogates() -> None:
    fields = rain(2) + np.float32(0.5)
    fields[:, 0, 0] = 0.01  # so that no step meets the least value
    found = gradient_quality(SoftPower(), Power(), fields, step=1e-2, spread=0.05, perturbations=4)
    np.testing.assert_allclose(found.smoothed, found.exact, rtol=0.02, atol=1e-4)
    assert found.figures["total"]["cosine"] > 0.99


@pytest.mark.parametrize(
    "arguments", [{"tile": 0}, {"perturbations": 3}, {"perturbations": 0}, {"spread": -1.0}, {"step": 0.0}]
)
def test_gradient_quality_refuses(arguments: dict[str, float]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(arguments))):
        gradient_quality(Altered(1.0), METRIC, rain(1), **arguments)


def test_gradients_that_are_not_finite_are_refused() -> None:
    for measure in (
        lambda broken: gradient_quality(broken, METRIC, rain(1), perturbations=2),
        lambda broken: gradient_sizes(broken, rain(1)),
        lambda broken: largest_slope(broken, rain(1), steps=1),
    ):
        with pytest.raises(ArgumentError, match="finite"):
            measure(Altered(math.nan))


def test_gradient_sizes_by_hand() -> None:
    fields = rain(3)
    fields[0, :3] = np.nan
    surrogate = Altered(1.0)
    figures = gradient_sizes(surrogate, fields, batch_size=2)
    x = torch.from_numpy(blurred(fields)).requires_grad_()
    curves = [signed_log1p(surrogate(y)) for y in (x, torch.from_numpy(fields))]
    weights = torch.tensor([1 / 6, 1 / 3, 1 / 6])
    ((curves[0] - curves[1].detach()).abs() * weights).sum().backward()
    assert x.grad is not None
    norms = x.grad.square().sum((1, 2)).sqrt()
    assert figures["norm"]["max"] == pytest.approx(norms.max().item(), rel=1e-4)
    assert figures["norm"]["q50"] == pytest.approx(norms.median().item(), rel=1e-4)
    measured = ~np.isnan(fields)
    shares = [
        np.abs(g[m]) <= 1e-3 * np.sqrt((g[m] ** 2).mean())
        for g, m in zip(x.grad.numpy(), measured, strict=True)
    ]
    assert figures["near_zero"] == pytest.approx(100 * np.concatenate(shares).mean())
    assert 0 < figures["near_zero"] < 100


def test_vanishing_gradients_are_seen() -> None:
    figures = gradient_sizes(Altered(0.0), rain(2))
    assert figures["near_zero"] == 100.0
    assert figures["norm"]["max"] == 0.0
    nothing = gradient_sizes(Altered(1.0), np.full((1, 8, 8), np.nan, np.float32))
    assert nothing["near_zero"] is None


def test_the_largest_slope_of_a_linear_map() -> None:
    """F = log(1 + g mean x): steepest at the dry field, g / sqrt(H W) there."""
    slope = largest_slope(Mean(0.5), rain(2), steps=150)
    bound = 0.5 / math.sqrt(32 * 40)
    assert 0.7 * bound < slope <= bound * (1 + 1e-9)


def test_the_search_climbs_and_stays_below_the_jacobian() -> None:
    surrogate = RelaxedMinkowski(Minkowski((0.3,), outputs=("area",)), 0.2)
    start, found = (largest_slope(surrogate, rain(2), steps=steps) for steps in (0, 60))
    # |dA/dx| <= 1 / (4 tau) a pixel, n pixels of slope 1/(4 tau) hold an area of n/2 at least.
    tau = 0.2 * 0.3
    bound = max(math.sqrt(n) / (4 * tau) / (1 + n / 2) for n in range(1, 1281))
    assert 2 * start < found <= bound * 1.01
    assert found == largest_slope(surrogate, rain(2), steps=60)
    assert surrogate(torch.from_numpy(rain(1))).dtype == torch.float32


def test_slopes_of_dry_and_unmeasured_fields_and_errors() -> None:
    fields = np.zeros((2, 8, 8), np.float32)
    fields[1] = np.nan
    assert math.isfinite(largest_slope(RelaxedMinkowski(METRIC), fields, steps=5))
    assert largest_slope(Altered(0.0), fields, steps=5) >= 0
    with pytest.raises(ArgumentError, match="steps"):
        largest_slope(RelaxedMinkowski(METRIC), fields, steps=-1)
