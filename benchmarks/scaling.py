"""Time and memory by size of field, number of thresholds and size of batch: the tables of docs/speed.md.

    python benchmarks/scaling.py [--quick] [--page FILE.md] [--threads N]

Writes the tables between the markers of the page, and a picture of them into the folder of its name. Times
are the least of several calls, by the clock: run it on an idle machine. With --quick it takes a few small
fields, to see that it works.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import emuloss
import numba
import numpy as np
import torch
from _timing import rain
from emuloss.emulators import ARCHITECTURES
from emuloss.evaluation.axes import COLOURS, INK
from emuloss.evaluation.sheet import Row, write_sheet
from emuloss.losses import FrozenSurrogate, SurrogateLoss
from emuloss.metrics import Minkowski, quantile_thresholds
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from torch import Tensor

PAGE = Path(__file__).resolve().parent.parent / "docs" / "speed.md"
OUTPUTS = ("area", "perimeter", "euler", "components", "holes")
NETWORK = "minkowski-opera-constrained"
SIDES, COUNTS, BATCHES = (64, 128, 256, 512, 1024, 2048), (5, 21, 84, 210), (1, 4, 16, 64)
QUICK = ((32, 64), (5, 21), (1, 2))
SIDE, COUNT, BATCH = 128, 21, 16
"""What two of the three are while the third one varies; of large fields there are fewer."""
PIXELS = BATCH * SIDE**2
SECONDS, CALLS = 0.25, 3
"""Calls are repeated for so long, and so often at least."""
_PEAK, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Case(NamedTuple):
    """Fields and thresholds: how many fields, their edge, how many thresholds."""

    batch: int
    side: int
    count: int


class Cost(NamedTuple):
    """What a call costs, per pixel of its fields: nanoseconds, and bytes at the peak (NaN if unknown)."""

    time: float
    memory: float


Work = Callable[[np.ndarray, Minkowski], Callable[[], object]]
"""Fields (N, H, W) and a metric -> what is timed."""


def labels(fields: np.ndarray, metric: Minkowski) -> Callable[[], object]:
    """Exact curves."""
    return lambda: metric(fields)


def forward(fields: np.ndarray, metric: Minkowski) -> Callable[[], object]:
    """The default loss, without gradient."""
    loss, (prediction, target) = SurrogateLoss(ARCHITECTURES["excursion"](metric)), _two(fields)

    def call() -> None:
        with torch.no_grad():
            loss(prediction, target)

    return call


def default(fields: np.ndarray, metric: Minkowski) -> Callable[[], object]:
    """The default loss and its gradient."""
    return _step(SurrogateLoss(ARCHITECTURES["excursion"](metric)), fields)


def relaxed(fields: np.ndarray, metric: Minkowski) -> Callable[[], object]:
    """The relaxed loss of the three local outputs, and its gradient."""
    return _step(emuloss.relax(Minkowski(metric.thresholds)).as_loss(), fields)


def network(fields: np.ndarray, metric: Minkowski) -> Callable[[], object]:
    """The loss of the bundled network and its gradient; for other thresholds, of one that is not trained."""
    bundled = emuloss.load(NETWORK)
    if len(metric.thresholds) == len(bundled.thresholds):
        return _step(bundled.as_loss(), fields)
    kind = Minkowski(metric.thresholds, outputs=bundled.outputs)
    fresh = ARCHITECTURES[bundled.architecture](kind)
    return _step(FrozenSurrogate(fresh, bundled.architecture).as_loss(), fields)


WORKS: dict[str, Work] = {
    "exact labels": labels,
    "default loss, value": forward,
    "default loss, step": default,
    "relaxed loss, step": relaxed,
    "network loss, step": network,
}
"""Under the names of the tables; a step is the value and the gradient."""


def _two(fields: np.ndarray) -> tuple[Tensor, Tensor]:
    """A prediction, and a target that is another field, both (N, H, W)."""
    return torch.from_numpy(fields), torch.from_numpy(fields[:, ::-1].copy())


def _step(loss: SurrogateLoss, fields: np.ndarray) -> Callable[[], object]:
    prediction, target = _two(fields)
    leaf = prediction.clone().requires_grad_()
    return lambda: torch.autograd.grad(loss(leaf, target), leaf)


# What it costs


def cost(call: Callable[[], object], pixels: int) -> Cost:
    """What a call costs, after one that warms up."""
    call()
    memory = peak(call)
    taken: list[float] = []
    while len(taken) < CALLS or sum(taken) < SECONDS:
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return Cost(1e9 * min(taken) / pixels, memory / pixels)


def peak(call: Callable[[], object]) -> float:
    """Bytes by which the process grows during a call; NaN where the system does not tell (not Linux)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # so that no free memory of earlier calls is at hand
    try:
        _RESET.write_text("5")
        before = _resident("VmRSS")
        call()
        return max(_resident("VmHWM") - before, 0.0)
    except OSError:
        return float("nan")


def _resident(key: str) -> float:
    found = re.search(rf"^{key}:\s+(\d+) kB", _PEAK.read_text(), re.MULTILINE)
    return 1024.0 * int(found[1]) if found else float("nan")


