"""Finished runs of ensembles: their scores and figures by objective, over seeds and composites."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

SCORES = ("crps", "energy", "distance", "fss 0.5", "fss 2", "fss 10")
"""What each field has, see `verification.verify`."""
ALLOWED = 1.015
"""What CRPS may be of the best combination, over that of CRPS alone."""
_RESAMPLES = 2000
_TITLES = {
    "opera": "OPERA (Europe)",
    "mch": "MeteoSwiss (Switzerland)",
    "fmi": "FMI (Finland)",
    "rain": "synthetic rain",
}

Range = tuple[float, float]


def _furthest(ratios: Any) -> float:
    """That of some ratios which is furthest from 1, as a factor: 0 is, where there is one."""
    known = [ratio for ratio in ratios if ratio is not None and math.isfinite(ratio)]
    return max(known, key=lambda ratio: abs(math.log(ratio)) if ratio else math.inf, default=math.nan)


def _spread(figures: dict[str, Any]) -> float:
    return _furthest((figures["spread_to_skill"] or {}).values())


def _unevenness(ranks: dict[str, list[float]] | None) -> float:
    """Largest deviation of a rank's share from that of flat ranks, over outputs, in % of it."""
    found = [np.array(counts) for counts in (ranks or {}).values() if sum(counts)]
    return max((100 * float(np.abs(x / x.mean() - 1).max()) for x in found), default=math.nan)


FIGURES: dict[str, Callable[[dict[str, Any]], float]] = {
    "auc": lambda figures: figures["auc"],
    "spectrum": lambda figures: figures["spectrum"],
    "rain_spectrum": lambda figures: figures["rain_spectrum"],
    "harmonics": lambda figures: _furthest(figures["harmonics"]),
    "axes": lambda figures: figures["axes"],
    "strength": lambda figures: figures["strength"],
    "q99": lambda figures: figures["q99"],
    "q99.99": lambda figures: figures["q99.99"],
    "wet": lambda figures: figures["wet"],
    "spread": _spread,
    "ranks": lambda figures: _unevenness(figures["ranks"]),
    "chance": lambda figures: _unevenness(figures["ranks_of_member"]),
}
"""What all fields of a run have together; NaN of what it lacks."""
_WORST: dict[str, Callable[[Any], float]] = {
    "axes": min,
    "harmonics": _furthest,
    "spread": _furthest,
    "ranks": max,
    "chance": max,
}
"""How seeds are taken together where it is not by their mean: faults of two shall not cancel."""


class Run(NamedTuple):
    """A network that was trained and scored.

    Attributes:
        folder: where it is.
        training: what was asked, and what happened.
        scores: `SCORES` of each test field, and "groups", the composites they are of.
        figures: of all test fields together.
    """

    folder: Path
    training: dict[str, Any]
    scores: dict[str, NDArray[Any]]
    figures: dict[str, Any]


