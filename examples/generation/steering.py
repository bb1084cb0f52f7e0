"""What is asked of samples, the guidances that ask for it, and how samples are measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import emuloss
import torch
from emuloss.evaluation import classifier_test, spectrum_error
from emuloss.losses import Guidance, Guidances
from flow import (
    STEPS,
    Correct,
    Flow,
    Told,
    as_radar,
    from_physical,
    noise,
    renoised,
    sample,
    steered,
    to_physical,
)
from torch import Tensor
from torch.nn import functional as F

COARSE = 8
"""Side in pixels of the cells whose means super-resolution is given."""
LATE = 0.85
"""Share of the sampling from which on guidance no longer goes through the model, but takes many steps."""
LATE_STEPS = 15
"""Gradient steps of late guidance at each step of the sampling."""
PIXEL_SIZE = 2.0
METRIC = emuloss.metric(
    "minkowski",
    thresholds=[0.5, 1, 2, 5],
    pixel_size=PIXEL_SIZE,
    length_unit="km",
    outputs=("area", "perimeter", "components"),
)
"""In km^2, km, and numbers."""


def curves_of(rain: Tensor) -> Tensor:
    """Exact curves (N, C, Q) of rain (N, H, W)."""
    return torch.from_numpy(METRIC(rain.numpy())).float()


def to_curves(
    curves: Tensor, held: Tensor, strength: float = 0.5, steps: int = LATE_STEPS
) -> tuple[Guidance, Guidance]:
    """Guidances to curves (N, C, Q), early and late in the sampling; the latter in many steps."""

    def asked(**how: Any) -> Guidance:
        loss = emuloss.relax(METRIC, fields=held.numpy()).as_loss(forward="exact", reduction="none")
        return Guidance(loss, target_curves=curves, to_physical=to_physical, **how)

    return (
        asked(strength=strength, anneal=(0.5, 0.1)),
        asked(strength=2 * strength, anneal=(0.1, 0.05), steps=steps),
    )


def early_and_late(
    early: Guidance | Guidances,
    late: Guidance | Guidances,
    *,
    through: bool = True,
    asked: Callable[[float], bool] = lambda t: True,
    held: bool = False,
    half: bool = False,
) -> Correct:
    """One guidance, then another one without the model.

    Args:
        early: through the model, if so.
        late: from LATE on, in each step.
        through: whether the early one is to go through the model.
        asked: whether to ask the early one, by the share of the sampling that is done.
        held: whether what it added last is added where it is not asked; else nothing is.
        half: whether the model computes in bfloat16 where it is asked.
    """
    first, second = steered(early, through, half), steered(late, False, half)
    last: list[Tensor] = []

    def correct(x: Tensor, t: float, told: Told) -> tuple[Tensor, Tensor]:
        if t >= LATE:
            return second(x, t, told)
        if asked(t):
            velocity, added = first(x, t, told)
            last[:] = [added]
            return velocity, added
        return told(x)[0], last[0] if held and last else torch.zeros_like(x)

    return correct


def wishes(curves: Tensor) -> dict[str, Tensor]:
    """Curves (C, Q) of one's choice, made of those of a field: by the title of what is asked."""
    area, perimeter, components = curves
    return {
        "a field held out": curves,
        "its area, in half as many cells": torch.stack([area, perimeter * 0.7, (components / 2).round()]),
        "its area, in twice as many cells": torch.stack([area, perimeter * 1.4, components * 2]),
        "infeasible: four times as many cells, a third of the perimeter": torch.stack(
            [area, perimeter / 3, components * 4]
        ),
    }


def coarse(rain: Tensor) -> Tensor:
    """Means (N, H / COARSE, W / COARSE) in mm/h of rain (N, H, W)."""
    return F.avg_pool2d(rain[:, None], COARSE)[:, 0]


def to_means(means: Tensor, strength: float = 1.0) -> tuple[Guidance, Guidance]:
    """Guidances to coarse means, early and late; distances that are roots fall linearly, as steps expect."""

    def away(rain: Tensor) -> Tensor:
        return (coarse(rain).log1p() - means.log1p()).flatten(1).norm(dim=1)

    return (
        Guidance(away, strength=strength, to_physical=to_physical),
        Guidance(away, strength=strength, to_physical=to_physical, steps=LATE_STEPS),
    )


def distances(rain: Tensor, curves: Tensor) -> Tensor:
    """Exact distances (N, C) of the curves of rain from others, as the loss has them."""
    return emuloss.relax(METRIC).as_loss().distance(curves_of(rain), curves)


