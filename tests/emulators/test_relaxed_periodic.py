"""The relaxed Minkowski curves of fields whose opposite edges adjoin."""

import itertools

import drawn
import emuloss
import numpy as np
import pytest
import torch
from emuloss.emulators import RelaxedMinkowski, certify
from emuloss.emulators.curves import signed_log1p
from emuloss.emulators.soft import BACKENDS, soft_histogram
from emuloss.emulators.soft.spanning_forest import component_changes as by_spanning_forest
from emuloss.errors import ArgumentError
from emuloss.metrics import Minkowski
from emuloss.metrics.kernels.excursions import component_changes
from skimage.measure import label

THRESHOLDS = (0.2, 0.7, 1.5)
ALL = ("area", "perimeter", "euler", "components", "holes")
SPREADS = drawn.spreads(THRESHOLDS)
WRAPS = [(True, True), (False, True), (True, False)]

every_space = pytest.mark.parametrize(
    ("boundary", "connectivity"), list(itertools.product(("periodic", "periodic-x"), (1, 2)))
)


def surrogate(boundary="periodic", connectivity=1, temperature=0.2, forward="soft", outputs=ALL, size=2.0):
    metric = Minkowski(
        THRESHOLDS, size, outputs=outputs, boundary=boundary, connectivity=connectivity, length_unit="km"
    )
    return RelaxedMinkowski(metric, temperature, None, forward, SPREADS)


def rain(*shape: int, seed: int = 0) -> torch.Tensor:
    return drawn.rain(*shape, law="smooth", seed=seed, dtype=torch.float64)


@every_space
@pytest.mark.parametrize("shape", [(2, 13, 10), (1, 2, 7), (2, 3, 2)], ids=str)
def test_is_the_mean_of_exact_curves_over_noise(shape, boundary, connectivity):
    relaxed = surrogate(boundary, connectivity)
    for field in rain(*shape):
        values = np.unique(field)
        metric = relaxed.metric.with_arguments(thresholds=values, levels=None)
        (of_each,) = metric(field[None].numpy())
        z = (values[:, None] - THRESHOLDS) / (0.2 * np.array(SPREADS))
        chances = np.diff(1 / (1 + np.exp(-z)), axis=0, prepend=0.0)
        expected = torch.from_numpy(of_each @ chances)
        torch.testing.assert_close(relaxed(field[None])[0], expected, rtol=1e-4, atol=1e-3)


@every_space
def test_where_it_is_cut_is_of_no_account(boundary, connectivity):
    # Without ties, of which the first in raster order starts a component.
    field = 2 * torch.rand((1, 12, 11), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    relaxed, field = surrogate(boundary, connectivity), field.requires_grad_()
    shift = (5 if boundary == "periodic" else 0, 4)
    weights = torch.randn((1, 5, 3), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    moved = field.detach().roll(shift, (1, 2)).requires_grad_()
    gradients = []
    for each in (field, moved):
        curves = relaxed(each)
        (gradient,) = torch.autograd.grad((curves * weights).sum(), each)
        gradients.append((curves.detach(), gradient))
    torch.testing.assert_close(gradients[0][0], gradients[1][0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(gradients[0][1].roll(shift, (1, 2)), gradients[1][1], rtol=1e-9, atol=1e-9)


@every_space
def test_gradient_by_finite_differences(boundary, connectivity):
    relaxed = surrogate(boundary, connectivity, 0.3)
    field = 2 * torch.rand((1, 4, 5), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert torch.autograd.gradcheck(relaxed, field.requires_grad_(), eps=1e-7, atol=1e-4)


@every_space
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exact_forward_has_exact_values_and_the_soft_gradient(boundary, connectivity, dtype):
    soft, hard = (surrogate(boundary, connectivity, forward=forward) for forward in ("soft", "exact"))
    fields = rain(2, 20, 18).to(dtype).requires_grad_()
    expected = torch.from_numpy(hard.metric(fields.detach().numpy())).to(dtype)
    torch.testing.assert_close(hard(fields), expected, rtol=1e-12, atol=1e-11)
    (ours,) = torch.autograd.grad(hard(fields).square().mean(), fields)
    values = soft(fields)
    (theirs,) = torch.autograd.grad((values * 2 * expected / expected.numel()).sum(), fields)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("wraps", WRAPS)
@pytest.mark.parametrize("touched", [False, True])
def test_backends_agree(touched, wraps):
    """As compiled, and by torch operations, which exports and transforms use."""
    places = rain(2, 9, 8).clamp(max=3).requires_grad_()
    options = {"touched": touched, "degrees": False, "components": True, "wraps": wraps}
    found = []
    for name in ("compiled", "anywhere"):
        others = {other: BACKENDS[other] for other in BACKENDS if other != name}
        with pytest.MonkeyPatch.context() as patch:
            for other in others.values():
                patch.setattr(type(other), "suits", lambda self, fields: False)
            histogram = soft_histogram(places, 9, **options)
            (gradient,) = torch.autograd.grad(histogram.square().sum(), places)
        found.append((histogram.detach(), gradient))
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("wraps", WRAPS)
@pytest.mark.parametrize("diagonal", [False, True])
def test_components_by_torch_operations(diagonal, wraps):
    fields = (1 + torch.randperm(3 * 12 * 9, generator=torch.Generator().manual_seed(0))).view(3, 12, 9)
    found = by_spanning_forest(fields.double(), diagonal, wraps)
    np.testing.assert_array_equal(found, component_changes(fields.double().numpy(), diagonal, wraps))


def test_a_set_across_the_edge_is_one():
    """Its gradient knows, too: no threshold between their heights parts what adjoins."""
    field = torch.zeros(1, 6, 6, dtype=torch.float64)
    field[0, 2, 0], field[0, 2, 5] = 3.0, 2.0
    assert label(field[0].numpy() >= 0.7).max() == 2
    relaxed = surrogate(temperature=0.01, outputs=["components"])
    field.requires_grad_()
    curves = relaxed(field)
    assert curves[0, 0].tolist() == pytest.approx([1, 1, 1], abs=1e-3)
    (gradient,) = torch.autograd.grad(curves.sum(), field)
    assert gradient[0, 2, 5] == 0


@pytest.mark.parametrize("output", ALL)
@pytest.mark.parametrize("boundary", ["periodic", "periodic-x"])
def test_certified_bounds_hold(boundary, output):
    relaxed = surrogate(boundary, temperature=0.5, outputs=[output], size=1.0)
    bound = certify(relaxed, (6, 6)).bound
    for seed in range(4):
        field = rain(1, 6, 6, seed=seed)
        jacobian = torch.autograd.functional.jacobian(lambda f: signed_log1p(relaxed(f)), field)
        assert 0 < float(jacobian.norm()) <= bound


@pytest.mark.parametrize("boundary", ["periodic", "periodic-x"])
def test_a_checkpoint_brings_it_back(boundary, tmp_path):
    metric = emuloss.metric("minkowski", thresholds=THRESHOLDS, outputs=ALL, boundary=boundary)
    before = emuloss.relax(metric, spreads=SPREADS)
    before.save_pretrained(tmp_path / "torus")
    after = emuloss.load(tmp_path / "torus")
    assert after.metric == metric
    fields = rain(2, 16, 16).float()
    assert torch.equal(before(fields), after(fields))
    assert after.as_loss()(fields, fields.roll(3, 2)) < 1e-5 < after.as_loss()(fields, fields.flip(0))


def test_sides_of_one_pixel_are_refused():
    for forward in ("soft", "exact"):
        with pytest.raises(ArgumentError, match="two pixels"):
            surrogate(forward=forward)(rain(1, 1, 4))
