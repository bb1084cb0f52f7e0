"""Live losses: they learn what they are asked about, alike when resumed, and say how far to trust them."""

import copy
import io
import math
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path

import drawn
import emuloss
import numpy as np
import pytest
import torch
from chatter import said
from drawn import rain_array
from emuloss.emulators import ARCHITECTURES
from emuloss.errors import ArgumentError
from emuloss.losses import FrozenSurrogate, GaugeWarning, Live, LiveLoss, SurrogateLoss
from emuloss.losses.live.gauge import Gauge
from emuloss.losses.live.labels import AtOnce, Behind, LabelWarning
from emuloss.losses.live.lessons import Asked, Heard, as_asked
from emuloss.losses.live.student import Student
from emuloss.metrics import CSI, Minkowski

SIZE = 24
PATHS = [str(Path(module.__file__).parent) for module in (sys.modules[__name__], drawn)]
EXACTLY = {"precision": "float32"}


def surrogate(metric=None, **options):
    """A small network that has learnt nothing yet."""
    metric = metric or emuloss.metric("minkowski", thresholds=[0.2, 1.0, 3.0], pixel_size=2.0)
    torch.manual_seed(0)
    network = ARCHITECTURES["constrained"](metric, widths=(8, 16), hidden=16, spectral="none", **options)
    return FrozenSurrogate(network, "constrained")


def batches(count, size=4, side=SIZE):
    """Predictions and targets (count, size, H, W)."""
    fields = torch.from_numpy(rain_array(2 * count * size, side, side)).float()
    return fields.view(2, count, size, side, side)


def taught(loss, predictions, targets):
    """What the steps of learning on some batches tell."""
    told = []
    for prediction, target in zip(predictions, targets, strict=True):
        loss(prediction.clone().requires_grad_(), target).backward()
        told.append(loss.learn())
    return told


