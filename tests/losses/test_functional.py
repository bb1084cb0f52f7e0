"""Functions beside the modules: the same values and gradients, real arguments, nothing built twice."""

import inspect
import pydoc

import emuloss
import numpy as np
import pytest
import torch
from emuloss import functional

THRESHOLDS = [0.5, 1.0, 2.0]
CASES = {
    "minkowski": (functional.minkowski_distance, (THRESHOLDS,), {"pixel_size": 2.0, "outputs": ("holes",)}),
    "fss": (functional.fss_loss, (THRESHOLDS,), {"windows": [1, 3]}),
    "csi": (functional.csi_loss, (THRESHOLDS,), {"outputs": ["pod"]}),
    "boxcount": (functional.boxcount_distance, (THRESHOLDS,), {"scales": [1, 2]}),
    "spectrum": (functional.spectrum_distance, (), {"bins": 8}),
}


def drawn(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    both = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)) * 4
    return both[0].requires_grad_(), both[1]


@pytest.mark.parametrize("name", CASES)
def test_functions_are_the_modules(name):
    function, given, arguments = CASES[name]
    prediction, target = drawn(2, 16, 16)
    named = {"thresholds": THRESHOLDS} if given else {}
    loss = emuloss.relax(emuloss.metric(name, **named, **arguments)).as_loss()
    ours, theirs = function(prediction, target, *given, **arguments), loss(prediction, target)
    assert ours == theirs
    gradients = [torch.autograd.grad(each, prediction)[0] for each in (ours, theirs)]
    torch.testing.assert_close(*gradients)
    assert gradients[0].any()


@pytest.mark.parametrize("name", CASES)
def test_smaller_is_better_and_a_target_is_best(name):
    function, given, arguments = CASES[name]
    prediction, target = drawn(2, 16, 16)
    sharp = {} if name == "spectrum" else {"forward": "exact"}
    best = function(target, target, *given, **sharp, **arguments)
    assert float(best) == pytest.approx(0.0, abs=1e-6)
    assert function(prediction, target, *given, **sharp, **arguments) > 0.01


def test_what_the_loss_takes_the_functions_take():
    prediction, target = drawn(2, 3, 16, 16)
    metric = emuloss.metric("minkowski", thresholds=THRESHOLDS)
    mask = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)) > 0.1
    options = {"weights": {"euler": 0.5}, "reduction": "none", "channels": ["rain", None, "snow"]}
    loss = emuloss.relax(metric, temperature=0.1).as_loss(**options)
    ours = functional.minkowski_distance(
        prediction, target, THRESHOLDS, temperature=0.1, mask=mask, **options
    )
    assert torch.equal(ours, loss(prediction, target, mask=mask))
    exact = functional.distance(prediction[:, 0], target[:, 0], metric, forward="exact")
    curves = [torch.from_numpy(metric(x[:, 0].detach().numpy())).float() for x in (prediction, target)]
    distance = emuloss.emulators.CurveDistance.of(metric)
    assert float(exact.detach()) == pytest.approx(float(distance(*curves).sum(1).mean()), rel=1e-5)


def test_curves():
    fields, others = drawn(2, 16, 16)
    metric = emuloss.metric("minkowski", thresholds=THRESHOLDS)
    assert torch.equal(functional.curves(fields, metric), emuloss.relax(metric)(fields))
    sharp = functional.curves(fields, metric, forward="exact")
    np.testing.assert_allclose(sharp.detach(), metric(fields.detach().numpy()), rtol=1e-6)
    pairs = emuloss.metric("csi", thresholds=THRESHOLDS)
    assert torch.equal(functional.curves(fields, pairs, others), emuloss.relax(pairs)(fields, others))


def test_energy_score():
    members, target = drawn(2, 4, 16, 16)[0], drawn(2, 16, 16)[1]
    metric = emuloss.metric("minkowski", thresholds=THRESHOLDS)
    score = emuloss.relax(metric).as_score(estimator="fair")
    assert functional.energy_score(members, target, metric, estimator="fair") == score(members, target)


def test_equal_arguments_build_nothing_twice(monkeypatch):
    prediction, target = drawn(1, 8, 8)
    functional.csi_loss(prediction, target, [0.7])
    monkeypatch.setattr(functional, "relaxation", None)
    functional.csi_loss(prediction, target, (0.7,))
    functional.csi_loss(prediction, target, np.array([0.7]))
    with pytest.raises(TypeError):
        functional.csi_loss(prediction, target, [0.8])


def test_what_is_built_in_inference_mode_serves_in_training():
    prediction, target = drawn(1, 8, 8)
    with torch.inference_mode():
        functional.fss_loss(prediction.detach(), target, [0.9], windows=[3])
    functional.fss_loss(prediction, target, [0.9], windows=[3]).backward()
    assert prediction.grad is not None


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda x, y: functional.fss_loss(x.detach().numpy(), y, [1.0]), "use torch.from_numpy"),
        (lambda x, y: functional.fss_loss(x, y, [1.0], windows=[2]), "windows must be odd"),
        (lambda x, y: functional.csi_loss(x, y, [2.0, 1.0]), "strictly increasing"),
        (lambda x, y: functional.minkowski_distance(x, y, [1.0], weights={"holes": 1}), "weights must be"),
        (lambda x, y: functional.minkowski_distance(x, y, [1.0], weights={"area": [1]}), "weights must be"),
        (lambda x, y: functional.minkowski_distance(x, y, [1.0], reduction="avg"), "reduction must be"),
        (lambda x, y: functional.distance(x, y, "fss"), "takes a metric"),
        (lambda x, y: functional.distance(x, y, emuloss.metric("clusters", thresholds=[1])), "no relaxation"),
    ],
)
def test_mistakes_are_told(call, said):
    with pytest.raises(emuloss.ArgumentError, match=said):
        call(*drawn(1, 8, 8))


@pytest.mark.parametrize("name", functional.__all__)
def test_help_tells_each_argument(name):
    function = getattr(functional, name)
    page = pydoc.plain(pydoc.render_doc(function))
    for argument in inspect.signature(function).parameters:
        assert f"        {argument}: " in page
    assert "Any" not in str(inspect.signature(function))
