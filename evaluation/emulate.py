"""A surrogate's curves of many fields, batch by batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..emulators.differentiable import Differentiable, device_of
from ..emulators.spaces import floating
from .bars import Progress, counted


def emulate(
    surrogate: Differentiable, fields: NDArray[Any], *, batch_size: int = 64, progress: Progress = False
) -> NDArray[np.float64]:
    """Curves (N, C, Q) of fields (N, H, W) or pairs (N, 2, H, W), on the surrogate's device, no graph."""
    device = device_of(surrogate)
    starts = range(0, len(fields), batch_size)
    parts = []
    with torch.no_grad():
        for i in counted(starts, "emulate", "batch", progress):
            batch = torch.from_numpy(floating(fields[i : i + batch_size])).to(device)
            parts.append(surrogate(batch).double().cpu().numpy())
    return np.concatenate(parts)
