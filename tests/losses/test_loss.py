"""The loss: its value against formulas computed plainly, its gradient, and the company that it keeps."""

import copy
import itertools
import math
import subprocess
import sys
from functools import partial

import drawn
import emuloss
import numpy as np
import pytest
import torch
from emuloss.emulators import ARCHITECTURES
from emuloss.errors import ArgumentError
from emuloss.zoo import Surrogate
from torch import nn

LEVELS = (0.1, 0.3, 0.5, 0.9)


def teacher():
    return emuloss.metric("minkowski", thresholds=[0.105, 0.5, 1, 5], pixel_size=2.0, levels=LEVELS)


def emulated(arch="hybrid", **arguments):
    torch.manual_seed(0)
    emulator = ARCHITECTURES[arch](teacher(), **{"widths": (8, 16), "hidden": 16} | arguments)
    with torch.no_grad():
        for parameter in emulator.parameters():  # the last layer starts at 0, which would hide it
            parameter.add_(0.05 * torch.randn_like(parameter))
    return Surrogate(emulator, arch)


KINDS = {
    "relaxed": lambda: emuloss.relax(teacher()),
    "excursion": lambda: Surrogate(ARCHITECTURES["excursion"](teacher()), "excursion"),
    "constrained": lambda: emulated("constrained"),
    "hybrid": emulated,
}


@pytest.fixture(params=KINDS)
def surrogate(request):
    return KINDS[request.param]()


rain = partial(drawn.rain, law="peaked")


def exact(surrogate, fields):
    return surrogate.metric(fields.double().numpy())


def plain_distances(first, second):
    """Trapezoidal rule over the levels of |slog first - slog second|, in NumPy: (N, C)."""
    first, second = (np.asarray(curves, np.float64) for curves in (first, second))
    gap = np.abs(np.sign(first) * np.log1p(np.abs(first)) - np.sign(second) * np.log1p(np.abs(second)))
    return ((gap[..., 1:] + gap[..., :-1]) / 2 * np.diff(LEVELS)).sum(2)


def gradient(loss, prediction, *arguments, **keywords):
    prediction = prediction.clone().requires_grad_()
    loss(prediction, *arguments, **keywords).sum().backward()
    return prediction.grad


# The value


def test_nothing_is_lost_on_the_target_itself(surrogate):
    assert surrogate.as_loss()(rain(), rain()) == 0
    assert surrogate.as_loss(forward="exact")(rain(), rain()) == 0
    exact_already = surrogate.architecture == "excursion"
    assert (surrogate.as_loss(reference="exact")(rain(), rain()) == 0) == exact_already


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("forward", ["surrogate", "exact"])
@pytest.mark.parametrize("reference", [None, "surrogate", "exact"])
@pytest.mark.parametrize("weights", [None, {"perimeter": 0.0, "euler": 2.5}])
@pytest.mark.parametrize("trust", [None, 0.0, 30.0])
def test_value_is_the_plain_formula(surrogate, forward, reference, reduction, weights, trust):
    prediction, target = rain(seed=1), rain(seed=2)
    loss = surrogate.as_loss(
        forward=forward, reference=reference, reduction=reduction, weights=weights, trust=trust
    )
    curves = {"surrogate": lambda x: surrogate(x).numpy(), "exact": lambda x: exact(surrogate, x)}
    w = np.array([(weights or {}).get(name, 1.0) for name in ("area", "perimeter", "euler")])
    per_field = plain_distances(curves[forward](prediction), curves[reference or forward](target)) @ w
    if trust is not None:
        error = plain_distances(curves["surrogate"](target), curves["exact"](target)) @ w
        per_field = per_field * np.exp(-trust * error**2)
    expected = {"mean": per_field.mean(), "sum": per_field.sum(), "none": per_field}[reduction]
    np.testing.assert_allclose(loss(prediction, target).numpy(), expected, rtol=2e-5, atol=1e-6)


