"""The soft histogram's CPU kernels against the differentiable torch operations of other devices."""

import itertools

import pytest
import torch
from emuloss.emulators._soft_histogram import (
    ROWS,
    _histogram,
    _histogram_backward,
    _histogram_by_torch,
    _place,
    _place_backward,
    node_positions,
    soft_histogram,
)

NODES = 9
OPTIONS = list(itertools.product((False, True), repeat=2))
SHAPES = [(3, 7, 5), (2, 1, 6), (2, 6, 1), (1, 1, 1), (2, 2, 2)]
TOLERANCES = {torch.float32: 2e-5, torch.float64: 1e-12}

both_options = pytest.mark.parametrize(("touched", "degrees"), OPTIONS)
both_precisions = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def positions(kind: str, shape=(3, 7, 5), dtype=torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    uniform = torch.rand(shape, generator=generator, dtype=dtype)
    if kind == "random":
        return uniform * (NODES - 1)
    if kind == "some outside":
        return ((2 * uniform - 1) * (NODES - 1)).clamp(min=0)
    if kind == "ties":  # few distinct values, halfway between nodes
        return (3 * uniform).floor() * 2 + 0.5 * (uniform > 0.4)
    if kind == "on nodes":
        return (uniform * NODES).floor().clamp(max=NODES - 1)
    return torch.full(shape, {"lowest": 0.0, "highest": NODES - 1.0}[kind], dtype=dtype)


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
    weights = torch.randn((shape[0], ROWS, NODES), generator=torch.Generator().manual_seed(1), dtype=dtype)
    ours = with_gradient(_histogram, position, NODES, touched, degrees, weights=weights)
    theirs = with_gradient(_histogram_by_torch, position, NODES, touched, degrees, weights=weights)
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == dtype
        torch.testing.assert_close(a, b, rtol=TOLERANCES[dtype], atol=TOLERANCES[dtype])


def test_a_tie_shares_the_gradient():
    position = torch.full((1, 1, 2), 2.5, dtype=torch.float64)
    weights = torch.zeros((1, ROWS, NODES), dtype=torch.float64)
    weights[0, 1] = torch.arange(NODES)  # the axial pair alone: slope 1
    _, gradient = with_gradient(_histogram, position, NODES, False, False, weights=weights)
    assert gradient.tolist() == [[[0.5, 0.5]]]


def test_counts_of_a_drawn_field():
    # A square of 2 x 2 pixels: 4 pixels, 4 axial and 2 diagonal pairs, 1 block inside, 9 touched.
    position = torch.zeros((1, 4, 4))
    position[0, 1:3, 1:3] = 3.25
    for touched, blocks in ((False, 1), (True, 9)):
        histogram = soft_histogram(position, NODES, touched=touched, degrees=True)[0]
        assert histogram[:, 3].tolist() == [0.75 * n for n in (4, 4, 2, blocks, 16, 16)]
        assert histogram[:, 4].tolist() == [0.25 * n for n in (4, 4, 2, blocks, 16, 16)]
        assert histogram[:, [0, 1, 2, 5, 6, 7, 8]].count_nonzero() == 0


@both_options
def test_gradient_by_finite_differences(touched, degrees):
    position = positions("random").requires_grad_()
    assert torch.autograd.gradcheck(
        lambda p: soft_histogram(p, NODES, touched=touched, degrees=degrees), position
    )


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own
@both_precisions
@both_options
def test_operators_are_sound(touched, degrees, dtype):
    position = positions("random", dtype=dtype)
    gradient = torch.ones((len(position), ROWS, NODES), dtype=dtype)
    for layout in (position, position.transpose(1, 2), position[:, ::2]):
        torch.library.opcheck(_histogram, (layout.clone().requires_grad_(), NODES, touched, degrees))
        torch.library.opcheck(_histogram, (layout, NODES, touched, degrees))
        torch.library.opcheck(_histogram_backward, (layout, gradient, touched, degrees))


@both_precisions
def test_layout_does_not_matter(dtype):
    position = positions("random", (2, 6, 8), dtype).transpose(1, 2)
    weights = torch.randn((2, ROWS, NODES), generator=torch.Generator().manual_seed(2), dtype=dtype)
    strided = with_gradient(_histogram, position, NODES, False, True, weights=weights)
    packed = with_gradient(_histogram, position.contiguous(), NODES, False, True, weights=weights)
    for a, b in zip(strided, packed, strict=True):
        assert torch.equal(a, b)


@both_precisions
@both_options
def test_empty_batch(touched, degrees, dtype):
    for function in (_histogram, _histogram_by_torch):
        position = torch.zeros((0, 4, 5), dtype=dtype, requires_grad=True)
        result = function(position, NODES, touched, degrees)
        assert result.shape == (0, ROWS, NODES)
        result.sum().backward()
        assert position.grad.shape == position.shape


def test_second_derivative_is_refused():
    position = positions("random").requires_grad_()
    histogram = soft_histogram(position, NODES, touched=False, degrees=False)
    (gradient,) = torch.autograd.grad(histogram.square().sum(), position, create_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula was registered"):
        gradient.sum().backward()


def test_threads_change_nothing():
    # Large enough to be split into batches.
    position = positions("random", (5, 160, 180))
    whole = soft_histogram(position, NODES, touched=False, degrees=False)
    apart = torch.cat([soft_histogram(p[None], NODES, touched=False, degrees=False) for p in position])
    assert torch.equal(whole, apart)


# Places on the axis of nodes

AXIS = {"scale": 0.1, "origin": -1.5, "step": 0.01, "nodes": 600}
"""From x = -0.21 to x = 4.5."""


def places_by_torch(
    fields: torch.Tensor, scale: float, origin: float, step: float, nodes: int
) -> torch.Tensor:
    return ((torch.asinh(fields / scale) - origin) / step).clamp(0, nodes - 1)


def values(dtype) -> torch.Tensor:
    """Both signs, both ends of the axis and beyond."""
    generator = torch.Generator().manual_seed(3)
    some = torch.randn((3, 8, 9), generator=generator, dtype=dtype)
    some[0, 0] = torch.tensor([0.0, -0.0, 1e-30, -1e-30, 1e30, -1e30, 4.4, 5.0, -0.3], dtype=dtype)
    return some


@both_precisions
def test_places_equal_torch_operations(dtype):
    fields = values(dtype).requires_grad_()
    ours, theirs = node_positions(fields, **AXIS), places_by_torch(fields.double(), **AXIS)
    assert ours.dtype == dtype
    assert ours.min() == 0
    assert ours.max() == AXIS["nodes"] - 1
    torch.testing.assert_close(
        ours.double(), theirs, rtol=1e-6, atol=1e-4 if dtype == torch.float32 else 1e-9
    )
    gradients = [torch.autograd.grad(places.sum(), fields)[0] for places in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-9)


def test_gradient_of_places_by_finite_differences():
    fields = values(torch.float64)[1:].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: node_positions(x, **AXIS), fields)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own
@both_precisions
def test_operators_of_places_are_sound(dtype):
    fields = values(dtype)
    axis = (AXIS["scale"], AXIS["origin"], AXIS["step"], AXIS["nodes"] - 1)
    for layout in (fields, fields.transpose(1, 2), fields[:0]):
        torch.library.opcheck(_place, (layout, *axis))
        torch.library.opcheck(_place, (layout.clone().requires_grad_(), *axis))
        torch.library.opcheck(_place_backward, (layout, torch.ones_like(layout), *axis))
