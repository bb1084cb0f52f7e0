"""Exact Minkowski curves against scikit-image, brute force, closed forms and their own symmetries."""

import json
import math
import multiprocessing
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import emuloss.metrics
import numba
import numpy as np
import pytest
from emuloss.errors import ArgumentError
from emuloss.foundation import threads as _threads
from emuloss.metrics import Metric, Minkowski, list_metrics, metric, metric_from_config
from emuloss.metrics.constraints import Identity
from emuloss.metrics.kernels.excursions import component_changes
from emuloss.metrics.minkowski import PIXEL_PERIMETER, textbook_constraints
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import euler_number, label, perimeter_crofton
from skimage.morphology import dilation

OUTPUTS = ("area", "perimeter", "euler", "components", "holes")
CONNECTIVITIES = (1, 2)
SHAPES = [(1, 1), (1, 9), (9, 1), (2, 2), (2, 7), (5, 8), (17, 13), (40, 33)]
DENSITIES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)

ALL_4X4 = (np.arange(2**16)[:, None] >> np.arange(16) & 1).astype(bool).reshape(-1, 4, 4)

small_masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9))
quick = settings(deadline=None, max_examples=60)


def curves(fields, thresholds=(0.5,), **arguments) -> dict[str, np.ndarray]:
    """All five outputs by name, each (N, Q)."""
    teacher = Minkowski(thresholds, outputs=OUTPUTS, **arguments)
    return teacher.named(teacher(fields))


def values(mask, **arguments) -> dict[str, float]:
    """All five outputs of one mask."""
    return {name: curve[0, 0] for name, curve in curves(mask[None], **arguments).items()}


def assert_same(ours: dict, theirs: dict) -> None:
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-12, atol=1e-12, err_msg=name)


def grid(*rows: str) -> np.ndarray:
    return np.array([[mark == "#" for mark in row] for row in rows])


# Oracles


def reference(mask: np.ndarray, connectivity: int) -> dict[str, float]:
    """scikit-image's values of one mask."""
    euler = euler_number(mask, connectivity=connectivity)
    background = label(np.pad(~mask, 1, constant_values=True), connectivity=3 - connectivity)
    return {
        "area": mask.sum(),
        "perimeter": perimeter_crofton(mask, directions=4),
        "euler": euler,
        "components": label(mask, connectivity=connectivity).max(),
        "holes": background.max() - 1,
    }


def assert_agrees(masks: np.ndarray, connectivity: int) -> None:
    """Our values of masks (N, H, W) are those of scikit-image."""
    ours = curves(masks, connectivity=connectivity)
    theirs = [reference(mask, connectivity) for mask in masks]
    for name in OUTPUTS:
        expected = np.array([each[name] for each in theirs], float)
        if name == "perimeter":
            np.testing.assert_allclose(ours[name][:, 0], expected, rtol=1e-9, atol=0)
        else:
            np.testing.assert_array_equal(ours[name][:, 0], expected, err_msg=name)


def brute_perimeter(masks: np.ndarray, boundary: str) -> np.ndarray:
    """Crofton's sum over the transitions along four directions, masks (N, H, W)."""
    if boundary == "closed":
        masks = np.pad(masks, ((0, 0), (1, 1), (1, 1)))
    axial = [masks[:, 1:] != masks[:, :-1], masks[..., 1:] != masks[..., :-1]]
    diagonal = [masks[:, 1:, 1:] != masks[:, :-1, :-1], masks[:, 1:, :-1] != masks[:, :-1, 1:]]
    axial_count, diagonal_count = (sum(t.sum((1, 2)) for t in pair) for pair in (axial, diagonal))
    return math.pi / 8 * (axial_count + diagonal_count / math.sqrt(2))


def brute_euler(masks: np.ndarray, connectivity: int) -> np.ndarray:
    """Gray's count of 2 x 2 quads with one pixel, three pixels and two across."""
    padded = np.pad(masks, ((0, 0), (1, 1), (1, 1))).astype(int)
    a, b, c, d = padded[:, :-1, :-1], padded[:, :-1, 1:], padded[:, 1:, :-1], padded[:, 1:, 1:]
    total = a + b + c + d
    one, three, across = (q.sum((1, 2)) for q in (total == 1, total == 3, (total == 2) & (a == d)))
    return (one - three + (2 if connectivity == 1 else -2) * across) // 4


