"""Segmentation: probabilities of classes as fields, what is background, and what is refused."""

import emuloss
import pytest
import torch
from emuloss import SegmentationLoss
from torch.nn import functional as F

N, SIDE = 2, 24


def disk(row: float, column: float, radius: float) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


RING = disk(12, 12, 9) & ~disk(12, 12, 5)
GAP = torch.zeros(SIDE, SIDE, dtype=torch.bool)
GAP[:12, 11:14] = True
BROKEN = RING & ~GAP
TWO = disk(6, 6, 3) | disk(16, 16, 4)


def logits(mask: torch.Tensor) -> torch.Tensor:
    return (mask.float() * 8 - 4)[None, None].requires_grad_()


@pytest.mark.parametrize(
    ("mask", "wrong"), [(RING, disk(12, 12, 9)), (TWO, disk(6, 6, 3)), (TWO, TWO | disk(3, 20, 2))]
)
def test_the_right_topology_is_best(mask, wrong):
    loss, target = SegmentationLoss(activation="sigmoid"), mask[None, None].long()
    assert loss(logits(mask), target) < 0.05 < 0.2 < loss(logits(wrong), target)


def test_exact_values_are_counts_of_components_and_holes():
    loss = SegmentationLoss(activation="sigmoid", forward="exact", reduction="none")
    # On the signed-log scale, over levels from 0.1 to 0.9: one component and one hole against one and none.
    found = loss(logits(disk(12, 12, 9)), RING[None].long())
    assert found.shape == (1, 1)
    assert float(found.detach()) == pytest.approx(0.8 * torch.log(torch.tensor(2.0)).item(), rel=1e-5)


def test_a_descent_closes_a_ring():
    loss, target = SegmentationLoss(activation="sigmoid"), RING[None].long()
    x = (BROKEN.float() * 4 - 2)[None, None].requires_grad_()
    optimizer = torch.optim.Adam([x], lr=0.2)
    exact = emuloss.metric("minkowski", thresholds=[0.5], outputs=("components", "holes"), connectivity=2)
    assert exact(x.detach().sigmoid()[:, 0].numpy()).ravel().tolist() != [1, 1]
    for _ in range(60):
        optimizer.zero_grad()
        (loss(x, target) + F.binary_cross_entropy_with_logits(x[:, 0], target.float())).backward()
        optimizer.step()
    assert exact(x.detach().sigmoid()[:, 0].numpy()).ravel().tolist() == [1, 1]


