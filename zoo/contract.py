"""The contract of a checkpoint: what config.json may hold, and how its files vouch for one another.

A configuration is checked by a schema with bounds before anything is built from it, sealed by its own hash,
and holds the hashes of the files beside it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import stat
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, CorruptedError, IncompatibleError

CONFIG, WEIGHTS, GOLDEN, CARD = "config.json", "model.safetensors", "golden.safetensors", "README.md"
PICTURES = ("report.png",)
"""Pictures that a card shows, where they stand beside it."""
FORMAT, FORMAT_VERSION = "emuloss surrogate", 1
LARGEST_CONFIG = 4 * 2**20
"""Bytes of config.json, and of README.md."""
SEALED = {WEIGHTS: ("weights_sha256", 256 * 2**20), GOLDEN: ("golden_sha256", 4 * 2**20)}
"""Files that the configuration vouches for: the key that holds their hash, and their largest size."""
UNSEALED = "0" * 64
"""Stands for a hash until what it is the hash of is there."""
_DEEPEST = 12
_UNSOUND_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""Characters that steer terminals, and halves of surrogate pairs."""

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
    return _of(
        str,
        f"printable text of at most {longest} characters",
        lambda value: len(value) <= longest and value.isprintable(),
    )


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


def _evaluation(value: Any, place: str) -> str:
    """What is wrong with the figures of an evaluation, as far as a glance at them reads."""
    if not isinstance(value, dict) or not value:
        return _object(value, place)
    fidelity = value.get("fidelity")
    outputs = fidelity.get("outputs") if isinstance(fidelity, dict) else None
    if not isinstance(outputs, dict):
        return _object(outputs, f"{place}.fidelity.outputs")
    return _first(
        _object(found, f"{place}.fidelity.outputs.{name}")
        or _optional(_number)(found.get("r2_mean"), f"{place}.fidelity.outputs.{name}.r2_mean")
        for name, found in outputs.items()
    )


_BUILT = _record({"name": _text(100), "arguments": _arguments})
SCHEMA: dict[str, _Rule] = {
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
    "license": _text(100),
    "training": _object,
    "evaluation": _evaluation,
    "weights_sha256": _digest_text,
    "golden_sha256": _digest_text,
    "config_sha256": _digest_text,
}
"""Keys of config.json, all required, and what they may hold."""


def sha256(content: bytes) -> str:
    """Hash of a file's content, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def digest(config: dict[str, Any]) -> str:
    """Hash of a configuration, itself left out, whatever the order of its keys and its layout."""
    rest = {key: value for key, value in config.items() if key != "config_sha256"}
    return sha256(json.dumps(rest, sort_keys=True).encode())


def problem_of(config: Any) -> str:
    """What is wrong with a configuration, its own hash aside, in one line; empty if nothing is."""
    if not isinstance(config, dict):
        return "it is not an object"
    unsound = _unsound(config)
    if unsound:
        return unsound
    if config.get("format") != FORMAT:
        return one_line(f"its format is {config.get('format')!r}, not {FORMAT!r}")
    if config.get("format_version") != FORMAT_VERSION:
        return one_line(
            f"its format_version is {config.get('format_version')!r}; this one reads {FORMAT_VERSION}"
        )
    return one_line(_record(SCHEMA)(config, "it").removeprefix("it."))


def one_line(text: object) -> str:
    """One line of bounded length, of characters that every terminal takes as they are."""
    line = textwrap.shorten(str(text)[:10_000], 300, placeholder=" ...")
    return "".join(character if character.isprintable() else "?" for character in line)


def read_bounded(path: Path, largest: int) -> bytes:
    """Content of a regular file of at most that many bytes."""
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


def read_sealed(folder: Path, name: str, config: dict[str, Any]) -> bytes:
    """Content of a file whose hash stands in the configuration."""
    key, largest = SEALED[name]
    content = read_bounded(folder / name, largest)
    if sha256(content) != config[key]:
        raise CorruptedError(
            f"{folder / name} is not the file that {CONFIG} describes; fetch the checkpoint again"
        )
    return content


def read_config(path: Path) -> dict[str, Any]:
    """A sound configuration whose own hash is right.

    Raises:
        CorruptedError: it is damaged or was changed.
        IncompatibleError: it is not one that this version reads.
        CheckpointError: it is missing or cannot be read.
    """
    text = read_bounded(path, LARGEST_CONFIG)
    try:
        config = json.loads(
            text, parse_constant=_refuse_constant, parse_int=_short_int, object_pairs_hook=_without_doubles
        )
    except (ValueError, RecursionError) as error:
        raise CorruptedError(f"{path} is not JSON ({one_line(error)}); fetch the checkpoint again") from error
    problem = problem_of(config)
    if problem:
        raise IncompatibleError(
            f"{path} is not a configuration that this version of emuloss reads: {problem}; "
            "install the version that wrote it, or take another checkpoint"
        )
    if config["config_sha256"] != digest(config):
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


def _unsound(value: Any, depth: int = 0) -> str:
    """What makes a value unsafe to work with, whatever its meaning; empty if nothing does."""
    if depth > _DEEPEST:
        return "it is nested too deeply"
    if isinstance(value, float) and not math.isfinite(value):
        return "it holds a number that is not finite"
    if isinstance(value, int) and abs(value) > 2**53:
        return "it holds a whole number beyond 2^53"
    if isinstance(value, str) and _UNSOUND_TEXT.search(value):
        return "it holds text that is not Unicode, or that steers a terminal"
    inner = (*value, *value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ()
    return _first(_unsound(part, depth + 1) for part in inner)
