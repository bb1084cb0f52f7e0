"""The relaxed Minkowski curves against their plain form, finite differences and the exact curves."""

import itertools
import json
import math
from functools import partial

import drawn
import numpy as np
import pytest
import torch
from emuloss.emulators import RelaxedMinkowski, as_batch, geometric, relaxation
from emuloss.errors import ArgumentError
from emuloss.metrics import Metric, Minkowski
from torch import Tensor

THRESHOLDS = (0.2, 0.7, 1.5)
LOCAL = ("area", "perimeter", "euler")
ALL = (*LOCAL, "components", "holes")
TAIL = (0.25, 0.4)
SPACES = list(itertools.product(("closed", "open"), (1, 2)))
INF, NAN = math.inf, math.nan

every_space = pytest.mark.parametrize(("boundary", "connectivity"), SPACES)
with_and_without_tail = pytest.mark.parametrize("tail", [None, TAIL], ids=["one sigmoid", "tail"])


rain = partial(drawn.rain, law="smooth")


def surrogate(
    temperature=0.1, thresholds=THRESHOLDS, forward="soft", tail=None, **arguments
) -> RelaxedMinkowski:
    return RelaxedMinkowski(Minkowski(thresholds, **arguments), temperature, tail, forward, sizes(thresholds))


def exact(relaxed: RelaxedMinkowski, fields: Tensor) -> Tensor:
    return torch.from_numpy(relaxed.metric(fields.double().numpy()))


def sizes(thresholds) -> np.ndarray:
    """What temperatures are relative to here."""
    return np.array(drawn.spreads(thresholds))


# Two oracles. Soft masks of every threshold, the logical "and" written as the minimum:


def plain(fields: Tensor, metric: Minkowski, temperature) -> Tensor:
    u = torch.tensor(metric.thresholds, dtype=torch.float64)
    tau = torch.as_tensor(temperature, dtype=torch.float64) * torch.from_numpy(sizes(metric.thresholds))
    s = torch.sigmoid((fields.double()[:, None] - u[:, None, None]) / tau.expand(u.shape)[:, None, None])
    closed = torch.nn.functional.pad(s, (1, 1, 1, 1))
    world = closed if metric.boundary == "closed" else s

    def changes(a: Tensor, b: Tensor) -> Tensor:
        return (torch.maximum(a, b) - torch.minimum(a, b)).sum((-2, -1))

    straight = changes(world[..., 1:, :], world[..., :-1, :]) + changes(world[..., 1:], world[..., :-1])
    slanted = changes(world[..., 1:, 1:], world[..., :-1, :-1]) + changes(
        world[..., 1:, :-1], world[..., :-1, 1:]
    )
    corners = (closed[..., :-1, :-1], closed[..., :-1, 1:], closed[..., 1:, :-1], closed[..., 1:, 1:])
    down = torch.minimum(closed[..., 1:, :], closed[..., :-1, :]).sum((-2, -1))
    along = torch.minimum(closed[..., 1:], closed[..., :-1]).sum((-2, -1))
    pixels = s.sum((-2, -1))
    if metric.connectivity == 1:
        euler = pixels - down - along + torch.stack(corners).amin(0).sum((-2, -1))
    else:
        either = torch.maximum(closed[..., 1:, :], closed[..., :-1, :]).sum((-2, -1))
        other = torch.maximum(closed[..., 1:], closed[..., :-1]).sum((-2, -1))
        euler = torch.stack(corners).amax(0).sum((-2, -1)) - either - other + pixels
    a = metric.pixel_size
    perimeter = a * math.pi / 8 * (straight + slanted / math.sqrt(2))
    return torch.stack([a**2 * pixels, perimeter, euler], dim=1)


# And the mean of exact curves over thresholds with logistic noise. Exact curves are constant between
# the values of a field, so that the integral is a finite sum.


def membership(x: np.ndarray, metric: Minkowski, temperature, tail) -> np.ndarray:
    """Soft memberships (..., Q) of values x: the probability that the noisy threshold is at most x."""
    u = np.array(metric.thresholds)
    parts = [(1.0, temperature)] if tail is None else [(1 - tail[0], temperature), tail]
    z = [(share, (x[..., None] - u) / (np.asarray(relative) * sizes(u))) for share, relative in parts]
    return sum(share * (1 + np.tanh(each / 2)) / 2 for share, each in z)