def weights(loss):
    return {name: value.clone() for name, value in loss.surrogate.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


# Learning


def test_it_learns_what_it_is_asked_about():
    frozen = surrogate()
    before = copy.deepcopy(frozen.state_dict())
    loss = frozen.as_loss(live=Live(learning_rate=3e-3))
    predictions, targets = batches(2)
    told = [taught(loss, predictions, targets)[-1] for _ in range(40)]
    assert isinstance(loss, LiveLoss)
    assert told[-1]["error"] < 0.4 * told[0]["error"]
    exact = SurrogateLoss(frozen, forward="exact")
    aim = float(exact(predictions[0], targets[0]))
    assert float(loss(predictions[0], targets[0])) == pytest.approx(aim)
    untaught, learnt = (
        float(each.as_loss(reference="exact")(predictions[0], targets[0]))
        for each in (frozen, loss.surrogate)
    )
    assert abs(learnt - aim) < 0.4 * abs(untaught - aim)
    assert same(before, frozen.state_dict())  # the one that it was made of knows nothing of it


def test_the_gauge_is_what_is_measured_before_the_lesson():
    loss = surrogate().as_loss(live=Live(**EXACTLY), forward="exact", slopes="surrogate")
    (prediction,), (target,) = batches(1)
    curves = loss.surrogate(prediction)
    exact, aim = (torch.from_numpy(loss.metric(x.numpy())).float() for x in (prediction, target))
    distances = [
        loss.distance(*pair).sum(1).mean() for pair in ((curves, aim), (exact, aim), (curves, exact))
    ]
    (told,) = taught(loss, [prediction], [target])
    assert told["said"] == pytest.approx(float(distances[0]), rel=1e-5)
    assert told["exact"] == pytest.approx(float(distances[1]), rel=1e-5)
    assert told["error"] == pytest.approx(float(distances[2] / distances[1]), rel=1e-5)
    assert told["weight"] == pytest.approx(1 / (1 + told["error"] ** 2))


def test_a_poor_surrogate_is_heeded_less():
    gated, plain, measured = (
        surrogate().as_loss(live=live, forward="exact", slopes=slopes)
        for live, slopes in ((True, "surrogate"), (Live(gated=False), "surrogate"), (True, "measured"))
    )
    frozen = surrogate().as_loss(forward="exact", reduction="none")
    (prediction,), (target,) = batches(1)
    torch.testing.assert_close(gated(prediction, target), frozen(prediction, target).mean())
    for row in ((1.0, 2.0, 3.0), (2.0, 4.0, 3.0)):
        gated.gauge.add(*np.array(row)[:, None])
        plain.gauge.add(*np.array(row)[:, None])
        measured.gauge.add(*np.array(row)[:, None])
    assert gated.gauge.error == 1
    torch.testing.assert_close(gated(prediction, target), frozen(prediction, target).mean() / 2)
    for other in (plain, measured):
        torch.testing.assert_close(other(prediction, target), frozen(prediction, target).mean())
    torch.testing.assert_close(gated.by_output(prediction, target), plain.by_output(prediction, target))
    torch.testing.assert_close(gated.eval()(prediction, target), frozen(prediction, target).mean())


def test_weights_take_no_gradient_and_stay_frozen_between_steps():
    model = torch.nn.ModuleDict({"net": torch.nn.Conv2d(1, 1, 1), "loss": surrogate().as_loss(live=True)})
    model.train()
    (fields,), (targets,) = batches(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, weight_decay=0.5)
    before = weights(model["loss"])
    model["loss"](model["net"](fields[:, None]), targets[:, None]).backward()
    optimizer.step()
    assert same(before, weights(model["loss"]))
    model["loss"].learn()
    assert not same(before, weights(model["loss"]))
    assert not any(p.requires_grad or p.grad is not None for p in model["loss"].parameters())
    assert not model["loss"].surrogate.module.training


def test_it_listens_only_where_it_is_trained_with():
    loss = surrogate().as_loss(live=True)
    (prediction,), (target,) = batches(1)
    before = weights(loss)
    loss(prediction, target)
    with torch.no_grad():
        loss(prediction.clone().requires_grad_(), target)
    loss.eval()
    loss(prediction.clone().requires_grad_(), target)
    told = loss.learn()
    assert math.isnan(told["loss"])
    assert same(before, weights(loss))


@pytest.mark.parametrize("around", [False, True])
@pytest.mark.parametrize("metric", [None, CSI([0.2, 1.0])])
def test_gradients_are_as_precise_as_the_learning(metric, around):
    """In bfloat16 the gradient is a little off, in float32 it is the frozen one, whatever a model does."""
    (prediction,), (target,) = batches(1)

    def gradient(loss, around=False):
        asked = prediction.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=around):
            value = loss(asked, target)
        return torch.autograd.grad(value, asked)[0].flatten()

    frozen = surrogate(metric)
    with torch.no_grad():  # an untaught network says the same of all fields
        for weight in frozen.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    aim = gradient(frozen.as_loss())
    losses = {
        name: frozen.as_loss(live=Live(precision=name, gated=False), slopes="surrogate", forward="surrogate")
        for name in ("float32", "bfloat16")
    }
    found = {name: gradient(loss, around) for name, loss in losses.items()}
    torch.testing.assert_close(found["float32"], aim, rtol=1e-5, atol=1e-9)
    assert not torch.allclose(found["bfloat16"], aim, rtol=1e-5, atol=1e-9)
    assert torch.cosine_similarity(found["bfloat16"], aim, dim=0) > 0.99
    evaluated = losses["bfloat16"].eval()
    torch.testing.assert_close(gradient(evaluated), aim, rtol=1e-5, atol=1e-9)


