"""Differentiable stand-ins for metrics: analytical relaxations and networks."""

from __future__ import annotations

from .architectures import ARCHITECTURES, Architecture, default_architecture
from .certificates import BOUNDS, Certificate, certify
from .curves import found_scales, log_curves, signed_expm1, signed_log1p, trapezoid_weights
from .differentiable import Analytical, Differentiable, Relaxation, Trainable
from .distances import DISTANCES, CurveDistance, Distance, Shortfall
from .fields import as_batch, as_pairs, check_shape
from .networks.certified import CertifiedEmulator
from .networks.emulator import ConvEmulator
from .networks.heads import ConstrainedHeads
from .relaxations import (
    RELAXATIONS,
    Excursion,
    NoRelaxation,
    RelaxedAmplitude,
    RelaxedBoxCount,
    RelaxedCSI,
    RelaxedFSS,
    RelaxedMasks,
    RelaxedMinkowski,
    RelaxedSpectrum,
    geometric,
    relaxable,
    relaxation,
)
from .spreads import lesser_spreads, spreads_between, spreads_in

__all__ = [
    "ARCHITECTURES",
    "BOUNDS",
    "DISTANCES",
    "RELAXATIONS",
    "Analytical",
    "Architecture",
    "Certificate",
    "CertifiedEmulator",
    "ConstrainedHeads",
    "ConvEmulator",
    "CurveDistance",
    "Differentiable",
    "Distance",
    "Excursion",
    "NoRelaxation",
    "Relaxation",
    "RelaxedAmplitude",
    "RelaxedBoxCount",
    "RelaxedCSI",
    "RelaxedFSS",
    "RelaxedMasks",
    "RelaxedMinkowski",
    "RelaxedSpectrum",
    "Shortfall",
    "Trainable",
    "as_batch",
    "as_pairs",
    "certify",
    "check_shape",
    "default_architecture",
    "found_scales",
    "geometric",
    "lesser_spreads",
    "log_curves",
    "relaxable",
    "relaxation",
    "signed_expm1",
    "signed_log1p",
    "spreads_between",
    "spreads_in",
    "trapezoid_weights",
]
