"""Frozen surrogates on disk: config.json (the whole contract), model.safetensors, README.md."""

from __future__ import annotations

import hashlib
import json
import math
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from ..emulators import ARCHITECTURES, relaxation
from ..errors import ArgumentError, CheckpointError
from ..metrics import metric_from_config
from .card import card
from .surrogate import Surrogate, frozen

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
FORMAT, FORMAT_VERSION = "emuloss surrogate", 1
_LARGEST_CONFIG = 4 * 2**20
_DEEPEST = 12

_SCHEMA: dict[str, type | tuple[type, ...]] = {
    "format": str,
    "format_version": int,
    "package_version": str,
    "architecture": dict,
    "metric": dict,
    "outputs": list,
    "units": list,
    "constraints": list,
    "unit": str,
    "field_shape": (list, type(None)),
    "training": dict,
    "evaluation": dict,
    "weights_sha256": str,
}
"""Keys of config.json, all required, and their types."""


def save(surrogate: Surrogate, directory: Path) -> None:
    """Write a surrogate's checkpoint; see `Surrogate.save_pretrained`."""
    weights = save_tensors({name: t.contiguous() for name, t in surrogate.module.state_dict().items()})
    metric = surrogate.metric
    config = {
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
        "training": surrogate.trained_on,
        "evaluation": surrogate.evaluation,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    try:
        text = json.dumps(config, indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the surrogate's provenance is not plain, finite JSON ({error})") from error
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # The configuration last: it vouches for the weights by their hash.
        for name, content in ((CARD, card(config).encode()), (WEIGHTS, weights), (CONFIG, text.encode())):
            temporary = directory / f"{name}.tmp"
            temporary.write_bytes(content)
            os.replace(temporary, directory / name)
    except OSError as error:
        raise CheckpointError(f"cannot write the checkpoint {directory}: {error.strerror}") from error


def load(directory: str | Path, *, device: str | torch.device | None = None) -> Surrogate:
    """Load a frozen surrogate.

    Args:
        directory: where `save_pretrained` or train_surrogate.py wrote it.
        device: where to put it; default: the CPU.

    Returns:
        The surrogate: in evaluation mode, no weight takes a gradient, gradients flow to its input.

    Raises:
        CheckpointError: a file is missing, damaged, or of an unknown format, metric or architecture.
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no directory; give the one that save_pretrained wrote")
    config = _read_config(folder / CONFIG)
    weights = _read(folder / WEIGHTS)
    if hashlib.sha256(weights).hexdigest() != config["weights_sha256"]:
        raise CheckpointError(
            f"{folder / WEIGHTS} is not the file that {CONFIG} describes; fetch the checkpoint again"
        )
    try:
        module = _build(config)
        tensors = load_tensors(weights)
        module.load_state_dict(tensors, strict=True)
    except (ArgumentError, SafetensorError, RuntimeError, TypeError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{folder} does not fit this version of emuloss: {reason}") from error
    provenance = {name: config[name] for name in ("unit", "field_shape", "training", "evaluation")}
    return Surrogate(module, config["architecture"]["name"], provenance).to(device or "cpu")


def _build(config: dict[str, Any]) -> torch.nn.Module:
    """The frozen module that a configuration describes, with weights yet to be loaded."""
    metric = metric_from_config(config["metric"])
    if list(metric.outputs) != config["outputs"] or list(metric.units) != config["units"]:
        raise ArgumentError("outputs and units differ from those of the metric it names")
    architecture = config["architecture"]
    if set(architecture) != {"name", "arguments"} or not isinstance(architecture["arguments"], dict):
        raise ArgumentError("architecture must have a name and arguments")
    name, arguments = architecture["name"], architecture["arguments"]
    if name == "relaxed":
        return frozen(relaxation(metric, **arguments))
    if name not in ARCHITECTURES:
        raise ArgumentError(f"unknown architecture {name!r}; known: relaxed, {', '.join(ARCHITECTURES)}")
    return frozen(ARCHITECTURES[name](metric, **arguments))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}; is the checkpoint complete?") from error


def _read_config(path: Path) -> dict[str, Any]:
    text = _read(path)
    if len(text) > _LARGEST_CONFIG:
        raise CheckpointError(f"{path} has {len(text)} bytes, more than any configuration of emuloss")
    try:
        config = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON ({error})") from error
    problem = _problem(config)
    if problem:
        raise CheckpointError(f"{path} is not a configuration that this version of emuloss reads: {problem}")
    return config


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a finite number")


def _problem(config: Any) -> str:
    """What is wrong with a configuration; empty if nothing is."""
    if not isinstance(config, dict):
        return "it is not an object"
    if config.get("format") != FORMAT:
        return f"its format is {config.get('format')!r}, not {FORMAT!r}"
    if config.get("format_version") != FORMAT_VERSION:
        return f"its format_version is {config.get('format_version')!r}; this one reads {FORMAT_VERSION}"
    unknown, missing = sorted(config.keys() - _SCHEMA), sorted(_SCHEMA.keys() - config)
    if unknown or missing:
        return f"unknown keys: {', '.join(unknown) or 'none'}; missing keys: {', '.join(missing) or 'none'}"
    for key, kind in _SCHEMA.items():
        if not isinstance(config[key], kind) or isinstance(config[key], bool):
            return f"{key} has the wrong type"
    return _unsound(config)


def _unsound(value: Any, depth: int = 0) -> str:
    """What makes a value unsafe to build from: depth or numbers beyond reason; empty if nothing does."""
    if depth > _DEEPEST:
        return "it is nested too deeply"
    if isinstance(value, float) and not math.isfinite(value):
        return "it holds a number that is not finite"
    if isinstance(value, int) and abs(value) > 2**53:
        return f"it holds a number beyond reason ({value:.3g})"
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        problem = _unsound(inner, depth + 1)
        if problem:
            return problem
    return ""