def costs(case: Case, levels: np.ndarray) -> dict[str, Cost]:
    """What each work costs of rain; levels: thresholds (21,) to choose from, or to refine."""
    fields = rain(case.batch, size=case.side)[: case.batch]
    places = np.linspace(0, len(levels) - 1, case.count)
    metric = Minkowski(np.interp(places, np.arange(len(levels)), levels), outputs=OUTPUTS)
    return {name: cost(work(fields, metric), fields.size) for name, work in WORKS.items()}


def cases(sides: Sequence[int], counts: Sequence[int], batches: Sequence[int]) -> dict[str, list[Case]]:
    """The rows of each table."""
    return {
        "side": [Case(min(max(PIXELS // side**2, 1), 64), side, COUNT) for side in sides],
        "thresholds": [Case(BATCH, SIDE, count) for count in counts],
        "batch": [Case(batch, SIDE, COUNT) for batch in batches],
    }


# The page


def table(heading: str, rows: Sequence[tuple[str, dict[str, Cost]]]) -> str:
    """Nanoseconds and bytes a pixel, in Markdown."""
    lines = [f"| {heading} | {' | '.join(WORKS)} |", f"| --- |{' ---: |' * len(WORKS)}"]
    for name, found in rows:
        cells = (f"{_three(each.time)} ns, {_bytes(each.memory)}" for each in found.values())
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _three(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _bytes(value: float) -> str:
    return "-" if value != value else f"{value:.0f} B"


def put(page: Path, name: str, text: str) -> None:
    """Write text between the markers of that name.

    Raises:
        RuntimeError: the page has no such markers.
    """
    between = re.compile(f"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    whole, number = between.subn(lambda found: f"{found[1]}{text}\n{found[2]}", page.read_text())
    if number != 1:
        raise RuntimeError(f"{page} has no place marked <!-- {name} -->")
    page.write_text(whole)


_TITLES = {"side": "edge of a field, pixels", "thresholds": "thresholds", "batch": "fields in a batch"}
_UNITS = {"time": "ns a pixel", "memory": "bytes a pixel, at the peak"}


def picture(path: Path, found: dict[str, list[tuple[Case, dict[str, Cost]]]]) -> None:
    """Time in the upper row, memory in the lower one, against what varies."""
    write_sheet(path, [Row(3.6, lambda place, of=of: _draw(place, of, found)) for of in _UNITS])


def _draw(place: SubFigure, of: str, found: dict[str, list[tuple[Case, dict[str, Cost]]]]) -> None:
    panels: Sequence[Axes] = place.subplots(1, len(found), sharey=True)
    for axes, (kind, rows) in zip(panels, found.items(), strict=True):
        x = [{"side": case.side, "thresholds": case.count, "batch": case.batch}[kind] for case, _ in rows]
        for name, colour, mark in zip(WORKS, COLOURS, "osD^v", strict=False):
            y = [getattr(each[name], of) or float("nan") for _, each in rows]
            axes.plot(x, y, marker=mark, color=colour, markersize=4, linewidth=1.6, label=name)
        axes.set(xscale="log", yscale="log", xlabel=_TITLES[kind])
        axes.xaxis.set_major_locator(FixedLocator(x))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panels[0].set_ylabel(_UNITS[of], color=INK)
    if of == "time":
        place.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(WORKS))


def _machine() -> str:
    """What it ran on, in a line."""
    name = platform.processor() or platform.machine()
    with suppress(OSError):
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        name = found[1] if found else name
    threads = f"{torch.get_num_threads()} threads of {os.cpu_count()} cores"
    return f"{name}, {threads}, torch {torch.__version__.partition('+')[0]}, {time.strftime('%Y-%m-%d')}."


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Tables of time and memory for docs/speed.md.")
    parser.add_argument("--quick", action="store_true", help="a few small fields, to see that it works")
    parser.add_argument("--page", type=Path, default=PAGE, help="where to write; default: docs/speed.md")
    parser.add_argument("--threads", type=int, help="threads; default: one a core")
    arguments = parser.parse_args(words)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
        numba.config.NUMBA_NUM_THREADS = arguments.threads
    levels = np.asarray(quantile_thresholds(rain(64), wet=0.1, quantum=0.01))
    found: dict[str, list[tuple[Case, dict[str, Cost]]]] = {}
    known: dict[Case, dict[str, Cost]] = {}
    for kind, asked in cases(*(QUICK if arguments.quick else (SIDES, COUNTS, BATCHES))).items():
        found[kind] = []
        for case in asked:
            known[case] = known.get(case) or costs(case, levels)
            found[kind].append((case, known[case]))
            print(f"{case.batch} x {case.side} x {case.side}, {case.count} thresholds", flush=True)
    rows = {
        "side": [(f"{case.batch} x {case.side} x {case.side}", each) for case, each in found["side"]],
        "thresholds": [(str(case.count), each) for case, each in found["thresholds"]],
        "batch": [(str(case.batch), each) for case, each in found["batch"]],
    }
    for kind, heading in (("side", "fields"), ("thresholds", "thresholds"), ("batch", "fields in a batch")):
        text = table(heading, rows[kind])
        print(f"\n{text}")
        put(arguments.page, kind, text)
    put(arguments.page, "machine", _machine())
    folder = arguments.page.with_suffix("")
    folder.mkdir(exist_ok=True)
    picture(folder / "scaling.png", found)


if __name__ == "__main__":
    main()
