"""Frozen surrogates, and training losses made of them."""

from __future__ import annotations

from .loss import SurrogateLoss
from .surrogate import FrozenSurrogate, Provenance, frozen

__all__ = ["FrozenSurrogate", "Provenance", "SurrogateLoss", "frozen"]
