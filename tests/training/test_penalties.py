"""Penalties on gradients: against explicit Jacobians, on maps of known slope, and through every emulator."""

import itertools
import math
import re

import numpy as np
import pytest
import torch
from drawn import rain_array
from emuloss.datasets.sources.augment import coarsened
from emuloss.emulators import ARCHITECTURES, RelaxedMinkowski, signed_expm1, signed_log1p
from emuloss.emulators.gradients import directions, pulled_back, slopes
from emuloss.emulators.soft import node_positions, soft_histogram
from emuloss.emulators.soft.anywhere import histogram as histogram_by_torch
from emuloss.emulators.soft.operators import histogram as cpu_histogram
from emuloss.emulators.soft.operators import histogram_backward, histogram_tangent, place_backward
from emuloss.errors import ArgumentError
from emuloss.metrics import Metric, Minkowski
from emuloss.metrics.constraints import AtLeast
from emuloss.metrics.kernels.rows import ROWS
from emuloss.training import Training
from emuloss.training.penalties import PENALTIES, gradient_penalty, probes, sobolev_distance
from emuloss.training.terms import GradientTerms
from torch import nn

METRIC = Minkowski((0.3, 0.8, 2.0), outputs=("area", "perimeter", "euler"))
C, Q = 2, 3
SIDE = 4


def rain(number: int, side: int = SIDE, seed: int = 0) -> np.ndarray:
    return rain_array(number, side, side, seed=seed)


def fields_of(number: int, **arguments) -> torch.Tensor:
    return torch.from_numpy(rain(number, **arguments)).double()


def along(number: int, seed: int = 0) -> torch.Tensor:
    return directions((number, C, Q), np.random.default_rng(seed)).double()


class Tiny(nn.Module):
    """Fields (N, 4, 4) to curves (N, 2, 3), smooth."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        layers = nn.Linear(SIDE**2, 8), nn.Tanh(), nn.Linear(8, C * Q)
        self.layers = nn.Sequential(*layers).double()

    def forward(self, fields):
        return signed_expm1(3 * self.layers(fields.flatten(1))).unflatten(1, (C, Q))


class OfSlope(nn.Module):
    """Its log outputs are a linear map of the field whose slope is the same along all directions."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        rows = torch.linalg.qr(
            torch.randn(SIDE**2, C * Q, generator=torch.Generator().manual_seed(0)).double()
        )
        self.matrix = slope * rows.Q

    def forward(self, fields):
        return signed_expm1(fields.flatten(1) @ self.matrix).unflatten(1, (C, Q))


def jacobians(surrogate, fields: torch.Tensor) -> torch.Tensor:
    """(N, C * Q, H * W), output by output."""
    found = torch.autograd.functional.jacobian(lambda x: signed_log1p(surrogate(x)), fields)
    return torch.stack([found[n, :, :, n].reshape(C * Q, -1) for n in range(len(fields))])


# Gradients and slopes


def test_gradients_are_those_of_the_jacobian():
    fields, v, tiny = fields_of(5), along(5), Tiny()
    expected = torch.einsum("nkp,nk->np", jacobians(tiny, fields), v.flatten(1)).view_as(fields)
    torch.testing.assert_close(pulled_back(tiny, fields, v), expected)
    torch.testing.assert_close(slopes(expected), expected.flatten(1).norm(dim=1))


def test_no_slope_exceeds_the_largest_singular_value():
    fields, tiny = fields_of(1).expand(200, -1, -1), Tiny()
    largest = torch.linalg.matrix_norm(jacobians(tiny, fields[:1]), ord=2).item()
    found = slopes(pulled_back(tiny, fields, along(200)))
    assert 0.5 * largest < found.max().item() <= largest


def test_fields_are_left_alone_and_gradients_are_free_of_graphs():
    fields = fields_of(3).requires_grad_()
    with torch.no_grad():
        gradients = pulled_back(Tiny(), fields, along(3))
    assert not gradients.requires_grad
    assert fields.grad is None
    assert pulled_back(Tiny(), fields, along(3), differentiable=True).requires_grad


