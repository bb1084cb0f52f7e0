"""What `emuloss.relax` is given: a metric and what its relaxation takes, or one line on what is wrong."""

import re

import emuloss
import numpy as np
import pytest
import torch
from emuloss import ArgumentError, metric, relax
from emuloss.emulators import RELAXATIONS, NoRelaxation, RelaxedMasks
from emuloss.metrics import CSI, ExcursionMetric

AREA = metric("minkowski", thresholds=[0.5, 1.0], outputs=["area"])
NO_METRIC = {
    "a name": "minkowski",
    "a class": CSI,
    "nothing": None,
    "thresholds": [0.5, 1.0],
    "a surrogate": relax(AREA),
}


@pytest.mark.parametrize("given", NO_METRIC.values(), ids=NO_METRIC)
def test_what_is_no_metric_is_told_how_to_become_one(given) -> None:
    with pytest.raises(
        ArgumentError, match=r"^relax takes a metric, such as emuloss\.metric\('minkowski', "
    ) as caught:
        relax(given)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


UNKNOWN = {
    "temp": ("minkowski", "temp", "temperature"),
    "temperatur": ("csi", "temperatur", "temperature"),
    "forwards": ("fss", "forwards", "forward"),
    "tails": ("minkowski", "tails", "tail"),
}


@pytest.mark.parametrize(("name", "wrong", "meant"), UNKNOWN.values(), ids=UNKNOWN)
def test_unknown_arguments_are_named_with_what_was_meant(name: str, wrong: str, meant: str) -> None:
    with pytest.raises(
        ArgumentError,
        match=rf"^the relaxation of metric '{name}' has no argument '{wrong}'; it takes [^\n]*'{meant}'",
    ):
        relax(metric(name, thresholds=[1.0]), **{wrong: 0.1})


@pytest.mark.parametrize("name", ["minkowski", "csi", "fss", "boxcount"])
def test_thresholds_are_those_of_the_metric(name: str) -> None:
    with pytest.raises(ArgumentError, match="has no argument 'thresholds'"):
        relax(metric(name, thresholds=[1.0]), thresholds=[1.0, 2.0])


def test_what_only_another_relaxation_takes_is_refused() -> None:
    with pytest.raises(ArgumentError, match="has no argument 'tail'; it takes temperature, forward"):
        relax(metric("csi", thresholds=[1.0]), tail=(0.1, 0.5))


BAD = {
    "a name": "0.1",
    "nothing": [],
    "two": [0.1, 0.2, 0.3],
    "zero": 0.0,
    "no number": np.nan,
    "complex": 1j,
}


@pytest.mark.parametrize("temperature", BAD.values(), ids=BAD)
@pytest.mark.parametrize("name", ["minkowski", "csi"])
def test_temperatures_out_of_range_are_refused(name: str, temperature) -> None:
    with pytest.raises(ArgumentError, match="temperature must be one positive number, or one for each of 2"):
        relax(metric(name, thresholds=[0.5, 1.0]), temperature=temperature)


def test_a_relaxation_of_anothers_takes_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RELAXATIONS, "_things", dict(RELAXATIONS._things))

    class Volume(ExcursionMetric):
        name = "volume"

        def __init__(self, thresholds) -> None:
            super().__init__(thresholds, None, None, ["volume"])
            self.constraints = ()

        def _compute(self, fields: np.ndarray) -> np.ndarray:
            raise NotImplementedError

    with pytest.raises(NoRelaxation):
        relax(Volume([1.0]))

    @RELAXATIONS.register(Volume)
    class RelaxedVolume(RelaxedMasks):
        def __init__(self, metric: Volume, temperature: float = 0.1, *, slack: float = 0.0) -> None:
            super().__init__(metric, temperature)
            self.slack = slack

        def soft(self, batch: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
            return self.slack + self.memberships(batch).sum((2, 3))[:, None]

    assert relax(Volume([1.0]), slack=2.0).module.slack == 2.0
    with pytest.raises(
        ArgumentError, match=re.escape("'slak'; it takes temperature, slack (did you mean 'slack'?)")
    ):
        relax(Volume([1.0]), slak=2.0)


# Sizes beyond the field


@pytest.mark.parametrize("scales", [[1, 64], [3, 300], [4, 2**30]])
def test_boxes_beyond_the_field_hold_all_of_it(scales: list[int]) -> None:
    """With a cold relaxation the counts are the exact ones."""
    fields = np.random.default_rng(25).random((2, 7, 10))
    exact = metric("boxcount", thresholds=[0.2, 0.9], scales=scales)
    soft = relax(exact, temperature=1e-4)(torch.from_numpy(fields))
    np.testing.assert_allclose(soft.numpy(), exact(fields), atol=0.02)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("windows", [[1, 19], [5, 21, 101], [2**31 - 1]])
def test_windows_beyond_the_field_hold_all_of_it(windows: list[int], missing: bool) -> None:
    pair = np.random.default_rng(26).random((2, 2, 6, 10))
    if missing:
        pair[:, 0, 2:4, 3:8] = np.nan
    exact = metric("fss", thresholds=[0.3, 0.8], windows=windows)
    soft = relax(exact, temperature=1e-4)(torch.from_numpy(pair))
    np.testing.assert_allclose(soft.numpy(), exact(pair[:, 0], pair[:, 1]), atol=0.01)


def test_the_largest_sizes_take_no_more_memory_than_the_field() -> None:
    fields = torch.rand(1, 2, 64, 64, generator=torch.Generator().manual_seed(0))
    before = torch.autograd.profiler.profile(profile_memory=True)
    with before as record:
        relax(metric("fss", thresholds=[0.5], windows=[2**31 - 1]))(fields)
        relax(metric("boxcount", thresholds=[0.5], scales=[1, 2**30]))(fields[:, 0])
    assert max(event.cpu_memory_usage for event in record.key_averages()) < 10e6


def test_the_most_rings_take_little_memory() -> None:
    """Their grid of 4096 x 2049 wavenumbers alone would take 134 MB."""
    loss = relax(metric("spectrum", bins=2048, outputs=["power", "anisotropy"])).as_loss()
    fields = torch.rand(2, 64, 64, generator=torch.Generator().manual_seed(0))
    fields.requires_grad_()
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.nbytes) or x, lambda x: x):
        value = loss(fields[:1], fields[1:].detach())
    value.backward()
    assert fields.grad is not None
    assert fields.grad.any()
    assert 2e6 < sum(kept) < 20e6


