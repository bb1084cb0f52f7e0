"""Exact Minkowski curves, and what fields cost before they have any: emuloss beside the straightforward form.

    python benchmarks/exact.py [--fields FILE.npy] [--opera FOLDER] [--repeats 5]

Curves: beside a loop over scikit-image, for few and many thresholds, small and large fields. Composites of
the folder: beside h5py and NumPy as one would write it. Synthetic rain has no counterpart. Both take turns in
one run, so that a change of load on the machine meets both alike. The ratio is the median over the repeats of
fields per second, by the clock and by CPU time (in which emuloss gains nothing from its threads).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
from _timing import CLOCK, CPU, rain, take_turns
from emuloss.datasets import Opera, Rain
from emuloss.metrics import Minkowski, quantile_thresholds
from skimage.measure import euler_number, label, perimeter_crofton

FIELDS = 512
LARGE = 4
"""Fields of 1024 x 1024."""
SAMPLE = 32 * 128**2 * 21
"""Pixels, each for every threshold, for the loop over scikit-image, which would take long over all fields."""
COMPOSITES = 4
FIVE = ("area", "perimeter", "euler", "components", "holes")


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


def read_straightforwardly(path: Path) -> np.ndarray:
    """Rates of a composite by h5py and NumPy, in steps of 0.01 mm/h."""
    with h5py.File(path, locking=False) as file:
        raw = file["dataset1/data1/data"][()]
        what = file["dataset1/what"].attrs
        rates = raw * what["gain"] + what["offset"]
        rates = np.rint(rates / 0.01) * 0.01
        rates[rates < 0.1 - 1e-8] = 0
        rates[rates > 150] = 150
        rates[raw == what["undetect"]] = 0
        rates[raw == what["nodata"]] = np.nan
    return rates.astype(np.float32)


def compare(
    repeats: int, loop: Callable[[], object], ours: Callable[[], object], counts: tuple[int, int]
) -> str:
    """A row of medians over the repeats: fields per second of either, their ratio, and that of CPU time.

    Args:
        repeats: turns that each takes.
        loop: the straightforward form.
        ours: emuloss.
        counts: fields that each of them does in a turn.
    """
    seconds = take_turns(repeats, loop, ours)
    speeds = np.array(counts)[:, None] / seconds
    ratios = speeds[:, 1] / speeds[:, 0]
    columns = speeds[:, 0, CLOCK], speeds[:, 1, CLOCK], ratios[:, CLOCK], ratios[:, CPU]
    medians = [float(np.median(column)) for column in columns]
    return f"{medians[0]:14,.1f}{medians[1]:12,.0f}{medians[2]:10,.1f}{medians[3]:14,.1f}"


def curve_rows(fields: np.ndarray, large: np.ndarray, repeats: int) -> Iterator[str]:
    """Rows of exact curves."""
    many = np.linspace(0.01, 0.99, 210)
    cases = [
        ("five outputs", fields, None, FIVE),
        ("area, perimeter, euler", fields, None, ("area", "perimeter", "euler")),
        ("components", fields, None, ("components",)),
        ("five outputs", fields, many, FIVE),
        ("five outputs", large, None, FIVE),
        ("five outputs", large, many, FIVE),
    ]
    for name, batch, levels, outputs in cases:
        thresholds = quantile_thresholds(batch, *([] if levels is None else [levels]), wet=0.1, quantum=0.01)
        teacher = Minkowski(thresholds, outputs=outputs)
        afford = max(1, SAMPLE // (batch[0].size * len(thresholds)))
        sample = batch[:: -(-len(batch) // afford)]
        # The warm-up of both, which shows that they compute the same.
        expected = straightforward(sample, thresholds, outputs)
        np.testing.assert_allclose(teacher(sample), expected, rtol=1e-9)
        row = compare(
            repeats,
            lambda: straightforward(sample, thresholds, outputs),  # noqa: B023  # called before the next case
            lambda: teacher(batch),  # noqa: B023
            (len(sample), len(batch)),
        )
        size = " x ".join(map(str, batch.shape[1:]))
        yield f"{f'{name}, {size}, Q = {len(thresholds)}':46}{row}"


def composite_row(folder: Path, repeats: int) -> str:
    """The row of composites that are read."""
    source = Opera(folder, size=None)
    some = range(min(COMPOSITES, len(source)))
    for k in some:
        np.testing.assert_array_equal(source.read_frame(k), read_straightforwardly(source.entries[k].path))
    row = compare(
        repeats,
        lambda: [read_straightforwardly(source.entries[k].path) for k in some],
        lambda: [source.read_frame(k) for k in some],
        (len(some), len(some)),
    )
    return f"{'composites read (h5py and NumPy)':46}{row}"


def rain_row(repeats: int) -> str:
    """The row of synthetic rain, which has no counterpart."""
    source = Rain(FIELDS, size=128)
    source.read(0, "test")
    seconds = take_turns(repeats, lambda: source.read(1, "test"))[:, 0, CPU]
    return f"{'rain drawn, 128 x 128, on one core':46}{'-':>14}{source.chunk / np.median(seconds):12,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Time exact curves, and drawing and reading fields.")
    parser.add_argument("--fields", type=Path, help="rain (N, H, W) in mm/h as .npy; default: synthetic")
    parser.add_argument("--opera", type=Path, help="folder of ODIM composites in mm/h; default: none is read")
    parser.add_argument("--repeats", type=int, default=5, help="turns that each side takes; default: 5")
    arguments = parser.parse_args()
    fields = np.load(arguments.fields)[:FIELDS] if arguments.fields else rain(FIELDS)
    size = " x ".join(map(str, fields.shape))
    print(f"{size} fields, {np.mean(fields > 0.1):.0%} wet; larger ones are synthetic rain")
    print(f"{'fields/s':46}{'scikit-image':>14}{'emuloss':>12}{'ratio':>10}{'of CPU time':>14}")
    for row in curve_rows(fields, rain(LARGE, 1024)[:LARGE], arguments.repeats):
        print(row, flush=True)
    print(rain_row(arguments.repeats), flush=True)
    if arguments.opera:
        print(composite_row(arguments.opera, arguments.repeats))


if __name__ == "__main__":
    main()
