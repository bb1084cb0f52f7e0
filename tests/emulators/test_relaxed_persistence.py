"""The relaxed Minkowski curves of components and holes of at least a persistence."""

import drawn
import emuloss
import numpy as np
import pytest
import torch
from emuloss.emulators import Excursion, RelaxedMinkowski, certify
from emuloss.metrics import Minkowski

THRESHOLDS = (0.2, 0.7, 1.5)
ALL = ("area", "perimeter", "euler", "components", "holes")
SPREADS = drawn.spreads(THRESHOLDS)

every_connectivity = pytest.mark.parametrize("connectivity", [1, 2])


def surrogate(persistence=0.4, temperature=0.2, forward="soft", outputs=ALL, **arguments):
    metric = Minkowski(THRESHOLDS, outputs=outputs, persistence=persistence, **arguments)
    return RelaxedMinkowski(metric, temperature, None, forward, SPREADS)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    """Without ties, and with pairs of all persistences."""
    return 2 * torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("more", [{}, {"spacing": (2, 1)}, {"boundary": "open"}], ids=str)
@every_connectivity
def test_is_the_mean_of_exact_curves_over_noise(connectivity, more):
    relaxed = surrogate(connectivity=connectivity, **more)
    for field in noise(2, 9, 11):
        values = np.unique(field)
        (of_each,) = relaxed.metric.with_arguments(thresholds=values, levels=None)(field[None].numpy())
        z = (values[:, None] - THRESHOLDS) / (0.2 * np.array(SPREADS))
        chances = np.diff(1 / (1 + np.exp(-z)), axis=0, prepend=0.0)
        expected = torch.from_numpy(of_each @ chances)
        torch.testing.assert_close(relaxed(field[None])[0], expected, rtol=1e-4, atol=3e-3)


def test_components_on_a_torus():
    relaxed = surrogate(boundary="periodic", outputs=["components"])
    field = noise(1, 8, 9)
    torch.testing.assert_close(relaxed(field), relaxed(field.roll((3, 5), (1, 2))), rtol=1e-9, atol=1e-9)
    exact = surrogate(boundary="periodic", outputs=["components"], temperature=2e-4)
    torch.testing.assert_close(
        exact(field), torch.from_numpy(relaxed.metric(field.numpy())), rtol=0, atol=0.05
    )


@every_connectivity
def test_gradient_by_finite_differences(connectivity):
    relaxed = surrogate(connectivity=connectivity, temperature=0.3)
    assert torch.autograd.gradcheck(relaxed, noise(1, 5, 5).requires_grad_(), eps=1e-7, atol=1e-4)


@every_connectivity
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exact_forward_has_exact_values_and_the_soft_gradient(connectivity, dtype):
    soft, hard = (surrogate(connectivity=connectivity, forward=forward) for forward in ("soft", "exact"))
    fields = noise(2, 12, 12).to(dtype)[:, None].requires_grad_()
    expected = torch.from_numpy(hard.metric(fields.detach().numpy())).to(dtype)
    torch.testing.assert_close(hard(fields), expected, rtol=1e-12, atol=1e-12)
    weights = torch.randn((2, 5, 3), generator=torch.Generator().manual_seed(3), dtype=dtype)
    (ours,) = torch.autograd.grad((hard(fields) * weights).sum(), fields)
    (theirs,) = torch.autograd.grad((soft(fields) * weights).sum(), fields)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_the_gradient_stands_on_pairs_that_last():
    """Of two peaks beside a higher one, that which rises 0.2 from its saddle is noise, that of 0.8 is not."""
    field = torch.tensor([[[1.0, 0.8, 3.0, 0.7, 1.5]]], dtype=torch.float64).requires_grad_()
    relaxed = surrogate(0.4, 0.5, outputs=["components"])
    (gradient,) = torch.autograd.grad(relaxed(field).sum(), field)
    assert gradient[0, 0, :2].tolist() == [0, 0]
    assert gradient[0, 0, 4] > 0 > gradient[0, 0, 3]
    assert gradient[0, 0, 2] > 0


def test_persistence_is_in_the_unit_of_the_field():
    """A lone threshold has each field in its own spread; pairs are measured before that."""
    field = noise(1, 12, 12)
    lone = RelaxedMinkowski(Minkowski([1.0], outputs=["components"], persistence=1.2), 0.001)
    torch.testing.assert_close(lone(field), torch.from_numpy(lone.metric(field.numpy())), rtol=0, atol=0.01)


@pytest.mark.parametrize("forward", ["soft", "exact"])
@every_connectivity
def test_a_share_of_each_field_s_range(connectivity, forward):
    fields = noise(3, 12, 12) * torch.tensor([0.5, 1.0, 1.5], dtype=torch.float64)[:, None, None]
    fields.requires_grad_()
    found = surrogate("30%", forward=forward, connectivity=connectivity)(fields)
    for field, curves in zip(fields, found, strict=True):
        least = 0.3 * np.ptp(field.detach().numpy())
        expected = surrogate(least, forward=forward, connectivity=connectivity)(field[None])[0]
        torch.testing.assert_close(curves, expected)
        gradients = [torch.autograd.grad(x.sum(), fields, retain_graph=True) for x in (curves, expected)]
        torch.testing.assert_close(*gradients)
    plain = surrogate(0.0, forward=forward, connectivity=connectivity)(fields)
    assert not torch.allclose(plain[:, 3:], found[:, 3:])


@pytest.mark.parametrize("boundary", ["closed", "open"])
def test_projected_curves_obey_what_is_declared(boundary):
    metric = Minkowski(THRESHOLDS, outputs=ALL, boundary=boundary, persistence=0.4)
    curves = Excursion(metric, 0.5, forward="soft", spreads=SPREADS)(noise(4, 9, 12)).numpy()
    assert not any(metric.check(curves, (9, 12)).values())


def test_what_jumps_has_no_bound():
    assert certify(surrogate(outputs=["components"]), (6, 6)).bound is None
    assert certify(surrogate(outputs=["area"]), (6, 6)).bound is not None


@pytest.mark.parametrize("architecture", ["excursion", "relaxed"])
def test_a_checkpoint_brings_it_back(architecture, tmp_path):
    metric = emuloss.metric("minkowski", thresholds=THRESHOLDS, outputs=ALL, persistence=0.4)
    before = emuloss.relax(
        metric, spreads=SPREADS, forward="exact" if architecture == "excursion" else "soft"
    )
    before.save_pretrained(tmp_path / "lasting")
    after = emuloss.load(tmp_path / "lasting")
    assert after.metric == metric
    fields = noise(2, 16, 16).float()
    assert torch.equal(before(fields), after(fields))
