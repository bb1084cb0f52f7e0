"""What a loss takes beside batches of single fields: one field, channels, times; and what it refuses."""

import emuloss
import pytest
import torch
from emuloss import Combined, PerChannel, Share
from torch import nn


@pytest.fixture
def surrogate():
    return emuloss.relax(emuloss.metric("minkowski", thresholds=[0.5, 1.0, 2.0]))


def drawn(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    both = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)) * 4
    return both[0], both[1]


def test_one_field(surrogate):
    prediction, target = drawn(16, 16)
    prediction.requires_grad_()
    loss = surrogate.as_loss()
    value = loss(prediction, target)
    assert value == loss(prediction[None], target[None])
    value.backward()
    assert prediction.grad.shape == (16, 16)
    assert prediction.grad.any()
    mask = torch.ones(16, 16, dtype=torch.bool)
    mask[:4] = False
    assert loss(prediction, target, mask=mask) == loss(prediction[None], target[None], mask=mask[None])
    curves = surrogate(target[None])
    torch.testing.assert_close(loss(prediction, target_curves=curves), value)


def test_each_channel_is_a_field_by_itself(surrogate):
    prediction, target = drawn(2, 3, 16, 16)
    single = surrogate.as_loss(reduction="none")
    each = torch.stack([single(prediction[:, k], target[:, k]) for k in range(3)], 1)
    found = surrogate.as_loss(channels="each", reduction="none")(prediction, target)
    torch.testing.assert_close(found, each)
    named = surrogate.as_loss(channels=("rain", None, "snow"), reduction="none")
    torch.testing.assert_close(named(prediction, target), each[:, [0, 2]])
    for reduction in ("mean", "sum"):
        loss = surrogate.as_loss(channels=("rain", None, "snow"), reduction=reduction)
        torch.testing.assert_close(loss(prediction, target), getattr(each[:, [0, 2]], reduction)())
    parts = named.by_channel(prediction, target)
    assert list(parts) == ["rain", "snow"]
    torch.testing.assert_close(parts["snow"], each[:, 2].mean())
    outputs = named.by_output(prediction, target)
    assert outputs.shape == (2, 2, 3)
    torch.testing.assert_close(outputs.sum(-1), each[:, [0, 2]])
    assert "channels: ('rain', None, 'snow')" in repr(named)


def test_channels_that_do_not_count_have_no_gradient_whatever_they_hold(surrogate):
    prediction, target = drawn(2, 2, 16, 16)
    prediction[:, 1] = torch.nan
    prediction.requires_grad_()
    surrogate.as_loss(channels=("rain", None))(prediction, target).backward()
    assert prediction.grad[:, 0].any()
    assert not prediction.grad[:, 1].any()


def test_masks_and_curves_of_channels(surrogate):
    prediction, target = drawn(2, 2, 16, 16)
    loss = surrogate.as_loss(channels="each")
    mask = torch.ones_like(target, dtype=torch.bool)
    mask[0, 1, :5] = False
    gaps = target.masked_fill(~mask, torch.nan)
    torch.testing.assert_close(loss(prediction, target, mask=mask), loss(prediction, gaps))
    curves = surrogate(target.flatten(0, 1)).unflatten(0, (2, 2))
    torch.testing.assert_close(loss(prediction, target_curves=curves), loss(prediction, target))


def test_one_mask_for_all_fields_and_one_for_all_channels(surrogate):
    prediction, target = drawn(2, 3, 16, 16)
    land = torch.ones(16, 16, dtype=torch.bool)
    land[:, 9:] = False
    loss = surrogate.as_loss(channels="each")
    everywhere = land.expand(2, 3, 16, 16)
    assert loss(prediction, target, mask=land) == loss(prediction, target, mask=everywhere)
    assert loss(prediction, target, mask=everywhere[:, :1]) == loss(prediction, target, mask=everywhere)
    single = surrogate.as_loss()
    first = prediction[:, 0].requires_grad_()
    value = single(first, target[:, 0], mask=land)
    assert value == single(first, target[:, 0], mask=everywhere[:, 0])
    value.backward()
    assert first.grad[:, :, :9].any()
    assert not first.grad[:, :, 9:].any()
    with pytest.raises(emuloss.ArgumentError, match="mask must have the prediction's shape"):
        single(first, target[:, 0], mask=land[:9])


