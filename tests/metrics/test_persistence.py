"""Components and holes of at least a persistence, against pairs by the elder rule and another library."""

import numpy as np
import pytest
from emuloss.errors import ArgumentError
from emuloss.metrics import Minkowski, metric_from_config
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

OUTPUTS = ("area", "perimeter", "euler", "components", "holes")
OBJECTS = ("components", "holes")
THRESHOLDS = (-0.5, 0.5, 1.5, 2.5, 3.5, 4.5)
CONNECTIVITIES = (1, 2)

fields = hnp.arrays(
    np.float64, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=8), elements=st.integers(0, 5)
)
quick = settings(deadline=None, max_examples=40)


def pairs(field: np.ndarray, diagonal: bool, wraps: bool = False) -> list[tuple[float, float]]:
    """(birth, death) of the components of {x >= u}: pixels join one by one, from the highest down."""
    rows, columns = field.shape
    near = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i or j) and (diagonal or not (i and j))]
    component: dict[tuple[int, int], int] = {}
    births: dict[int, float] = {}
    found = []
    for i, j in sorted(np.ndindex(field.shape), key=lambda at: -field[at]):
        around = [((i + di), (j + dj)) for di, dj in near]
        if wraps:
            around = [(k % rows, m % columns) for k, m in around]
        met = sorted({component[at] for at in around if at in component}, key=lambda label: -births[label])
        if not met:
            met = [len(births)]
            births[met[0]] = field[i, j]
        found += [(births[label], field[i, j]) for label in met[1:]]
        component[i, j] = met[0]
        component = {at: met[0] if label in met else label for at, label in component.items()}
    return [*found, (field.max(), -np.inf)]


def of_diagram(bars: list[tuple[float, float]], persistence: float) -> list[int]:
    """How many bars of at least that length contain each threshold."""
    return [sum(d < u <= b and b - d >= persistence for b, d in bars) for u in THRESHOLDS]


def hole_bars(field: np.ndarray, connectivity: int) -> list[tuple[float, float]]:
    """Those of the complement, but for the outside, whose bars end where those of holes begin."""
    around = np.pad(-field, 1, constant_values=np.inf)
    return [(-d, -b) for b, d in pairs(around, connectivity == 1)[:-1]]


def objects(field: np.ndarray, persistence: float, **arguments) -> np.ndarray:
    """Components and holes (2, Q)."""
    return Minkowski(THRESHOLDS, outputs=OBJECTS, persistence=persistence, **arguments)(field[None])[0]


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@quick
@given(field=fields, persistence=st.sampled_from([0.5, 1.0, 2.0, 3.0, 9.0]))
def test_pairs_by_the_elder_rule(connectivity: int, field: np.ndarray, persistence: float) -> None:
    components, holes = objects(field, persistence, connectivity=connectivity)
    assert components.tolist() == of_diagram(pairs(field, connectivity == 2), persistence)
    assert holes.tolist() == of_diagram(hole_bars(field, connectivity), persistence)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@quick
@given(field=fields.filter(lambda field: min(field.shape) > 1), persistence=st.sampled_from([1.0, 2.0]))
def test_components_on_a_torus(connectivity: int, field: np.ndarray, persistence: float) -> None:
    teacher = Minkowski(
        THRESHOLDS,
        outputs=["components"],
        persistence=persistence,
        boundary="periodic",
        connectivity=connectivity,
    )
    assert teacher(field[None])[0, 0].tolist() == of_diagram(
        pairs(field, connectivity == 2, wraps=True), persistence
    )


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_diagrams_of_another_library(connectivity: int) -> None:
    gudhi = pytest.importorskip("gudhi")
    rng = np.random.default_rng(5)
    # Vertices connect 4 ways, closed squares 8 ways.
    kind = "vertices" if connectivity == 1 else "top_dimensional_cells"
    for shape in ((40, 33), (7, 60)):
        noise = rng.normal(size=shape)
        for field in (noise, np.cumsum(noise, 0) / 3, np.round(2 * noise)):
            complex_ = gudhi.CubicalComplex(**{kind: -field})
            complex_.compute_persistence(homology_coeff_field=2, min_persistence=0)
            bars = [-complex_.persistence_intervals_in_dimension(dimension) for dimension in (0, 1)]
            for persistence in (0.1, 0.7, 1.5):
                for ours, theirs in zip(
                    objects(field, persistence, connectivity=connectivity), bars, strict=True
                ):
                    assert ours.tolist() == of_diagram([tuple(bar) for bar in theirs], persistence)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_shares_of_ranges_by_another_library(connectivity: int) -> None:
    gudhi = pytest.importorskip("gudhi")
    kind = "vertices" if connectivity == 1 else "top_dimensional_cells"
    noise = np.random.default_rng(7).normal(size=(5, 30, 26))
    batch = noise * np.array([0.1, 1.0, 1.7, 3.0, 20.0])[:, None, None]
    for percent in (3, 12.5, 40):
        found = Minkowski(THRESHOLDS, outputs=OBJECTS, persistence=f"{percent}%", connectivity=connectivity)(
            batch
        )
        for field, ours in zip(batch, found, strict=True):
            complex_ = gudhi.CubicalComplex(**{kind: -field})
            complex_.compute_persistence(homology_coeff_field=2, min_persistence=0)
            for dimension in (0, 1):
                bars = [tuple(bar) for bar in -complex_.persistence_intervals_in_dimension(dimension)]
                expected = of_diagram(bars, percent / 100 * (field.max() - field.min()))
                assert ours[dimension].tolist() == expected