def test_curves_computed_beforehand_serve_as_target(surrogate):
    prediction, target = rain(seed=1), rain(seed=2)
    curves = torch.from_numpy(exact(surrogate, target))
    for forward in ("surrogate", "exact"):
        loss = surrogate.as_loss(forward=forward, reference="exact")
        assert torch.equal(loss(prediction, target_curves=curves), loss(prediction, target))
        assert torch.equal(
            gradient(loss, prediction, target_curves=curves), gradient(loss, prediction, target)
        )


def test_straight_through(surrogate):
    """The value is the exact distance; the gradient is that of the distance at the exact curves,
    carried through the surrogate's Jacobian."""
    prediction, target = rain(seed=1), rain(seed=2)
    loss = surrogate.as_loss(forward="exact", reduction="none")
    expected = plain_distances(exact(surrogate, prediction), exact(surrogate, target)).sum(1)
    np.testing.assert_allclose(loss(prediction, target).numpy(), expected, rtol=1e-6)

    curves = torch.from_numpy(exact(surrogate, prediction)).float().requires_grad_()
    loss.distance(curves, torch.from_numpy(exact(surrogate, target)).float()).sum().backward()
    x = prediction.clone().requires_grad_()
    surrogate(x).backward(curves.grad)
    torch.testing.assert_close(gradient(loss, prediction, target), x.grad)


def test_field_without_weight_has_no_gradient(surrogate):
    found = gradient(surrogate.as_loss(weights=dict.fromkeys(surrogate.outputs, 0)), rain(), rain(seed=1))
    assert (found == 0).all()


# What was not measured


@pytest.mark.parametrize("forward", ["surrogate", "exact"])
def test_unmeasured_pixels_count_as_dry_in_both(surrogate, forward):
    loss = surrogate.as_loss(forward=forward, missing="either")
    prediction, target = rain(seed=1), rain(seed=2)
    holed, reference = prediction.clone(), target.clone()
    holed[0, :5], reference[1, :, 7] = torch.nan, torch.nan
    missing = torch.isnan(holed) | torch.isnan(reference)
    # Networks see a field from where their encoding begins; below every threshold, all values are dry.
    low = surrogate.module.encoding.dry if surrogate.has_weights else -100.0
    dry = loss(prediction.masked_fill(missing, low), target.masked_fill(missing, low))
    assert torch.equal(loss(holed, reference), dry)
    found = gradient(loss, holed, reference)
    assert found.isfinite().all()
    assert (found[missing] == 0).all()
    assert found.abs().sum() > 0


def test_nothing_measured(surrogate):
    nothing = torch.full((2, 32, 32), torch.nan)
    loss = surrogate.as_loss(missing="either")
    assert loss(nothing, rain(2)) == 0
    assert (gradient(loss, rain(2), nothing) == 0).all()
    assert (gradient(loss, nothing, target_curves=surrogate(rain(2))) == 0).all()
    assert surrogate.as_loss()(rain(2), nothing) == 0
    assert (gradient(surrogate.as_loss(), rain(2), nothing) == 0).all()


def test_unmeasured_pixels_are_dry_below_thresholds_of_any_sign():
    loss = emuloss.relax(emuloss.metric("minkowski", thresholds=[-2.0, -1.0])).as_loss(forward="exact")
    prediction, target = torch.zeros(1, 8, 8), torch.full((1, 8, 8), -5.0)
    assert loss(prediction, target) > 0
    target[:] = torch.nan
    assert loss(prediction, target) == 0


@pytest.mark.parametrize("value", [0.0, 1e-30, 3.0, 1e4, 1e38, torch.inf, -torch.inf, -1.0])
def test_uniform_and_extreme_fields(surrogate, value):
    field = torch.full((2, 32, 32), value)
    for forward in ("surrogate", "exact"):
        loss = surrogate.as_loss(forward=forward, missing="either")
        assert loss(field, rain(2)).isfinite()
        assert loss(field, field) == 0
        assert gradient(loss, field, rain(2)).isfinite().all()
        assert gradient(loss, rain(2), field).isfinite().all()


# Shapes, types, places


