"""Several losses in one: shares of the gradient, what is smoothed, kept, told and refused."""

import copy
import math
import os
import subprocess
import sys

import emuloss
import numpy as np
import pytest
import torch
from chatter import said
from emuloss import Combined, PerChannel, Share
from emuloss.emulators import ARCHITECTURES
from emuloss.losses import FrozenSurrogate, Live
from torch import nn


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(2, 3, 24, 24, generator=generator) * 4
    return drawn[0].requires_grad_(), drawn[1]


def geometry() -> emuloss.SurrogateLoss:
    return emuloss.relax(emuloss.metric("minkowski", thresholds=[0.5, 1.0, 2.0])).as_loss()


def norm_of(loss, prediction, target) -> float:
    (gradient,) = torch.autograd.grad(loss(prediction, target), prediction)
    return float(torch.linalg.vector_norm(gradient))


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_loss_has_its_share_of_the_gradient(share):
    prediction, target = batch()
    combined = Combined({"mse": nn.MSELoss(), "geometry": geometry()}, mse=3.0, geometry=Share(share))
    value = combined(prediction, target)
    parts = {name: float(w) * norm_of(combined.losses[name], prediction, target)
             for name, w in combined.weights.items()}  # fmt: skip
    assert parts["geometry"] / sum(parts.values()) == pytest.approx(share, rel=1e-4)
    assert float(combined.shares["geometry"]) == pytest.approx(share, rel=1e-4)
    assert float(combined.weights["mse"]) == 3.0
    expected = sum(combined.weights[name] * combined.values[name] for name in combined.names)
    assert float(value.detach()) == pytest.approx(float(expected))
    assert set(combined.log) == {f"{n}{end}" for n in combined.names for end in ("", "_weight", "_share")}


def test_the_gradient_is_that_of_the_weighted_sum():
    prediction, target = batch()
    combined = Combined({"mse": nn.MSELoss(), "geometry": geometry()}, geometry=Share(0.3))
    combined(prediction, target).backward()
    again = prediction.detach().clone().requires_grad_()
    sum(combined.weights[name] * combined.losses[name](again, target) for name in combined.names).backward()
    torch.testing.assert_close(prediction.grad, again.grad)


def test_several_shares_add_up():
    prediction, target = batch()
    losses = {"mse": nn.MSELoss(), "l1": nn.L1Loss(), "geometry": geometry()}
    combined = Combined(losses, l1=Share(0.25), geometry=Share(0.5))
    combined(prediction, target)
    assert [round(float(s), 4) for s in combined.shares.values()] == [0.25, 0.25, 0.5]


def test_plain_numbers_are_fixed_weights_and_measure_nothing():
    prediction, target = batch()
    combined = Combined({"mse": nn.MSELoss(), "l1": lambda p, t: (p - t).abs().mean()}, l1=0.5)
    expected = nn.functional.mse_loss(prediction, target) + 0.5 * nn.functional.l1_loss(prediction, target)
    torch.testing.assert_close(combined(prediction, target), expected)
    assert not combined.counts.any()


def test_norms_are_smoothed_as_an_exponential_mean_that_begins_as_a_plain_one():
    combined = Combined({"a": nn.MSELoss(), "b": nn.L1Loss()}, b=Share(0.1), smoothing=0.5)
    found = []
    for seed in range(4):
        prediction, target = batch(seed)
        found.append(norm_of(combined.losses["a"], prediction * (seed + 1), target * 0))
        combined(prediction * (seed + 1), target * 0)
    mean = found[0]
    for each in found[1:]:
        mean = (mean + each) / 2
    assert float(combined.norms[0]) == pytest.approx(mean, rel=1e-4)


def test_a_gradient_of_nothing_and_one_that_is_not_finite_are_left_out():
    prediction, target = batch()
    combined = Combined({"mse": nn.MSELoss(), "geometry": geometry()}, geometry=Share(0.1))
    combined(prediction, target)
    before = combined.norms.clone()
    combined(torch.full_like(target, -1e4).requires_grad_(), torch.full_like(target, -1e4))
    combined(torch.full_like(target, math.nan).requires_grad_(), target)
    assert torch.equal(combined.norms, before)


