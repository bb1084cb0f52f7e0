"""Frozen surrogates, and training losses made of them."""

from __future__ import annotations

from .balance import Combined, Share
from .guidance import Guidance, Guidances, for_scores, guided_output
from .live import GaugeWarning, Live, LiveLoss
from .loss import SurrogateLoss
from .ranges import RangeWarning
from .score import SurrogateScore
from .segmentation import SegmentationLoss
from .shapes import PerChannel
from .surrogate import FrozenSurrogate, Provenance, UnfitWarning, frozen

__all__ = [
    "Combined",
    "FrozenSurrogate",
    "GaugeWarning",
    "Guidance",
    "Guidances",
    "Live",
    "LiveLoss",
    "PerChannel",
    "Provenance",
    "RangeWarning",
    "SegmentationLoss",
    "Share",
    "SurrogateLoss",
    "SurrogateScore",
    "UnfitWarning",
    "for_scores",
    "frozen",
    "guided_output",
]
