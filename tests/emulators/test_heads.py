"""Heads: every declared constraint holds for any raw value, and admissible curves are within reach."""

import itertools
import math

import numpy as np
import pytest
import torch
from emuloss.emulators import ConstrainedHeads, signed_log1p
from emuloss.emulators.networks.heads import in_order
from emuloss.errors import ArgumentError
from emuloss.metrics import (  # fmt: skip
    CSI,
    FSS,
    SAL,
    BettiError,
    BoxCount,
    Clusters,
    FunctionMetric,
    Metric,
    Minkowski,
    Morphology,
    Percolation,
    Spectrum,
)
from emuloss.metrics.constraints import FRAME, AtLeast, AtMost, Identity, NonDecreasing, NonIncreasing
from emuloss.metrics.minkowski import textbook_constraints
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

THRESHOLDS = (0.2, 0.7, 1.5, 4.0)
OUTPUTS = ("area", "perimeter", "euler", "components", "holes")
SUBSETS = [names for size in range(1, 6) for names in itertools.combinations(OUTPUTS, size)]
PIXEL_SIZES = (1.0, 2.0, 0.01, 1000.0)
SHAPE = (24, 32)

quick = settings(deadline=None, max_examples=25)
anything = st.floats(width=32, allow_nan=False, allow_infinity=False)
moderate = st.floats(-30, 30, width=32)


class MadeUp(Metric):
    """A metric of declarations alone."""

    name = "made-up"

    def __init__(self, outputs, constraints, thresholds=THRESHOLDS):
        self.outputs, self.constraints, self.thresholds = tuple(outputs), tuple(constraints), thresholds
        self.levels = tuple(range(len(thresholds)))
        self.units, self.pixel_size = ("1",) * len(self.outputs), 1.0

    def arguments(self):
        return {}

    def _compute(self, fields):
        raise NotImplementedError


def violations(metric: Metric, curves: torch.Tensor) -> dict[str, float]:
    """Shares of violations above 0; whatever the curves' precision, bounds are computed in double."""
    assert curves.isfinite().all()
    return {label: share for label, share in metric.check(curves.double().numpy(), SHAPE).items() if share}


def frame(metric: Metric) -> float:
    return float(SHAPE[0] * SHAPE[1]) * metric.pixel_size**2


def run(metric: Metric, raw: np.ndarray | torch.Tensor) -> torch.Tensor:
    return ConstrainedHeads(metric)(torch.as_tensor(raw), frame(metric))


def raw_values(number: int, size: int) -> torch.Tensor:
    """Raw values of all magnitudes, and of one sign or magnitude within a field."""
    generator = torch.Generator().manual_seed(size)
    noise = torch.randn((number, size), generator=generator)
    scales = torch.logspace(-3, 4, number)[:, None]
    uniform = torch.cat([torch.full((1, size), value) for value in (0.0, 1e-30, 20.0, -20.0, 1e30, -1e30)])
    signs = 1e3 * noise.sign()
    return torch.cat([noise * scales, uniform, signs])


# Minkowski


@pytest.mark.parametrize("boundary", ["closed", "open"])
@pytest.mark.parametrize("outputs", SUBSETS, ids="-".join)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_constraint_of_every_subset_holds(outputs, boundary, dtype):
    for pixel_size, names in itertools.product(PIXEL_SIZES, (outputs, outputs[::-1])):
        metric = Minkowski(THRESHOLDS, pixel_size, names, boundary)
        raw = raw_values(60, ConstrainedHeads(metric).raw_size).to(dtype)
        if dtype == torch.float64:
            # Bounds are computed in double precision: for curves of that precision, differences of
            # outputs without an upper bound keep their last bits up to 1e8 or so, not up to 1e30.
            raw = raw.clamp(max=15)
        curves = run(metric, raw)
        assert curves.shape == (len(raw), len(names), len(THRESHOLDS))
        assert curves.dtype == dtype
        assert violations(metric, curves) == {}


