"""What is measured of a flow, one row after the other; what is measured already is not repeated."""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from counting import counts, differences, losses, to_peaks
from emuloss.errors import ArgumentError
from emuloss.losses import SurrogateLoss
from files import check_asked, whole, write_json
from flow import STEPS, Correct, Flow
from learning import rain
from steering import (
    LATE_STEPS,
    METRIC,
    by_persistence,
    coarse,
    curves_of,
    distances,
    drawn,
    early_and_late,
    energy,
    measured,
    resampled,
    to_curves,
    to_means,
    wishes,
)
from torch import Tensor
from tuning import tuned

_HELD_OUT, _FURTHER = 100_000, 200_000
"""Seeds of the fields held out, and of as many others, far from those of the training."""
_PARTICLES = 8
_TURNS = 4
_EACH = 5
"""Samples of each asked curve in the picture."""
_LESS: dict[str, dict[str, Any]] = {
    "twice as many late": {"steps": 2 * LATE_STEPS},
    "every second": {"asked": lambda t: round(t * STEPS) % 2 == 0},
    "every second held": {"asked": lambda t: round(t * STEPS) % 2 == 0, "held": True},
    "from a quarter": {"asked": lambda t: t >= 0.25},
    "to half": {"asked": lambda t: t < 0.5},
    "late alone": {"asked": lambda t: False},
    "half precision": {"half": True},
    "without the model": {"through": False},
}
"""What guidances do that cost less, or more."""

Draw = Callable[[], tuple[Tensor, float]]
"""Samples, and the processor seconds of one."""