def test_without_gradients_weights_stay_and_before_the_first_step_shares_weigh_nothing():
    prediction, target = batch()
    combined = Combined({"mse": nn.MSELoss(), "geometry": geometry()}, geometry=Share(0.1))
    with torch.no_grad():
        assert float(combined(prediction, target)) == pytest.approx(float(combined.values["mse"]))
    combined(prediction, target)
    weights = combined.weights
    with torch.no_grad():
        combined(3 * prediction, target)
    combined.eval()(3 * prediction, target)
    assert combined.weights == weights


def test_step_lets_shares_rise_and_temperatures_fall():
    prediction, target = batch()
    loss = geometry()
    combined = Combined({"mse": nn.MSELoss(), "geometry": loss}, geometry=Share(0.1, rise=0.5), settle=0.5)
    combined(prediction, target)
    full, found = float(combined.weights["geometry"]), []
    for progress in (0.0, 0.25, 0.5, 1.0):
        combined.step(progress)
        found.append((float(combined.weights["geometry"]) / full, loss.surrogate.temperature))
    weights, temperatures = zip(*found, strict=True)
    assert weights == pytest.approx([0.0, 0.5, 1.0, 1.0], abs=1e-6)
    assert temperatures == pytest.approx([0.2, 0.1, 0.05, 0.05])
    Combined({"mse": nn.MSELoss(), "geometry": loss}, temperatures=None).step(0.0)
    assert loss.surrogate.temperature == pytest.approx(0.05)


def test_every_measures_now_and_then():
    combined = Combined({"mse": nn.MSELoss(), "l1": nn.L1Loss()}, l1=Share(0.1), every=3)
    for seed in range(7):
        combined(*batch(seed))
    assert combined.counts.tolist() == [3, 3]


def test_the_state_is_kept():
    combined = Combined({"mse": nn.MSELoss(), "l1": nn.L1Loss()}, l1=Share(0.1))
    for seed in range(3):
        combined.step(seed / 20)
        combined(*batch(seed))
    other = Combined({"mse": nn.MSELoss(), "l1": nn.L1Loss()}, l1=Share(0.1))
    other.load_state_dict(copy.deepcopy(combined.state_dict()))
    assert other.weights == combined.weights
    assert other(*batch(9)) == combined(*batch(9))


def test_half_precision_is_measured_in_single():
    prediction, _ = batch()
    combined = Combined({"mse": nn.MSELoss(), "l1": nn.L1Loss()}, l1=Share(0.1))
    half = (prediction.detach().half() * 1e-4).requires_grad_()
    combined(half, half.detach().float() + 1e-5).backward()
    assert (combined.norms > 0).all()
    assert half.grad.dtype == torch.float16


def test_further_arguments_go_to_the_loss_that_is_named():
    prediction, target = batch()
    combined = Combined({"mse": nn.MSELoss(), "geometry": geometry()}, geometry=0.5)
    mask = torch.zeros_like(target, dtype=torch.bool)
    combined(prediction, target, geometry={"mask": mask})
    assert float(combined.values["geometry"]) == 0
    with pytest.raises(emuloss.ArgumentError, match=r"no loss 'geometri'.*geometry"):
        combined(prediction, target, geometri={"mask": mask})


def live(gated: bool = True) -> emuloss.losses.LiveLoss:
    metric = emuloss.metric("minkowski", thresholds=[0.5, 1.0, 2.0])
    torch.manual_seed(0)
    network = ARCHITECTURES["constrained"](metric, widths=(8, 16), hidden=16, spectral="none")
    with torch.no_grad():
        network.fc[-1].weight.normal_(std=0.1)  # else there is no gradient yet
    live = Live(gated=gated, precision="float32")
    return FrozenSurrogate(network, "constrained").as_loss(live=live, slopes="surrogate")


