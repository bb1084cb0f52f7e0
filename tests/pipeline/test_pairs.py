"""Surrogates of pairwise metrics: relaxations, emulators, losses, training, evaluation, checkpoints."""

from __future__ import annotations

import math

import emuloss
import numpy as np
import pytest
import torch
from drawn import pairs_of_rain
from emuloss.datasets import Rain
from emuloss.emulators import (
    ARCHITECTURES,
    RELAXATIONS,
    ConvEmulator,
    Shortfall,
    as_pairs,
    relaxable,
    relaxation,
)
from emuloss.emulators.fields import stacked
from emuloss.errors import ArgumentError
from emuloss.evaluation import evaluate, exact_distance, summary_table
from emuloss.evaluation.report import write_report
from emuloss.losses import Provenance, SurrogateLoss
from emuloss.metrics import CSI, FSS, SAL, BettiError, BoxCount, Metric, Minkowski
from emuloss.pipeline.settings import Teacher
from emuloss.pipeline.teacher import metric_of
from emuloss.training import Trainer, Training
from emuloss.training.batches import Batches
from emuloss.zoo import Surrogate
from emuloss.zoo.golden import golden_fields, verify

THRESHOLDS = (0.3, 1.0, 2.5)
SCORES = [
    FSS(THRESHOLDS, windows=(1, 3, 7)),
    CSI(THRESHOLDS, outputs=("csi", "pod", "far")),
    SAL(wet=0.3, outputs=["amplitude"]),
]
PAIRWISE = [*SCORES, SAL(), SAL(absolute=False), BettiError(THRESHOLDS)]


def exact(metric: Metric, pairs: np.ndarray | torch.Tensor) -> torch.Tensor:
    arrays = np.asarray(pairs)
    return torch.from_numpy(metric(arrays[:, 0], arrays[:, 1]))


def network(metric: Metric, architecture: str = "constrained", **arguments) -> ConvEmulator:
    """An emulator whose last layer is not 0, so that its curves depend on the fields."""
    torch.manual_seed(0)
    emulator = ARCHITECTURES[architecture](metric, widths=(8, 16), hidden=16, **arguments)
    torch.nn.init.normal_(emulator.fc[-1].weight, std=0.5)
    return emulator.eval()


PAIRS = torch.from_numpy(pairs_of_rain(6))


# Relaxations


