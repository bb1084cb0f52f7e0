"""What decides the content of a store, and whether two stores are the same work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...errors import DataError
from ...metrics import Metric
from ..sources.source import FieldSource


def define(source: FieldSource, metric: Metric, roles: list[str], seed: int) -> dict[str, Any]:
    """What decides the content of a store, in the form that it has after a trip through JSON.

    Args:
        source: Where the fields come from.
        metric: What they are labelled with.
        roles: Role of each chunk.
        seed: Of the predictions of a metric that compares two fields.
    """
    definition: dict[str, Any] = {"metric": metric.config(), "source": source.config(), "splits": roles}
    if metric.arity == 2:
        definition["pairs"] = {"seed": seed}
    code = metric.code
    if code:
        definition["code"] = code
    return json.loads(json.dumps(definition))


def refuse_difference(place: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse to go on with what was made for other work.

    Raises:
        DataError: The definitions differ; the message says where.
    """
    difference = _difference(found, wanted)
    if difference:
        raise DataError(f"{place} was made for other work: {difference}; choose another path or delete it.")


def _difference(found: Any, wanted: Any, name: str = "") -> str:
    """Describe the first difference between two JSON values in a few words; empty if they are equal."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in [*wanted, *(key for key in found if key not in wanted)]:
            inner = _difference(found.get(key), wanted.get(key), f"{name}.{key}" if name else key)
            if inner:
                return inner
        return ""
    return "" if found == wanted else f"{name} is {_short(found)} there and {_short(wanted)} here"


def _short(value: Any) -> str:
    """A JSON value, as far as it fits into a message."""
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
