"""Exact Minkowski curves: emuloss against the straightforward loop over scikit-image, side by side.

    python benchmarks/exact.py [--fields FILE.npy] [--repeats 5]

Both take turns in one run, so that a change of load on the machine meets both alike. The ratio is
the median over the repeats of fields per second, by the clock and by CPU time (in which emuloss
gains nothing from its threads).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from emuloss.datasets import Rain
from emuloss.metrics import Minkowski, quantile_thresholds
from skimage.measure import euler_number, label, perimeter_crofton

FIELDS = 512
SAMPLE = 32
"""Fields for the loop over scikit-image, which would take long over all of them."""
CASES = {
    "all five outputs": ("area", "perimeter", "euler", "components", "holes"),
    "area, perimeter, euler": ("area", "perimeter", "euler"),
    "components": ("components",),
}


def rain() -> np.ndarray:
    """Synthetic rain (N, 128, 128) in mm/h."""
    source = Rain(FIELDS, size=128, seed=0, quantum=0.01)
    return np.concatenate([source.read(k, "test") for k in range(len(source))])


def straightforward(fields: np.ndarray, thresholds: Sequence[float], outputs: Sequence[str]) -> np.ndarray:
    """Curves (N, C, Q) by one call of scikit-image a field, threshold and output."""
    measures = {
        "area": lambda mask: mask.sum(),
        "perimeter": lambda mask: perimeter_crofton(mask, directions=4),
        "euler": lambda mask: euler_number(mask, connectivity=1),
        "components": lambda mask: label(mask, connectivity=1).max(),
    }
    asked = [name for name in outputs if name != "holes"]
    curves = np.empty((len(fields), len(outputs), len(thresholds)))
    for n, field in enumerate(fields):
        for q, threshold in enumerate(thresholds):
            mask = field >= threshold
            values = {name: measures[name](mask) for name in asked}
            if "holes" in outputs:
                values["holes"] = values["components"] - values["euler"]
            curves[n, :, q] = [values[name] for name in outputs]
    return curves


def speeds(work: Callable[[], np.ndarray], count: int) -> tuple[float, float]:
    """Fields per second of the clock and of CPU time, all threads together."""
    clock, cpu = time.perf_counter(), time.process_time()
    work()
    return count / (time.perf_counter() - clock), count / (time.process_time() - cpu)


def compare(
    fields: np.ndarray, thresholds: Sequence[float], outputs: Sequence[str], repeats: int
) -> list[float]:
    """Medians over the repeats: fields per second of either, their ratio, and that of CPU time."""
    teacher = Minkowski(thresholds, outputs=outputs)
    sample = fields[:: max(1, len(fields) // SAMPLE)]
    # The warm-up of both, which shows that they compute the same.
    np.testing.assert_allclose(teacher(sample), straightforward(sample, thresholds, outputs), rtol=1e-9)
    teacher(fields)
    rows = []
    for _ in range(repeats):
        loop = speeds(lambda: straightforward(sample, thresholds, outputs), len(sample))
        ours = speeds(lambda: teacher(fields), len(fields))
        rows.append((loop[0], ours[0], ours[0] / loop[0], ours[1] / loop[1]))
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Time exact Minkowski curves against scikit-image.")
    parser.add_argument("--fields", type=Path, help="rain (N, H, W) in mm/h as .npy; default: synthetic")
    parser.add_argument("--repeats", type=int, default=5, help="turns that each side takes; default: 5")
    arguments = parser.parse_args()
    fields = np.load(arguments.fields)[:FIELDS] if arguments.fields else rain()
    thresholds = quantile_thresholds(fields, wet=0.1, quantum=0.01)
    size = " x ".join(map(str, fields.shape))
    print(f"{size} fields, {np.mean(fields > 0.1):.0%} wet, {len(thresholds)} thresholds")
    print(f"{'fields/s':24}{'scikit-image':>14}{'emuloss':>12}{'ratio':>10}{'of CPU time':>14}")
    for name, outputs in CASES.items():
        loop, ours, ratio, cpu = compare(fields, thresholds, outputs, arguments.repeats)
        print(f"{name:24}{loop:14,.0f}{ours:12,.0f}{ratio:10,.0f}{cpu:14,.0f}", flush=True)


if __name__ == "__main__":
    main()