def test_without_learning_it_says_so_once():
    loss = surrogate().as_loss(live=True)
    (prediction,), (target,) = batches(1, size=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(70):
            loss(prediction.clone().requires_grad_(), target)
    (told,) = caught
    assert told.category is GaugeWarning
    assert "call loss.learn() after each step" in str(told.message)


def test_curves_of_targets_will_do():
    loss = surrogate().as_loss(live=True)
    (prediction,), (target,) = batches(1)
    curves = torch.from_numpy(loss.metric(target.numpy()))
    loss(prediction.clone().requires_grad_(), target_curves=curves).backward()
    (other,) = taught(surrogate().as_loss(live=True), [prediction], [target])
    told = loss.learn()
    assert told["exact"] == pytest.approx(other["exact"], rel=1e-5)
    assert told["loss"] > 0


def test_pairs_are_learnt():
    metric = emuloss.metric("fss", thresholds=[0.2, 1.0], windows=[3])
    loss = surrogate(metric).as_loss(live=Live(learning_rate=3e-3))
    predictions, targets = batches(2)
    told = [taught(loss, predictions, targets)[-1] for _ in range(40)]
    assert told[-1]["error"] < 0.4 * told[0]["error"]
    exact = metric(predictions[0].numpy(), targets[0].numpy())
    expected = loss.distance(torch.from_numpy(exact).float(), None).mean()
    assert told[0]["exact"] == pytest.approx(
        float(torch.stack([expected, told_of(metric, loss, predictions[1], targets[1])]).mean()), rel=1e-4
    )


def told_of(metric, loss, prediction, target):
    exact = torch.from_numpy(metric(prediction.numpy(), target.numpy())).float()
    return loss.distance(exact, None).mean()


# What cannot be learnt


def test_what_is_not_finite_is_left_out():
    loss = surrogate().as_loss(live=Live(**EXACTLY))
    (prediction,), (target,) = batches(1)
    target[:, :4] = math.nan  # not measured, and no fault of the prediction
    broken = prediction.clone()
    broken[0, 10, 10], broken[1, 12, 3], broken[2, 0, 0] = math.nan, math.inf, math.nan
    loss(broken.requires_grad_(), target)
    told = loss.learn()
    assert told["left_out"] == 2
    assert math.isfinite(told["loss"])
    assert len(loss._memory) == 2
    assert all(torch.isfinite(value).all() for value in weights(loss).values())


def test_a_model_that_diverges_teaches_nothing():
    loss = surrogate().as_loss(live=True)
    (prediction,), (target,) = batches(1)
    before = weights(loss)
    for _ in range(3):
        loss((prediction * math.nan).requires_grad_(), target)
        told = loss.learn()
    assert told["left_out"] == 12
    assert same(before, weights(loss))
    assert math.isfinite(taught(loss, [prediction], [target])[0]["loss"])


def test_what_was_not_measured_changes_nothing():
    first, second = (surrogate().as_loss(live=Live(**EXACTLY)) for _ in range(2))
    (prediction,), (target,) = batches(1)
    mask = torch.ones_like(target, dtype=torch.bool)
    mask[:, :, :5] = False
    for loss, hidden in ((first, 0.0), (second, 50.0)):
        given = torch.where(mask, prediction, hidden).requires_grad_()
        loss(given, torch.where(mask, target, hidden), mask=mask).backward()
        loss.learn()
    assert same(weights(first), weights(second))


# Going on


def test_a_resumed_training_ends_alike_to_the_bit():
    predictions, targets = batches(6)
    options = Live(memory=10, **EXACTLY)
    whole, first = (surrogate().as_loss(live=options) for _ in range(2))
    told = taught(whole, predictions, targets)
    taught(first, predictions[:3], targets[:3])
    kept = io.BytesIO()
    torch.save(first.state_dict(), kept)
    kept.seek(0)
    second = surrogate().as_loss(live=options)
    second.load_state_dict(torch.load(kept, weights_only=True))
    again = taught(second, predictions[3:], targets[3:])
    assert same(weights(whole), weights(second))
    assert again == told[3:]


def test_copies_learn_for_themselves():
    loss = surrogate().as_loss(live=Live(**EXACTLY))
    predictions, targets = batches(2)
    taught(loss, predictions[:1], targets[:1])
    copied = copy.deepcopy(loss)
    kept = io.BytesIO()
    torch.save(loss, kept)
    kept.seek(0)
    pickled = torch.load(kept, weights_only=False)
    before = weights(loss)
    told = [taught(each, predictions[1:], targets[1:]) for each in (copied, pickled)]
    assert same(before, weights(loss))
    assert told[0] == told[1] == taught(loss, predictions[1:], targets[1:])
    assert same(weights(loss), weights(copied))


def test_a_move_takes_the_moments_along():
    loss = surrogate().as_loss(live=Live(**EXACTLY))
    (prediction,), (target,) = batches(1)
    taught(loss, [prediction], [target])
    loss.double()  # a move of another kind, which changes the weights alone
    loss(prediction.double().requires_grad_(), target.double()).backward()
    assert math.isfinite(loss.learn()["loss"])


def test_the_surrogate_can_be_saved_with_what_it_learnt(tmp_path):
    loss = emuloss.load("minkowski-opera-constrained").as_loss(live=Live(steps=2))
    predictions, targets = batches(1, size=2, side=32)
    taught(loss, predictions, targets)
    loss.surrogate.save_pretrained(tmp_path)
    found = emuloss.load(tmp_path)
    assert found.trained_on["live"]["steps"] == 2
    assert found.trained_on["live"]["predictions"] == 2
    assert found.evaluation == {}
    torch.testing.assert_close(found(targets[0]), loss.surrogate(targets[0]))


@pytest.mark.parametrize(
    ("steps", "due"), [(0.5, [1, 0, 1, 0, 1]), (0.4, [1, 0, 1, 0, 0]), (1.5, [2, 1, 2, 1, 2])]
)
def test_steps_of_learning_are_due_in_some_calls(steps, due):
    """What the others are asked about is remembered, and a state goes on in the middle of them."""
    loss = surrogate().as_loss(live=Live(steps=steps))
    predictions, targets = batches(5)
    for k, (prediction, target) in enumerate(zip(predictions, targets, strict=True)):
        if k == 2:
            again = surrogate().as_loss(live=Live(steps=steps))
            again.load_state_dict(loss.state_dict())
            loss = again
        before = loss._student.steps
        (told,) = taught(loss, [prediction], [target])
        assert loss._student.steps - before == due[k]
        assert math.isfinite(told["loss"]) == (due[k] > 0)
        assert len(loss._memory) == (k + 1) * len(prediction)


@pytest.mark.parametrize("metric", [Minkowski([0.5]), CSI([0.5])], ids=lambda metric: metric.name)
def test_what_is_only_remembered_is_labelled_alone(metric):
    (prediction,), (target,) = batches(1)
    prediction[0, 0, 0] = math.nan
    rng = np.random.default_rng(0)
    asked, left_out = as_asked(Heard(prediction, target, None), metric, None, rng)
    assert (asked.predictions, left_out) == (3, 1)
    expected = prediction[1:] if metric.arity == 1 else torch.stack([prediction[1:], target[1:]], 1)
    assert torch.equal(asked.fields, expected)


class Counted(Minkowski):
    """Counts the fields that it is asked about."""

    asked = 0

    def _compute(self, fields):
        Counted.asked += len(fields)
        return super()._compute(fields)


@pytest.mark.parametrize(
    ("asked", "number"),
    [({"slopes": "surrogate"}, 4 + 4 + 1), ({"forward": "surrogate", "reference": "exact"}, 4 + 3 + 1)],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_the_loss_has_found_is_not_asked_again(asked, number, dtype):
    """Of four predictions, one of them broken, four targets, and an anchor; what it learns is the same."""
    loss = surrogate(Counted([0.2, 1.0, 3.0])).as_loss(live=Live(**EXACTLY), **asked)
    (prediction,), (target,) = batches(1)
    prediction[0, 0, 0] = math.nan  # left out
    Counted.asked = 0
    taught(loss, [prediction.to(dtype)], [target.to(dtype)])
    if dtype == torch.float32:
        assert Counted.asked == number
    held = loss._memory.state_dict()
    assert torch.equal(held["fields"], prediction[1:])
    assert torch.equal(
        held["curves"], torch.from_numpy(Minkowski([0.2, 1.0, 3.0])(prediction[1:].numpy())).float()
    )


def test_a_state_that_is_assigned_goes_on_learning():
    """`load_state_dict(assign=True)` puts other tensors in the place of those that the optimizer has."""
    predictions, targets = batches(3)
    losses = [surrogate().as_loss(live=Live(**EXACTLY)) for _ in range(2)]
    for loss in losses:
        taught(loss, predictions[:2], targets[:2])
    state = copy.deepcopy(losses[0].state_dict())
    losses[0].load_state_dict(state, assign=True)
    for loss in losses:
        taught(loss, predictions[2:], targets[2:])
    assert same(*map(weights, losses))


def test_a_model_may_be_saved_without_what_its_loss_has_learnt():
    """For formats that hold tensors alone, such as safetensors, and averages over state dicts."""
    predictions, targets = batches(2)
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1))
    model.loss = surrogate().as_loss(live=Live(**EXACTLY), in_state_dict=False)
    taught(model.loss, predictions, targets)
    learnt = weights(model.loss)
    state = model.state_dict()
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    assert set(state) == {"0.weight", "0.bias"}
    model.load_state_dict(state)
    assert same(weights(model.loss), learnt)
    assert model.loss._learnt == 8
    whole = surrogate().as_loss(live=Live(**EXACTLY))
    taught(whole, predictions[:1], targets[:1])
    model.loss.load_state_dict(whole.state_dict())  # one that has it may be loaded all the same
    assert same(weights(model.loss), weights(whole))
    assert model.loss._learnt == 4


