"""Frozen surrogates on disk: written and read, as the contract has it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch.nn.modules.module import register_module_parameter_registration_hook

from ..emulators import ARCHITECTURES
from ..errors import ArgumentError, CheckpointError, IncompatibleError
from ..metrics import metric_from_config
from .card import card
from .contract import (
    CARD,
    CONFIG,
    FORMAT,
    FORMAT_VERSION,
    GOLDEN,
    PICTURES,
    UNSEALED,
    WEIGHTS,
    digest,
    one_line,
    problem_of,
    read_config,
    read_sealed,
    sha256,
)
from .golden import record
from .surrogate import Surrogate, frozen

_MISSING = object()


def save(surrogate: Surrogate, directory: Path) -> None:
    """Write a surrogate's checkpoint, its weights in single precision; see `Surrogate.save_pretrained`."""
    weights = save_tensors({name: _single(t) for name, t in surrogate.module.state_dict().items()})
    metric = surrogate.metric
    contract = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "package_version": version("emuloss"),
        "architecture": {"name": surrogate.architecture, "arguments": surrogate.module.arguments()},  # type: ignore[operator]
        "metric": metric.config(),
        "outputs": list(metric.outputs),
        "units": list(metric.units),
        "constraints": [c.label for c in metric.constraints],
        "unit": surrogate.provenance.get("unit", ""),
        "field_shape": surrogate.provenance.get("field_shape"),
        "license": surrogate.license,
        "training": surrogate.trained_on,
        "evaluation": surrogate.evaluation,
        "weights_sha256": sha256(weights),
        "golden_sha256": UNSEALED,
        "config_sha256": UNSEALED,
    }
    try:
        config = json.loads(json.dumps(contract, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"the surrogate's provenance is not plain, finite JSON ({error})") from error
    problem = problem_of(config)
    if problem:
        raise CheckpointError(f"the surrogate's provenance does not fit a checkpoint: {problem}")
    try:
        text = card(config, surrogate, [name for name in PICTURES if (directory / name).is_file()])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(
            "the surrogate's provenance['evaluation'] must be empty or hold what emuloss.evaluation "
            f"measures, and its 'training' hold facts by name ({one_line(error)})"
        ) from error
    # Of what will be loaded, rather than of what is saved, which may have another precision or device.
    golden = record(_assembled(config, weights, "the surrogate"))
    config["golden_sha256"] = sha256(golden)
    config["config_sha256"] = digest(config)
    # The configuration last: it vouches for the others by their hashes.
    contents = {CARD: text.encode(), WEIGHTS: weights, GOLDEN: golden}
    _write(directory, {**contents, CONFIG: json.dumps(config, indent=2).encode()})


def _single(tensor: torch.Tensor) -> torch.Tensor:
    return (tensor.float() if tensor.is_floating_point() else tensor).contiguous()


def _write(directory: Path, contents: dict[str, bytes]) -> None:
    """Write files aside and rename them once all are there: a full disk leaves the old ones."""
    temporary = {name: directory / f"{name}.tmp" for name in contents}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        try:
            for name, content in contents.items():
                temporary[name].write_bytes(content)
            for name, path in temporary.items():
                os.replace(path, directory / name)
        finally:
            for path in temporary.values():
                path.unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"cannot write the checkpoint {directory}: {error.strerror or error}; choose another folder"
        ) from error


def load(directory: str | Path, *, device: str | torch.device | None = None) -> Surrogate:
    """Load a frozen surrogate from a directory; see `emuloss.load`.

    Args:
        directory: where `save_pretrained` or train_surrogate.py wrote it.
        device: where to put it; default: the CPU.

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
    config = read_config(folder / CONFIG)
    read_sealed(folder, GOLDEN, config)
    surrogate = _assembled(config, read_sealed(folder, WEIGHTS, config), str(folder))
    try:
        return surrogate.to(place)
    except (RuntimeError, AssertionError) as error:  # torch knows it, and this machine has it not
        raise ArgumentError(f"device {str(place)!r} cannot be used here ({one_line(error)})") from error


def _assembled(config: dict[str, Any], weights: bytes, subject: str) -> Surrogate:
    """The surrogate of a sound configuration and its weights; subject: what they are, for messages."""
    try:
        # Building draws random weights, of which the caller's generator should know nothing.
        with torch.random.fork_rng(devices=[]):
            module = _build(config, len(weights))
        _fill(module, load_tensors(weights))
    except Exception as error:  # whatever a constructor stumbles over in a foreign configuration
        raise IncompatibleError(
            f"{subject} does not fit this version of emuloss: {one_line(error) or type(error).__name__}; "
            "install the version that wrote it, or take another checkpoint"
        ) from error
    provenance = {name: config[name] for name in ("unit", "field_shape", "license", "training", "evaluation")}
    return Surrogate(module, config["architecture"]["name"], provenance)


def _fill(module: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Load weights; unlike torch, refuse numbers of another type, which it would convert, and NaN."""
    expected = module.state_dict()
    for name, tensor in tensors.items():
        if name in expected and tensor.dtype != expected[name].dtype:
            raise ArgumentError(f"weight {name!r} holds {tensor.dtype}, not {expected[name].dtype}")
        if not tensor.isfinite().all():
            raise ArgumentError(f"weight {name!r} holds numbers that are not finite")
    module.load_state_dict(tensors, strict=True)


def _build(config: dict[str, Any], weights_size: int) -> torch.nn.Module:
    """The frozen module that a configuration describes, with weights yet to be loaded."""
    name, arguments = config["architecture"]["name"], config["architecture"]["arguments"]
    if name not in ARCHITECTURES:
        raise ArgumentError(f"unknown architecture {name!r}; known: {', '.join(ARCHITECTURES)}")
    metric = metric_from_config(config["metric"])
    for key, value in (
        ("outputs", list(metric.outputs)),
        ("units", list(metric.units)),
        ("constraints", [c.label for c in metric.constraints]),
    ):
        if config[key] != value:
            raise ArgumentError(
                f"its {key} differ from those that metric {metric.name!r} declares here; "
                f"load it with emuloss {config['package_version']}, or train it again"
            )
    # A parameter is registered anew where a spectral norm takes it over: twice the weights at most.
    with _parameters_within(2 * weights_size):
        module = ARCHITECTURES[name](metric, **arguments)
    _refuse_change("metric", config["metric"]["arguments"], metric.arguments())
    _refuse_change("architecture", arguments, module.arguments())  # type: ignore[operator]
    return frozen(module)


@contextmanager
def _parameters_within(budget: int) -> Iterator[None]:
    """Refuse to build parameters of more than budget bytes in this thread, before any is filled."""
    thread, left = threading.get_ident(), budget

    def count(module: torch.nn.Module, name: str, parameter: torch.Tensor | None) -> None:
        nonlocal left
        if parameter is not None and threading.get_ident() == thread:
            left -= parameter.nbytes
            if left < 0:
                raise ArgumentError("its architecture is too large for its weights")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def _refuse_change(name: str, given: dict[str, Any], built: dict[str, Any]) -> None:
    """Refuse arguments that were not taken as they stand in the configuration."""
    for key, value in given.items():
        if built.get(key, _MISSING) != value:
            raise ArgumentError(f"argument {key!r} of its {name} is not one that emuloss writes")