@pytest.mark.parametrize("boundary", ["closed", "open"])
@pytest.mark.parametrize("elements", [anything, moderate], ids=["any", "moderate"])
def test_any_raw_value_obeys_every_constraint(boundary, elements):
    @quick
    @given(data=st.data())
    def check(data):
        outputs = data.draw(st.permutations(OUTPUTS))[: data.draw(st.integers(1, 5))]
        pixel_size = data.draw(st.sampled_from(PIXEL_SIZES))
        metric = Minkowski(THRESHOLDS, pixel_size, outputs, boundary)
        size = ConstrainedHeads(metric).raw_size
        assert (
            violations(metric, run(metric, data.draw(hnp.arrays(np.float32, (3, size), elements=elements))))
            == {}
        )

    check()


def test_identity_has_no_raw_values_and_holds_exactly():
    heads = ConstrainedHeads(Minkowski(THRESHOLDS, outputs=OUTPUTS))
    assert heads.sizes == {"area": 5, "perimeter": 4, "euler": 4, "components": 4, "holes": 0}
    curves = heads(raw_values(20, heads.raw_size), 768.0)
    assert torch.equal(curves[:, 4], curves[:, 3] - curves[:, 2])


@pytest.mark.parametrize("outputs", list(itertools.permutations(OUTPUTS, 3))[::7], ids="-".join)
def test_outputs_come_after_those_they_need(outputs):
    metric = Minkowski(THRESHOLDS, outputs=outputs)
    order = in_order(metric, metric.constraints)
    assert sorted(order) == sorted(outputs)
    for c in metric.constraints:
        if not isinstance(c, Identity):
            assert all(order.index(name) < order.index(c.output) for name in c.of if name != FRAME)


def test_curves_come_in_the_order_of_the_metric():
    first, second = (Minkowski(THRESHOLDS, outputs=o) for o in (("area", "perimeter"), ("perimeter", "area")))
    raw = raw_values(5, 9)
    assert torch.equal(run(first, raw), run(second, raw).flip(1))


def test_rounding_breaks_no_bound_that_is_a_small_difference_of_large_outputs():
    # Nearly all of 2P/pi spent on components: what is left for holes is a matter of the last bits.
    metric = Minkowski(THRESHOLDS, 2.0, OUTPUTS)
    heads = ConstrainedHeads(metric)
    generator = torch.Generator().manual_seed(0)
    raw = 20 * (2 * torch.rand((2000, heads.raw_size), generator=generator) - 1)
    assert violations(metric, heads(raw, frame(metric))) == {}


def test_gradients_are_finite_where_raw_values_are_huge():
    metric = Minkowski(THRESHOLDS, outputs=OUTPUTS)
    raw = raw_values(20, ConstrainedHeads(metric).raw_size).requires_grad_()
    run(metric, raw).sum().backward()
    assert raw.grad.isfinite().all()


# Reach: what exact curves become on their way through inverse and forward


def test_training_comes_back_from_a_bound():
    """Where all fields were taken to a bound: gradients lead back, but no further, and values are exact."""
    far, near = -40.0, 3.0
    constraints = (AtLeast("m", "m >= 0", lambda: 0.0),)
    heads = ConstrainedHeads(MadeUp(("m",), constraints, (0.5,)))
    raw = torch.full((2, 1), far, dtype=torch.float64, requires_grad=True)
    curves = heads(raw, 100.0)
    assert torch.equal(curves, heads.eval()(raw, 100.0))
    back = torch.tensor([1.0, -1.0])[:, None, None]  # of the first field more, of the second less
    (gradient,) = torch.autograd.grad((-back * curves).sum(), raw)
    assert gradient[0] < -1e-3
    assert gradient[1] == 0
    raw = torch.full((1, 1), near, dtype=torch.float64, requires_grad=True)
    found = [torch.autograd.grad(each(raw, 100.0).sum(), raw)[0] for each in (heads.train(), heads.eval())]
    assert torch.equal(*found)


FALLING = [float(2**k) for k in range(10, -6, -1)]


