"""Networks trained for some minutes, beside the bundled ones."""

from __future__ import annotations

import copy
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clock import DEVICE
from emuloss.datasets import assign_splits, open_source
from emuloss.emulators import Trainable
from emuloss.evaluation import fidelity
from emuloss.losses import Provenance
from emuloss.training import Trainer, Training
from emuloss.zoo import Surrogate, load
from fields import ALL, minkowski
from notes import Notes
from steps import network

SHARES = {"constrained": 0.5, "lipschitz": 0.25, "certified": 0.25}
"""Networks to train, and their shares of the time."""
_BUNDLED = "minkowski-opera-"
"""Before the name of a network: the bundled surrogate that it is compared with."""
_STRIDE = 32
"""Step between training patches, in pixels."""
_VALIDATIONS = 30
"""Of each training, and its patience: none may stop before its minutes are spent."""
_SETTLED = 100
"""Iterations after which spectral norms have settled."""
_FEW = 64
"""Patches of each kind in a try."""


@dataclass(frozen=True)
class Plan:
    """What is trained, and how.

    Attributes:
        opera: folder of ODIM-HDF5 composites.
        minutes: of training, all networks together.
        networks: by name, out of `SHARES`.
        batch: fields of a step.
        rate: peak learning rate.
        out: folder of what is found: a checkpoint of each network, and in `states` what a later run goes
            on from.
        from_bundled: whether to begin with the weights of the bundled networks instead.
        compiled: whether networks are compiled.
        small: whether a few patches will do.
    """

    opera: str
    minutes: float
    networks: tuple[str, ...]
    batch: int
    rate: float
    out: Path
    from_bundled: bool
    compiled: bool
    small: bool


class Data:
    """Patches of composites with exact curves, split in time as `emuloss train` splits them."""

    def __init__(self, opera: str, *, small: bool) -> None:
        self.source = open_source(f"opera:{opera}", stride=1024 if small else _STRIDE)
        self.metric = minkowski(ALL[:4])
        roles = assign_splits(self.source)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            chunks = list(pool.map(self._read, range(len(roles)), roles))
        self.labelled: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for role in ("train", "validation", "test"):
            fields = np.concatenate([chunk for chunk, own in zip(chunks, roles, strict=True) if own == role])
            fields = fields[:_FEW] if small else fields
            self.labelled[role] = fields, self.metric(fields)

    @property
    def counts(self) -> dict[str, int]:
        """Number of patches by role."""
        return {role: len(fields) for role, (fields, _) in self.labelled.items()}

    def provenance(self, facts: dict[str, Any]) -> Provenance:
        """What a checkpoint says about itself, with facts about its training."""
        return Provenance(
            unit=self.source.unit,
            field_shape=list(self.source.field_shape),
            license="apache-2.0",
            training={"source": self.source.config(), "fields": self.counts, **facts},
        )

    def _read(self, k: int, role: str) -> np.ndarray:
        if role == "unused":
            return np.empty((0, *self.source.field_shape), np.float32)
        return self.source.read(k, role)


def train(plan: Plan, notes: Notes) -> None:
    """Train the networks one after the other, each for its share of the time."""
    began = time.monotonic()
    data = Data(plan.opera, small=plan.small)
    notes.add("", f"Patches: {data.counts}, read and labelled in {time.monotonic() - began:.1f} s")
    whole = sum(SHARES[name] for name in plan.networks)
    for name in plan.networks:
        with notes.stage(f"training of {name}"):
            train_one(name, plan.minutes * SHARES[name] / whole, data, plan, notes)


