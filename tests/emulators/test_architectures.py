"""Every architecture by its name: any field, any batch, admissible curves where they are promised."""

import copy
import inspect
import io
import itertools
import json
import math
import pickle

import numpy as np
import pytest
import torch
from drawn import rain, spreads
from emuloss.emulators import ARCHITECTURES, check_shape, signed_log1p
from emuloss.errors import ArgumentError
from emuloss.evaluation import r_squared
from emuloss.losses import frozen
from emuloss.metrics import Metric, Minkowski
from emuloss.metrics.constraints import AtLeast, NonIncreasing
from torch import Tensor, nn
from torch.nn import functional as F

THRESHOLDS = (0.2, 0.7, 1.5, 4.0)
ALL = ("area", "perimeter", "euler", "components", "holes")
INF, NAN = math.inf, math.nan

ADMISSIBLE = ("constrained", "hybrid", "excursion")
"""Those whose curves obey all that exact ones do."""
UNTRAINED = ("excursion", "relaxed")
"""Those without weights, for Minkowski metrics alone."""
TRAINED = tuple(name for name in ARCHITECTURES if name not in UNTRAINED)
SMALL = {"widths": (8, 16), "hidden": 16}

every = pytest.mark.parametrize("arch", ARCHITECTURES)
trained = pytest.mark.parametrize("arch", TRAINED)
all_precisions = pytest.mark.parametrize("autocast", [None, torch.bfloat16, torch.float16], ids=str)


class Brightest(Metric):
    """Values of the 4 brightest pixels: a metric without a relaxation."""

    name = "brightest"
    outputs, units, levels, pixel_size = ("value",), ("mm/h",), (0.0, 1.0, 2.0, 3.0), 1.0
    thresholds = THRESHOLDS

    def __init__(self):
        self.constraints = (NonIncreasing("value"), AtLeast("value", "value >= 0", lambda: 0.0))

    def arguments(self):
        return {}

    def _compute(self, fields):
        return np.sort(np.nan_to_num(fields).reshape(len(fields), 1, -1))[..., :-5:-1]


def build(arch: str, metric: Metric | None = None, *, weights: int | None = None, **arguments) -> nn.Module:
    """A tiny one; with `weights`, its weights are drawn at random with that seed."""
    torch.manual_seed(0)
    taken = ARCHITECTURES[arch].takes
    small = {name: value for name, value in SMALL.items() if name in taken}
    metric = metric or Minkowski(THRESHOLDS, 2.0, ALL)
    if "spreads" in ARCHITECTURES[arch].told_by_data(metric):
        small["spreads"] = spreads(metric.thresholds)
    module = ARCHITECTURES[arch](metric, **small | arguments)
    if weights is not None:
        generator = torch.Generator().manual_seed(weights)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator))
    return module.eval()


def smooth(number: int, *shape: int) -> Tensor:
    """Smooth fields of mean 0 and standard deviation 1, each a little higher than the last one."""
    x = torch.randn((number, 1, *shape), generator=torch.Generator().manual_seed(0))
    x = F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="circular"), 5, stride=1)
    return x[:, 0] / x.std() + torch.linspace(-1, 1, number)[:, None, None]


def inputs() -> dict[str, Tensor]:
    """Fields that a network has not seen, beside those that it has."""
    some = rain(3, 13, 18)
    holes = some.clone()
    holes[:, 3:6, 4:9], holes[0] = NAN, NAN
    spikes = some.clone()
    spikes[:, 2, 2], spikes[:, 5, 5], spikes[:, 7, 7] = INF, -INF, 1e35
    return {
        "rain": some,
        "dry": torch.zeros((2, 16, 16)),
        "wet": torch.full((2, 9, 16), 30.0),
        "huge": torch.full((1, 8, 8), torch.finfo(torch.float32).max),
        "infinite": torch.full((1, 8, 8), INF),
        "negative": -1e6 * some,
        "tiny values": 1e-30 * some,
        "not measured": holes,
        "spikes": spikes,
        "one pixel": F.pad(torch.ones((1, 1, 1)), (3, 4, 3, 4)),
        "least size": rain(1, 4, 4),
        "long": rain(1, 4, 61),
        "half": some.half(),
        "bfloat16": some.bfloat16(),
        "double": some.double(),
        "channel": some[:, None],
        "strided": rain(2, 40, 40)[:, ::2, 1::3],
        "empty": torch.zeros((0, 8, 8)),
    }


