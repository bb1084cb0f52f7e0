"""Losses of metrics that have no relaxation: frozen after a short training, and live.

    python benchmarks/any_metric.py [--only NAME ...] [--budget FIELDS] [--page docs/live.md]

Each metric is a plain Python function of a field. A network learns it on synthetic rain, and then 200
gradient steps change the pixels of spoilt fields, as `emuloss.evaluation.descent` has it, by that network as
it is, and by the same network where it learns beside each step. The exact metric tells how much of the
distance is gone.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

import emuloss
import numpy as np
import torch
from emuloss.datasets import Rain
from emuloss.emulators.differentiable import Differentiable
from emuloss.evaluation.descent import STARTS, descent
from emuloss.losses import Live, LiveLoss
from scipy import ndimage
from torch import Tensor, nn

_SIZE, _COUNT, _TESTED = 64, 2048, 8
"""Side of fields, number of them, and how many of the fullest are spoilt."""
_WET = 0.1


def peaks(field: np.ndarray) -> float:
    """Local maxima above 5 mm/h among their 8 neighbours."""
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    around = ndimage.maximum_filter(field, footprint=ring, mode="constant")
    return float(((field > around) & (field > 5)).sum())


def concentration(field: np.ndarray) -> float:
    """Share of the rain that falls in the wettest tenth of the pixels."""
    ordered = np.sort(field, axis=None)
    return float(ordered[-(field.size // 10) :].sum() / max(ordered.sum(), 1e-9))


def entropy(field: np.ndarray) -> float:
    """Entropy of the histogram of wet pixels in ten classes, equally wide in log rain, in nats."""
    wet = field[field >= _WET]
    if not wet.size:
        return 0.0
    counts = np.histogram(np.log10(wet), 10, (-1, 2))[0]
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(shares * np.log(shares)).sum())


def steepness(field: np.ndarray) -> float:
    """95 % quantile of the gradient's length, in mm/h per pixel."""
    return float(np.quantile(np.hypot(*np.gradient(field.astype(float))), 0.95))


def lacunarity(field: np.ndarray) -> float:
    """Mean square over squared mean of the wet pixels in windows of 8 x 8."""
    means = ndimage.uniform_filter((field >= _WET).astype(float), 8)[4::8, 4::8]
    return float((means**2).mean() / max(means.mean(), 1e-3) ** 2)


def cells(field: np.ndarray) -> float:
    """Connected regions above 1 mm/h of at least 9 pixels."""
    labels, count = ndimage.label(field > 1, np.ones((3, 3)))
    return float((np.bincount(labels.ravel(), minlength=count + 1)[1:] >= 9).sum())


METRICS: dict[str, Callable[[np.ndarray], float]] = {
    function.__name__: function for function in (peaks, cells, concentration, entropy, steepness, lacunarity)
}


class Learning(nn.Module):
    """A live loss that learns, before each step, what it was asked in the one before."""

    def __init__(self, loss: LiveLoss) -> None:
        super().__init__()
        self.loss = loss.train()

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The loss (), after it has learnt."""
        self.loss.learn()
        return self.loss(prediction, target)


def main() -> None:
    """Measure the metrics that are named, print a table, and write it to the page."""
    parser = argparse.ArgumentParser(
        description="Measure frozen and live losses of plain functions.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=METRICS, default=list(METRICS), help="metrics")
    parser.add_argument("--budget", type=int, default=25600, help="fields of the first lessons")
    parser.add_argument("--page", type=Path, help="to write the table to, between its markers")
    arguments = parser.parse_args()
    rain = Rain(_COUNT, size=_SIZE, seed=0)
    observed = np.concatenate([rain.read(k, "train") for k in range(len(rain))])
    observed, tested = observed[:-256], observed[-256:]
    full = np.argsort(-(tested >= _WET).mean((1, 2)))[:_TESTED]
    rows = [
        "| metric | R2 | from blurred: frozen | live | from noisy: frozen | live |",
        "| --- |" + 5 * " ---: |",
    ]
    print("\n".join(rows), flush=True)
    for name in arguments.only:
        rows.append(row(name, observed, tested, tested[full], arguments.budget))
        print(rows[-1], flush=True)
    if arguments.page:
        text = arguments.page.read_text()
        table = "<!-- table -->\n" + "\n".join(rows) + "\n<!-- end -->"
        arguments.page.write_text(re.sub(r"<!-- table -->.*?<!-- end -->", lambda _: table, text, flags=re.S))


def row(name: str, observed: np.ndarray, tested: np.ndarray, spoilt: np.ndarray, budget: int) -> str:
    """What was measured of a metric, as a row of a table."""
    beginning = emuloss.live(METRICS[name], observed, budget=budget)
    surrogate = beginning.surrogate
    found = [f"{fidelity(surrogate, tested):.2f}"]
    for start in STARTS:
        frozen = surrogate.as_loss(reference="exact")
        live = Learning(surrogate.as_loss(live=Live(background=False)))
        for loss in (frozen, live):
            torch.manual_seed(0)
            removed = descent(loss, surrogate.metric, spoilt, start=start, progress=True).figures["removed"]
            found.append("-" if removed is None else f"{removed:.0f} %")
    return f"| {name} | {' | '.join(found)} |"


def fidelity(surrogate: Differentiable, fields: np.ndarray) -> float:
    """R2 of a surrogate of a single number on held-out fields."""
    exact = surrogate.metric(fields).ravel()
    with torch.no_grad():
        emulated = surrogate(torch.from_numpy(fields)).numpy().ravel()
    return 1 - float(((emulated - exact) ** 2).sum() / ((exact - exact.mean()) ** 2).sum())


if __name__ == "__main__":
    main()