def test_a_loss_is_where_its_surrogate_is():
    for name in ("minkowski-opera", "fss-opera"):
        loss = emuloss.load(name).to("meta").as_loss()
        assert all(buffer.is_meta for buffer in loss.buffers())


def test_batches_and_channels(surrogate):
    loss = surrogate.as_loss(reduction="none")
    prediction, target = rain(4, seed=1), rain(4, seed=2)
    whole = loss(prediction, target)
    assert whole.shape == (4,)
    torch.testing.assert_close(
        torch.cat([loss(p[None], t[None]) for p, t in zip(prediction, target, strict=True)]), whole
    )
    assert torch.equal(loss(prediction[:, None], target[:, None]), whole)
    assert gradient(loss, prediction[:, None], target[:, None]).shape == (4, 1, 32, 32)


def test_memory_formats(surrogate):
    loss = surrogate.as_loss()
    prediction, target = rain(seed=1)[:, None], rain(seed=2)[:, None]
    wide = torch.stack([prediction, prediction], dim=-1)[..., 0]  # neither contiguous nor dense
    for layout in (prediction.to(memory_format=torch.channels_last), wide, prediction.mT.contiguous().mT):
        assert torch.equal(loss(layout, target), loss(prediction, target))
        torch.testing.assert_close(gradient(loss, layout, target), gradient(loss, prediction, target))


def test_double_precision(surrogate):
    loss = surrogate.as_loss()
    prediction, target = rain(seed=1, dtype=torch.float64), rain(seed=2, dtype=torch.float64)
    assert gradient(loss, prediction, target).dtype == torch.float64
    single = loss(prediction.float(), target.float())
    double = copy.deepcopy(loss).double()(prediction, target)
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single, rtol=1e-3, atol=1e-4)
    assert copy.deepcopy(loss).double()(target, target) == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_predictions(surrogate, dtype):
    loss = surrogate.as_loss()
    prediction = rain(seed=1, dtype=dtype)
    assert loss(prediction, rain(seed=2)).dtype == torch.float32
    assert gradient(loss, prediction, rain(seed=2)).dtype == dtype
    assert torch.equal(loss(prediction, prediction), torch.tensor(0.0))


@pytest.mark.parametrize("forward", ["surrogate", "exact"])
def test_autocast(surrogate, forward):
    loss = surrogate.as_loss(forward=forward)
    prediction, target = rain(seed=1), rain(seed=2)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(prediction, target)
        curves = surrogate(prediction)
        assert loss(target, target) == 0
        assert gradient(loss, prediction, target).isfinite().all()
    assert (value.dtype, curves.dtype) == (torch.float32, torch.float32)
    if (
        surrogate.architecture in ("relaxed", "excursion") or forward == "exact"
    ):  # all curve arithmetic in float32
        assert torch.equal(value, loss(prediction, target))
    else:
        torch.testing.assert_close(value, loss(prediction, target), rtol=0.05, atol=0.01)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's compiler imports what is deprecated
@pytest.mark.parametrize("surrogate", ["excursion", "hybrid"], indirect=True)  # they hold the others' parts
def test_compile_without_a_break(surrogate):
    loss = surrogate.as_loss(weights={"euler": 0.5})
    prediction, target = rain(seed=1), rain(seed=2)
    target[0, 0] = torch.nan
    torch.compiler.reset()
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(prediction, target), loss(prediction, target))
    torch.testing.assert_close(gradient(compiled, prediction, target), gradient(loss, prediction, target))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute")
def test_compile_with_exact_values():
    surrogate = emuloss.relax(teacher())
    loss = surrogate.as_loss(forward="exact", trust=1.0)
    prediction, target = rain(seed=1), rain(seed=2)
    torch.compiler.reset()
    compiled = torch.compile(loss, backend="aot_eager")
    torch.testing.assert_close(compiled(prediction, target), loss(prediction, target))
    torch.testing.assert_close(gradient(compiled, prediction, target), gradient(loss, prediction, target))


