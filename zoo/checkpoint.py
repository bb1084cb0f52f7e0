"""Frozen stand-ins on disk: written and read, as the contract has it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch.utils._python_dispatch import TorchDispatchMode

from ..emulators import ARCHITECTURES
from ..emulators.differentiable import Differentiable
from ..emulators.drawing import neutral
from ..errors import ArgumentError, CheckpointError, IncompatibleError, plain, printable
from ..foundation.files import write_together
from ..losses.surrogate import Provenance, frozen
from ..metrics import metric_from_config
from .card import card
from .contract import (
    CARD,
    CONFIG,
    GOLDEN,
    PICTURES,
    WEIGHTS,
    digest,
    problem_of,
    read_config,
    read_sealed,
    sha256,
)
from .golden import record
from .manifest import READERS, Manifest

_MISSING = object()
_TABLES = 2**26
"""Bytes that a stand-in may have beside its weights: tables, and what it takes to build it."""


class Loaded(NamedTuple):
    """What a checkpoint holds: the frozen module, and what it says about itself."""

    module: Differentiable
    manifest: Manifest


def save(module: Differentiable, architecture: str, provenance: Provenance, directory: Path) -> None:
    """Write a checkpoint, its weights in single precision; see `Surrogate.save_pretrained`.

    Args:
        module: the frozen stand-in.
        architecture: name of its architecture.
        provenance: what else it says about itself.
        directory: made if missing; files of the same names are replaced.

    Raises:
        CheckpointError: the directory cannot be written, or what would be written could not be read.
    """
    pictures = [name for name in PICTURES if os.path.isfile(directory / name)]
    try:
        write_together(directory, contents(module, architecture, provenance, pictures))
    except OSError as error:
        raise CheckpointError(
            f"cannot write the checkpoint {printable(str(directory))}: {error.strerror or error}; "
            "choose another folder"
        ) from error


def contents(
    module: Differentiable, architecture: str, provenance: Provenance, pictures: Sequence[str] = ()
) -> dict[str, bytes]:
    """The files of a checkpoint by name, the last of which vouches for the others.

    Args:
        module: see `save` for this and the two that follow.
        architecture: likewise.
        provenance: likewise.
        pictures: names of those that its card shows.

    Raises:
        CheckpointError: what would be written could not be read.
    """
    weights = save_tensors({name: _single(tensor) for name, tensor in module.state_dict().items()})
    manifest = replace(
        _as_read(Manifest.of(module, architecture, provenance)), weights_sha256=sha256(weights)
    )
    text = _card(manifest, module, list(pictures))
    # Of what will be loaded, rather than of what is saved, which may have another precision or device.
    golden = record(_assembled(manifest, weights, "the surrogate"), manifest.field_shape)
    manifest = replace(manifest, golden_sha256=sha256(golden))
    manifest = replace(manifest, config_sha256=digest(manifest.as_dict()))
    return {
        CARD: text.encode(),
        WEIGHTS: weights,
        GOLDEN: golden,
        CONFIG: json.dumps(manifest.as_dict(), indent=2).encode(),
    }


def _as_read(manifest: Manifest) -> Manifest:
    """A manifest as it is after it was written and read."""
    try:
        config = json.loads(json.dumps(manifest.as_dict(), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"the surrogate's provenance is not plain, finite JSON ({error})") from error
    problem = problem_of(config)
    if problem:
        raise CheckpointError(f"the surrogate's provenance does not fit a checkpoint: {problem}")
    return READERS[manifest.format_version](config)


def _card(manifest: Manifest, module: Differentiable, pictures: list[str]) -> str:
    """The README.md beside a checkpoint."""
    try:
        return card(manifest, module.metric, trained=module.has_weights, pictures=pictures)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(
            "the surrogate's provenance.evaluation must be empty or hold what emuloss.evaluation "
            f"measures, and its training hold facts by name ({plain(error)})"
        ) from error


def _single(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor as it is written: in single precision, if it holds fractions."""
    return tensor.to(_written_as(tensor)).contiguous()


def _written_as(tensor: torch.Tensor) -> torch.dtype:
    """The dtype in which a tensor is written, whatever torch's default is here and now."""
    return torch.float32 if tensor.is_floating_point() else tensor.dtype


