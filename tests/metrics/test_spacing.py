"""Minkowski curves of pixels that are not square, and of rows that weigh differently."""

import functools
import math

import numpy as np
import pytest
from emuloss.errors import ArgumentError
from emuloss.metrics import Minkowski, metric_from_config
from emuloss.metrics.constraints import FRAME
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

OUTPUTS = ("area", "perimeter", "euler", "components", "holes")
BOUNDARIES = ("closed", "open", "periodic", "periodic-x")
STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))
SPACINGS = [(1.0, 1.0), (2.0, 1.0), (0.3, 1.7), (5.0, 0.5), (30.0, 1.0)]

masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=8))
quick = settings(deadline=None, max_examples=30)


def values(mask, **arguments) -> dict[str, float]:
    teacher = Minkowski((0.5,), outputs=OUTPUTS, **arguments)
    return {name: curve[0, 0] for name, curve in teacher.named(teacher(mask[None])).items()}


@functools.cache
def shares_of_angles(dy: float, dx: float) -> np.ndarray:
    """Shares of all angles that are nearest to each direction, counted."""
    directions = np.array([math.atan2(down * dy, right * dx) for down, right in STEPS])
    angles = (np.arange(100_000) + 0.5) / 100_000 * math.pi
    apart = np.abs(np.sin(angles - directions[:, None]))  # modulo pi, of directions without a sense
    return np.bincount(apart.argmin(0), minlength=4) / len(angles)


def crofton(mask: np.ndarray, spacing: tuple[float, float], boundary: str) -> float:
    """pi/2 times the mean over all angles of the crossings of the lines that lie nearest in direction.

    Lines are as far apart as the pixels' area over the distance of pixels on them.
    """
    dy, dx = spacing
    margins = {"closed": (True, True), "open": (False, False), "periodic": (False, False)}
    pad = margins.get(boundary, (True, False))
    padded = np.pad(mask, [(int(each), int(each)) for each in pad])
    wraps = (boundary == "periodic", boundary.startswith("periodic"))
    total = 0.0
    for share, (down, right) in zip(shares_of_angles(dy, dx), STEPS, strict=True):
        moved = np.roll(padded, (-down, -right), (0, 1))
        met = moved != padded
        if down and not wraps[0]:
            met = met[:-1]
        if right and not wraps[1]:
            met = met[:, :-1] if right > 0 else met[:, 1:]
        total += share * dy * dx / math.hypot(down * dy, right * dx) * met.sum()
    return math.pi / 2 * total


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("spacing", SPACINGS, ids=str)
def test_perimeter_is_crofton_over_unequal_directions(spacing, boundary: str) -> None:
    rng = np.random.default_rng(1)
    for shape in ((7, 9), (2, 5), (12, 4)):
        for density in (0.2, 0.5, 0.8):
            mask = rng.random(shape) < density
            ours = values(mask, spacing=spacing, boundary=boundary)
            assert ours["perimeter"] == pytest.approx(crofton(mask, spacing, boundary), rel=1e-4)
            assert ours["area"] == pytest.approx(mask.sum() * math.prod(spacing))
            plain = values(mask, boundary=boundary)
            assert [ours[name] for name in OUTPUTS[2:]] == [plain[name] for name in OUTPUTS[2:]]


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (2.0, 1.0), (1.0, 3.0)], ids=str)
def test_disks_are_round(spacing) -> None:
    dy, dx = spacing
    rows, columns = np.ogrid[: int(300 / dy), : int(300 / dx)]
    disk = (dy * rows - 150) ** 2 + (dx * columns - 150) ** 2 <= 100**2
    ours = values(disk, spacing=spacing)
    assert ours["area"] == pytest.approx(math.pi * 100**2, rel=0.01)
    assert ours["perimeter"] == pytest.approx(2 * math.pi * 100, rel=0.02)
    # What square pixels of the same area would make of it is an ellipse.
    if dy != dx:
        square = values(disk, pixel_size=math.sqrt(dy * dx))
        assert abs(square["perimeter"] / ours["perimeter"] - 1) > 0.02