def assert_curves(module: nn.Module, fields: Tensor, curves: Tensor) -> None:
    metric: Metric = module.metric
    assert curves.shape == (len(fields), len(metric.outputs), len(metric.thresholds))
    assert curves.isfinite().all()


def assert_admissible(module: nn.Module, fields: Tensor, curves: Tensor) -> None:
    assert_curves(module, fields, curves)
    shares = module.metric.check(curves.detach().double().numpy(), tuple(fields.shape[-2:]))
    assert {label: share for label, share in shares.items() if share} == {}


# Curves


@pytest.mark.parametrize("arch", ADMISSIBLE)
@pytest.mark.parametrize("weights", [None, 1, 2])
@pytest.mark.parametrize("boundary", ["closed", "open"])
@all_precisions
def test_curves_are_admissible_whatever_comes_in(arch, weights, autocast, boundary):
    module = build(arch, Minkowski(THRESHOLDS, 2.0, ALL, boundary), weights=weights)
    for fields in inputs().values():
        for mode in (module.eval(), module.train()):
            with torch.autocast("cpu", autocast, enabled=autocast is not None):
                curves = mode(fields)
            assert_admissible(module, fields, curves)


@every
@pytest.mark.parametrize("weights", [None, 1])
@all_precisions
def test_curves_are_finite_whatever_comes_in(arch, weights, autocast):
    module = build(arch, weights=weights)
    for name, fields in inputs().items():
        with torch.autocast("cpu", autocast, enabled=autocast is not None):
            curves = module(fields)
        assert_curves(module, fields, curves)
        if arch in TRAINED or name != "double":
            assert curves.dtype == torch.float32, name


@every
@all_precisions
def test_gradients_are_finite_whatever_comes_in(arch, autocast):
    # Gains drawn at random reach exp(16), beyond what gradients in float16 can hold.
    drawn = not (arch == "certified" and autocast == torch.float16)
    module = build(arch, weights=1 if drawn else None)
    for name, fields in inputs().items():
        fields = fields.detach().clone().requires_grad_()
        with torch.autocast("cpu", autocast, enabled=autocast is not None):
            curves = module(fields)
        signed_log1p(curves).sum().backward()
        assert fields.grad.isfinite().all(), name
        assert (fields.grad[~fields.isfinite()] == 0).all(), name
        assert all(p.grad.isfinite().all() for p in module.parameters() if p.grad is not None), name


@trained
@pytest.mark.parametrize("weights", [None, 1])
def test_metrics_without_a_relaxation(arch, weights):
    module = build(arch, Brightest(), weights=weights)
    for fields in inputs().values():
        check = assert_admissible if arch in ADMISSIBLE else assert_curves
        check(module, fields, module(fields))


@pytest.mark.parametrize("arch", UNTRAINED)
def test_relaxations_need_a_metric_that_has_one(arch):
    with pytest.raises(ArgumentError, match=r"^[^\n]*'brightest'[^\n]*$"):
        ARCHITECTURES[arch](Brightest())


@every
@pytest.mark.parametrize("outputs", [("euler",), ("components", "area"), ("holes", "perimeter"), ALL[::-1]])
def test_any_outputs(arch, outputs):
    module, fields = build(arch, Minkowski(THRESHOLDS, outputs=outputs), weights=1), rain(2, 16, 16)
    check = assert_admissible if arch in ADMISSIBLE else assert_curves
    check(module, fields, module(fields))


@every
@pytest.mark.parametrize("thresholds", [(-1.5, 0.0, 2.0), (-4.0, -2.0), (0.0,), (1.0,), (1e-6, 1e6)], ids=str)
def test_thresholds_of_any_sign_and_size(arch, thresholds):
    module = build(arch, Minkowski(thresholds), weights=1)
    fields = 3 * torch.randn((2, 12, 12), generator=torch.Generator().manual_seed(0))
    fields.requires_grad_()
    check = assert_admissible if arch in ADMISSIBLE else assert_curves
    check(module, fields, module(fields))
    signed_log1p(module(fields)).sum().backward()
    assert fields.grad.isfinite().all()


