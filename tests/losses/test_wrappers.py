"""Everything that torch wraps around a module, around every loss: it works, or is refused in one line."""

import copy
import io
import pickle
import warnings

import drawn
import emuloss
import pytest
import torch
from emuloss.errors import ArgumentError
from torch import nn
from torch.func import functional_call
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

OUTPUTS = ("area", "perimeter", "euler", "components", "holes")


def relaxed(name="minkowski", **options):
    if name == "spectrum":
        return emuloss.relax(emuloss.metric(name, bins=12, outputs=["power", "anisotropy"]))
    options = options or ({"outputs": OUTPUTS} if name == "minkowski" else {})
    return emuloss.relax(emuloss.metric(name, thresholds=[0.105, 0.5, 1, 5], **options))


BUNDLED = {name: lambda name=name: emuloss.load(name) for name in emuloss.list_models()}
KINDS = ("minkowski", "fss", "csi", "boxcount", "spectrum")
RELAXED = {f"relaxed {name}": lambda name=name: relaxed(name) for name in KINDS}
ALL = RELAXED | BUNDLED
FEW = {
    name: ALL[name]
    for name in ("relaxed minkowski", "relaxed fss", "relaxed spectrum", "components-opera", "fss-opera")
}


def rain(count=3, seed=0, side=32, **how):
    return drawn.rain(count, 1, side, side, law="peaked", seed=seed, **how)


PREDICTION, TARGET = rain(seed=1), rain(seed=2)


class Model(nn.Module):
    """A small model that holds its loss."""

    def __init__(self, loss):
        super().__init__()
        torch.manual_seed(1)
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.GELU(), nn.Conv2d(4, 1, 3, padding=1))
        self.loss = loss

    def forward(self, fields, target):
        return self.loss(nn.functional.softplus(self.body(fields)), target)


@pytest.fixture(params=ALL)
def loss(request):
    return ALL[request.param]().as_loss()


@pytest.fixture(params=FEW)
def surrogate(request):
    return FEW[request.param]()


def gradient(loss, prediction=PREDICTION, target=TARGET):
    prediction = prediction.clone().requires_grad_()
    loss(prediction, target).sum().backward()
    return prediction.grad


def inputs(surrogate, count=3, seed=1):
    fields = rain(count, seed)
    return fields if surrogate.metric.arity == 1 else torch.cat([fields, rain(count, seed + 1)], dim=1)


def close(found, wanted, tolerance=1e-4):
    """Whether tensors agree relative to their size as a whole."""
    error = (found - wanted).detach().double().norm()
    return float(error) <= tolerance * float(wanted.detach().double().norm()) + 1e-9


# Copies and averages


def test_copies_pickles_and_files(loss):
    value, slope = loss(PREDICTION, TARGET), gradient(loss)
    file = io.BytesIO()
    torch.save(Model(loss), file)
    file.seek(0)
    for twin in (
        copy.deepcopy(loss),
        pickle.loads(pickle.dumps(loss)),
        torch.load(file, weights_only=False).loss,
    ):
        assert torch.equal(twin(PREDICTION, TARGET), value)
        assert torch.equal(gradient(twin), slope)


@pytest.mark.parametrize("average", [None, get_ema_multi_avg_fn(0.9)], ids=["mean", "moving"])
@pytest.mark.parametrize("use_buffers", [False, True])
@pytest.mark.parametrize("half", [False, True])
def test_averaged_models(loss, use_buffers, average, half):
    """The frozen weights of all copies are the same, and so is their mean, in half precision as well."""
    value = loss(PREDICTION, TARGET)
    model = Model(loss)
    averaged = AveragedModel(model, use_buffers=use_buffers, multi_avg_fn=average)
    if half:
        model.half(), averaged.half()
    for _ in range(3):
        averaged.update_parameters(model)
    torch.testing.assert_close(averaged.module.loss(PREDICTION, TARGET), value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["relaxed minkowski", "minkowski-opera", "relaxed fss"])
