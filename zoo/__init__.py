"""Frozen surrogates: loading, saving, and using them as losses."""

from __future__ import annotations

from ..emulators import SurrogateLoss
from .checkpoint import load
from .surrogate import Surrogate, relax

__all__ = ["Surrogate", "SurrogateLoss", "load", "relax"]