def test_missing_pixels_get_no_gradient():
    fields = torch.from_numpy(rain(2, side=8))
    fields[:, 2:5] = math.nan
    v = directions((2, 3, 3), np.random.default_rng(0))
    gradients = pulled_back(RelaxedMinkowski(METRIC, temperature=0.5), fields, v)
    assert gradients.isfinite().all()
    assert gradients.any()
    assert not gradients[:, 2:5].any()


# Penalties


@pytest.mark.parametrize("limit", [0.2, 1.0, 3.0])
def test_penalties_of_an_explicit_jacobian(limit):
    fields, v, tiny = fields_of(6), along(6), Tiny()
    gradients = pulled_back(tiny, fields, v)
    s = torch.einsum("nkp,nk->np", jacobians(tiny, fields), v.flatten(1)).norm(dim=1).numpy() / limit
    expected = {
        "one-sided": np.mean(np.maximum(s - 1, 0) ** 2),
        "two-sided": np.mean((s - 1) ** 2),
        "jacobian": np.mean(s**2) / 2,
    }
    assert expected.keys() == set(PENALTIES)
    for kind, value in expected.items():
        assert gradient_penalty(kind, gradients, limit).item() == pytest.approx(value, rel=1e-9)


def test_maps_of_known_slope():
    def penalty(kind: str, slope: float) -> float:
        return gradient_penalty(kind, pulled_back(OfSlope(slope), fields_of(7), along(7)), 2.0).item()

    assert penalty("two-sided", 2.0) == pytest.approx(0, abs=1e-12)
    assert penalty("two-sided", 1.0) == pytest.approx(0.25)
    assert penalty("one-sided", 1.9) == 0
    assert penalty("one-sided", 3.0) == pytest.approx(0.25)
    assert penalty("jacobian", 0.0) == 0
    assert penalty("jacobian", 2.0) == pytest.approx(0.5)


def test_the_jacobian_penalty_estimates_the_frobenius_norm():
    number, limit = 20_000, 0.5
    fields, tiny = fields_of(1).expand(number, -1, -1), Tiny()
    estimate = (
        2 * C * Q * limit**2 * gradient_penalty("jacobian", pulled_back(tiny, fields, along(number)), limit)
    )
    assert estimate.item() == pytest.approx(jacobians(tiny, fields[:1]).square().sum().item(), rel=0.02)


@pytest.mark.parametrize("kind", PENALTIES)
def test_descending_a_penalty_moves_the_slopes(kind):
    tiny, fields = Tiny(), fields_of(16)
    limit = 0.3 * slopes(pulled_back(tiny, fields, along(16))).mean().item()
    optimizer = torch.optim.Adam(tiny.parameters(), lr=1e-2)
    for step in range(100):
        gradients = pulled_back(tiny, fields, along(16, step), differentiable=True)
        optimizer.zero_grad()
        gradient_penalty(kind, gradients, limit).backward()
        optimizer.step()
    found = slopes(pulled_back(tiny, fields, along(16, 1000))).mean().item() / limit
    low, high = {"one-sided": (0.2, 1.1), "two-sided": (0.8, 1.2), "jacobian": (0, 0.3)}[kind]
    assert low < found < high


@pytest.mark.parametrize("kind", PENALTIES)
def test_flat_surrogates_have_finite_second_derivatives(kind):
    tiny = Tiny()
    nn.init.zeros_(tiny.layers[2].weight)
    gradients = pulled_back(tiny, fields_of(3), along(3), differentiable=True)
    assert not gradients.any()
    gradient_penalty(kind, gradients).backward()
    assert tiny.layers[2].weight.grad.isfinite().all()


# Sobolev


