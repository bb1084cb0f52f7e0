"""Frozen surrogates on disk: config.json (the whole contract), model.safetensors, README.md."""

from __future__ import annotations

import hashlib
import json
import math
import os
import textwrap
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from ..emulators import ARCHITECTURES
from ..errors import ArgumentError, CheckpointError
from ..metrics import metric_from_config
from .card import card
from .surrogate import Surrogate, frozen

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
FORMAT, FORMAT_VERSION = "emuloss surrogate", 1
_LARGEST_CONFIG = 4 * 2**20
_LARGEST_WEIGHTS = 4 * 2**30
_DEEPEST = 12
_LONGEST = 4096
"""Entries of a list from which something is built, such as thresholds."""
_LEAST_BUDGET = 2**20
"""Bytes that a network may always take, however small the file of its weights."""
_MISSING = object()

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
    "config_sha256": str,
}
"""Keys of config.json, all required, and their types."""


def save(surrogate: Surrogate, directory: Path) -> None:
    """Write a surrogate's checkpoint; see `Surrogate.save_pretrained`."""
    weights = save_tensors({name: t.contiguous() for name, t in surrogate.module.state_dict().items()})
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
        "training": surrogate.trained_on,
        "evaluation": surrogate.evaluation,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    try:
        config = json.loads(json.dumps(contract, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"the surrogate's provenance is not plain, finite JSON ({error})") from error
    config["config_sha256"] = _digest(config)
    problem = _problem(config)
    if problem:
        raise CheckpointError(f"the surrogate's provenance does not fit a checkpoint: {problem}")
    try:
        text = card(config)
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            "the surrogate's provenance['evaluation'] must be empty or hold what emuloss.evaluation measures"
        ) from error
    # The configuration last: it vouches for the weights by their hash.
    _write(directory, {CARD: text.encode(), WEIGHTS: weights, CONFIG: json.dumps(config, indent=2).encode()})


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
    if not os.path.isdir(folder):
        raise CheckpointError(f"{folder} is no directory; give the one that save_pretrained wrote")
    config = _read_config(folder / CONFIG)
    weights = _read(folder / WEIGHTS, _LARGEST_WEIGHTS)
    if hashlib.sha256(weights).hexdigest() != config["weights_sha256"]:
        raise CheckpointError(
            f"{folder / WEIGHTS} is not the file that {CONFIG} describes; fetch the checkpoint again"
        )
    try:
        module = _build(config, len(weights))
        module.load_state_dict(load_tensors(weights), strict=True)
    except Exception as error:  # whatever a constructor stumbles over in a foreign configuration
        raise CheckpointError(
            f"{folder} does not fit this version of emuloss: {_line(error) or type(error).__name__}"
        ) from error
    provenance = {name: config[name] for name in ("unit", "field_shape", "training", "evaluation")}
    return Surrogate(module, config["architecture"]["name"], provenance).to(device or "cpu")


def _build(config: dict[str, Any], weights_size: int) -> torch.nn.Module:
    """The frozen module that a configuration describes, with weights yet to be loaded."""
    architecture = config["architecture"]
    if set(architecture) != {"name", "arguments"} or not isinstance(architecture["arguments"], dict):
        raise ArgumentError("architecture must have a name and arguments")
    name, arguments = architecture["name"], architecture["arguments"]
    if name not in ARCHITECTURES:
        raise ArgumentError(f"unknown architecture {name!r}; known: {', '.join(ARCHITECTURES)}")
    _refuse_excess(config, weights_size)
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
    module = ARCHITECTURES[name](metric, **arguments)
    _refuse_change("metric", config["metric"]["arguments"], metric.arguments())
    _refuse_change("architecture", arguments, module.arguments())  # type: ignore[operator]
    return frozen(module)


def _refuse_excess(config: dict[str, Any], weights_size: int) -> None:
    """Refuse to build what takes far more memory than the weights that are there to fill it."""
    built_from = [config["metric"], config["architecture"]]
    if any(len(value) > _LONGEST for value in _values(built_from) if isinstance(value, list)):
        raise ArgumentError(f"it holds a list of more than {_LONGEST} entries")
    # A layer of a certain width holds a square matrix of it, or more, in four bytes a number.
    arguments = config["architecture"]["arguments"]
    widths = [value for value in _values(arguments) if isinstance(value, int)]
    depth = arguments.get("depth", 1)
    layers = depth if isinstance(depth, int) else 1
    if 4 * layers * sum(width**2 for width in widths) > max(weights_size, _LEAST_BUDGET):
        raise ArgumentError(f"its architecture is too large for weights of {weights_size} bytes")


def _refuse_change(name: str, given: dict[str, Any], built: dict[str, Any]) -> None:
    """Refuse arguments that were not taken as they stand in the configuration."""
    for key, value in given.items():
        if built.get(key, _MISSING) != value:
            raise ArgumentError(f"argument {key!r} of its {name} is not one that emuloss writes")


def _values(value: Any) -> Iterator[Any]:
    """A JSON value and all that it holds."""
    yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _values(inner)


def _digest(config: dict[str, Any]) -> str:
    """Hash of a configuration, itself left out, whatever the order of its keys and its layout."""
    rest = {key: value for key, value in config.items() if key != "config_sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _line(text: object) -> str:
    """One line of bounded length."""
    return textwrap.shorten(str(text), 300, placeholder=" ...")


def _read(path: Path, largest: int) -> bytes:
    try:
        size = path.stat().st_size
        if size > largest:
            raise CheckpointError(f"{path} has {size} bytes, more than any that emuloss writes")
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}; is the checkpoint complete?") from error


def _read_config(path: Path) -> dict[str, Any]:
    text = _read(path, _LARGEST_CONFIG)
    try:
        config = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON ({_line(error)})") from error
    problem = _problem(config)
    if problem:
        raise CheckpointError(f"{path} is not a configuration that this version of emuloss reads: {problem}")
    return config


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a finite number")


def _problem(config: Any) -> str:
    """What is wrong with a configuration, in one line; empty if nothing is."""
    if not isinstance(config, dict):
        return "it is not an object"
    unsound = _unsound(config)
    if unsound:
        return unsound
    if config.get("format") != FORMAT:
        return _line(f"its format is {config.get('format')!r}, not {FORMAT!r}")
    if config.get("format_version") != FORMAT_VERSION:
        return _line(
            f"its format_version is {config.get('format_version')!r}; this one reads {FORMAT_VERSION}"
        )
    unknown, missing = sorted(config.keys() - _SCHEMA), sorted(_SCHEMA.keys() - config)
    if unknown or missing:
        return _line(f"unknown keys: {', '.join(unknown) or 'none'}; missing: {', '.join(missing) or 'none'}")
    for key, kind in _SCHEMA.items():
        if not isinstance(config[key], kind) or isinstance(config[key], bool):
            return f"{key} has the wrong type"
    if config["config_sha256"] != _digest(config):
        return "it was changed after it was written; fetch the checkpoint again"
    return ""


def _unsound(value: Any, depth: int = 0) -> str:
    """What makes a value unsafe to work with: depth or numbers beyond reason; empty if nothing does."""
    if depth > _DEEPEST:
        return "it is nested too deeply"
    if isinstance(value, float) and not math.isfinite(value):
        return "it holds a number that is not finite"
    if isinstance(value, int) and abs(value) > 2**53:
        return "it holds a whole number beyond 2^53"
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        problem = _unsound(inner, depth + 1)
        if problem:
            return problem
    return ""