def test_gaps_that_an_error_of_pixels_does_not_leave_out_are_told():
    """A plain mean over pixels that were not measured is NaN, and so is the whole sum."""
    prediction, target = torch.zeros(2, 8, 8, requires_grad=True), torch.ones(2, 8, 8)
    combined = Combined({"mse": nn.MSELoss(), "other": lambda p, t: p.square().mean()})
    combined(prediction, target)
    target[0, 0] = torch.nan
    with pytest.warns(UserWarning, match=r"losses\['mse'\] is not finite, and targets are NaN"):
        assert combined(prediction, target).isnan()
    combined(prediction, target)  # told once
    masked = Combined({"mse": lambda p, t: (p - t)[~t.isnan()].square().mean()})
    assert masked(prediction, target) == 1
    Combined({"mse": nn.MSELoss()})(prediction * torch.nan, target)  # of a network that broke


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_casts_of_a_model_leave_weights_as_they_are(dtype):
    """Smoothed norms would stall in half precision, and small weights be 0."""
    combined = Combined(
        {"mse": nn.MSELoss(), "l1": nn.L1Loss(), "tiny": nn.L1Loss()}, l1=Share(0.5), tiny=1e-8
    )
    model = nn.Sequential(nn.Linear(2, 2))
    model.loss = combined
    model.to(dtype)
    assert {value.dtype for value in combined.buffers()} == {torch.float32}
    assert float(combined.weights["tiny"]) == pytest.approx(1e-8)


def test_hooks_on_a_prediction_are_called_once():
    """The norms are asked for by gradients of their own, which are not the caller's: FSDP resets on these."""
    weight = torch.tensor(2.0, requires_grad=True)
    prediction = weight * torch.ones(2, 4, 4)
    prediction.retain_grad()
    called = []
    prediction.register_hook(lambda gradient: called.append(None))
    combined = Combined({"mse": nn.MSELoss(), "l1": nn.L1Loss()}, l1=Share(0.5))
    combined(prediction, torch.zeros(2, 4, 4)).backward()
    assert len(called) == 1
    assert prediction.grad.sum() == weight.grad


def test_learn_reaches_the_losses_that_are_live():
    prediction, target = batch()
    own, within = live(), live()
    combined = Combined(
        {"mse": nn.MSELoss(), "own": own, "fixed": geometry(), "each": PerChannel({"rain": within})}, own=0.1
    )
    combined.losses["each"].register_forward_pre_hook(lambda module, given: tuple(x[:, None] for x in given))
    told = [own.learn(), within.learn()]
    assert all(math.isnan(each["loss"]) for each in told)
    combined(prediction, target).backward()
    told = combined.learn()
    assert list(told) == ["own", "each.losses.0"]
    assert all(math.isfinite(each["loss"]) and math.isfinite(each["error"]) for each in told.values())
    assert Combined({"mse": nn.MSELoss(), "geometry": geometry()}).learn() == {}


@pytest.mark.parametrize("gated", [True, False])
def test_a_live_loss_that_errs_has_less_than_its_share(gated):
    """Its gradient is smaller by how far it heeds itself; the share does not make up for that."""
    prediction, target = batch()
    loss = live(gated)
    combined = Combined({"mse": nn.MSELoss(), "geometry": loss}, geometry=Share(0.5), smoothing=0.0)
    combined(prediction, target)
    before = float(combined.weights["geometry"])
    loss.gauge.add(np.ones(3), np.ones(3), np.full(3, 2.0))
    assert loss.gauge.weight == pytest.approx(0.2)
    combined(prediction, target)
    assert float(combined.weights["geometry"]) == pytest.approx(before, rel=1e-4)
    parts = [float(combined.weights[name]) * norm_of(combined.losses[name], prediction, target)
             for name in ("geometry", "mse")]  # fmt: skip
    assert parts[0] / parts[1] == pytest.approx(0.2 if gated else 1.0, rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"losses": {}}, "losses must be a dictionary"),
        ({"losses": {"a": 3}}, "must be callable, got int"),
        ({"losses": {"every": nn.MSELoss()}}, "free Python name, got 'every'"),
        ({"losses": {"a b": nn.MSELoss()}}, "free Python name"),
        ({"losses": {"values": nn.MSELoss()}}, "free Python name, got 'values'"),
        ({"losses": {"a": nn.MSELoss()}, "b": 1.0}, "no loss 'b'"),
        ({"losses": {"a": nn.MSELoss()}, "a": -1.0}, "a number >= 0 or a Share"),
        ({"losses": {"a": nn.MSELoss()}, "a": Share(0.1)}, "needs a loss beside it"),
        ({"losses": {"a": nn.MSELoss(), "b": nn.L1Loss()}, "a": 0.0, "b": Share(0.1)}, "needs a loss beside"),
        (
            {"losses": dict.fromkeys("abc", nn.MSELoss()), "b": Share(0.5), "c": Share(0.5)},
            "less than 1, got 1",
        ),
        ({"losses": {"a": nn.MSELoss()}, "temperatures": 0.1}, r"a pair \(start, end\)"),
        ({"losses": {"a": nn.MSELoss()}, "smoothing": 1}, "smoothing must be below 1"),
        ({"losses": {"a": nn.MSELoss()}, "every": 0}, "every must be"),
        ({"losses": {"a": nn.MSELoss()}, "settle": 0}, "settle must be"),
    ],
)
def test_mistakes_are_told(arguments, said):
    with pytest.raises(emuloss.ArgumentError, match=said):
        Combined(**arguments)


