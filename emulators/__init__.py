"""Differentiable surrogates of metrics: analytical relaxations and trained emulators."""

from __future__ import annotations

from .architectures import ARCHITECTURES, default_architecture
from .curves import CurveDistance, signed_expm1, signed_log1p, trapezoid_weights
from .emulator import ConvEmulator
from .excursion import Excursion
from .fields import as_batch, check_shape
from .heads import ConstrainedHeads
from .loss import SurrogateLoss
from .relaxed import RelaxedMinkowski, geometric, relaxation
from .training import Trainer, Training

__all__ = [
    "ARCHITECTURES",
    "ConstrainedHeads",
    "ConvEmulator",
    "CurveDistance",
    "Excursion",
    "RelaxedMinkowski",
    "SurrogateLoss",
    "Trainer",
    "Training",
    "as_batch",
    "check_shape",
    "default_architecture",
    "geometric",
    "relaxation",
    "signed_expm1",
    "signed_log1p",
    "trapezoid_weights",
]
