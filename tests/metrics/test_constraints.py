"""What exact curves obey: no exact value breaks a declared constraint, and each one fires when broken."""

import math

import numpy as np
import pytest
from emuloss.errors import ArgumentError
from emuloss.metrics import CSI, FSS, SAL, BettiError, Minkowski
from emuloss.metrics.constraints import (
    FRAME,
    AtIdentity,
    AtLeast,
    AtMost,
    Identity,
    NonDecreasing,
    NonIncreasing,
    Symmetric,
    applicable,
)
from emuloss.metrics.minkowski import PIXEL_PERIMETER, isoperimetric_bound
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

OUTPUTS = ("area", "perimeter", "euler", "components", "holes")
ALWAYS = {
    "area non-increasing",
    "area >= 0",
    "area <= field",
    "perimeter >= 0",
    "perimeter <= P1 n",
    "components >= 0",
    "components >= min(n, 1)",
    "components >= euler",
    "holes >= 0",
    "holes = components - euler",
}
CLOSED = ALWAYS | {
    "perimeter >= P_min(area)",
    "euler <= 2P/pi",
    "euler >= -2P/pi",
    "euler >= 2 min(n, 1) - 2P/pi",
    "components <= 2P/pi",
    "components <= P/pi + euler/2",
    "components + holes <= 2P/pi",
}
OPEN = ALWAYS
ALL_4X4 = (np.arange(2**16)[:, None] >> np.arange(16) & 1).astype(bool).reshape(-1, 4, 4)


def violations(fields: np.ndarray, thresholds=(0.5,), **arguments) -> dict[str, float]:
    """Shares of violations in the exact curves of fields; those above zero."""
    teacher = Minkowski(thresholds, outputs=OUTPUTS, **arguments)
    shares = teacher.check(teacher(fields), fields.shape[1:])
    return {label: share for label, share in shares.items() if share}


def some_fields() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(20, 24, 31))
    walk = np.cumsum(np.cumsum(noise, 1), 2)
    board = np.indices((24, 31)).sum(0) % 2
    lattice = np.indices((24, 31)) % 2
    return {
        "noise": noise,
        "smooth": walk / walk.std(),
        "few values": rng.integers(-1, 3, (20, 24, 31)),
        "checkerboards": np.array([board, 1 - board]),
        "lattices": np.array([lattice.min(0), lattice.max(0), 1 - lattice.min(0)]),
        "constant": np.stack([np.zeros((24, 31)), np.ones((24, 31))]),
        "one row": noise[:, :1],
        "one column": noise[:, :, :1],
        "one pixel": noise[:, :1, :1],
        "not measured": np.full((2, 3, 4), np.nan),
        "infinite": np.where(noise > 0.3, np.inf, -np.inf),
        "no field": noise[:0],
    }


@pytest.mark.parametrize("connectivity", [1, 2])
@pytest.mark.parametrize("boundary", ["closed", "open"])
def test_all_4x4_images_break_none(boundary: str, connectivity: int) -> None:
    assert violations(ALL_4X4, boundary=boundary, connectivity=connectivity, pixel_size=2.0) == {}


@pytest.mark.parametrize("connectivity", [1, 2])
@pytest.mark.parametrize("boundary", ["closed", "open"])
@pytest.mark.parametrize("name", some_fields())
def test_exact_curves_break_none(name: str, boundary: str, connectivity: int) -> None:
    thresholds = (-1.5, -0.5, 0.0, 0.5, 1.0, 2.0)
    for pixel_size in (1.0, 2.0, 1e-3):
        arguments = {"boundary": boundary, "connectivity": connectivity, "pixel_size": pixel_size}
        assert violations(some_fields()[name], thresholds, **arguments) == {}


@settings(deadline=None, max_examples=100)
@given(
    hnp.arrays(np.int8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 4)),
    st.floats(1e-2, 1e2),
    st.sampled_from([1, 2]),
    st.sampled_from(["closed", "open"]),
)
def test_any_field_breaks_none(field, pixel_size: float, connectivity: int, boundary: str) -> None:
    arguments = {"pixel_size": pixel_size, "connectivity": connectivity, "boundary": boundary}
    assert violations(field[None], (0.5, 1.5, 2.5, 3.5), **arguments) == {}


# Each constraint fires


def honest(boundary: str = "closed") -> tuple[Minkowski, np.ndarray]:
    """A metric, and the exact curves (1, 5, 3) of a block with a hole on dry ground; pixel size 2."""
    field = np.zeros((16, 16))
    field[2:12, 2:12], field[4:8, 4:8], field[6, 6] = 2.0, 3.0, 0.0
    teacher = Minkowski((0.5, 1.5, 2.5), outputs=OUTPUTS, pixel_size=2.0, boundary=boundary)
    curves = teacher(field[None])
    assert set(teacher.check(curves, (16, 16)).values()) == {0.0}
    return teacher, curves


