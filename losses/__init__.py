"""Frozen surrogates, and training losses made of them."""

from __future__ import annotations

from .guidance import Guidance, Guidances, for_scores, guided_output
from .live import GaugeWarning, Live, LiveLoss
from .loss import SurrogateLoss
from .ranges import RangeWarning
from .score import SurrogateScore
from .surrogate import FrozenSurrogate, Provenance, frozen

__all__ = [
    "FrozenSurrogate",
    "GaugeWarning",
    "Guidance",
    "Guidances",
    "Live",
    "LiveLoss",
    "Provenance",
    "RangeWarning",
    "SurrogateLoss",
    "SurrogateScore",
    "for_scores",
    "frozen",
    "guided_output",
]
