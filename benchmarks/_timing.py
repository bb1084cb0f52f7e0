"""What the benchmarks share: turns in one run, their medians, and synthetic rain.

The sides of a comparison take turns, so that a change of load on the machine meets all of them
alike; ratios are medians over the turns, each between neighbours in time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from emuloss.datasets import Rain

CLOCK, CPU = range(2)
"""Last axis of `take_turns`."""


def rain(count: int, size: int = 128) -> np.ndarray:
    """Synthetic rain (N, size, size) in mm/h, float32, N at least `count`, in steps of 0.01 mm/h."""
    source = Rain(count, size=size, seed=0, quantum=0.01)
    return np.concatenate([source.read(k, "test") for k in range(len(source))])


def take_turns(repeats: int, *sides: Callable[[], object]) -> np.ndarray:
    """Seconds (repeats, sides, 2) that each side took each time, by the clock and of CPU (all threads).

    The sides are called in turn, and should have been warmed up.
    """
    seconds = np.empty((repeats, len(sides), 2))
    for turn in seconds:
        for side, taken in zip(sides, turn, strict=True):
            clock, cpu = time.perf_counter(), time.process_time()
            side()
            taken[:] = time.perf_counter() - clock, time.process_time() - cpu
    return seconds