def test_no_grad(surrogate):
    prediction = rain(seed=1).requires_grad_()
    with torch.no_grad():
        assert not surrogate.as_loss()(prediction, rain()).requires_grad
    with torch.inference_mode():
        assert surrogate.as_loss()(rain(seed=1), rain()) > 0


def test_target_gets_no_gradient(surrogate):
    for reference, trust in itertools.product(("surrogate", "exact"), (None, 1.0)):
        target = rain(seed=2).requires_grad_()
        loss = surrogate.as_loss(reference=reference, trust=trust)(rain(seed=1).requires_grad_(), target)
        loss.backward()
        assert target.grad is None


def test_deepcopy_and_state(surrogate):
    loss = surrogate.as_loss(forward="exact", weights={"area": 3.0}, trust=0.1)
    twin = copy.deepcopy(loss)
    assert torch.equal(twin(rain(seed=1), rain()), loss(rain(seed=1), rain()))
    assert twin.surrogate is not loss.surrogate
    assert not list(filter(lambda parameter: parameter.requires_grad, loss.parameters()))
    assert not loss.train().surrogate.training
    loss.load_state_dict(copy.deepcopy(loss.state_dict()))


def test_inputs_are_left_as_they_were(surrogate):
    prediction, target = rain(seed=1), rain(seed=2)
    target[0, 0], prediction[0, 1] = torch.nan, torch.nan
    copies = prediction.clone(), target.clone()
    surrogate.as_loss(forward="exact", trust=1.0)(prediction, target)
    for now, before in zip((prediction, target), copies, strict=True):
        torch.testing.assert_close(now, before, rtol=0, atol=0, equal_nan=True)


# What print shows


@pytest.mark.parametrize("name", [*KINDS, *emuloss.list_models()])
def test_print_says_what_it_is(name):
    """Metric, outputs, thresholds, unit, pixel size and temperature, without the layers of a network."""
    made = KINDS[name]() if name in KINDS else emuloss.load(name)
    for text in (repr(made), repr(made.as_loss())):
        assert len(text.splitlines()) < 20
        assert made.metric.name in text
        assert made.architecture in text
        assert all(output in text for output in made.outputs)
        assert f"{len(made.thresholds)} from {made.thresholds[0]:g} to {made.thresholds[-1]:g}" in text
        assert f"pixel size {made.metric.pixel_size:g}" in text
        assert (made.unit or "unit not stated") in text
        assert ("temperature: " in text) == (made.relaxation is not None)
        assert "Conv2d" not in text


def test_print_follows_what_is_set():
    loss = emuloss.relax(teacher()).as_loss(
        weights={"euler": 0.5}, trust=2.0, forward="exact", missing="either"
    )
    loss.surrogate.temperature = 0.123
    text = repr(loss)
    for words in ("temperature: 0.123", "euler 0.5", "trust: 2", "exact of predictions", "missing: either"):
        assert words in text
    assert "temperature: 0.123" in repr(loss.surrogate.module)
    loss.surrogate.temperature = [0.1, 0.2, 0.3, 0.4]
    assert "temperature: 4 from 0.1 to 0.4" in repr(loss)
    assert "none" in repr(emuloss.relax(emuloss.metric("sal", outputs=["amplitude"])))


# The gradient


def test_gradient_by_finite_differences():
    """Central differences of the whole loss, in float64, at points where no curve crosses another."""
    metric = emuloss.metric("minkowski", thresholds=[1.0, 2.0], pixel_size=2.0)
    loss = emuloss.relax(metric, temperature=0.5).double().as_loss()
    generator = torch.Generator().manual_seed(3)
    prediction = 3 * torch.rand(2, 6, 6, generator=generator, dtype=torch.float64)
    target = 3 * torch.rand(2, 6, 6, generator=generator, dtype=torch.float64)
    found = gradient(loss, prediction, target)
    numeric = torch.empty_like(prediction)
    step = 1e-3  # the histogram's nodes make the loss piecewise smooth: a step spans many of them not at all
    for index in itertools.product(*map(range, prediction.shape)):
        moved = [prediction.clone(), prediction.clone()]
        moved[0][index] += step
        moved[1][index] -= step
        numeric[index] = (loss(moved[0], target) - loss(moved[1], target)) / (2 * step)
    assert found.abs().max() > 1e-3
    scale = found.abs().max()
    assert (found - numeric).abs().median() < 1e-4 * scale
    assert (found - numeric).abs().max() < 0.05 * scale


