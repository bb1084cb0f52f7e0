"""The same results on the device as on the CPU, by the tests and by comparing every kind of surrogate."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import emuloss
import torch
from clock import DEVICE
from emuloss.losses import SurrogateLoss
from emuloss.zoo import Surrogate, list_models, load
from fields import ALL, Sample, minkowski
from notes import Notes
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent.parent
_CPU = torch.device("cpu")
_LONGEST = 300
"""Seconds that the tests may take."""
_APART = 1e-3
"""Relative change that keeps pixels from being equal."""


def tests(out: Path, notes: Notes) -> None:
    """Run the tests that need a GPU; all that they say is in pytest.txt of a folder."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    marked = [str(path) for path in files if "mark.gpu" in path.read_text()]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu"]
    command += ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), *marked]
    path = out.resolve() / "pytest.txt"
    # Started in the folder of results: from the root, folders of the package would hide other packages.
    with path.open("w") as file:
        subprocess.run(command, cwd=path.parent, stdout=file, stderr=file, timeout=_LONGEST, check=False)
    notes.add("", "The tests that need a GPU:", "", "```", *path.read_text().splitlines()[-30:], "```")


class Found(NamedTuple):
    """What a surrogate and its loss give, on the CPU, in double precision.

    Attributes:
        curves: (N, C, Q).
        slopes: (N, H, W), the gradient of the sum of signed-log curves in the predictions.
        loss: scalar.
        gradient: (N, H, W), that of the loss.
    """

    curves: Tensor
    slopes: Tensor
    loss: Tensor
    gradient: Tensor


def results(surrogate: Surrogate, observed: Tensor, predicted: Tensor, device: torch.device) -> Found:
    """What a surrogate gives on a device, in single precision unless it is told otherwise."""
    surrogate = surrogate.to(device)
    loss = SurrogateLoss(surrogate)
    if any(buffer.device.type != device.type for buffer in loss.buffers()):
        raise RuntimeError(f"a loss of a surrogate on {device} has buffers elsewhere")
    x, y = predicted.to(device).requires_grad_(), observed.to(device)
    curves = surrogate(x) if surrogate.metric.arity == 1 else surrogate(x, y)
    (slopes,) = torch.autograd.grad((curves.sign() * curves.abs().log1p()).sum(), x)
    value = loss(x, y)
    (gradient,) = torch.autograd.grad(value, x)
    return Found(*(each.detach().cpu().double() for each in (curves, slopes, value, gradient)))


def without_ties(fields: Tensor) -> Tensor:
    """Fields whose wet pixels differ, if by little: of equal ones, backends pass the gradient to either."""
    generator = torch.Generator().manual_seed(0)
    return fields * (1 + _APART * torch.rand(fields.shape, generator=generator))


def farthest(one: Tensor, other: Tensor) -> str:
    """Largest difference, relative to the largest value."""
    return f"{float((one - other).abs().max() / other.abs().max()):.1e}"


def apart(one: Tensor, other: Tensor) -> str:
    """Norm of the difference, relative to the norm."""
    return f"{float((one - other).norm() / other.norm()):.1e}"


def compared(surrogate: Surrogate, observed: Tensor, predicted: Tensor) -> list[str]:
    """Cells of a row: differences between the device and the CPU, and of autocast on the device."""
    here = results(surrogate, observed, predicted, _CPU)
    there = results(surrogate, observed, predicted, DEVICE)
    with torch.autocast(DEVICE.type, torch.bfloat16):
        coarse = results(surrogate, observed, predicted, DEVICE)
    by_output = zip(there.curves.unbind(1), here.curves.unbind(1), strict=True)  # of several sizes
    return [
        max((farthest(one, other) for one, other in by_output), key=float),
        apart(there.slopes, here.slopes),
        farthest(there.loss, here.loss),
        apart(there.gradient, here.gradient),
        farthest(there.gradient, here.gradient),
        farthest(coarse.loss, there.loss),
        apart(coarse.gradient, there.gradient),
    ]


def relaxations() -> dict[str, Callable[[], Surrogate]]:
    """Every kind of relaxation, at the thresholds of the bundled surrogates."""
    thresholds = load("minkowski-opera").thresholds
    few = thresholds[4::8]
    metrics = {
        "minkowski, 5 outputs": minkowski(ALL),
        "minkowski, 8 neighbours, open": emuloss.metric(
            "minkowski", thresholds=thresholds, outputs=ALL, connectivity=2, boundary="open"
        ),
        "fss": emuloss.metric("fss", thresholds=few),
        "csi": emuloss.metric("csi", thresholds=few, outputs=["csi", "pod", "far"]),
        "boxcount": emuloss.metric("boxcount", thresholds=few),
        "sal, amplitude": emuloss.metric("sal", wet=0.1, outputs=["amplitude"]),
        "spectrum": emuloss.metric("spectrum", outputs=["power", "anisotropy"]),
    }
    return {f"relaxed {name}": partial(emuloss.relax, metric) for name, metric in metrics.items()}


def equality(sample: Sample, notes: Notes, *, small: bool) -> None:
    """Every bundled surrogate and every relaxation, on the device against the CPU."""
    observed, predicted = sample.pairs(4 if small else 16)
    predicted = without_ties(predicted)
    builders = {name: partial(load, name) for name in list_models()} | relaxations()
    try:
        for tf32 in (False, True):
            torch.backends.cudnn.allow_tf32 = tf32
            notes.table(
                f"Device against CPU, {len(observed)} fields; convolutions in TF32: {tf32}",
                "surrogate", "curves, largest", "slopes, norm", "loss", "gradient, norm", "gradient, largest",
                "loss, autocast", "gradient, autocast",
            )  # fmt: skip
            for name, build in builders.items():
                surrogate = build()
                if tf32 and not any(True for _ in surrogate.parameters()):
                    continue  # without convolutions nothing changes
                with notes.stage(f"equality of {name}"):
                    notes.row(name, *compared(surrogate, observed, predicted))
    finally:
        torch.backends.cudnn.allow_tf32 = True
    variants(observed, predicted, notes)


def variants(observed: Tensor, predicted: Tensor, notes: Notes) -> None:
    """Other forms of the loss than the default one."""
    notes.table("Other losses of minkowski-opera, device against CPU", "argument", "loss", "gradient, norm")
    arguments: tuple[dict[str, Any], ...] = ({"forward": "exact"}, {"trust": 1.0}, {"reduction": "none"})
    for given in arguments:
        name, value = next(iter(given.items()))
        with notes.stage(f"loss with {name} {value}"):
            found = []
            for device in (_CPU, DEVICE):
                loss = load("minkowski-opera").to(device).as_loss(**given)
                x = predicted.to(device).requires_grad_()
                values = loss(x, observed.to(device))
                (gradient,) = torch.autograd.grad(values.sum(), x)
                found.append((values.detach().cpu().double(), gradient.cpu().double()))
            (here, gradient), (there, other) = found
            notes.row(f"{name} = {value}", farthest(there, here), apart(other, gradient))
