"""A surrogate's curves of many fields, batch by batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from ..emulators.differentiable import Differentiable, device_of
from .pixels import BAR_DELAY


def emulate(
    surrogate: Differentiable, fields: NDArray[Any], *, batch_size: int = 64, progress: bool = False
) -> NDArray[np.float64]:
    """Curves (N, C, Q) of fields (N, H, W) or pairs (N, 2, H, W), on the surrogate's device, no graph."""
    device = device_of(surrogate)
    starts = range(0, len(fields), batch_size)
    parts = []
    with torch.no_grad():
        for i in tqdm(starts, "emulate", unit="batch", delay=BAR_DELAY, disable=not progress, leave=False):
            batch = torch.from_numpy(np.asarray(fields[i : i + batch_size], np.float32)).to(device)
            parts.append(surrogate(batch).double().cpu().numpy())
    return np.concatenate(parts)