def brute_components(masks: np.ndarray, connectivity: int) -> np.ndarray:
    """Labels spread until they rest; a component is counted at the pixel that kept its own."""
    _, rows, columns = masks.shape
    own = np.where(masks, np.arange(1, rows * columns + 1).reshape(rows, columns), 0)
    labels, before = own, None
    steps = [(i, j) for i in (0, 1, 2) for j in (0, 1, 2) if connectivity == 2 or 1 in (i, j)]
    while before is None or (labels != before).any():
        before, padded = labels, np.pad(labels, ((0, 0), (1, 1), (1, 1)))
        spread = [padded[:, i : i + rows, j : j + columns] for i, j in steps]
        labels = np.where(masks, np.max(spread, axis=0), 0)
    return (masks & (labels == own)).sum((1, 2))


# Exactness on binary masks


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("boundary", ["closed", "open"])
def test_all_4x4_images_by_brute_force(connectivity: int, boundary: str) -> None:
    ours = curves(ALL_4X4, connectivity=connectivity, boundary=boundary)
    surround = np.pad(~ALL_4X4, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    expected = {
        "area": ALL_4X4.sum((1, 2)),
        "perimeter": brute_perimeter(ALL_4X4, boundary),
        "euler": brute_euler(ALL_4X4, connectivity),
        "components": brute_components(ALL_4X4, connectivity),
        "holes": brute_components(surround, 3 - connectivity) - 1,
    }
    assert_same(ours, {name: value[:, None] for name, value in expected.items()})


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_sample_of_4x4_images_against_scikit_image(connectivity: int) -> None:
    sample = np.random.default_rng(4).choice(2**16, 400, replace=False)
    assert_agrees(ALL_4X4[sample], connectivity)


@pytest.mark.slow
@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_all_4x4_images_against_scikit_image(connectivity: int) -> None:
    assert_agrees(ALL_4X4, connectivity)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_random_masks_against_scikit_image(shape: tuple[int, int], connectivity: int) -> None:
    rng = np.random.default_rng(sum(shape))
    assert_agrees(np.array([rng.random(shape) < p for p in DENSITIES for _ in range(4)]), connectivity)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_random_masks_with_open_boundary(shape: tuple[int, int], connectivity: int) -> None:
    rng = np.random.default_rng(sum(shape))
    masks = np.array([rng.random(shape) < p for p in DENSITIES for _ in range(4)])
    closed = curves(masks, connectivity=connectivity)
    ours = curves(masks, connectivity=connectivity, boundary="open")
    np.testing.assert_allclose(ours.pop("perimeter")[:, 0], brute_perimeter(masks, "open"), atol=1e-12)
    assert_same(ours, {name: closed[name] for name in ours})


DRAWN = {  # mask, then (components, holes) of the 4-connected and of the 8-connected set
    "nothing": (grid("...", "..."), (0, 0), (0, 0)),
    "full": (grid("###", "###"), (1, 0), (1, 0)),
    "ring": (grid("###", "#.#", "###"), (1, 1), (1, 1)),
    "ring of four": (grid(".#.", "#.#", ".#."), (4, 0), (1, 1)),
    "two across": (grid("#.", ".#"), (2, 0), (1, 0)),
    "bay": (grid("###", "#.#", "#.#"), (1, 0), (1, 0)),
    "leaking ring": (grid("###", "#.#", "##."), (1, 0), (1, 1)),
    "cut ring": (grid("####", "#..#", "#.#.", "###."), (1, 0), (1, 1)),
    "figure of eight": (grid("###..", "#.#..", "#####", "..#.#", "..###"), (1, 2), (1, 2)),
    "holes across": (grid("####", "#.##", "##.#", "####"), (1, 1), (1, 2)),
    "nested": (
        grid("#######", "#.....#", "#.###.#", "#.#.#.#", "#.###.#", "#.....#", "#######"),
        (2, 2),
        (2, 2),
    ),
    "spiral": (grid("#####", "....#", "###.#", "#...#", "#####"), (1, 0), (1, 0)),
    "chequers": (grid("#.#", ".#.", "#.#"), (5, 0), (1, 0)),
    "islands": (grid("##..#", "##...", "....#", "#.#.#"), (5, 0), (5, 0)),
}


@pytest.mark.parametrize("name", DRAWN)
def test_drawn_shapes(name: str) -> None:
    mask, *expected = DRAWN[name]
    for connectivity, (components, holes) in zip(CONNECTIVITIES, expected, strict=True):
        ours = values(mask, connectivity=connectivity)
        assert (ours["components"], ours["holes"]) == (components, holes)
        assert ours["euler"] == components - holes
        assert ours["area"] == mask.sum()
        assert_agrees(mask[None], connectivity)


def disk(radius: float, size: int, centre: float | None = None) -> np.ndarray:
    rows, columns = np.ogrid[:size, :size]
    middle = size / 2 if centre is None else centre
    return (rows - size / 2) ** 2 + (columns - middle) ** 2 <= radius**2


def test_single_pixel() -> None:
    pixel = values(grid("#"), pixel_size=2.0)
    assert pixel == pytest.approx(
        {"area": 4, "perimeter": 2 * PIXEL_PERIMETER, "euler": 1, "components": 1, "holes": 0}
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (4, 1), (3, 5), (20, 20)])
def test_rectangle_closed_form(shape: tuple[int, int]) -> None:
    h, w = shape
    ours = values(np.ones(shape, bool))
    # Every line of the grid that meets the rectangle enters and leaves it once.
    perimeter = math.pi / 8 * (2 * h + 2 * w + 4 * (h + w - 1) / math.sqrt(2))
    assert ours == pytest.approx(
        {"area": h * w, "perimeter": perimeter, "euler": 1, "components": 1, "holes": 0}
    )
    assert values(np.ones(shape, bool), boundary="open")["perimeter"] == 0