@pytest.mark.parametrize(
    ("constraints", "goal"),
    [
        ((AtMost("m", "m <= 4096", lambda: 4096.0),), [3.0]),
        ((NonIncreasing("m"),), FALLING),
        ((NonIncreasing("m"), AtMost("m", "m <= 4096", lambda: 4096.0)), FALLING),
    ],
    ids=["a high bound", "steps", "bands"],
)
def test_training_reaches_small_numbers_between_bounds(constraints, goal):
    bounds = (AtLeast("m", "m >= 0", lambda: 0.0), *constraints)
    heads = ConstrainedHeads(MadeUp(("m",), bounds, tuple(range(len(goal)))))
    raw = torch.full((1, heads.raw_size), 3.0, dtype=torch.float64, requires_grad=True)
    goal = torch.tensor([[goal]])
    optimizer = torch.optim.Adam([raw], lr=0.1)
    for step in range(800):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 800)
        optimizer.zero_grad()
        (signed_log1p(heads(raw, 4096.0)) - signed_log1p(goal)).abs().sum().backward()
        optimizer.step()
    assert (signed_log1p(heads(raw, 4096.0)) - signed_log1p(goal)).abs().max() < 0.03


def exact_curves(metric: Metric, dtype) -> torch.Tensor:
    rng = np.random.default_rng(0)
    fields = rng.gamma(0.5, 2.0, (40, *SHAPE)) * rng.uniform(0, 2, (40, 1, 1))
    fields[:2] = 0.0
    fields[2] = 100.0
    fields[3] = rng.uniform(0, 1, SHAPE) > 0.998
    fields[4] = np.indices(SHAPE).sum(0) % 2
    return torch.from_numpy(metric(fields)).to(dtype)


@pytest.mark.parametrize("boundary", ["closed", "open"])
@pytest.mark.parametrize("outputs", [OUTPUTS, *SUBSETS[:16]], ids="-".join)
@pytest.mark.parametrize("pixel_size", [1.0, 2.0])
def test_exact_curves_are_reached(outputs, boundary, pixel_size):
    metric = Minkowski(THRESHOLDS, pixel_size, outputs, boundary)
    heads = ConstrainedHeads(metric)
    exact = exact_curves(metric, torch.float64)
    raw = heads.inverse({name: exact[:, c] for c, name in enumerate(outputs)}, frame(metric))
    assert raw.shape == (len(exact), heads.raw_size)
    assert raw.isfinite().all()
    reached = heads(raw, frame(metric))
    # What the small band takes from the area, as a share of the field; the others follow the area,
    # and keep 1e-4 of the way between their bounds from either bound.
    share = 1e-5 if "area" in outputs else 0
    for c, name in enumerate(outputs):
        unit = {"area": pixel_size**2, "perimeter": pixel_size}.get(name, 1.0)
        size = 4 * SHAPE[0] * SHAPE[1] * unit
        tolerance = share / 4 * size if name == "area" else 3e-4 * size
        assert (reached[:, c] - exact[:, c]).abs().max() <= tolerance, name


