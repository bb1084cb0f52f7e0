"""Surrogates of metrics without thresholds, of any size of values, and of any constraints."""

from __future__ import annotations

import emuloss
import numpy as np
import pytest
import torch
from drawn import rain_array
from emuloss.emulators import ARCHITECTURES, CurveDistance, found_scales, log_curves
from emuloss.emulators.differentiable import DEFAULT_INTENSITIES
from emuloss.emulators.gradients import pulled_back
from emuloss.emulators.networks.encodings import intensity_axis
from emuloss.errors import ArgumentError
from emuloss.evaluation import evaluate, exact_distance, fidelity, summary_table
from emuloss.evaluation.classes import fullness
from emuloss.evaluation.report import write_report
from emuloss.losses import Provenance
from emuloss.metrics import BoxCount, Clusters, Metric, Minkowski, Morphology, Percolation, Spectrum
from emuloss.metrics.constraints import NonDecreasing
from emuloss.training import Trainer, Training
from emuloss.zoo import Surrogate
from emuloss.zoo.golden import golden_fields, verify

THRESHOLDS = (0.3, 1.0, 2.5)
TRAINED = ("baseline", "lipschitz", "constrained", "hybrid", "certified")
SMALL = {"widths": (8, 16), "hidden": 16}


class Extremes(Metric):
    """Largest value and total of a field, of no declared bound, in units that make them small and large."""

    name = "extremes"
    invariant = True
    outputs = ("largest", "total")
    units = ("km", "mm")
    thresholds = ()
    levels = (0.5,)
    pixel_size = 1.0
    constraints = ()

    def __init__(self, scales=None):
        self.given = scales
        if scales is not None:
            self.scales = tuple(scales)

    def arguments(self):
        return {"scales": self.given}

    def _compute(self, fields):
        fields = np.nan_to_num(fields.astype(np.float64))
        return np.stack([1e-6 * fields.max((1, 2)), 1e6 * fields.sum((1, 2))], 1)[:, :, None]


class Ranks(Extremes):
    """Deciles of a field."""

    name = "ranks"
    outputs = ("value",)
    units = ("mm",)
    levels = (0.1, 0.5, 0.9)
    constraints = (NonDecreasing("value"),)

    def _compute(self, fields):
        return np.quantile(np.nan_to_num(fields), self.levels, axis=(1, 2)).T[:, None]


def rain(number: int = 8, seed: int = 0) -> np.ndarray:
    return rain_array(number, 16, 16, law="gamma, of many intensities", seed=seed)


METRICS = [
    Spectrum(bins=5),
    Extremes((1e-6, 1e8)),
    Ranks(),
    BoxCount(THRESHOLDS, scales=(1, 2, 4)),
    Clusters(THRESHOLDS),
    Percolation(THRESHOLDS),
    Morphology(THRESHOLDS),
]
FREE = METRICS[:3]


def network(metric: Metric, architecture: str, **arguments) -> torch.nn.Module:
    torch.manual_seed(0)
    emulator = ARCHITECTURES[architecture](metric, **SMALL, **arguments)
    torch.nn.init.normal_(emulator.fc[-1].weight, std=0.2)
    return emulator.eval()


# What stands for thresholds


def test_intensities_stand_for_thresholds():
    assert intensity_axis(Spectrum(), None) == DEFAULT_INTENSITIES
    assert intensity_axis(Spectrum(), [250, 280, 300]) == (250.0, 280.0, 300.0)
    assert intensity_axis(Minkowski(THRESHOLDS), None) == THRESHOLDS
    with pytest.raises(ArgumentError, match="leave them out"):
        intensity_axis(Minkowski(THRESHOLDS), (1.0, 2.0))
    with pytest.raises(ArgumentError, match="intensities"):
        intensity_axis(Spectrum(), (2.0, 1.0))


@pytest.mark.parametrize("architecture", TRAINED)
def test_intensities_are_arguments_where_they_are_given(architecture):
    emulator = network(Spectrum(bins=5), architecture, intensities=(250, 280, 300))
    assert emulator.arguments()["intensities"] == [250.0, 280.0, 300.0]
    # At temperatures in kelvin one kelvin matters.
    warm = 270 + torch.from_numpy(rain())
    assert (emulator(warm) - emulator(warm + 1)).abs().max() > 1e-4
    assert "intensities" not in network(Spectrum(bins=5), architecture).arguments()
    assert "intensities" not in network(Minkowski(THRESHOLDS), architecture).arguments()


