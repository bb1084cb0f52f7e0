"""What is set anew between steps reaches a compiled loss, which is compiled once."""

import copy
import time

import drawn
import emuloss
import pytest
import torch
from emuloss.emulators.tables import Tabled
from emuloss.errors import ArgumentError

KINDS = {
    "minkowski-opera": lambda: emuloss.load("minkowski-opera"),
    "minkowski": lambda: emuloss.relax(emuloss.metric("minkowski", thresholds=[0.5, 1, 5])),
    "minkowski, exact": lambda: emuloss.relax(
        emuloss.metric("minkowski", thresholds=[0.5, 1, 5]), forward="exact"
    ),
    "fss, exact": lambda: emuloss.relax(emuloss.metric("fss", thresholds=[0.5, 1, 5]), forward="exact"),
    "boxcount": lambda: emuloss.relax(emuloss.metric("boxcount", thresholds=[0.5, 1, 5])),
    "fss": lambda: emuloss.relax(emuloss.metric("fss", thresholds=[0.5, 1, 5])),
    "csi": lambda: emuloss.relax(emuloss.metric("csi", thresholds=[0.5, 1, 5])),
    "sal": lambda: emuloss.relax(emuloss.metric("sal", outputs=["amplitude"], wet=0.5)),
}
PREDICTION, TARGET = (drawn.rain(2, 1, 32, 32, law="peaked", seed=seed) for seed in (1, 2))


class Graphs:
    """A loss compiled, and the number of graphs that it took."""

    def __init__(self, function, fullgraph=True):
        torch.compiler.reset()
        torch._dynamo.utils.counters.clear()
        self.compiled = torch.compile(function, backend="eager", fullgraph=fullgraph)

    def __call__(self, *fields):
        return self.compiled(*fields)

    @property
    def number(self):
        return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def value_and_gradient(loss):
    prediction = PREDICTION.clone().requires_grad_()
    value = loss(prediction, TARGET)
    return value.detach(), torch.autograd.grad(value, prediction)[0]


# What torch's compiler imports, and looks at.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute")