def test_disk_annulus_and_two_disks_approach_the_continuum() -> None:
    whole = values(disk(50, 128))
    assert whole["area"] == pytest.approx(math.pi * 50**2, rel=0.005)
    assert whole["perimeter"] == pytest.approx(2 * math.pi * 50, rel=0.01)
    annulus = values(disk(50, 128) & ~disk(30, 128))
    assert annulus["area"] == pytest.approx(math.pi * (50**2 - 30**2), rel=0.01)
    assert annulus["perimeter"] == pytest.approx(2 * math.pi * 80, rel=0.01)
    assert (annulus["euler"], annulus["components"], annulus["holes"]) == (0, 1, 1)
    two = values(disk(20, 128, 30) | disk(20, 128, 98))
    assert two["area"] == pytest.approx(2 * math.pi * 20**2, rel=0.01)
    assert (two["euler"], two["components"], two["holes"]) == (2, 2, 0)


@pytest.mark.parametrize("shape", [(6, 6), (7, 5), (1, 8)])
def test_checkerboard(shape: tuple[int, int]) -> None:
    board = np.indices(shape).sum(0) % 2 == 0
    assert values(board)["components"] == board.sum()
    assert values(board, connectivity=2)["components"] == (1 if min(shape) > 1 else board.sum())
    for connectivity in CONNECTIVITIES:
        assert_agrees(board[None], connectivity)


# All thresholds at once


def some_fields(rng: np.random.Generator, shape: tuple[int, ...]) -> list[np.ndarray]:
    noise = rng.normal(size=shape)
    smooth = np.cumsum(np.cumsum(noise, -1), -2)
    return [noise, smooth / smooth.std(), rng.integers(0, 4, shape) - 1.0, np.zeros(shape)]


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("boundary", ["closed", "open"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 12), (12, 1), (16, 11), (48, 48)], ids=str)
def test_many_thresholds_equal_one_at_a_time(shape, boundary: str, connectivity: int) -> None:
    thresholds = [-3.0, -1.0, -0.5, -0.1, 0.0, 0.1, 0.7, 1.0, 2.0, 9.0]
    arguments = {"boundary": boundary, "connectivity": connectivity}
    for fields in some_fields(np.random.default_rng(7), (5, *shape)):
        together = curves(fields, thresholds, **arguments)
        apart = [curves(fields >= u, **arguments) for u in thresholds]
        assert_same(together, {name: np.hstack([each[name] for each in apart]) for name in OUTPUTS})


@pytest.mark.parametrize("count", [255, 256, 70_000])
def test_more_thresholds_than_a_small_integer_counts(count: int) -> None:
    field = np.random.default_rng(1).integers(-1, count + 1, (1, 6, 7)).astype(float)
    some = np.linspace(0, count - 1, 9).astype(int)
    ours = curves(field, np.arange(count))
    assert_same({name: curve[:, some] for name, curve in ours.items()}, curves(field, some))