class Row(NamedTuple):
    """The runs of an objective, one a seed."""

    name: str
    runs: list[Run]

    @property
    def label(self) -> str:
        """The objective, in words where nothing is beside its score of pixels."""
        return self.name if "+" in self.name else f"{self.name} alone"

    @property
    def deterministic(self) -> bool:
        """Whether it predicts one field, and draws none."""
        return self.runs[0].figures["members"] == 1

    def score(self, name: str) -> float:
        """Mean over seeds and fields of one of `SCORES`."""
        sums, counts = self._by_composite(name)
        return float(sums.sum() / counts.sum()) if counts.any() else math.nan

    def interval(self, name: str, than: Row | None = None) -> Range | None:
        """The middle 95 % of a score, or of its ratio to another row's, over resampled seeds and composites.

        Composites are the same for all seeds, and are drawn once for all of them, and for both rows: fields
        of one composite are not independent, nor are the scores of two networks on one field. None where
        there is but one seed or composite.
        """
        rows = [self] if than is None else [self, than]
        composites = len(np.unique(self.runs[0].scores["groups"]))
        if composites < 2 or min(len(row.runs) for row in rows) < 2:
            return None
        rng = np.random.default_rng(0)
        picked = rng.multinomial(composites, np.full(composites, 1 / composites), _RESAMPLES)
        means = [row._resampled(name, picked, rng) for row in rows]
        with np.errstate(divide="ignore", invalid="ignore"):
            found = means[0] if than is None else means[0] / means[1]
        if np.isnan(found).all():
            return None
        low, high = np.nanquantile(found, (0.025, 0.975))
        return float(low), float(high)

    def _resampled(
        self, name: str, picked: NDArray[np.int64], rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Means (R,) over seeds that are drawn and composites that were picked so often (R, G)."""
        count = len(self.runs)
        seeds = rng.multinomial(count, np.full(count, 1 / count), len(picked))
        sums, counts = ((seeds @ each * picked).sum(1) for each in self._by_composite(name))
        return np.divide(sums, counts, out=np.full(len(picked), np.nan), where=counts > 0)

    def _by_composite(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Sums and counts (S, G) of a score over the fields of each seed and composite that have one."""
        sums, counts = [], []
        for run in self.runs:
            values, places = run.scores[name], np.unique(run.scores["groups"], return_inverse=True)[1]
            told = ~np.isnan(values)
            sums.append(np.bincount(places, np.where(told, values, 0.0)))
            counts.append(np.bincount(places, told))
        return np.array(sums), np.array(counts)

    def figure(self, name: str) -> float:
        """Mean over seeds of one of `FIGURES`, or the worst of those that have a best value."""
        return float(_WORST.get(name, np.mean)(self._values(name)))

    def range(self, name: str) -> Range | None:
        """The least and the largest of a figure over seeds; None of a single one, or of what it lacks."""
        values = self._values(name)
        if len(values) < 2 or np.isnan(values).any():
            return None
        return float(values.min()), float(values.max())

    def _values(self, name: str) -> NDArray[np.float64]:
        return np.array([FIGURES[name](run.figures) for run in self.runs], float)


class Weather(NamedTuple):
    """All runs on one source of fields.

    Attributes:
        folder: where they are.
        facts: of the fields, see `ensembles.describe`.
        rows: by objective, deterministic ones first, then CRPS alone, then by energy score.
        costs: by objective, time added to a training step over that of its base.
    """

    folder: Path
    facts: dict[str, Any]
    rows: dict[str, Row]
    costs: dict[str, float]

    @property
    def title(self) -> str:
        """Its name in words: that of its folder, or else of its source, if these are known."""
        source = self.facts["asked"]["source"].partition(" ")[0]
        return _TITLES.get(self.folder.name) or _TITLES.get(source) or self.folder.name

    @property
    def control(self) -> Row | None:
        """CRPS alone."""
        return self.rows.get("crps")

    @property
    def best(self) -> Row | None:
        """Of combinations `close` to CRPS alone, that of the least energy score; of all if none is."""
        if self.control is None:
            return None
        drawn = [row for row in self.rows.values() if not row.deterministic and row is not self.control]
        within = [row for row in drawn if self.close(row)]
        return min(within or drawn, key=lambda row: row.score("energy"), default=None)

    def close(self, row: Row) -> bool:
        """Whether the CRPS of a row is at most 1.5 % above CRPS alone."""
        return self.control is not None and row.score("crps") <= ALLOWED * self.control.score("crps")

    @property
    def sharpest(self) -> Row | None:
        """Of the deterministic objectives, the one that is hardest to tell from what was observed.

        Where fields are too few for that, the one of the least energy score.
        """
        found = [row for row in self.rows.values() if row.deterministic]
        told = [row for row in found if not math.isnan(row.figure("auc"))]
        if told:
            return min(told, key=lambda row: row.figure("auc"))
        return min(found, key=lambda row: row.score("energy"), default=None)


def collect(folder: Path) -> Weather:
    """Read the finished runs of a folder.

    Raises:
        SystemExit: there are none.
    """
    found: dict[str, list[Run]] = {}
    for path in sorted(folder.glob("*/scores.json")):
        training = json.loads((path.parent / "training.json").read_text())
        with np.load(path.with_name("scores.npz")) as arrays:
            run = Run(path.parent, training, dict(arrays), json.loads(path.read_text()))
        found.setdefault(training["asked"]["name"], []).append(run)
    if not found:
        raise SystemExit(f"{folder} holds no finished run; examples/super_resolution/ensembles.py makes some")
    rows = [Row(name, runs) for name, runs in found.items()]
    rows.sort(key=lambda row: (not row.deterministic, row.name not in ("mse", "crps"), row.score("energy")))
    costs = folder / "costs.json"
    return Weather(
        folder,
        json.loads((folder / "fields.json").read_text()),
        {row.name: row for row in rows},
        json.loads(costs.read_text())["costs"] if costs.exists() else {},
    )
