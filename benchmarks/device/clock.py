"""How long a call takes on the device, and what it asks of it."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
_SECONDS = 0.6
"""Of each measurement, about."""
_LEAST, _MOST = 5, 200
"""Calls timed."""
_WARM_UPS = 3


class Work(NamedTuple):
    """What a call asks of the device.

    Attributes:
        kernels: launched.
        to_host: copies from the device.
        to_device: copies from the host.
        waits: of the host for the device, as far as PyTorch tells of them.
        busy: milliseconds that kernels and copies take.
    """

    kernels: int
    to_host: int
    to_device: int
    waits: int
    busy: float


def milliseconds(run: Callable[[], object]) -> float:
    """Median time of a call, warmed up, by the device's own clock."""
    for _ in range(_WARM_UPS):
        run()
    times: list[float] = []
    began = time.monotonic()
    while len(times) < _LEAST or (time.monotonic() - began < _SECONDS and len(times) < _MOST):
        times.append(_once(run))
    return float(np.median(times))


def in_turns(runs: Sequence[Callable[[], object]]) -> list[float]:
    """Median times of several calls that take turns, as `milliseconds` has them."""
    for run in runs:
        for _ in range(_WARM_UPS):
            run()
    times: list[list[float]] = []
    began = time.monotonic()
    while len(times) < _LEAST or (time.monotonic() - began < _SECONDS * len(runs) and len(times) < _MOST):
        times.append([_once(run) for run in runs])
    return [float(each) for each in np.median(times, axis=0)]


def captured(run: Callable[[], object]) -> Callable[[], object]:
    """A call as a CUDA graph, which launches all of its kernels at once; itself without a GPU.

    Raises:
        RuntimeError: the call waits for the host, which no graph can hold.
    """
    if DEVICE.type == "cpu":
        return run
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # lazy initialisations are not for a graph
        for _ in range(_WARM_UPS):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def never_waits(run: Callable[[], object]) -> None:
    """Run a call in which the host must not wait for the device.

    Raises:
        RuntimeError: it does.
    """
    if DEVICE.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode("default")


def _once(run: Callable[[], object]) -> float:
    """Milliseconds of one call."""
    if DEVICE.type == "cpu":
        start = time.perf_counter()
        run()
        return 1e3 * (time.perf_counter() - start)
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    began.record()
    run()
    ended.record()
    torch.cuda.synchronize()
    return began.elapsed_time(ended)


def work_of(run: Callable[[], object]) -> Work:
    """Profile a call, and count what makes the host wait; zeros and NaN without a GPU."""
    if DEVICE.type == "cpu":
        return Work(0, 0, 0, 0, math.nan)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = sum("synchroniz" in str(each.message) for each in caught)
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        run()
        torch.cuda.synchronize()
    events = [e for e in profile.events() if e.device_type == torch.autograd.DeviceType.CUDA]
    return Work(
        kernels=sum(not e.name.startswith(("Memcpy", "Memset")) for e in events),
        to_host=sum("DtoH" in e.name for e in events),
        to_device=sum("HtoD" in e.name for e in events),
        waits=waits,
        busy=sum(e.time_range.elapsed_us() for e in events) / 1e3,
    )


def peak_of(run: Callable[[], object]) -> float:
    """Largest memory in GB that tensors on the device take while a call runs; NaN without a GPU."""
    if DEVICE.type == "cpu":
        return math.nan
    torch.cuda.reset_peak_memory_stats()
    run()
    return torch.cuda.max_memory_allocated() / 1e9
