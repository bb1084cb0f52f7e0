"""What a surrogate costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..emulators.differentiable import Differentiable, device_of
from ..errors import ArgumentError
from ..findings.figures import TimingFigures
from ..foundation.arguments import as_count

BATCH = 32
"""Fields in a timed batch."""
WARM_UPS = 2
"""Runs before the timed ones."""


def milliseconds_per_field(
    surrogate: Differentiable, fields: NDArray[Any], repeats: int = 7
) -> TimingFigures:
    """Median time per field in batches of 32, on the surrogate's device.

    Args:
        surrogate: maps fields (N, H, W) to curves.
        fields: (N, H, W), or pairs (N, 2, H, W), N >= 1; taken in turn to fill a batch.
        repeats: timed runs of each kind, after warm-up.

    Returns:
        "forward": ms of a forward pass without graph; "gradient": ms of a forward pass and the
        gradient with respect to the fields; "device": where, and on how many threads.

    Raises:
        ArgumentError: no field, or repeats < 1.
    """
    if np.ndim(fields) not in (3, 4) or len(fields) == 0:
        raise ArgumentError(
            f"fields must have shape (N, H, W) or (N, 2, H, W) with N >= 1, got {np.shape(fields)}"
        )
    as_count("repeats", repeats)
    batch = torch.from_numpy(np.resize(fields, (BATCH, *fields.shape[1:])).astype(np.float32))
    batch = batch.to(device_of(surrogate))

    def forward() -> None:
        with torch.no_grad():
            surrogate(batch)

    def gradient() -> None:
        x = batch.clone().requires_grad_()
        torch.autograd.grad(surrogate(x).sum(), x)

    return {
        "forward": 1e3 / BATCH * _median_seconds(forward, repeats, batch),
        "gradient": 1e3 / BATCH * _median_seconds(gradient, repeats, batch),
        "device": _device_name(batch.device),
    }


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"


def _median_seconds(run: Callable[[], None], repeats: int, batch: Tensor) -> float:
    seconds = []
    for _ in range(WARM_UPS + repeats):
        _finish(batch)
        start = time.perf_counter()
        run()
        _finish(batch)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[WARM_UPS:]))


def _finish(batch: Tensor) -> None:
    """Wait for the device, which runs behind the calls."""
    if batch.is_cuda:
        torch.cuda.synchronize(batch.device)