def mean_over_noise(fields: Tensor, metric: Minkowski, temperature, tail=None) -> Tensor:
    """Soft curves of each field by their definition."""
    arguments = {name: a for name, a in metric.arguments().items() if name not in ("thresholds", "levels")}
    result = []
    for field in fields.double().numpy():
        values = np.unique(field)
        of_each = Minkowski(values, **arguments)(field[None])[
            0
        ]  # (C, values): between two, that of the upper
        chances = np.diff(membership(values, metric, temperature, tail), axis=0, prepend=0.0)
        result.append(of_each @ chances)
    return torch.from_numpy(np.array(result))


@every_space
@with_and_without_tail
@pytest.mark.parametrize("temperature", [0.003, 0.05, 0.2, 1.0, (0.1, 0.02, 0.3)], ids=str)
def test_is_the_mean_of_exact_curves_over_noise(boundary, connectivity, temperature, tail):
    space = {"boundary": boundary, "connectivity": connectivity, "outputs": ALL, "pixel_size": 2.0}
    relaxed = surrogate(temperature, tail=tail, **space)
    for fields in (
        rain(3, 17, 12),
        rain(2, 9, 14, seed=1, dtype=torch.float64),
        rain(1, 1, 9),
        rain(1, 1, 1),
    ):
        expected = mean_over_noise(fields, relaxed.metric, temperature, tail)
        # Euler numbers are small differences of counts, each interpolated to 2e-5 of its size.
        size = expected.abs().amax((0, 2), keepdim=True).clamp(min=10.0)
        assert ((relaxed(fields) - expected).abs() <= 1e-4 * size).all()


def test_monte_carlo_over_noisy_thresholds():
    relaxed, fields = surrogate(0.2, outputs=ALL), rain(1, 20, 20, dtype=torch.float64)
    noise = np.random.default_rng(0).logistic(size=4000)
    for q, u in enumerate(THRESHOLDS):
        draws = Minkowski(np.unique(u + 0.2 * sizes(THRESHOLDS)[q] * noise), outputs=ALL)(fields.numpy())[0]
        error = draws.std(1) / math.sqrt(len(noise))
        assert (np.abs(draws.mean(1) - relaxed(fields)[0, :, q].numpy()) < 4 * error + 0.02).all()


