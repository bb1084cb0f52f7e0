"""One surrogate for every unit: x -> a x + b of fields and thresholds together changes no curve.

And spreads, which temperatures are relative to: what the data and the thresholds tell of them.
"""

import emuloss
import numpy as np
import pytest
import torch
from drawn import rain
from emuloss.emulators import (
    ARCHITECTURES,
    lesser_spreads,
    relaxation,
    signed_log1p,
    spreads_between,
    spreads_in,
)
from emuloss.emulators.spreads import spreads_at
from emuloss.errors import ArgumentError
from emuloss.metrics import CSI, FSS, BoxCount, Minkowski
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

ALL = ("area", "perimeter", "euler", "components", "holes")
KINDS = {
    "minkowski": lambda u: Minkowski(u, outputs=ALL),
    "minkowski, open, diagonal": lambda u: Minkowski(u, outputs=ALL, boundary="open", connectivity=2),
    "fss": lambda u: FSS(u, windows=(1, 5)),
    "csi": CSI,
    "boxcount": lambda u: BoxCount(u, scales=(1, 2, 4)),
}
NAN = float("nan")
EXAMPLES = settings(max_examples=6, deadline=None, derandomize=True)

units = given(
    a=st.floats(-3, 3).map(lambda k: 10.0**k),
    b=st.floats(-1000, 1000),
    steps=st.lists(st.floats(0.2, 2), min_size=0, max_size=4),
    lowest=st.sampled_from([-1.5, -0.4, 0.0, 0.3]),
)


def thresholds_of(lowest: float, steps: list[float]) -> np.ndarray:
    return lowest + np.cumsum([0.0, *steps])