def test_averages_while_a_temperature_falls(name):
    """The copy keeps the temperature that it has; means of tables for several would be tables of none."""
    model = Model(ALL[name]().as_loss())
    model.loss.anneal(0.0)
    value = model.loss(PREDICTION, TARGET)
    averaged = AveragedModel(model, use_buffers=True, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    for progress in (0.3, 0.6, 1.0):
        model.loss.anneal(progress, 0.2, 0.001)
        averaged.update_parameters(model)
    torch.testing.assert_close(averaged.module.loss(PREDICTION, TARGET), value)


def test_shared_memory_and_vectors_of_parameters(loss):
    value = loss(PREDICTION, TARGET)
    model = Model(loss).share_memory()
    vector = nn.utils.parameters_to_vector(model.parameters())
    nn.utils.vector_to_parameters(vector, model.parameters())
    assert torch.equal(model.loss(PREDICTION, TARGET), value)


def test_initialisations_of_a_parent_end_at_the_loss(loss):
    value = loss(PREDICTION, TARGET)
    model, seen = Model(loss), []

    def initialise(part):
        seen.append(part)
        for parameter in part.parameters(recurse=False):
            nn.init.constant_(parameter, 0.1)

    model.apply(initialise)
    assert torch.equal(model.loss(PREDICTION, TARGET), value)
    assert model.body[0] in seen
    assert model.loss in seen
    assert (model.body[0].weight == 0.1).all()


def test_parametrized_parents_and_hooks(loss):
    model, seen = Model(loss), []
    nn.utils.parametrizations.weight_norm(model.body[0])
    model.loss.register_forward_hook(lambda *_: seen.append("forward"))
    model.loss.register_full_backward_hook(lambda *_: seen.append("backward"))
    model(PREDICTION, TARGET).backward()
    assert seen == ["forward", "backward"]
    assert all(parameter.grad.isfinite().all() for parameter in model.body.parameters())


def test_data_parallel_without_devices(loss):
    wrapped = nn.DataParallel(Model(loss))
    assert torch.equal(wrapped(PREDICTION, TARGET), wrapped.module(PREDICTION, TARGET))


@pytest.mark.filterwarnings("ignore::UserWarning")  # anomaly detection says that it is slow
def test_anomaly_detection_is_content(loss):
    with torch.autograd.detect_anomaly():
        assert gradient(loss).isfinite().all()


# Places and precisions


def test_the_meta_device_gives_shapes(loss):
    meta = loss.to("meta")
    assert meta(PREDICTION.to("meta"), TARGET.to("meta")).shape == ()
    prediction = PREDICTION.to("meta").requires_grad_()
    meta(prediction, TARGET.to("meta")).backward()
    assert prediction.grad.shape == prediction.shape


def test_what_lost_its_values_is_not_filled_with_others(loss):
    model = Model(loss).to("meta")
    with pytest.raises(ArgumentError, match="has lost its values on the meta device") as caught:
        model.to_empty(device="cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ALL)
def test_another_default_precision(name, dtype):
    wanted = ALL[name]().as_loss()(PREDICTION, TARGET)
    torch.set_default_dtype(dtype)
    try:
        found = ALL[name]().as_loss()(PREDICTION, TARGET)
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("name", ALL)
def test_made_where_other_devices_are_the_default(name):
    wanted = ALL[name]().as_loss()(PREDICTION, TARGET)
    with torch.device("meta"):
        made = ALL[name]()
    if name in BUNDLED:  # which has values to load, on the device that `load` is told
        assert torch.equal(made.as_loss()(PREDICTION, TARGET), wanted)
    else:
        assert {buffer.device.type for buffer in made.buffers()} <= {"meta"}


def test_a_surrogate_by_itself_takes_all_precisions(surrogate):
    fields = inputs(surrogate)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        assert surrogate(fields.to(dtype)).isfinite().all()


# torch.func


def test_functional_calls(loss):
    model = Model(loss)
    state = dict(model.named_parameters()) | dict(model.named_buffers())
    value = functional_call(model, state, (PREDICTION, TARGET))
    assert torch.equal(value, model(PREDICTION, TARGET))
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    found = torch.func.grad(lambda weights: functional_call(model, weights, (PREDICTION, TARGET)))(trained)
    asked = torch.func.grad(lambda weights: functional_call(model, weights, (PREDICTION, TARGET)))
    everything = asked(dict(model.named_parameters()))  # those of the surrogate, too
    model(PREDICTION, TARGET).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert close(everything[name], parameter.grad, 1e-2)
            assert close(found[name], parameter.grad, 1e-2)  # sums of single precision, by other kernels


def test_gradients_by_transforms(loss):
    """grad, vjp and jacrev of the loss are what backward gives."""
    wanted = gradient(loss)
    assert close(torch.func.grad(loss)(PREDICTION, TARGET), wanted, 1e-3)
    _, pull = torch.func.vjp(lambda p: loss(p, TARGET), PREDICTION)
    assert close(pull(torch.ones(()))[0], wanted, 1e-3)
    assert close(torch.func.jacrev(loss)(PREDICTION, TARGET), wanted, 1e-3)


@pytest.mark.parametrize("name", FEW)
def test_maps_over_samples(name):
    """Losses and gradients of samples one by one, by vmap."""
    loss = FEW[name]().as_loss(reduction="none")
    single = lambda p, t: loss(p[None], t[None])[0]  # noqa: E731
    found = torch.func.vmap(single)(PREDICTION, TARGET)
    torch.testing.assert_close(found, loss(PREDICTION, TARGET), rtol=1e-4, atol=1e-5)
    slopes = torch.func.vmap(torch.func.grad(single))(PREDICTION, TARGET)
    assert close(slopes, gradient(loss), 1e-3)
    holed = TARGET.clone()
    holed[0, 0, :4] = torch.nan
    assert (torch.func.vmap(torch.func.grad(single))(PREDICTION, holed)[0, 0, :4] == 0).all()


@pytest.mark.parametrize("name", FEW)
def test_per_sample_gradients_of_weights(name):
    model = Model(FEW[name]().as_loss())
    trained = {n: value for n, value in model.named_parameters() if value.requires_grad}

    def one(weights, fields, target):
        return functional_call(model, weights, (fields[None], target[None]))

    found = torch.func.vmap(torch.func.grad(one), in_dims=(None, 0, 0))(trained, PREDICTION, TARGET)
    for k in range(3):
        model.zero_grad()
        model(PREDICTION[k : k + 1], TARGET[k : k + 1]).backward()
        for n, parameter in model.named_parameters():
            if parameter.requires_grad:
                assert close(found[n][k], parameter.grad, 1e-2)


@pytest.mark.parametrize("place", ["cpu", "meta"])
@pytest.mark.parametrize("name", FEW)
def test_ensembles(name, place):
    """As torch's own examples do it: the module that is run has the states of others, and none itself."""
    models = [Model(FEW[name]().as_loss()) for _ in range(2)]
    with torch.no_grad():
        models[1].body[0].weight.mul_(0.5)
    parameters, buffers = torch.func.stack_module_state(models)
    base = copy.deepcopy(models[0]).to(place)

    def run(parameters, buffers):
        return functional_call(base, (parameters, buffers), (PREDICTION, TARGET))

    found = torch.func.vmap(run)(parameters, buffers)
    wanted = torch.stack([model(PREDICTION, TARGET) for model in models])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


SCRIPTED = pytest.mark.filterwarnings("ignore::FutureWarning")  # torch scripts some of its own derivatives
DOUBLE = [name for name in ALL if name.startswith("relaxed")] + ["components-opera", "fss-opera"]


@SCRIPTED
@pytest.mark.parametrize("name", DOUBLE)
def test_forward_mode(name):
    """Directional derivatives by jvp, jacfwd and dual numbers are those of backward, not silent zeros."""
    loss = ALL[name]().double().as_loss()
    prediction, target = PREDICTION.double(), TARGET.double()
    direction = torch.randn(prediction.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = (gradient(loss, prediction, target) * direction).sum()
    _, found = torch.func.jvp(lambda p: loss(p, target), (prediction,), (direction,))
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)
    step = torch.zeros(1, dtype=torch.float64)
    slope = torch.func.jacfwd(lambda s: loss(prediction + s * direction, target))(step)
    torch.testing.assert_close(slope[0], wanted, rtol=1e-6, atol=1e-9)
    with torch.autograd.forward_ad.dual_level():
        dual = loss(torch.autograd.forward_ad.make_dual(prediction, direction), target)
        found = torch.autograd.forward_ad.unpack_dual(dual).tangent
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)


@SCRIPTED
@pytest.mark.parametrize("name", DOUBLE)
def test_hessians_by_transforms(name):
    """Along a line through the fields: the derivative of the gradient, by central differences."""
    loss = ALL[name]().double().as_loss()
    prediction, target = PREDICTION.double() + 0.3, TARGET.double()

    def along(s):
        return loss(prediction * (1 + s), target)

    second = torch.func.hessian(along)(torch.zeros((), dtype=torch.float64))
    slope, step = torch.func.grad(along), torch.tensor(1e-5, dtype=torch.float64)
    wanted = (slope(step) - slope(-step)) / (2 * step)
    torch.testing.assert_close(second, wanted, rtol=1e-3, atol=1e-4)


# Exporters, tracers, quantizers

EXPORT = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@EXPORT
@pytest.mark.parametrize("name", FEW)
def test_exports_take_batches_of_any_size(name):
    surrogate = FEW[name]()
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(surrogate, (inputs(surrogate),), dynamic_shapes=({0: batch},)).module()
    for count in (2, 5):
        fields = inputs(surrogate, count, seed=4)
        torch.testing.assert_close(program(fields), surrogate(fields))


@EXPORT
@pytest.mark.parametrize("name", FEW)
def test_exports_of_the_loss_take_batches_of_any_size(name):
    loss = FEW[name]().as_loss()
    batch = torch.export.Dim("batch", min=2, max=64)
    shapes = ({0: batch}, {0: batch})
    program = torch.export.export(loss, (PREDICTION, TARGET), dynamic_shapes=shapes).module()
    for count in (2, 5):
        pair = rain(count, 5), rain(count, 6)
        torch.testing.assert_close(program(*pair), loss(*pair))


@EXPORT
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == "relaxed minkowski" else pytest.mark.slow) for name in FEW],
)
def test_compilers_take_batches_of_any_size(name):
    loss = FEW[name]().as_loss()
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    for count in (2, 3, 4, 6):
        pair = rain(count, 5), rain(count, 6)
        assert close(gradient(compiled, *pair), gradient(loss, *pair))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2


REFUSED = {
    "script": lambda model: torch.jit.script(model),
    "trace": lambda model: torch.jit.trace(model, (PREDICTION, TARGET)),
    "fx": lambda model: torch.fx.symbolic_trace(model),
    "quantize": lambda model: torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8),
    "quantize all": lambda model: torch.ao.quantization.quantize_dynamic(model),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_work_is_refused_in_one_line(loss, what):
    for module in (loss, Model(loss)):
        with pytest.raises(ArgumentError) as caught:
            REFUSED[what](module)
        assert "\n" not in str(caught.value)
        remedy = "quantize the network alone" if what.startswith("quantize") else "torch.export"
        assert str(caught.value).endswith(remedy)


def test_all_attributes_can_be_looked_at(loss):
    """As debuggers and tracers do, which know no errors of others."""
    for module in (loss, loss.surrogate):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch deprecates some of its own
            for name in dir(module):
                getattr(module, name)