def test_descent_reduces_the_exact_distance(surrogate):
    loss = emuloss.relax(teacher()).as_loss() if surrogate.architecture == "relaxed" else surrogate.as_loss()
    target, field = rain(1, seed=2), rain(1, seed=1).requires_grad_()
    optimizer = torch.optim.Adam([field], lr=0.02)
    before = loss(field, target).item()
    for _ in range(60):
        optimizer.zero_grad()
        loss(field, target).backward()
        optimizer.step()
    assert loss(field, target).item() < 0.5 * before


# What is refused


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"forward": "exactly"}, "forward"),
        ({"forward": 1}, "forward"),
        ({"reference": "target"}, "reference"),
        ({"reduction": "max"}, "reduction"),
        ({"reduction": ["mean"]}, "reduction"),
        ({"missing": "prediction"}, "missing must be one of target, either"),
        ({"missing": None}, "missing"),
        ({"in_state_dict": "no"}, "in_state_dict"),
        ({"reduce": "sum"}, "as_loss has no argument 'reduce'.*did you mean 'reduction'"),
        ({"weight": {"area": 1.0}}, "did you mean 'weights'"),
        ({"distance": "curve"}, "distance"),
        ({"weights": {"volume": 1.0}}, "weights"),
        ({"weights": {"area": -1.0}}, "weights"),
        ({"weights": {"area": math.nan}}, "weights"),
        ({"weights": {"area": "1"}}, "weights"),
        ({"weights": [1.0, 1.0, 1.0]}, "weights"),
        ({"trust": -1.0}, "trust"),
        ({"trust": math.inf}, "trust"),
        ({"trust": "high"}, "trust"),
    ],
)
def test_bad_settings(surrogate, arguments, word):
    with pytest.raises(ArgumentError, match=word) as caught:
        surrogate.as_loss(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "keywords", "word"),
    [
        ((rain(),), {}, "target"),
        ((rain(), rain()), {"target_curves": torch.zeros(3, 3, 4)}, "target"),
        ((rain(), rain(2)), {}, "target must have"),
        ((rain()[:, None], rain()), {}, "target must have"),
        ((rain()[0, 0], rain()[0, 0]), {}, "prediction must have shape"),
        ((rain(),), {"target_curves": torch.zeros(3, 3, 5)}, "target_curves must have"),
        ((rain(),), {"target_curves": np.zeros((3, 3, 4))}, "target_curves must be"),
        ((rain().numpy(), rain()), {}, "prediction must be"),
        ((rain().int(), rain()), {}, "prediction must be"),
        ((rain(), rain().int()), {}, "target must be"),
        ((rain(), 3.0), {}, "target must be"),
        ((rain().numpy(), rain()), {}, "use torch.from_numpy"),
        ((rain().bool(), rain()), {}, r"prediction must be floating point, got torch.bool; use .float\(\)"),
        ((rain(), rain().to(torch.uint8)), {}, r"target must be floating point, .*use .float\(\)"),
        ((rain().to(torch.complex64), rain()), {}, "prediction must be floating point.*abs"),
        ((rain(), rain().to(torch.float8_e5m2)), {}, "target must be floating point"),
        ((rain().to_sparse(), rain()), {}, "prediction must be a dense tensor"),
        ((rain()[None], rain()[None]), {}, r"3 channels or times, .*channels="),
        ((rain()[None, None], rain()[None, None]), {}, r"three-dimensional .*prediction.flatten\(0, 1\)"),
        ((rain(), rain()[:, None]), {}, "use target.reshape"),
        ((rain(), rain().to("meta")), {}, r"target is on meta, the loss on cpu; use target.to\('cpu'\)"),
        ((rain().to("meta"), rain()), {}, r"use loss.to\('meta'\)"),
        ((rain(), rain()), {"mask": rain()}, "mask must be a boolean tensor"),
        ((rain(), rain()), {"mask": rain().numpy() > 1}, "mask must be a boolean tensor"),
        ((rain(), rain()), {"mask": rain(2) > 1}, "mask must have the prediction's shape"),
    ],
)
def test_bad_calls(surrogate, arguments, keywords, word):
    with pytest.raises(ArgumentError, match=word) as caught:
        surrogate.as_loss()(*arguments, **keywords)
    assert "\n" not in str(caught.value)