def test_outputs_come_in_the_order_asked_for() -> None:
    fields = np.random.default_rng(2).random((3, 9, 8))
    every = curves(fields, (0.3, 0.6), pixel_size=2.0)
    for names in [("holes",), ("components",), ("perimeter", "area"), ("components", "euler"), OUTPUTS[::-1]]:
        teacher = Minkowski((0.3, 0.6), outputs=names, pixel_size=2.0)
        ours = teacher(fields)
        assert ours.shape == (3, len(names), 2)
        assert ours.dtype == np.float64
        np.testing.assert_array_equal(ours, np.stack([every[name] for name in names], axis=1))


# What a field may be


@pytest.mark.parametrize(
    "dtype", ["f2", "f4", "f8", "g", ">f4", ">f8", "i1", "i2", "i4", "i8", "u1", "u2", "u8", ">i2", "?"]
)
def test_dtypes(dtype: str) -> None:
    fields = np.random.default_rng(3).integers(0, 2 if dtype == "?" else 6, (4, 9, 7))
    assert_same(curves(fields.astype(dtype), (0.5, 2.5, 4)), curves(fields.astype(float), (0.5, 2.5, 4)))


def test_memory_layouts() -> None:
    whole = np.random.default_rng(5).random((6, 20, 30)).astype(np.float32)
    read_only = whole[::2, 1::3, ::-2].copy()
    read_only.flags.writeable = False
    for view in (whole[::2, 1::3, ::-2], whole.transpose(0, 2, 1), np.asfortranarray(whole), read_only):
        assert_same(curves(view), curves(np.array(view.tolist())))


def test_lists_are_taken() -> None:
    assert Minkowski([0.5], outputs=["area"])([[[0, 1], [1, 1]]]).tolist() == [[[3.0]]]


def test_not_measured_and_infinite_pixels() -> None:
    fields = np.random.default_rng(6).normal(size=(8, 12, 12))
    marks = np.random.default_rng(7).integers(0, 6, fields.shape)
    special, plain = fields.copy(), fields.copy()
    for mark, value, stand_in in ((0, np.nan, -99.0), (1, -np.inf, -99.0), (2, np.inf, 99.0)):
        special[marks == mark], plain[marks == mark] = value, stand_in
    for dtype in (np.float16, np.float32, np.float64):
        assert_same(*(curves(f.astype(dtype), (-1.0, 0.0, 1.0)) for f in (special, plain)))
    assert values(np.full((3, 4), np.nan))["area"] == 0


def test_input_is_left_alone() -> None:
    fields = np.array([[[np.nan, 1.0], [0.2, np.inf]]])
    before = fields.copy()
    curves(fields)
    np.testing.assert_array_equal(fields, before)


@pytest.mark.parametrize("outputs", [OUTPUTS, ("area",), ("components",)])
def test_empty_batch(outputs: tuple[str, ...]) -> None:
    assert Minkowski([1, 2, 3], outputs=outputs)(np.zeros((0, 5, 6))).shape == (0, len(outputs), 3)


def test_thresholds_compare_in_double_precision() -> None:
    # float32(0.1) lies above 0.1, float32(0.7) below 0.7: rounding the threshold too would hide it.
    field = np.array([[[0.1, 0.7]]], np.float32)
    assert curves(field, (0.1, 0.7))["area"].tolist() == [[2, 0]]
    assert curves(field.astype(float), (0.1, 0.7))["area"].tolist() == [[2, 0]]
    # Thresholds that differ in double precision alone.
    one = np.ones((1, 1, 1), np.float32)
    assert curves(one, (1 - 1e-12, 1.0, 1 + 1e-12))["area"].tolist() == [[1, 1, 0]]


def test_thresholds_beyond_the_range_of_float32() -> None:
    largest = np.finfo(np.float32).max
    field = np.array([[[-np.inf, -largest, 0.0, 1e-45, largest, np.inf]]], np.float32)
    thresholds = (-1e300, -1e-300, 1e-300, float(largest), 3.41e38, 1e300)
    assert curves(field, thresholds)["area"].tolist() == [[5, 4, 3, 2, 1, 1]]


@pytest.fixture
def shared_work(monkeypatch):
    """Two threads share the work of batches of 2^16 pixels and more."""
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 2)
    monkeypatch.setattr(_threads, "_WORTH_A_THREAD", 2**15)