def broken(boundary: str = "closed", **changes: tuple[int, float]) -> dict[str, float]:
    """Shares of violations, those above zero, after setting outputs at (threshold) to values."""
    teacher, curves = honest(boundary)
    for name, (threshold, value) in changes.items():
        curves[0, OUTPUTS.index(name), threshold] = value
    return {label: share for label, share in teacher.check(curves, (16, 16)).items() if share}


@pytest.mark.parametrize(
    ("label", "changes"),
    [
        ("area non-increasing", {"area": (2, 400.0)}),
        ("area >= 0", {"area": (2, -4.0)}),
        ("area <= field", {"area": (0, 4 * 257.0)}),
        ("perimeter >= P_min(area)", {"perimeter": (0, 50.0)}),
        ("perimeter <= P1 n", {"perimeter": (2, 2 * 16 * PIXEL_PERIMETER)}),
        ("components >= min(n, 1)", {"components": (0, 0.5)}),
        ("components >= 0", {"components": (2, -1.0)}),
        ("components >= euler", {"euler": (0, 20.0)}),
        ("components <= 2P/pi", {"components": (0, 50.0)}),
        ("components <= P/pi + euler/2", {"euler": (0, -50.0)}),
        ("euler >= 2 min(n, 1) - 2P/pi", {"euler": (0, -60.0)}),
        ("holes >= 0", {"holes": (0, -1.0)}),
        ("components + holes <= 2P/pi", {"holes": (0, 60.0)}),
        ("euler >= -2P/pi", {"euler": (0, -60.0)}),
        ("euler <= 2P/pi", {"euler": (0, 60.0)}),
        ("holes = components - euler", {"euler": (0, 1.0)}),
    ],
)
def test_each_constraint_fires(label: str, changes: dict) -> None:
    assert broken(**changes)[label] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("label", "changes"),
    [
        ("perimeter >= 0", {"perimeter": (0, -1.0)}),
        ("perimeter <= P1 n", {"perimeter": (2, 2 * 16 * PIXEL_PERIMETER)}),
        ("holes >= 0", {"holes": (0, -1.0)}),
        ("holes = components - euler", {"holes": (1, 2.0)}),
    ],
)
def test_each_constraint_of_the_open_boundary_fires(label: str, changes: dict) -> None:
    assert broken("open", **changes)[label] == pytest.approx(1 / 3)


def test_single_faults_are_told_apart() -> None:
    assert broken(area=(0, 2000.0)).keys() == {"area <= field", "perimeter >= P_min(area)"}
    assert broken(euler=(0, 1.0)) == {"holes = components - euler": pytest.approx(1 / 3)}
    assert broken(perimeter=(1, -1.0)).keys() >= {"perimeter >= P_min(area)", "euler <= 2P/pi"}


@pytest.mark.parametrize("output", OUTPUTS)
def test_not_a_number_fires(output: str) -> None:
    assert broken(**{output: (1, math.nan)})


def test_rounding_to_single_precision_does_not_fire() -> None:
    teacher, curves = honest()
    assert set(teacher.check(curves.astype(np.float32), (16, 16)).values()) == {0.0}


# Declarations


def test_declared_constraints() -> None:
    assert {c.label for c in Minkowski([1], outputs=OUTPUTS).constraints} == CLOSED
    assert {c.label for c in Minkowski([1], outputs=OUTPUTS, boundary="open").constraints} == OPEN


@pytest.mark.parametrize("outputs", [("area",), ("perimeter",), ("euler", "perimeter"), ("holes", "area")])
def test_constraints_speak_of_declared_outputs_alone(outputs: tuple[str, ...]) -> None:
    for constraint in Minkowski([1], outputs=outputs).constraints:
        assert {constraint.output, *constraint.of} <= {*outputs, FRAME}


def test_bounds_on_the_size_of_the_field_need_its_shape() -> None:
    teacher, curves = honest()
    curves[0, 0] = 1e9
    assert "area <= field" not in teacher.check(curves)
    assert teacher.check(curves, (16, 16))["area <= field"] == 1.0
    assert teacher.check(curves).keys() | {"area <= field"} == set(CLOSED)


def test_checking_no_curves_gives_zeros() -> None:
    teacher = Minkowski([1, 2], outputs=OUTPUTS)
    assert set(teacher.check(np.zeros((0, 5, 2)), (4, 4)).values()) == {0.0}


@pytest.mark.parametrize("shape", [(5, 1), (2, 4, 1), (2, 5, 2), (1, 2, 5, 1)])
def test_curves_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match="curves must have shape") as caught:
        Minkowski([1], outputs=OUTPUTS).check(np.zeros(shape))
    assert str(shape) in str(caught.value)


