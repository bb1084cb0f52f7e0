"""The spectrum as a surrogate: the exact metric's values and their gradient, and no temperature."""

import copy
import pickle

import drawn
import emuloss
import numpy as np
import pytest
import torch
from emuloss.emulators import ARCHITECTURES, Analytical, relaxable, relaxation
from emuloss.errors import ArgumentError
from emuloss.metrics import Spectrum
from emuloss.zoo import verify

BOTH = ("power", "anisotropy")
METRIC = Spectrum(bins=6, outputs=BOTH)
NAN, INF = float("nan"), float("inf")
SINGLE = 3e-7
"""Largest error that single precision may leave in values of at most some 4 decades: half of a last digit."""


def rough(*shape, seed=0, dtype=torch.float64):
    """Fields whose power falls with the wavenumber, from 1e2 to 1e-2, rougher along one axis."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return noise.cumsum(-1).to(dtype)


def exact(metric, fields):
    return torch.from_numpy(metric(fields.detach().numpy()))


def holed(fields):
    fields = fields.clone()
    fields[0, : fields.shape[1] // 2, ::2] = NAN
    return fields


FIELDS = {
    "rough": lambda *shape: rough(*shape),
    "far from 0": lambda *shape: rough(*shape) + 285,
    "dry": lambda *shape: torch.zeros(shape, dtype=torch.float64),
    "constant": lambda *shape: torch.full(shape, 0.7, dtype=torch.float64),
    "with holes": lambda *shape: holed(rough(*shape)),
    "not measured": lambda *shape: torch.full(shape, NAN, dtype=torch.float64),
    "one wet pixel": lambda *shape: torch.zeros(shape, dtype=torch.float64).index_fill(
        1, torch.tensor([shape[1] // 2]), 3.0
    ),
}


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (5, 8), (12, 12), (33, 57), (98, 98), (7, 98)], ids=str)
@pytest.mark.parametrize("name", FIELDS)
def test_values_are_the_metrics(name, shape):
    fields = FIELDS[name](2, *shape)
    for bins in (1, 6, 40):
        metric = Spectrum(bins=bins, outputs=BOTH)
        torch.testing.assert_close(relaxation(metric)(fields), exact(metric, fields), rtol=0, atol=1e-10)
        single = fields.float()
        found = relaxation(metric)(single)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), exact(metric, single), rtol=0, atol=SINGLE)


@pytest.mark.parametrize("outputs", [("power",), ("anisotropy",), BOTH, BOTH[::-1]], ids=str)
def test_outputs_are_those_of_the_metric(outputs):
    metric, fields = Spectrum(bins=4, outputs=outputs), rough(3, 10, 11)
    found = relaxation(metric)(fields)
    torch.testing.assert_close(found, exact(metric, fields), rtol=0, atol=1e-10)
    assert not any(metric.check(found.numpy()).values())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_autocast_leave_the_values_in_single(dtype):
    fields = rough(2, 16, 16).to(dtype)
    expected = exact(METRIC, fields.float())
    with torch.autocast("cpu", dtype):
        found = relaxation(METRIC)(fields)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=SINGLE)


def test_small_waves_are_measured_beside_large_ones():
    """White noise of 1e-3 beside a wave of 1e4: in single precision it would lie in the wave's rounding."""
    metric = Spectrum(bins=16, floor=1e-12)
    noise = 1e-3 * torch.randn((1, 64, 64), generator=torch.Generator().manual_seed(0))
    wave = 1e4 * torch.sin(2 * torch.pi * torch.arange(64, dtype=torch.float64) * 2 / 64)
    power = relaxation(metric)(noise + wave)[0, 0, 6:]
    torch.testing.assert_close(power, torch.full_like(power, -6), rtol=0, atol=0.3)


# Gradients


@pytest.mark.parametrize("shape", [(1, 1), (6, 5), (9, 8)], ids=str)
def test_gradient_by_finite_differences(shape):
    fields = rough(2, *shape).requires_grad_()
    assert torch.autograd.gradcheck(relaxation(METRIC), fields)
    assert torch.autograd.gradgradcheck(relaxation(METRIC), fields)


