"""Traps that users of other packages fell into: here the right value, or an error that says what to do.

Each is an entry of their public trackers: the sign of a score (pyiqa 276, piq 37), a single channel and the
order of arguments (MONAI 8239), a metric without gradient as a loss (torchmetrics 388), batches (TopoLoss 19
and 27), fields of three dimensions and large ones (Betti-matching 2 and 5).
"""

import time

import emuloss
import numpy as np
import pytest
import torch
from emuloss import SegmentationLoss, functional
from torch import nn

PAIRWISE = {
    "fss": {"thresholds": [0.5, 2.0], "windows": [1, 3]},
    "csi": {"thresholds": [0.5, 2.0], "outputs": ["csi", "pod", "far"]},
}


def drawn(*shape: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = np.random.default_rng(seed)
    both = generator.gamma(0.5, 2.0, (2, *shape)).astype(np.float32)
    return torch.from_numpy(both[0]), torch.from_numpy(both[1])


@pytest.mark.parametrize("name", PAIRWISE)
def test_sign_of_a_score_of_which_larger_is_better(name):
    """The loss is least at the target, though the score is largest, and a step against its gradient helps."""
    prediction, target = drawn(2, 16, 16)
    metric = emuloss.metric(name, **PAIRWISE[name])
    loss = emuloss.relax(metric).as_loss(forward="exact")
    assert loss(target, target) == 0 < loss(0.5 * (prediction + target), target) < loss(prediction, target)
    soft = emuloss.relax(metric, temperature=0.2).as_loss()
    x = prediction.clone().requires_grad_()
    before = soft(x, target)
    before.backward()
    assert soft(x.detach() - 1e-2 * x.grad / x.grad.abs().max(), target) < before


def test_sign_of_functions():
    prediction, target = drawn(2, 16, 16)
    for function in (functional.fss_loss, functional.csi_loss):
        perfect = function(target, target, [0.5, 2.0], forward="exact")
        assert perfect == 0 < function(prediction, target, [0.5, 2.0], forward="exact") <= 1


def test_a_single_channel_is_never_dropped():
    prediction, target = drawn(2, 1, 16, 16)
    labels = (target > 1).long()
    assert SegmentationLoss(activation="sigmoid")(prediction, labels) > 0
    with pytest.raises(emuloss.ArgumentError, match="would leave nothing"):
        SegmentationLoss(activation="sigmoid", include_background=False)(prediction, labels)
    with pytest.raises(emuloss.ArgumentError, match="take activation='sigmoid'"):
        SegmentationLoss(activation="softmax")(prediction, labels)


def test_the_order_of_arguments():
    """Labels are no prediction: a swap is told."""
    prediction, target = drawn(2, 1, 16, 16)
    loss = SegmentationLoss(activation="sigmoid")
    with pytest.raises(emuloss.ArgumentError, match="prediction must be floating point"):
        loss((target > 1).long(), prediction)
    with pytest.raises(emuloss.ArgumentError, match=r"the order of arguments loss\(prediction, target\)"):
        loss((target > 1).float(), prediction)


def test_two_channels_are_no_pair_and_a_pair_is_not_two_channels():
    prediction, target = drawn(2, 2, 16, 16)
    loss = emuloss.relax(emuloss.metric("fss", **PAIRWISE["fss"])).as_loss()
    with pytest.raises(emuloss.ArgumentError, match=r"channels=.*a pair is loss\(prediction, target\)"):
        loss(prediction, target)


def test_an_exact_metric_is_no_loss():
    prediction, target = drawn(2, 16, 16)
    metric = emuloss.metric("fss", **PAIRWISE["fss"])
    with pytest.raises(emuloss.ArgumentError, match=r"pass .*detach\(\)"):
        metric(prediction.requires_grad_(), target)
    measures = pytest.importorskip("emuloss.measures")
    value = measures.ExactScore(metric)(prediction, target)
    with pytest.raises(emuloss.ArgumentError, match=r"no gradient.*as_loss\(\)"):
        value.backward()


@pytest.mark.parametrize("name", ["minkowski", *PAIRWISE])
def test_a_batch_is_the_mean_of_its_fields(name):
    """Each field counts, with its own gradient, wherever it stands."""
    prediction, target = drawn(4, 16, 16)
    loss = emuloss.relax(emuloss.metric(name, **PAIRWISE.get(name, {"thresholds": [0.5, 2.0]}))).as_loss()
    x = prediction.clone().requires_grad_()
    together = loss(x, target)
    together.backward()
    alone = prediction.clone().requires_grad_()
    apart = [loss(alone[k : k + 1], target[k : k + 1]) for k in range(4)]
    torch.stack(apart).mean().backward()
    torch.testing.assert_close(together, torch.stack(apart).mean())
    torch.testing.assert_close(x.grad, alone.grad, rtol=1e-4, atol=1e-7)
    assert x.grad.flatten(1).any(1).all()
    turned = loss(prediction.flip(0), target.flip(0))
    torch.testing.assert_close(turned, together.detach())


def test_three_dimensions_are_refused_by_name():
    prediction, target = drawn(1, 1, 4, 8, 8)
    losses: list[nn.Module] = [emuloss.relax(emuloss.metric("minkowski", thresholds=[1.0])).as_loss()]
    losses.append(SegmentationLoss())
    for loss in losses:
        with pytest.raises(emuloss.ArgumentError, match=r"three-dimensional.*flatten\(0, 1\)"):
            loss(prediction, target)


def test_fields_of_400_by_400_take_no_minutes():
    """It is half a second on a machine with other work."""
    prediction, target = drawn(1, 1, 400, 400)
    loss = SegmentationLoss(activation="sigmoid")
    labels = (target > 1).long()
    loss(prediction, labels)  # compiles
    x = (prediction - 1).requires_grad_()
    began = time.monotonic()
    loss(x, labels).backward()
    assert time.monotonic() - began < 10
    assert x.grad.any()