def test_applicable_keeps_order() -> None:
    chosen = (
        NonIncreasing("a"),
        AtMost("a", "", lambda f: f, (FRAME,)),
        Identity("b", "", lambda a: a, ("a",)),
    )
    other = AtLeast("a", "", lambda c: c, ("c",)), NonIncreasing("c")
    assert applicable((chosen[0], *other, *chosen[1:]), ("b", "a")) == chosen


def test_a_curve_that_must_not_fall() -> None:
    curves = {"a": np.array([[1.0, 1.0, 2.0, 1.5], [3.0, 2.0, math.nan, 5.0]])}
    expected = [[False, False, False, True], [False, True, True, True]]
    np.testing.assert_array_equal(NonDecreasing("a").violated(curves), expected)
    assert NonDecreasing("a").label == "a non-decreasing"
    backwards = {"a": curves["a"][:1, ::-1]}
    assert NonIncreasing("a").violated(backwards).sum() == NonDecreasing("a").violated(curves)[:1].sum()


# Pairs

PAIRWISE = [
    FSS([0.5, 1.0]), CSI([0.5, 1.0]), CSI([0.5], ("pod", "far")), CSI([0.5], ("far",)), SAL(),
    SAL(absolute=False), BettiError([0.5, 1.0]),
]  # fmt: skip


def pairs(number: int = 6) -> np.ndarray:
    return np.random.default_rng(0).gamma(0.5, 2.0, (2, number, 12, 15))


@pytest.mark.parametrize("metric", PAIRWISE, ids=repr)
def test_exact_pairs_break_none(metric) -> None:
    shares = metric.check_pairs(*pairs())
    assert set(shares.values()) <= {0.0}
    assert shares.keys() == {c.label for c in metric.pair_constraints}


def test_what_pairwise_metrics_declare() -> None:
    declared = [(m.symmetric, m.identity, m.lower_better) for m in PAIRWISE]
    assert declared == [
        (True, 1.0, False), (True, 1.0, False), (False, None, False), (False, 0.0, True), (True, 0.0, True),
        (False, 0.0, True), (True, 0.0, True),
    ]  # fmt: skip
    assert Minkowski([1]).pair_constraints == ()


def test_constraints_of_pairs_fire() -> None:
    prediction, observation = pairs(4)
    metric = FSS([0.5, 1.0], windows=(1,))
    assert metric.pair_constraints == (Symmetric(), AtIdentity(1.0))

    def lopsided(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return metric(one, other) * (1 if one is observation else 0.5)

    shares = metric.check_pairs(prediction, observation, lopsided)
    assert shares == {"symmetric": 1.0, "m(x, x) = 1": 0.5}
    assert metric.check_pairs(prediction[:0], observation[:0]) == {"symmetric": 0.0, "m(x, x) = 1": 0.0}


# The isoperimetric bound


def test_single_pixel_meets_the_bound_and_breaks_the_textbook_inequality() -> None:
    area, perimeter = Minkowski([0.5], outputs=("area", "perimeter"))(np.ones((1, 1, 1)))[0, :, 0]
    assert perimeter == pytest.approx(isoperimetric_bound(area), rel=1e-12)
    assert perimeter**2 / (4 * math.pi * area) == pytest.approx(0.572, abs=5e-4)


def test_bound_between_its_known_values() -> None:
    assert isoperimetric_bound(np.array([0.0, 0.5, 1.0])) == pytest.approx(
        [0, PIXEL_PERIMETER / 2, PIXEL_PERIMETER]
    )
    # It grows, and bends down from n = 1 on, where heads may interpolate it.
    bound = isoperimetric_bound(np.linspace(0, 50, 501))
    assert (np.diff(bound) > 0).all()
    assert (np.diff(bound[10:], 2) < 0).all()


def test_bound_approaches_the_octagon() -> None:
    # A regular octagon, the Wulff shape, of inner radius r: the bound is its perimeter, nearly.
    rows, columns = np.indices((401, 401)) - 200
    across, slant = np.maximum(abs(rows), abs(columns)), (abs(rows) + abs(columns)) / math.sqrt(2)
    octagon = np.maximum(across, slant) <= 190
    area, perimeter = Minkowski([0.5], outputs=("area", "perimeter"))(octagon[None])[0, :, 0]
    assert 1 <= perimeter / isoperimetric_bound(area) < 1.003


def test_bound_is_the_same_for_tensors() -> None:
    torch = pytest.importorskip("torch")
    pixels = np.linspace(0, 300, 61)
    ours = isoperimetric_bound(torch.from_numpy(pixels))
    np.testing.assert_allclose(ours.numpy(), isoperimetric_bound(pixels), rtol=1e-14)