@every_space
@pytest.mark.parametrize("temperature", [0.003, 0.05, 0.2, 1.0, (0.1, 0.02, 0.3)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_agrees_with_the_plain_form(boundary, connectivity, temperature, dtype):
    relaxed = surrogate(temperature, boundary=boundary, connectivity=connectivity, pixel_size=2.0)
    fields = rain(3, 17, 12, dtype=dtype)
    expected = plain(fields, relaxed.metric, temperature)
    size = expected.abs().amax((0, 2), keepdim=True)
    assert ((relaxed(fields) - expected).abs() <= 1e-4 * size).all()


@every_space
def test_gradient_agrees_with_the_plain_form(boundary, connectivity):
    relaxed = surrogate(0.1, boundary=boundary, connectivity=connectivity)
    fields = rain(2, 13, 10, dtype=torch.float64).requires_grad_()
    weights = torch.randn((2, 3, 3), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (ours,) = torch.autograd.grad((relaxed(fields) * weights).sum(), fields)
    (theirs,) = torch.autograd.grad((plain(fields, relaxed.metric, 0.1) * weights).sum(), fields)
    assert (ours - theirs).norm() <= 2e-3 * theirs.norm()


@every_space
@with_and_without_tail
@pytest.mark.parametrize("temperature", [0.3, (0.2, 0.5, 0.9)], ids=str)
def test_gradient_by_finite_differences(boundary, connectivity, temperature, tail):
    relaxed = surrogate(temperature, tail=tail, boundary=boundary, connectivity=connectivity, outputs=ALL)
    # Without ties, at which the curves have no derivative.
    fields = 2 * torch.rand((1, 4, 5), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert torch.autograd.gradcheck(relaxed, fields.requires_grad_(), eps=1e-7, atol=1e-4)


@every_space
def test_tends_to_the_exact_curves(boundary, connectivity):
    relaxed = surrogate(boundary=boundary, connectivity=connectivity, outputs=ALL)
    fields = rain(8, 24, 24, dtype=torch.float64)
    errors = []
    for temperature in (0.3, 0.1, 0.03, 0.01, 0.003, 3e-4):
        relaxed.temperature = temperature
        errors.append((relaxed(fields) - exact(relaxed, fields)).abs().mean((0, 2)))
    assert (torch.stack(errors).diff(dim=0) <= 0).all()
    assert (errors[-1] < 0.1).all()


@every_space
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exact_forward_has_exact_values_and_the_soft_gradient(boundary, connectivity, dtype):
    arguments = {"boundary": boundary, "connectivity": connectivity, "pixel_size": 0.3, "outputs": ALL}
    soft, hard = surrogate(**arguments), surrogate(forward="exact", **arguments)
    fields = rain(2, 20, 20, dtype=dtype).requires_grad_()
    weights = torch.randn((2, 5, 3), generator=torch.Generator().manual_seed(3), dtype=dtype)
    torch.testing.assert_close(hard(fields), exact(hard, fields.detach()).to(dtype), rtol=1e-12, atol=1e-11)
    (ours,) = torch.autograd.grad((hard(fields) * weights).sum(), fields)
    (theirs,) = torch.autograd.grad((soft(fields) * weights).sum(), fields)
    assert torch.equal(ours, theirs)


def test_annealing():
    relaxed = surrogate(0.5)
    fields = rain(1, 16, 16)
    for progress in (0.0, 0.3, 1.0):
        relaxed.temperature = geometric(0.5, 0.01, progress)
        assert torch.equal(relaxed(fields), surrogate(relaxed.temperature)(fields))
    assert relaxed.temperature == pytest.approx(0.01)


def test_geometric():
    assert geometric(0.4, 0.1, 0.0) == 0.4
    assert geometric(0.4, 0.1, 0.5) == pytest.approx(0.2)
    assert geometric(0.4, 0.1, 1.0) == pytest.approx(0.1)
    assert geometric(0.4, 0.1, -3.0) == 0.4
    assert geometric(0.4, 0.1, 7.0) == pytest.approx(0.1)


# Components and holes, and the tail


@pytest.mark.parametrize("connectivity", [1, 2])
def test_the_gradient_of_components_stands_on_critical_pixels(connectivity):
    # Two peaks and the saddle between them; the slope of a membership at its threshold is 1/(4 tau).
    field = torch.tensor([[[0.0, 0, 0, 0, 0], [0, 3, 2, 3.5, 0], [0, 0, 0, 0, 0]]], dtype=torch.float64)
    relaxed = surrogate(0.05, (2.0, 3.0), outputs=("components", "holes"), connectivity=connectivity)
    field.requires_grad_()
    curves = relaxed(field)
    (at_saddle,) = torch.autograd.grad(curves[0, 0, 0], field, retain_graph=True)
    (at_peak,) = torch.autograd.grad(curves[0, 0, 1], field, retain_graph=True)
    assert at_saddle[0, 1, 2] == pytest.approx(-1 / (4 * 0.05 * 2), rel=2e-3)
    assert at_peak[0, 1, 1] == pytest.approx(1 / (4 * 0.05 * 3), rel=2e-3)
    assert at_peak[0, 1, 3] > 0
    critical = torch.zeros_like(field, dtype=torch.bool)
    critical[0, 1, 1:4] = True
    assert not (at_saddle + at_peak)[~critical].any()
    assert curves[0, 1].abs().max() < 1e-6


@every_space
def test_holes_are_components_less_euler(boundary, connectivity):
    relaxed = surrogate(outputs=ALL, boundary=boundary, connectivity=connectivity)
    _, _, euler, components, holes = relaxed(rain(3, 20, 20)).unbind(1)
    torch.testing.assert_close(holes, components - euler, rtol=1e-6, atol=1e-5)


def test_components_alone():
    fields = rain(2, 16, 16)
    assert torch.equal(surrogate(outputs=["components"])(fields)[:, 0], surrogate(outputs=ALL)(fields)[:, 3])


@with_and_without_tail
@pytest.mark.parametrize("temperature", [0.05, 0.5, (0.1, 0.05, 0.3)], ids=str)
def test_steepest_slope_of_each_membership(temperature, tail):
    relaxed = surrogate(temperature, tail=tail, outputs=["area"])
    u = torch.tensor(THRESHOLDS, dtype=torch.float64)
    # One pixel's area is its membership.
    steps = torch.linspace(-0.3, 0.3, 1501, dtype=torch.float64)
    share, hotter = tail or (0.0, 1.0)
    for q, cold in enumerate(np.broadcast_to(temperature, len(u))):
        size = sizes(THRESHOLDS)[q]
        expected = ((1 - share) / cold + share / hotter) / (4 * size)
        x = u[q] + size * steps
        memberships = relaxed(x[:, None, None])[:, 0, q]
        slope = (memberships.diff() / x.diff()).max()
        assert slope == pytest.approx(expected, rel=2e-3)


def test_a_tail_reaches_further_and_costs_little():
    field = torch.full((1, 1, 1), 0.4, dtype=torch.float64, requires_grad=True)
    reached = []
    for tail in (None, TAIL):
        (gradient,) = torch.autograd.grad(surrogate(0.01, tail=tail, outputs=["area"])(field).sum(), field)
        reached.append(gradient.item())
    assert reached[0] < 1e-6 < 0.1 < reached[1]


def test_a_tail_as_hot_as_the_sigmoid_changes_nothing():
    fields = rain(2, 9, 9)
    torch.testing.assert_close(surrogate(0.2, tail=(0.3, 0.2))(fields), surrogate(0.2)(fields))


def test_equal_temperatures_say_the_same_as_one():
    fields = rain(2, 9, 9)
    assert torch.equal(surrogate(0.2)(fields), surrogate([0.2] * 3)(fields))


# Thresholds


@every_space
@pytest.mark.parametrize("thresholds", [(-3.0, -0.5), (-1.0, 0.0, 1.0), (0.0,), (0.0, 0.4)], ids=str)
def test_thresholds_of_any_sign(thresholds, boundary, connectivity):
    generator = torch.Generator().manual_seed(5)
    fields = 2 * torch.randn((4, 16, 16), generator=generator, dtype=torch.float64)
    relaxed = surrogate(1e-4, thresholds, boundary=boundary, connectivity=connectivity)
    torch.testing.assert_close(relaxed(fields), exact(relaxed, fields), rtol=0.01, atol=0.3)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_scaling_fields_and_thresholds_changes_nothing(factor):
    fields = rain(2, 16, 16, dtype=torch.float64)
    scaled = surrogate(thresholds=[factor * u for u in THRESHOLDS])(factor * fields)
    torch.testing.assert_close(scaled, surrogate()(fields), rtol=1e-9, atol=1e-9)


# Fields at the edge of sense


@every_space
@pytest.mark.parametrize("thresholds", [THRESHOLDS, (-1.0, 0.5)], ids=["positive", "mixed"])
def test_nan_is_dry_and_gets_no_gradient(thresholds, boundary, connectivity):
    fields = rain(2, 12, 12)
    fields[:, 2:5, 3:6] = NAN
    fields[1, 0, 0] = NAN
    relaxed = surrogate(0.02, thresholds, boundary=boundary, connectivity=connectivity, outputs=ALL)
    dry = torch.where(fields.isnan(), -INF, fields)
    assert torch.equal(relaxed(fields), relaxed(dry))
    torch.testing.assert_close(relaxed(fields).double(), exact(relaxed, fields), rtol=0.2, atol=3.0)
    relaxed(fields.requires_grad_()).sum().backward()
    assert fields.grad.isfinite().all()
    assert (fields.grad[fields.isnan()] == 0).all()
    assert fields.grad.count_nonzero()


@every_space
@pytest.mark.parametrize("value", [0.0, 50.0, -7.0, INF, -INF, NAN, 1e30, 3e38])
@pytest.mark.parametrize("shape", [(6, 7), (1, 5), (5, 1), (1, 1)], ids=str)
def test_uniform_fields_are_exact(value, shape, boundary, connectivity):
    fields = torch.full((1, *shape), value, requires_grad=True)
    relaxed = surrogate(0.05, boundary=boundary, connectivity=connectivity, outputs=ALL)
    curves = relaxed(fields)
    torch.testing.assert_close(curves.double(), exact(relaxed, fields.detach()), rtol=1e-5, atol=1e-4)
    curves.sum().backward()
    assert fields.grad.abs().max() < 1e-4


@every_space
@pytest.mark.parametrize("shape", [(1, 40), (40, 1)], ids=str)
def test_thin_fields(shape, boundary, connectivity):
    generator = torch.Generator().manual_seed(6)
    fields = 2 * torch.rand((3, *shape), generator=generator, dtype=torch.float64)
    relaxed = surrogate(1e-5, boundary=boundary, connectivity=connectivity, outputs=ALL)
    torch.testing.assert_close(relaxed(fields), exact(relaxed, fields), rtol=0.01, atol=0.05)


def test_extreme_pixels_do_not_spoil_their_neighbours():
    fields = rain(1, 10, 10)
    fields[0, 4, 4], fields[0, 7, 2] = INF, 1e35
    fields.requires_grad_()
    surrogate(outputs=ALL)(fields).sum().backward()
    assert fields.grad.isfinite().all()
    assert fields.grad[0, 4, 4] == 0
    assert fields.grad.count_nonzero() > 20


def test_empty_batch():
    fields = torch.zeros((0, 8, 8), requires_grad=True)
    for forward in ("soft", "exact"):
        curves = surrogate(forward=forward, outputs=ALL)(fields)
        assert curves.shape == (0, 5, 3)
        curves.sum().backward()


# Symmetries and formats


@every_space
@pytest.mark.parametrize("quantum", [0.0, 0.1], ids=["continuous", "ties"])
def test_turning_the_field_turns_the_gradient(quantum, boundary, connectivity):
    # Of tied pixels the first in raster order starts a component, whichever way the field is turned.
    outputs = LOCAL if quantum else ALL
    relaxed = surrogate(0.3, boundary=boundary, connectivity=connectivity, outputs=outputs)
    fields = rain(2, 9, 12, dtype=torch.float64)
    if quantum:
        fields = (fields / quantum).round() * quantum
    else:
        fields = fields + 1e-3 * torch.randperm(fields.numel()).reshape(fields.shape)  # nor dry ones tie

    def look(x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.contiguous().requires_grad_()
        curves = relaxed(x)
        return curves.detach(), torch.autograd.grad(curves.square().sum(), x)[0]

    curves, gradient = look(fields)
    for turns, mirrored in itertools.product(range(4), (False, True)):

        def move(x: Tensor, turns=turns, mirrored=mirrored) -> Tensor:
            return torch.rot90(x.flip(2) if mirrored else x, turns, (1, 2))

        moved_curves, moved_gradient = look(move(fields))
        torch.testing.assert_close(moved_curves, curves, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(moved_gradient, move(gradient), rtol=1e-7, atol=1e-7)


def test_channel_axis_and_dtypes():
    relaxed, fields = surrogate(), rain(3, 8, 8)
    expected = relaxed(fields)
    assert expected.dtype == torch.float32
    assert torch.equal(relaxed(fields[:, None]), expected)
    assert relaxed(fields.double()).dtype == torch.float64
    for narrow in (torch.float16, torch.bfloat16):
        assert torch.equal(relaxed(fields.to(narrow)), relaxed(fields.to(narrow).float()))


def test_autocast_computes_in_float32():
    relaxed, fields = surrogate(), rain(2, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        curves = relaxed(fields)
    assert curves.dtype == torch.float32
    assert torch.equal(curves, relaxed(fields))


def test_outputs_follow_the_metric():
    fields = rain(2, 8, 8)
    area, perimeter, euler = surrogate()(fields).unbind(1)
    chosen = surrogate(outputs=("euler", "area"))(fields)
    assert torch.equal(chosen, torch.stack([euler, area], 1))
    assert surrogate(outputs=["perimeter"])(fields).shape == (2, 1, 3)
    assert torch.equal(surrogate(outputs=["perimeter"])(fields)[:, 0], perimeter)


@every_space
def test_turning_a_field_with_ties_leaves_its_components(boundary, connectivity):
    relaxed = surrogate(0.3, boundary=boundary, connectivity=connectivity, outputs=("components", "holes"))
    fields = (rain(3, 12, 12, dtype=torch.float64) / 0.1).round() * 0.1
    expected = relaxed(fields)
    for turns in range(1, 4):
        torch.testing.assert_close(relaxed(fields.rot90(turns, (1, 2))), expected, rtol=1e-9, atol=1e-9)


def test_memberships_are_no_part_of_the_state():
    assert not surrogate().state_dict()


@pytest.mark.parametrize("temperature", [0.2, (0.1, 0.2, 0.3)])
@pytest.mark.parametrize("forward", ["soft", "exact"])
@with_and_without_tail
def test_arguments_build_it_again(temperature, forward, tail):
    relaxed, fields = surrogate(temperature, forward=forward, tail=tail), rain(1, 8, 8)
    again = relaxation(relaxed.metric, **json.loads(json.dumps(relaxed.arguments())))
    assert torch.equal(again(fields), relaxed(fields))
    assert again.arguments() == relaxed.arguments()


# Errors


def raises_one_line(pattern: str):
    return pytest.raises(ArgumentError, match=rf"^[^\n]*{pattern}[^\n]*$")


@pytest.mark.parametrize("temperature", [0, -0.1, INF, NAN, None, "warm", [], [0.1, 0.2], [0.1, 0.2, 0]])
def test_bad_temperatures_are_refused(temperature):
    with raises_one_line("temperature must be one positive number, or one for each of 3"):
        surrogate(temperature)
    relaxed = surrogate(0.1)
    with raises_one_line("temperature"):
        relaxed.temperature = temperature
    assert relaxed.temperature == 0.1


@pytest.mark.parametrize(
    "tail",
    [(0.0, 0.1), (1.0, 0.1), (0.2, 0.0), (0.2, INF), (0.2, NAN), (NAN, 0.1), (0.2,), 0.2, "hot", ("a", "b")],
)
def test_bad_tails_are_refused(tail):
    with raises_one_line("tail must be a share between 0 and 1 and a positive temperature, or None, got"):
        surrogate(tail=tail)


def test_temperatures_too_cold_for_the_table_are_refused():
    with raises_one_line("temperature .* is too small"):
        surrogate(1e-9)
    with raises_one_line("is too small"):
        surrogate(0.1, tail=(0.5, 1e-9))


def test_bad_forward_is_refused():
    with raises_one_line("forward must be one of soft, exact, got 'hard'"):
        surrogate(forward="hard")


@pytest.mark.parametrize(
    ("fields", "pattern"),
    [
        (np.zeros((1, 4, 4)), "torch tensor, got ndarray"),
        (torch.zeros((4, 4)), r"shape .*got \(4, 4\)"),
        (torch.zeros((1, 2, 4, 4)), r"got \(1, 2, 4, 4\)"),
        (torch.zeros((1, 0, 4)), r"got \(1, 0, 4\)"),
        (torch.zeros((1, 4, 4), dtype=torch.int64), "floating point, got torch.int64"),
        (torch.zeros((1, 4, 4), dtype=torch.complex64), "floating point, got torch.complex64"),
    ],
)
def test_bad_fields_are_refused(fields, pattern):
    for function in (surrogate(), as_batch):
        with raises_one_line(pattern):
            function(fields)


def test_metrics_without_a_relaxation_are_refused():
    class Other(Metric):
        name = "other"

        def arguments(self):
            return {}

        def _compute(self, fields):
            raise NotImplementedError

    with raises_one_line("no relaxation of metric 'other' is known"):
        relaxation(Other())