@pytest.mark.usefixtures("shared_work")
def test_batch_large_enough_for_threads_equals_one_by_one() -> None:
    fields = np.random.default_rng(8).normal(size=(37, 80, 90))
    one_by_one = [curves(field[None], (-1, 0, 1)) for field in fields]
    stacked = {name: np.vstack([each[name] for each in one_by_one]) for name in OUTPUTS}
    assert_same(curves(fields, (-1, 0, 1)), stacked)


@pytest.mark.usefixtures("shared_work")
def test_concurrent_calls() -> None:
    fields = np.random.default_rng(9).random((40, 64, 64))
    expected = curves(fields)
    with ThreadPoolExecutor(4) as pool:
        for ours in pool.map(curves, [fields] * 8):
            assert_same(ours, expected)


def _total(fields: np.ndarray) -> tuple[float, set[str]]:
    """The sum of all curves, and the names of the threads that then are there for kernels."""
    total = float(Minkowski([0.5])(fields).sum())
    return total, {thread.name for thread in threading.enumerate() if thread.name.startswith("emuloss-")}


@pytest.mark.skipif(sys.platform != "linux", reason="forks a process")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.usefixtures("shared_work")
def test_call_in_a_forked_worker_after_a_call_in_its_parent() -> None:
    fields = np.random.default_rng(10).random((40, 64, 64))
    expected = _total(fields)
    assert expected[1] == {"emuloss-kernel_0"}
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(_total, [fields]).get(timeout=60) == expected


# Symmetries


@quick
@given(small_masks, st.tuples(*[st.integers(0, 4)] * 4), st.sampled_from(CONNECTIVITIES))
def test_translation_in_a_dry_surround(mask: np.ndarray, margins, connectivity: int) -> None:
    top, bottom, left, right = margins
    moved = np.pad(mask, ((top, bottom), (left, right)))
    assert_same(values(moved, connectivity=connectivity), values(mask, connectivity=connectivity))


@quick
@given(small_masks, st.sampled_from(CONNECTIVITIES), st.sampled_from(["closed", "open"]))
def test_rotation_and_reflection(mask: np.ndarray, connectivity: int, boundary: str) -> None:
    arguments = {"connectivity": connectivity, "boundary": boundary}
    expected = values(mask, **arguments)
    for turned in (np.rot90(mask), np.rot90(mask, 2), np.rot90(mask, 3), mask[::-1], mask[:, ::-1], mask.T):
        assert_same(values(turned, **arguments), expected)


@st.composite
def pairs_of_masks(draw, apart: bool) -> tuple[np.ndarray, np.ndarray]:
    """X and Y of one shape; apart: no pixel of X alone has a neighbour in Y alone."""
    x = draw(small_masks)
    y = draw(hnp.arrays(bool, x.shape))
    if apart:
        y &= x | ~dilation(x & ~y, np.ones((3, 3)))
    return x, y


def sum_less_union_and_intersection(x: np.ndarray, y: np.ndarray, **arguments) -> dict[str, float]:
    """A(X) + A(Y) - A(X or Y) - A(X and Y) for each output A."""
    of = curves(np.array([x, y, x | y, x & y]), **arguments)
    return {name: round(float(np.dot((1, 1, -1, -1), curve[:, 0])), 12) for name, curve in of.items()}


@quick
@given(pairs_of_masks(apart=True), st.sampled_from(CONNECTIVITIES), st.sampled_from(["closed", "open"]))
def test_additivity(pair, connectivity: int, boundary: str) -> None:
    # Of sets of pixels, area alone is additive without condition. Where a pixel of X alone touches
    # one of Y alone, the union has a pair that neither set has.
    excess = sum_less_union_and_intersection(*pair, connectivity=connectivity, boundary=boundary)
    assert {name: excess[name] for name in ("area", "perimeter", "euler")} == {
        "area": 0,
        "perimeter": 0,
        "euler": 0,
    }


@quick
@given(pairs_of_masks(apart=False), st.sampled_from(["closed", "open"]))
def test_area_is_additive_and_perimeter_submodular(pair, boundary: str) -> None:
    excess = sum_less_union_and_intersection(*pair, boundary=boundary)
    assert excess["area"] == 0
    assert excess["perimeter"] >= 0


