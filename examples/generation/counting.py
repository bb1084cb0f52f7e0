"""Steering to counts of local maxima: a plain function, which has no relaxation and no gradient."""

from __future__ import annotations

import copy

import emuloss
import numpy as np
import torch
from emuloss.losses import Guidance, Live, SurrogateLoss
from flow import to_physical
from numpy.typing import NDArray
from steering import LATE_STEPS
from torch import Tensor


def peaks(field: NDArray[np.float32]) -> float:
    """Local maxima above 1 mm/h among the four neighbours."""
    inner = field[1:-1, 1:-1]
    around = np.max([field[:-2, 1:-1], field[2:, 1:-1], field[1:-1, :-2], field[1:-1, 2:]], axis=0)
    return float(((inner > around) & (inner > 1)).sum())


def counts(rain: Tensor) -> Tensor:
    """Peaks (N,) of rain (N, H, W)."""
    return torch.tensor([peaks(field) for field in rain.numpy()])


def differences(rain: Tensor, asked: Tensor) -> Tensor:
    """Differences (N,) of the logarithms of 1 + peaks from those asked for."""
    return (counts(rain).log1p() - asked.log1p()).abs()


def losses(data: Tensor, lessons: int) -> dict[str, SurrogateLoss]:
    """A network that learnt peaks of rain (N, H, W): frozen, and one that goes on learning where samples go.

    Args:
        data: rain in mm/h.
        lessons: fields of its first lessons.
    """
    # Labels at once: the same figures each time.
    live = emuloss.live(
        peaks,
        data.numpy(),
        budget=lessons,
        live=Live(background=False),
        reduction="none",
        slopes="measured",
        progress=False,
    )
    return {
        "frozen": SurrogateLoss(copy.deepcopy(live.surrogate), forward="exact", reduction="none"),
        "live": live,
    }


def to_peaks(loss: SurrogateLoss, asked: Tensor) -> tuple[Guidance, Guidance]:
    """Guidances to numbers of peaks (N,), early and late; a live loss learns in both."""
    curves = asked[:, None, None]
    return (
        Guidance(loss, target_curves=curves, to_physical=to_physical),
        Guidance(loss, target_curves=curves, to_physical=to_physical, strength=1.0, steps=LATE_STEPS // 3),
    )
