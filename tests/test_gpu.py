"""The same results on a CUDA device as on the CPU."""

import emuloss
import numpy as np
import pytest
import torch
from emuloss.datasets import Rain
from emuloss.emulators import ConstrainedEmulator, Trainer, Training

pytestmark = pytest.mark.gpu

METRIC = emuloss.metric("minkowski", thresholds=[0.105, 0.505, 2.005], pixel_size=2.0)
RAIN = Rain(64, size=64).read(0, "train")


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
        "minkowski", thresholds=METRIC.thresholds, boundary=boundary, connectivity=connectivity
    )
    (curves, gradient), (other_curves, other_gradient) = both(emuloss.relax(metric, temperature=0.2))
    torch.testing.assert_close(other_curves, curves, rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(other_gradient, gradient, rtol=1e-3, atol=1e-4)


def test_constrained():
    emulator = ConstrainedEmulator(METRIC, widths=(8, 16), hidden=16)
    torch.nn.init.normal_(emulator.fc[-1].weight, std=0.1)
    surrogate = emuloss.Surrogate(emulator, "constrained")
    (curves, _), (other_curves, _) = both(surrogate)
    torch.testing.assert_close(other_curves, curves, rtol=1e-2, atol=1.0)
    assert not any(METRIC.check(other_curves.numpy(), (64, 64)).values())


def test_loss_with_exact_forward():
    prediction = torch.from_numpy(RAIN[:8]).cuda().requires_grad_()
    target = torch.from_numpy(RAIN[8:16]).cuda()
    loss = emuloss.relax(METRIC).to("cuda").as_loss(forward="exact")
    loss(prediction, target).backward()
    assert prediction.grad.isfinite().all()
    assert prediction.grad.abs().sum() > 0


def test_training(tmp_path):
    curves = METRIC(RAIN)
    emulator = ConstrainedEmulator(METRIC, widths=(8, 16), hidden=16)
    options = Training(minutes=None, fields=320, batch_size=32)
    trainer = Trainer(emulator, METRIC, (RAIN, curves), (RAIN, curves), options, tmp_path, progress=False)
    assert trainer.device.type == "cuda"
    trainer.run()
    assert np.isfinite(trainer.best["loss"])
