"""Fields in another unit than the surrogate's: told once, in the first batches, and never wrongly."""

import copy
import pickle
import warnings

import drawn
import emuloss
import pytest
import torch
from emuloss.losses import RangeWarning

THRESHOLDS = [0.5, 1, 5, 20]


def rain(count=2, seed=0):
    return drawn.rain(count, 1, 32, 32, law="peaked", seed=seed)


def normal(seed=0):
    return torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(seed))


def loss_at(thresholds=THRESHOLDS, name="minkowski", **options):
    return emuloss.relax(emuloss.metric(name, thresholds=thresholds)).as_loss(**options)


def told(loss, batches):
    """Messages of the warnings over batches of (prediction, target), or of keywords as well."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for prediction, target in batches:
            loss(prediction, target)
    assert all(warning.category is RangeWarning for warning in caught)
    return [str(warning.message) for warning in caught]


WRONG = {
    "kelvin for mm/h": (THRESHOLDS, lambda k: 285 + 8 * normal(k)),
    "kelvin for celsius": ([-10.0, 0.0, 10.0, 20.0], lambda k: 285 + 8 * normal(k)),
    "celsius for kelvin": ([270.0, 280.0, 290.0], lambda k: 12 + 8 * normal(k)),
    "z-scores for kelvin": ([270.0, 280.0, 290.0], normal),
    "z-scores for dBZ": ([10.0, 30.0], normal),
    "probabilities for mm/h": ([1.0, 5.0, 20.0], lambda k: torch.sigmoid(normal(k))),
    "m/s for mm/h": (THRESHOLDS, lambda k: rain(2, k) / 3.6e6),
    "between two thresholds": ([-50.0, 50.0], normal),
    "one threshold": ([280.0], normal),
    "negative thresholds": ([-3.0, -2.0], lambda k: 100 + normal(k)),
}


@pytest.mark.parametrize("name", ["minkowski", "fss", "csi", "boxcount"])
@pytest.mark.parametrize(("thresholds", "fields"), WRONG.values(), ids=WRONG)
def test_another_unit_is_told_once(thresholds, fields, name):
    loss = loss_at(thresholds, name)
    messages = told(loss, [(fields(k), fields(k + 50)) for k in range(20)])
    assert len(messages) == 1
    assert "\n" not in messages[0]
    assert f"{thresholds[0]:g}" in messages[0]
    assert f"{thresholds[-1]:g}" in messages[0]


def test_what_is_far_is_told_at_once_with_both_ranges():
    target = 285 + 8 * normal()
    (message,) = told(emuloss.load("minkowski-opera").as_loss(), [(target, target)])
    assert f"targets from {float(target.min()):g} to {float(target.max()):g}" in message
    assert "21 from 0.105 to 8.865 mm/h" in message


@pytest.mark.parametrize("name", emuloss.list_models())
def test_every_bundled_loss_tells_kelvin_and_takes_rain(name):
    assert not told(emuloss.load(name).as_loss(), [(rain(2, k), rain(2, k + 9)) for k in range(5)])
    loss = emuloss.load(name).as_loss()
    assert len(told(loss, [(285 + normal(k), 285 + normal(k + 9)) for k in range(2)])) == 1


def test_predictions_may_be_dry_for_long():
    dry = torch.zeros(2, 1, 32, 32)
    assert not told(loss_at(), [(dry, rain(2, k)) for k in range(30)])
    assert not told(loss_at(), [(dry + 0.1 * normal(k), rain(2, k)) for k in range(30)])


def test_a_prediction_far_away_is_told():
    (message,) = told(loss_at(), [(285 + normal(k), rain(2, k)) for k in range(30)])
    assert message.startswith("predictions from 28")
    assert not told(loss_at(), [((285 if k == 0 else 0) + normal(k), rain(2, k)) for k in range(30)])


def test_predictions_that_are_scaled_are_told():
    """Targets as they are, and predictions from 0 to 1 that never reach a threshold."""
    loss = loss_at([20000.0, 30000.0, 40000.0])
    target = 30000 + 8000 * normal()
    batches = [(torch.sigmoid(normal(k)), target) for k in range(20)]
    messages = told(loss, batches)
    assert len(messages) == 1
    assert messages[0].startswith("predictions from 0.0")
    assert messages[0].endswith("undo it before the loss")
    growing = [(torch.sigmoid(normal(k)) * 10 ** (k / 8), target) for k in range(20)]
    assert not told(loss_at([20000.0, 30000.0]), growing)
    assert not told(loss_at([-5.0, 5.0]), [(1e-3 * normal(k), 4 * normal(k)) for k in range(20)])
    assert not told(loss_at([20000.0, 30000.0]), [*batches[:10], (target, target), *batches])
    assert not told(loss_at([0.0, 1.0]), [(1e-3 * normal(k), rain(2, k)) for k in range(20)])


def test_some_dry_targets_are_no_reason():
    dry = torch.zeros(2, 1, 32, 32)
    assert not told(loss_at(), [(rain(2, k), dry if k < 10 else rain(2, k)) for k in range(30)])
    assert len(told(loss_at(), [(rain(2, k), dry) for k in range(30)])) == 1


def test_a_little_drizzle_is_no_reason():
    assert not told(loss_at(), [(rain(2, k), rain(2, k) * (0.01 if k < 3 else 1)) for k in range(30)])


def test_what_was_not_measured_or_is_not_finite_is_no_value():
    target = rain()
    target[0, 0, 0], target[1, 0, 0, :5] = torch.nan, torch.inf
    assert not told(loss_at(), [(rain(2, 1), target)] * 20)
    nothing = torch.full_like(target, torch.nan)
    assert not told(loss_at(), [(rain(2, 1), nothing)] * 20)


def test_curves_of_targets_tell_nothing_of_their_unit():
    loss = loss_at()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for k in range(20):
            loss(rain(2, k) * 0.001, target_curves=loss.surrogate(rain(2, k)))
    loss = loss_at()
    for k in range(3):
        loss(285 + normal(k), target_curves=loss.surrogate(rain(2, k)))
    with pytest.warns(RangeWarning, match="predictions from 28"):
        loss(285 + normal(3), target_curves=loss.surrogate(rain(2, 3)))


def test_it_looks_no_longer_than_it_must(monkeypatch):
    """On a GPU each look waits for the device: one for a sound loss, and at most a few for any."""
    looks = []
    look = type(loss_at().watch).look
    monkeypatch.setattr("emuloss.losses.ranges._ranges", lambda fields: looks.append(1) or [(0.0, 0.0)] * 2)
    loss = loss_at()
    for _ in range(40):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            look(loss.watch, rain(), rain())
    assert len(looks) == 16
    monkeypatch.undo()
    loss = loss_at()
    loss(rain(2, 1), rain())
    assert loss.watch.left == 0


def test_copies_go_on_looking():
    loss = loss_at()
    for twin in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert len(told(twin, [(285 + normal(), 285 + normal(1))])) == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's compiler imports what is deprecated
def test_compilers_and_transforms_are_left_alone():
    kelvin = 285 + normal()
    torch.compiler.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("error", RangeWarning)
        torch.compile(loss_at(), backend="aot_eager", fullgraph=True)(kelvin, kelvin)
        torch.func.vmap(loss_at())(kelvin, kelvin)


def test_a_metric_without_thresholds_has_no_range():
    loss = emuloss.relax(emuloss.metric("sal", outputs=["amplitude"])).as_loss()
    assert not told(loss, [(285 + normal(k), 285 + normal(k + 9)) for k in range(20)])
