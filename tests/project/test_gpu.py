"""The same results on a CUDA device as on the CPU."""

import copy

import emuloss
import numpy as np
import pytest
import torch
from emuloss.datasets import Rain
from emuloss.emulators import ARCHITECTURES, ConvEmulator, Excursion, signed_log1p
from emuloss.emulators.certificates import certify
from emuloss.emulators.networks.normalisation import NormGelu
from emuloss.evaluation import largest_slope
from emuloss.training import Trainer, Training

pytestmark = pytest.mark.gpu

ALL = ("area", "perimeter", "euler", "components", "holes")
METRIC = emuloss.metric("minkowski", thresholds=[0.105, 0.505, 2.005], pixel_size=2.0)
SOURCE = Rain(64, size=64)
RAIN = np.concatenate([SOURCE.read(k, "train") for k in range(len(SOURCE))])


def both(surrogate):
    """Curves and input gradients of rain on the CPU and on the GPU."""
    results = []
    for device in ("cpu", "cuda"):
        fields = torch.from_numpy(RAIN[:8]).to(device).requires_grad_()
        curves = surrogate.to(device)(fields)
        torch.log1p(curves[:, :2]).sum().backward()
        results.append((curves.detach().cpu(), fields.grad.cpu()))
    return results


@pytest.mark.parametrize("boundary", ["closed", "open"])
@pytest.mark.parametrize("connectivity", [1, 2])
def test_relaxed(boundary, connectivity):
    metric = emuloss.metric(
        "minkowski", thresholds=METRIC.thresholds, boundary=boundary, connectivity=connectivity, outputs=ALL
    )
    for tail in (None, (0.1, 0.5)):
        relaxed = emuloss.relax(metric, temperature=0.2, tail=tail)
        (curves, gradient), (other_curves, other_gradient) = both(relaxed)
        torch.testing.assert_close(other_curves, curves, rtol=1e-4, atol=1e-2)
        torch.testing.assert_close(other_gradient, gradient, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("boundary", ["closed", "open"])
@pytest.mark.parametrize("connectivity", [1, 2])
def test_excursion(boundary, connectivity):
    metric = emuloss.metric(
        "minkowski", thresholds=METRIC.thresholds, boundary=boundary, connectivity=connectivity, outputs=ALL
    )
    surrogate = emuloss.Surrogate(Excursion(metric), "excursion")
    (curves, _), (other_curves, other_gradient) = both(surrogate)
    torch.testing.assert_close(other_curves, curves, rtol=1e-4, atol=1e-2)
    assert not any(metric.check(other_curves.double().numpy(), (64, 64)).values())
    assert other_gradient.isfinite().all()


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=str)
def test_normalisation(layout):
    norm = NormGelu(4, 16).cuda()
    x = torch.randn(3, 16, 9, 7, device="cuda").to(memory_format=layout).requires_grad_()
    y = norm(x)
    plain = torch.nn.functional.gelu(torch.nn.functional.group_norm(x, 4, norm.weight, norm.bias))
    torch.testing.assert_close(y, plain)


@pytest.mark.parametrize("arch", ["constrained", "hybrid"])
def test_constrained(arch):
    emulator = ARCHITECTURES[arch](METRIC, widths=(8, 16), hidden=16)
    torch.nn.init.normal_(emulator.fc[-1].weight, std=0.1)
    surrogate = emuloss.Surrogate(emulator, arch)
    (curves, _), (other_curves, _) = both(surrogate)
    torch.testing.assert_close(other_curves, curves, rtol=1e-2, atol=1.0)
    assert not any(METRIC.check(other_curves.numpy(), (64, 64)).values())


def certified():
    """A small certified emulator, far from where its weights start."""
    torch.manual_seed(0)
    emulator = ARCHITECTURES["certified"](METRIC, widths=(8, 16), hidden=16)
    torch.nn.init.normal_(emulator.fc[-1].weight, std=0.1)
    return emulator


def test_certified():
    surrogate = emuloss.Surrogate(certified(), "certified")
    (curves, gradient), (other_curves, other_gradient) = both(surrogate)
    torch.testing.assert_close(signed_log1p(other_curves), signed_log1p(curves), rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(other_gradient, gradient, rtol=5e-2, atol=1e-2 * float(gradient.abs().max()))


def test_certified_learns():
    emulator, fields = certified().cuda().train(), torch.from_numpy(RAIN[:8]).cuda()
    target = signed_log1p(torch.from_numpy(METRIC(RAIN[:8])).float().cuda())
    optimizer = torch.optim.Adam(emulator.parameters(), lr=3e-3)
    losses = []
    for _ in range(20):
        with torch.autocast("cuda", torch.bfloat16):
            curves = emulator(fields)
        losses.append((signed_log1p(curves) - target).abs().mean())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("arch", ["certified", "baseline", "relaxed"])
def test_certificates_and_slopes(arch):
    """A module's bound is the same wherever it is, and slopes found on the GPU stay below it."""
    if arch == "certified":
        module = certified()
    else:
        small = {"widths": (8, 16), "hidden": 16} if arch == "baseline" else {}
        module = ARCHITECTURES[arch](METRIC, **small)
    if arch == "baseline":
        torch.nn.init.normal_(module.fc[-1].weight, std=0.1)
    surrogate = emuloss.Surrogate(module, arch)
    before = certify(surrogate, (64, 64))
    slope = largest_slope(surrogate, RAIN[:2], steps=5)
    surrogate.to("cuda")
    state = copy.deepcopy(surrogate.state_dict())
    after = certify(surrogate, (64, 64))
    assert after.bound == pytest.approx(before.bound, rel=1e-6)
    assert 0 < largest_slope(surrogate, RAIN[:2], steps=5) <= after.bound
    assert largest_slope(surrogate, RAIN[:2], steps=0) == pytest.approx(
        largest_slope(copy.deepcopy(surrogate).cpu(), RAIN[:2], steps=0), rel=1e-3
    )
    assert 0 < slope <= before.bound
    for name, tensor in surrogate.state_dict().items():
        assert tensor.is_cuda
        assert torch.equal(tensor, state[name])


@pytest.mark.parametrize("arch", ["excursion", "relaxed"])
def test_other_thresholds(arch):
    surrogate = emuloss.Surrogate(ARCHITECTURES[arch](METRIC), arch)
    fields = torch.from_numpy(RAIN[:4])
    expected = surrogate.with_thresholds([0.3, 3.0])(fields)
    other = surrogate.to("cuda").with_thresholds([0.3, 3.0])
    assert all(buffer.is_cuda for buffer in other.buffers())
    found = other(fields.cuda())
    assert found.is_cuda
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-2)
    loss = other.as_loss()(fields.cuda(), fields.flip(0).cuda())
    assert loss.is_cuda
    assert loss > 0


def test_loss_with_exact_forward():
    prediction = torch.from_numpy(RAIN[:8]).cuda().requires_grad_()
    target = torch.from_numpy(RAIN[8:16]).cuda()
    loss = emuloss.relax(METRIC).to("cuda").as_loss(forward="exact")
    loss(prediction, target).backward()
    assert prediction.grad.isfinite().all()
    assert prediction.grad.abs().sum() > 0


def test_training(tmp_path):
    curves = METRIC(RAIN)
    emulator = ConvEmulator(METRIC, widths=(8, 16), hidden=16)
    options = Training(minutes=None, fields=320, batch_size=32)
    trainer = Trainer(emulator, (RAIN, curves), (RAIN, curves), options, tmp_path, progress=False)
    assert trainer.team.device.type == "cuda"
    trainer.run()
    assert np.isfinite(trainer.best["loss"])
