"""Exact Minkowski curves: emuloss against the straightforward loop over scikit-image, side by side.

    python benchmarks/exact.py [--fields FILE.npy] [--repeats 5]

Both take turns in one run, so that a change of load on the machine meets both alike. The ratio is
the median over the repeats of fields per second, by the clock and by CPU time (in which emuloss
gains nothing from its threads).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from _timing import CLOCK, CPU, rain, take_turns
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


def compare(
    fields: np.ndarray, thresholds: Sequence[float], outputs: Sequence[str], repeats: int
) -> list[float]:
    """Medians over the repeats: fields per second of either, their ratio, and that of CPU time."""
    teacher = Minkowski(thresholds, outputs=outputs)
    sample = fields[:: max(1, len(fields) // SAMPLE)]
    # The warm-up of both, which shows that they compute the same.
    np.testing.assert_allclose(teacher(sample), straightforward(sample, thresholds, outputs), rtol=1e-9)
    teacher(fields)
    seconds = take_turns(
        repeats, lambda: straightforward(sample, thresholds, outputs), lambda: teacher(fields)
    )
    speeds = np.array([len(sample), len(fields)])[:, None] / seconds
    ratios = speeds[:, 1] / speeds[:, 0]
    columns = speeds[:, 0, CLOCK], speeds[:, 1, CLOCK], ratios[:, CLOCK], ratios[:, CPU]
    return [float(np.median(column)) for column in columns]


def main() -> None:
    parser = argparse.ArgumentParser(description="Time exact Minkowski curves against scikit-image.")
    parser.add_argument("--fields", type=Path, help="rain (N, H, W) in mm/h as .npy; default: synthetic")
    parser.add_argument("--repeats", type=int, default=5, help="turns that each side takes; default: 5")
    arguments = parser.parse_args()
    fields = np.load(arguments.fields)[:FIELDS] if arguments.fields else rain(FIELDS)
    thresholds = quantile_thresholds(fields, wet=0.1, quantum=0.01)
    size = " x ".join(map(str, fields.shape))
    print(f"{size} fields, {np.mean(fields > 0.1):.0%} wet, {len(thresholds)} thresholds")
    print(f"{'fields/s':24}{'scikit-image':>14}{'emuloss':>12}{'ratio':>10}{'of CPU time':>14}")
    for name, outputs in CASES.items():
        loop, ours, ratio, cpu = compare(fields, thresholds, outputs, arguments.repeats)
        print(f"{name:24}{loop:14,.0f}{ours:12,.0f}{ratio:10,.0f}{cpu:14,.0f}", flush=True)


if __name__ == "__main__":
    main()