def drawn(flow: Flow, count: int, size: int, seed: int, correct: Correct | None) -> tuple[Tensor, float]:
    """Samples (count, size, size) in mm/h as radar has them, and the processor seconds that one took."""
    began = time.process_time()
    x = sample(flow, noise(count, size, seed), correct=correct)
    return as_radar(x), (time.process_time() - began) / count


def measured(rain: Tensor, seconds: float, curves: Tensor, held: Tensor, steps: int) -> dict[str, Any]:
    """Figures of samples, asked one by one for the curves of held fields; steps: of the classifier."""
    logs, truth = rain.log1p(), held.log1p()
    found = {
        "distance": float(distances(rain, curves).sum(1).mean()),
        "components": float(distances(rain, curves)[:, METRIC.outputs.index("components")].mean()),
        "spectrum": spectrum_error(logs.numpy(), truth.numpy()),
        "diversity": float(torch.pdist(from_physical(rain).flatten(1)).mean()),
        "seconds": seconds,
    }
    if steps:
        found["auc"] = classifier_test(rain.numpy(), held.numpy(), steps=steps, progress=False).auc
    return found


def energy(rain: Tensor, held: Tensor) -> tuple[float, float]:
    """Score of curves of samples against held fields, exact and fair, and how far it is above its least."""
    loss = emuloss.relax(METRIC).as_loss()

    def mean(first: Tensor, second: Tensor, same: bool) -> float:
        n, m = len(first), len(second)
        both = loss.distance(first.repeat_interleave(m, 0), second.repeat(n, 1, 1)).sum()
        return float(both / (n * (m - 1) if same else n * m))

    x, y = curves_of(rain), curves_of(held)
    score = mean(x, y, False) - mean(x, x, True) / 2
    return score, score - mean(y, y, True) / 2


def resampled(
    flow: Flow,
    away: Callable[[Tensor], Tensor],
    count: int,
    size: int,
    seed: int,
    particles: int,
    at: tuple[int, ...] = (4, 8, 12),
) -> tuple[Tensor, float]:
    """Samples without gradients: of several particles each, the one that is least away; as `drawn`.

    Before some steps (at) a half of them is kept, those whose estimates of the clean field are least away;
    two copies of each go back a step by fresh noise, and on from there. Particle filters of diffusion models
    (Singhal et al. 2025, arXiv 2501.06848) do likewise, and draw them by weights instead.

    Args:
        flow: the network.
        away: values (N,) of rain (N, H, W), for sample n in the n-th place.
        count: samples.
        size: side in pixels.
        seed: of all noise.
        particles: of each sample, an even number.
        at: steps; none: the best is chosen at the end alone.
    """
    torch.manual_seed(seed)
    guidance = Guidance(away, to_physical=as_radar)
    began, step = time.process_time(), 0
    x = noise(count * particles, size, seed)

    def kept(fields: Tensor, number: int) -> Tensor:
        """Places (count, number) among the particles."""
        return guidance.best(fields.unflatten(0, (count, particles)), keep=number)

    rows = torch.arange(count)[:, None]
    for stop in at:
        x = sample(flow, x, begin=step, end=stop)
        t, step = stop / STEPS, stop - 1
        with torch.no_grad():
            clean = x + (1 - t) * flow(x, torch.full((len(x),), t))
        number = particles // 2
        x = x.unflatten(0, (count, particles))[rows, kept(clean, number)]
        x = renoised(x.repeat_interleave(2, 1).flatten(0, 1), t, step / STEPS)
    rain = sample(flow, x, begin=step)
    chosen = as_radar(rain).unflatten(0, (count, particles))[rows, kept(rain, 1)][:, 0]
    return chosen, (time.process_time() - began) / count


def by_persistence(held: Tensor) -> tuple[Guidance, Guidance]:
    """Guidance by Wasserstein distances between persistence diagrams of components, by gudhi.

    Raises:
        ArgumentError: torch-topological or gudhi is missing.
    """
    from terms.persistence import PersistenceDistance

    class Components(PersistenceDistance):
        def _between(self, diagrams: Any, observed: Any) -> Tensor:
            return super()._between(diagrams[:1], observed[:1])

    objective = Components(pool=1)

    def away(rain: Tensor) -> Tensor:
        return objective.losses(rain.log1p()[:, None], held.log1p())

    return (
        Guidance(away, strength=0.5, to_physical=to_physical),
        Guidance(away, strength=1.0, to_physical=to_physical, steps=LATE_STEPS),
    )
