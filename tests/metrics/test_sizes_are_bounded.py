"""Sizes that a caller or a file names: bounded where they are declared, and never dearer than the field."""

import tracemalloc

import numpy as np
import pytest
from emuloss import ArgumentError, metric
from emuloss.metrics import Metric
from emuloss.metrics.registry import METRICS

RNG = np.random.default_rng(24)
FIELDS = RNG.gamma(0.5, 2.0, (2, 1, 64, 64)).astype(np.float32)
BUILT_IN = {kind.name: kind for kind in METRICS.things() if kind.__module__.startswith("emuloss.")}
LARGEST = 2**31 - 1


def peak_of(exact: Metric) -> int:
    """Bytes at their highest while a metric measures a field of 64 x 64 pixels, compiled beforehand."""
    exact(*FIELDS[: exact.arity, :, :8, :8])
    tracemalloc.start()
    exact(*FIELDS[: exact.arity])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


AT_THE_BOUND = {
    "rings": ("spectrum", {"bins": 2048}, 60e6),
    "boxes": ("boxcount", {"scales": [1, 2**30]}, 5e6),
    "boxes of every size": ("boxcount", {"scales": [2**k for k in range(31)]}, 5e6),
    "boxes of an odd size": ("boxcount", {"scales": [3, 3 * 5**12]}, 5e6),
    "windows": ("fss", {"windows": [1, LARGEST]}, 5e6),
    "sizes": ("clusters", {"sizes": [1, LARGEST]}, 5e6),
    "areas": ("morphology", {"min_area": LARGEST}, 5e6),
}


@pytest.mark.parametrize(("name", "arguments", "bytes_"), AT_THE_BOUND.values(), ids=AT_THE_BOUND)
def test_the_largest_sizes_take_little_memory(name: str, arguments: dict, bytes_: float) -> None:
    needed = {} if name == "spectrum" else {"thresholds": [0.5, 2.0]}
    assert peak_of(metric(name, **needed, **arguments)) < bytes_


BEYOND = {
    "bins": ("spectrum", {"bins": 2049}),
    "scales": ("boxcount", {"scales": [1, 2**31]}),
    "windows": ("fss", {"windows": [2**31 + 1]}),
    "sizes": ("clusters", {"sizes": [2**31]}),
    "min_area": ("morphology", {"min_area": 2**31}),
}


@pytest.mark.parametrize("argument", BEYOND)
def test_the_constructor_and_the_rule_of_files_have_one_bound(argument: str) -> None:
    name, beyond = BEYOND[argument]
    needed = {} if name == "spectrum" else {"thresholds": [0.5]}
    with pytest.raises(ArgumentError, match=f"{argument} must be a whole number from 1 to"):
        metric(name, **needed, **beyond)
    rule = BUILT_IN[name].argument_rules[argument]
    assert rule(beyond[argument], argument)
    default = metric(name, **needed).arguments()[argument]
    assert rule(default, argument) == ""


@pytest.mark.parametrize("shape", [(64, 64), (5, 7), (1, 9), (8, 8)])
def test_boxes_beyond_the_field_hold_all_of_it(shape: tuple[int, int]) -> None:
    field = RNG.random((1, *shape))
    exact = metric("boxcount", thresholds=[0.2, 0.9, 2.0], scales=[4, 4096, 2**30])
    curves = exact(field)[0]
    boxes = [
        [field[0, i : i + 4, j : j + 4].max() for i in range(0, shape[0], 4) for j in range(0, shape[1], 4)],
        [field.max()],
        [field.max()],
    ]
    for row, maxima in zip(curves, boxes, strict=False):
        assert row.tolist() == [sum(value >= u for value in maxima) for u in exact.thresholds]


def test_windows_beyond_the_field_hold_all_of_it() -> None:
    """Each window then has the same share: FSS = 1 - (p - o)^2 / (p^2 + o^2) of the numbers of wet pixels."""
    prediction, observation = RNG.random((2, 1, 6, 9))
    found = metric("fss", thresholds=[0.3, 0.8], windows=[17, 101, LARGEST])(prediction, observation)
    p, o = (
        (fields >= np.array([0.3, 0.8])[:, None, None]).sum((1, 2)) for fields in (prediction, observation)
    )
    np.testing.assert_allclose(found[0], np.tile(1 - (p - o) ** 2 / (p**2 + o**2), (3, 1)), rtol=1e-12)


@pytest.mark.parametrize(("shape", "bins"), [((16, 16), 4), ((12, 10), 30), ((7, 64), 16), ((1, 5), 3)])
def test_rings_of_a_padded_grid_are_those_of_the_whole_transform(shape: tuple[int, int], bins: int) -> None:
    field = RNG.standard_normal(shape)
    window = np.outer(*(np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2 for side in shape))
    tapered = window * (field - (window * field).sum() / window.sum())
    grid = [max(side, 2 * bins) for side in shape]
    power = np.abs(np.fft.fft2(tapered, grid)) ** 2 / (window**2).sum()
    radius = 2 * np.hypot(np.fft.fftfreq(grid[0])[:, None], np.fft.fftfreq(grid[1]))
    ring = np.ceil(radius * bins - 1e-9)
    expected = [power[ring == b + 1].mean() for b in range(bins)]
    found = metric("spectrum", bins=bins, floor=1e-30)(field[None])[0, 0]
    np.testing.assert_allclose(found, np.log10(expected), rtol=1e-9, atol=1e-9)