@quick
@given(small_masks, st.floats(1e-3, 1e3), st.sampled_from(["closed", "open"]))
def test_scaling_of_units(mask: np.ndarray, pixel_size: float, boundary: str) -> None:
    unit, scaled = (values(mask, boundary=boundary, pixel_size=size) for size in (1.0, pixel_size))
    powers = {"area": 2, "perimeter": 1, "euler": 0, "components": 0, "holes": 0}
    assert scaled == pytest.approx({name: pixel_size ** powers[name] * unit[name] for name in OUTPUTS})


@quick
@given(hnp.arrays(np.int8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.integers(-5, 5)))
def test_monotone_relabelling(field: np.ndarray) -> None:
    thresholds = np.arange(-5, 6) - 0.5
    expected = curves(field[None], thresholds)
    for relabel in (np.exp, np.cbrt, lambda x: 3 * x - 100):
        assert_same(curves(relabel(field[None].astype(float)), relabel(thresholds)), expected)


@quick
@given(small_masks, st.sampled_from(CONNECTIVITIES))
def test_holes_are_components_of_the_complement(mask: np.ndarray, connectivity: int) -> None:
    surround = np.pad(~mask, 1, constant_values=True)
    dry = values(surround, connectivity=3 - connectivity)
    assert values(mask, connectivity=connectivity)["holes"] == dry["components"] - 1


# What each pixel adds to the components


def fields_with_and_without_ties(shape: tuple[int, ...]) -> list[np.ndarray]:
    """Positive inside, 0 and below outside."""
    rng = np.random.default_rng(sum(shape))
    noise = rng.normal(size=shape)
    few = rng.integers(-1, 4, shape).astype(float)
    return [noise, few, np.ones(shape), np.zeros(shape), noise.astype(np.float32)]


