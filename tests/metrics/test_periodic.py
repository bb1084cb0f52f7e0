"""Minkowski curves of fields whose opposite edges adjoin, against tiles, glued labels and counted cells."""

import itertools

import numpy as np
import pytest
from emuloss.errors import ArgumentError
from emuloss.metrics import Minkowski
from emuloss.metrics.kernels.excursions import component_changes
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage.measure import euler_number, perimeter_crofton

OUTPUTS = ("area", "perimeter", "euler", "components", "holes")
CONNECTIVITIES = (1, 2)
BOUNDARIES = ("periodic", "periodic-x")
SHAPES = [(2, 2), (2, 5), (5, 2), (3, 3), (3, 7), (8, 5), (16, 17)]

masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=8))
fields = hnp.arrays(
    np.float64, hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=8), elements=st.integers(0, 4)
)
quick = settings(deadline=None, max_examples=60)


def curves(batch, thresholds=(0.5,), **arguments) -> dict[str, np.ndarray]:
    """All five outputs by name, each (N, Q)."""
    teacher = Minkowski(thresholds, outputs=OUTPUTS, **arguments)
    return teacher.named(teacher(batch))


def values(mask, **arguments) -> dict[str, float]:
    return {name: curve[0, 0] for name, curve in curves(mask[None], **arguments).items()}


# Oracles of masks on a torus; a cylinder is a torus with a dry row between its edges


def per_tile(measure, mask: np.ndarray) -> float:
    """What one more tile adds to a local measure of tiles side by side, in either direction."""
    amounts = {shape: measure(np.tile(mask, shape)) for shape in itertools.product((2, 3), repeat=2)}
    return amounts[3, 3] - amounts[2, 3] - amounts[3, 2] + amounts[2, 2]


def cells(mask: np.ndarray, connectivity: int) -> int:
    """Vertices - edges + faces: of the pixels and their pairs, or of the pixels as closed squares."""
    right, below = np.roll(mask, -1, 1), np.roll(mask, -1, 0)
    across = np.roll(right, -1, 0)
    if connectivity == 1:
        return (
            mask.sum() - (mask & right).sum() - (mask & below).sum() + (mask & right & below & across).sum()
        )
    return (mask | right | below | across).sum() - (mask | right).sum() - (mask | below).sum() + mask.sum()


def glued_components(mask: np.ndarray, connectivity: int) -> int:
    """Labels of the plane, those united that touch across opposite edges."""
    labels, count = ndimage.label(mask, ndimage.generate_binary_structure(2, connectivity))
    parent = list(range(count + 1))

    def root(k: int) -> int:
        while parent[k] != k:
            k = parent[k]
        return k

    shifts = (-1, 0, 1) if connectivity == 2 else (0,)
    for one, other in ((labels[0], labels[-1]), (labels[:, 0], labels[:, -1])):
        for shift in shifts:
            for a, b in zip(one, np.roll(other, shift), strict=True):
                if a and b:
                    parent[root(a)] = root(b)
    return sum(parent[k] == k for k in range(1, count + 1))