# Fields at the ends of what single precision holds

OF_PAIRS = {
    "sal": {"outputs": ["amplitude"]},
    "sal, with drizzle": {"outputs": ["amplitude"], "wet": 0.1},
    "csi": {"thresholds": [0.5, 1.0], "outputs": ["csi", "pod", "far"]},
    "fss": {"thresholds": [0.5, 1.0]},
}
OF_FIELDS = {
    "boxcount": {"thresholds": [0.5, 1.0]},
    "spectrum": {"bins": 3, "outputs": ["power", "anisotropy"]},
    "minkowski": {"thresholds": [0.5, 1.0], "outputs": ["area", "perimeter", "euler", "components", "holes"]},
}
ENDS = [0.0, 1e-45, 1e-40, 1e-30, 1e-10, 1.0, 1e10, 1e30, 3e38, -1e-40, -1.0, -3e38]


@pytest.mark.filterwarnings("ignore::emuloss.losses.RangeWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("title", "arguments"), (OF_PAIRS | OF_FIELDS).items(), ids=OF_PAIRS | OF_FIELDS)
def test_losses_of_denormal_and_huge_fields_have_gradients(
    title: str, arguments: dict, dtype: torch.dtype
) -> None:
    loss = relax(metric(title.partition(",")[0], **arguments)).as_loss(reduction="sum")
    predictions = torch.tensor(ENDS, dtype=dtype).repeat_interleave(len(ENDS))
    targets = torch.tensor(ENDS, dtype=dtype).repeat(len(ENDS))
    uneven = torch.linspace(0.5, 1, 36, dtype=dtype).view(6, 6)
    for shape in (torch.ones_like(uneven), uneven):
        prediction = (predictions[:, None, None] * shape).requires_grad_()
        value = loss(prediction, targets[:, None, None] * shape)
        (gradient,) = torch.autograd.grad(value, prediction)
        assert value.isfinite()
        assert gradient.isfinite().all()
        assert gradient.square().sum().isfinite()  # as norms and optimisers take it


def test_amplitude_of_denormal_rain_is_that_of_none() -> None:
    loss = emuloss.relax(metric("sal", outputs=["amplitude"])).as_loss()
    dry = torch.zeros(1, 8, 8)
    assert loss(torch.full((1, 8, 8), 1e-40), dry) < 1e-6
    assert loss(torch.full((1, 8, 8), 1e-6), dry) == pytest.approx(2)


BEYOND = {
    "too close": ([1e-30, 1e-29], {}, "thresholds from 1e-30 to 1e-29 lie too close"),
    "too large": ([-1e308, 1e308], {}, "thresholds must lie from -1e.38 to 1e.38"),
    "a lone one too large": ([1e300], {}, "thresholds must lie from -1e.38 to 1e.38"),
    "narrow spreads": (
        [0.5, 1.0],
        {"spreads": [1e-300, 1.0]},
        "spreads must be one positive number for each",
    ),
    "wide spreads": ([0.5, 1.0], {"spreads": [1.0, 1e300]}, "spreads must be one positive number for each"),
    "a cold tail": ([0.5, 1.0], {"tail": (0.5, 10**400)}, "tail must be a share between 0 and 1"),
}


@pytest.mark.parametrize(("thresholds", "arguments", "message"), BEYOND.values(), ids=BEYOND)
def test_what_single_precision_does_not_hold_is_refused(thresholds, arguments: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=f"^{message}[^\n]*$"):
        relax(metric("minkowski", thresholds=thresholds), **arguments)


@pytest.mark.parametrize("name", ["minkowski", "boxcount"])
@pytest.mark.parametrize("threshold", [0.0, 1e-46, 1e-30, 1e30])
def test_a_lone_threshold_of_any_size_has_gradients(name: str, threshold: float) -> None:
    loss = relax(metric(name, thresholds=[threshold])).as_loss()
    prediction = torch.rand(1, 6, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(prediction, prediction.detach().flip(1) ** 2 - 0.1), prediction)
    assert gradient.isfinite().all()