def train_one(name: str, minutes: float, data: Data, plan: Plan, notes: Notes) -> None:
    """Train a network, freeze it, and measure it beside the bundled one."""
    kept, folder = plan.out / "states" / name, plan.out / "states" / f"{name}.part"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if plan.from_bundled:
        bundled = load(f"{_BUNDLED}{name}")
        emulator, (seen, seconds) = thawed(bundled), so_far(bundled)
    else:
        emulator = network(name, data.metric)
        seen, seconds = warm_start(emulator, kept / "training.pt")
    weights = copy.deepcopy(emulator.state_dict())
    settings = Training(
        minutes=minutes,
        compiled=plan.compiled,
        batch_size=plan.batch,
        learning_rate=plan.rate,
        validations=_VALIDATIONS,
        patience=_VALIDATIONS,
    )
    sets = data.labelled["train"], data.labelled["validation"]
    trainer = Trainer(emulator, *sets, settings, folder, quantum=data.source.quantum, progress=False)
    if seen:  # a trainer lets an emulator start from the median label
        emulator.load_state_dict(weights)
    trainer.run()
    facts = {
        "fields_seen": seen + trainer.seen,
        "seconds": round(seconds + trainer.seconds),
        "seed": settings.seed,
        "batch_size": plan.batch,
        "learning_rate": plan.rate,
        "precision": trainer.learner.precision,
    }
    surrogate = Surrogate(emulator, name, data.provenance(facts))
    surrogate.save_pretrained(plan.out / f"{_BUNDLED}{name}")
    shutil.rmtree(kept, ignore_errors=True)
    folder.rename(kept)
    notes.add(
        "",
        f"{name}: {trainer.seen:,} fields in {trainer.seconds:.0f} s, {trainer.seen / trainer.seconds:,.0f} "
        f"fields/s, {trainer.learner.layout}, best at step {trainer.best['step']} of {trainer.step}; all "
        f"in all {facts}",
    )
    notes.table(f"Learning of {name}", *trainer.log[0])
    for row in trainer.log:
        notes.row(*(f"{value:.5g}" for value in row.values()))
    scores(name, surrogate, data, notes)


def warm_start(emulator: Trainable, path: Path) -> tuple[int, float]:
    """Start from the best weights of an earlier run's state, where there is one.

    Returns:
        The fields that it saw, and its seconds.
    """
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, map_location="cpu", weights_only=True)
    emulator.load_state_dict(state["best"]["weights"])
    counters = state["counters"]
    return counters["step"] * state["options"]["batch_size"], counters["seconds"]


def thawed(bundled: Surrogate) -> Trainable:
    """A network of the weights of a bundled one, to be trained on.

    Spectral norms were made plain when it was frozen: the iterations that find them begin anew, and are given
    time to settle, without which layers would be far too steep.
    """
    build: Any = type(bundled.module)
    emulator: Trainable = build(bundled.metric, **bundled.module.arguments())
    plain = {
        name.replace(".parametrizations.", ".").removesuffix(".original"): name
        for name in emulator.state_dict()
    }
    weights = {plain[name]: tensor for name, tensor in bundled.module.state_dict().items()}
    emulator.load_state_dict(weights, strict=False)
    emulator.train()
    with torch.no_grad():
        for _ in range(_SETTLED):
            emulator(torch.zeros(1, bundled.module.stride, bundled.module.stride))
    return emulator


def so_far(bundled: Surrogate) -> tuple[int, float]:
    """The fields that a bundled network saw, and the seconds of its training."""
    trained = bundled.provenance.training
    return trained["fields_seen"], trained["seconds"]


def scores(name: str, surrogate: Surrogate, data: Data, notes: Notes) -> None:
    """Mean R2 by output on the composites after the training period, of the new network and the bundled."""
    fields, curves = data.labelled["test"]
    outputs = data.metric.outputs
    notes.table(f"Mean R2 on {len(fields)} fields of the last composites", "network", *outputs)
    bundled = load(f"{_BUNDLED}{name}")
    figures = {
        f"{name}, now": fidelity(data.metric, curves, emulated(surrogate, fields), fields.shape[1:]),
        f"{name}, bundled": fidelity(data.metric, curves, emulated(bundled, fields), fields.shape[1:]),
        f"{name}, bundled, as stored": bundled.evaluation["fidelity"],
    }
    for title, found in figures.items():
        notes.row(title, *(f"{found['outputs'][output]['r2_mean']:.4f}" for output in outputs))


@torch.no_grad()
def emulated(surrogate: Surrogate, fields: np.ndarray) -> np.ndarray:
    """Curves (N, C, Q) by the device, in float32 throughout, as evaluations on the CPU have it."""
    torch.backends.cudnn.allow_tf32 = False
    parts = torch.from_numpy(fields).split(64)
    try:
        return torch.cat([surrogate.to(DEVICE)(part.to(DEVICE)).cpu() for part in parts]).double().numpy()
    finally:
        torch.backends.cudnn.allow_tf32 = True