def test_classes_are_fields_and_the_background_is_left_out():
    x = torch.randn(N, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2
    classes = torch.randint(3, (N, SIDE, SIDE), generator=torch.Generator().manual_seed(1))
    hot = F.one_hot(classes, 3).movedim(-1, 1)
    plain = SegmentationLoss(reduction="none")
    each = torch.cat([plain(x.softmax(1)[:, k], hot[:, k]) for k in range(3)], 1)
    for target in (classes, classes[:, None], hot, hot.float(), hot.bool()):
        found = SegmentationLoss(activation="softmax", reduction="none")(x, target)
        torch.testing.assert_close(found, each[:, 1:])
    every = SegmentationLoss(activation="softmax", include_background=True)
    torch.testing.assert_close(every(x, classes), each.mean())
    several = SegmentationLoss(activation="sigmoid", include_background=True)
    one = SegmentationLoss(activation="sigmoid")
    torch.testing.assert_close(
        several(x, hot), torch.stack([one(x[:, k], hot[:, k]) for k in range(3)]).mean()
    )


def test_pixels_without_a_label_have_no_gradient():
    x = torch.randn(N, 2, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).requires_grad_()
    classes = torch.randint(2, (N, SIDE, SIDE), generator=torch.Generator().manual_seed(1))
    mask = torch.ones(N, SIDE, SIDE, dtype=torch.bool)
    mask[:, :9] = False
    loss = SegmentationLoss(activation="softmax")
    value = loss(x, classes, mask=mask)
    assert value == loss(x, classes, mask=mask[:, None])
    value.backward()
    assert x.grad[:, :, 9:].any()
    assert not x.grad[:, :, :9].any()


def test_other_metrics():
    metric = emuloss.metric("csi", thresholds=[0.5], outputs=("csi",))
    loss = SegmentationLoss(metric, activation="sigmoid")
    assert loss(logits(RING), RING[None, None]) < 0.05 < loss(logits(TWO), RING[None, None])
    with pytest.raises(emuloss.ArgumentError, match=r"probabilities in \(0, 1\), got 0.5, 2"):
        SegmentationLoss(emuloss.metric("csi", thresholds=[0.5, 2]))


@pytest.mark.parametrize("shape", [(N, SIDE, SIDE), (N, 1, SIDE, SIDE)])
def test_labels_that_a_mask_leaves_out_may_be_anything(shape):
    """Such as 255 for what is to be ignored, in the first batch as in later ones."""
    labels = torch.zeros(shape, dtype=torch.long)
    labels[..., 3:5, 3:5] = 1
    mask = torch.ones(shape, dtype=torch.bool)
    mask[..., :2] = False
    ignored = labels.masked_fill(~mask, 255)
    for loss, classes in (
        (SegmentationLoss(activation="softmax"), 3),
        (SegmentationLoss(activation="sigmoid"), 1),
    ):
        for _ in range(2):
            assert loss(drawn(classes), ignored, mask=mask) == loss(drawn(classes), labels, mask=mask)
    with pytest.raises(emuloss.ArgumentError, match="classes from 0 to 255"):
        SegmentationLoss(activation="softmax")(drawn(3), ignored)


def drawn(classes: int) -> torch.Tensor:
    return torch.rand(N, classes, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


LABELS = torch.zeros(N, SIDE, SIDE, dtype=torch.long)


@pytest.mark.parametrize(
    ("arguments", "given", "said"),
    [
        ({"activation": "tanh"}, None, "activation must be one of sigmoid, softmax"),
        ({"activation": "softmax"}, (drawn(1), LABELS), "take activation='sigmoid'"),
        ({"include_background": False}, (drawn(1), LABELS), "would leave nothing"),
        ({}, (drawn(3), LABELS), "3 classes: say include_background=True"),
        ({}, (drawn(1) * 3 - 1, LABELS), r"probabilities in \[0, 1\].*activation='sigmoid'"),
        ({}, (LABELS[:, None].float(), drawn(1)), r"is the order of arguments loss\(prediction, target\)"),
        ({}, (LABELS, drawn(1)), "prediction must be floating point"),
        ({"activation": "softmax"}, (drawn(3), LABELS.float()), r"use target.long\(\)"),
        ({"activation": "softmax"}, (drawn(3), LABELS + 3), "classes from 3 to 3, the prediction 3"),
        ({"activation": "softmax"}, (drawn(3), LABELS[:, 1:]), "target must be whole numbers"),
        ({}, (drawn(4)[:, None], LABELS), "three-dimensional fields are not measured"),
        ({}, (drawn(1)[0, 0], LABELS[0]), r"prediction must have shape \(N, C, H, W\)"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments, given, said):
    with pytest.raises(emuloss.ArgumentError, match=said) as refusal:
        SegmentationLoss(**arguments)(*given)
    assert "\n" not in str(refusal.value)


def test_masks_have_the_shape_of_labels():
    loss = SegmentationLoss(activation="sigmoid")
    with pytest.raises(emuloss.ArgumentError, match=r"mask must have .*\(2, 24, 24\) or \(2, 1, 24, 24\)"):
        loss(drawn(1), LABELS, mask=torch.ones(SIDE, SIDE, dtype=torch.bool))


def test_temperatures_are_annealed():
    loss = SegmentationLoss(activation="sigmoid")
    emuloss.Combined({"dice": lambda p, t: p.sum() * 0, "topology": loss}).step(0.0)
    assert loss.loss.surrogate.relaxation.temperature == pytest.approx(0.2)
    loss.anneal(1.0)
    assert loss.loss.surrogate.relaxation.temperature == pytest.approx(0.05)