def test_channels_of_a_pairwise_metric():
    surrogate = emuloss.relax(emuloss.metric("fss", thresholds=[0.5, 2.0], windows=[1, 3]))
    prediction, target = drawn(2, 3, 16, 16)
    each = [surrogate.as_loss()(prediction[:, k], target[:, k]) for k in range(3)]
    found = surrogate.as_loss(channels="each")(prediction, target)
    torch.testing.assert_close(found, torch.stack(each).mean())


@pytest.mark.parametrize(
    ("channels", "shape", "said"),
    [
        (None, (3, 2, 8, 8), r"2 channels or times.*channels=\('rain', None\).*'each'.*a pair is loss\("),
        (None, (3, 1, 4, 8, 8), "three-dimensional fields are not measured"),
        (None, (2, 3, 4, 8, 8), r"three-dimensional.*flatten\(0, 1\)"),
        (None, (8,), r"\(N, H, W\)"),
        (("a", "b"), (3, 3, 8, 8), r"\(N, 2, H, W\) with channels=\('a', 'b'\), got \(3, 3, 8, 8\)"),
        (("a",), (3, 8, 8), r"use prediction\[:, None\]"),
        ("each", (3, 8, 8), r"\(N, C, H, W\) with channels='each', got \(3, 8, 8\)"),
        ("each", (8, 8), r"\(N, C, H, W\)"),
        ("each", (2, 3, 4, 8, 8), "three-dimensional"),
    ],
)
def test_shapes_without_a_single_meaning_are_refused_in_one_line(surrogate, channels, shape, said):
    loss = surrogate.as_loss(channels=channels)
    with pytest.raises(emuloss.ArgumentError, match=said) as refusal:
        loss(*drawn(*shape))
    assert "\n" not in str(refusal.value)


def test_targets_of_another_shape_are_refused(surrogate):
    prediction, target = drawn(2, 3, 8, 8)
    loss = surrogate.as_loss(channels="each")
    for wrong in (target[:, :1], target[:, 0], target.flatten(0, 1)):
        with pytest.raises(emuloss.ArgumentError, match=r"target must have .* shape \(2, 3, 8, 8\)"):
            loss(prediction, wrong)
    with pytest.raises(emuloss.ArgumentError, match="target must have"):
        surrogate.as_loss()(prediction[0, 0], target[0])


@pytest.mark.parametrize("channels", ["rain", (), (None,), ("a", "a"), (1, 2), 3])
def test_channels_are_names(surrogate, channels):
    with pytest.raises(emuloss.ArgumentError, match="channels must be a distinct name"):
        surrogate.as_loss(channels=channels)


def test_a_loss_for_each_channel(surrogate):
    prediction, target = drawn(2, 3, 16, 16)
    rain = surrogate.as_loss()
    expected = [rain(prediction[:, 0], target[:, 0]), nn.functional.l1_loss(prediction[:, 2], target[:, 2])]
    losses = {"rain": rain, "orography": None, "wind": nn.L1Loss()}
    torch.testing.assert_close(PerChannel(losses)(prediction, target), sum(expected) / 2)
    torch.testing.assert_close(PerChannel(losses, reduction="sum")(prediction, target), sum(expected))
    assert list(PerChannel(losses).by_channel(prediction, target)) == ["rain", "wind"]
    mask = torch.zeros_like(target, dtype=torch.bool)
    first = PerChannel({"rain": rain, "a": None, "b": None})
    assert first(prediction, target, mask=mask) == 0
    mask[:, :, 3:] = True
    expected = rain(prediction[:, 0], target[:, 0], mask=mask[:, 0])
    for of_all in (mask, mask[:, :1], mask[0, 0]):
        torch.testing.assert_close(first(prediction, target, mask=of_all), expected)
    with pytest.raises(emuloss.ArgumentError, match=r"\(N, 3, H, W\)"):
        PerChannel(losses)(prediction[:, :2], target[:, :2])
    with pytest.raises(emuloss.ArgumentError, match="a loss or None by channel"):
        PerChannel({"rain": None})
    with pytest.raises(emuloss.ArgumentError, match=r"must be a torch\.nn\.Module or None, got int"):
        PerChannel({"rain": 1})


def test_a_combination_cools_the_losses_of_channels(surrogate):
    combined = Combined(
        {"mse": nn.MSELoss(), "fields": PerChannel({"rain": surrogate.as_loss()})}, fields=Share(0.1)
    )
    combined.step(0.0)
    assert surrogate.temperature == pytest.approx(0.2)
