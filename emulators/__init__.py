"""Differentiable surrogates of metrics: analytical relaxations and trained emulators."""

from __future__ import annotations

from .curves import CurveDistance, signed_expm1, signed_log1p, trapezoid_weights
from .emulator import ARCHITECTURES, ConstrainedEmulator
from .fields import as_batch
from .heads import ConstrainedHeads
from .loss import SurrogateLoss
from .relaxed import RELAXABLE, RelaxedMinkowski, geometric, relaxation
from .training import Trainer, Training

__all__ = [
    "ARCHITECTURES",
    "RELAXABLE",
    "ConstrainedEmulator",
    "ConstrainedHeads",
    "CurveDistance",
    "RelaxedMinkowski",
    "SurrogateLoss",
    "Trainer",
    "Training",
    "as_batch",
    "geometric",
    "relaxation",
    "signed_expm1",
    "signed_log1p",
    "trapezoid_weights",
]