@every
@pytest.mark.parametrize(
    "thresholds", [(-4.0, -2.0), (-1.5, 0.0, 2.0), (0.0, 1.0), (0.0,), (0.5, 2.0)], ids=str
)
def test_what_was_not_measured_is_low_and_does_not_reach_the_lowest_threshold(arch, thresholds):
    module = build(arch, Minkowski(thresholds)).double()
    if arch in TRAINED:
        nn.init.normal_(module.fc[-1].weight, std=0.3)
    low = module.encoding.dry if arch in TRAINED else -1e30
    missing = 3 * torch.randn((2, 12, 12), generator=torch.Generator().manual_seed(0)).double()
    missing[:, 3:6, 4:9] = NAN
    curves = module(missing)
    assert low < thresholds[0]
    assert torch.equal(curves, module(missing.nan_to_num(low)))
    other = module(missing.nan_to_num(thresholds[0]))
    assert (signed_log1p(curves) - signed_log1p(other)).abs().max() > 1e-4


FAR = {
    "kelvin": ((276.0, 278.0, 280.0, 282.0, 284.0), 280.0, 3.0),
    "grey values": ((96.0, 112.0, 128.0, 144.0, 160.0), 128.0, 25.0),
}
"""Thresholds far from 0, and the mean and spread of their fields."""


@pytest.mark.parametrize("case", FAR)
def test_excursions_are_faithful_far_from_0(case):
    thresholds, middle, spread = FAR[case]
    metric, fields = Minkowski(thresholds, outputs=ALL), middle + spread * smooth(24, 48, 48)
    found = r_squared(
        metric(fields.numpy()), build("excursion", metric, spreads=None)(fields).double().numpy()
    )
    assert found.mean(1).min() >= 0.98
    assert found.min() >= 0.95


# Sizes and batches


@every
@pytest.mark.parametrize("rows", [0, 1, 3])
@pytest.mark.parametrize("columns", [0, 2, 29])
def test_any_size_from_the_stride_up(arch, rows, columns):
    module = build(arch, weights=3)
    fields = rain(2, module.stride + rows, module.stride + columns)
    check = assert_admissible if arch in ADMISSIBLE else assert_curves
    check(module, fields, module(fields))


@every
@pytest.mark.parametrize("number", [0, 1, 3])
@pytest.mark.parametrize("channel", [False, True])
def test_any_batch(arch, number, channel):
    module = build(arch, weights=1)
    fields = rain(number, 16, 20)
    curves = module(fields[:, None] if channel else fields)
    assert curves.shape == (number, 5, 4)
    assert torch.equal(curves, module(fields))
    fields.requires_grad_()
    for mode in (module.eval(), module.train()):
        mode(fields).sum().backward()
    assert fields.grad.shape == fields.shape


@every
def test_fields_do_not_depend_on_their_batch(arch):
    module, fields = build(arch, weights=2), rain(5, 16, 16)
    apart = torch.cat([module(field[None]) for field in fields])
    torch.testing.assert_close(signed_log1p(apart), signed_log1p(module(fields)), rtol=1e-3, atol=1e-3)


@trained
def test_smaller_fields_are_refused(arch):
    module = build(arch)
    least = module.stride
    for shape in ((least - 1, 2 * least), (2 * least, least - 1), (1, 1)):
        message = rf"^fields must be at least {least} x {least} .*got {shape[0]} x {shape[1]}$"
        for action in (lambda s=shape: check_shape(s, least), lambda s=shape: module(torch.zeros(1, *s))):
            with pytest.raises(ArgumentError, match=message):
                action()
    check_shape((least, least), least)


@pytest.mark.parametrize("arch", UNTRAINED)
def test_relaxations_take_fields_of_one_pixel(arch):
    module = build(arch)
    assert module.stride == 1
    assert_curves(module, rain(3, 1, 1), module(rain(3, 1, 1)))