@pytest.mark.parametrize("metric", SCORES, ids=lambda m: m.name)
def test_relaxed_scores_tend_to_the_exact_ones(metric):
    pairs = PAIRS.double()
    errors = [
        float((relaxation(metric, temperature=t)(pairs) - exact(metric, pairs)).abs().max())
        for t in (0.1, 1e-3, 1e-6)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-4


@pytest.mark.parametrize("metric", SCORES, ids=lambda m: m.name)
def test_relaxed_scores_leave_out_what_was_not_measured(metric):
    pairs = PAIRS.double().clone()
    pairs[0, 0, :5, :5] = math.nan
    pairs[1, 1, 3] = math.nan
    pairs[2, 0] = math.nan
    curves = relaxation(metric, temperature=1e-5)(pairs)
    torch.testing.assert_close(curves, exact(metric, pairs), atol=1e-4, rtol=0)


@pytest.mark.parametrize("metric", SCORES, ids=lambda m: m.name)
def test_relaxed_scores_of_dry_fields_agree_with_exact_ones(metric):
    rng = np.random.default_rng(0)
    dry, wet = 0.2 * rng.random((2, 8, 8)), 1.0 + rng.random((2, 8, 8))
    for pair in ((dry[0], dry[1]), (dry[0], wet[0]), (wet[0], dry[0]), (wet[0], wet[1])):
        pairs = torch.from_numpy(np.stack(pair)[None])
        curves = relaxation(metric, temperature=0.003)(pairs)
        torch.testing.assert_close(curves, exact(metric, pairs), atol=0.01, rtol=0)


@pytest.mark.parametrize("metric", SCORES, ids=lambda m: m.name)
def test_gradients_of_relaxed_scores(metric):
    pairs = (3 * torch.rand(1, 2, 6, 5, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(relaxation(metric, temperature=0.3), pairs)


@pytest.mark.parametrize("metric", SCORES, ids=lambda m: m.name)
def test_relaxed_scores_obey_their_constraints_at_any_temperature(metric):
    for temperature in (0.01, 0.3, 3.0):
        curves = relaxation(metric, temperature=temperature)(PAIRS.double())
        assert not any(metric.check(curves.numpy(), PAIRS.shape[2:]).values())


@pytest.mark.parametrize("absolute", [True, False])
def test_the_amplitude_of_all_rain_needs_no_relaxation(absolute):
    metric = SAL(outputs=["amplitude"], absolute=absolute)
    pairs = PAIRS.double().clone()
    pairs[0, 0, :5, :5] = math.nan
    pairs[1, 1, 3] = math.inf
    pairs[2, 0] = 0.0  # one of them is dry
    pairs[3] = -1.0  # both are
    pairs.requires_grad_()
    curves = emuloss.relax(metric)(pairs)
    torch.testing.assert_close(curves, exact(metric, pairs.detach()), atol=1e-12, rtol=0)
    curves.sum().backward()
    assert torch.isfinite(pairs.grad).all()
    assert not pairs.grad[0, :, :5, :5].any()
    assert not pairs.grad[1, :, 3].any()
    assert pairs.grad[4, 0][PAIRS[4, 0] > 0].all()


def test_amplitude_as_a_loss_brings_the_rain_back():
    loss = emuloss.relax(SAL(wet=0.1, outputs=["amplitude"])).as_loss(forward="exact")
    scale = torch.zeros(len(PAIRS), 1, 1, requires_grad=True)
    before = loss(PAIRS[:, 0], PAIRS[:, 1])
    optimizer = torch.optim.Adam([scale], lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        loss(PAIRS[:, 0] * scale.exp(), PAIRS[:, 1]).backward()
        optimizer.step()
    assert loss(PAIRS[:, 0] * scale.exp(), PAIRS[:, 1]) < 0.2 * before


def test_relaxed_box_counts():
    metric = BoxCount(THRESHOLDS, scales=(1, 2, 6))  # 16 x 20: boxes stick out
    fields = PAIRS[:, 1].double()
    truth = torch.from_numpy(metric(fields.numpy()))
    errors = [
        float((relaxation(metric, temperature=t)(fields) - truth).abs().max()) for t in (0.1, 1e-3, 1e-5)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-3
    small = 3 * torch.rand(1, 5, 6, dtype=torch.float64, requires_grad=True)  # no two pixels equal
    assert torch.autograd.gradcheck(relaxation(metric, temperature=0.5), small)


@pytest.mark.parametrize("metric", [*SCORES, BoxCount(THRESHOLDS)], ids=lambda m: m.name)
def test_exact_forward_has_the_soft_gradient(metric):
    fields = PAIRS if metric.arity == 2 else PAIRS[:, 1]
    gradients = []
    for forward in ("soft", "exact"):
        x = fields.clone().requires_grad_()
        curves = relaxation(metric, forward=forward)(x)
        curves.sum().backward()
        gradients.append(x.grad)
    truth = exact(metric, PAIRS) if metric.arity == 2 else torch.from_numpy(metric(fields.numpy()))
    assert torch.equal(curves, truth.float())
    torch.testing.assert_close(*gradients)


def test_percentiles_need_no_thresholds_of_the_data():
    source, asked = Rain(4, 16, seed=0), Teacher(metric="fss", metric_options={"percentiles": [50, 90]})
    assert metric_of(asked, source, ["train"] * len(source)) == FSS(percentiles=[50, 90])
    both = Teacher(metric="fss", quantiles=[0.5], metric_options={"percentiles": [50, 90]})
    with pytest.raises(ArgumentError, match=r"fss takes thresholds, .* or percentiles, .* got both"):
        metric_of(both, source, ["train"] * len(source))


def test_a_spacing_takes_the_place_of_the_data_s_pixel_size():
    source = Rain(4, 16, seed=0)
    asked = Teacher(metric="minkowski", thresholds=[1.0], metric_options={"spacing": [3.0, 1.0]})
    assert source.pixel_size != 1
    assert metric_of(asked, source, ["train"] * len(source)).spacing == (3.0, 1.0)


def test_relaxations_have_their_arguments_and_no_more():
    relaxed = relaxation(FSS(THRESHOLDS), temperature=[0.1, 0.2, 0.3], forward="exact")
    assert relaxed.arguments() == {"temperature": [0.1, 0.2, 0.3], "forward": "exact"}
    relaxed.temperature = 0.2
    assert relaxed.arguments()["temperature"] == 0.2
    for bad in (0.0, -1, [0.1, 0.2], math.nan, "hot"):
        with pytest.raises(ArgumentError, match="temperature"):
            relaxation(FSS(THRESHOLDS), temperature=bad)
    with pytest.raises(ArgumentError, match="forward"):
        relaxation(FSS(THRESHOLDS), forward="hard")
    assert [relaxable(m) for m in (SCORES[0], BettiError(THRESHOLDS))] == [True, False]
    with pytest.raises(ArgumentError, match="no relaxation of metric 'sal'"):
        emuloss.relax(SAL())


def test_another_relaxation_can_be_registered():
    class Other(CSI):
        name = "other"

    RELAXATIONS.register(Other)(lambda metric, temperature=1.0: (metric, temperature))
    assert relaxation(Other(THRESHOLDS), temperature=2.0)[1] == 2.0


# Emulators


@pytest.mark.parametrize("architecture", ["baseline", "lipschitz", "constrained", "hybrid"])
@pytest.mark.parametrize("metric", PAIRWISE, ids=lambda m: m.name)
def test_a_pair_of_a_field_and_itself_has_the_declared_value(metric, architecture):
    emulator = network(metric, architecture)
    found = emulator(torch.stack([PAIRS[:, 1], PAIRS[:, 1]], 1)).detach()
    expected = exact(metric, torch.stack([PAIRS[:, 1], PAIRS[:, 1]], 1)).float()
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    others = emulator(PAIRS)
    assert (others - expected).abs().max() > 0.01


@pytest.mark.parametrize("metric", [SCORES[0], BettiError(THRESHOLDS)], ids=lambda m: m.name)
@pytest.mark.parametrize("architecture", ["baseline", "constrained", "hybrid"])
def test_symmetric_metrics_have_symmetric_emulators(metric, architecture):
    emulator = network(metric, architecture).double()
    torch.testing.assert_close(emulator(PAIRS), emulator(PAIRS.flip(1)), rtol=1e-9, atol=1e-9)


def test_emulators_of_other_metrics_tell_prediction_from_observation():
    emulator = network(SCORES[1])
    assert (emulator(PAIRS) - emulator(PAIRS.flip(1))).abs().max() > 1e-3


@pytest.mark.parametrize("architecture", ["constrained", "hybrid"])
@pytest.mark.parametrize("metric", PAIRWISE, ids=lambda m: m.name)
def test_constraints_hold_between_the_identity_and_the_rest(metric, architecture):
    emulator = network(metric, architecture)
    share = torch.linspace(0, 1, 9)[:, None, None]
    pairs = torch.stack([torch.lerp(PAIRS[:1, 1], PAIRS[:1, 0], share), PAIRS[:1, 1].expand(9, -1, -1)], 1)
    curves = emulator(pairs).detach()
    assert not any(metric.check(curves.numpy(), PAIRS.shape[2:]).values())


def test_what_is_missing_in_one_field_is_missing_in_both():
    pairs = PAIRS.clone()
    pairs[0, 0, 2:4] = math.nan
    both = pairs.clone()
    both[0, :, 2:4] = math.nan
    for surrogate in (network(SCORES[0]), relaxation(SCORES[0])):
        assert torch.equal(surrogate(pairs), surrogate(both))
    x = pairs.requires_grad_()
    network(SCORES[0])(x).sum().backward()
    assert x.grad.isfinite().all()
    assert not x.grad[0, :, 2:4].any()


@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 1, 8, 8), (3, 3, 8, 8)])
def test_what_is_no_pair_is_refused(shape):
    with pytest.raises(ArgumentError, match=r"shape \(N, 2, H, W\)"):
        as_pairs(torch.zeros(shape))
    with pytest.raises(ArgumentError, match=r"shape \(N, 2, H, W\)"):
        network(SCORES[0])(torch.zeros(shape))


def test_certified_is_for_one_field():
    with pytest.raises(ArgumentError, match="certified"):
        ARCHITECTURES["certified"](SCORES[0])


# Losses


@pytest.mark.parametrize("metric", PAIRWISE, ids=lambda m: m.name)
def test_shortfall_is_0_at_best_and_grows(metric):
    shortfall = Shortfall(metric)
    assert not shortfall(exact(metric, torch.stack([PAIRS[:, 1]] * 2, 1))).any()
    assert (shortfall(exact(metric, PAIRS)) >= 0).all()
    assert shortfall(exact(metric, PAIRS)).any()


def alike(first, second):
    """How much two fields have in common."""
    return float(np.minimum(first, second).sum())


@pytest.mark.parametrize(("declared", "expected"), [({"identity": 3.0}, [0.0, 2.0]), ({}, [-3.0, -1.0])])
def test_shortfall_without_a_bound_is_from_what_a_field_has_with_itself(declared, expected):
    metric = emuloss.metric(alike, arity=2, lower_better=False, **declared)
    found = Shortfall(metric)(torch.tensor([[[3.0]], [[1.0]]]))
    torch.testing.assert_close(found, torch.tensor(expected)[:, None])


def test_shortfall_by_hand():
    curves = torch.tensor([[[0.9, 0.5], [0.8, 0.8], [0.25, 0.75]]])
    found = Shortfall(CSI((1.0, 2.0), outputs=("csi", "pod", "far")))(curves)
    torch.testing.assert_close(found, torch.tensor([[0.3, 0.2, 0.5]]))


@pytest.mark.parametrize("metric", SCORES, ids=lambda m: m.name)
def test_loss_is_the_metric_turned(metric):
    surrogate = emuloss.relax(metric)
    loss = surrogate.as_loss(reduction="none")
    assert isinstance(loss, SurrogateLoss)
    found = loss(PAIRS[:, 0], PAIRS[:, 1])
    torch.testing.assert_close(found, Shortfall(metric)(surrogate(PAIRS[:, 0], PAIRS[:, 1])).mean(1))
    torch.testing.assert_close(loss(PAIRS[:, :1], PAIRS[:, 1:]), found)
    assert not loss(PAIRS[:, 1], PAIRS[:, 1]).any()
    torch.testing.assert_close(surrogate.as_loss()(PAIRS[:, 0], PAIRS[:, 1]), found.mean())
    torch.testing.assert_close(surrogate.as_loss(reduction="sum")(PAIRS[:, 0], PAIRS[:, 1]), found.sum())


def test_weights_are_those_of_a_mean():
    metric = SCORES[1]
    surrogate = emuloss.relax(metric)
    loss = surrogate.as_loss(reduction="none", weights={"csi": 3.0, "far": 0.0})
    parts = Shortfall(metric)(surrogate(PAIRS))
    expected = (3 * parts[:, 0] + parts[:, 1]) / 4
    torch.testing.assert_close(loss(PAIRS[:, 0], PAIRS[:, 1]), expected)


@pytest.mark.parametrize("metric", SCORES, ids=lambda m: m.name)
def test_straight_through(metric):
    surrogate = Surrogate(network(metric), "constrained")
    x = PAIRS[:, 0].clone().requires_grad_()
    value = surrogate.as_loss(forward="exact", reduction="none")(x, PAIRS[:, 1])
    assert torch.allclose(value, Shortfall(metric)(exact(metric, PAIRS)).mean(1).float())
    (through,) = torch.autograd.grad(value.sum(), x)
    (own,) = torch.autograd.grad(surrogate.as_loss(reduction="sum")(x, PAIRS[:, 1]), x)
    torch.testing.assert_close(through, own)
    assert own.abs().sum() > 0


def test_the_target_gets_no_gradient_and_nan_is_left_out():
    loss = Surrogate(network(SCORES[0]), "constrained").as_loss(missing="either")
    x, target = (PAIRS[:, k].clone().requires_grad_() for k in range(2))
    with torch.no_grad():
        target[0, 3] = math.nan
        x[1, :, 4] = math.nan
    value = loss(x, target)
    value.backward()
    assert value.isfinite()
    assert target.grad is None
    assert x.grad.isfinite().all()
    assert not x.grad[0, 3].any()
    assert not x.grad[1, :, 4].any()
    told = Surrogate(network(SCORES[0]), "constrained").as_loss()
    assert told(x, target).isnan()  # unless it is asked for, a prediction of NaN is told


def test_descent_of_the_loss_improves_the_exact_score():
    metric = FSS((0.5, 1.0), windows=(1, 3))
    loss = emuloss.relax(metric, temperature=0.3).as_loss()
    x = PAIRS[:, 0].clone().requires_grad_()
    optimizer = torch.optim.Adam([x], 0.02)
    before = exact(metric, torch.stack([x.detach(), PAIRS[:, 1]], 1)).mean()
    for _ in range(60):
        optimizer.zero_grad()
        loss(x, PAIRS[:, 1]).backward()
        optimizer.step()
    after = exact(metric, torch.stack([x.detach(), PAIRS[:, 1]], 1)).mean()
    assert 1 - after < 0.5 * (1 - before)


def test_loss_works_in_double_under_autocast_and_compiled_graphs():
    surrogate = Surrogate(network(SCORES[0], "hybrid"), "hybrid")
    x, y = PAIRS.unbind(1)
    plain = surrogate.as_loss()(x, y)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(surrogate.as_loss()(x, y), plain, atol=0.05)
    loss = surrogate.as_loss().to(memory_format=torch.channels_last)
    assert torch.allclose(loss(x, y), plain, atol=1e-4)
    assert torch.allclose(loss.double()(x.double(), y.double()), plain.double(), atol=1e-4)
    assert surrogate.as_loss()(x[:0], y[:0]) == 0


def test_state_dict_with_and_without_the_surrogate():
    surrogate = Surrogate(network(SCORES[0]), "constrained")
    assert not surrogate.as_loss(in_state_dict=False).state_dict()
    loss = surrogate.as_loss(in_state_dict=False)
    loss.load_state_dict({})
    loss.load_state_dict(surrogate.as_loss().state_dict())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reference": "exact"}, "reference and trust"),
        ({"trust": 1.0}, "reference and trust"),
        ({"forward": "both"}, "forward"),
        ({"reduction": "max"}, "reduction"),
        ({"weights": {"area": 1.0}}, "weights"),
        ({"weights": dict.fromkeys(SCORES[0].outputs, 0.0)}, "weights"),
    ],
)
def test_unusable_arguments_of_a_loss(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        emuloss.relax(SCORES[0]).as_loss(**arguments)


def test_losses_and_calls_that_do_not_fit_the_arity():
    pairwise, unary = emuloss.relax(SCORES[0]), emuloss.relax(Minkowski(THRESHOLDS))
    with pytest.raises(ArgumentError, match="CurveDistance is for metrics of 1 fields; 'fss' is of 2"):
        SurrogateLoss(pairwise, distance="curves")
    with pytest.raises(ArgumentError, match="Shortfall is for metrics of 2 fields; 'minkowski' is of 1"):
        SurrogateLoss(unary, distance=Shortfall(SCORES[0]))
    with pytest.raises(ArgumentError, match="reference and trust are for metrics of one field"):
        SurrogateLoss(pairwise, trust=1.0)
    with pytest.raises(ArgumentError, match="needs a target, and no target_curves"):
        SurrogateLoss(pairwise)(PAIRS[:, 0], target_curves=exact(SCORES[0], PAIRS))
    with pytest.raises(ArgumentError, match="one batch"):
        unary(PAIRS[:, 0], PAIRS[:, 1])
    with pytest.raises(ArgumentError, match="one shape"):
        pairwise(PAIRS[:, 0], PAIRS[:2, 1])
    with pytest.raises(ArgumentError, match="shape"):
        pairwise.as_loss()(PAIRS[:, 0], PAIRS[:, 1, :5])
    torch.testing.assert_close(pairwise(PAIRS[:, 0], PAIRS[:, 1]), pairwise(PAIRS))
    assert stacked(PAIRS[:, :1], PAIRS[:, 1:]).shape == PAIRS.shape


def test_a_metric_that_does_not_say_what_is_better():
    class Undecided(BettiError):
        name = "undecided"
        lower_better = None

    with pytest.raises(ArgumentError, match="lower_better"):
        SurrogateLoss(network(Undecided(THRESHOLDS)))


# Training


def test_both_fields_of_a_pair_are_changed_alike():
    metric = FSS(THRESHOLDS, windows=(1, 3))
    pairs = np.stack([PAIRS[:, 1], 2 * PAIRS[:, 1]], 1)
    curves = exact(metric, pairs).numpy()
    options = Training(fields=8, batch_size=8, rescaled=0.5, mixed=0.0)
    batch, labels = Batches(metric, pairs, curves, options, None)[0]
    torch.testing.assert_close(batch[:, 1], 2 * batch[:, 0])
    np.testing.assert_allclose(labels, exact(metric, batch), atol=1e-6)
    mixed, labels = Batches(metric, pairs, curves, Training(fields=8, batch_size=8, mixed=0.5), None)[0]
    np.testing.assert_allclose(labels, exact(metric, mixed), atol=1e-6)
    assert not torch.allclose(mixed[:, 1], 2 * mixed[:, 0])


def test_slow_metrics_are_not_labelled_anew():
    class Slow(BettiError):
        name = "slow"
        slow = True

        def _compute(self, *fields):
            raise AssertionError("labelled anew")

    class Oriented(Slow):
        invariant = False

    curves = np.zeros((len(PAIRS), 2, len(THRESHOLDS)))
    for metric in (Slow(THRESHOLDS), Oriented(THRESHOLDS)):
        batch, _ = Batches(metric, PAIRS.numpy(), curves, Training(fields=8, batch_size=32), None)[0]
        known = {field.tobytes() for field in PAIRS.numpy()}
        kept = [field.tobytes() in known for field in batch.numpy()]
        assert all(kept) == (not metric.invariant)
        np.testing.assert_allclose(
            sorted({round(float(v), 3) for v in batch.sum((1, 2, 3))}),
            sorted({round(float(v), 3) for v in PAIRS[np.unique(_picks(32))].sum((1, 2, 3))}),
            rtol=1e-4,
        )


def _picks(size: int) -> np.ndarray:
    return np.random.default_rng([0, 0]).integers(0, len(PAIRS), size)


@pytest.mark.parametrize("penalty", [{}, {"penalty": "jacobian", "sobolev": 0.1}])
def test_it_learns_pairs(tmp_path, penalty):
    metric = CSI(THRESHOLDS)
    training, validation = pairs_of_rain(48, seed=1), pairs_of_rain(16, seed=2)
    torch.manual_seed(0)
    # Without the relaxed prior, which is so near here that there is little to learn.
    emulator = ARCHITECTURES["hybrid"](metric, widths=(8, 16), hidden=16, prior=None)
    options = Training(
        minutes=None, fields=12 * 8, batch_size=8, validations=4, precision="float32", **penalty
    )
    data = [(pairs, exact(metric, pairs).numpy()) for pairs in (training, validation)]
    trainer = Trainer(emulator, *data, options, tmp_path, progress=False)
    trainer.run()
    losses = [row["validation_loss"] for row in trainer.log]
    assert trainer.finished
    assert min(losses) < losses[0]


# Evaluation and checkpoints


@pytest.mark.parametrize("metric", [SCORES[1], SAL()], ids=lambda m: m.name)
def test_evaluation_and_checkpoint(tmp_path, metric):
    pairs = pairs_of_rain(12)
    curves = exact(metric, pairs).numpy()
    surrogate = Surrogate(network(metric, "hybrid"), "hybrid", Provenance("mm/h", [16, 20]))
    evaluation = evaluate(
        surrogate, pairs, curves, descent_fields=2, descent_steps=5, thorough=True, progress=False
    )
    assert evaluation.figures["fidelity"]["fields"] == 12
    assert not {"inversion", "shift"} & evaluation.figures.keys()
    assert not any(evaluation.figures["fidelity"]["violations"].values())
    assert evaluation.figures["descent"]["outputs"].keys() == set(metric.outputs)
    assert evaluation.figures["certificate"]["bound"] is None
    assert metric.outputs[0] in summary_table(evaluation.figures)
    surrogate.provenance.evaluation = evaluation.figures
    surrogate.save_pretrained(tmp_path / "checkpoint")
    loaded = emuloss.load(str(tmp_path / "checkpoint"))
    verify(loaded, tmp_path / "checkpoint")
    assert torch.equal(loaded(PAIRS[:, 0], PAIRS[:, 1]), surrogate(PAIRS))
    with pytest.raises(ArgumentError, match="pairs"):
        evaluate(surrogate, pairs[:, 0], curves)


@pytest.mark.slow
def test_report(tmp_path):
    metric, pairs = SAL(), pairs_of_rain(12)
    surrogate, curves = network(metric), exact(metric, pairs).numpy()
    evaluation = evaluate(surrogate, pairs, curves, descent_fields=2, descent_steps=5, progress=False)
    write_report(tmp_path / "report.png", surrogate, evaluation, pairs, curves)
    assert (tmp_path / "report.png").stat().st_size > 10_000


def test_a_relaxed_score_descends_to_a_better_one():
    metric = FSS(THRESHOLDS, windows=(1, 3))
    pairs = pairs_of_rain(6)
    evaluation = evaluate(
        emuloss.relax(metric, temperature=0.3),
        pairs,
        exact(metric, pairs).numpy(),
        descent_fields=1,
        descent_steps=30,
        progress=False,
    )
    assert evaluation.figures["descent"]["removed"] > 30
    assert evaluation.figures["gradients"]["total"]["cosine"] > 0.3


def test_exact_distance_of_a_pairwise_metric_is_its_own_value():
    first, second = PAIRS[:, 0].numpy(), PAIRS[:, 1].numpy()
    metric = BettiError(THRESHOLDS)
    found = exact_distance(metric, first, second)
    np.testing.assert_allclose(found, Shortfall(metric)(exact(metric, PAIRS)).numpy())
    assert not exact_distance(metric, second, second).any()


def test_golden_pairs():
    pairs = golden_fields(SCORES[0], (16, 12))
    assert pairs.shape == (3, 2, 16, 12)
    assert pairs[0].isfinite().all()
    assert pairs[1, 0].isnan().any()
    for field in pairs[0]:
        assert len(field.unique()) > 60
        assert all((field >= u).any() for u in THRESHOLDS)
