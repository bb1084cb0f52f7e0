"""The soft histogram's CPU kernels against the differentiable torch operations of other devices."""

import itertools

import numpy as np
import pytest
import torch
from emuloss.emulators.soft import BACKENDS, Anywhere, Compiled, backend, node_positions, soft_histogram
from emuloss.emulators.soft.anywhere import histogram as histogram_by_torch
from emuloss.emulators.soft.backend import backend_for
from emuloss.emulators.soft.changes import component_changes as changes_op
from emuloss.emulators.soft.operators import histogram as cpu_histogram
from emuloss.emulators.soft.operators import histogram_backward, place, place_backward
from emuloss.metrics.kernels.excursions import component_changes
from emuloss.metrics.kernels.rows import COMPONENTS, LOCAL_ROWS, ROWS
from scipy.interpolate import BSpline
from skimage.measure import label

NODES = 9
TOP = NODES - 3
"""The highest place."""
OPTIONS = list(itertools.product((False, True), repeat=2))
SHAPES = [(3, 7, 5), (2, 1, 6), (2, 6, 1), (1, 1, 1), (2, 2, 2)]
TOLERANCES = {torch.float32: 2e-5, torch.float64: 1e-12}

both_options = pytest.mark.parametrize(("touched", "degrees"), OPTIONS)
both_precisions = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def positions(kind: str, shape=(3, 7, 5), dtype=torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    uniform = torch.rand(shape, generator=generator, dtype=dtype)
    if kind == "random":
        return uniform * TOP
    if kind == "some outside":
        return ((2 * uniform - 1) * TOP).clamp(min=0)
    if kind == "ties":  # few distinct values, halfway between nodes
        return (3 * uniform).floor() * 2 + 0.5 * (uniform > 0.4)
    if kind == "on nodes":
        return (uniform * NODES).floor().clamp(max=TOP)
    return torch.full(shape, {"lowest": 0.0, "highest": TOP}[kind], dtype=dtype)


def changes_of(position: torch.Tensor, touched: bool) -> torch.Tensor:
    return torch.from_numpy(component_changes(position.contiguous().numpy(), touched))


def with_gradient(function, position, *arguments, weights):
    """A function's value and the gradient of its weighted sum."""
    position = position.clone().requires_grad_()
    result = function(position, *arguments)
    (gradient,) = torch.autograd.grad((result * weights).sum(), position)
    return result.detach(), gradient


@both_precisions
@both_options
@pytest.mark.parametrize("kind", ["random", "some outside", "ties", "on nodes", "lowest", "highest"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernels_equal_torch_operations(kind, shape, touched, degrees, dtype):
    position = positions(kind, shape, dtype)
    changes = changes_of(position, touched)
    weights = torch.randn((shape[0], ROWS, NODES), generator=torch.Generator().manual_seed(1), dtype=dtype)
    ours = with_gradient(cpu_histogram, position, changes, NODES, touched, degrees, weights=weights)
    theirs = with_gradient(histogram_by_torch, position, changes, NODES, touched, degrees, weights=weights)
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == dtype
        torch.testing.assert_close(a, b, rtol=TOLERANCES[dtype], atol=TOLERANCES[dtype])


def test_a_tie_shares_the_gradient():
    position = torch.full((1, 1, 2), 2.5, dtype=torch.float64)
    weights = torch.zeros((1, ROWS, NODES), dtype=torch.float64)
    weights[0, 1] = torch.arange(NODES)  # the axial pair alone; a spline of such coefficients has slope 1
    changes = torch.zeros_like(position)
    _, gradient = with_gradient(cpu_histogram, position, changes, NODES, False, False, weights=weights)
    assert gradient.tolist() == [[[0.5, 0.5]]]


def test_counts_of_a_drawn_field():
    # A square of 2 x 2 pixels: 4 pixels, 4 axial and 2 diagonal pairs, 1 block inside, 9 touched.
    position = torch.zeros((1, 4, 4))
    position[0, 1:3, 1:3] = 3.25
    # The values at 3.25 of the cubic B-splines, by SciPy, whose knots begin 3 places before the first
    # interval.
    splines = BSpline(np.arange(-3, NODES + 1), np.eye(NODES), 3)(3.25)
    for touched, blocks in ((False, 1), (True, 9)):
        histogram = soft_histogram(position, NODES, touched=touched, degrees=True, components=True)[0]
        expected = np.outer([4, 4, 2, blocks, 16, 16, 1], splines)
        np.testing.assert_allclose(histogram.numpy(), expected, rtol=1e-6, atol=1e-7)
        assert (histogram.numpy()[:, expected[0] == 0] == 0).all()


def test_two_peaks_start_components_and_their_saddle_joins_them():
    position = torch.tensor([[[5.0, 3.0, 6.0]]], dtype=torch.float64)
    weights = torch.zeros((1, ROWS, NODES), dtype=torch.float64)
    # The spline through k^2 at place k - 1 is (p + 1)^2 and a constant, of slope 2 (p + 1).
    weights[0, COMPONENTS] = torch.arange(NODES) ** 2
    changes = changes_of(position, False)
    found, gradient = with_gradient(cpu_histogram, position, changes, NODES, False, False, weights=weights)
    at_place = [1 / 6, 2 / 3, 1 / 6]  # the splines of nodes p to p + 2
    expected = np.zeros(NODES)
    for at, change in ((5, 1), (3, -1), (6, 1)):
        expected[at : at + 3] += change * np.array(at_place)
    np.testing.assert_allclose(found[0, COMPONENTS], expected, atol=1e-12)
    torch.testing.assert_close(gradient, torch.tensor([[[12.0, -8.0, 14.0]]], dtype=torch.float64))


@both_options
def test_rows_not_asked_for_stay_empty(touched, degrees):
    position = positions("random")
    for components in (False, True):
        histogram = soft_histogram(position, NODES, touched=touched, degrees=degrees, components=components)
        filled = histogram.count_nonzero((0, 2)) > 0
        assert filled.tolist() == [True] * 4 + [degrees] * (LOCAL_ROWS - 4) + [components]


@both_options
def test_the_component_row_leaves_the_others_alone(touched, degrees):
    options = {"touched": touched, "degrees": degrees}
    position = positions("ties")
    without, with_it = (soft_histogram(position, NODES, components=c, **options) for c in (False, True))
    assert torch.equal(with_it[:, :LOCAL_ROWS], without[:, :LOCAL_ROWS])


@pytest.mark.parametrize("touched", [False, True])
@pytest.mark.parametrize("kind", ["random", "some outside", "ties"])
def test_component_row_sums_to_the_components_of_all_that_is_inside(kind, touched):
    position = positions(kind, (4, 7, 9))
    row = soft_histogram(position, NODES, touched=touched, degrees=False, components=True)[:, COMPONENTS]
    sets = [label(field.numpy() > 0, connectivity=1 + touched).max() for field in position]
    torch.testing.assert_close(row.sum(1), torch.tensor(sets, dtype=row.dtype))


@both_options
def test_gradient_by_finite_differences(touched, degrees):
    position = positions("random").requires_grad_()
    assert torch.autograd.gradcheck(
        lambda p: soft_histogram(p, NODES, touched=touched, degrees=degrees, components=True), position
    )


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own
@both_precisions
@both_options
def test_operators_are_sound(touched, degrees, dtype):
    position = positions("random", dtype=dtype)
    gradient = torch.ones((len(position), ROWS, NODES), dtype=dtype)
    for layout in (position, position.transpose(1, 2), position[:, ::2]):
        changes = changes_of(layout, touched)
        arguments = (changes, NODES, touched, degrees)
        torch.library.opcheck(cpu_histogram, (layout.clone().requires_grad_(), *arguments))
        torch.library.opcheck(cpu_histogram, (layout, *arguments))
        torch.library.opcheck(histogram_backward, (layout, changes, gradient, touched, degrees))
        torch.library.opcheck(changes_op, (layout, touched))


@both_precisions
def test_layout_does_not_matter(dtype):
    position = positions("random", (2, 6, 8), dtype).transpose(1, 2)
    weights = torch.randn((2, ROWS, NODES), generator=torch.Generator().manual_seed(2), dtype=dtype)
    changes = changes_of(position, False)
    strided = with_gradient(cpu_histogram, position, changes, NODES, False, True, weights=weights)
    packed = with_gradient(cpu_histogram, position.contiguous(), changes, NODES, False, True, weights=weights)
    for a, b in zip(strided, packed, strict=True):
        assert torch.equal(a, b)


@both_precisions
@both_options
def test_empty_batch(touched, degrees, dtype):
    for function in (cpu_histogram, histogram_by_torch):
        position = torch.zeros((0, 4, 5), dtype=dtype, requires_grad=True)
        result = function(position, changes_of(position.detach(), touched), NODES, touched, degrees)
        assert result.shape == (0, ROWS, NODES)
        result.sum().backward()
        assert position.grad.shape == position.shape


def test_the_kernels_do_the_work_on_the_cpu():
    assert set(BACKENDS) == {"compiled", "anywhere", "export"}
    assert isinstance(backend_for(torch.zeros(1, 2, 2)), Compiled)
    assert type(backend_for(torch.zeros(1, 2, 2, device="meta"))) is Anywhere


def test_threads_change_nothing():
    # Large enough to be split into batches.
    position = positions("random", (5, 160, 180))
    options = {"touched": False, "degrees": False, "components": True}
    whole = soft_histogram(position, NODES, **options)
    apart = torch.cat([soft_histogram(p[None], NODES, **options) for p in position])
    assert torch.equal(whole, apart)


# Places on the axis of nodes

AXIS = torch.tensor([0.0, 0.1, -1.5, 0.01], dtype=torch.float64)
"""Center, scale, origin and step: from x = -0.21 to x = 4.5 at the last of these places."""
PLACES = 600


def places_by_torch(fields: torch.Tensor) -> torch.Tensor:
    center, scale, origin, step = AXIS
    return ((torch.asinh((fields - center) / scale) - origin) / step).clamp(0, PLACES - 3)


def values(dtype) -> torch.Tensor:
    """Both signs, both ends of the axis and beyond."""
    generator = torch.Generator().manual_seed(3)
    some = torch.randn((3, 8, 9), generator=generator, dtype=dtype)
    some[0, 0] = torch.tensor([0.0, -0.0, 1e-30, -1e-30, 1e30, -1e30, 4.4, 5.0, -0.3], dtype=dtype)
    return some


@both_precisions
def test_places_equal_torch_operations(dtype):
    fields = values(dtype).requires_grad_()
    ours, theirs = node_positions(fields, AXIS, PLACES), places_by_torch(fields.double())
    assert ours.dtype == dtype
    assert ours.min() == 0
    assert ours.max() == PLACES - 3
    torch.testing.assert_close(
        ours.double(), theirs, rtol=1e-6, atol=1e-4 if dtype == torch.float32 else 1e-9
    )
    gradients = [torch.autograd.grad(places.sum(), fields)[0] for places in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-9)


def test_gradient_of_places_by_finite_differences():
    fields = values(torch.float64)[1:].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: node_positions(x, AXIS, PLACES), fields)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own
@both_precisions
def test_operators_of_places_are_sound(dtype):
    fields = values(dtype)
    axis = (AXIS, PLACES - 3)
    for layout in (fields, fields.transpose(1, 2), fields[:0]):
        torch.library.opcheck(place, (layout, *axis))
        torch.library.opcheck(place, (layout.clone().requires_grad_(), *axis))
        torch.library.opcheck(place_backward, (layout, torch.ones_like(layout), *axis))


def test_a_device_on_which_kernels_fail_is_told_once_and_has_operations(monkeypatch):
    device = torch.device("cuda", 7)
    monkeypatch.setattr(backend, "_OFFERED", True)
    monkeypatch.setattr(backend, "_WORK", {})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    with pytest.warns(UserWarning, match="do not work on cuda:7.*torch's operations"):
        assert not backend.compiles_for(device)  # there is no such device
    assert not backend.compiles_for(device)