class Run:
    """Figures of a flow in results.json, and samples beside it.

    Args:
        flow: frozen.
        arguments: of the command line.

    Raises:
        SystemExit: the folder holds another run.
    """

    def __init__(self, flow: Flow, arguments: argparse.Namespace) -> None:
        self.flow, self.arguments = flow, arguments
        self.count, self.few, self.size = arguments.count, arguments.few, arguments.size
        self.held = rain(self.count, self.size, _HELD_OUT)
        self.curves, self.peaks = curves_of(self.held), counts(self.held)
        self.path = arguments.out / "results.json"
        names = ("count", "size", "few", "lessons", "tuning", "classifier")
        asked = {name: getattr(arguments, name) for name in names}
        self.results: dict[str, Any] = {"asked": asked, "rows": {}}
        if self.path.exists():
            self.results = json.loads(self.path.read_text())
        check_asked(self.results["asked"], asked, arguments.out)
        # What is compiled on first use is not timed.
        drawn(flow, 2, self.size, 1, self._guided(2))

    def steer(self) -> None:
        """Samples without guidance, with it, and with too much; and further fields, as if drawn."""
        self._row("unguided", self._plain(), self._energy, self._counted)
        further = rain(self.count, self.size, _FURTHER)
        self._row("further fields", lambda: (further, 0.0), self._energy)
        self._row("guided", self._plain(self._guided()), self._timed())
        self._row("too strong", self._plain(self._guided(strength=5.0)))

    def steer_at_less_cost(self) -> None:
        """Samples guided less often, or without the model, or with more steps."""
        for name, how in _LESS.items():
            self._row(name, self._plain(self._guided(**how)), self._timed(**how))

    def refine(self) -> None:
        """Fine fields of coarse means, without and with curves."""
        first, then = to_means(coarse(self.held))
        early, late = to_curves(self.curves, self.held)

        def missed(samples: Tensor) -> dict[str, float]:
            return {"means": float((coarse(samples) - coarse(self.held)).square().mean().sqrt())}

        self._row("means alone", self._plain(early_and_late(first, then)), missed)
        self._row("means and curves", self._plain(early_and_late(first + early, then + late)), missed)

    def choose(self) -> None:
        """Few samples, beside guidance by persistence and the best of particles."""
        few, curves = self.few, self.curves[: self.few]
        self._row("few unguided", self._plain(few=few))
        self._row("few guided", self._plain(self._guided(few), few))
        try:
            persistent = early_and_late(*by_persistence(self.held[:few]))
        except ArgumentError as error:
            print(f"no guidance by persistence: {error}")
        else:
            self._row("few by persistence", self._plain(persistent, few))
        self._row("few best", self._best(lambda samples: distances(samples, curves).sum(1), few, ()))
        self._row("few resampled", self._best(lambda samples: distances(samples, curves).sum(1), few))

    def count_peaks(self) -> None:
        """Samples with as many peaks as the fields held out: by networks, and by particles."""
        for name in ("frozen", "live"):
            self._row(f"peaks {name}", functools.partial(self._by_network, name), self._counted)

        def away(samples: Tensor) -> Tensor:
            return differences(samples, self.peaks)

        self._row("peaks best", self._best(away, self.count, ()), self._counted)
        self._row("peaks resampled", self._best(away, self.count), self._counted)

    def grant(self) -> None:
        """Samples for curves of one's choice, and what was asked and what they have."""
        if "wishes" not in self.results:
            self.results["wishes"] = self._granted()
            write_json(self.path, self.results)

    def tune(self) -> None:
        """Samples of a network that is fine-tuned by the score of curves."""

        def draw() -> tuple[Tensor, float]:
            data = rain(min(1024, self.arguments.fields), self.size, 0)
            pool = 256 if self.size >= 64 else 16
            model = tuned(self.flow, data, steps=self.arguments.tuning, batch=16, pool=pool)
            return drawn(model, self.count, self.size, 1, None)

        self._row("fine-tuned", draw, self._energy)

    def _row(self, name: str, draw: Draw, *also: Callable[[Tensor], dict[str, Any]]) -> None:
        """Measure samples, unless that is done; also: further figures of them."""
        if name in self.results["rows"]:
            return
        samples, seconds = draw()
        few = len(samples)
        steps = self.arguments.classifier if few == self.count else 0
        row = measured(samples, seconds, self.curves[:few], self.held[:few], steps)
        for more in also:
            row |= more(samples)
        self.results["rows"][name] = row
        print(name, row, flush=True)
        with whole(self.path.parent / f"{name}.npz") as part, part.open("wb") as file:
            np.savez_compressed(file, rain=samples.numpy())
        write_json(self.path, self.results)

    def _plain(self, correct: Correct | None = None, few: int | None = None) -> Draw:
        return lambda: drawn(self.flow, few or self.count, self.size, 1, correct)

    def _best(self, away: Callable[[Tensor], Tensor], count: int, *at: tuple[int, ...]) -> Draw:
        return lambda: resampled(self.flow, away, count, self.size, 1, _PARTICLES, *at)

    def _guided(
        self, few: int | None = None, strength: float = 0.5, steps: int = LATE_STEPS, **how: Any
    ) -> Correct:
        curves = self.curves[: few or self.count]
        return early_and_late(*to_curves(curves, self.held, strength, steps), **how)

    def _by_network(self, name: str) -> tuple[Tensor, float]:
        guidances = to_peaks(self._networks[name], self.peaks)
        return drawn(self.flow, self.count, self.size, 1, early_and_late(*guidances))

    @functools.cached_property
    def _networks(self) -> dict[str, SurrogateLoss]:
        data = rain(min(1024, self.arguments.fields), self.size, 0)
        return losses(data, self.arguments.lessons)

    def _energy(self, samples: Tensor) -> dict[str, Any]:
        return {"energy": energy(samples, self.held)}

    def _counted(self, samples: Tensor) -> dict[str, float]:
        away = differences(samples, self.peaks)
        return {
            "peaks": float((counts(samples) - self.peaks).abs().mean()),
            "log_peaks": float(away.mean()),
        }

    def _timed(self, **how: Any) -> Callable[[Tensor], dict[str, float]]:
        """The time of a sample so guided, times that of one without."""

        def ratio(_: Tensor) -> dict[str, float]:
            # By turns, and the fastest of each, as the machine has other work.
            ways = (None, self._guided(self.few, **how))
            turns = [
                [drawn(self.flow, self.few, self.size, 1, way)[1] for way in ways] for _ in range(_TURNS)
            ]
            without, guided = np.min(turns, axis=0)
            return {"times": float(guided / without)}

        return ratio

    def _granted(self) -> list[dict[str, Any]]:
        # A field with a wet share in the middle of the wetter half.
        wet = (self.held >= METRIC.thresholds[0]).flatten(1).sum(1)
        chosen = self.held[wet.argsort()[3 * len(self.held) // 4]]
        free, _ = drawn(self.flow, _EACH, self.size, 2, None)
        found, kept = [], []
        for title, asked in wishes(curves_of(chosen[None])[0]).items():
            curves = asked.expand(_EACH, -1, -1)
            samples, _ = drawn(self.flow, _EACH, self.size, 2, early_and_late(*to_curves(curves, self.held)))
            kept.append(samples.numpy())
            found.append(
                {
                    "title": title,
                    "asked": asked.tolist(),
                    "has": curves_of(samples).tolist(),
                    "distance": float(distances(samples, curves).sum(1).mean()),
                }
            )
        with whole(self.path.parent / "wishes.npz") as part, part.open("wb") as file:
            np.savez_compressed(file, rain=np.stack(kept), free=free.numpy())
        return found
