"""What config.json may hold: rules with bounds, checked before anything is built."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import ArgumentError
from ..foundation.rules import (
    Rule,
    an_object,
    first,
    list_of,
    number,
    of,
    optional,
    record,
    text,
    whole,
)
from .manifest import FORMAT_VERSION


def _argument(value: Any, place: str) -> str:
    """What is wrong with an argument that no bound is known of: text, number, or a list of these."""
    if value is None or isinstance(value, bool):
        return ""
    if isinstance(value, list):
        return list_of(_argument, 0, 4096)(value, place)
    return (text(1000) if isinstance(value, str) else number)(value, place)


def _arguments(rules_of: Callable[[str], Mapping[str, Rule]]) -> Rule:
    """What a name is built with, by keyword; arguments that are bounded have a rule under that name."""

    def rule(value: Any, place: str) -> str:
        rules = rules_of(value["name"])
        return first(
            rules.get(name, _argument)(given, f"{place}.arguments.{name}")
            for name, given in value["arguments"].items()
        )

    return rule


def _metric_rules(name: str) -> Mapping[str, Rule]:
    """Rules of a metric's arguments; none where it is unknown, which building it will say."""
    from ..metrics.registry import metric_class  # slow to import, and only needed to build

    try:
        return metric_class(name).argument_rules
    except ArgumentError:
        return {}


def _architecture_rules(name: str) -> Mapping[str, Rule]:
    """Rules of an architecture's arguments; none where it is unknown, which building it will say."""
    from ..emulators import ARCHITECTURES  # likewise

    return ARCHITECTURES[name].rules if name in ARCHITECTURES else {}


def _evaluation(value: Any, place: str) -> str:
    """What is wrong with the figures of an evaluation, as far as a glance at them reads."""
    if not isinstance(value, dict) or not value:
        return an_object(value, place)
    fidelity = value.get("fidelity")
    outputs = fidelity.get("outputs") if isinstance(fidelity, dict) else None
    if not isinstance(outputs, dict):
        return an_object(outputs, f"{place}.fidelity.outputs")
    return first(
        an_object(found, f"{place}.fidelity.outputs.{name}")
        or optional(number)(found.get("r2_mean"), f"{place}.fidelity.outputs.{name}.r2_mean")
        for name, found in outputs.items()
    )


_built = record({"name": text(100), "arguments": an_object})
_digest = of(str, "a SHA-256 in hexadecimal", re.compile("[0-9a-f]{64}").fullmatch)

SCHEMA: dict[str, Rule] = {
    "format": text(100),
    "format_version": whole(1, FORMAT_VERSION),
    "package_version": text(100),
    "architecture": _built,
    "metric": _built,
    "outputs": list_of(text(100), 1, 100),
    "units": list_of(text(100), 1, 100),
    "constraints": list_of(text(1000), 0, 100),
    "unit": text(100),
    "field_shape": optional(list_of(whole(1, 2**16), 2, 2)),
    "license": text(100),
    "training": an_object,
    "evaluation": _evaluation,
    "weights_sha256": _digest,
    "golden_sha256": _digest,
    "config_sha256": _digest,
}
"""Keys of config.json, all required, and what they may hold; see `ARGUMENTS`."""
SCHEMAS: dict[int, Rule] = {
    version: record(SCHEMA | {"format_version": whole(version, version)}) for version in (1, FORMAT_VERSION)
}
"""The rule of a whole configuration by format version."""
ARGUMENTS: dict[str, Rule] = {
    "architecture": _arguments(_architecture_rules),
    "metric": _arguments(_metric_rules),
}
"""What may be built from a configuration that its schema holds for, by key."""
