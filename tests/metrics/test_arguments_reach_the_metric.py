"""Arguments of `emuloss.metric`: those of the metric itself reach it, whatever they are called."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from emuloss import ArgumentError, metric, register
from emuloss.metrics import ExcursionMetric, quantile_thresholds
from emuloss.metrics.registry import METRICS

FIELDS = np.random.default_rng(22).gamma(0.5, 2.0, (4, 16, 16)).astype(np.float32)


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METRICS, "_things", dict(METRICS._things))


@pytest.fixture
def namesakes() -> None:
    """A metric whose arguments are called like those of `metric`."""

    @register
    class Namesakes(ExcursionMetric):
        """Each of its outputs is an argument."""

        name = "namesakes"

        def __init__(
            self,
            thresholds: Sequence[float] = (1.0,),
            wet: float = 0.5,
            quantum: float = 2.0,
            fields: int = 3,
        ) -> None:
            super().__init__(thresholds, None, ["sum"], ["sum"])
            self.wet, self.quantum, self.fields = wet, quantum, fields
            self.constraints = ()

        def _compute(self, fields: np.ndarray) -> np.ndarray:
            return np.full((len(fields), 1, len(self.thresholds)), self.wet + self.quantum + self.fields)


@pytest.fixture
def with_quantiles() -> None:
    """A metric with an argument called quantiles, and no thresholds."""

    @register
    class Spread(ExcursionMetric):
        """Distance between quantiles."""

        name = "spread-of-quantiles"

        def __init__(self, quantiles: Sequence[float] = (0.1, 0.9)) -> None:
            super().__init__([0.0], None, ["spread"], ["spread"])
            self.quantiles = tuple(quantiles)
            self.constraints = ()

        def _compute(self, fields: np.ndarray) -> np.ndarray:
            low, high = np.quantile(fields, self.quantiles, axis=(1, 2))
            return (high - low)[:, None, None]


def test_wet_is_that_of_sal() -> None:
    exact = metric("sal", wet=1.5)
    assert exact.arguments()["wet"] == 1.5
    drizzle = np.where(FIELDS < 1.5, FIELDS, 0)
    np.testing.assert_array_equal(exact(FIELDS, drizzle), exact(FIELDS, np.zeros_like(FIELDS)))
    assert metric("sal").arguments()["wet"] == 0


def test_namesakes_of_another_packages_metric_reach_it(namesakes: None) -> None:
    assert metric("namesakes", wet=0.25, quantum=8, fields=7)(FIELDS)[0, 0, 0] == 15.25
    assert metric("namesakes")(FIELDS)[0, 0, 0] == 5.5


def test_a_namesake_serves_thresholds_at_quantiles_too(namesakes: None) -> None:
    exact = metric("namesakes", quantiles=[0.3, 0.6], fields=FIELDS, wet=0.25, quantum=0.125)
    assert (exact.wet, exact.quantum) == (0.25, 0.125)
    assert exact.thresholds == quantile_thresholds(FIELDS, [0.3, 0.6], wet=0.25, quantum=0.125)


def test_quantiles_of_a_metric_that_has_them_are_its_own(with_quantiles: None) -> None:
    found = metric("spread-of-quantiles", quantiles=[0.25, 0.75])(FIELDS)[:, 0, 0]
    low, high = (np.quantile(FIELDS, q, axis=(1, 2)) for q in (0.25, 0.75))
    np.testing.assert_allclose(found, high - low)


def mean_of(field: np.ndarray) -> float:
    return float(field.mean())


@pytest.mark.parametrize("argument", ["wet", "quantum"])
@pytest.mark.parametrize("name", ["minkowski", "csi", mean_of])
def test_what_nothing_would_read_is_refused(name: str | Callable, argument: str) -> None:
    given = {} if name is mean_of else {"thresholds": [1.0]}
    with pytest.raises(
        ArgumentError, match=f"has no argument '{argument}'; without quantiles=, leave it out$"
    ):
        metric(name, **given, **{argument: 0.1})


MISSPELT = {
    "threshold": ("minkowski", {"threshold": [1.0]}, "thresholds"),
    "outputs": ("minkowski", {"thresholds": [1.0], "output": ["area"]}, "outputs"),
    "pixel size": ("minkowski", {"thresholds": [1.0], "pixelsize": 2.0}, "pixel_size"),
    "windows": ("fss", {"thresholds": [1.0], "window": [3]}, "windows"),
    "wet": ("sal", {"wett": 0.1}, "wet"),
    "bins": ("spectrum", {"bin": 3}, "bins"),
    "outputs of a function": (mean_of, {"output": ["mean"]}, "outputs"),
}


@pytest.mark.parametrize(("name", "arguments", "meant"), MISSPELT.values(), ids=MISSPELT)
def test_misspelt_arguments_are_named_with_what_was_meant(name, arguments: dict, meant: str) -> None:
    wrong = list(arguments)[-1]
    with pytest.raises(ArgumentError, match=rf"'{wrong}'; it takes [^\n]*did you mean '{meant}'\?"):
        metric(name, **arguments)


def test_one_output_in_place_of_a_list_is_told() -> None:
    with pytest.raises(ArgumentError, match=r"^outputs must be [^\n]* got 'area'; pass a list, \['area'\]$"):
        metric("minkowski", thresholds=[1.0], outputs="area")
