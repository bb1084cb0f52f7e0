"""Live losses of any metric, which begin with a network that knows nothing."""

import math
import time

import emuloss
import numpy as np
import pytest
import torch
from drawn import rain_array
from emuloss.errors import ArgumentError, DataError, FieldError
from emuloss.losses import Live, LiveLoss
from emuloss.pipeline import living

QUICK = {"budget": 64, "progress": False}


@pytest.fixture(scope="module")
def observed():
    fields = rain_array(60, 24, 24).astype(np.float32)
    fields[::7, :3] = np.nan
    return fields


def step(loss, observed):
    target = torch.from_numpy(observed[:4])
    prediction = target.nan_to_num(0.0).roll(3, 1).requires_grad_()
    value = loss(prediction, target)
    value.backward()
    assert math.isfinite(float(value.detach()))
    assert torch.isfinite(prediction.grad).all()
    return loss.learn()


@pytest.mark.parametrize("metric", ["minkowski", "clusters", "fss", "spectrum"])
def test_by_the_name_of_a_metric(metric, observed):
    loss = emuloss.live(metric, observed, **QUICK)
    assert isinstance(loss, LiveLoss)
    told = step(loss, observed)
    assert told["loss"] > 0
    assert told["left_out"] == 0
    assert loss.metric.name == metric
    assert loss.surrogate.trained_on["fields_seen"] == 64
    assert loss.surrogate.trained_on["source"] == emuloss.datasets.as_source(observed).config()


def wettest(field):
    """Mean of the wettest tenth."""
    return float(np.sort(np.nan_to_num(field), axis=None)[-field.size // 10 :].mean())


def miss(prediction, observation):
    """Difference of the maxima."""
    return float(abs(np.nanmax(prediction) - np.nanmax(observation)))


def test_of_functions(observed):
    loss = emuloss.live(wettest, observed, live=Live(background=False), **QUICK)
    assert step(loss, observed)["loss"] > 0
    pairs = emuloss.metric(miss, arity=2, lower_better=True)
    loss = emuloss.live(pairs, observed, live=Live(background=False), **QUICK)
    assert step(loss, observed)["exact"] >= 0


def slow(field):
    """The mean, after a while."""
    time.sleep(0.005)
    return float(np.nan_to_num(field).mean())


@pytest.mark.parametrize(("metric", "at_once"), [(wettest, True), (slow, False)])
def test_first_labels_tell_whether_to_wait_for_them(metric, at_once, observed):
    """A loss that turned from the network's values to exact ones would change its size in mid-training."""
    loss = emuloss.live(metric, observed, **QUICK)
    assert loss.exact_forward == loss.exact_reference == at_once
    assert loss.slopes == ("checked" if at_once else "surrogate")
    for _ in range(6):
        step(loss, observed)
        time.sleep(0.05)
    assert loss.exact_forward == at_once
    assert emuloss.live(metric, observed, live=Live(background=True), **QUICK).slopes == "surrogate"


def test_arguments_of_the_metric(observed):
    loss = emuloss.live(miss, observed, arity=2, lower_better=True, reduction="sum", **QUICK)
    assert (loss.metric.arity, loss.reduction) == (2, "sum")
    assert step(loss, observed)["loss"] > 0
    assert emuloss.live("clusters", observed, thresholds=[1.0, 4.0], **QUICK).metric.thresholds == (1.0, 4.0)


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
def test_whatever_the_caller_has_set(default, observed):
    """Scientific scripts compute in double precision by default, and validations without gradients."""
    expected = emuloss.live("clusters", observed, **QUICK).surrogate.state_dict()
    torch.set_default_dtype(default)
    try:
        with torch.no_grad():
            loss = emuloss.live("clusters", observed, **QUICK)
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.inference_mode():
        other = emuloss.live("clusters", observed, **QUICK)
    for each in (loss, other):
        torch.testing.assert_close(each.surrogate.state_dict(), expected, rtol=1e-4, atol=1e-6)
        assert step(each, observed)["loss"] > 0


def test_the_first_lessons_teach_something(observed):
    metric = emuloss.metric("minkowski", thresholds=[0.2, 1.0, 3.0], outputs=["area"])
    exact = torch.from_numpy(metric(observed[:20])).float()
    errors = []
    for budget in (32, 2048):
        loss = emuloss.live(metric, observed, arch="constrained", budget=budget, progress=False)
        errors.append(float(loss.distance(loss.surrogate(torch.from_numpy(observed[:20])), exact).mean()))
    assert errors[1] < 0.5 * errors[0]


def test_the_same_seed_gives_the_same(observed):
    first, second, other = (
        emuloss.live("clusters", observed, seed=seed, **QUICK).state_dict() for seed in (1, 1, 2)
    )
    names = [name for name in first if name.startswith("surrogate.")]
    assert all(torch.equal(first[name], second[name]) for name in names)
    assert not all(torch.equal(first[name], other[name]) for name in names)


def test_lessons_on_descents_begin_after_the_others_and_keep_their_share(observed, monkeypatch):
    learnt = []
    plain = living.Learner.learn

    def learn(learner, fields, curves, rate, neighbours=None):
        learnt.append(0 if neighbours is None else len(neighbours.places))
        return plain(learner, fields, curves, rate, neighbours)

    monkeypatch.setattr(living.Learner, "learn", learn)
    metric = emuloss.metric("minkowski", thresholds=[0.2, 1.0, 3.0], outputs=["area"])
    state = {}
    for share in (0.0, 0.5):
        learnt.clear()
        loss = emuloss.live(
            metric, observed, arch="constrained", budget=32 * 48, descents=share, progress=False
        )
        state[share] = loss.surrogate.state_dict()
        assert len(learnt) == 48
        assert not any(learnt[:16])
        assert all(bool(count) == bool(share) for count in learnt[16:])
    assert any(not torch.equal(state[0.0][name], state[0.5][name]) for name in state[0.0])


def test_arguments_of_the_loss(observed):
    loss = emuloss.live("clusters", observed, reduction="none", live=Live(memory=3), **QUICK)
    assert loss.reduction == "none"
    assert loss.live.memory == 3


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"live": False}, "of a frozen one, call emuloss.train"),
        ({"budget": 0}, "budget"),
        ({"descents": 1.5}, "descents must"),
        ({"arch": "relaxed"}, "architecture 'relaxed' has no weights to learn with; take hybrid"),
        ({"arch": "nothing"}, "nothing"),
        ({"reduce": "sum"}, "live has no argument 'reduce'"),
        ({"threshold": [1.0]}, "did you mean 'thresholds'"),
    ],
)
def test_what_is_refused(observed, arguments, told):
    with pytest.raises(ArgumentError, match=told):
        emuloss.live("minkowski", observed, **{**QUICK, **arguments})