def reference(mask: np.ndarray, connectivity: int, boundary: str) -> dict[str, float]:
    if boundary == "periodic-x":
        mask = np.pad(mask, ((0, 1), (0, 0)))
    components, euler = glued_components(mask, connectivity), cells(mask, connectivity)
    return {
        "area": mask.sum(),
        "perimeter": per_tile(lambda tiled: perimeter_crofton(tiled, directions=4), mask),
        "euler": euler,
        "components": components,
        "holes": components - euler,
    }


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_random_masks(shape: tuple[int, int], connectivity: int, boundary: str) -> None:
    rng = np.random.default_rng(sum(shape))
    batch = np.array([rng.random(shape) < p for p in (0, 0.1, 0.3, 0.5, 0.7, 0.9, 1) for _ in range(4)])
    ours = curves(batch, connectivity=connectivity, boundary=boundary)
    theirs = [reference(mask, connectivity, boundary) for mask in batch]
    for name in OUTPUTS:
        expected = [each[name] for each in theirs]
        np.testing.assert_allclose(ours[name][:, 0], expected, rtol=1e-12, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@quick
@given(masks)
def test_all_but_components_are_what_one_more_tile_adds(connectivity: int, mask: np.ndarray) -> None:
    ours = values(mask, connectivity=connectivity, boundary="periodic")
    assert ours["euler"] == per_tile(lambda tiled: euler_number(tiled, connectivity=connectivity), mask)
    assert ours["area"] == per_tile(np.sum, mask)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_betti_numbers_of_another_library(connectivity: int) -> None:
    gudhi = pytest.importorskip("gudhi")
    rng = np.random.default_rng(1)
    for density in (0.2, 0.4, 0.5, 0.6, 0.8, 0.95, 1.0):
        mask = rng.random((7, 8)) < density
        # Vertices connect 4 ways, closed squares 8 ways.
        kind = "vertices" if connectivity == 1 else "top_dimensional_cells"
        complex_ = gudhi.PeriodicCubicalComplex(
            **{kind: np.where(mask, 0.0, 1.0)}, periodic_dimensions=[True, True]
        )
        complex_.compute_persistence(homology_coeff_field=2, min_persistence=-1)
        zero, one, two = complex_.persistent_betti_numbers(0.5, 0.5)
        ours = values(mask, connectivity=connectivity, boundary="periodic")
        assert (ours["components"], ours["holes"]) == (zero, one - two)


DRAWN = {  # where the set is on a torus of 7 x 8; then components, holes
    "all": (lambda i, j: i >= 0, 1, 1),
    "nothing": (lambda i, j: i < 0, 0, 0),
    "a block over the corner": (lambda i, j: (i % 6 < 1) & (j % 7 < 1), 1, 0),
    "a band around": (lambda i, j: i == 3, 1, 1),
    "two bands around": (lambda i, j: (i == 3) | (i == 5), 2, 2),
    "bands that cross": (lambda i, j: (i == 3) | (j == 2), 1, 2),
    "all but a pixel": (lambda i, j: (i != 3) | (j != 0), 1, 2),
    "a band with a hole": (lambda i, j: (i < 3) & ~((i == 1) & (j == 4)), 1, 2),
}


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("name", DRAWN)
def test_drawn_shapes(name: str, connectivity: int) -> None:
    inside, components, holes = DRAWN[name]
    mask = inside(*np.indices((7, 8)))
    ours = values(mask, connectivity=connectivity, boundary="periodic")
    assert (ours["components"], ours["holes"]) == (components, holes)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("boundary", BOUNDARIES)
@quick
@given(field=fields, shift=st.tuples(st.integers(0, 7), st.integers(0, 7)))
def test_where_a_torus_is_cut_is_of_no_account(boundary: str, connectivity: int, field, shift) -> None:
    shift = shift if boundary == "periodic" else (0, shift[1])
    batch = np.stack([field, np.roll(field, shift, (0, 1)), field[::-1], field[:, ::-1]])
    found = curves(batch, (0.5, 1.5, 2.5, 3.5), connectivity=connectivity, boundary=boundary)
    for name, curve in found.items():
        np.testing.assert_allclose(curve, curve[:1].repeat(4, 0), rtol=1e-12, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("boundary", BOUNDARIES)
@quick
@given(field=fields)
def test_many_thresholds_equal_one_at_a_time(boundary: str, connectivity: int, field: np.ndarray) -> None:
    arguments = {"connectivity": connectivity, "boundary": boundary}
    together = curves(field[None], (0.5, 1.5, 2.5, 3.5), **arguments)
    for q, u in enumerate((0.5, 1.5, 2.5, 3.5)):
        alone = values(field >= u, **arguments)
        assert {name: curve[0, q] for name, curve in together.items()} == pytest.approx(alone)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@quick
@given(field=fields)
def test_a_dry_margin_makes_a_torus_a_plane(connectivity: int, field: np.ndarray) -> None:
    padded = np.pad(field, ((0, 1), (0, 1)))[None]
    arguments = {"thresholds": (0.5, 2.5), "connectivity": connectivity}
    flat = curves(field[None], **arguments)
    for boundary in BOUNDARIES:
        for name, curve in curves(padded, **arguments, boundary=boundary).items():
            np.testing.assert_allclose(curve, flat[name], rtol=1e-12, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("wraps", [(True, True), (False, True), (True, False)])
@pytest.mark.parametrize("diagonal", [False, True])
@quick
@given(field=fields)
def test_component_changes_sum_to_components(diagonal: bool, wraps, field: np.ndarray) -> None:
    changes = component_changes(field[None] + 1, diagonal, wraps)[0]
    for u in np.unique(field):
        # A dry line keeps edges apart that do not adjoin.
        mask = np.pad(field >= u, [(0, not wrap) for wrap in wraps])
        assert changes[field >= u].sum() == glued_components(mask, 2 if diagonal else 1)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("boundary", BOUNDARIES)
@settings(deadline=None, max_examples=150)
@given(mask=masks)
def test_exact_curves_obey_what_is_declared(boundary: str, connectivity: int, mask: np.ndarray) -> None:
    teacher = Minkowski((0.5,), outputs=OUTPUTS, connectivity=connectivity, boundary=boundary, pixel_size=3.0)
    batch = np.stack([mask, ~mask, np.ones_like(mask)])
    assert not any(teacher.check(teacher(batch), mask.shape).values())


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("shape", [(2, 2), (2, 3), (3, 3), (3, 4), (4, 4), (2, 6)], ids=str)
def test_every_small_mask_obeys_what_is_declared(shape, boundary: str, connectivity: int) -> None:
    size = shape[0] * shape[1]
    every = (np.arange(2**size)[:, None] >> np.arange(size) & 1).astype(bool).reshape(-1, *shape)
    teacher = Minkowski((0.5,), outputs=OUTPUTS, connectivity=connectivity, boundary=boundary)
    assert not any(teacher.check(teacher(every), shape).values())


def test_what_holds_in_the_plane_alone_is_not_declared() -> None:
    """All of a torus, and all but a pixel, break what is declared for the plane."""
    plane = Minkowski((0.5,), outputs=OUTPUTS)
    torus = Minkowski((0.5,), outputs=OUTPUTS, boundary="periodic")
    batch = np.ones((2, 6, 6))
    batch[1, 2, 2] = 0
    broken = {label for label, share in plane.check(torus(batch), (6, 6)).items() if share}
    assert broken >= {"perimeter >= P_min(area)", "components + holes <= 2P/pi", "components <= 2P/pi"}
    assert not broken & {c.label for c in torus.constraints}


def test_a_pixel_does_not_adjoin_itself() -> None:
    with pytest.raises(ArgumentError, match=r"boundary='periodic' needs two pixels .* 1 x 5"):
        Minkowski((0.5,), boundary="periodic")(np.zeros((1, 1, 5)))
    Minkowski((0.5,), boundary="periodic-x")(np.zeros((1, 1, 5)))


def test_turning_is_no_symmetry_of_a_cylinder() -> None:
    assert Minkowski((0.5,), boundary="periodic").invariant
    assert not Minkowski((0.5,), boundary="periodic-x").invariant
