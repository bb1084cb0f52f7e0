"""Frozen surrogates, and training losses made of them."""

from __future__ import annotations

from .loss import SurrogateLoss
from .ranges import RangeWarning
from .score import SurrogateScore
from .surrogate import FrozenSurrogate, Provenance, frozen

__all__ = ["FrozenSurrogate", "Provenance", "RangeWarning", "SurrogateLoss", "SurrogateScore", "frozen"]
