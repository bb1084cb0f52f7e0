"""Times of losses, of exact labels, and of losses within a network's training step."""

from __future__ import annotations

import os
import runpy
import time
from collections.abc import Callable

import emuloss
import numpy as np
import torch
from clock import DEVICE, milliseconds, peak_of, work_of
from emuloss.zoo import Surrogate, load
from equality import ROOT
from fields import ALL, Sample, minkowski
from notes import Notes
from torch import Tensor, nn

SURROGATES: dict[str, Callable[[], Surrogate]] = {
    "minkowski-opera": lambda: load("minkowski-opera"),
    "relaxed minkowski, 3 outputs": lambda: emuloss.relax(minkowski(ALL[:3])),
    "relaxed minkowski, 5 outputs": lambda: emuloss.relax(minkowski(ALL)),
    "minkowski-opera-constrained": lambda: load("minkowski-opera-constrained"),
}
"""Surrogates whose losses are timed."""
_SHAPES = ((16, 128), (64, 128), (16, 512), (16, 1024))
"""Fields of a batch, and their side in pixels."""
_BATCHES = (16, 64)
"""Fields of a batch of the U-Net."""
_WEIGHT = 0.01
"""Of a loss beside the squared error."""


def losses(sample: Sample, notes: Notes, *, small: bool) -> None:
    """Value and gradient of losses by size of the batch: times, launches, crossings, memory."""
    notes.table(
        "Loss and gradient",
        "loss", "fields", "ms", "ms a field", "device busy, ms", "kernels", "to host", "to device", "waits",
        "GB",
    )  # fmt: skip
    for count, size in ((2, 64),) if small else _SHAPES:
        observed, predicted = (each.to(DEVICE) for each in sample.pairs(count, size))
        for name, build in SURROGATES.items():
            shape = f"{count} x {size}^2"
            with notes.stage(f"time of {name}, {shape}"):
                run = value_and_gradient(build().to(DEVICE).as_loss(), predicted, observed)
                found, work, peak = milliseconds(run), work_of(run), peak_of(run)
                notes.row(
                    name, shape, f"{found:.2f}", f"{found / count:.3f}", f"{work.busy:.2f}",
                    *map(str, work[:4]), f"{peak:.2f}",
                )  # fmt: skip


def value_and_gradient(loss: nn.Module, predicted: Tensor, observed: Tensor) -> Callable[[], object]:
    """A call that computes the gradient of a loss in the predictions."""
    x = predicted.clone().requires_grad_()
    return lambda: torch.autograd.grad(loss(x, observed), x)


def labels(sample: Sample, notes: Notes, *, small: bool) -> None:
    """Exact labels, which the host's cores make whatever the device."""
    fields = sample.fields(64 if small else 4096)
    metric = minkowski(ALL[:4])
    notes.table(
        f"Exact labels on {os.cpu_count()} cores, 4 outputs at {len(metric.thresholds)} thresholds",
        "fields a call", "fields/s",
    )  # fmt: skip
    for count in sorted({16, 64, len(fields)}):
        part = fields[:count]
        metric(part)
        times = []
        for _ in range(5):
            began = time.perf_counter()
            metric(part)
            times.append(time.perf_counter() - began)
        notes.row(str(count), f"{count / np.median(times):,.0f}")


def unet(sample: Sample, notes: Notes, *, small: bool) -> None:
    """What losses add to a training step of the small U-Net of the super-resolution example."""
    kind = runpy.run_path(str(ROOT / "examples" / "super_resolution" / "network.py"))["UNet"]
    notes.table(
        "A training step of the small U-Net, by loss", "batch", "precision", "loss", "ms", "share of the loss"
    )
    for count in (2,) if small else _BATCHES:
        observed, predicted = (each.to(DEVICE) for each in sample.pairs(count))
        for precision in ("float32", "bfloat16"):
            with notes.stage(f"U-Net, {count} fields, {precision}"):
                network = kind().to(DEVICE)
                half = precision == "bfloat16"
                plain = milliseconds(unet_step(network, observed, predicted, None, half=half))
                notes.row(str(count), precision, "squared error", f"{plain:.2f}", "")
                for name, build in SURROGATES.items():
                    loss = build().to(DEVICE).as_loss()
                    found = milliseconds(unet_step(network, observed, predicted, loss, half=half))
                    share = f"{1 - plain / found:.0%}"
                    notes.row(str(count), precision, f"and {name}", f"{found:.2f}", share)


def unet_step(
    network: nn.Module, observed: Tensor, smooth: Tensor, loss: nn.Module | None, *, half: bool
) -> Callable[[], None]:
    """A step of training, on squared error and perhaps a loss, with a batch that stays on the device.

    Args:
        network: log(1 + fields) (N, 1, H, W) of smooth fields of that shape.
        observed: (N, H, W).
        smooth: (N, H, W), what the network sees.
        loss: of predictions and observations (N, H, W), or None.
        half: whether the network computes in bfloat16.
    """
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    wanted = observed.log1p()

    def step() -> None:
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=half):
            predicted = network(smooth[:, None])[:, 0].float()
        objective = (predicted - wanted).square().mean()
        if loss is not None:
            objective = objective + _WEIGHT * loss(predicted.expm1(), observed)
        optimizer.zero_grad(set_to_none=True)
        objective.backward()
        optimizer.step()

    return step