def load(directory: str | Path, *, device: str | torch.device | None = None) -> Loaded:
    """Load a checkpoint from a directory; see `emuloss.load`.

    Args:
        directory: where `save_pretrained` or train_surrogate.py wrote it.
        device: where to put the module; default: the CPU.

    Raises:
        ArgumentError: a device that is none, or not here.
        CorruptedError: a file is damaged, or not the one that belongs to the others.
        IncompatibleError: a format, a metric, an architecture or an argument of another version.
        CheckpointError: a file is missing or cannot be read. The two above are special cases.
    """
    folder = Path(directory)
    if not os.path.isdir(folder):
        raise CheckpointError(f"{str(folder)!r} is no directory; give the one that save_pretrained wrote")
    try:
        place = torch.device("cpu" if device is None else device)
    except (RuntimeError, TypeError) as error:
        raise ArgumentError(f"device must be one that torch knows, got {device!r}") from error
    manifest = read_config(folder / CONFIG)
    read_sealed(folder, GOLDEN, manifest)
    module = _assembled(manifest, read_sealed(folder, WEIGHTS, manifest), printable(str(folder)))
    try:
        return Loaded(module.to(place), manifest)
    except (RuntimeError, AssertionError) as error:  # torch knows it, and this machine has it not
        raise ArgumentError(f"device {str(place)!r} cannot be used here ({plain(error)})") from error


def _assembled(manifest: Manifest, weights: bytes, subject: str) -> Differentiable:
    """The frozen module of a manifest and its weights; subject: what they are, for messages."""
    try:
        with neutral():
            module = _build(manifest, len(weights))
            _fill(module, load_tensors(weights))
    except Exception as error:  # whatever a constructor stumbles over in a foreign configuration
        raise IncompatibleError(
            f"{subject} does not fit this version of emuloss: {plain(error) or type(error).__name__}; "
            "install the version that wrote it, or take another checkpoint"
        ) from error
    return module


def _fill(module: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Load weights; unlike torch, refuse numbers of another type, which it would convert, and NaN."""
    expected = module.state_dict()
    for name, tensor in tensors.items():
        dtype = _written_as(expected[name]) if name in expected else tensor.dtype
        if tensor.dtype != dtype:
            raise ArgumentError(f"weight {name!r} holds {tensor.dtype}, not {dtype}")
        if not tensor.isfinite().all():
            raise ArgumentError(f"weight {name!r} holds numbers that are not finite")
    module.load_state_dict({name: tensor.clone() for name, tensor in tensors.items()}, assign=True)


def _build(manifest: Manifest, weights_size: int) -> Differentiable:
    """The frozen module that a manifest describes, with weights yet to be loaded."""
    build = ARCHITECTURES[manifest.architecture.name]
    metric = metric_from_config(manifest.metric.as_dict())
    for key, given, declared in (
        ("outputs", manifest.outputs, metric.outputs),
        ("units", manifest.units, metric.units),
        ("constraints", manifest.constraints, [c.label for c in metric.constraints]),
    ):
        if list(given) != list(declared):
            raise ArgumentError(
                f"its {key} differ from those that metric {metric.name!r} declares here; "
                f"load it with emuloss {manifest.package_version}, or train it again"
            )
    with _TensorsWithin(2 * weights_size + _TABLES):
        module = build(metric, **manifest.architecture.arguments)
    _refuse_change("metric", manifest.metric.arguments, metric.arguments())
    _refuse_change("architecture", manifest.architecture.arguments, module.arguments())
    return frozen(module)


class _TensorsWithin(TorchDispatchMode):
    """Within it, this thread makes tensors of so many bytes at most, before any is filled.

    A hook of torch's on parameters would be called, and changed, by all threads at once.

    Args:
        budget: in bytes.
    """

    def __init__(self, budget: int) -> None:
        super().__init__()
        self.left = budget

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: to keep the compiler away torch would import it, which takes a second."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operator of torch, and count what it makes out of nothing."""
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and _takes_no_tensor(func):
            self.left -= made.numel() * _written_as(made).itemsize
            if self.left < 0:
                raise ArgumentError("its architecture is too large for its weights")
        return made


@cache
def _takes_no_tensor(func: Any) -> bool:
    """Whether an operator makes tensors of numbers and shapes alone."""
    return not any("Tensor" in str(argument.type) for argument in func._schema.arguments)


def _refuse_change(name: str, given: dict[str, Any], built: dict[str, Any]) -> None:
    """Refuse arguments that were not taken as they stand in the configuration."""
    for key, value in given.items():
        if built.get(key, _MISSING) != value:
            raise ArgumentError(f"argument {key!r} of its {name} is not one that emuloss writes")