@every
@pytest.mark.parametrize("shape", [(8, 8), (1, 2, 8, 8), (1, 0, 8)], ids=str)
def test_other_shapes_are_refused(arch, shape):
    with pytest.raises(ArgumentError, match="fields must have shape"):
        build(arch)(torch.zeros(shape))


@every
def test_whole_numbers_are_refused(arch):
    with pytest.raises(ArgumentError, match="floating point"):
        build(arch)(torch.zeros((1, 8, 8), dtype=torch.int32))


# Copies and precision


@every
@pytest.mark.parametrize("weights", [None, 1])
def test_arguments_and_weights_build_it_again(arch, weights):
    module = build(arch, weights=weights)
    again = ARCHITECTURES[arch](module.metric, **json.loads(json.dumps(module.arguments()))).eval()
    again.load_state_dict(module.state_dict())
    fields = rain(2, 12, 12)
    assert torch.equal(again(fields), module(fields))
    assert again.arguments() == module.arguments()
    assert again.stride == module.stride


@every
def test_arguments_are_all_that_it_takes(arch):
    module = build(arch)
    # Intensities belong to metrics without thresholds; where things lie is not told where it does not count.
    parameters = set(inspect.signature(type(module)).parameters) - {"metric", "intensities", "located"}
    assert parameters == set(module.arguments())


@trained
def test_arguments_cannot_be_changed_from_outside(arch):
    module = build(arch)
    module.arguments().clear()
    assert module.arguments()


@every
@pytest.mark.parametrize("metric", [Minkowski(THRESHOLDS, 2.0, ALL), Brightest()], ids=["minkowski", "other"])
def test_deepcopy(arch, metric):
    if arch in UNTRAINED and not isinstance(metric, Minkowski):
        pytest.skip("for Minkowski metrics alone")
    module, fields = build(arch, metric, weights=1), rain(2, 12, 12)
    twin = copy.deepcopy(module)
    assert torch.equal(twin(fields), module(fields))
    for parameter in twin.parameters():
        parameter.data += 1
    assert torch.equal(twin(fields), module(fields)) == (arch in UNTRAINED)


def by_pickle(module: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(module))


def by_torch(module: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@every
@pytest.mark.parametrize("copied", [by_pickle, by_torch])
def test_frozen_ones_pickle(arch, copied):
    module, fields = frozen(build(arch, weights=1)), rain(2, 12, 12)
    again = copied(module)
    assert torch.equal(again(fields), module(fields))
    assert again.arguments() == module.arguments()
    assert again.metric.thresholds == module.metric.thresholds


@pytest.mark.parametrize("arch", ["constrained", "hybrid"])
def test_heads_of_every_guarantee_pickle(arch):
    for arguments in ({"isoperimetric": "textbook"}, {"heads": "free"}):
        module, fields = frozen(build(arch, weights=1, **arguments)), rain(2, 12, 12)
        assert torch.equal(by_pickle(module)(fields), module(fields))


@every
@pytest.mark.parametrize("weights", [None, 1])
def test_double_precision(arch, weights):
    single, fields = build(arch, weights=weights), rain(3, 13, 18)
    double = copy.deepcopy(single).double()
    curves = double(fields.double())
    assert curves.dtype == torch.float64
    ours, theirs = (signed_log1p(c) for c in (single(fields).double(), curves))
    # A count between bounds may be a small difference of large ones.
    torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-2)
    if arch in ADMISSIBLE:
        assert_admissible(double, fields, curves)


@trained
def test_memory_format_does_not_matter(arch):
    # In double precision, because random weights amplify rounding.
    module = build(arch, weights=1).double()
    other = copy.deepcopy(module).to(memory_format=torch.channels_last)
    fields = rain(2, 16, 24).double().requires_grad_()
    curves = [signed_log1p(one(fields)) for one in (module, other)]
    torch.testing.assert_close(*curves, rtol=1e-6, atol=1e-6)
    gradients = [torch.autograd.grad(c.sum(), fields)[0] for c in curves]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)


@every
def test_state_holds_weights_alone(arch):
    state = build(arch).state_dict()
    assert bool(state) == (arch in TRAINED)
    assert all(name.split(".")[0] in ("backbone", "fc") for name in state if arch in ADMISSIBLE)


# What is trained