def test_labels_are_of_fields_as_they_are_kept():
    """Beside curves of targets nothing tells a broken pixel from one that was not measured."""
    loss = surrogate().as_loss(live=Live(**EXACTLY))
    (prediction,), (target,) = batches(1)
    prediction[1, :10] = math.nan
    curves = torch.from_numpy(loss.metric(target.numpy()))
    given = prediction.clone().requires_grad_()
    assert loss(given, target_curves=curves.float()).isnan()
    loss.learn()
    held = loss._memory.state_dict()
    assert torch.equal(held["fields"].nan_to_num(), prediction.nan_to_num())
    assert torch.equal(held["curves"], torch.from_numpy(loss.metric(prediction.numpy())).float())


# Memory


def test_it_remembers_the_newest_predictions_of_one_shape():
    loss = surrogate().as_loss(live=Live(memory=6, **EXACTLY))
    predictions, targets = batches(2)
    taught(loss, predictions, targets)
    held = loss._memory.state_dict()
    newest = predictions.flatten(0, 1)[-6:]
    assert torch.equal(held["fields"], newest)
    assert torch.equal(held["curves"], torch.from_numpy(loss.metric(newest.numpy())).float())
    told = taught(loss, *batches(1, size=2, side=2 * SIZE))  # larger crops, from now on
    assert math.isfinite(told[0]["loss"])
    assert loss._memory.state_dict()["fields"].shape == (2, 2 * SIZE, 2 * SIZE)


