"""The excursion surrogate: admissible on any input, true to the relaxation, free in its thresholds."""

import itertools
import json
import math
from functools import partial

import drawn
import emuloss
import numpy as np
import pytest
import torch
from emuloss.emulators import ConvEmulator, Excursion, RelaxedMinkowski
from emuloss.emulators.exact import exact_curves
from emuloss.errors import ArgumentError
from emuloss.losses import Provenance
from emuloss.metrics import Metric, Minkowski
from emuloss.zoo import Surrogate
from torch import Tensor

THRESHOLDS = (0.2, 0.7, 1.5, 4.0)
ALL = ("area", "perimeter", "euler", "components", "holes")
SUBSETS = [names for size in range(1, 6) for names in itertools.combinations(ALL, size)]
SPACES = list(itertools.product(("closed", "open"), (1, 2)))
INF, NAN = math.inf, math.nan

every_space = pytest.mark.parametrize(("boundary", "connectivity"), SPACES)


def teacher(thresholds=THRESHOLDS, outputs=ALL, pixel_size=2.0, **arguments) -> Minkowski:
    return Minkowski(thresholds, pixel_size, outputs, **arguments)


rain = partial(drawn.rain, law="lognormal, drawn in double")


def inputs() -> dict[str, Tensor]:
    """Fields of all kinds; many pixels near thresholds, where soft sets break what exact ones obey."""
    some = rain(3, 13, 18)
    odd = some.clone()
    odd[0], odd[:, 3:6, 4:9], odd[1, 2, 2], odd[1, 5, 5], odd[2, 7, 7] = NAN, NAN, INF, -INF, 1e35
    checks = torch.tensor(np.indices((11, 12)).sum(0) % 2).float()[None]
    generator = torch.Generator().manual_seed(1)
    u = torch.tensor(THRESHOLDS)[:, None, None]
    return {
        "rain": some,
        "about each threshold": u * (1 + 0.02 * torch.randn((4, 10, 10), generator=generator)),
        "about the threshold, of one value": u.expand(4, 9, 9),
        "drizzle about a threshold": 0.2 * (1 + 0.3 * torch.randn((2, 30, 30), generator=generator)),
        "checks": 0.71 * checks,
        "soft checks": 0.7 + 0.05 * checks,
        "dry": torch.zeros((2, 16, 16)),
        "wet": torch.full((2, 9, 16), 30.0),
        "huge": torch.full((1, 8, 8), torch.finfo(torch.float32).max),
        "infinite": torch.full((1, 8, 8), INF),
        "negative": -1e6 * some,
        "tiny values": 1e-30 * some,
        "odd": odd,
        "one pixel": u,
        "a row": rain(3, 1, 30),
        "a column": rain(3, 30, 1),
        "float16": some.half(),
        "bfloat16": some.bfloat16(),
        "double": some.double(),
        "channel": some[:, None],
        "strided": rain(2, 40, 40)[:, ::2, 1::3],
        "empty": torch.zeros((0, 8, 8)),
    }


def assert_admissible(metric: Metric, fields: Tensor, curves: Tensor) -> None:
    assert curves.shape == (len(fields), len(metric.outputs), len(metric.thresholds))
    assert curves.isfinite().all()
    shares = metric.check(curves.detach().double().numpy(), tuple(fields.shape[-2:]))
    assert {label: share for label, share in shares.items() if share} == {}


# What curves obey


@every_space
@pytest.mark.parametrize(
    "settings", [{"temperature": 0.05}, {"temperature": 0.3}, {"tail": (0.9, 2.0)}], ids=str
)
def test_curves_are_admissible_whatever_comes_in(boundary, connectivity, settings):
    for outputs, pixel_size in ((ALL, 2.0), (ALL[::-1], 1e-3)):
        metric = teacher(outputs=outputs, pixel_size=pixel_size, boundary=boundary, connectivity=connectivity)
        module = Excursion(metric, **settings, forward="soft")
        for fields in inputs().values():
            assert_admissible(metric, fields, module(fields))


