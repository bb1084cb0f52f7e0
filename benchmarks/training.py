"""The training step of the constrained emulator against its plain form, and the loop around it.

    python benchmarks/training.py [--fields FILE.npy] [--precision auto] [--steps 4] [--repeats 5]

Three sides take turns in one run, so that a change of load on the machine meets all of them alike:
the step in plain float32, contiguous tensors; the step as the Trainer runs it, in the precision
and memory format that it picks; and the whole loop, which makes batches (symmetries, augmentation,
exact new labels) in the background of such steps. Ratios are medians over the turns.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from _timing import CLOCK, rain, take_turns
from emuloss.emulators import ARCHITECTURES
from emuloss.metrics import Minkowski, quantile_thresholds
from emuloss.training import Trainer, Training
from emuloss.training.batches import loaders, prefetched

FIELDS = 256


def trainer_of(fields: np.ndarray, arch: str, precision: str, folder: Path) -> Trainer:
    """A trainer of the constrained emulator on these fields, ready to step."""
    folder.mkdir()
    metric = Minkowski(quantile_thresholds(fields, wet=0.1, quantum=0.01))
    data = fields, metric(fields)
    torch.manual_seed(0)
    emulator = ARCHITECTURES[arch](metric)
    options = Training(precision=precision)
    trainer = Trainer(emulator, data, data, options, folder, quantum=0.01, progress=False)
    trainer.learner.settle(trainer.batches[0][0])
    return trainer


def steps_on_one_batch(trainer: Trainer, steps: int) -> None:
    batch = trainer.batch(0)
    for _ in range(steps):
        found = trainer.learner.learn(*batch)
    found["loss"].item()  # waits for the device


def whole_loop(trainer: Trainer, steps: int) -> None:
    threads = loaders(trainer.team.device, trainer.team.world_size)
    with prefetched(trainer.batch, trainer.step, threads) as batches:
        for _ in range(steps):
            found = trainer.learner.learn(*next(batches))
        found["loss"].item()


def main() -> None:
    parser = argparse.ArgumentParser(description="Time training steps of the constrained emulator.")
    parser.add_argument("--fields", type=Path, help="rain (N, H, W) in mm/h as .npy; default: synthetic")
    parser.add_argument("--arch", default="constrained", help="architecture; default: constrained")
    parser.add_argument("--precision", default="auto", help="auto | float32 | bfloat16; default: auto")
    parser.add_argument("--steps", type=int, default=4, help="steps of a turn; default: 4")
    parser.add_argument("--repeats", type=int, default=5, help="turns that each side takes; default: 5")
    arguments = parser.parse_args()
    fields = np.load(arguments.fields)[:FIELDS] if arguments.fields else rain(FIELDS)
    with tempfile.TemporaryDirectory() as folder:
        plain = trainer_of(fields, arguments.arch, "float32", Path(folder, "plain"))
        ours = trainer_of(fields, arguments.arch, arguments.precision, Path(folder, "ours"))
    sides = (
        lambda: steps_on_one_batch(plain, arguments.steps),
        lambda: steps_on_one_batch(ours, arguments.steps),
        lambda: whole_loop(ours, arguments.steps),
    )
    take_turns(1, *sides)
    clock = take_turns(arguments.repeats, *sides)[..., CLOCK]

    weights = sum(p.numel() for p in ours.emulator.parameters())
    shape = " x ".join(map(str, fields.shape[1:]))
    batch = ours.options.batch_size
    print(f"{weights:,} weights, batches of {batch} fields of {shape}, on {ours.team.device}")
    speeds = batch * arguments.steps / np.median(clock, axis=0)
    print(f"{'':44}{'fields/s':>10}{'ratio':>8}")
    print(f"{'step, float32, contiguous':44}{speeds[0]:10.1f}")
    ratio = np.median(clock[:, 0] / clock[:, 1])
    setting = f"step, {ours.learner.precision}, {ours.learner.layout}, as trained"
    print(f"{setting:44}{speeds[1]:10.1f}{ratio:8.2f}  of the plain step")
    share = np.median(clock[:, 1] / clock[:, 2])
    print(f"{'whole loop, with fresh batches and labels':44}{speeds[2]:10.1f}{share:8.0%}  of the step alone")


if __name__ == "__main__":
    main()
