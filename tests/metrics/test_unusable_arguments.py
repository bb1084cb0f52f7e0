"""Whatever a metric is given for an argument: it works, or says in one line what is wrong."""

import fractions
import inspect
import itertools
import json
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from emuloss import ArgumentError, EmulossError, metric
from emuloss.metrics import FunctionMetric, Metric
from emuloss.metrics.registry import METRICS

PAIR = np.random.default_rng(23).gamma(0.5, 2.0, (2, 2, 9, 11)).astype(np.float32)
BUILT_IN = {kind.name: kind for kind in METRICS.things() if kind.__module__.startswith("emuloss.")}
ODD = [
    None, True, np.False_, "1", "abc", "x" * 10_000, b"x", "two\nlines", math.nan, math.inf, -math.inf,
    -1, 0, 1, 2, 0.5, 1e-46, 5e-324, 1e-300, 1e300, 1.7e308, 2**31, 2**31 + 1, 2**63, 2**64 + 1, 10**400,
    -(10**5000), 1 + 2j, object(), len, np.int64(3), np.float32(0.5), np.ma.masked,
    fractions.Fraction(1, 3), torch.tensor(1.0), [], [1], [1, 2], [2, 1], [1, "a"], ["1", "2"], [True],
    [None], [[1]], [math.nan], [1e-46], [1e-320, 1.0], [-1e308, 1e308], [10**400], [1, 2**31 + 1],
    [1, 2**63 + 1], [1, 2**70 + 1], [1.0, 1.0 + 1e-16], range(1, 4), np.array([0.5, 1.0]),
    np.array([[0.5, 1.0]]), np.array(["a"]), np.ma.array([1.0, 2.0], mask=[0, 1]),
    torch.tensor([0.5, 1.0]), {"a": 1}, {1.5}, {"mean_of": (0, 10**400)}, {"mean_of": (1, 0)},
    {"mean_of": "non-increasing"}, ["area"], ["area", "area"], [["area"]], [1 + 2j],
]  # fmt: skip


def mean_of(field: np.ndarray) -> float:
    return float(field.mean())


def works(exact: Metric) -> bool:
    """Whether a metric gives finite curves that obey its constraints, and its arguments build it again."""
    curves = exact(*PAIR[: exact.arity])
    assert np.isfinite(curves).all()
    assert not any(exact.check(curves, PAIR.shape[2:]).values())
    return type(exact)(**json.loads(json.dumps(exact.arguments()))) == exact


def refusal(call: Callable[[], object]) -> str:
    """What this package says against a call; "" where it goes well."""
    try:
        assert call()
    except EmulossError as error:
        return str(error)
    return ""


def arguments_of(kind: type[Metric]) -> list[str]:
    return [name for name in inspect.signature(kind).parameters if name != "source"]


@pytest.mark.parametrize(
    ("name", "argument"), [(name, each) for name, kind in BUILT_IN.items() for each in arguments_of(kind)]
)
def test_a_metric_works_or_refuses_its_argument_in_one_line(name: str, argument: str) -> None:
    needed = {"thresholds": [0.5, 2.0]} if "thresholds" in arguments_of(BUILT_IN[name]) else {}
    for value in ODD:
        said = refusal(lambda value=value: works(metric(name, **needed | {argument: value})))
        assert said == "" or (argument in said and said.isprintable() and len(said) < 500), said


@pytest.mark.parametrize("argument", arguments_of(FunctionMetric))
def test_a_function_works_or_its_argument_is_refused_in_one_line(argument: str) -> None:
    for value, fields in itertools.product(ODD, (None, PAIR[0])):
        said = refusal(lambda value=value, fields=fields: metric(mean_of, fields=fields, **{argument: value}))
        assert said == "" or (said.isprintable() and len(said) < 500), said


def test_endless_sequences_end() -> None:
    with pytest.raises(ArgumentError, match="thresholds must hold at most 1048576 numbers, got more"):
        metric("minkowski", thresholds=itertools.count())
    with pytest.raises(ArgumentError, match="sizes must hold at most 96 numbers, got more"):
        metric("clusters", thresholds=[1.0], sizes=itertools.count(1))


REFUSED = {
    "text": ("minkowski", {"thresholds": "0.5"}, "thresholds must be a sequence of numbers, such as"),
    "texts": ("minkowski", {"thresholds": ["1", "2"]}, "thresholds must be finite numbers, got '1' among"),
    "truth": ("minkowski", {"thresholds": [False, True]}, "thresholds must be finite numbers, got False"),
    "a number": ("minkowski", {"thresholds": 0.5}, r"such as \[1, 2\], got 0.5"),
    "hidden": (
        "minkowski",
        {"thresholds": np.ma.array([1.0, 2.0], mask=[0, 1])},
        "thresholds must be finite numbers, got masked",
    ),
    "huge": ("fss", {"thresholds": [1], "windows": [2**31 + 1]}, "windows must .* from 1 to 2147483647"),
    "no area": ("minkowski", {"thresholds": [1], "pixel_size": 1e-200}, "take another unit"),
    "no floor": ("spectrum", {"floor": -1e-6}, "floor must be a positive number"),
    "a flag": ("sal", {"wet": True}, "wet must be a number >= 0, got True"),
    "connects": ("minkowski", {"thresholds": [1], "connectivity": True}, "connectivity must be 1 .*got True"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_such_number_is_refused(name: str, arguments: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        metric(name, **arguments)


@pytest.mark.parametrize("scale", [1e-300, 1e-46, 1e-20, 1e20, 1e100, 1e139])
@pytest.mark.parametrize("name", BUILT_IN)
def test_fields_of_any_size_have_curves(name: str, scale: float) -> None:
    """Metrics of sets and ratios do not change; a spectrum moves by the logarithm of the scale, squared."""
    if name == "spectrum":
        plain, scaled = (metric(name, bins=4, floor=1e-300) for _ in range(2))
    else:
        options = {} if name == "sal" else {"thresholds": [0.5, 2.0]}
        plain = metric(name, **options)
        scaled = metric(name, **{key: [scale * u for u in value] for key, value in options.items()})
    pair = PAIR[: plain.arity].astype(np.float64)
    found, expected = scaled(*(scale * fields for fields in pair)), plain(*pair)
    if name == "spectrum":
        expected = np.maximum(expected + 2 * math.log10(scale), -300)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_sal_sees_rain_that_has_no_half() -> None:
    rain = np.zeros((1, 4, 4))
    rain[0, 1, 1] = 5e-324
    assert metric("sal")(rain, 0 * rain).ravel().tolist() == [2, 2, 2]
