"""Where fields come from, and how they change; knows no labels."""

from __future__ import annotations

from . import shapes
from .arrays import Arrays
from .augment import mixup, random_symmetry, rescale
from .images import Images
from .memory import InMemory
from .odim import Opera
from .opening import SOURCES, as_source, open_source
from .predictions import predictions_of
from .pysteps_files import PystepsFiles
from .rain import Rain
from .source import ROLES, FieldSource, assign_splits
from .xarray_files import XarrayFiles

__all__ = [
    "ROLES",
    "SOURCES",
    "Arrays",
    "FieldSource",
    "Images",
    "InMemory",
    "Opera",
    "PystepsFiles",
    "Rain",
    "XarrayFiles",
    "as_source",
    "assign_splits",
    "mixup",
    "open_source",
    "predictions_of",
    "random_symmetry",
    "rescale",
    "shapes",
]
