"""What others bring from outside the package: a distance, a relaxation and a training loop of one's own."""

import copy

import emuloss
import numpy as np
import pytest
import torch
from drawn import rain
from emuloss.emulators import RELAXATIONS, ConvEmulator, Distance, RelaxedMasks
from emuloss.metrics import ExcursionMetric, Minkowski
from emuloss.metrics.registry import METRICS
from emuloss.training import Learner, Training

THRESHOLDS = (0.3, 0.8, 2.0)


# A distance


class LargestDifference(Distance):
    """The largest difference over levels, in the metric's units."""

    @classmethod
    def of(cls, metric):
        return cls()

    def forward(self, curves, reference):
        return (curves - reference).abs().amax(-1)


def test_a_distance_of_ones_own():
    metric = Minkowski(THRESHOLDS, outputs=("area", "perimeter"))
    surrogate = emuloss.relax(metric, temperature=0.2)
    prediction, target = rain(2, 9, 11, dtype=torch.float64), rain(2, 9, 11, seed=1, dtype=torch.float64)

    exact = surrogate.as_loss(distance=LargestDifference(), forward="exact", weights={"perimeter": 0.25})
    gaps = np.abs(metric(prediction.numpy()) - metric(target.numpy())).max(2)
    np.testing.assert_allclose(exact(prediction, target), (gaps[:, 0] + 0.25 * gaps[:, 1]).mean())
    np.testing.assert_allclose(exact.by_output(prediction, target), gaps)

    loss = surrogate.as_loss(distance=LargestDifference())
    assert loss(target, target) == 0
    assert torch.autograd.gradcheck(lambda fields: loss(fields, target), prediction.requires_grad_())


# A metric and its relaxation


class Volume(ExcursionMetric):
    """Rain in the pixels that reach each threshold, summed over the field."""

    name = "volume of others"
    invariant = True

    def __init__(self, thresholds):
        super().__init__(thresholds, None, None, ("volume",))
        self.constraints = ()

    def _compute(self, fields):
        values = np.nan_to_num(fields.astype(np.float64))
        volumes = [np.where(values >= u, values, 0).sum((1, 2)) for u in self.thresholds]
        return np.stack(volumes, axis=1)[:, None]


class RelaxedVolume(RelaxedMasks):
    """Soft masks in the place of those that reach the thresholds."""

    def soft(self, batch, given):
        return (self.memberships(batch) * batch[:, None]).sum((2, 3))[:, None]


@pytest.fixture
def known(monkeypatch):
    """The metric by its name and the relaxation by the metric, for one test."""
    for registry in (METRICS, RELAXATIONS):
        monkeypatch.setattr(registry, "_things", dict(registry._things))
    emuloss.register(Volume)
    RELAXATIONS.register(Volume)(RelaxedVolume)


def test_a_relaxation_of_a_metric_of_ones_own(known):
    metric = emuloss.metric("volume of others", thresholds=THRESHOLDS)
    fields = rain(3, 16, 16, dtype=torch.float64)
    exact = torch.from_numpy(metric(fields.numpy()))
    errors = []
    for temperature in (0.3, 0.03, 0.003, 1e-6):
        surrogate = emuloss.relax(metric, temperature=temperature)
        errors.append((surrogate(fields) - exact).abs().max())
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 1
    assert errors[-1] < 1e-9 * exact.max()

    hot = emuloss.relax(metric, temperature=0.3)
    assert torch.autograd.gradcheck(hot, rain(2, 5, 6, dtype=torch.float64).requires_grad_())
    assert torch.equal(emuloss.relax(metric, temperature=0.3, forward="exact")(fields), exact)
    holed = fields.clone()
    holed[:, 2:5, 3] = torch.nan
    torch.testing.assert_close(hot(holed), hot(holed.nan_to_num(-100.0)))


# A training loop


def learner(seed):
    torch.manual_seed(seed)
    metric = Minkowski(THRESHOLDS, outputs=("area", "euler"))
    emulator = ConvEmulator(metric, widths=(8, 16), hidden=16, prior=None)
    return Learner(
        emulator, Training(batch_size=8, learning_rate=3e-3, precision="float32", weight_decay=0.0)
    )


def steps(one, seeds):
    """Losses of single steps, each on its own fields."""
    metric = one.emulator.metric
    batches = [rain(8, 12, 12, seed=seed) for seed in seeds]
    return torch.stack([one.learn(x, torch.from_numpy(metric(x.numpy())))["loss"] for x in batches])


def test_a_training_loop_of_ones_own():
    first = learner(0)
    losses = steps(first, range(40))
    assert losses[-5:].mean() < 0.5 * losses[:5].mean()

    other = learner(1)
    other.load_state_dict(copy.deepcopy(first.state_dict()))
    assert torch.equal(steps(other, range(40, 45)), steps(first, range(40, 45)))
    ends = first.emulator.state_dict(), other.emulator.state_dict()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
