"""Differentiable surrogates of metrics: analytical relaxations and trained emulators."""

from __future__ import annotations

from .architectures import ARCHITECTURES, default_architecture
from .curves import CurveDistance, found_scales, log_curves, signed_expm1, signed_log1p, trapezoid_weights
from .emulator import ConvEmulator
from .excursion import Excursion
from .fields import as_batch, as_pairs, check_shape
from .heads import ConstrainedHeads
from .loss import PairwiseLoss, SurrogateLoss, loss_of
from .pairs import Shortfall
from .relaxed import RelaxedMinkowski, geometric, relaxable, relaxation
from .relaxed_masks import RelaxedBoxCount, RelaxedCSI, RelaxedFSS
from .training import Trainer, Training

__all__ = [
    "ARCHITECTURES",
    "ConstrainedHeads",
    "ConvEmulator",
    "CurveDistance",
    "Excursion",
    "PairwiseLoss",
    "RelaxedBoxCount",
    "RelaxedCSI",
    "RelaxedFSS",
    "RelaxedMinkowski",
    "Shortfall",
    "SurrogateLoss",
    "Trainer",
    "Training",
    "as_batch",
    "as_pairs",
    "check_shape",
    "default_architecture",
    "found_scales",
    "geometric",
    "log_curves",
    "loss_of",
    "relaxable",
    "relaxation",
    "signed_expm1",
    "signed_log1p",
    "trapezoid_weights",
]
