"""Where fields come from, and the store that keeps them with their exact labels.

Knows metrics, knows no network.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from ..errors import ArgumentError
from . import shapes
from .arrays import Arrays
from .augment import mixup, random_symmetry, rescale
from .images import Images
from .odim import Opera
from .pairs import predictions_of
from .rain import Rain
from .source import ROLES, FieldSource, assign_splits
from .store import LabelledFields, label

__all__ = [
    "ROLES",
    "SOURCES",
    "Arrays",
    "FieldSource",
    "Images",
    "LabelledFields",
    "Opera",
    "Rain",
    "assign_splits",
    "label",
    "mixup",
    "open_source",
    "predictions_of",
    "random_symmetry",
    "rescale",
    "shapes",
]

SOURCES: dict[str, type[FieldSource]] = {"rain": Rain, "opera": Opera, "images": Images, "array": Arrays}
"""The scheme of a source, the part of a specification before the colon, and its class."""


def open_source(spec: str, **options: Any) -> FieldSource:
    """Open a source of fields from a short text, as the command line does.

    Args:
        spec: "rain", "opera:DIR", "images:DIR", "array:FILE", or a file with one of the suffixes of `Arrays`.
        **options: Options of the source, such as `size`, `stride`, `count` or `seed`.

    Returns:
        The source.

    Raises:
        ArgumentError: If the specification is unknown or the source lacks an option.
        DataError: If the files cannot be used.
    """
    scheme, colon, place = spec.partition(":")
    if Path(spec).suffix.lower() in Arrays.suffixes and scheme not in SOURCES:
        scheme, colon, place = "array", ":", spec
    if scheme not in SOURCES or (scheme == "rain") == bool(colon and place):
        raise ArgumentError(
            f"unknown source of fields {spec!r}; use rain, opera:DIR, images:DIR, array:FILE, "
            f"or a file ending in {', '.join(Arrays.suffixes)}."
        )
    kind = SOURCES[scheme]
    known = [name for name in inspect.signature(kind).parameters if name not in ("folder", "path")]
    for name in options:
        if name not in known:
            raise ArgumentError(f"source {scheme!r} has no option {name!r}; it takes {', '.join(known)}.")
    return kind(*([place] if place else []), **options)
