"""Components by Triton kernels: what starts and joins them is what the numba kernel finds, ties included."""

import numpy as np
import pytest
import torch
from drawn import rain_array
from emuloss.metrics.kernels.excursions import component_changes as by_kernel
from triton_kernels import DEVICE, load

kernels = load("cuda_components")

both_connectivities = pytest.mark.parametrize("diagonal", [False, True])
both_precisions = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@pytest.fixture(autouse=True)
def _large_programs(monkeypatch):
    """Interpreted, a program takes as long whatever its size."""
    if DEVICE == "cpu":
        monkeypatch.setattr(kernels, "_PIXELS", 4096)
        monkeypatch.setattr(kernels, "_LANES", 1024)


def changes_of(fields: np.ndarray, diagonal: bool) -> np.ndarray:
    return kernels.component_changes(torch.from_numpy(fields).to(DEVICE), diagonal).cpu().numpy()


def agree(fields: np.ndarray, diagonal: bool) -> None:
    found = changes_of(fields, diagonal)
    assert found.dtype == fields.dtype
    np.testing.assert_array_equal(found, by_kernel(fields, diagonal))


def few_levels(shape, levels: int, seed: int = 0) -> np.ndarray:
    """Whole numbers from -1 on: many ties, and much outside."""
    return np.random.default_rng(seed).integers(-1, levels, shape).astype(float)


def spiral(side: int, falling: bool) -> np.ndarray:
    """A ridge one pixel wide that winds inwards from the corner, in a valley as wide, level or falling."""
    field, height = np.full((side, side), 0.5), float(side**2)
    (row, column), (down, along) = (0, -1), (0, 1)
    for length in (side, *np.repeat(np.arange(side - 1, 0, -2), 2)):
        for _ in range(length):
            row, column, height = row + down, column + along, height - falling
            field[row, column] = height
        down, along = along, -down
    return field


def comb(side: int) -> np.ndarray:
    """Teeth of falling height on a low back, which joins them, in a lower valley."""
    field = np.full((side, side), 0.5)
    field[:-1, ::2] = 2 + np.arange((side + 1) // 2)
    field[-1] = 1
    return field


def smooth(side: int, seed: int = 0) -> np.ndarray:
    """Waves of about a tenth of the side, positive nearly everywhere."""
    waves = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)) * side
    noise = np.fft.fft2(np.random.default_rng(seed).standard_normal((side, side)))
    field = np.fft.ifft2(noise * np.exp(-((waves / 10) ** 2))).real
    return field / field.std() + 2


def drawn(side: int) -> dict[str, np.ndarray]:
    """Fields of one size, by what is hard about them."""
    noise = np.random.default_rng(0).random((side, side))
    board = np.indices((side, side)).sum(0) % 2
    down = np.arange(side * side, 0, -1.0).reshape(side, side)
    return {
        "outside": -noise,
        "nearly outside": np.where(np.arange(side * side).reshape(side, side) == 7, 1.0, -0.0),
        "constant": np.full((side, side), 2.0),
        "falling": down,
        "rising": down[::-1, ::-1],
        "two levels": few_levels((side, side), 2),
        "four levels": few_levels((side, side), 4),
        "checkerboard": 1.0 + board,
        "checkerboard in noise": board + noise,
        "peaks in diagonals": 1.0 + (np.indices((side, side)) % 2).prod(0) * (1 + noise),
        "spiral": spiral(side, falling=True),
        "level spiral": spiral(side, falling=False),
        "comb": comb(side),
        "noise": noise,
        "noise that single precision does not see": 1 + 1e-12 * noise,
        "smooth": smooth(side),
        "cells": rain_array(1, side, side, law="cells")[0],
    }


def side_by_side(fields: np.ndarray, across: int) -> np.ndarray:
    """Fields as islands of one field, (1, H, W), which is faster to interpret."""
    islands = np.pad(fields, ((0, -len(fields) % across), (1, 1), (1, 1)))
    rows, columns = islands.shape[1:]
    return islands.reshape(-1, across, rows, columns).swapaxes(1, 2).reshape(1, -1, across * columns)


@both_precisions
@both_connectivities
def test_drawn_fields(diagonal, dtype):
    agree(side_by_side(np.stack(list(drawn(15).values())), 6).astype(dtype), diagonal)


