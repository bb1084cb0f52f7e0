"""Soft histograms: operators with gradients, a file a backend; the first that suits does the work."""

from __future__ import annotations

from .anywhere import Anywhere, Export
from .backend import BACKENDS, Backend
from .cpu import Cpu
from .histogram import node_positions, soft_histogram

__all__ = ["BACKENDS", "Anywhere", "Backend", "Cpu", "Export", "node_positions", "soft_histogram"]

# In order of preference.
for _name, _backend in {"cpu": Cpu(), "anywhere": Anywhere(), "export": Export()}.items():
    BACKENDS.register(_name)(_backend)
