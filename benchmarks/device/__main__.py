"""The package on a GPU: the same results as on the CPU, times, and networks trained for some minutes.

    python benchmarks/device [--opera FOLDER] [--train MINUTES] [--out FOLDER] [--only STAGE ...]

Each stage is on its own: one that fails is reported, and the next goes on. What is found is printed and
written into the folder at once: device.md with the tables, pytest.txt, and a checkpoint of each trained
network. A later run with the same folder goes on from the best weights. Without a GPU everything runs on the
CPU, for a try with --small.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import torch
from clock import DEVICE
from equality import equality, tests
from fields import Sample
from notes import Notes
from steps import nearly_fastest, steps
from times import compiled, labels, losses, unet
from trained import SHARES, Plan, train

STAGES = ("tests", "equality", "labels", "losses", "compiled", "unet", "steps", "train")
MEASURES = {"equality": equality, "labels": labels, "losses": losses, "compiled": compiled, "unet": unet}
"""Stages that measure a sample of fields."""
_FEW = 16
"""Fields of a training step in a try."""


def main() -> None:
    """Run the stages in order."""
    asked = options()
    notes = Notes(asked.out / "device.md")
    notes.add(about())
    sample = Sample(asked.opera)
    speeds: dict[int, float] = {}
    for name in STAGES:
        if name not in asked.only or (name == "train" and not asked.train):
            continue
        with notes.stage(name):
            if name == "tests":
                tests(asked.out, notes)
            elif name == "steps":
                speeds = steps(sample, notes, small=asked.small)
            elif name == "train":
                train(plan(asked, speeds), notes)
            else:
                MEASURES[name](sample, notes, small=asked.small)


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description="Check and time the package on a GPU, and train on it.")
    parser.add_argument("--opera", help="folder of ODIM-HDF5 composites; default: synthetic rain")
    parser.add_argument("--train", type=float, default=0.0, help="minutes of training; default: none")
    parser.add_argument("--out", type=Path, default=Path("runs/device"), help="folder of the results")
    parser.add_argument("--only", nargs="+", choices=STAGES, default=STAGES, help="stages to run")
    parser.add_argument("--networks", nargs="+", choices=SHARES, default=tuple(SHARES), help="to train")
    parser.add_argument("--batch", type=int, help="fields of a training step; default: by measuring")
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate; default: 0.002")
    parser.add_argument(
        "--from-bundled", action="store_true", help="begin with the bundled networks' weights"
    )
    parser.add_argument("--compiled", action="store_true", help="train compiled networks")
    parser.add_argument("--small", action="store_true", help="everything tiny, to try the benchmark")
    asked = parser.parse_args()
    if asked.train and not asked.opera:
        parser.error("--train needs --opera")
    return asked


def plan(asked: argparse.Namespace, speeds: dict[int, float]) -> Plan:
    """What is to be trained, in batches of the size that was asked for or found."""
    batch = asked.batch or (_FEW if asked.small else nearly_fastest(speeds))
    return Plan(
        asked.opera,
        asked.train,
        tuple(asked.networks),
        batch,
        asked.rate,
        asked.out,
        from_bundled=asked.from_bundled,
        compiled=asked.compiled,
        small=asked.small,
    )


def about() -> str:
    """Card and versions."""
    card = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "CPU"
    versions = f"torch {torch.__version__}, numpy {np.__version__}, Python {sys.version.split()[0]}"
    return f"{card}, {versions}, {os.cpu_count()} cores"


if __name__ == "__main__":
    main()
