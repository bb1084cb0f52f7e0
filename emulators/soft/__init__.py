"""Soft histograms: operators with gradients, one backend a file; the preferred one that suits is taken."""

from __future__ import annotations

from .anywhere import Anywhere, Export
from .backend import BACKENDS, Backend
from .histogram import node_positions, soft_histogram
from .operators import Compiled

__all__ = ["BACKENDS", "Anywhere", "Backend", "Compiled", "Export", "node_positions", "soft_histogram"]
