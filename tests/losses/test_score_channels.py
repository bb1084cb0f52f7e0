"""Scores of ensembles of channels: each channel by itself, and shapes without a single meaning refused."""

import emuloss
import pytest
import torch
from emuloss import functional

METRIC = emuloss.metric("minkowski", thresholds=[0.5, 1.0, 2.0])
PAIRWISE = {
    "fss": emuloss.metric("fss", thresholds=[0.5, 2.0], windows=[1, 3]),
    "fss at percentiles": emuloss.metric("fss", percentiles=[50, 80], windows=[1, 3]),
}


@pytest.fixture
def surrogate():
    return emuloss.relax(METRIC)


def drawn(number: int = 2, count: int = 4, channels: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    members = torch.rand(number, count, channels, 16, 16, generator=generator) * 4
    return members, torch.rand(number, channels, 16, 16, generator=generator) * 4


@pytest.mark.parametrize("metric", [METRIC, *PAIRWISE.values()], ids=["minkowski", *PAIRWISE])
@pytest.mark.parametrize("estimator", ["fair", "plain"])
def test_each_channel_has_a_score_by_itself(metric, estimator):
    surrogate = emuloss.relax(metric)
    members, target = drawn()
    single = surrogate.as_score(estimator=estimator, reduction="none")
    each = torch.stack([single(members[:, :, k], target[:, k]) for k in range(3)], 1)
    every = surrogate.as_score(estimator=estimator, channels="each", reduction="none")
    torch.testing.assert_close(every(members, target), each)
    for reduction in ("mean", "sum"):
        named = surrogate.as_score(estimator=estimator, channels=("rain", None, "snow"), reduction=reduction)
        torch.testing.assert_close(named(members, target), getattr(each[:, [0, 2]], reduction)())
    parts = named.by_channel(members, target)
    assert list(parts) == ["rain", "snow"]
    torch.testing.assert_close(parts["snow"], each[:, 2].mean())
    assert list(single.by_channel(members[:, :, 1], target[:, 1])) == ["0"]
    outputs = named.by_output(members, target)
    assert outputs.shape == (2, 2, len(metric.outputs))
    assert "channels: ('rain', None, 'snow')" in repr(named)


def test_members_in_another_dimension(surrogate):
    members, target = drawn()
    expected = surrogate.as_score(channels="each")(members, target)
    for dimension in (0, 2, -3):
        score = surrogate.as_score(channels="each", member_dim=dimension)
        torch.testing.assert_close(score(members.movedim(1, dimension), target), expected)


def test_channels_that_do_not_count_have_no_gradient_whatever_they_hold(surrogate):
    members, target = drawn(channels=2)
    members[:, :, 1] = target[:, 1] = torch.nan
    members.requires_grad_()
    value = surrogate.as_score(channels=("rain", None))(members, target)
    value.backward()
    assert value.isfinite()
    assert members.grad[:, :, 0].any()
    assert not members.grad[:, :, 1].any()


def test_masks_and_curves_of_channels(surrogate):
    members, target = drawn(channels=2)
    score = surrogate.as_score(channels="each")
    mask = torch.ones_like(target, dtype=torch.bool)
    mask[0, 1, :5] = False
    gaps = target.masked_fill(~mask, torch.nan)
    torch.testing.assert_close(score(members, target, mask=mask), score(members, gaps))
    land = torch.arange(16 * 16).view(16, 16) % 5 > 0
    everywhere = land.expand(target.shape)
    for one in (land, everywhere[:, :1]):
        torch.testing.assert_close(score(members, target, mask=one), score(members, target, mask=everywhere))
    single = surrogate.as_score()
    torch.testing.assert_close(
        single(members[:, :, 0], target[:, 0], mask=land),
        single(members[:, :, 0], target[:, 0], mask=everywhere[:, 0]),
    )
    curves = surrogate(target.flatten(0, 1)).unflatten(0, (2, 2))
    torch.testing.assert_close(score(members, target_curves=curves), score(members, target))


def test_no_ensembles_have_no_score(surrogate):
    members, target = drawn()
    score = surrogate.as_score(channels="each", reduction="none")
    assert score(members[:0], target[:0]).shape == (0, 3)
    assert surrogate.as_loss(channels="each", reduction="none")(target[:0], target[:0]).shape == (0, 3)


def test_as_a_function(surrogate):
    members, target = drawn()
    found = functional.energy_score(members, target, METRIC, channels=["rain", None, "snow"])
    expected = surrogate.as_score(channels=("rain", None, "snow"))(members, target)
    torch.testing.assert_close(found, expected)
    with pytest.raises(emuloss.ArgumentError, match="3 channels"):
        functional.energy_score(members, target, METRIC)


@pytest.mark.parametrize(
    ("channels", "shape", "said"),
    [
        (None, (3, 4, 2, 8, 8), r"members have 2 channels or times, .*as_score\(channels=.*'each'"),
        (None, (3, 4, 2, 2, 8, 8), r"members must be \(N, M, H, W\)"),
        (("a", "b"), (3, 4, 3, 8, 8), r"\(N, M, 2, H, W\) with channels=\('a', 'b'\), got \(3, 4, 3, 8, 8\)"),
        (("a", "b"), (3, 2, 8, 8), r"\(N, M, 2, H, W\)"),
        (("a",), (3, 4, 8, 8), r"use members\[:, :, None\]"),
        ("each", (3, 4, 8, 8), r"\(N, M, C, H, W\) with channels='each', got \(3, 4, 8, 8\)"),
    ],
)
def test_shapes_without_a_single_meaning_are_refused_in_one_line(surrogate, channels, shape, said):
    with pytest.raises(emuloss.ArgumentError, match=said) as refusal:
        surrogate.as_score(channels=channels)(torch.rand(shape), torch.rand(shape[:1] + shape[2:]))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("channels", ["rain", (), (None,), ("a", "a"), (1, 2), 3])
def test_channels_are_names(surrogate, channels):
    with pytest.raises(emuloss.ArgumentError, match="channels must be a distinct name"):
        surrogate.as_score(channels=channels)


def test_targets_of_another_shape_are_refused(surrogate):
    members, target = drawn()
    score = surrogate.as_score(channels="each")
    for wrong in (target[:, :1], target[:, 0], members):
        with pytest.raises(emuloss.ArgumentError, match=r"target must have .* shape \(2, 3, 16, 16\)"):
            score(members, wrong)