# The gauge


def test_figures_of_a_gauge():
    gauge = Gauge()
    assert math.isnan(gauge.error)
    assert gauge.weight == 1
    said, exact, errors = (np.array(x) for x in ([1.0, 2.0, 3.0], [2.0, 1.0, 4.0], [0.7, 0.7, 0.7]))
    gauge.add(said, exact, errors)
    told = gauge.figures()
    assert told["said"] == 2
    assert told["exact"] == pytest.approx(7 / 3)
    assert told["error"] == pytest.approx(0.3)
    assert told["ranks"] == pytest.approx(2 / 3)  # of three pairs one is in the wrong order
    assert told["weight"] == pytest.approx(1 / 1.09)
    again = Gauge()
    again.load_state_dict(gauge.state_dict())
    assert again.figures() == told


@pytest.mark.parametrize(("error", "weight"), [(0.0, 1.0), (0.5, 0.0)])
def test_where_nothing_is_missing_any_more(error, weight):
    gauge = Gauge()
    gauge.add(np.full(2, error), np.zeros(2), np.full(2, error))
    assert gauge.weight == weight
    assert math.isnan(gauge.ranks)


def test_a_gauge_forgets_what_is_long_ago():
    gauge = Gauge()
    for error in (9.0, 0.1):
        gauge.add(np.ones(64), np.ones(64), np.full(64, error))
    assert gauge.error == pytest.approx(0.1)


