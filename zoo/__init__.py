"""Frozen surrogates: loading, saving, and using them as losses."""

from __future__ import annotations

from .checkpoint import load
from .loss import SurrogateLoss
from .surrogate import Surrogate, relax

__all__ = ["Surrogate", "SurrogateLoss", "load", "relax"]