def test_the_spiral_winds():
    ridge = ("#########", "        #", "####### #", "#     # #", "# ### # #", "# #   # #", "# ##### #",
             "#       #", "#########")  # fmt: skip
    np.testing.assert_array_equal(spiral(9, falling=True) > 0.5, [[c == "#" for c in row] for row in ridge])


@both_connectivities
def test_every_ring(diagonal):
    """A pixel whose neighbours are higher or lower in each of 256 ways: which arcs it joins."""
    codes = np.arange(256)[:, None] >> np.arange(8) & 1
    rings = np.full((256, 3, 3), 2.0)
    for bit, at in enumerate(((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))):
        rings[(slice(None), *at)] = np.where(codes[:, bit], 3, 1)
    agree(side_by_side(rings, 16).astype(np.float32), diagonal)


@both_connectivities
@pytest.mark.parametrize("shape", [(2, 1, 1), (2, 1, 70), (2, 70, 1), (9, 2, 2), (9, 4, 5)], ids=str)
def test_small_and_narrow_fields(diagonal, shape):
    agree(few_levels(shape, 3).astype(np.float32), diagonal)


@both_connectivities
def test_rounds_of_their_own_launches_change_nothing(diagonal, monkeypatch):
    fields = np.stack([few_levels((20, 20), 3), comb(20), np.random.default_rng(1).random((20, 20))])
    monkeypatch.setattr(kernels, "_LARGE", 1)
    agree(fields.astype(np.float32), diagonal)


def test_more_pixels_and_edges_than_programs_have_in_hand(monkeypatch):
    for name, few in (("_PIXELS", 256), ("_LANES", 32), ("_WIDE", 3), ("_NARROW", 64), ("_LARGE", 1)):
        monkeypatch.setattr(kernels, name, few)
    agree(np.random.default_rng(0).random((1, 25, 30)).astype(np.float32), False)


@both_connectivities
def test_memory_may_hold_anything_at_first(diagonal):
    fields = np.stack(
        [few_levels((16, 16), 3), np.random.default_rng(0).random((16, 16)), np.zeros((16, 16))]
    )
    torch.use_deterministic_algorithms(
        True
    )  # new memory is then filled, by NaN and the largest whole numbers
    try:
        agree(fields.astype(np.float32), diagonal)
    finally:
        torch.use_deterministic_algorithms(False)


def test_fields_of_any_layout():
    fields = few_levels((2, 12, 9), 3).astype(np.float32)
    turned = torch.from_numpy(fields).to(DEVICE).transpose(1, 2)
    expected = by_kernel(np.ascontiguousarray(fields.swapaxes(1, 2)), False)
    np.testing.assert_array_equal(kernels.component_changes(turned, False).cpu(), expected)


@pytest.mark.parametrize("shape", [(0, 4, 5), (2, 0, 5), (2, 4, 0)], ids=str)
def test_nothing(shape):
    assert kernels.component_changes(torch.zeros(shape, device=DEVICE), False).shape == shape


@pytest.mark.gpu
@both_connectivities
@pytest.mark.parametrize("side", [128, 255, 512, 1024])
def test_results_are_the_same_time_after_time(side, diagonal):
    """Whatever the order in which the device does things."""
    fields = np.stack(list(drawn(side).values())).astype(np.float32)
    expected = torch.from_numpy(by_kernel(fields, diagonal)).to(DEVICE)
    given = torch.from_numpy(fields).to(DEVICE)
    for _ in range(20):
        found = kernels.component_changes(given, diagonal)
        wrong = (found != expected).flatten(1).any(1)
        assert not wrong.any(), [name for name, bad in zip(drawn(8), wrong, strict=True) if bad]


@pytest.mark.gpu
def test_double_precision_of_large_fields():
    fields = np.stack(list(drawn(512).values()))
    agree(fields, False)


@pytest.mark.gpu
def test_nothing_waits_for_the_host_and_a_graph_replays():
    fields = [torch.rand((4, 300, 300), device=DEVICE, dtype=d) for d in (torch.float32, torch.float64)]
    for given in fields:
        kernels.component_changes(given, False)  # compiles
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            kernels.component_changes(given, False)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = kernels.component_changes(given, False)
        given.copy_(torch.rand_like(given))
        graph.replay()
        np.testing.assert_array_equal(found.cpu(), by_kernel(given.cpu().numpy(), False))
