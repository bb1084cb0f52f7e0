"""Frozen surrogates on disk: config.json (the whole contract), weights, golden outputs, README.md."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
import textwrap
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch.nn.modules.module import register_module_parameter_registration_hook

from ..emulators import ARCHITECTURES
from ..errors import ArgumentError, CheckpointError, CorruptedError, IncompatibleError
from ..metrics import metric_from_config
from .card import card
from .golden import GOLDEN, LARGEST_GOLDEN, record
from .surrogate import Surrogate, frozen

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
FORMAT, FORMAT_VERSION = "emuloss surrogate", 1
_LARGEST_CONFIG = 4 * 2**20
_SEALED = {WEIGHTS: ("weights_sha256", 256 * 2**20), GOLDEN: ("golden_sha256", LARGEST_GOLDEN)}
"""Files that the configuration vouches for: the key that holds their hash, and their largest size."""
_UNSEALED = "0" * 64
"""Stands for a hash until what it is the hash of is there."""
_DEEPEST = 12
_MISSING = object()

_Rule = Callable[[Any, str], str]
"""(value, its place in the configuration) -> what is wrong with it, in one line; empty if nothing is."""


def _of(kind: type | tuple[type, ...], what: str, fits: Callable[[Any], Any] = lambda value: True) -> _Rule:
    """Values of a type that fit; true and false are no numbers."""

    def rule(value: Any, place: str) -> str:
        if isinstance(value, kind) and not isinstance(value, bool) and fits(value):
            return ""
        return f"{place} must be {what}, got {textwrap.shorten(repr(value), 80, placeholder=' ...')}"

    return rule


def _text(longest: int) -> _Rule:
    return _of(str, f"text of at most {longest} characters", lambda value: len(value) <= longest)


def _whole(low: int, high: int) -> _Rule:
    return _of(int, f"a whole number from {low} to {high}", lambda value: low <= value <= high)


def _number_from(low: float, high: float) -> _Rule:
    return _of((int, float), f"a number from {low:g} to {high:g}", lambda value: low <= value <= high)


def _list_of(rule: _Rule, fewest: int, most: int) -> _Rule:
    is_list = _of(list, f"a list of {fewest} to {most} entries", lambda value: fewest <= len(value) <= most)
    return lambda value, place: (
        is_list(value, place) or _first(rule(v, f"{place}[{k}]") for k, v in enumerate(value))
    )


def _optional(rule: _Rule) -> _Rule:
    return lambda value, place: "" if value is None else rule(value, place)


def _one_or_more(rule: _Rule) -> _Rule:
    several = _list_of(rule, 1, 1024)
    return lambda value, place: (several if isinstance(value, list) else rule)(value, place)


def _record(rules: Mapping[str, _Rule]) -> _Rule:
    """Objects of exactly these keys."""

    def rule(value: Any, place: str) -> str:
        if not isinstance(value, dict):
            return _object(value, place)
        unknown, missing = sorted(value.keys() - rules), sorted(rules.keys() - value)
        if unknown or missing:
            names = f"unknown keys: {', '.join(unknown) or 'none'}; missing: {', '.join(missing) or 'none'}"
            return f"{place} has {names}"
        return _first(rules[key](value[key], f"{place}.{key}") for key in rules)

    return rule


def _argument(value: Any, place: str) -> str:
    """What is wrong with an argument that no bound is known of: text, number, or a list of these."""
    if value is None or isinstance(value, bool):
        return ""
    if isinstance(value, list):
        return _list_of(_argument, 0, 4096)(value, place)
    return (_text(1000) if isinstance(value, str) else _number)(value, place)


def _arguments(value: Any, place: str) -> str:
    """What is wrong with the keyword arguments of a metric or an architecture; which exist, they know."""
    return _object(value, place) or _first(
        _SIZES.get(name, _argument)(inner, f"{place}.{name}") for name, inner in value.items()
    )


def _first(problems: Iterator[str]) -> str:
    return next(filter(None, problems), "")


_object = _of(dict, "an object")
_number = _number_from(-1e30, 1e30)
_digest_text = _of(str, "a SHA-256 in hexadecimal", re.compile("[0-9a-f]{64}").fullmatch)
_SIZES = {
    "thresholds": _list_of(_number, 1, 1024),
    "levels": _list_of(_number, 1, 1024),
    "widths": _list_of(_whole(1, 4096), 1, 8),
    "hidden": _whole(1, 16384),
    "depth": _whole(1, 8),
    "masks": _whole(0, 1024),
    "temperature": _one_or_more(_number_from(1e-3, 1e3)),
    "tail": _optional(_list_of(_number_from(1e-3, 1e3), 2, 2)),
    "prior": _optional(_number_from(1e-3, 1e3)),
}
"""Bounds of those arguments that memory and time of building and asking a surrogate grow with."""
_BUILT = _record({"name": _text(100), "arguments": _arguments})
_SCHEMA: dict[str, _Rule] = {
    "format": _text(100),
    "format_version": _whole(FORMAT_VERSION, FORMAT_VERSION),
    "package_version": _text(100),
    "architecture": _BUILT,
    "metric": _BUILT,
    "outputs": _list_of(_text(100), 1, 100),
    "units": _list_of(_text(100), 1, 100),
    "constraints": _list_of(_text(1000), 0, 100),
    "unit": _text(100),
    "field_shape": _optional(_list_of(_whole(1, 2**16), 2, 2)),
    "training": _object,
    "evaluation": _object,
    "weights_sha256": _digest_text,
    "golden_sha256": _digest_text,
    "config_sha256": _digest_text,
}
"""Keys of config.json, all required, and what they may hold."""


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
        "training": surrogate.trained_on,
        "evaluation": surrogate.evaluation,
        "weights_sha256": _sha256(weights),
        "golden_sha256": _UNSEALED,
        "config_sha256": _UNSEALED,
    }
    try:
        config = json.loads(json.dumps(contract, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"the surrogate's provenance is not plain, finite JSON ({error})") from error
    problem = _problem(config)
    if problem:
        raise CheckpointError(f"the surrogate's provenance does not fit a checkpoint: {problem}")
    try:
        text = card(config)
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            "the surrogate's provenance['evaluation'] must be empty or hold what emuloss.evaluation measures"
        ) from error
    # Of what will be loaded, rather than of what is saved, which may have another precision or device.
    golden = record(_assembled(config, weights, "the surrogate"))
    config["golden_sha256"] = _sha256(golden)
    config["config_sha256"] = _digest(config)
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
    """Load a frozen surrogate.

    Args:
        directory: where `save_pretrained` or train_surrogate.py wrote it.
        device: where to put it; default: the CPU.

    Returns:
        The surrogate: in evaluation mode, no weight takes a gradient, gradients flow to its input.

    Raises:
        CorruptedError: a file is damaged, or not the one that belongs to the others.
        IncompatibleError: a format, a metric, an architecture or an argument of another version.
        CheckpointError: a file is missing or cannot be read. The two above are special cases.
    """
    folder = Path(directory)
    if not os.path.isdir(folder):
        raise CheckpointError(f"{folder} is no directory; give the one that save_pretrained wrote")
    config = _read_config(folder / CONFIG)
    _read_sealed(folder, GOLDEN, config)
    return _assembled(config, _read_sealed(folder, WEIGHTS, config), str(folder)).to(device or "cpu")


def read_golden(folder: Path) -> bytes:
    """Content of a checkpoint's golden file, the very one that its configuration vouches for.

    Raises:
        CheckpointError: as `load`.
    """
    return _read_sealed(folder, GOLDEN, _read_config(folder / CONFIG))


def _assembled(config: dict[str, Any], weights: bytes, subject: str) -> Surrogate:
    """The surrogate of a sound configuration and its weights; subject: what they are, for messages."""
    try:
        # Building draws random weights, of which the caller's generator should know nothing.
        with torch.random.fork_rng(devices=[]):
            module = _build(config, len(weights))
        _fill(module, load_tensors(weights))
    except Exception as error:  # whatever a constructor stumbles over in a foreign configuration
        raise IncompatibleError(
            f"{subject} does not fit this version of emuloss: {_line(error) or type(error).__name__}"
        ) from error
    provenance = {name: config[name] for name in ("unit", "field_shape", "training", "evaluation")}
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


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest(config: dict[str, Any]) -> str:
    """Hash of a configuration, itself left out, whatever the order of its keys and its layout."""
    rest = {key: value for key, value in config.items() if key != "config_sha256"}
    return _sha256(json.dumps(rest, sort_keys=True).encode())


def _line(text: object) -> str:
    """One line of bounded length, of characters that every terminal takes as they are."""
    line = textwrap.shorten(str(text)[:10_000], 300, placeholder=" ...")
    return "".join(character if character.isprintable() else "?" for character in line)


def _read(path: Path, largest: int) -> bytes:
    try:
        status = path.stat()
        if status.st_size > largest:
            raise CheckpointError(
                f"{path} has {status.st_size} bytes, more than any that emuloss writes ({largest})"
            )
        if not stat.S_ISREG(status.st_mode):  # to read from a pipe would be to wait
            raise CorruptedError(f"{path} is no regular file; fetch the checkpoint again")
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}; is the checkpoint complete?") from error


def _read_sealed(folder: Path, name: str, config: dict[str, Any]) -> bytes:
    """Content of a file whose hash stands in the configuration."""
    key, largest = _SEALED[name]
    content = _read(folder / name, largest)
    if _sha256(content) != config[key]:
        raise CorruptedError(
            f"{folder / name} is not the file that {CONFIG} describes; fetch the checkpoint again"
        )
    return content


def _read_config(path: Path) -> dict[str, Any]:
    text = _read(path, _LARGEST_CONFIG)
    try:
        config = json.loads(
            text, parse_constant=_refuse_constant, parse_int=_short_int, object_pairs_hook=_without_doubles
        )
    except (ValueError, RecursionError) as error:
        raise CorruptedError(f"{path} is not JSON ({_line(error)}); fetch the checkpoint again") from error
    problem = _problem(config)
    if problem:
        raise IncompatibleError(
            f"{path} is not a configuration that this version of emuloss reads: {problem}"
        )
    if config["config_sha256"] != _digest(config):
        raise CorruptedError(f"{path} was changed after it was written; fetch the checkpoint again")
    return config


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a finite number")


def _short_int(text: str) -> int:
    """A whole number; the time to read one grows with the square of its length."""
    if len(text) > 20:
        raise ValueError(f"it holds a whole number of {len(text)} digits, beyond 2^53")
    return int(text)


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; readers of JSON differ in which of two equal keys they heed."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it holds an object with two equal keys")
    return found


def _problem(config: Any) -> str:
    """What is wrong with a configuration, its own hash aside, in one line; empty if nothing is."""
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
    return _line(_record(_SCHEMA)(config, "it").removeprefix("it."))


def _unsound(value: Any, depth: int = 0) -> str:
    """What makes a value unsafe to work with, whatever its meaning; empty if nothing does."""
    if depth > _DEEPEST:
        return "it is nested too deeply"
    if isinstance(value, float) and not math.isfinite(value):
        return "it holds a number that is not finite"
    if isinstance(value, int) and abs(value) > 2**53:
        return "it holds a whole number beyond 2^53"
    if isinstance(value, str) and re.search("[\ud800-\udfff]", value):  # halves of a surrogate pair
        return "it holds text that is not Unicode"
    inner = (*value, *value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ()
    return _first(_unsound(part, depth + 1) for part in inner)