def test_grids_that_are_worked_on_in_parts_have_the_same_gradient():
    """Of 3 x 4 pixels and 16 rings: 32 x 17 wavenumbers, 12 columns and 5."""
    module, fields = relaxation(Spectrum(bins=16, outputs=BOTH)), rough(2, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(module, fields)
    assert torch.autograd.gradgradcheck(lambda x: module(x)[..., ::4], fields)
    (slope,) = torch.autograd.grad(module(fields).sum(), fields)
    torch.testing.assert_close(torch.func.grad(lambda x: module(x).sum())(fields.detach()), slope)
    torch.compiler.reset()
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    (found,) = torch.autograd.grad(compiled(fields).sum(), fields)
    torch.testing.assert_close(found, slope)


def test_gradient_beside_holes_by_finite_differences():
    missing = rough(2, 7, 6, seed=1) > 0
    fields = rough(2, 7, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: relaxation(METRIC)(x.masked_fill(missing, NAN)), fields)
    relaxation(METRIC)(fields.masked_fill(missing, NAN)).sum().backward()
    assert (fields.grad[missing] == 0).all()
    assert (fields.grad[~missing] != 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", FIELDS)
def test_gradients_are_finite(name, dtype):
    fields = FIELDS[name](2, 9, 8).to(dtype).requires_grad_()
    for output in range(2):
        (slope,) = torch.autograd.grad(relaxation(METRIC)(fields)[:, output].sum(), fields)
        assert slope.isfinite().all()


def test_what_is_below_the_floor_has_no_gradient():
    fields = (1e-6 * rough(1, 8, 8)).requires_grad_()
    relaxation(Spectrum(bins=4))(fields).sum().backward()
    assert (fields.grad == 0).all()
    (slope,) = torch.autograd.grad(relaxation(Spectrum(bins=4, floor=1e-20))(fields).sum(), fields)
    assert (slope != 0).all()


def test_a_loss_gives_white_noise_the_spectrum_of_its_target():
    target = rough(2, 32, 32, dtype=torch.float32)
    fields = torch.randn((2, 32, 32), generator=torch.Generator().manual_seed(3)).requires_grad_()
    metric = Spectrum(bins=16, outputs=BOTH)
    loss = emuloss.relax(metric).as_loss()
    optimizer = torch.optim.Adam([fields], lr=0.05)
    before = loss(fields, target).item()
    for _ in range(150):
        optimizer.zero_grad()
        loss(fields, target).backward()
        optimizer.step()
    assert loss(fields, target) < 0.1 * before
    found, wanted = exact(metric, fields), exact(metric, target)
    assert (found - wanted).abs().mean() < 0.1


# As a surrogate


def test_it_is_known_to_have_a_relaxation():
    assert relaxable(Spectrum())
    assert isinstance(relaxation(Spectrum()), Analytical)
    surrogate = emuloss.relax(METRIC)
    assert (surrogate.outputs, surrogate.thresholds, surrogate.has_weights) == (BOTH, (), False)
    assert "temperature" not in repr(surrogate)
    assert surrogate(rough(2, 1, 8, 8)).shape == (2, 2, 6)
    assert surrogate(torch.zeros(0, 8, 8)).shape == (0, 2, 6)


def test_it_has_no_temperature():
    with pytest.raises(
        ArgumentError, match=r"^the relaxation of metric 'spectrum' has no argument 'temp[^\n]*$"
    ):
        emuloss.relax(METRIC, temperature=0.1)
    with pytest.raises(ArgumentError, match=r"^the relaxation of metric 'spectrum' takes no fields[^\n]*$"):
        emuloss.relax(METRIC, fields=np.ones((2, 4, 4)))
    surrogate = emuloss.relax(METRIC)
    assert surrogate.relaxation is None
    assert "temperature" not in dir(surrogate)
    for touch in (
        lambda: surrogate.temperature,
        lambda: setattr(surrogate, "temperature", 0.1),
        lambda: surrogate.as_loss().anneal(0.5),
    ):
        with pytest.raises(ArgumentError, match=r"^[^\n]* metric 'spectrum' [^\n]*has no temperature[^\n]*$"):
            touch()
    with pytest.raises(ArgumentError, match="'spectrum' has no thresholds"):
        surrogate.with_thresholds([1.0])


def test_forward_exact_has_the_metrics_own_values_and_the_same_gradient():
    fields = holed(rough(2, 12, 9)).float()
    slopes = []
    for forward in ("soft", "exact"):
        x = fields.clone().requires_grad_()
        curves = relaxation(METRIC, forward=forward)(x)
        curves.sum().backward()
        slopes.append(x.grad)
    assert torch.equal(curves, exact(METRIC, fields).float())
    assert torch.equal(*slopes)
    assert relaxation(METRIC, forward="exact").arguments() == {"forward": "exact"}
    with pytest.raises(ArgumentError, match="forward must be"):
        relaxation(METRIC, forward="hard")


@pytest.mark.parametrize("forward", ["surrogate", "exact"])
def test_losses_and_scores(forward):
    surrogate = emuloss.relax(METRIC)
    fields, target = (rough(3, 12, 12, seed=seed, dtype=torch.float32) for seed in (0, 1))
    x = fields.clone().requires_grad_()
    value = surrogate.as_loss(forward=forward)(x, target)
    value.backward()
    assert x.grad.isfinite().all()
    assert x.grad.any()
    torch.testing.assert_close(value, emuloss.relax(METRIC).as_loss(reference="exact")(fields, target))
    assert surrogate.as_loss(forward=forward)(target, target) == 0
    members = torch.stack([fields, fields.flip(0), target], dim=1).requires_grad_()
    score = surrogate.as_score(forward=forward)(members, target)
    score.backward()
    assert members.grad.isfinite().all()
    assert members.grad.any()


def test_missing_pixels_of_a_target_leave_predictions_alone():
    loss, target = emuloss.relax(METRIC).as_loss(), holed(rough(2, 12, 12)).float()
    prediction = target.nan_to_num(5.0).requires_grad_()
    value = loss(prediction, target)
    value.backward()
    assert value == 0
    assert (prediction.grad[target.isnan()] == 0).all()


@pytest.mark.parametrize("forward", ["soft", "exact"])
def test_checkpoints(forward, tmp_path):
    surrogate = emuloss.relax(METRIC, forward=forward)
    surrogate.save_pretrained(tmp_path)
    loaded = emuloss.load(tmp_path)
    fields = rough(2, 20, 17).float()
    assert loaded.metric == METRIC
    assert torch.equal(loaded(fields), surrogate(fields))
    verify(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "without temperature: values are the metric's" in card
    assert "the shape is a run-time choice" in card
    assert "extrapolates" not in card


def test_copies_compilers_and_maps():
    surrogate, fields = emuloss.relax(METRIC), rough(3, 10, 11)
    expected = surrogate(fields)
    for twin in (copy.deepcopy(surrogate), pickle.loads(pickle.dumps(surrogate)), surrogate.at(METRIC)):
        assert torch.equal(twin(fields), expected)
    found = torch.func.vmap(lambda x: surrogate(x[None])[0])(fields)
    torch.testing.assert_close(found, expected)
    torch.compiler.reset()
    compiled = torch.compile(surrogate, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(fields), expected)


# As the prior of a network


def test_hybrid_starts_from_it():
    metric = Spectrum(bins=6)
    network = ARCHITECTURES["hybrid"](metric, widths=(8, 16), hidden=16)
    assert isinstance(network.prior, Analytical)
    fields = holed(rough(3, 16, 16)).float()
    torch.testing.assert_close(network(fields), relaxation(metric)(fields), rtol=0, atol=0.02)
    again = ARCHITECTURES["hybrid"](metric, **network.arguments())
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(fields), network(fields))


def test_rain_is_true_to_the_metric():
    fields = drawn.rain(8, 32, 32, law="peaked")
    torch.testing.assert_close(
        relaxation(Spectrum())(fields).double(), exact(Spectrum(), fields), rtol=0, atol=SINGLE
    )
    assert INF not in fields