@pytest.mark.parametrize("name", KINDS)
def test_annealing_compiles_once(name):
    """The compiled loss is the plain one at all temperatures, although cold ones need larger tables."""
    loss = KINDS[name]().as_loss()
    graphs, slopes = Graphs(loss), []
    for k in range(5):
        loss.anneal(k / 4, 0.2, 0.01)
        found, wanted = (value_and_gradient(each) for each in (graphs, loss))
        torch.testing.assert_close(found[0], wanted[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found[1], wanted[1], rtol=1e-4, atol=1e-4 * float(wanted[1].abs().max()))
        slopes.append(float(found[1].norm()))
    assert graphs.number == 1
    assert len(set(slopes)) == 5


@pytest.mark.parametrize(
    "build",
    [
        lambda: KINDS["minkowski"]().as_loss(forward="exact"),
        lambda: KINDS["csi"]().as_loss(forward="exact"),
        lambda: KINDS["minkowski"]().as_loss(reference="exact", trust=1.0),
        lambda: emuloss.load("minkowski-opera-constrained").as_loss(forward="exact"),
    ],
    ids=["minkowski", "csi", "trust", "a network"],
)
def test_exact_values_are_part_of_the_graph(build):
    loss = build()
    graphs = Graphs(loss)
    for k in range(3):
        if loss.surrogate.relaxation is not None:
            loss.anneal(k / 2)
        found, wanted = (value_and_gradient(each) for each in (graphs, loss))
        torch.testing.assert_close(found[0], wanted[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found[1], wanted[1], rtol=1e-4, atol=1e-4 * float(wanted[1].abs().max()))
    assert graphs.number == 1


def test_a_temperature_for_each_threshold_compiles_once():
    loss = KINDS["minkowski"]().as_loss()
    graphs = Graphs(loss)
    for k in range(1, 5):
        loss.surrogate.temperature = [0.02 * k, 0.03 * k, 0.04]
        torch.testing.assert_close(graphs(PREDICTION, TARGET), loss(PREDICTION, TARGET), rtol=1e-4, atol=1e-5)
    assert graphs.number <= 2


def test_trust_and_weights_compile_once():
    plain, loss = KINDS["minkowski"]().as_loss(trust=1.0), KINDS["minkowski"]().as_loss(trust=1.0)
    graphs = Graphs(loss)
    for k in range(5):
        for each in (plain, loss):
            each.trust = 0.5 * k
            each.output_weights[1] = 1 / (1 + k)
        torch.testing.assert_close(graphs(PREDICTION, TARGET), plain(PREDICTION, TARGET))
    assert graphs.number == 1


def test_a_model_that_holds_the_loss_compiles_once():
    loss = KINDS["minkowski"]().as_loss()
    model = torch.nn.Conv2d(1, 1, 3, padding=1)
    graphs = Graphs(lambda fields, target: loss(model(fields).exp(), target), fullgraph=False)
    for k in range(5):
        loss.anneal(k / 4)
        graphs(PREDICTION, TARGET).backward()
    assert graphs.number <= 2


def tables(loss):
    """Tensors by name that follow from the temperature."""
    parts = [(name, part) for name, part in loss.named_modules() if isinstance(part, Tabled)]
    return {f"{path}.{name}": getattr(part, name) for path, part in parts for name in part.tables}


@pytest.mark.parametrize("name", KINDS)
def test_tables_stay_where_they_are(name):
    """What was captured in a CUDA graph reads them there, at all temperatures of an annealing."""
    loss = KINDS[name]().as_loss()
    loss.anneal(0.0, 0.2, 0.001)
    before = {table: (found, found.data_ptr(), found.clone()) for table, found in tables(loss).items()}
    loss.anneal(1.0, 0.2, 0.001)
    changed = 0
    for table, found in tables(loss).items():
        tensor, place, values = before[table]
        assert found is tensor
        assert found.data_ptr() == place
        changed += not torch.equal(found, values)
    assert changed


def test_a_table_with_room_to_spare_gives_the_same_curves():
    roomy, plain = KINDS["minkowski"](), KINDS["minkowski"]()
    for end in (0.001, 0.05):  # the room is that of the last annealing alone
        roomy.as_loss().anneal(0.0, 0.2, end)
        plain.temperature = 0.2
        torch.testing.assert_close(roomy(PREDICTION), plain(PREDICTION), rtol=1e-6, atol=1e-6)
        sizes = [len(each.module.counts.memberships) for each in (roomy, plain)]
        assert (sizes[0] > sizes[1]) == (end == 0.001)


def test_a_gradient_at_an_earlier_temperature_is_refused():
    for name in ("minkowski", "minkowski, exact", "minkowski-opera"):
        loss = KINDS[name]().as_loss()
        loss.anneal(0.0)
        value = loss(PREDICTION.clone().requires_grad_(), TARGET)
        loss.anneal(1.0)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            value.backward()


def test_an_annealing_that_would_end_too_cold_is_refused_at_once():
    with pytest.raises(ArgumentError, match="is too small"):
        KINDS["minkowski"]().as_loss().anneal(0.0, 0.2, 1e-9)


def test_trust_may_be_set_anew():
    loss = KINDS["minkowski"]().as_loss(trust=5.0)
    for value in (0.0, 2.0, 30):
        loss.trust = value
        assert loss.trust == value
        wanted = KINDS["minkowski"]().as_loss(trust=value)
        assert torch.equal(loss(PREDICTION, TARGET), wanted(PREDICTION, TARGET))
    loss.trust = None
    assert torch.equal(loss(PREDICTION, TARGET), KINDS["minkowski"]().as_loss()(PREDICTION, TARGET))
    for bad in (-1.0, float("nan"), "high"):
        with pytest.raises(ArgumentError, match="trust must be a number >= 0"):
            loss.trust = bad
    with pytest.raises(ArgumentError, match="trust are for metrics of one field"):
        KINDS["fss"]().as_loss().trust = 1.0


def test_a_copy_has_a_temperature_of_its_own():
    loss = KINDS["minkowski"]().as_loss()
    loss.anneal(0.0)
    twin = copy.deepcopy(loss)
    value = twin(PREDICTION, TARGET)
    loss.anneal(1.0)
    assert torch.equal(twin(PREDICTION, TARGET), value)
    assert (twin.surrogate.temperature, loss.surrogate.temperature) == (0.2, pytest.approx(0.05))


@pytest.mark.parametrize("name", KINDS)
def test_what_is_set_in_inference_mode_serves_training(name):
    """As where a validation runs at the last temperature: the next step has its gradient."""
    surrogate = KINDS[name]()
    with torch.inference_mode():
        loss = surrogate.as_loss()
        loss.anneal(1.0)
        loss(PREDICTION, TARGET)
    prediction = PREDICTION.clone().requires_grad_()
    loss(prediction, TARGET).backward()
    assert prediction.grad.abs().sum() > 0


def test_annealing_costs_little():
    """Tables for 21 thresholds are made in a few milliseconds, beside steps that take far more."""
    loss = KINDS["minkowski-opera"]().as_loss()
    times = []
    for k in range(10):
        began = time.perf_counter()
        loss.anneal(k / 9)
        times.append(time.perf_counter() - began)
    assert min(times) < 0.05