def test_shares_of_ranges_know_no_unit() -> None:
    field = np.random.default_rng(8).normal(size=(1, 30, 30))
    share = Minkowski(THRESHOLDS, outputs=OBJECTS, persistence="15%")
    kelvin = share.with_arguments(thresholds=[280 + 4 * u for u in THRESHOLDS])
    np.testing.assert_array_equal(share(field), kelvin(280 + 4 * field))
    assert (share(field) != Minkowski(THRESHOLDS, outputs=OBJECTS)(field)).any()


def test_ranges_are_of_finite_values_that_were_measured() -> None:
    field = np.random.default_rng(9).normal(size=(1, 20, 20))
    field[0, 3:5, 3:5], field[0, 9, 9], field[0, 15, 2] = np.nan, np.inf, -np.inf
    finite = field[np.isfinite(field)]
    share, absolute = (
        Minkowski(THRESHOLDS, outputs=OBJECTS, persistence=each) for each in ("20%", 0.2 * np.ptp(finite))
    )
    np.testing.assert_array_equal(share(field), absolute(field))
    flat = np.concatenate([np.full((1, 4, 4), 2.0), np.full((1, 4, 4), np.nan)])
    assert share(flat)[:, 0].tolist() == [[1, 1, 1, 0, 0, 0], [0] * 6]


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@quick
@given(field=fields)
def test_next_to_none_filters_nothing(connectivity: int, field: np.ndarray) -> None:
    plain = Minkowski(THRESHOLDS, outputs=OBJECTS, connectivity=connectivity)(field[None])[0]
    np.testing.assert_array_equal(objects(field, 1e-9, connectivity=connectivity), plain)


@pytest.mark.parametrize("boundary", ["closed", "open", "periodic", "periodic-x"])
@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@settings(deadline=None, max_examples=30)
@given(field=fields.filter(lambda field: min(field.shape) > 1))
def test_exact_curves_obey_what_is_declared(connectivity: int, boundary: str, field: np.ndarray) -> None:
    outputs = OUTPUTS if boundary in ("closed", "open") else OUTPUTS[:4]
    for persistence in (1.0, 3.0):
        teacher = Minkowski(
            THRESHOLDS, outputs=outputs, connectivity=connectivity, boundary=boundary, persistence=persistence
        )
        assert not any(teacher.check(teacher(field[None]), field.shape).values())


def test_noise_is_not_counted() -> None:
    """Three hills, one of them with a crater, under noise."""
    i, j = np.mgrid[:64, :64]
    hills = sum(5 * np.exp(-((i - a) ** 2 + (j - b) ** 2) / 40) for a, b in ((15, 15), (15, 48), (45, 32)))
    crater = hills - 4 * np.exp(-((i - 45) ** 2 + (j - 32) ** 2) / 8)
    noisy = (crater + np.random.default_rng(6).uniform(-0.4, 0.4, hills.shape))[None]
    teacher = Minkowski((0.5, 1.3), outputs=OBJECTS, persistence=1.0)
    assert teacher(noisy)[0].tolist() == [[3, 3], [0, 1]]
    assert Minkowski((0.5,), outputs=OBJECTS)(noisy)[0, 0, 0] > 20


def test_not_measured_and_infinite_pixels() -> None:
    field = np.array([[5.0, np.nan, 5.0, 4.5, 5.0], [5, 5, 5, 5, np.inf], [-np.inf, 0, 0, 0, 3]])
    components, holes = objects(field, 1.0)
    assert components.tolist() == [1, 1, 1, 1, 1, 1]
    assert holes.tolist() == [0] * 6
    ring = np.full((3, 3), 4.0)
    for middle in (np.nan, -np.inf, 0.0):
        ring[1, 1] = middle
        expected = [0, 1, 1, 1, 1, 0] if middle == 0 else [1, 1, 1, 1, 1, 0]
        assert objects(ring, 1.0)[1].tolist() == expected
    wall = np.full((3, 3), np.inf)
    wall[1, 1] = 1.0
    assert objects(wall, 1.0).tolist() == [[1] * 6, [0, 0, 1, 1, 1, 1]]


def test_definitions_come_back_and_old_ones_stay() -> None:
    assert "persistence" not in Minkowski((1.0,)).arguments()
    lasting = Minkowski((1.0,), outputs=OBJECTS, persistence=0.1)
    assert metric_from_config(lasting.config()) == lasting
    assert lasting != Minkowski((1.0,), outputs=OBJECTS)
    share = Minkowski((1.0,), outputs=OBJECTS, persistence=" 2.50 %")
    assert share.persistence == "2.5%"
    assert metric_from_config(share.config()) == share
    assert Minkowski((1.0,), persistence="0%").persistence == 0


@pytest.mark.parametrize(
    "persistence", [-1, float("nan"), float("inf"), "much", True, "-1%", "101%", "%", "nan%"]
)
def test_unusable_persistence(persistence) -> None:
    with pytest.raises(ArgumentError, match="persistence must be a number, 0 or more"):
        Minkowski((1.0,), persistence=persistence)


def test_lasting_holes_of_a_torus_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"persistence \(=1\) of holes is not known .* leave holes out"):
        Minkowski((1.0,), outputs=OBJECTS, boundary="periodic", persistence=1)
