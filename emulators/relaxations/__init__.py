"""Analytical relaxations of metrics: no training."""

from __future__ import annotations

from .boxcount import RelaxedBoxCount
from .csi import RelaxedCSI
from .excursion import Excursion
from .fss import RelaxedFSS
from .masks import RelaxedMasks
from .minkowski import RelaxedMinkowski
from .relaxation import COLD, HOT, RELAXATIONS, NoRelaxation, geometric, relaxable, relaxation
from .sal import RelaxedAmplitude
from .spectrum import RelaxedSpectrum

__all__ = [
    "COLD",
    "HOT",
    "RELAXATIONS",
    "Excursion",
    "NoRelaxation",
    "RelaxedAmplitude",
    "RelaxedBoxCount",
    "RelaxedCSI",
    "RelaxedFSS",
    "RelaxedMasks",
    "RelaxedMinkowski",
    "RelaxedSpectrum",
    "geometric",
    "relaxable",
    "relaxation",
]