def test_trust_needs_the_target(surrogate):
    with pytest.raises(ArgumentError, match="trust"):
        surrogate.as_loss(trust=1.0)(rain(), target_curves=surrogate(rain()))


# Training in company

WORKER = """
import sys, torch, emuloss
from torch import nn, distributed
from torch.nn.parallel import DistributedDataParallel

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))
model = DistributedDataParallel(model)
loss = emuloss.load(f"{folder}/checkpoint").as_loss()
optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
data = torch.load(f"{folder}/data.pt", weights_only=True)
for step in range(3):
    optimizer.zero_grad()
    x, y = (part[2 * rank : 2 * rank + 2] for part in data)
    loss(model(x).exp(), y).backward()
    optimizer.step()
torch.save([p.detach() for p in model.parameters()], f"{folder}/weights{rank}.pt")
# Both ranks leave together, the reducer first: a group torn down under its threads aborts at times.
distributed.barrier()
del model, optimizer
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    """Data parallel training over two processes equals training on the whole batch in one."""
    data = (rain(4, seed=1)[:, None], rain(4, seed=2)[:, None])
    torch.save(data, tmp_path / "data.pt")
    emulated().save_pretrained(tmp_path / "checkpoint")
    (tmp_path / "worker.py").write_text(WORKER)
    workers = [
        subprocess.Popen([sys.executable, "worker.py", str(rank), str(tmp_path)], cwd=tmp_path)
        for rank in range(2)
    ]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0]

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))
    loss = emuloss.load(tmp_path / "checkpoint").as_loss()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        loss(model(data[0]).exp(), data[1]).backward()
        optimizer.step()
    first, second = (torch.load(tmp_path / f"weights{rank}.pt", weights_only=True) for rank in range(2))
    for one, other, alone in zip(first, second, model.parameters(), strict=True):
        assert torch.equal(one, other)
        torch.testing.assert_close(one, alone.detach(), rtol=1e-4, atol=1e-5)


# Annealing


@pytest.mark.parametrize("kind", ["relaxed", "excursion"])
def test_annealing_goes_from_hot_to_cold(kind):
    surrogate = KINDS[kind]()
    loss = surrogate.as_loss()
    temperatures = []
    for progress in (0.0, 0.5, 1.0, 2.0):
        loss.anneal(progress)
        temperatures.append(surrogate.temperature)
    assert temperatures == pytest.approx([0.2, 0.1, 0.05, 0.05])
    loss.anneal(0.5, 0.9, 0.1)
    assert surrogate.temperature == pytest.approx(0.3)
    field = rain()
    assert loss(field, field) == 0
    for bad in ((0.0, 0.1), (0.1, -1), (math.nan, 0.1), ("hot", 0.1)):
        with pytest.raises(ArgumentError, match="start and end"):
            loss.anneal(0.5, *bad)


def test_annealing_of_a_pairwise_loss():
    surrogate = emuloss.relax(emuloss.metric("fss", thresholds=[0.5, 2.0]))
    surrogate.as_loss().anneal(0.0)
    assert surrogate.temperature == 0.2


def test_a_network_has_no_temperature_to_anneal():
    with pytest.raises(ArgumentError, match="has no temperature to anneal; leave anneal out"):
        emulated("constrained").as_loss().anneal(0.5)