@pytest.mark.parametrize("architecture", TRAINED)
@pytest.mark.parametrize("metric", METRICS, ids=lambda m: m.name)
def test_every_architecture_takes_every_metric(metric, architecture):
    emulator = network(metric, architecture)
    fields = torch.from_numpy(rain())
    fields[0, :3] = torch.nan
    fields.requires_grad_()
    curves = emulator(fields)
    assert curves.shape == (8, len(metric.outputs), len(metric.levels))
    log_curves(curves, metric.scales).sum().backward()
    assert fields.grad.isfinite().all()
    assert fields.grad.abs().sum() > 0
    if architecture in ("constrained", "hybrid"):
        assert not any(metric.check(curves.detach().numpy(), (16, 16)).values())


def test_monotone_outputs_are_sorted_by_certified_heads():
    curves = network(Ranks(), "certified")(torch.from_numpy(rain()))
    assert (curves.diff(dim=-1) >= 0).all()


# Sizes of outputs


def test_scales_are_1_unless_set():
    assert Minkowski(THRESHOLDS).scales == (1.0, 1.0, 1.0)
    assert BoxCount(THRESHOLDS, scales=(1, 2)).scales == (1.0, 1.0, 1.0)
    assert Extremes((2.0, 3.0)).scales == (2.0, 3.0)
    assert CurveDistance((0.5,), (1.0, 1.0)).scales is None


def test_distances_are_in_units_of_the_scales():
    metric = Extremes((1e-6, 1e8))
    first, second = torch.tensor([[[2e-6], [3e8]]]), torch.tensor([[[1e-6], [1e8]]])
    expected = torch.log1p(torch.tensor([[2.0, 3.0]])) - torch.log1p(torch.tensor([[1.0, 1.0]]))
    torch.testing.assert_close(CurveDistance(metric.levels, metric.scales)(first, second), expected)
    fields, others = rain(4), rain(4, seed=1)
    with_scales = exact_distance(metric, fields, others)
    assert (with_scales > 1e-3).all()
    assert (exact_distance(Extremes(), fields, others)[:, 0] < 1e-5).all()
    found = fidelity(metric, metric(fields), metric(others), (16, 16))["outputs"]
    np.testing.assert_allclose([f["distance"] for f in found.values()], with_scales.mean(0))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.linspace(0.9, 1.1, 101), 1.1),  # narrow: linear
        (np.linspace(-3e-3, 3e-3, 101), 2.9e-3),
        (np.linspace(-1, 1, 1001), 0.95),  # what is next to 0 there tells nothing
        (np.geomspace(1e-3, 1e5, 1001) * (-1) ** np.arange(1001), 10.0),  # decades of either sign
        (np.geomspace(1e-3, 1e5, 1001), 2.5e-3),  # decades: logarithmic from the small ones on
        (np.zeros(5), 1.0),
        (np.array([0, 0, 0, 0, 7.0]), 7.0),
    ],
)
def test_found_scales(values, expected):
    curves = np.stack([values, -values], 1)[:, :, None]
    assert found_scales(curves) == (expected, expected)


def test_free_outputs_are_read_on_the_scale_of_their_size():
    """The raw value is slog(x/s): curves in other units are the same curves."""
    fields = torch.from_numpy(rain())
    for architecture in ("lipschitz", "constrained", "certified"):
        plain = network(Extremes(), architecture)(fields)
        scaled = network(Extremes((1e-6, 1e8)), architecture)(fields)
        torch.testing.assert_close(scaled / torch.tensor([[1e-6], [1e8]]), plain)


@pytest.mark.parametrize("architecture", ["lipschitz", "constrained", "certified"])
@pytest.mark.parametrize("metric", [*FREE, Extremes((1.0, 1e8))], ids=lambda m: m.name)
def test_training_starts_at_the_median_label(tmp_path, metric, architecture):
    fields = rain(40)
    labels = metric(fields)
    torch.manual_seed(0)
    emulator = ARCHITECTURES[architecture](metric, **SMALL)
    torch.nn.init.zeros_(emulator.fc[-1].weight)
    median = torch.from_numpy(np.median(labels, 0)).float()
    distance = CurveDistance(metric.levels, metric.scales)
    before = distance(emulator.eval()(torch.from_numpy(fields[:1])), median[None]).sum()
    options = Training(minutes=None, fields=8, batch_size=8, precision="float32")
    Trainer(emulator, (fields, labels), (fields, labels), options, tmp_path, progress=False)
    after = distance(emulator.eval()(torch.from_numpy(fields[:1])), median[None]).sum()
    assert after < 0.3 * before or after < 0.02


def test_a_minkowski_emulator_starts_as_its_heads_are_made(tmp_path):
    metric = Minkowski(THRESHOLDS)
    fields = rain(40)
    emulator = ARCHITECTURES["constrained"](metric, **SMALL)
    options = Training(minutes=None, fields=8, batch_size=8, precision="float32")
    data = (fields, metric(fields))
    Trainer(emulator, data, data, options, tmp_path, progress=False)
    assert not emulator.fc[-1].bias.any()