@pytest.mark.parametrize("outputs", SUBSETS, ids="-".join)
def test_any_outputs(outputs):
    for boundary, connectivity in SPACES:
        metric = teacher(outputs=outputs, boundary=boundary, connectivity=connectivity)
        fields = inputs()["about each threshold"]
        for forward in ("soft", "exact"):
            assert_admissible(metric, fields, Excursion(metric, forward=forward)(fields))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_computes_in_float32(dtype):
    module = Excursion(teacher())
    for name, fields in inputs().items():
        with torch.autocast("cpu", dtype):
            curves = module(fields)
        assert curves.dtype == (torch.float64 if name == "double" else torch.float32)
        assert torch.equal(curves, module(fields))


@pytest.mark.parametrize("thresholds", [(-1.5, 0.0, 2.0), (-4.0, -2.0), (0.0,), (1e-6, 1e6)], ids=str)
def test_thresholds_of_any_sign_and_size(thresholds):
    metric = teacher(thresholds)
    fields = 3 * torch.randn((4, 12, 12), generator=torch.Generator().manual_seed(0))
    assert_admissible(metric, fields, Excursion(metric, forward="soft")(fields))


def test_soft_curves_alone_are_not_admissible():
    # What makes the projection worth having: averages over thresholds leave the admissible set.
    fields = inputs()["about each threshold"]
    soft = RelaxedMinkowski(teacher(), 0.1)(fields)
    assert any(teacher().check(soft.double().numpy(), (10, 10)).values())


# What curves are


@every_space
def test_projection_leaves_exact_curves_as_they_are(boundary, connectivity):
    # Values far from every threshold, as the temperature has it: soft sets are exact ones.
    metric = teacher(boundary=boundary, connectivity=connectivity)
    levels = torch.tensor([0.0, 0.4, 1.0, 2.5, 9.0], dtype=torch.float64)
    fields = levels[torch.randint(5, (6, 15, 14), generator=torch.Generator().manual_seed(0))]
    curves = Excursion(metric, 1e-3, forward="soft")(fields)
    torch.testing.assert_close(curves, torch.from_numpy(metric(fields.numpy())), rtol=1e-5, atol=1e-4)


@every_space
def test_is_the_relaxation_where_that_is_admissible(boundary, connectivity):
    metric = teacher(boundary=boundary, connectivity=connectivity)
    fields = rain(6, 40, 40, dtype=torch.float64)
    module, relaxed = Excursion(metric, 0.002, forward="soft"), RelaxedMinkowski(metric, 0.002)
    soft = relaxed(fields)
    found = metric.check(soft.numpy(), (40, 40))
    assert not any(found.values())
    torch.testing.assert_close(module(fields), soft, rtol=1e-6, atol=1e-5)


@every_space
def test_values_are_the_metrics_own_whatever_comes_in(boundary, connectivity):
    for outputs, pixel_size in ((ALL, 2.0), (ALL[::-1], 1e-3)):
        metric = teacher(outputs=outputs, pixel_size=pixel_size, boundary=boundary, connectivity=connectivity)
        for name, fields in inputs().items():
            curves = Excursion(metric)(fields)
            wanted = exact_curves(metric, fields).to(curves)
            torch.testing.assert_close(curves, wanted, rtol=1e-12, atol=1e-11, msg=name)


@every_space
def test_values_are_exact_for_values_next_to_thresholds(boundary, connectivity):
    u = np.float32(0.3), np.float32(0.7)  # of which single precision has neither
    near = np.array([np.nextafter(x, np.float32(way)) for x in u for way in (-9, x, 9)], np.float32)
    fields = torch.from_numpy(np.random.default_rng(0).choice(near, (4, 15, 16)))
    metric = teacher((0.3, 0.7), boundary=boundary, connectivity=connectivity)
    curves = Excursion(metric)(fields)
    assert torch.equal(curves, exact_curves(metric, fields).to(curves))
    (gradient,) = torch.autograd.grad(Excursion(metric)(fields.requires_grad_()).sum(), fields)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("cast", ["half", "float", "double"])
def test_values_are_exact_after_casts(cast):
    fields = torch.full((1, 2, 2), np.nextafter(np.float32(0.3), np.float32(9)))
    module = getattr(Excursion(teacher((0.3, 0.7))), cast)()
    assert torch.equal(module(fields), exact_curves(module.metric, fields).float())
    assert module(fields)[0, 0, 0] > 0 == module(fields - 1e-7)[0, 0, 0]