def test_the_relaxation_is_no_distance_from_itself():
    fields = torch.from_numpy(rain(5, side=9))
    v = directions((5, 3, 3), np.random.default_rng(0))
    ours, same, other = (
        pulled_back(RelaxedMinkowski(METRIC, temperature=t), fields, v) for t in (0.05, 0.05, 0.2)
    )
    assert sobolev_distance(ours, same).item() == 0
    assert 0.1 < sobolev_distance(ours, other).item() < 1


def test_distances_of_known_gradients():
    g = torch.zeros((1, 2, 2), dtype=torch.float64)
    g[0, 0, 0] = 30.0
    assert sobolev_distance(g, g.flip(1)).item() == pytest.approx(1, abs=1e-4)
    assert sobolev_distance(g, -g).item() == pytest.approx(2, abs=1e-4)
    assert sobolev_distance(g, 2 * g).item() == pytest.approx(0.2, abs=1e-4)
    assert sobolev_distance(g, torch.zeros_like(g)).item() == pytest.approx(1, abs=1e-4)
    # Flat fields count little, whatever their direction.
    assert sobolev_distance(1e-5 * g, -1e-5 * g).item() == pytest.approx(0, abs=1e-4)
    assert sobolev_distance(0 * g, 0 * g).item() == 0
    # Slopes are measured in units of the limit.
    ours, theirs = torch.randn((2, 4, 3, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert sobolev_distance(7 * ours, 7 * theirs, 7.0).item() == pytest.approx(
        sobolev_distance(ours, theirs).item()
    )


def test_descending_the_distance_teaches_gradients():
    teacher, pupil, fields = Tiny(1), Tiny(2), fields_of(16)

    def distance(seed: int) -> torch.Tensor:
        ours = pulled_back(pupil, fields, along(16, seed), differentiable=True)
        return sobolev_distance(ours, pulled_back(teacher, fields, along(16, seed)))

    optimizer = torch.optim.Adam(pupil.parameters(), lr=2e-2)
    before = distance(1000).item()
    for step in range(200):
        optimizer.zero_grad()
        distance(step).backward()
        optimizer.step()
    assert before > 0.8
    assert distance(1000).item() < 0.3 * before


# Through the emulators


TRAINED = ["baseline", "lipschitz", "constrained", "hybrid", "certified"]


def small(arch: str) -> nn.Module:
    torch.manual_seed(0)
    emulator = ARCHITECTURES[arch](METRIC, widths=(8, 16), hidden=16).eval()
    nn.init.normal_(emulator.fc[-1].weight, std=0.3)
    return emulator


@pytest.mark.parametrize("arch", TRAINED)
def test_weights_get_the_derivative_of_a_penalty(arch):
    emulator = small(arch).double()
    fields = fields_of(4, side=16)
    v = directions((4, 3, 3), np.random.default_rng(0)).double()
    # First to last; what a spectral norm divides is called "original".
    named = [w for name, w in emulator.named_parameters() if name.endswith(("weight", "weight.original"))]
    weights = [named[0], named[len(named) // 2], named[-1]]

    def penalty() -> torch.Tensor:
        return gradient_penalty("two-sided", pulled_back(emulator, fields, v, differentiable=True), 0.5)

    exact = torch.autograd.grad(penalty(), weights)
    for weight, derivative in zip(weights, exact, strict=True):
        assert derivative.any()
        step = 1e-5 * derivative / derivative.norm()
        with torch.no_grad():
            weight += step
            above = penalty().item()
            weight -= 2 * step
            below = penalty().item()
            weight += step
        assert (above - below) / 2e-5 == pytest.approx(derivative.norm().item(), rel=2e-3)


class Count(Metric):
    """Wet pixels: an output with one bound."""

    name, thresholds, levels, pixel_size = "count", (0.5,), (0.5,), 1.0
    outputs, units = ("count",), ("1",)
    constraints = (AtLeast("count", "count >= 0", lambda: 0.0),)

    def arguments(self):
        return {}

    def _compute(self, fields):
        return (fields >= 0.5).sum((1, 2))[:, None, None].astype(float)


def test_the_terms_see_the_gradients_of_the_frozen_network():
    """In training those of heads differ where their values lie on a bound."""
    torch.manual_seed(0)
    options = {"widths": (8, 16), "hidden": 16, "spectral": "none", "spreads": (0.5,)}
    emulator = ARCHITECTURES["constrained"](Count(), **options)
    nn.init.normal_(emulator.fc[-1].weight, std=0.3)
    nn.init.constant_(emulator.fc[-1].bias, -8.0)
    terms = GradientTerms(
        emulator, Training(penalty="two-sided", penalty_share=1.0), slice(None), torch.device("cpu")
    )
    fields = fields_of(8, side=16).float()
    modes = (emulator.train, emulator.eval)
    found = []
    for mode in modes:
        mode()
        found.append(terms(fields, 0)["penalty"].item())
    assert found[0] == found[1] > 0
    slopes_of = []
    for mode in modes:
        mode()
        slopes_of.append(pulled_back(emulator, fields, torch.ones(8, 1, 1)))
    assert not torch.equal(*slopes_of)


@pytest.mark.parametrize("arch", TRAINED)
def test_extreme_fields_give_finite_derivatives(arch):
    emulator = small(arch)
    fields = torch.zeros((6, 16, 16))  # the first stays dry
    fields[1] = math.nan
    fields[2, 3, 4] = 100.0
    fields[3] = 1.0
    fields[4] = 1e6
    fields[5, ::2] = math.nan
    v = directions((6, 3, 3), np.random.default_rng(0))
    gradient_penalty("two-sided", pulled_back(emulator, fields, v, differentiable=True)).backward()
    assert all(weight.grad.isfinite().all() for weight in emulator.parameters())


# Second derivatives of the soft histogram, by which penalties pass a relaxed prior

NODES = 9
both = pytest.mark.parametrize(("touched", "degrees"), list(itertools.product((False, True), repeat=2)))


def positions(shape=(2, 5, 6)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(shape, generator=generator, dtype=torch.float64) * 1.2 - 0.2).clamp(min=0) * (
        NODES - 3
    )


def weights_of(position: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn((len(position), ROWS, NODES), generator=generator, dtype=torch.float64)


@both
@pytest.mark.parametrize("components", [False, True])
def test_second_derivatives_by_finite_differences(touched, degrees, components):
    position = positions((1, 4, 3)).clamp(min=0.05).requires_grad_()
    weights = weights_of(position).requires_grad_()
    options = {"touched": touched, "degrees": degrees, "components": components}
    assert torch.autograd.gradgradcheck(
        lambda p, w: (soft_histogram(p, NODES, **options) * w).sum((1, 2)), (position, weights)
    )
    assert torch.autograd.gradgradcheck(
        lambda p: soft_histogram(p, NODES, **options).square().sum((1, 2)), position
    )


@both
def test_second_derivatives_equal_those_of_torch_operations(touched, degrees):
    position, changes = positions((3, 7, 5)).requires_grad_(), torch.ones((3, 7, 5), dtype=torch.float64)
    weights = weights_of(position).requires_grad_()

    def second(histogram) -> tuple[torch.Tensor, ...]:
        counts = histogram(position, changes, NODES, touched, degrees)
        (gradient,) = torch.autograd.grad((counts * weights).sum(), position, create_graph=True)
        return torch.autograd.grad(gradient.pow(3).sum(), (position, weights))

    torch.testing.assert_close(second(cpu_histogram), second(histogram_by_torch))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own
@both
def test_operators_are_sound(touched, degrees):
    position, weights = positions(), weights_of(positions())
    for layout in (position, position.transpose(1, 2), position[:0]):
        changes, slope = torch.ones_like(layout), weights[: len(layout)].clone().requires_grad_()
        torch.library.opcheck(histogram_backward, (layout, changes, slope, touched, degrees))
        torch.library.opcheck(histogram_tangent, (layout, changes, changes, NODES, touched, degrees))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own
def test_second_derivative_of_places():
    axis = torch.tensor([0.3, 0.1, -1.5, 0.01], dtype=torch.float64)
    fields = torch.randn((2, 3, 4), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    fields.requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: node_positions(x, axis, 600), fields)
    slope = torch.ones_like(fields).requires_grad_()
    torch.library.opcheck(place_backward, (fields.detach(), slope, axis, 597))


# Where slopes are measured


def test_probes_are_real_blurred_and_in_between():
    fields = rain(300, side=16)
    found = probes(fields, np.random.default_rng(0))
    assert (found.shape, found.dtype) == (fields.shape, fields.dtype)
    blurred = coarsened(fields, 8)
    real = (found == fields).all((1, 2))
    smooth = (found == blurred).all((1, 2))
    assert (real.sum(), smooth.sum()) == (100, 100)
    between = ~(real | smooth)
    low, high = np.minimum(fields, blurred), np.maximum(fields, blurred)
    assert ((low - 1e-6 <= found) & (found <= high + 1e-6)).all()
    share = np.abs(found - blurred).sum((1, 2)) / np.abs(fields - blurred).sum((1, 2))
    assert share[between].min() < 0.1
    assert share[between].max() > 0.9


def test_probes_are_seeded_pure_and_of_all_kinds_in_time():
    fields = rain(1, side=16)
    before = fields.copy()
    a, b = (probes(fields, np.random.default_rng(1)) for _ in range(2))
    assert np.array_equal(a, b)
    assert np.array_equal(fields, before)
    rng = np.random.default_rng(0)
    kinds = [np.array_equal(probes(fields, rng), fields) for _ in range(60)]
    assert 10 < sum(kinds) < 30


def test_missing_pixels_stay_missing_in_probes():
    fields = rain(6, side=16)
    fields[:, 3:12, 5] = np.nan
    found = probes(fields, np.random.default_rng(0))
    assert np.array_equal(np.isnan(found), np.isnan(fields))


def test_coarsened():
    fields = rain(3, side=16)
    found = coarsened(fields, 8)
    np.testing.assert_allclose(found[:, 3, 9], fields[:, :8, 8:].mean((1, 2)), rtol=1e-6)
    assert (found[:, :8, :8] == found[:, :1, :1]).all()
    np.testing.assert_array_equal(coarsened(fields, 1), fields)
    odd = fields[:, :11, :5]
    np.testing.assert_allclose(coarsened(odd, 4)[:, 10, 4], odd[:, 8:, 4].mean(1), rtol=1e-6)
    holed = fields.copy()
    holed[:, ::2] = np.nan
    np.testing.assert_allclose(coarsened(holed, 16)[:, 0, 0], fields[:, 1::2].mean((1, 2)), rtol=1e-6)
    for bad, factor in ((fields[0], 2), (fields, 0)):
        with pytest.raises(ArgumentError, match=r"f(actor|ields)"):
            coarsened(bad, factor)


def test_directions_are_uniform_on_the_sphere():
    v = directions((4000, C, Q), np.random.default_rng(0))
    assert v.dtype == torch.float32
    torch.testing.assert_close(v.square().sum((1, 2)), torch.ones(4000))
    moments = torch.einsum("ni,nj->ij", v.flatten(1), v.flatten(1)) / len(v)
    torch.testing.assert_close(moments, torch.eye(C * Q) / (C * Q), rtol=0, atol=0.01)
    assert torch.equal(v, directions((4000, C, Q), np.random.default_rng(0)))


# Errors


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda g: gradient_penalty("l2", g),
            "penalty must be one of one-sided, two-sided, jacobian, got 'l2'",
        ),
        (lambda g: gradient_penalty("jacobian", g, 0.0), "limit must be a positive number, got 0.0"),
        (lambda g: gradient_penalty("jacobian", g, math.nan), "limit must be a positive number, got nan"),
        (lambda g: sobolev_distance(g, g, -1.0), "limit must be a positive number, got -1.0"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ArgumentError, match=f"^{re.escape(message)}$"):
        call(torch.zeros((2, 3, 3)))
