"""Soft histograms: operators with gradients, a file a backend; the first that suits does the work."""

from __future__ import annotations

from . import (
    anywhere,
    cpu,  # the order is that of preference
)
from .backend import BACKENDS, Backend
from .histogram import node_positions, soft_histogram

__all__ = ["BACKENDS", "Backend", "anywhere", "cpu", "node_positions", "soft_histogram"]
