"""The Triton kernels of soft histograms against those of the CPU: on a GPU, or else interpreted."""

import numpy as np
import pytest
import torch
import triton_kernels
from emuloss.emulators.soft import cpu
from emuloss.metrics.kernels.excursions import component_changes
from emuloss.metrics.kernels.rows import ROWS
from triton_kernels import DEVICE

kernels = triton_kernels.load("cuda")

NODES = 9
TOP = NODES - 3
"""The highest place."""
SHAPES = [(2, 7, 5), (1, 17, 19)]
"""The second one is of two programs a field."""
TOLERANCES = {torch.float32: 5e-6, torch.float64: 1e-12}

both_precisions = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
all_options = pytest.mark.parametrize("options", [(False, False), (True, False), (False, True), (True, True)])


def positions(kind: str, shape, dtype) -> torch.Tensor:
    drawn = torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=dtype)
    if kind == "some outside":
        return ((2 * drawn - 1) * TOP).clamp(min=0)
    return (drawn * (TOP + 1)).floor()  # many ties, on nodes, both ends among them


def changes_of(position: torch.Tensor, touched: bool) -> torch.Tensor:
    return torch.from_numpy(component_changes(position.numpy(), touched))


def drawn(shape, dtype, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def assert_same(name: str, *arguments, tolerance: float) -> None:
    """That a function of both modules gives the same, of the same kind."""
    there = [each.to(DEVICE) if isinstance(each, torch.Tensor) else each for each in arguments]
    found, expected = getattr(kernels, name)(*there).cpu(), getattr(cpu, name)(*arguments)
    assert found.dtype == expected.dtype
    scale = float(expected.abs().max()) if expected.numel() else 1.0
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * max(scale, 1.0))


@both_precisions
@all_options
@pytest.mark.parametrize("kind", ["some outside", "ties"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_histogram_and_what_follows_from_it(kind, shape, options, dtype):
    position = positions(kind, shape, dtype)
    changes, tolerance = changes_of(position, options[0]), TOLERANCES[dtype]
    assert_same("histogram", position, changes, NODES, *options, tolerance=tolerance)
    gradient = drawn((shape[0], ROWS, NODES), dtype, 1)
    for bends in (False, True):
        assert_same("handed_down", position, changes, gradient, *options, bends, tolerance=tolerance)
    along = drawn(shape, dtype, 2)
    assert_same("histogram_tangent", position, changes, along, NODES, *options, tolerance=tolerance)


@both_precisions
@all_options
@pytest.mark.parametrize("count", [1, 5])
def test_counts_are_the_same_whole_numbers(count, options, dtype):
    reached = torch.randint(0, count + 1, (3, 7, 5), generator=torch.Generator().manual_seed(3)).to(dtype)
    changes = changes_of(reached, options[0])
    assert_same("counts_reached", reached, changes, count, *options, tolerance=0)


@both_precisions
@pytest.mark.parametrize("count", [1, 2, 21])
def test_thresholds_are_reached_by_what_equals_them(count, dtype):
    thresholds = torch.linspace(-2, 3, 21, dtype=torch.float64)[:count]
    near = thresholds.to(dtype)
    far = torch.tensor([-np.inf, -1e30, 0.0, 1e30, np.inf], dtype=dtype)
    values = torch.cat([near, near.nextafter(far[:1]), near.nextafter(far[-1:]), far])
    assert_same("reached", values[None, None], thresholds, tolerance=0)


@pytest.mark.filterwarnings("ignore:overflow encountered")  # of the interpreter: values beyond the axis
@both_precisions
def test_places(dtype):
    fields = 5 * drawn((2, 9, 11), dtype, 4)
    fields[0, 0, :5] = torch.tensor([-np.inf, np.inf, 1e30, -1e30, 0.3], dtype=dtype)
    for axis in ((-0.1, 0.3, -2.0, 0.05), (250.0, 40.0, -1.0, 0.01)):
        along, shifted = torch.tensor(axis, dtype=torch.float64), fields + axis[0]
        assert_same("place", shifted, along, 60, tolerance=4 * TOLERANCES[dtype])
        slopes = drawn(fields.shape, dtype, 5)
        assert_same("place_backward", shifted, slopes, along, 60, tolerance=4 * TOLERANCES[dtype])


@both_precisions
def test_layout_does_not_matter(dtype):
    position = positions("some outside", (2, 6, 8), dtype).transpose(1, 2)
    changes = changes_of(position.contiguous(), False)
    gradient = drawn((ROWS, 2, NODES), dtype, 6).transpose(0, 1)
    assert_same("histogram", position, changes, NODES, False, True, tolerance=TOLERANCES[dtype])
    assert_same("handed_down", position, changes, gradient, False, True, False, tolerance=TOLERANCES[dtype])


def test_empty_batches():
    position = torch.zeros(0, 4, 5)
    assert_same("histogram", position, position, NODES, False, False, tolerance=0)
    assert_same("counts_reached", position, position, 3, False, False, tolerance=0)
    assert_same(
        "handed_down", position, position, torch.zeros(0, ROWS, NODES), False, False, False, tolerance=0
    )
    assert_same("place", position, torch.tensor([0.0, 1.0, 0.0, 1.0]), 6, tolerance=0)


def test_a_sum_does_not_overflow():
    # What the largest of fields would count in one node, on a field of the number of pixels that decides it.
    bits = kernels.fraction_bits(2**26)
    assert 48 * 2**26 * 2**bits < 2**63
    assert kernels.fraction_bits(128 * 128) >= 40


@pytest.mark.gpu
@all_options
@pytest.mark.parametrize("nodes", [64, 2048])
def test_large_fields_to_the_bit_from_run_to_run(nodes, options):
    position = ((2 * torch.rand(2, 1000, 1030) - 1) * (nodes - 3)).clamp(min=0)
    changes = changes_of(position, options[0])
    assert_same("histogram", position, changes, nodes, *options, tolerance=1e-5)
    there = position.to(DEVICE), changes.to(DEVICE)
    runs = [kernels.histogram(*there, nodes, *options) for _ in range(5)]
    assert all(torch.equal(run, runs[0]) for run in runs)
    reached = (position / nodes * 22).floor()
    assert_same("counts_reached", reached, changes_of(reached, options[0]), 21, *options, tolerance=0)