def test_slopes_are_in_units_of_the_scales():
    fields = torch.from_numpy(rain())
    along = torch.ones(8, 2, 1)
    emulator = network(Extremes((1e-6, 1e8)), "lipschitz")
    plain = network(Extremes(), "lipschitz")
    found = pulled_back(emulator, fields, along, emulator.metric.scales)
    torch.testing.assert_close(found, pulled_back(plain, fields, along), rtol=1e-4, atol=1e-6)


# Training, evaluation and checkpoints


@pytest.mark.parametrize("metric", FREE, ids=lambda m: m.name)
def test_it_learns_without_thresholds(tmp_path, metric):
    training, validation = rain(64, seed=1), rain(16, seed=2)
    torch.manual_seed(0)
    emulator = ARCHITECTURES["constrained"](metric, **SMALL)
    options = Training(
        minutes=None,
        fields=40 * 8,
        batch_size=8,
        validations=4,
        learning_rate=1e-2,
        precision="float32",
    )
    data = [(fields, metric(fields)) for fields in (training, validation)]
    trainer = Trainer(emulator, *data, options, tmp_path, progress=False)
    trainer.run()
    median = torch.from_numpy(np.median(data[0][1], 0, keepdims=True)).expand(16, -1, -1)
    by_guess = CurveDistance(metric.levels, metric.scales)(median, torch.from_numpy(data[1][1]))
    assert trainer.best["loss"] < 0.9 * by_guess.mean(0).sum()


def test_fullness_without_thresholds_is_the_share_above_0():
    fields = rain(2)
    fields[0] = 0
    fields[1, 5, 5] = np.nan
    np.testing.assert_allclose(fullness(Spectrum(), fields), [0, 191 / 256])
    pairs = np.stack([fields[::-1], fields], 1)
    np.testing.assert_allclose(fullness(Spectrum(), pairs), [0, 191 / 256])


@pytest.mark.filterwarnings("ignore::emuloss.losses.UnfitWarning")
@pytest.mark.parametrize("metric", [METRICS[0], Ranks()], ids=lambda m: m.name)
def test_evaluation_without_thresholds(tmp_path, metric):
    emuloss.metrics.register(Ranks)
    fields = rain(12)
    surrogate = Surrogate(network(metric, "constrained"), "constrained", Provenance(field_shape=[16, 16]))
    evaluation = evaluate(
        surrogate, fields, metric(fields), descent_fields=1, descent_steps=3, thorough=True, progress=False
    )
    assert "inversion" not in evaluation.figures
    assert "thresholds" not in evaluation.figures["shift"]
    assert evaluation.figures["fidelity"]["thresholds"] == []
    first = evaluation.figures["fidelity"]["outputs"][metric.outputs[0]]
    assert first["r2_worst_threshold"] in metric.levels
    assert f"{len(metric.levels)} levels" in summary_table(evaluation.figures)
    surrogate.provenance.evaluation = evaluation.figures
    surrogate.save_pretrained(tmp_path)
    loaded = emuloss.load(str(tmp_path))
    verify(loaded, tmp_path)
    x = torch.from_numpy(fields)
    assert torch.equal(loaded(x), surrogate(x))
    loss = loaded.as_loss()
    assert loss(x, x) == 0
    assert loss(x, x.flip(0)) > 0


@pytest.mark.slow
def test_report_without_thresholds(tmp_path):
    metric, fields = Extremes((1e-6, 1e8)), rain(12)
    surrogate = network(metric, "lipschitz")
    evaluation = evaluate(
        surrogate, fields, metric(fields), descent_fields=1, descent_steps=3, thorough=True, progress=False
    )
    write_report(tmp_path / "report.png", surrogate, evaluation, fields, metric(fields))
    assert (tmp_path / "report.png").stat().st_size > 10_000


def test_golden_fields_take_the_intensities():
    fields = golden_fields(Spectrum(), (16, 12), (250.0, 280.0, 300.0))
    assert fields.shape == (3, 16, 12)
    assert all((fields[0] >= u).any() for u in (250, 280, 300))
    surrogate = Surrogate(network(Spectrum(bins=5), "constrained", intensities=(250, 300)), "constrained")
    assert surrogate.thresholds == ()
    assert not surrogate.threshold_free
    with pytest.raises(ArgumentError, match="no thresholds"):
        surrogate.with_thresholds([1.0])


def test_relaxed_box_counts_are_a_surrogate():
    metric = BoxCount(THRESHOLDS, scales=(1, 2, 4))
    surrogate = emuloss.relax(metric, temperature=0.1)
    assert surrogate.with_thresholds([0.5, 2.0]).thresholds == (0.5, 2.0)
    assert surrogate.with_thresholds([0.5, 2.0]).metric.outputs == metric.outputs
    x = torch.from_numpy(rain())
    assert surrogate.as_loss()(x, x) == 0