def by_adding_pixels(field: np.ndarray, connectivity: int) -> np.ndarray:
    """Changes of the label count as pixels join one by one, the highest first, ties in raster order."""
    inside, changes = np.zeros(field.shape, bool), np.zeros(field.shape)
    count = 0
    for place in np.argsort(-field, axis=None, kind="stable"):
        if field.flat[place] > 0:
            inside.flat[place] = True
            before, count = count, label(inside, connectivity=connectivity).max()
            changes.flat[place] = count - before
    return changes


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 8), (8, 1), (2, 2), (6, 7), (11, 5)], ids=str)
def test_component_changes_by_adding_pixels_one_by_one(shape, connectivity: int) -> None:
    for field in fields_with_and_without_ties(shape):
        changes = component_changes(field[None], connectivity == 2)
        assert changes.dtype == field.dtype
        np.testing.assert_array_equal(changes[0], by_adding_pixels(field, connectivity))


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("shape", [(17, 13), (40, 33)], ids=str)
def test_component_changes_sum_to_the_components_of_every_excursion_set(shape, connectivity: int) -> None:
    for field in fields_with_and_without_ties(shape):
        changes = component_changes(field[None], connectivity == 2)[0]
        thresholds = np.unique(field[field > 0])
        if not len(thresholds):
            assert not changes.any()
            continue
        of_each = [changes[field >= u].sum() for u in thresholds]
        exact = curves(field[None], thresholds, connectivity=connectivity)["components"][0]
        np.testing.assert_array_equal(of_each, exact)
        for u, count in list(zip(thresholds, of_each, strict=True))[:: max(1, len(thresholds) // 10)]:
            assert label(field >= u, connectivity=connectivity).max() == count


@quick
@given(
    hnp.arrays(np.int8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(-2, 6)),
    st.sampled_from(CONNECTIVITIES),
)
def test_component_changes_of_any_field(field: np.ndarray, connectivity: int) -> None:
    changes = component_changes(field[None].astype(np.float32), connectivity == 2)[0]
    for u in range(1, 7):
        expected = brute_components((field >= u)[None], connectivity)[0]
        assert changes[field >= u].sum() == expected
    assert not changes[field <= 0].any()


@pytest.mark.parametrize("name", DRAWN)
def test_component_changes_of_drawn_shapes(name: str) -> None:
    mask, *expected = DRAWN[name]
    for connectivity, (components, _) in zip(CONNECTIVITIES, expected, strict=True):
        changes = component_changes(mask[None].astype(float), connectivity == 2)
        assert changes.sum() == components
        # The same shape, drawn pixel by pixel as a mountain: births and merges end at the same count.
        slope = mask * np.random.default_rng(0).permutation(mask.size).reshape(mask.shape)
        assert component_changes((slope + mask)[None].astype(float), connectivity == 2).sum() == components


def test_a_ring_joins_itself_without_a_change() -> None:
    ring = np.array([[8.0, 7, 6], [1, 0, 5], [2, 3, 4]])
    for diagonal in (False, True):
        changes = component_changes(ring[None], diagonal)[0]
        assert changes[0, 0] == 1
        assert np.count_nonzero(changes) == 1


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_a_pixel_joins_up_to_four_components(connectivity: int) -> None:
    arms = {
        1: [[0.0, 2, 0], [3, 1, 4], [0, 5, 0]],
        2: [[2.0, 0, 3], [0, 1, 0], [4, 0, 5]],
    }
    field = np.array(arms[connectivity])
    expected = np.where(field > 1, 1, 0)
    expected[1, 1] = -3
    assert component_changes(field[None], connectivity == 2)[0].tolist() == expected.tolist()


@pytest.mark.usefixtures("shared_work")
def test_component_changes_one_by_one_and_in_batches() -> None:
    fields = np.random.default_rng(0).normal(size=(6, 150, 160))
    whole = component_changes(fields, False)
    np.testing.assert_array_equal(whole, np.concatenate([component_changes(f[None], False) for f in fields]))
    assert component_changes(fields[:0], True).shape == (0, 150, 160)


# What a metric says of itself


def test_declaration() -> None:
    teacher = metric("minkowski", thresholds=[0.105, 1], pixel_size=2, length_unit="km", outputs=OUTPUTS)
    assert "minkowski" in list_metrics()
    assert isinstance(teacher, Metric)
    assert teacher.arity == 1
    assert teacher.units == ("km^2", "km", "1", "1", "1")
    assert teacher.thresholds == (0.105, 1.0)
    assert teacher.levels == (0.25, 0.75)
    assert Minkowski([1]).outputs == ("area", "perimeter", "euler")
    assert "thresholds=[0.105, 1.0]" in repr(teacher)


def test_textbook_constraints() -> None:
    teacher = Minkowski([0.5, 1], pixel_size=2.0, outputs=OUTPUTS)
    textbook = {c.label: c for c in textbook_constraints(teacher)}
    assert set(textbook) == {
        "area non-increasing", "area >= 0", "area <= field", "perimeter >= 0", "P^2 >= 4 pi A",
        "components >= 0", "components >= euler", "holes >= 0", "holes = components - euler",
    }  # fmt: skip
    bound = textbook["P^2 >= 4 pi A"]
    area = np.array([[0.0, 1.0, 400.0]])
    np.testing.assert_allclose(bound.bound(area) ** 2, 4 * math.pi * area)
    # A circle obeys it; a pixel does not, nor do many exact excursion sets.
    circle = {"area": np.array([[math.pi]]), "perimeter": np.array([[2 * math.pi]])}
    assert not bound.violated(circle).any()
    pixel = teacher.named(teacher(np.ones((1, 1, 1))))
    assert bound.violated(pixel).all()


@pytest.mark.parametrize("outputs", [("area",), ("perimeter",), ("euler", "perimeter"), ("holes", "area")])
def test_textbook_constraints_speak_of_declared_outputs_alone(outputs: tuple[str, ...]) -> None:
    found = textbook_constraints(Minkowski([1], outputs=outputs))
    assert all({c.output, *c.of} <= {*outputs, "frame"} for c in found)
    assert not any(isinstance(c, Identity) for c in found)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"pixel_size": 2, "length_unit": "km", "outputs": ("holes", "area")},
        {"boundary": "open", "connectivity": 2, "levels": (0.1, 0.9)},
    ],
)
def test_config_round_trip(arguments: dict) -> None:
    teacher = metric("minkowski", thresholds=(0.105, np.float32(1.5)), **arguments)
    again = metric_from_config(json.loads(json.dumps(teacher.config())))
    assert again == teacher
    assert hash(again) == hash(teacher)
    assert again.units == teacher.units
    assert [c.label for c in again.constraints] == [c.label for c in teacher.constraints]


def test_equality_tells_metrics_apart() -> None:
    assert Minkowski([1.0]) != Minkowski([2.0])
    assert Minkowski([1.0]) != Minkowski([1.0], connectivity=2)
    assert Minkowski([1.0]) != "minkowski"