def smooth_fields(arity: int) -> Tensor:
    """Smooth fields of mean 0 and standard deviation 1, or pairs, in double precision, with missing
    pixels."""
    noise = torch.randn((3 * arity, 24, 24), generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    fields = torch.nn.functional.avg_pool2d(noise[:, None], 3, stride=1, padding=1)[:, 0]
    fields = fields / fields.std()
    fields[0, 3:6, 2:9] = NAN
    return fields if arity == 1 else fields.view(3, 2, 24, 24)


def looked_at(module: torch.nn.Module, fields: Tensor) -> tuple[Tensor, Tensor]:
    """Curves, and the gradient of their sum on the signed-log scale."""
    fields = fields.clone().requires_grad_()
    curves = module(fields)
    (gradient,) = torch.autograd.grad(signed_log1p(curves).sum(), fields)
    return curves.detach(), gradient


def assert_moves_with_its_field(build, u: np.ndarray, fields: Tensor, a: float, b: float, accuracy: float):
    here, slope = looked_at(build(u), fields)
    there, slope_there = looked_at(build(a * u + b), a * fields + b)
    torch.testing.assert_close(there, here, rtol=accuracy, atol=accuracy * float(here.abs().max()))
    torch.testing.assert_close(
        a * slope_there, slope, rtol=accuracy, atol=accuracy * float(slope.abs().max()) + 1e-12
    )


def accuracy_of(a: float, b: float) -> float:
    """What rounding leaves of 1e-9 where an offset is many spreads large: 16 digits, less those of b / a."""
    return 1e-9 * max(1.0, abs(b) / a / 1e3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [0.02, 0.3])
@EXAMPLES
@units
@example(a=1.0, b=273.15, steps=[0.7, 0.7, 0.7], lowest=-1.0)
@example(a=255.0, b=0.0, steps=[0.5], lowest=0.0)
@example(a=10.0, b=-30.0, steps=[], lowest=0.0)
def test_relaxations_do_not_know_the_unit(kind, temperature, a, b, steps, lowest):
    def build(u):
        return relaxation(KINDS[kind](u.tolist()), temperature=temperature)

    fields = smooth_fields(KINDS[kind]([1.0]).arity)
    assert_moves_with_its_field(build, thresholds_of(lowest, steps), fields, a, b, accuracy_of(a, b))


@EXAMPLES
@units
def test_excursions_do_not_know_the_unit(a, b, steps, lowest):
    def build(u):
        return ARCHITECTURES["excursion"](Minkowski(u.tolist(), outputs=ALL))

    u = thresholds_of(lowest, steps)
    # Ten times as cold as a relaxation.
    assert_moves_with_its_field(build, u, smooth_fields(1), a, b, 10 * accuracy_of(a, b))


@pytest.mark.parametrize("arch", ["hybrid", "constrained", "certified"])
@pytest.mark.parametrize(("a", "b"), [(2.0, 256.0), (0.0625, 0.0), (8.0, -32.0)])
def test_networks_do_not_know_the_unit(arch, a, b):
    """Their buffers are single, which powers of two and small sums leave exact."""
    u = np.array([-1.0, -0.25, 0.5, 1.0])

    def build(at):
        torch.manual_seed(0)
        module = ARCHITECTURES[arch](Minkowski(at.tolist(), outputs=ALL), widths=(8, 16), hidden=16)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        return module.double().eval()

    assert_moves_with_its_field(build, u, smooth_fields(1), a, b, 1e-6)


# Spreads


def test_half_of_the_pixels_lie_within_the_spread():
    fields = np.random.default_rng(0).gumbel(size=(3, 40, 50))
    thresholds = (-1.0, 0.0, 2.5)
    for u in thresholds:
        (spread,) = spreads_in(fields, [u])
        assert (np.abs(fields - u) <= spread).mean() == pytest.approx(0.5, abs=1e-3)


def test_of_rain_most_of_it_dry_spreads_are_the_thresholds():
    fields = np.where(np.random.default_rng(0).random((4, 32, 32)) < 0.7, 0.0, rain(4).numpy())
    fields[0, :3] = np.nan
    for u in (0.1, 0.5, 5.0):
        assert spreads_in(fields, [u]) == pytest.approx((u,))


def test_a_value_that_most_pixels_have_far_away_does_not_count_where_thresholds_tell():
    """Of reflectivity, dry at -32 dBZ, the distance to that says nothing of its showers."""
    fields = np.where(np.random.default_rng(0).random((4, 32, 32)) < 0.8, -32.0, 20 + 5 * rain(4).numpy())
    thresholds = (21.0, 23.0, 26.0)
    assert lesser_spreads(fields, thresholds) == spreads_between(thresholds, ())
    assert max(lesser_spreads(fields, thresholds)) < 5 < min(spreads_in(fields, thresholds))


def test_a_large_sample_is_taken_from_every_column():
    fields = np.full((40, 256, 512), 2.0, np.float32)
    fields[:, :, 0] = np.nan
    fields[:, :, 300:] = 8.0
    assert spreads_in(fields, (0.5,)) == pytest.approx((1.5,))


def test_where_most_pixels_equal_a_threshold_the_mean_distance_tells():
    fields = np.zeros((1, 10, 10))
    fields[0, 0] = 3.0
    assert spreads_in(fields, (0.0,)) == pytest.approx((0.3,))


@pytest.mark.parametrize("fields", [np.full((2, 3), np.nan), np.ones((2, 3)), np.zeros((0, 3))])
def test_fields_that_tell_nothing_are_refused(fields):
    with pytest.raises(ArgumentError, match="say nothing about the data around thresholds"):
        spreads_in(fields, (1.0,))


@pytest.mark.parametrize("law", [stats.uniform, stats.norm, stats.expon], ids=lambda law: law.name)
def test_thresholds_at_quantiles_tell_the_spreads_of_their_data(law):
    """Where the density does not bend much within a spread, both ways to find it agree."""
    values = law.rvs(size=200_000, random_state=0)
    levels = np.linspace(0.3, 0.7, 9)
    thresholds = np.quantile(values, levels)
    told = spreads_between(thresholds, levels)
    alone = [spreads_in(values, [u])[0] for u in thresholds]
    assert np.array(told) == pytest.approx(alone, rel=0.35)


@pytest.mark.parametrize("thresholds", [(0.1, 1.0, 5.0, 20.0), (0.1, 1.0), (0.105, 0.5, 1.0, 5.0)])
def test_spreads_of_few_thresholds_leave_zero_dry(thresholds):
    """The relaxed area of a dry field is less than a thousandth of the field, though 0 is told nobody."""
    relaxed = relaxation(Minkowski(thresholds, outputs=["area"]), temperature=0.02)
    assert relaxed(torch.zeros(1, 64, 64)).max() <= 64**2 / 1000


def test_a_lone_threshold_is_told_by_each_field_alone():
    metric = Minkowski([280.0], outputs=["area", "components"])
    kelvin = 281 + 3 * smooth_fields(1)
    relaxed = relaxation(metric)
    torch.testing.assert_close(relaxed(kelvin)[1:2], relaxed(kelvin[1:2]))
    torch.testing.assert_close(relaxed(kelvin), torch.from_numpy(metric(kelvin.numpy())), rtol=0.1, atol=3.0)
    for odd in (torch.full((1, 5, 5), 280.0), torch.full((1, 5, 5), NAN), torch.zeros(0, 5, 5)):
        odd.requires_grad_()
        relaxed(odd).sum().backward()
        assert odd.grad.isfinite().all()


def test_networks_of_a_lone_threshold_have_to_be_told():
    for arch in ("hybrid", "certified"):
        with pytest.raises(ArgumentError, match=r"^a network for the lone threshold 0\.5 needs spreads="):
            ARCHITECTURES[arch](Minkowski([0.5]))
        ARCHITECTURES[arch](Minkowski([0.5]), spreads=[0.5])


@pytest.mark.parametrize(
    "spreads", [(1.0,), (1.0, 0.0), (1.0, -2.0), (1.0, NAN), (1.0, float("inf")), "ab", 3]
)
def test_bad_spreads_are_refused(spreads):
    for build in (relaxation, ARCHITECTURES["excursion"], ARCHITECTURES["hybrid"]):
        with pytest.raises(ArgumentError, match=r"^spreads must be one positive number for each of 2"):
            build(Minkowski([0.5, 1.0]), spreads=spreads)


def test_other_thresholds_of_the_same_data_keep_its_spreads():
    """Of rain, whose spreads are its thresholds; not of thresholds out of its reach, such as those of
    another unit."""
    known = (0.1, 0.5, 2.0, 10.0)
    assert spreads_at((0.1, 0.3, 5.0, 30.0), known, known) == pytest.approx((0.1, 0.3, 5.0, 30.0))
    assert spreads_at((270.0, 280.0), known, known) is None
    assert spreads_at((-1.0, 1.0), known, known) is None
    rainy = ARCHITECTURES["excursion"](Minkowski(known), spreads=known)
    assert rainy.at(Minkowski((0.2, 1.0))).spreads == pytest.approx((0.2, 1.0))
    assert rainy.at(Minkowski((270.0, 280.0, 290.0))).spreads == spreads_between(
        (270.0, 280.0, 290.0), Minkowski((270.0, 280.0, 290.0)).levels
    )
    assert rainy.at(Minkowski((280.0,))).in_own_spread


def test_a_sample_of_fields_tells_relax_what_training_would_be_told():
    metric, fields = Minkowski([0.2, 1.0, 3.0], levels=[0.1, 0.4, 0.9]), 3 * rain(8).numpy()
    told = emuloss.relax(metric, fields=fields).module.spreads
    assert told == lesser_spreads(fields, metric.thresholds, metric.levels)
    with pytest.raises(ArgumentError, match="fields or spreads, not both"):
        emuloss.relax(metric, fields=fields, spreads=told)
    amplitude = emuloss.metric("sal", outputs=["amplitude"])
    with pytest.raises(ArgumentError, match="'sal' takes no fields"):
        emuloss.relax(amplitude, fields=fields)
    assert relaxation(amplitude).at(amplitude).metric == amplitude


def test_many_thresholds_can_be_annealed():
    relaxed = ARCHITECTURES["excursion"](Minkowski(np.linspace(-4, 4, 500).tolist(), outputs=["area"]))
    for temperature in (0.2, 0.05, 0.5):
        relaxed.temperature = temperature


# Derivatives


@pytest.mark.parametrize("kind", ["minkowski", "minkowski, open, diagonal"])
def test_second_derivatives_of_relaxations_by_finite_differences_of_the_gradient(kind):
    fields = smooth_fields(1)[1:2, :7, :8].contiguous().requires_grad_()
    module = relaxation(KINDS[kind]([-0.5, 0.2, 0.9]), temperature=0.3)

    def gradient_at(x: Tensor, create_graph: bool = False) -> Tensor:
        return torch.autograd.grad(signed_log1p(module(x)).sum(), x, create_graph=create_graph)[0]

    direction = torch.randn(fields.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (exact,) = torch.autograd.grad((gradient_at(fields, True) * direction).sum(), fields)
    step = 1e-6
    there, here = (
        gradient_at((fields.detach() + sign * step * direction).requires_grad_()) for sign in (1, -1)
    )
    torch.testing.assert_close(
        (there - here) / (2 * step), exact, rtol=1e-3, atol=1e-3 * float(exact.abs().max())
    )


def test_the_second_derivative_of_the_area_is_that_of_the_sigmoid():
    x = torch.linspace(0.7, 1.3, 25, dtype=torch.float64).view(1, 5, 5).requires_grad_()
    area = relaxation(Minkowski([1.0], outputs=["area"]), temperature=0.05, spreads=[1.0])(x).sum()
    (first,) = torch.autograd.grad(area, x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    s = torch.sigmoid((x.detach() - 1) / 0.05)
    right = s * (1 - s) * (1 - 2 * s) / 0.05**2
    torch.testing.assert_close(second, right, rtol=0, atol=0.02 * float(right.abs().max()))


def test_the_gradient_does_not_jump():
    """Central differences of 1e-4 on a field in [0, 1] agree with the gradient as closely as those of a
    sigmoid."""
    fields = torch.rand((1, 12, 12), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    module = relaxation(Minkowski([0.2, 0.5, 0.8], outputs=ALL), temperature=0.2)
    direction = torch.randn(fields.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    direction /= direction.norm()
    x = fields.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(signed_log1p(module(x)).sum(), x)
    change = signed_log1p(module(fields + 1e-4 * direction)) - signed_log1p(module(fields - 1e-4 * direction))
    assert float(change.sum()) / 2e-4 == pytest.approx(float((gradient * direction).sum()), abs=1e-4)