@trained
def test_every_weight_learns(arch):
    module = build(arch).train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    for _ in range(2):  # a last layer that starts at 0 holds back the others' first gradients
        optimizer.zero_grad()
        signed_log1p(module(rain(4, 16, 16))).sum().backward()
        optimizer.step()
    dead = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


@trained
def test_a_few_steps_bring_curves_closer(arch):
    metric = Minkowski(THRESHOLDS, 2.0)
    module = build(arch, metric).train()
    fields = torch.cat([rain(8, 16, 16, seed=k) * 0.5**k for k in range(4)])
    target = signed_log1p(torch.from_numpy(metric(fields.numpy())).float())
    optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        loss = (signed_log1p(module(fields)) - target).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("arch", ADMISSIBLE)
def test_curves_stay_admissible_while_training(arch):
    """Real steps: of the weights where there are any, and of the pixels towards another field's curves."""
    metric = Minkowski(THRESHOLDS, 2.0, ALL)
    module = build(arch, metric).train()
    fields, goal = (torch.cat([rain(8, 16, 16, seed=k) * 0.5**j for j in range(4)]) for k in (0, 1))
    weights = list(module.parameters())
    for moved, aim in ((weights, fields), ([fields.clone().requires_grad_()], goal)):
        if not moved:
            continue
        target = signed_log1p(torch.from_numpy(metric(aim.numpy())).float())
        optimizer = torch.optim.Adam(moved, lr=1e-2)
        losses = []
        for _ in range(25):
            x = fields if moved is weights else moved[0]
            curves = module(x)
            assert_admissible(module, x, curves)
            losses.append((signed_log1p(curves) - target).abs().mean())
            optimizer.zero_grad()
            losses[-1].backward()
            optimizer.step()
        assert losses[-1] < losses[0]
    for other in inputs().values():
        assert_admissible(module.eval(), other, module(other))


@pytest.mark.parametrize("arch", UNTRAINED)
def test_nothing_is_trained_in_relaxations(arch):
    assert not list(build(arch).parameters())


@trained
def test_penalties_reach_the_weights(arch):
    # Second derivatives: of curves in the pixels, then in the weights.
    module, fields = build(arch, weights=1).train(), rain(2, 8, 8).requires_grad_()
    (gradient,) = torch.autograd.grad(signed_log1p(module(fields)).sum(), fields, create_graph=True)
    gradient.square().sum().backward()
    grads = [p.grad for p in module.parameters() if p.grad is not None]
    assert grads
    assert all(g.isfinite().all() for g in grads)
    assert any(g.any() for g in grads)


# What each of them is


def test_the_papers_three_and_what_came_after():
    defaults = {name: build(name, widths=(8, 16), hidden=8).arguments() for name in ("baseline", "lipschitz")}
    defaults |= {
        name: build(name, widths=(8, 16), hidden=8).arguments() for name in ("constrained", "hybrid")
    }
    told_apart = ("backbone", "spectral", "heads", "readout", "masks", "prior")
    assert {name: tuple(given[key] for key in told_apart) for name, given in defaults.items()} == {
        "baseline": ("plain", "none", "free", "last", 0, None),
        "lipschitz": ("residual", "power", "free", "last", 0, None),
        "constrained": ("residual", "power", "constrained", "last", 0, None),
        "hybrid": ("residual", "power", "constrained", "all", 7, 0.05),
    }
    for given in defaults.values():
        assert (given["depth"], given["isoperimetric"]) == (1, "valid")


@pytest.mark.parametrize(("arch", "normalised"), [("baseline", 0), ("lipschitz", 5), ("constrained", 5)])
def test_normalised_convolutions(arch, normalised):
    module = build(arch)
    found = [part for part in module.modules() if torch.nn.utils.parametrize.is_parametrized(part, "weight")]
    assert len(found) == normalised


def test_free_heads_promise_nothing():
    broken = set()
    for arch, fields in itertools.product(("baseline", "lipschitz"), inputs().values()):
        module = build(arch, weights=1)
        shares = module.metric.check(module(fields).detach().double().numpy(), tuple(fields.shape[-2:]))
        broken |= {label for label, share in shares.items() if share}
    assert {"area non-increasing", "holes = components - euler"} <= broken
