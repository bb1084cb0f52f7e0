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
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import CheckpointError, CorruptedError, IncompatibleError, plain, printable
from ..foundation.rules import first
from .manifest import CARD, CONFIG, FORMAT, GOLDEN, READERS, WEIGHTS, Manifest, as_written
from .schema import ARGUMENTS, SCHEMAS

PICTURES = ("report.png",)
"""Pictures that a card shows, where they stand beside it."""
LARGEST_CONFIG = 4 * 2**20
"""Bytes of config.json, and of README.md."""


class Seal(NamedTuple):
    """How the configuration vouches for a file: the key that holds its hash; its largest size, in bytes."""

    key: str
    largest: int


SEALED = {WEIGHTS: Seal("weights_sha256", 256 * 2**20), GOLDEN: Seal("golden_sha256", 4 * 2**20)}
"""Files that the configuration vouches for."""
NEEDED = (CONFIG, *SEALED)
"""Files without which a checkpoint is none."""
LARGEST = {CONFIG: LARGEST_CONFIG, CARD: LARGEST_CONFIG} | {
    name: seal.largest for name, seal in SEALED.items()
}
"""Bytes beyond which a file is none of a checkpoint."""
VERSIONS = ", ".join(map(str, READERS))
"""Format versions that this emuloss reads, for messages."""
_DEEPEST = 12
_UNSOUND_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""Characters that steer terminals, and halves of surrogate pairs."""


def sha256(content: bytes) -> str:
    """Hash of a file's content, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def digest(config: dict[str, Any]) -> str:
    """Hash of a configuration, itself left out, whatever the order of its keys and its layout."""
    rest = {key: value for key, value in config.items() if key != "config_sha256"}
    return sha256(json.dumps(rest, sort_keys=True).encode())


def problem_of(config: Any) -> str:
    """What is wrong with a configuration, its own hash aside, in one line; empty if nothing is."""
    return _problem_of_form(config) or plain(first(rule(config[key], key) for key, rule in ARGUMENTS.items()))


def _problem_of_form(config: Any) -> str:
    """The same, but for what is to be built from it, which takes slow imports to judge."""
    if not isinstance(config, dict):
        return "it is not an object"
    unsound = _unsound(config)
    if unsound:
        return unsound
    if config.get("format") != FORMAT:
        return plain(f"its format is {config.get('format')!r}, not {FORMAT!r}")
    if not _is_read(config.get("format_version")):
        version = config.get("format_version")
        return plain(f"its format_version is {version!r}; this one reads {VERSIONS}")
    return plain(SCHEMAS[config["format_version"]](config, "it").removeprefix("it."))


def _is_read(version: Any) -> bool:
    """Whether this emuloss reads a format version; it may be anything that JSON has."""
    return any(version == known for known in READERS)


def read_bounded(path: Path, largest: int) -> bytes:
    """Content of a regular file of at most that many bytes."""
    try:
        status = path.stat()
        if status.st_size > largest:
            raise CheckpointError(
                f"{printable(str(path))} has {status.st_size} bytes, more than any that emuloss writes "
                f"({largest})"
            )
        if not stat.S_ISREG(status.st_mode):  # to read from a pipe would be to wait
            raise CorruptedError(f"{printable(str(path))} is no regular file; fetch the checkpoint again")
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"cannot read {printable(str(path))}: {error.strerror}; is the checkpoint complete?"
        ) from error


def read_sealed(folder: Path, name: str, manifest: Manifest) -> bytes:
    """Content of a file whose hash stands in the configuration."""
    key, largest = SEALED[name]
    content = read_bounded(folder / name, largest)
    if sha256(content) != getattr(manifest, key):
        raise CorruptedError(
            f"{printable(str(folder / name))} is not the file that {CONFIG} describes; "
            "fetch the checkpoint again"
        )
    return content


def read_config(path: Path) -> Manifest:
    """The manifest of a sound configuration whose own hash is right.

    Raises:
        CorruptedError: it is damaged or was changed.
        IncompatibleError: it is not one that this version reads.
        CheckpointError: it is missing or cannot be read.
    """
    config = _sound(path, problem_of)
    return READERS[config["format_version"]](config)


def described(path: Path) -> Manifest:
    """What a configuration says, whether or not this version can build it.

    Raises:
        CheckpointError: see `read_config`.
    """
    return as_written(_sound(path, _problem_of_form))


def _sound(path: Path, wrong: Callable[[Any], str]) -> dict[str, Any]:
    """A configuration that nothing is wrong with, and whose own hash is right."""
    text = read_bounded(path, LARGEST_CONFIG)
    try:
        config = json.loads(
            text, parse_constant=_refuse_constant, parse_int=_short_int, object_pairs_hook=_without_doubles
        )
    except (ValueError, RecursionError) as error:
        raise CorruptedError(
            f"{printable(str(path))} is not JSON ({plain(error)}); fetch the checkpoint again"
        ) from error
    problem = wrong(config)
    if problem:
        raise IncompatibleError(
            f"{printable(str(path))} is not a configuration that this version of emuloss reads: {problem}; "
            "install the version that wrote it, or take another checkpoint"
        )
    if config["config_sha256"] != digest(config):
        raise CorruptedError(
            f"{printable(str(path))} was changed after it was written; fetch the checkpoint again"
        )
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
    return first(_unsound(part, depth + 1) for part in inner)


def raw_config(path: Path) -> dict[str, Any]:
    """A configuration of any format as it stands, unchecked.

    Raises:
        ValueError: it is no JSON object.
        CheckpointError: it is missing or cannot be read.
    """
    try:
        config = json.loads(read_bounded(path, LARGEST_CONFIG))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(config, dict):
        raise ValueError("it is not an object")
    return config


def is_foreign(config: dict[str, Any]) -> bool:
    """Whether a configuration is a stranger's or of another version, rather than a damaged one of ours."""
    if config.get("format") != FORMAT:
        return "config_sha256" not in config
    return not _is_read(config.get("format_version"))


def config_damage(path: Path) -> str:
    """What shows that a configuration is not the one that was written; empty if nothing does."""
    try:
        config = raw_config(path)
        if is_foreign(config):
            return ""  # how another format is sealed is not known here
        return "" if config.get("config_sha256") == digest(config) else "differs from its own hash"
    except (ValueError, RecursionError):
        return "is not a JSON object"


def seal_damage(path: Path, config: dict[str, Any]) -> str:
    """What shows that a file is not the one that a raw configuration describes; empty if nothing does."""
    key, most = SEALED[path.name]
    return "" if sha256(read_bounded(path, most)) == config.get(key) else f"differs from its hash in {CONFIG}"
