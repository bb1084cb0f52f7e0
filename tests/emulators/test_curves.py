"""Arithmetic of curves against NumPy and finite differences."""

import math

import numpy as np
import pytest
import torch
from emuloss.emulators import CurveDistance, signed_expm1, signed_log1p, trapezoid_weights

LEVELS = (0.01, 0.05, 0.4, 0.5, 0.99)


def spread(dtype) -> torch.Tensor:
    """Numbers of both signs over many decades, and 0."""
    sizes = torch.logspace(-12, 12, 49, dtype=dtype)
    return torch.cat([-sizes.flip(0), torch.zeros(1, dtype=dtype), sizes])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 4e-6), (torch.float64, 1e-14)])
def test_signed_expm1_undoes_signed_log1p(dtype, tolerance):
    x = spread(dtype)
    torch.testing.assert_close(signed_expm1(signed_log1p(x)), x, rtol=tolerance, atol=0)


def test_signed_log_is_odd_increasing_and_equals_numpy():
    x = spread(torch.float64)
    y = signed_log1p(x)
    assert torch.equal(-y.flip(0), y)
    assert (y.diff() > 0).all()
    np.testing.assert_allclose(y.numpy(), np.sign(x.numpy()) * np.log1p(np.abs(x.numpy())), rtol=1e-14)


@pytest.mark.parametrize("function", [signed_log1p, signed_expm1])
def test_slope_at_zero_is_one(function):
    x = torch.zeros(3, requires_grad=True)
    function(x).sum().backward()
    assert torch.equal(x.grad, torch.ones(3))


@pytest.mark.parametrize("function", [signed_log1p, signed_expm1])
def test_gradients_by_finite_differences(function):
    x = torch.tensor([-3.0, -0.2, 0.4, 5.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, x)
    assert torch.autograd.gradgradcheck(function, x)


def test_gradient_stays_finite_far_out():
    x = torch.tensor([-math.inf, -1e30, 1e30, math.inf], requires_grad=True)
    signed_log1p(x).sum().backward()
    assert x.grad.isfinite().all()


def test_trapezoid_weights():
    weights = trapezoid_weights(LEVELS)
    assert weights.sum().item() == pytest.approx(LEVELS[-1] - LEVELS[0])
    assert trapezoid_weights((3.0,)).tolist() == [1.0]
    assert trapezoid_weights((0.0, 2.0)).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_distance_equals_numpy_trapezoid(dtype):
    generator = torch.Generator().manual_seed(0)
    first, second = 100 * torch.randn((2, 6, 3, len(LEVELS)), generator=generator, dtype=dtype)

    def scale(x):
        return np.sign(x) * np.log1p(np.abs(x))

    integrate = getattr(np, "trapezoid", None) or np.trapz  # noqa: NPY201 - NumPy < 2
    expected = integrate(np.abs(scale(first.numpy()) - scale(second.numpy())), LEVELS, axis=-1)
    distance = CurveDistance(LEVELS)(first, second)
    assert distance.dtype == dtype
    np.testing.assert_allclose(distance.numpy(), expected, rtol=2e-6)


def test_distance_is_a_distance():
    generator = torch.Generator().manual_seed(1)
    a, b, c = 10 * torch.randn((3, 20, 2, len(LEVELS)), generator=generator)
    distance = CurveDistance(LEVELS)
    assert torch.equal(distance(a, a), torch.zeros(20, 2))
    assert torch.equal(distance(a, b), distance(b, a))
    assert (distance(a, c) <= distance(a, b) + distance(b, c) + 1e-5).all()


def test_distance_keeps_nothing_in_the_state():
    assert not CurveDistance(LEVELS).state_dict()
