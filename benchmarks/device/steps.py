"""Speeds of training emulators: the step alone, and the whole loop with batches made beside it."""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from clock import DEVICE, milliseconds
from emuloss.emulators import ARCHITECTURES, Trainable
from emuloss.metrics import Metric
from emuloss.training import Trainer, Training
from emuloss.training.batches import loaders, prefetched
from fields import ALL, Sample, minkowski
from notes import Notes

_SIZES = (128, 512, 1024)
"""Fields of a batch of the constrained network; the others take the size before the last."""
_FORMS = (("float32", False), ("bfloat16", False), ("bfloat16", True))
"""Precision, and whether the network is compiled, which takes long: for the largest batches alone."""
_ENOUGH, _NEARLY = 128, 0.85
"""Least size of a batch to train with, and share of the highest speed that will do."""
_DEFAULT = 256
"""Size to train with where no speed was measured."""
_SECONDS = 1.5
"""Of a loop that is timed."""


def steps(sample: Sample, notes: Notes, *, small: bool) -> dict[int, float]:
    """Time training steps of the networks, in each precision apart.

    Returns:
        Fields/s of the constrained network's loop by size of the batch, in the faster precision.
    """
    fields = sample.fields(64 if small else 2048)
    metric = minkowski(ALL[:4])
    data = fields, metric(fields)
    notes.table(
        "Training steps, and whole loops with batches made beside them",
        "network", "batch", "precision", "compiled", "layout", "step, ms", "step, fields/s", "loop, fields/s",
    )  # fmt: skip
    speeds: dict[int, float] = {}
    sizes = (4, 8) if small else _SIZES
    cases = [("constrained", size) for size in sizes]
    cases += [("lipschitz", sizes[-2]), ("certified", sizes[-2])]
    for arch, size in cases:
        for precision, compiled in _FORMS:
            if compiled and size != sizes[-1] and arch == "constrained":
                continue
            options = Training(batch_size=size, precision=precision, compiled=compiled)
            with (
                notes.stage(f"steps of {arch}, {size}, {precision}{', compiled' * compiled}"),
                tempfile.TemporaryDirectory() as folder,
            ):
                trainer = trainer_of(arch, metric, data, options, Path(folder))
                batch, exact = (each.to(DEVICE) for each in trainer.batch(0))  # copied beforehand
                alone = milliseconds(partial(trainer.learner.learn, batch, exact))
                loop = loop_speed(trainer, ahead=1 if small else 20)
                if arch == "constrained":
                    speeds[size] = max(loop, speeds.get(size, 0.0))
                notes.row(
                    arch, str(size), precision, "yes" if compiled else "no", trainer.learner.layout,
                    f"{alone:.2f}", f"{1e3 * size / alone:,.0f}", f"{loop:,.0f}",
                )  # fmt: skip
    return speeds


def network(arch: str, metric: Metric) -> Trainable:
    """A fresh network, the same one each time."""
    torch.manual_seed(0)
    emulator = ARCHITECTURES[arch](metric)
    assert isinstance(emulator, Trainable)  # as all are that this benchmark names
    return emulator


def trainer_of(
    arch: str, metric: Metric, data: tuple[np.ndarray, np.ndarray], options: Training, folder: Path
) -> Trainer:
    """A trainer of a fresh network, its memory format settled, ready to step."""
    trainer = Trainer(network(arch, metric), data, data, options, folder, quantum=0.01, progress=False)
    trainer.learner.settle(trainer.batches[0][0])
    return trainer


def loop_speed(trainer: Trainer, ahead: int) -> float:
    """Fields a second of steps on fresh batches, after those that were made ahead."""
    threads = loaders(trainer.team.device, trainer.team.world_size)
    with prefetched(trainer.batch, trainer.step, threads) as batches:
        for _ in range(ahead):
            trainer.learner.learn(*next(batches))["loss"].item()
        began, first = time.monotonic(), trainer.seen
        while time.monotonic() - began < _SECONDS:
            found = trainer.learner.learn(*next(batches))
        found["loss"].item()  # waits for the device
        return (trainer.seen - first) / (time.monotonic() - began)


def nearly_fastest(speeds: dict[int, float]) -> int:
    """The smallest size of a batch, of those that are large enough, that is nearly as fast as any."""
    fast = _NEARLY * max(speeds.values(), default=0.0)
    return min((size for size in speeds if size >= _ENOUGH and speeds[size] >= fast), default=_DEFAULT)
