"""The relaxed Minkowski curves of pixels that are not square, and of rows that weigh differently."""

import itertools

import drawn
import emuloss
import numpy as np
import pytest
import torch
from emuloss.emulators import Excursion, RelaxedMinkowski, certify
from emuloss.emulators.curves import signed_log1p
from emuloss.emulators.soft import BACKENDS
from emuloss.emulators.soft.histogram import row_histogram
from emuloss.errors import ArgumentError
from emuloss.metrics import Minkowski

THRESHOLDS = (0.2, 0.7, 1.5)
ALL = ("area", "perimeter", "euler", "components", "holes")
SPREADS = drawn.spreads(THRESHOLDS)
UNEVEN = {"spacing": (3.0, 0.7)}
WEIGHTED = {"row_weights": np.cos(np.linspace(-1.2, 1.4, 9))}

every_space = pytest.mark.parametrize(
    ("boundary", "uneven"),
    list(
        itertools.product(("closed", "open", "periodic", "periodic-x"), (UNEVEN, WEIGHTED, UNEVEN | WEIGHTED))
    ),
)


def surrogate(boundary="closed", uneven=UNEVEN, temperature=0.2, forward="soft", outputs=ALL):
    metric = Minkowski(THRESHOLDS, outputs=outputs, boundary=boundary, **uneven)
    return RelaxedMinkowski(metric, temperature, None, forward, SPREADS)


def rain(*shape: int, seed: int = 0) -> torch.Tensor:
    return drawn.rain(*shape, law="smooth", seed=seed, dtype=torch.float64)


@every_space
def test_is_the_mean_of_exact_curves_over_noise(boundary, uneven):
    relaxed = surrogate(boundary, uneven)
    for field in rain(2, 9, 11):
        values = np.unique(field)
        (of_each,) = relaxed.metric.with_arguments(thresholds=values, levels=None)(field[None].numpy())
        z = (values[:, None] - THRESHOLDS) / (0.2 * np.array(SPREADS))
        chances = np.diff(1 / (1 + np.exp(-z)), axis=0, prepend=0.0)
        torch.testing.assert_close(
            relaxed(field[None])[0], torch.from_numpy(of_each @ chances), rtol=1e-4, atol=3e-3
        )


@pytest.mark.parametrize("boundary", ["closed", "open", "periodic", "periodic-x"])
def test_gradient_by_finite_differences(boundary):
    relaxed = surrogate(boundary, UNEVEN | WEIGHTED, 0.3)
    field = 2 * torch.rand((1, 9, 2), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert torch.autograd.gradcheck(relaxed, field.requires_grad_(), eps=1e-7, atol=1e-4)


@every_space
def test_exact_forward_has_exact_values_and_the_soft_gradient(boundary, uneven):
    soft, hard = (surrogate(boundary, uneven, forward=forward) for forward in ("soft", "exact"))
    fields = rain(2, 9, 12).requires_grad_()
    expected = torch.from_numpy(hard.metric(fields.detach().numpy()))
    torch.testing.assert_close(hard(fields), expected, rtol=1e-12, atol=1e-12)
    weights = torch.randn((2, 5, 3), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    (ours,) = torch.autograd.grad((hard(fields) * weights).sum(), fields)
    (theirs,) = torch.autograd.grad((soft(fields) * weights).sum(), fields)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("wraps", [False, True])
def test_backends_agree(wraps):
    places = rain(2, 5, 6).clamp(max=3).requires_grad_()
    weights = torch.rand(5, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    found = []
    for name in ("compiled", "anywhere"):
        with pytest.MonkeyPatch.context() as patch:
            for other in BACKENDS:
                if other != name:
                    patch.setattr(type(BACKENDS[other]), "suits", lambda self, fields: False)
            histogram = row_histogram(places, 9, weights, degrees=True, wraps=wraps)
            (gradient,) = torch.autograd.grad(histogram.square().sum(), places)
        found.append((histogram.detach(), gradient))
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("uneven", [UNEVEN, WEIGHTED], ids=["spacing", "rows"])
@pytest.mark.parametrize("output", ["area", "perimeter"])
def test_certified_bounds_hold(output, uneven):
    relaxed = surrogate(uneven=uneven, temperature=0.5, outputs=[output])
    bound = certify(relaxed, (9, 6)).bound
    for field in rain(4, 9, 6)[:, None]:
        jacobian = torch.autograd.functional.jacobian(lambda f: signed_log1p(relaxed(f)), field)
        assert 0 < float(jacobian.norm()) <= bound


@pytest.mark.parametrize("uneven", [{}, UNEVEN, WEIGHTED, UNEVEN | WEIGHTED])
@pytest.mark.parametrize("boundary", ["closed", "open", "periodic", "periodic-x"])
def test_projected_curves_obey_what_is_declared(boundary, uneven):
    metric = Minkowski(THRESHOLDS, outputs=ALL, boundary=boundary, **uneven)
    curves = Excursion(metric, 0.5, forward="soft", spreads=SPREADS)(rain(4, 9, 12)).numpy()
    assert not any(metric.check(curves, (9, 12)).values())


@pytest.mark.parametrize("rows", [9, 300])
def test_a_checkpoint_brings_it_back(rows, tmp_path):
    weights = np.cos(np.linspace(-1.5, 1.5, rows))
    metric = Minkowski(THRESHOLDS, outputs=ALL, boundary="periodic-x", spacing=(2, 1), row_weights=weights)
    before = emuloss.relax(metric, spreads=SPREADS)
    before.save_pretrained(tmp_path / "globe")
    after = emuloss.load(tmp_path / "globe")
    assert after.metric == metric
    fields = rain(1, rows, 12).float()
    assert torch.equal(before(fields), after(fields))


def test_as_many_weights_as_rows():
    for forward in ("soft", "exact"):
        with pytest.raises(ArgumentError, match="one for each row"):
            surrogate(uneven=WEIGHTED, forward=forward)(rain(1, 8, 8))
