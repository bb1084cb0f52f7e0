"""What a step costs a GPU beside its work: kernels launched one by one, and waits for the host."""

import emuloss
import launches
import pytest
import torch

ALL = ("area", "perimeter", "euler", "components", "holes")
PREDICTION, TARGET = (torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(k)) for k in (1, 2))
MASK = TARGET > 0.5


def minkowski(**options):
    return emuloss.metric("minkowski", **{"thresholds": [0.2, 0.5, 0.9], "outputs": ALL} | options)


METRICS = {
    "minkowski": minkowski,
    "open, along diagonals": lambda: minkowski(boundary="open", connectivity=2),
    "one threshold": lambda: minkowski(thresholds=[0.5]),
    "boxcount": lambda: emuloss.metric("boxcount", thresholds=[0.2, 0.5]),
    "fss": lambda: emuloss.metric("fss", thresholds=[0.2, 0.5]),
    "csi": lambda: emuloss.metric("csi", thresholds=[0.2, 0.5]),
    "sal": lambda: emuloss.metric("sal", outputs=["amplitude"], wet=0.2),
    "spectrum": lambda: emuloss.metric("spectrum", outputs=["power", "anisotropy"]),
}
ON_THE_DEVICE = {
    **{name: lambda build=build: emuloss.relax(build()) for name, build in METRICS.items()},
    **{
        f"{name}, exact": lambda build=build: emuloss.relax(build(), forward="exact")
        for name, build in METRICS.items()
        if name[0] in "mo"
    },
    **{name: lambda name=name: emuloss.load(name) for name in emuloss.list_models()},
}


def crossings(monkeypatch, loss, *target, **more):
    return launches.step(monkeypatch, loss, PREDICTION, *target, **more).crossed.total()


@pytest.mark.parametrize("name", ON_THE_DEVICE)
def test_nothing_crosses_to_the_host(name, monkeypatch):
    loss = ON_THE_DEVICE[name]().as_loss()
    assert crossings(monkeypatch, loss, TARGET) == 0
    assert crossings(monkeypatch, loss, TARGET, mask=MASK) == 0
    if loss.metric.arity == 1:
        curves = torch.zeros(4, len(loss.metric.outputs), len(loss.metric.levels))
        assert crossings(monkeypatch, loss, target_curves=curves) == 0
        assert crossings(monkeypatch, loss, target_curves=curves, mask=MASK) == 0


@pytest.mark.parametrize("name", [*METRICS, "minkowski-opera-constrained"])
@pytest.mark.parametrize("options", [{}, {"trust": 1.0}, {"missing": "either"}], ids=str)
def test_exact_curves_cross_there_and_back_once(name, options, monkeypatch):
    """Those of prediction and target together."""
    surrogate = emuloss.relax(METRICS[name]()) if name in METRICS else emuloss.load(name)
    if surrogate.metric.arity == 2:
        options = {key: value for key, value in options.items() if key != "trust"}
    assert crossings(monkeypatch, surrogate.as_loss(forward="exact", **options), TARGET, mask=MASK) == 2


@pytest.mark.parametrize("name", [name for name in METRICS if name[0] not in "mo"])
def test_so_do_those_of_an_exact_relaxation_that_does_not_count(name, monkeypatch):
    loss = emuloss.relax(METRICS[name](), forward="exact").as_loss()
    assert crossings(monkeypatch, loss, TARGET) == 2


def test_values_that_are_exact_already_are_not_counted_again(monkeypatch):
    for options in ({"forward": "exact"}, {"reference": "exact"}, {"trust": 1.0}):
        loss = emuloss.load("minkowski-opera").as_loss(**options)
        counted = launches.step(monkeypatch, loss, PREDICTION, TARGET)
        assert counted.crossed.total() == 0
        assert counted.launched["counts_reached"] == 1


@pytest.mark.parametrize(
    ("build", "most"),
    [
        (lambda: emuloss.load("minkowski-opera"), 55),
        (lambda: emuloss.relax(minkowski(outputs=ALL[:3])), 60),
        (lambda: emuloss.relax(minkowski()), 60),
        (lambda: emuloss.relax(minkowski(), forward="exact"), 55),
    ],
    ids=["minkowski-opera", "three outputs", "five outputs", "five outputs, exact"],
)
def test_few_launches(build, most, monkeypatch):
    counted = launches.step(monkeypatch, build().as_loss(), PREDICTION, TARGET).launched
    assert counted.total() <= most, counted


def test_what_is_counted(monkeypatch):
    """The counter itself: views are free, a constant from the host crosses, what asks for a value fails."""

    class Loss(torch.nn.Module):
        def forward(self, prediction, target):
            size = torch.tensor([2.0]).to(prediction.device)
            return (prediction.flatten(1)[:, :3] * size).sum(1)

    counted = launches.step(monkeypatch, Loss(), PREDICTION, TARGET)
    assert counted.crossed == {"_to_copy": 1}
    assert counted.launched["mul"] == 2  # there and back
    Loss.forward = lambda self, prediction, target: prediction * prediction.amax().item()
    with pytest.raises(RuntimeError, match="meta"):
        launches.step(monkeypatch, Loss(), PREDICTION, TARGET)