def test_a_poor_surrogate_is_told_once():
    gauge = Gauge()
    gauge.add(np.ones(4), np.ones(4), np.full(4, 2.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gauge.warn(99, "area")
    with pytest.warns(GaugeWarning, match="surrogate of area is 2 times as far"):
        gauge.warn(100, "area")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gauge.warn(101, "area")


# Metrics in plain Python

FUNCTIONS = """
import time
import numpy as np

def mean(field):
    return float(np.nanmean(field))

def picky(field):
    if field.max() > 50:
        raise ValueError("more than 50")
    return float(field.mean())

def endless(field):
    time.sleep(1000)
    return 0.0
"""


@pytest.fixture
def function(tmp_path):
    (tmp_path / "mine.py").write_text(FUNCTIONS)
    return lambda name: emuloss.metric(f"{tmp_path / 'mine.py'}:{name}", outputs=["value"])


def labelled_by(labels, fields, seconds=60):
    """What has been labelled of some fields, once it is."""
    labels.put(Asked(fields, len(fields), 0, 0, None))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if known := list(labels.known()):
            return known
        if labels.left_out:
            return []
        time.sleep(0.05)
    raise TimeoutError


def test_functions_are_labelled_behind(function):
    loss = surrogate(function("mean")).as_loss(live=Live(background=True))
    (prediction,), (target,) = batches(1)
    end = time.monotonic() + 60
    while loss._learnt < 20 and time.monotonic() < end:
        (told,) = taught(loss, [prediction], [target])
        time.sleep(0.02)
    assert loss._learnt >= 20
    assert isinstance(loss._labels, Behind)
    assert not loss.exact_reference
    assert not loss.exact_forward
    exact, aim = (torch.from_numpy(loss.metric(x.numpy())).float() for x in (prediction, target))
    assert told["exact"] == pytest.approx(float(loss.distance(exact, aim).mean()), rel=1e-5)


def test_predictions_that_a_function_cannot_bear_make_the_loss_nan(tmp_path):
    """An exact value that fails would end the training, where the loss is to tell scalers of its step."""
    (tmp_path / "mine.py").write_text(FUNCTIONS + "\n\ndef largest(field):\n    return float(field.max())\n")
    metric = emuloss.metric(f"{tmp_path / 'mine.py'}:largest", outputs=["value"])
    loss = surrogate(metric).as_loss(live=Live(background=False), reduction="none")
    for value in (math.nan, math.inf, -math.inf):
        (prediction,), (target,) = batches(1)
        prediction[0, 0, 0] = value
        prediction.requires_grad_()
        found = loss(prediction, target)
        found.sum().backward()
        assert found.isfinite().tolist() == [False, True, True, True]
        assert prediction.grad.isfinite().flatten(1).all(1).tolist() == [False, True, True, True]
        loss.learn()
    assert loss._left_out == 3
    assert loss._learnt == 9


@pytest.mark.parametrize("asked", [{}, {"forward": "exact", "reference": "exact"}])
def test_functions_that_take_no_time_are_labelled_at_once(function, asked):
    loss = surrogate(function("mean")).as_loss(live=True, **asked)
    assert isinstance(loss._labels, Behind)
    (prediction,), (target,) = batches(1)

    def learn_until_labels_are_at_once():
        end = time.monotonic() + 60
        while isinstance(loss._labels, Behind) and time.monotonic() < end:
            taught(loss, [prediction], [target])
            time.sleep(0.02)

    with pytest.warns(LabelWarning, match="from now on the loss waits for them"):
        learn_until_labels_are_at_once()
    assert isinstance(loss._labels, AtOnce)
    assert loss.exact_reference
    assert loss.exact_forward
    assert loss.slopes == "checked"
    resumed = surrogate(function("mean")).as_loss(live=True, **asked)
    resumed.load_state_dict(loss.state_dict())
    assert isinstance(resumed._labels, AtOnce)
    assert torch.equal(resumed.eval()(prediction, target), loss.eval()(prediction, target))
    loss.train()
    learnt = loss._learnt
    taught(loss, [prediction], [target])
    assert loss._learnt == learnt + 4


@pytest.mark.parametrize("way", [AtOnce, Behind])
def test_a_field_that_fails_is_left_out_and_told_once(function, way):
    labels = way(function("picky"))
    fields = torch.ones(2, 4, 4)
    ((_, curves),) = labelled_by(labels, fields)
    assert curves.flatten().tolist() == [1.0, 1.0]
    fields[1] = 99
    with pytest.warns(LabelWarning, match="more than 50"):
        assert labelled_by(labels, fields) == []
    assert labels.left_out == 2


def test_a_function_that_hangs_holds_nothing_up(function, tmp_path):
    code = f"""
    import time, warnings
    import emuloss, torch
    from emuloss.losses.live import labels as room
    from emuloss.losses.live.lessons import Asked
    room._LATE = 0.3
    labels = room.Behind(emuloss.metric({str(tmp_path / "mine.py")!r} + ":endless", outputs=["value"]))
    began = time.monotonic()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(120):
            time.sleep(0.01)
            labels.put(Asked(torch.ones(2, 4, 4), 2, 0, 0, None))
            assert not list(labels.known())
    assert time.monotonic() - began < 20
    assert len(caught) == 1 and "have not come for 0.3 s" in str(caught[0].message), caught
    assert labels.left_out == 2 * 116
    print("ended")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "ended\n", done.stderr


# Several processes

TOGETHER = r"""
import sys, hashlib, torch, numpy as np
sys.path[:0] = {paths!r}
from torch import distributed
from test_live import batches, surrogate, taught, weights
from emuloss.losses import Live
distributed.init_process_group("gloo")
rank = distributed.get_rank()
loss = surrogate().as_loss(live=Live(precision="float32", memory=6))
if rank:
    with torch.no_grad():
        for weight in loss.surrogate.parameters():
            weight.add_(0.1)  # which the first process has not
predictions, targets = batches(8)
if rank:
    predictions[4, :] = torch.nan  # one process has nothing of its own to learn in that step
told = taught(loss, predictions[rank::2], targets[rank::2])
digest = hashlib.sha256(b"".join(w.numpy().tobytes() for w in weights(loss).values())).hexdigest()
print(f"{{digest}} {{told[-1]['loss']}}\n", end="", flush=True)  # at once: both write to one pipe
distributed.barrier()  # none may end while another still listens to it
distributed.destroy_process_group()
"""


def test_two_processes_learn_alike(tmp_path):
    (tmp_path / "together.py").write_text(TOGETHER.format(paths=PATHS))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, str(tmp_path / "together.py")], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = said(done.stdout).split("\n")[:-1]
    assert len(lines) == 2
    assert lines[0] == lines[1]


def test_parts_of_a_batch_teach_what_the_whole_does():
    network = surrogate().module
    fields = torch.from_numpy(rain_array(6, SIZE, SIZE)).float()
    curves = torch.from_numpy(network.metric(fields.numpy()))
    student = Student(network, Live(**EXACTLY))
    whole = student._gradients(fields, curves)
    parts = [student._gradients(fields[part], curves[part]) for part in (slice(2), slice(2, None))]
    torch.testing.assert_close(whole[0], parts[0][0] + parts[1][0])
    for total, *shares in zip(whole[1], parts[0][1], parts[1][1], strict=True):
        torch.testing.assert_close(total, sum(shares), rtol=1e-4, atol=1e-5)


# What is refused


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"live": "yes"}, "live must be True, False or an emuloss.losses.Live, got str"),
    ],
)
def test_arguments_that_cannot_be_meant(arguments, told):
    with pytest.raises(ArgumentError, match=told):
        surrogate().as_loss(**arguments)


def test_what_has_no_weights_cannot_learn():
    relaxed = emuloss.relax(emuloss.metric("minkowski", thresholds=[0.2, 1.0]))
    with pytest.raises(ArgumentError, match="has no weights to learn with"):
        relaxed.as_loss(live=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 0.0),
        ("steps", 0),
        ("steps", math.inf),
        ("memory", 0),
        ("anchors", -0.1),
        ("remembered", math.nan),
        ("gated", "no"),
        ("precision", "half"),
        ("background", 1),
        ("seed", -1),
    ],
)
def test_options_out_of_range(name, value):
    with pytest.raises(ArgumentError, match=name):
        Live(**{name: value})


def test_a_loss_that_is_not_live():
    assert type(surrogate().as_loss(live=False)) is SurrogateLoss