@every_space
def test_the_gradient_is_that_of_the_soft_steps(boundary, connectivity):
    metric = teacher(boundary=boundary, connectivity=connectivity)
    fields = rain(2, 20, 20, dtype=torch.float64).requires_grad_()
    weights = torch.randn((2, 5, 4), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gradients = [
        torch.autograd.grad((module(fields) * weights).sum(), fields)[0]
        for module in (Excursion(metric, 0.1), RelaxedMinkowski(metric, 0.1))
    ]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


def test_faithful_by_default():
    metric, fields = teacher(), rain(32, 48, 48, seed=3)
    exact = torch.from_numpy(metric(fields.double().numpy()))
    error = (Excursion(metric)(fields) - exact).square().sum((0, 2))
    spread = (exact - exact.mean(0)).square().sum((0, 2))
    assert (1 - error / spread > 0.98).all()


@pytest.mark.parametrize("name", inputs())
def test_gradients_are_finite_whatever_comes_in(name):
    fields = inputs()[name].detach().clone().requires_grad_()
    curves = Excursion(teacher())(fields)
    (curves.sign() * curves.abs().log1p()).sum().backward()
    assert fields.grad.isfinite().all()
    assert (fields.grad[~fields.isfinite()] == 0).all()


def test_gradient_is_that_of_the_relaxation_where_that_is_admissible():
    fields = rain(2, 40, 40, dtype=torch.float64).requires_grad_()
    module = Excursion(teacher())
    weights = torch.randn((2, 5, 4), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (ours,) = torch.autograd.grad((module(fields) * weights).sum(), fields)
    relaxed = RelaxedMinkowski(module.metric, **module.arguments())
    (theirs,) = torch.autograd.grad((relaxed(fields) * weights).sum(), fields)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_field_sizes_of_all_kinds():
    module = Excursion(teacher())
    assert module.stride == 1
    for shape in ((1, 1), (1, 2), (3, 1), (5, 64)):
        fields = rain(2, *shape)
        assert_admissible(module.metric, fields, module(fields))


def test_nothing_to_train():
    module = Excursion(teacher())
    assert not list(module.parameters())
    assert not module.state_dict()


# Other thresholds


def excursion(**settings) -> Surrogate:
    facts = Provenance("mm/h", training={"source": {"name": "rain"}})
    return Surrogate(Excursion(teacher(), **settings), "excursion", facts)


def test_other_thresholds_and_units():
    settings = {"temperature": 0.02, "tail": (0.1, 0.3)}
    surrogate = excursion(**settings)
    other = surrogate.with_thresholds((0.5, 1.0), pixel_size=3.0, length_unit="mi", outputs=("euler", "area"))
    fresh = Excursion(Minkowski((0.5, 1.0), 3.0, ("euler", "area"), length_unit="mi"), **settings)
    assert other.metric == fresh.metric
    assert other.units == ("1", "mi^2")
    assert other.architecture == "excursion"
    assert other.module.arguments() == fresh.arguments()
    assert torch.equal(other(rain(2, 20, 20)), fresh(rain(2, 20, 20)))
    assert surrogate.thresholds == THRESHOLDS  # itself it stays what it was


def test_what_is_not_named_stays():
    metric = teacher(boundary="open", connectivity=2, length_unit="km")
    other = Surrogate(Excursion(metric), "excursion").with_thresholds([1.0, 2.0], levels=[0.3, 0.9])
    expected = teacher((1.0, 2.0), boundary="open", connectivity=2, length_unit="km", levels=(0.3, 0.9))
    assert other.metric == expected
    assert excursion().with_thresholds([1.0, 2.0]).metric.levels == (0.25, 0.75)


def test_figures_of_other_thresholds_are_left_behind():
    surrogate = excursion()
    surrogate.provenance.evaluation = {"figures": 1}
    other = surrogate.with_thresholds([1.0])
    assert other.evaluation == {}
    assert other.provenance.unit == "mm/h"
    assert surrogate.evaluation == {"figures": 1}


def test_relaxations_take_other_thresholds_too():
    relaxed = emuloss.relax(teacher(), temperature=0.03, forward="exact")
    other = relaxed.with_thresholds((0.4, 0.8))
    assert torch.equal(
        other(rain(1, 9, 9)),
        emuloss.relax(teacher((0.4, 0.8)), temperature=0.03, forward="exact")(rain(1, 9, 9)),
    )


def test_trained_architectures_keep_their_thresholds():
    for arch in ("constrained", "hybrid"):
        surrogate = Surrogate(ConvEmulator(teacher(), widths=(8,), hidden=8), arch)
        with pytest.raises(
            ArgumentError, match=f"^architecture '{arch}' is trained for its thresholds; [^\n]*$"
        ):
            surrogate.with_thresholds([1.0])


@pytest.mark.parametrize(
    ("thresholds", "arguments", "word"),
    [([2.0, 1.0], {}, "increasing"), ([], {}, "thresholds"), ([1.0], {"pixel_size": -1}, "pixel_size"),
     ([1.0], {"levels": [0.1, 0.2]}, "levels"), ([1.0], {"outputs": ["volume"]}, "outputs")],
)  # fmt: skip
def test_unusable_thresholds_and_units(thresholds, arguments, word):
    with pytest.raises(ArgumentError, match=word):
        excursion().with_thresholds(thresholds, **arguments)


# Copies and checkpoints


@every_space
def test_round_trip(boundary, connectivity, tmp_path):
    metric = teacher(boundary=boundary, connectivity=connectivity)
    surrogate = Surrogate(Excursion(metric, 0.01, None), "excursion", Provenance("mm/h"))
    surrogate.save_pretrained(tmp_path)
    loaded = emuloss.load(tmp_path)
    assert loaded.architecture == "excursion"
    assert loaded.metric == metric
    assert loaded.module.arguments() == {"temperature": 0.01, "tail": None, "forward": "exact"}
    results = []
    for one in (surrogate, loaded):
        fields = rain(2, 17, 19).requires_grad_()
        curves = one(fields)
        curves.sum().backward()
        results.append((curves, fields.grad))
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))
    assert loaded.with_thresholds([1.0])(rain(1, 8, 8)).shape == (1, 5, 1)