def test_inverse_undoes_forward():
    metric = Minkowski(THRESHOLDS, 2.0, OUTPUTS)
    heads = ConstrainedHeads(metric)
    raw = torch.randn((50, heads.raw_size), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    curves = heads(raw, frame(metric))
    known = {name: curves[:, c] for c, name in enumerate(metric.outputs)}
    torch.testing.assert_close(
        heads(heads.inverse(known, frame(metric)), frame(metric)), curves, rtol=1e-4, atol=0.02
    )


def test_unknown_outputs_start_at_zero():
    metric = Minkowski(THRESHOLDS, outputs=OUTPUTS)
    heads = ConstrainedHeads(metric)
    exact = exact_curves(metric, torch.float32)
    raw = heads.inverse({"area": exact[:, 0], "euler": exact[:, 2]}, frame(metric))
    area, *others = raw.split([heads.sizes[name] for name in heads.order], dim=1)
    assert area.count_nonzero()
    # The bounds of the Euler number need the perimeter, which is unknown.
    assert not any(part.any() for part in others)


# Projection


def broken_curves(metric: Metric, dtype=torch.float64) -> torch.Tensor:
    """Exact curves with noise of all magnitudes, and noise alone."""
    exact = exact_curves(metric, dtype)
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(exact.shape, generator=generator, dtype=dtype)
    scales = torch.logspace(-4, 5, len(exact), dtype=dtype)[:, None, None]
    constants = [torch.full_like(exact[:1], value) for value in (0.0, 1e-30, -1e6, 1e6, 1e30, -1e30)]
    return torch.cat([exact + scales * noise, scales * noise, *constants])


@pytest.mark.parametrize("boundary", ["closed", "open"])
@pytest.mark.parametrize("outputs", SUBSETS, ids="-".join)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_projected_curves_obey_every_constraint(outputs, boundary, dtype):
    for pixel_size, names in itertools.product((1.0, 1000.0), (outputs, outputs[::-1])):
        metric = Minkowski(THRESHOLDS, pixel_size, names, boundary)
        curves = broken_curves(metric, dtype)
        if dtype == torch.float64:
            curves = curves.clamp(-1e6, 1e6)
        projected = ConstrainedHeads(metric).project(curves, frame(metric))
        assert projected.dtype == dtype
        assert projected.shape == curves.shape
        assert violations(metric, projected) == {}


@pytest.mark.parametrize("boundary", ["closed", "open"])
@pytest.mark.parametrize("outputs", [OUTPUTS, *SUBSETS[:16]], ids="-".join)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_projection_leaves_exact_curves_as_they_are(outputs, boundary, dtype):
    metric = Minkowski(THRESHOLDS, 2.0, outputs, boundary)
    exact = exact_curves(metric, dtype).requires_grad_()
    projected = ConstrainedHeads(metric).project(exact, frame(metric))
    torch.testing.assert_close(projected, exact, rtol=1e-6, atol=1e-6)


def test_projection_keeps_the_gradient_of_what_it_leaves():
    # Well inside all bounds: a few large objects.
    metric = Minkowski((0.2, 0.7), outputs=OUTPUTS[:4])
    curves = torch.tensor([[[300.0, 200.0], [150.0, 120.0], [1.0, 2.0], [3.0, 4.0]]], requires_grad=True)
    projected = ConstrainedHeads(metric).project(curves, frame(metric))
    assert torch.equal(projected, curves)
    weights = torch.arange(8.0).reshape(1, 4, 2)
    (gradient,) = torch.autograd.grad((weights * projected).sum(), curves)
    assert torch.equal(gradient, weights)


def test_projection_goes_no_further_than_the_bound():
    metric = MadeUp(["a", "b"], [NonIncreasing("a"), lower("b", -1.0), upper("b", 1.0)], (1.0, 2.0, 3.0))
    curves = torch.tensor([[[3.0, 5.0, 4.0], [-7.0, 0.5, 7.0]]])
    expected = torch.tensor([[[5.0, 5.0, 4.0], [-1.0, 0.5, 1.0]]])
    assert torch.equal(ConstrainedHeads(metric).project(curves, 1.0), expected)


@pytest.mark.parametrize("boundary", ["closed", "open"])
def test_projecting_twice_changes_nothing_more(boundary):
    metric = Minkowski(THRESHOLDS, 2.0, OUTPUTS, boundary)
    heads = ConstrainedHeads(metric)
    once = heads.project(broken_curves(metric), frame(metric))
    torch.testing.assert_close(heads.project(once, frame(metric)), once, rtol=1e-9, atol=1e-9)


def test_gradients_of_a_projection_are_finite():
    metric = Minkowski(THRESHOLDS, 2.0, OUTPUTS)
    curves = broken_curves(metric, torch.float32).requires_grad_()
    ConstrainedHeads(metric).project(curves, frame(metric)).sum().backward()
    assert curves.grad.isfinite().all()
    assert curves.grad.any()


def test_no_curves_are_projected_to_none():
    metric = Minkowski(THRESHOLDS, outputs=OUTPUTS)
    assert ConstrainedHeads(metric).project(torch.zeros((0, 5, 4)), 1.0).shape == (0, 5, 4)


# Other constraints than the declared ones


@pytest.mark.parametrize("boundary", ["closed", "open"])
@pytest.mark.parametrize("outputs", SUBSETS, ids="-".join)
def test_textbook_constraints_hold(outputs, boundary):
    metric = Minkowski(THRESHOLDS, 2.0, outputs, boundary)
    constraints = textbook_constraints(metric)
    heads = ConstrainedHeads(metric, "textbook")
    curves = heads(raw_values(60, heads.raw_size), frame(metric))
    assert curves.isfinite().all()
    by_name = metric.named(curves.double().numpy(), SHAPE)
    assert [c.label for c in constraints if c.violated(by_name).any()] == []
    if "perimeter" in outputs and "area" in outputs:
        assert (by_name["perimeter"] ** 2 >= 4 * math.pi * by_name["area"] * (1 - 1e-6)).all()
        assert (np.diff(by_name["area"]) <= 0).all()


def test_exact_curves_are_out_of_reach_of_textbook_heads():
    metric = Minkowski(THRESHOLDS, outputs=("area", "perimeter"))
    pixel = torch.from_numpy(metric(np.pad([[[9.0]]], ((0, 0), (5, 5), (5, 5)))))
    known = dict(zip(metric.outputs, pixel.unbind(1), strict=True))
    for guarantee, reached in (("declared", True), ("textbook", False)):
        heads = ConstrainedHeads(metric, guarantee)
        curves = heads(heads.inverse(known, 121.0), 121.0)
        assert torch.allclose(curves, pixel, atol=0.05) == reached


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_free_heads(dtype):
    metric = Minkowski(THRESHOLDS, outputs=OUTPUTS)
    heads = ConstrainedHeads(metric, "free")
    assert heads.order == OUTPUTS
    assert heads.sizes == dict.fromkeys(OUTPUTS, len(THRESHOLDS))
    raw = raw_values(60, heads.raw_size).to(dtype)
    curves = heads(raw, frame(metric))
    assert curves.isfinite().all()
    torch.testing.assert_close(signed_log1p(curves).flatten(1), raw.clamp(-69, 69), rtol=1e-5, atol=1e-5)
    assert violations(metric, curves)


def test_free_heads_reach_any_curve():
    metric = Minkowski(THRESHOLDS, outputs=OUTPUTS)
    heads, wanted = ConstrainedHeads(metric, "free"), broken_curves(metric)[:80]
    raw = heads.inverse(dict(zip(OUTPUTS, wanted.unbind(1), strict=True)), frame(metric))
    torch.testing.assert_close(heads(raw, frame(metric)), wanted, rtol=1e-9, atol=1e-9)


# Other metrics


def lower(name, value=0.0):
    return AtLeast(name, f"{name} >= {value}", lambda: value)


def upper(name, value=10.0):
    return AtMost(name, f"{name} <= {value}", lambda: value)


DECLARATIONS = {
    "free": [],
    "lower": [lower("a", -2.0)],
    "upper": [upper("a", 5.0)],
    "both": [lower("a", -2.0), upper("a", 5.0)],
    "two lower": [lower("a", -2.0), lower("a", 3.0)],
    "falls": [NonIncreasing("a")],
    "falls above": [NonIncreasing("a"), lower("a", -2.0)],
    "falls between": [NonIncreasing("a"), lower("a", -2.0), upper("a", 5.0)],
    "rises": [NonDecreasing("a")],
    "rises below": [NonDecreasing("a"), upper("a", 5.0)],
    "rises between": [NonDecreasing("a"), lower("a", -2.0), upper("a", 5.0)],
    "falls below": [NonIncreasing("a"), upper("a", 5.0)],
    "falls within the field": [
        NonIncreasing("a"),
        lower("a", 0.0),
        AtMost("a", "a <= field", lambda f: f, (FRAME,)),
    ],
}


def admissible(name: str) -> torch.Tensor:
    """Curves of one output that obey a declaration, spread over all that it admits."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand((200, 1, len(THRESHOLDS)), generator=generator, dtype=torch.float64)
    x = {
        "free": 1e3 * (x - 0.5),
        "lower": -2 + 1e3 * x,
        "upper": 5 - 1e3 * x,
        "both": -2 + 7 * x,
        "two lower": 3 + 1e3 * x,
        "falls": 1e3 * (x - 0.5),
        "falls above": -2 + 1e3 * x,
        "falls between": -2 + 7 * x,
        "rises": 1e3 * (x - 0.5),
        "rises below": 5 - 1e3 * x,
        "rises between": -2 + 7 * x,
        "falls below": 5 - 1e3 * x,
        "falls within the field": 768 * x,
    }[name]
    way = name.split()[0]
    return x.sort(-1, descending=way == "falls").values if way in ("falls", "rises") else x


@pytest.mark.parametrize("name", DECLARATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_made_up_declarations_hold(name, dtype):
    metric = MadeUp(["a"], DECLARATIONS[name])
    raw = raw_values(200, ConstrainedHeads(metric).raw_size).to(dtype)
    assert violations(metric, run(metric, raw)) == {}


@pytest.mark.parametrize("name", DECLARATIONS)
@pytest.mark.parametrize("thresholds", [THRESHOLDS, (1.0,)], ids=["curve", "scalar"])
def test_made_up_curves_are_reached(name, thresholds):
    metric = MadeUp(["a"], DECLARATIONS[name], thresholds)
    heads = ConstrainedHeads(metric)
    wanted = admissible(name)[..., : len(thresholds)]
    raw = heads.inverse({"a": wanted[:, 0]}, frame(metric))
    torch.testing.assert_close(heads(raw, frame(metric)), wanted, rtol=1e-4, atol=2e-3)


def test_a_free_output_learns_from_zero():
    metric = MadeUp(["a"], [])
    raw = torch.zeros((1, len(THRESHOLDS)), requires_grad=True)
    run(metric, raw).sum().backward()
    assert torch.equal(raw.grad, torch.ones_like(raw))


def test_bounds_by_other_outputs_and_identities():
    metric = MadeUp(
        ["total", "part", "rest", "ratio"],
        [
            Identity("total", "total = part + rest", lambda p, r: p + r, ("part", "rest")),
            lower("part"),
            AtMost("rest", "rest <= part", lambda p: p, ("part",)),
            AtLeast("ratio", "ratio >= -part", lambda p: -p, ("part",)),
            AtMost("ratio", "ratio <= part", lambda p: p, ("part",)),
        ],
    )
    heads = ConstrainedHeads(metric)
    assert heads.sizes["total"] == 0
    assert violations(metric, run(metric, raw_values(200, heads.raw_size))) == {}


def test_bounds_of_what_an_identity_defines_follow_from_its_terms():
    metric = MadeUp(
        ["a", "b", "c"],
        [
            lower("b"),
            Identity("a", "a = b", lambda b: b, ("b",)),
            AtLeast("c", "c >= a", lambda a: a, ("a",)),
            AtMost("a", "a <= c", lambda c: c, ("c",)),
        ],
    )
    assert in_order(metric, metric.constraints) == ("b", "a", "c")
    assert violations(metric, run(metric, raw_values(50, 8))) == {}


@pytest.mark.parametrize(
    "constraints",
    [
        [AtLeast("a", "a >= b", lambda b: b, ("b",)), AtLeast("b", "b >= a", lambda a: a, ("a",))],
        [
            Identity("a", "a = 2 b", lambda b: 2 * b, ("b",)),
            Identity("b", "b = a / 2", lambda a: a / 2, ("a",)),
        ],
        [AtMost("a", "a <= a", lambda a: a, ("a",))],
    ],
    ids=["bounds", "identities", "itself"],
)
def test_circular_constraints_are_refused(constraints):
    with pytest.raises(ArgumentError, match=r"^the constraints of metric 'made-up' .* in a circle: a[^\n]*$"):
        ConstrainedHeads(MadeUp(["a", "b"], constraints))


FALLING = {
    "upper by a falling one": [
        NonIncreasing("b"), lower("b"), NonIncreasing("a"), lower("a"),
        AtMost("a", "a <= b", lambda b: b, ("b",)),
    ],
    "between two": [
        NonIncreasing("b"), lower("b"), NonIncreasing("a"), AtLeast("a", "a >= b", lambda b: b, ("b",)),
        AtMost("a", "a <= 4 b", lambda b: 4 * b, ("b",)),
    ],
    "lower by any": [NonIncreasing("a"), AtLeast("a", "a >= b", lambda b: b, ("b",))],
    "upper alone": [NonIncreasing("b"), NonIncreasing("a"), AtMost("a", "a <= b", lambda b: b, ("b",))],
    "rising between two": [
        NonDecreasing("b"), lower("b"), NonDecreasing("a"), AtLeast("a", "a >= b", lambda b: b, ("b",)),
        AtMost("a", "a <= 2 b + 1", lambda b: 2 * b + 1, ("b",)),
    ],
}  # fmt: skip
"""Declarations of a and b by which a falls, or rises, between bounds that vary along the curve."""


@pytest.mark.parametrize("name", FALLING)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("outputs", [("a", "b"), ("b", "a")], ids="".join)
def test_falling_between_other_outputs(name, dtype, outputs):
    metric = MadeUp(outputs, FALLING[name])
    heads = ConstrainedHeads(metric)
    assert heads.raw_size == 2 * len(THRESHOLDS)
    raw = raw_values(200, heads.raw_size).to(dtype)
    if name == "upper alone":
        raw = raw.clamp(-30, 30)  # differences of numbers up to 1e30 are a matter of rounding
    curves = run(metric, raw)
    assert violations(metric, curves) == {}
    known = dict(zip(outputs, curves.double().unbind(1), strict=True))
    moderate = (curves.abs() < 1e4).all((1, 2))
    again = heads(heads.inverse(known, frame(metric)), frame(metric))
    torch.testing.assert_close(again[moderate], curves[moderate].double(), rtol=5e-3, atol=5e-3)
    noisy = curves + torch.randn(curves.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    assert violations(metric, heads.project(noisy, frame(metric))) == {}
    torch.testing.assert_close(heads.project(curves, frame(metric)), curves)


def test_steps_towards_bounds_have_finite_gradients():
    metric = MadeUp(("a", "b"), FALLING["between two"])
    raw = raw_values(20, 8).requires_grad_()
    run(metric, raw).clamp(max=1e20).sum().backward()
    assert raw.grad.isfinite().all()
    assert raw.grad.any()


@pytest.mark.parametrize(
    "constraints",
    [
        [NonIncreasing("a"), lower("a"), AtMost("a", "a <= b", lambda b: b, ("b",))],
        [NonIncreasing("a"), NonDecreasing("a")],
    ],
    ids=["upper by one that may rise", "both ways"],
)
def test_what_no_falling_head_can_guarantee_is_refused(constraints):
    with pytest.raises(ArgumentError, match=r"^no head can guarantee [^\n]*leave one out$"):
        ConstrainedHeads(MadeUp(["a", "b"], constraints))


# The other metrics of the package

EVERY = [
    BoxCount(THRESHOLDS), BoxCount(THRESHOLDS, (1, 3, 9), ("boxes_1", "boxes_9")),
    Clusters(THRESHOLDS, (1, 8)), Clusters(THRESHOLDS, outputs=("mean", "largest")), CSI(THRESHOLDS),
    CSI(THRESHOLDS, ("csi", "pod", "far")), FSS(THRESHOLDS, (1, 5)), BettiError(THRESHOLDS), SAL(),
    SAL(outputs=("total",)),
    SAL(outputs=("structure", "amplitude", "location", "total"), absolute=False), Morphology(THRESHOLDS),
    Percolation(THRESHOLDS), Percolation(THRESHOLDS, ("spanning", "left_right", "top_bottom")),
    Percolation(THRESHOLDS, ("spanning",)), Spectrum(bins=8),
    FunctionMetric(
        "nowhere:f", ("a", "b", "c"), levels=(0, 1, 2), bounds={"a": (0, 1), "b": (None, 3), "c": (-1, None)},
        monotone={"a": "non-decreasing", "b": "non-decreasing", "c": "non-increasing"},
    ),
]  # fmt: skip


def some_rain(number: int = 24) -> np.ndarray:
    rng = np.random.default_rng(0)
    fields = rng.gamma(0.5, 2.0, (number, *SHAPE)) * rng.uniform(0, 4, (number, 1, 1))
    fields[1::2] = np.repeat(np.repeat(fields[1::2, ::4, ::4], 4, 1), 4, 2)
    fields[0] = 0
    fields[2] = 9.0
    return fields


@pytest.mark.parametrize("metric", EVERY, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_metric_has_heads_that_hold(metric, dtype):
    heads = ConstrainedHeads(metric)
    raw = raw_values(200, heads.raw_size).to(dtype)
    if dtype == torch.float64:
        raw = raw.clamp(max=15)
    curves = heads(raw, frame(metric))
    assert curves.shape == (len(raw), len(metric.outputs), len(metric.levels))
    assert violations(metric, curves) == {}
    generator = torch.Generator().manual_seed(0)
    anything = torch.randn(curves.shape, generator=generator).to(dtype) * torch.logspace(-2, 4, len(raw))[
        :, None, None
    ].to(dtype)
    assert violations(metric, heads.project(anything, frame(metric))) == {}


@pytest.mark.parametrize("metric", EVERY[:-1], ids=repr)
def test_exact_curves_of_every_metric_are_reached(metric):
    fields = some_rain()
    exact = torch.from_numpy(metric(fields, fields[::-1]) if metric.arity == 2 else metric(fields))
    heads = ConstrainedHeads(metric)
    raw = heads.inverse(dict(zip(metric.outputs, exact.unbind(1), strict=True)), frame(metric))
    reached = heads(raw, frame(metric))
    # As for Minkowski, 1e-4 of the way between two bounds for each threshold; bounds that divide by such a
    # value (the mean area of few clusters) take 1 % of the scale from it.
    tolerance = 1e-2 * exact.abs().amax((0, 2)).clamp(min=1) + 1e-3
    assert ((reached - exact).abs().amax((0, 2)) <= tolerance).all(), (reached - exact).abs().amax((0, 2))
    torch.testing.assert_close(heads.project(exact, frame(metric)), exact, rtol=1e-6, atol=1e-6)


def test_infinite_raw_values_are_the_only_unusable_ones():
    metric = MadeUp(["a"], [lower("a")])
    assert run(metric, torch.tensor([[3e38, -3e38, 0.0, 80.0]])).isfinite().all()
    assert math.isclose(run(metric, torch.zeros((1, 4)))[0, 0, 0], 1.0)


@pytest.mark.parametrize(
    ("outputs", "constraints"),
    [
        (("a", "b"), [Identity("b", "b = a", lambda a: a, ("a",)), NonIncreasing("b")]),
        (("a", "b"), [Identity("b", "b = a", lambda a: a, ("a",)), AtLeast("b", "b >= 0", lambda: 0.0)]),
        (
            ("a", "c"),
            [AtLeast("c", "c >= a", lambda a: a, ("a",)), AtMost("c", "c <= 5", lambda: 5.0)],
        ),
    ],
)
def test_what_no_head_can_guarantee_is_refused(outputs, constraints):
    with pytest.raises(ArgumentError, match=r"^no head can guarantee [^\n]*leave one out$"):
        ConstrainedHeads(MadeUp(outputs, constraints))