@pytest.mark.parametrize("boundary", BOUNDARIES)
@quick
@given(mask=masks)
def test_equal_sides_are_a_pixel_size(boundary: str, mask: np.ndarray) -> None:
    assert values(mask, spacing=(2.5, 2.5), boundary=boundary) == values(
        mask, pixel_size=2.5, boundary=boundary
    )
    near = values(mask, spacing=(2.5, 2.5 * (1 + 1e-12)), boundary=boundary)
    assert near == pytest.approx(values(mask, pixel_size=2.5, boundary=boundary), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("boundary", ["closed", "open", "periodic"])
@quick
@given(mask=masks)
def test_a_field_that_is_turned_has_turned_pixels(boundary: str, mask: np.ndarray) -> None:
    turned = values(mask.T, spacing=(3.0, 0.7), boundary=boundary)
    assert values(mask, spacing=(0.7, 3.0), boundary=boundary) == pytest.approx(turned, abs=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("connectivity", [1, 2])
@pytest.mark.parametrize("boundary", BOUNDARIES)
@settings(deadline=None, max_examples=20)
@given(mask=masks, height=st.floats(0.05, 20))
def test_exact_curves_obey_what_is_declared(boundary, connectivity, weighted, mask, height) -> None:
    weights = np.cos(np.linspace(-1.4, 1.2, len(mask))) if weighted else None
    teacher = Minkowski(
        (0.5,),
        outputs=OUTPUTS,
        connectivity=connectivity,
        boundary=boundary,
        spacing=(height, 1.3),
        row_weights=weights,
    )
    one = np.zeros_like(mask)
    one[-1, -1] = True
    batch = np.stack([mask, ~mask, np.ones_like(mask), one])
    assert not any(teacher.check(teacher(batch), mask.shape).values())


@pytest.mark.parametrize("boundary", ["periodic", "periodic-x"])
@pytest.mark.parametrize("height", [0.05, 1.0, 20.0])
def test_every_small_mask_obeys_what_is_declared(height: float, boundary: str) -> None:
    every = (np.arange(2**9)[:, None] >> np.arange(9) & 1).astype(bool).reshape(-1, 3, 3)
    teacher = Minkowski((0.5,), outputs=OUTPUTS, boundary=boundary, spacing=(height, 1.0))
    assert not any(teacher.check(teacher(every), (3, 3)).values())


def test_rows_weigh_the_area_alone() -> None:
    latitudes = np.linspace(-85, 85, 12)
    weights = np.cos(np.radians(latitudes))
    fields = np.random.default_rng(2).normal(size=(3, 12, 20))
    teacher = Minkowski((-0.5, 0.4), 3.0, OUTPUTS, row_weights=weights)
    ours, plain = teacher(fields), Minkowski((-0.5, 0.4), 3.0, OUTPUTS)(fields)
    for q, u in enumerate((-0.5, 0.4)):
        expected = 9 * ((fields >= u) * weights[:, None]).sum((1, 2))
        np.testing.assert_allclose(ours[:, 0, q], expected, rtol=1e-12)
    np.testing.assert_allclose(ours[:, 1:], plain[:, 1:], rtol=1e-12)
    whole = teacher(np.ones((1, 12, 20)))[0, 0, 0]
    assert teacher.named(ours, (12, 20))[FRAME] == pytest.approx(whole)


def test_not_measured_is_dry() -> None:
    field = np.array([[[np.nan, 2.0], [np.inf, -np.inf]]])
    ours = Minkowski((1.0,), outputs=("area", "perimeter"), spacing=(2, 1), row_weights=(1, 3))(field)
    dry = Minkowski((1.0,), outputs=("area", "perimeter"), spacing=(2, 1), row_weights=(1, 3))(
        np.array([[[0.0, 2.0], [2.0, 0.0]]])
    )
    np.testing.assert_array_equal(ours, dry)
    assert ours[0, 0, 0] == 2 * (1 + 3)


def test_definitions_come_back_and_old_ones_stay() -> None:
    plain = Minkowski((1.0, 2.0), 2.0)
    assert "spacing" not in plain.arguments()
    assert "row_weights" not in plain.arguments()
    uneven = Minkowski((1.0, 2.0), spacing=(2, 0.5), row_weights=[1, 2, 3], boundary="periodic-x")
    again = metric_from_config(uneven.config())
    assert again == uneven
    assert (again.spacing, again.row_weights, again.pixel_size) == ((2.0, 0.5), (1.0, 2.0, 3.0), 1.0)
    assert again.with_arguments(thresholds=[3.0], levels=None).spacing == (2.0, 0.5)
    assert not uneven.invariant
    assert "pixel_size" not in uneven.arguments()
    assert Minkowski((1.0, 2.0), 1.0, spacing=(2, 0.5)).spacing == (2.0, 0.5)  # as definitions had both once
    assert again.with_arguments(spacing=None, pixel_size=3.0).pixel_size == 3.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spacing": 2.0}, "spacing must be a sequence"),
        ({"spacing": (1, 2, 3)}, "spacing must be the height and the width"),
        ({"spacing": (1, -2)}, "each of spacing must be a positive number"),
        ({"spacing": (2, 1), "pixel_size": 2.0}, r"pixel_size \(=2.0\) is of square .* give one of both"),
        ({"row_weights": (1, 0)}, "each of row_weights must be a positive number"),
        ({"row_weights": ()}, "row_weights must hold"),
    ],
)
def test_unusable_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Minkowski((1.0,), **arguments)


def test_as_many_weights_as_rows() -> None:
    with pytest.raises(ArgumentError, match=r"row_weights must be one for each row .* got 3 for .* 4 x 5"):
        Minkowski((1.0,), row_weights=(1, 2, 3))(np.zeros((1, 4, 5)))