def test_what_teaches_nothing_is_told(observed):
    with pytest.warns(UserWarning, match="is the same for all 4. fields of the first lessons"):
        emuloss.live(lambda field: float((field < 0).sum()), np.nan_to_num(observed), **QUICK)
    with pytest.raises(DataError, match="no field holds a value that was measured"):
        emuloss.live(wettest, np.full((20, 24, 24), np.nan, np.float32), **QUICK)


def test_small_budgets_ask_little(observed):
    """Labels of functions that take seconds shall not be more than the lessons need."""
    asked = []

    def counted(field):
        asked.append(field.shape)
        return wettest(field)

    metric = emuloss.metric(counted)
    metric.parallel = "threads"
    del asked[:]
    emuloss.live(metric, np.tile(observed, (4, 1, 1)), live=Live(background=False), **QUICK)
    assert len(asked) < 100


def test_fields_without_any_value_are_left_out(observed):
    gaps = observed.copy()
    gaps[5:40] = np.nan
    loss = emuloss.live(wettest, gaps, live=Live(background=False), **QUICK)
    step(loss, observed)
    whole = emuloss.live(wettest, observed, live=Live(background=False), **QUICK)
    numbers = [each.surrogate.trained_on["fields"]["train"] for each in (loss, whole)]
    assert 0 < numbers[0] < numbers[1]


def test_a_function_that_fails_tells_of_which_field(observed):
    """Its number is that among all fields, though they are labelled in parts."""

    def fails(field):
        if fails.calls == 30:
            raise ValueError("too dry")
        fails.calls += fails.counts
        return wettest(field)

    fails.calls, fails.counts = 0, 0
    metric = emuloss.metric(fails)
    metric.parallel, fails.counts = "threads", 1
    with pytest.raises(FieldError, match=r"^field 3\d: "):
        emuloss.live(metric, observed, **QUICK)
