"""What decides the content of a store, and whether two stores are the same work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...errors import DataError
from ...foundation.differences import first_difference
from ...metrics import Metric
from ..sources.source import FieldSource

Definition = dict[str, Any]
"""The configurations of metric and source, the roles of chunks, and what else decides the content."""


def define(source: FieldSource, metric: Metric, roles: list[str], seed: int) -> Definition:
    """What decides the content of a store, in the form that it has after a trip through JSON.

    Args:
        source: Where the fields come from.
        metric: What they are labelled with.
        roles: Role of each chunk.
        seed: Of the predictions of a metric that compares two fields.
    """
    definition: Definition = {"metric": metric.config(), "source": source.config(), "splits": roles}
    if metric.arity == 2:
        definition["pairs"] = {"seed": seed}
    code = metric.code
    if code:
        definition["code"] = code
    return json.loads(json.dumps(definition))


def refuse_difference(
    place: Path, found: Definition, wanted: Definition, source: FieldSource, metric: Metric
) -> None:
    """Refuse to go on with what was made for other work; what merely says what values mean may differ.

    Args:
        place: Where it was found, for the message.
        found: Its definition.
        wanted: The definition of the work of a source and a metric.
        source: Where the fields come from.
        metric: What they are labelled with.

    Raises:
        DataError: The definitions differ in what decides the content; the message says where.
    """
    difference = first_difference(_deciding(found, source, metric), _deciding(wanted, source, metric))
    if difference:
        raise DataError(f"{place} was made for other work: {difference}; choose another path or delete it.")


def _deciding(definition: Definition, source: FieldSource, metric: Metric) -> Definition:
    """What of a definition the values depend on; all of it where that cannot be told."""
    try:
        arguments = metric.deciding(definition["metric"]["arguments"])
        config = {key: value for key, value in definition["source"].items() if key not in source.describing}
        return definition | {"metric": definition["metric"] | {"arguments": arguments}, "source": config}
    except (KeyError, TypeError, AttributeError):
        return definition
