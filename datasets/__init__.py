"""Where fields come from, and the store that keeps them with their exact labels.

Knows metrics, knows no network.
"""

from __future__ import annotations

from .labels import LabelledFields, label
from .sources import (
    ROLES,
    SOURCES,
    Arrays,
    FieldSource,
    Images,
    InMemory,
    Opera,
    PystepsFiles,
    Rain,
    XarrayFiles,
    as_source,
    assign_splits,
    mixup,
    open_source,
    predictions_of,
    random_symmetry,
    rescale,
    shapes,
)

__all__ = [
    "ROLES",
    "SOURCES",
    "Arrays",
    "FieldSource",
    "Images",
    "InMemory",
    "LabelledFields",
    "Opera",
    "PystepsFiles",
    "Rain",
    "XarrayFiles",
    "as_source",
    "assign_splits",
    "label",
    "mixup",
    "open_source",
    "predictions_of",
    "random_symmetry",
    "rescale",
    "shapes",
]
