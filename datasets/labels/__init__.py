"""Exact curves of fields, on disk: how they are made, here or on a cluster, and read."""

from __future__ import annotations

from .engines import ENGINES, engine_named
from .label import label
from .store import LabelledFields

__all__ = ["ENGINES", "LabelledFields", "engine_named", "label"]