def test_pickle() -> None:
    fields = np.random.default_rng(11).random((2, 6, 6))
    teacher = Minkowski([0.3, 0.6], pixel_size=2, outputs=OUTPUTS)
    again = pickle.loads(pickle.dumps(teacher))
    assert again == teacher
    np.testing.assert_array_equal(again(fields), teacher(fields))
    assert again.check(again(fields)) == teacher.check(teacher(fields))


def test_quantiles_place_thresholds_and_levels() -> None:
    fields = np.arange(1, 101) / 100
    teacher = metric("minkowski", quantiles=(0.25, 0.5), fields=fields, quantum=0.01)
    assert teacher.thresholds == (0.245, 0.495)
    assert teacher.levels == (0.25, 0.5)


# Errors: one line that names the argument and the value


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"thresholds": []}, ["thresholds", "none"]),
        ({"thresholds": [2, 1]}, ["thresholds", "increasing", "2 before 1"]),
        ({"thresholds": [1, 1]}, ["thresholds", "increasing", "1 before 1"]),
        ({"thresholds": [0.1, math.nan]}, ["thresholds", "finite", "nan"]),
        ({"thresholds": [0.1, math.inf]}, ["thresholds", "finite", "inf"]),
        ({"thresholds": 0.5}, ["thresholds", "0.5"]),
        ({"thresholds": ["wet"]}, ["thresholds", "wet"]),
        ({"thresholds": [1], "pixel_size": 0}, ["pixel_size", "0"]),
        ({"thresholds": [1], "pixel_size": -2.5}, ["pixel_size", "-2.5"]),
        ({"thresholds": [1], "pixel_size": math.nan}, ["pixel_size", "nan"]),
        ({"thresholds": [1], "outputs": ()}, ["outputs", "()"]),
        ({"thresholds": [1], "outputs": "area"}, ["outputs", "'area'"]),
        ({"thresholds": [1], "outputs": ("area", "area")}, ["outputs", "distinct"]),
        ({"thresholds": [1], "outputs": ("area", "volume")}, ["outputs", "volume"]),
        ({"thresholds": [1], "boundary": "wrap"}, ["boundary", "'wrap'", "periodic-x"]),
        ({"thresholds": [1], "connectivity": 4}, ["connectivity", "4"]),
        ({"thresholds": [1, 2], "levels": [0.5]}, ["levels", "2 thresholds", "1"]),
        ({"thresholds": [1, 2], "levels": [0.5, 0.1]}, ["levels", "increasing", "0.5 before 0.1"]),
        ({}, ["minkowski", "thresholds"]),
        ({"thresholds": [1], "colour": "red"}, ["minkowski", "colour"]),
        ({"quantiles": [0.5]}, ["quantiles", "fields"]),
        ({"quantiles": [0.5], "fields": np.ones(3), "thresholds": [1]}, ["quantiles", "thresholds"]),
    ],
)
def test_argument_errors(arguments: dict, named: list[str]) -> None:
    with pytest.raises(ArgumentError) as caught:
        metric("minkowski", **arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert [part for part in named if part not in message] == []


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        (np.zeros((4, 4)), "(4, 4)"),
        (np.zeros((1, 2, 4, 4)), "(1, 2, 4, 4)"),
        (np.zeros((2, 0, 4)), "(2, 0, 4)"),
        (np.zeros((2, 4, 0)), "(2, 4, 0)"),
        (np.zeros((1, 2, 2), complex), "complex128"),
        (np.full((1, 2, 2), "wet"), "<U3"),
        (np.full((1, 2, 2), None), "object"),
    ],
)
def test_field_errors(fields: np.ndarray, named: str) -> None:
    with pytest.raises(ArgumentError, match="fields must") as caught:
        Minkowski([0.5])(fields)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_metric() -> None:
    with pytest.raises(ArgumentError, match=r"'minkovski'.*minkowski"):
        metric("minkovski", thresholds=[1])


@pytest.mark.parametrize("config", [{}, {"name": "minkowski"}, {"name": "minkowski", "arguments": [1]}])
def test_malformed_config(config: dict) -> None:
    with pytest.raises(ArgumentError, match="configuration"):
        metric_from_config(config)


@pytest.mark.parametrize("name", emuloss.metrics.__all__)
def test_public_names_are_documented(name: str) -> None:
    assert getattr(emuloss.metrics, name).__doc__
