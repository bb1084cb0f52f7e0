"""Times of losses, of exact labels, and of losses within a network's training step."""

from __future__ import annotations

import math
import os
import runpy
import time
from collections.abc import Callable

import emuloss
import numpy as np
import torch
from clock import DEVICE, captured, in_turns, milliseconds, never_waits, peak_of, work_of
from emuloss.emulators.soft import BACKENDS
from emuloss.zoo import Surrogate, load
from equality import ROOT, apart
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
_LOOKS = 16
"""Batches that a loss looks at, at most, for a warning."""
_ANNEALED = 10
"""Temperatures of an annealing."""
_WEIGHT = 0.01
"""Of a loss beside the squared error."""


def losses(sample: Sample, notes: Notes, *, small: bool) -> None:
    """Value and gradient of losses by size of the batch: times, launches, crossings, memory.

    By torch's operations and by the compiled kernels in turns, and as a captured graph.
    """
    notes.table(
        "Loss and gradient",
        "loss", "fields", "operations, ms", "kernels, ms", "ratio", "as a graph, ms", "device busy, ms",
        "launches", "to host", "to device", "waits", "GB",
    )  # fmt: skip
    for count, size in ((2, 64),) if small else _SHAPES:
        observed, predicted = (each.to(DEVICE) for each in sample.pairs(count, size))
        for name, build in SURROGATES.items():
            shape = f"{count} x {size}^2"
            with notes.stage(f"time of {name}, {shape}"):
                run = value_and_gradient(build().to(DEVICE).as_loss(), predicted, observed)
                for _ in range(_LOOKS):  # the first batches are looked at, which waits for the device
                    run()
                old, new = in_turns((by_operations(run), run))
                work, peak = work_of(run), peak_of(run)
                notes.row(
                    name, shape, f"{old:.2f}", f"{new:.2f}", f"{old / new:.1f}", f"{graphed(run):.3f}",
                    f"{work.busy:.2f}", *map(str, work[:4]), f"{peak:.2f}",
                )  # fmt: skip


def by_operations(run: Callable[[], object]) -> Callable[[], object]:
    """A call in which torch's own operations do what kernels of the package do otherwise."""

    def operated() -> object:
        BACKENDS["compiled"].preference = -1
        try:
            return run()
        finally:
            del BACKENDS["compiled"].preference

    return operated


def graphed(run: Callable[[], object]) -> float:
    """Milliseconds of a call as a CUDA graph; NaN, and why, where the host waits and it cannot be one."""
    try:
        never_waits(run)
        return milliseconds(captured(run))
    except RuntimeError as error:
        print(f"-- no graph: {str(error).splitlines()[0]}", flush=True)
        torch.cuda.synchronize()
        return math.nan


def compiled(sample: Sample, notes: Notes, *, small: bool) -> None:
    """Losses of relaxations under torch.compile, as one graph, over an annealing."""
    count, size = (2, 64) if small else _SHAPES[0]
    observed, predicted = (each.to(DEVICE) for each in sample.pairs(count, size))
    notes.table(
        f"Loss and gradient under torch.compile, {count} x {size}^2",
        "loss", "eager, ms", "compiled, ms", "gradients apart, norm", "compilations", "first call, s",
    )  # fmt: skip
    for name, build in SURROGATES.items():
        with notes.stage(f"compiling {name}"):
            torch.compiler.reset()
            loss = build().to(DEVICE).as_loss()
            if loss.surrogate.relaxation is None:
                continue  # compiling a network takes a minute, and only its own convolutions matter
            whole = torch.compile(loss, fullgraph=True)
            eager, run = (value_and_gradient(each, predicted, observed) for each in (loss, whole))
            began, before = time.monotonic(), unique_graphs()
            run()
            seconds = time.monotonic() - began
            for step in range(_ANNEALED):
                loss.anneal(step / (_ANNEALED - 1))
                run()
            graphs = unique_graphs() - before
            old, new = in_turns((eager, run))
            found, expected = run()[0], eager()[0]
            notes.row(name, f"{old:.2f}", f"{new:.2f}", apart(found, expected), str(graphs), f"{seconds:.1f}")
    torch.compiler.reset()


def unique_graphs() -> int:
    """How many graphs torch has compiled so far."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def value_and_gradient(
    loss: nn.Module, predicted: Tensor, observed: Tensor
) -> Callable[[], tuple[Tensor, ...]]:
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
    """What losses add to a training step of the small U-Net of the super-resolution example.

    Step by step as Python launches them, and as captured graphs.
    """
    kind = runpy.run_path(str(ROOT / "examples" / "super_resolution" / "network.py"))["UNet"]
    notes.table(
        "A training step of the small U-Net, by loss",
        "batch", "precision", "loss", "ms", "share of the loss", "as a graph, ms", "share of the loss",
    )  # fmt: skip
    for count in (2,) if small else _BATCHES:
        observed, predicted = (each.to(DEVICE) for each in sample.pairs(count))
        for precision in ("float32", "bfloat16"):
            with notes.stage(f"U-Net, {count} fields, {precision}"):
                half = precision == "bfloat16"
                alone: tuple[float, float] | None = None
                for name, build in {"squared error": None, **SURROGATES}.items():
                    loss = build().to(DEVICE).as_loss() if build else None
                    step = unet_step(kind().to(DEVICE), observed, predicted, loss, half=half)
                    for _ in range(_LOOKS):
                        step()
                    found = milliseconds(step), graphed(step)
                    alone = alone or found
                    shares = [f"{1 - plain / each:.1%}" for plain, each in zip(alone, found, strict=True)]
                    notes.row(
                        str(count), precision, f"and {name}" if build else name, f"{found[0]:.2f}", shares[0],
                        f"{found[1]:.2f}", shares[1],
                    )  # fmt: skip


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
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, capturable=DEVICE.type == "cuda")
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