@pytest.mark.parametrize("tail", [None, (0.1, 0.5)])
@pytest.mark.parametrize("temperature", [0.01, (0.1, 0.05, 0.02, 0.3)], ids=str)
def test_arguments_build_it_again(temperature, tail):
    module = Excursion(teacher(), temperature, tail)
    again = Excursion(teacher(), **json.loads(json.dumps(module.arguments())))
    assert torch.equal(again(rain(2, 9, 9)), module(rain(2, 9, 9)))
    assert again.arguments() == module.arguments()


# Errors


class Brightest(Metric):
    name = "brightest"
    outputs, units, levels, pixel_size, constraints = ("value",), ("mm/h",), (0.5,), 1.0, ()
    thresholds = (1.0,)

    def arguments(self):
        return {}

    def _compute(self, fields):
        return fields.max((1, 2))[:, None, None]


def test_other_metrics_are_refused():
    with pytest.raises(
        ArgumentError, match=r"^the excursion architecture is for Minkowski .*'brightest'[^\n]*$"
    ):
        Excursion(Brightest())


@pytest.mark.parametrize(
    ("arguments", "word"),
    [({"temperature": 0.0}, "temperature"), ({"temperature": "warm"}, "temperature"),
     ({"temperature": 1e-12}, "too small"), ({"tail": (2, 1)}, "tail"), ({"tail": 0.3}, "tail")],
)  # fmt: skip
def test_bad_arguments_are_refused(arguments, word):
    with pytest.raises(ArgumentError, match=rf"^[^\n]*{word}[^\n]*$"):
        Excursion(teacher(), **arguments)


@pytest.mark.parametrize("shape", [(8, 8), (1, 2, 8, 8), (1, 0, 8)], ids=str)
def test_other_shapes_are_refused(shape):
    with pytest.raises(ArgumentError, match="fields must have shape"):
        Excursion(teacher())(torch.zeros(shape))