@pytest.mark.parametrize("share", [0, 1, -0.1, "0.1", math.nan])
def test_a_share_lies_between_0_and_1(share):
    with pytest.raises(emuloss.ArgumentError, match="between 0 and 1"):
        Share(share)


def test_a_loss_that_does_not_average_is_told():
    prediction, target = batch()
    combined = Combined({"mse": nn.MSELoss(reduction="none")})
    with pytest.raises(emuloss.ArgumentError, match=r"one number, got \(3, 24, 24\).*reduction"):
        combined(prediction, target)


_WORKER = """
import sys, torch, emuloss
from torch import nn, distributed
rank, store = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
combined = emuloss.Combined({"mse": nn.MSELoss(), "l1": nn.L1Loss()}, l1=emuloss.Share(0.2))
x = torch.full((2, 4, 4), 2.0 + 3 * rank, requires_grad=True)
combined(x, torch.zeros(2, 4, 4))
print(*combined.norms.tolist())
distributed.barrier()  # none may end while another still listens to it
distributed.destroy_process_group()
"""


def test_processes_have_the_same_weights(tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(rank), str(tmp_path / "store")],
            cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    first, second = (said(run.communicate(timeout=120)[0]).split() for run in runs)
    assert first == second
    # The gradient of the mean of 32 squares x^2 has the norm 2 x / sqrt(32).
    assert float(first[0]) == pytest.approx(2 * 3.5 / math.sqrt(32), rel=1e-5)


_SHARDED = """
import copy, sys, torch, emuloss
from torch import nn, distributed
from torch.distributed.fsdp import FullyShardedDataParallel
distributed.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=0, world_size=1)
metric = emuloss.metric("minkowski", thresholds=[0.1, 0.5, 1.0])
both = {"mse": nn.MSELoss(), "geometry": emuloss.relax(metric).as_loss()}
losses = {"share": emuloss.Combined(both, geometry=emuloss.Share(0.5))}
losses["checked"] = emuloss.relax(metric).as_loss(forward="exact", slopes="checked")
x, y = torch.rand(2, 4, 1, 16, 16, generator=torch.Generator().manual_seed(0)).unbind()
for name, fresh in losses.items():
    for wrap in (lambda m: m, lambda m: FullyShardedDataParallel(m, use_orig_params=True, device_id="cpu")):
        torch.manual_seed(0)
        loss = copy.deepcopy(fresh)
        model = wrap(nn.Conv2d(1, 1, 3, padding=1))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        values = []
        for _ in range(3):
            optimizer.zero_grad()
            value = loss(model(x), y)
            value.backward()
            optimizer.step()
            values.append(f"{float(value.detach()):.4f}")
        print(name, *values)
distributed.destroy_process_group()
"""


def test_sharded_models_learn_as_whole_ones(tmp_path):
    """FSDP puts its parameters back when a gradient reaches the model's output."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _SHARDED, str(tmp_path / "store")],
        cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, text=True, timeout=120,
    )  # fmt: skip
    lines = said(run.stdout).splitlines()
    assert len(lines) == 4
    for whole, sharded in zip(lines[::2], lines[1::2], strict=True):
        assert whole == sharded
        assert len(set(whole.split()[1:])) == 3
