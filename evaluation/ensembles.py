"""Ensembles of fields against what was observed, by an exact metric; no surrogate takes part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..emulators.curves import log_curves
from ..emulators.distances import CurveDistance
from ..emulators.scores import ALMOST, fairness_of, kernel_score, pairs_of
from ..errors import ArgumentError
from ..foundation.arguments import as_array, as_natural
from ..metrics import Metric
from ..metrics.fields import as_fields
from .bars import Progress, counted
from .fidelity import number

_NUMBERS = 2**24
"""Pixels, or values of pairs of curves, that are worked on at a time."""


@dataclass(frozen=True)
class EnsembleScores:
    """What `ensemble_scores` finds for N ensembles of M members, C outputs and Q thresholds.

    Smaller scores and distances are better.

    Attributes:
        metric: the exact metric.
        members: M.
        fairness: of the scores, see `emuloss.emulators.scores.kernel_score`.
        energy: (N, C), the kernel score of the curves with the distance `CurveDistance`.
        distance: (N, C), mean distance of a member's curves from the observed ones.
        crps: (N, C, Q), continuous ranked probability score of the curves' values, in the metric's units.
        log_crps: (N, C, Q), the same of slog(x/s), the signed-log scale with the output's size s
            (`Metric.scales`). Integrated over levels it is `energy`: that distance is a sum over thresholds.
        spread: (C,), root mean variance of the members on the signed-log scale, integrated over levels, times
            (M + 1)/M, which makes it comparable with the skill.
        skill: (C,), root mean square error of the ensemble mean on the same scale, likewise. As large as the
            spread if members and truth are drawn from one distribution (Fortin et al. 2014, J. Hydrometeorol.
            15, 1708).
        ranks: (C, M + 1), how often so many members lay below the observed value, over fields and thresholds
            (Hamill 2001, Mon. Wea. Rev. 129, 550). The observed value takes any of the places among those
            that equal it.
        tied: (C,), share of those counts for which all members equalled the observed value, such as those of
            dry fields: these are spread evenly over the ranks.
    """

    metric: Metric
    members: int
    fairness: float
    energy: NDArray[np.float64]
    distance: NDArray[np.float64]
    crps: NDArray[np.float64]
    log_crps: NDArray[np.float64]
    spread: NDArray[np.float64]
    skill: NDArray[np.float64]
    ranks: NDArray[np.int64]
    tied: NDArray[np.float64]

    def __str__(self) -> str:
        """A table of the means over fields, by output."""
        header = ("output", "unit", "energy score", "distance", "spread/skill")
        rows = [header]
        for name, figures in self.as_dict()["outputs"].items():
            told = (figures["energy"], figures["distance"], figures["spread_to_skill"])
            rows.append((name, figures["unit"], *("undefined" if x is None else f"{x:.4f}" for x in told)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join((*map(str.ljust, row[:2], widths), *map(str.rjust, row[2:], widths[2:])))
            for row in rows
        ]
        return "\n".join([f"{len(self.energy)} fields, {self.members} members of each, exact curves", *lines])

    def as_dict(self) -> dict[str, Any]:
        """Means over fields, JSON-able; None stands where a figure is undefined.

        "fields", "members", "fairness", "thresholds", "energy" and "distance", the sums over outputs; and in
        "outputs" for each its "unit", "energy", "distance", "crps" and "log_crps" by threshold, "spread",
        "skill" and their ratio "spread_to_skill", "ranks" and "tied".
        """
        metric = self.metric
        return {
            "fields": len(self.energy),
            "members": self.members,
            "fairness": self.fairness,
            "thresholds": list(metric.thresholds),
            "energy": number(self.energy.sum(1).mean()),
            "distance": number(self.distance.sum(1).mean()),
            "outputs": {
                name: {"unit": unit} | self._of(c)
                for c, (name, unit) in enumerate(zip(metric.outputs, metric.units, strict=True))
            },
        }

    def _of(self, output: int) -> dict[str, Any]:
        """The figures of an output."""
        spread, skill = float(self.spread[output]), float(self.skill[output])
        return {
            "energy": number(self.energy[:, output].mean()),
            "distance": number(self.distance[:, output].mean()),
            "crps": [number(value) for value in self.crps[:, output].mean(0)],
            "log_crps": [number(value) for value in self.log_crps[:, output].mean(0)],
            "spread": number(spread),
            "skill": number(skill),
            "spread_to_skill": number(spread / skill) if skill > 0 else None,
            "ranks": self.ranks[output].tolist(),
            "tied": number(self.tied[output]),
        }


def ensemble_scores(
    metric: Metric,
    members: Any,
    observed: Any,
    *,
    estimator: str = "fair",
    alpha: float = ALMOST,
    seed: int = 0,
    progress: Progress = True,
) -> EnsembleScores:
    """Score ensembles by the exact curves of their members.

    Args:
        metric: an exact metric of one field.
        members: (N, M, H, W), M fields that were drawn for each of N observed ones, in their unit; M >= 2.
        observed: (N, H, W) or (N, 1, H, W); NaN marks pixels that were not measured, which count as not
            measured in the members too.
        estimator: "fair", "almost-fair" or "plain"; see `emuloss.emulators.scores.kernel_score`.
        alpha: how fair the almost fair one is, in [0, 1].
        seed: of the ranks that observed values take among equal ones.
        progress: whether to show a bar if it takes longer than a few seconds.

    Raises:
        ArgumentError: a metric of two fields, an argument out of range, shapes that do not fit, a single
            member, or a member that lacks a pixel that was measured.
    """
    if metric.arity != 1:
        raise ArgumentError(
            f"metric {metric.title!r} compares two fields and has no curves of one; average it over members"
        )
    fairness, draw = fairness_of(estimator, alpha), np.random.default_rng(as_natural("seed", seed))
    forecast, truth = _ensembles(members, observed)
    parts = [
        _scored(metric, forecast[chunk], truth[chunk], fairness, draw)
        for chunk in counted(list(_chunks(metric, forecast.shape)), "scoring", "chunk", progress)
    ]
    energy, distance, crps, log_crps, variance, error = (
        np.concatenate(arrays) for arrays in zip(*(part.by_field for part in parts), strict=True)
    )
    ranks = np.sum([part.ranks for part in parts], axis=0)
    tied, told = np.sum([part.tied for part in parts], axis=0), ranks.sum(1)
    return EnsembleScores(
        metric=metric,
        members=forecast.shape[1],
        fairness=fairness,
        energy=energy,
        distance=distance,
        crps=crps,
        log_crps=log_crps,
        spread=np.sqrt((forecast.shape[1] + 1) / forecast.shape[1] * variance.mean(0)),
        skill=np.sqrt(error.mean(0)),
        ranks=ranks,
        tied=np.divide(tied, told, out=np.full(len(told), np.nan), where=told > 0),
    )


def _ensembles(members: Any, observed: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Validated members (N, M, H, W) and observed fields (N, H, W)."""
    truth, forecast = as_fields(observed, "observed"), as_array("members", members)
    if forecast.ndim != 4 or (len(forecast), *forecast.shape[2:]) != truth.shape or not len(truth):
        raise ArgumentError(
            f"members must have shape (N, M, H, W) and observed (N, H, W) with N >= 1, got {forecast.shape} "
            f"and {truth.shape}"
        )
    if forecast.shape[1] < 2:
        raise ArgumentError(
            f"members must hold at least 2 for each field, got {forecast.shape[1]}: a single one has no "
            "spread to score; for deterministic predictions take emuloss.evaluation.exact_distance"
        )
    return forecast, truth


def _chunks(metric: Metric, shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices of fields whose members and pairs of curves fit in memory."""
    fields, members, height, width = shape
    values = members * (members - 1) * len(metric.outputs) * len(metric.levels)
    step = max(1, _NUMBERS // max(members * height * width, values))
    yield from (slice(start, start + step) for start in range(0, fields, step))


class _Scored(NamedTuple):
    """Of a chunk of n fields.

    Attributes:
        by_field: energy and distance (n, C), CRPS and that on the signed-log scale (n, C, Q), variance of the
            members and squared error of their mean on that scale, integrated over levels (n, C).
        ranks: (C, M + 1).
        tied: (C,), counts.
    """

    by_field: tuple[NDArray[np.float64], ...]
    ranks: NDArray[np.int64]
    tied: NDArray[np.int64]


def _scored(
    metric: Metric, members: NDArray[Any], observed: NDArray[Any], fairness: float, draw: np.random.Generator
) -> _Scored:
    forecast, truth = _curves(metric, members, observed)
    x, y = (torch.from_numpy(curves) for curves in (forecast, truth))
    log_x = log_curves(x.flatten(0, 1), metric.scales).unflatten(0, x.shape[:2])
    log_y = log_curves(y, metric.scales)
    weights = CurveDistance.of(metric).weights.to(log_y.dtype)
    log_crps, away = _crps(log_x, log_y, fairness), log_x - log_y[:, None]
    by_field = (
        (log_crps * weights).sum(-1),
        (away.abs().mean(1) * weights).sum(-1),
        _crps(x, y, fairness),
        log_crps,
        (log_x.var(1) * weights).sum(-1),
        (away.mean(1) ** 2 * weights).sum(-1),
    )
    return _Scored(tuple(figure.numpy() for figure in by_field), *_ranks(forecast, truth, draw))


def _curves(
    metric: Metric, members: NDArray[Any], observed: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Exact curves of members (n, M, C, Q) and of observed fields (n, C, Q), where these were measured."""
    gaps = np.isnan(observed)[:, None]
    if gaps.any():
        members = np.where(gaps, np.nan, members)
    if missing := int((np.isnan(members) & ~gaps).sum()):
        raise ArgumentError(
            f"members must have values where observed has, got {missing} pixels without; "
            "set these NaN in observed, too"
        )
    n, m, *sides = members.shape
    curves = metric(members.reshape(n * m, *sides))
    return curves.reshape(n, m, *curves.shape[1:]), metric(observed)


def _crps(members: Tensor, truth: Tensor, fairness: float) -> Tensor:
    """The score (n, C, Q) of each number of curves (n, M, C, Q) and (n, C, Q)."""
    x = members.movedim(1, -1)
    first, second = pairs_of(x.shape[-1])
    between = (x[..., first] - x[..., second]).abs()
    return kernel_score((x - truth[..., None]).abs(), between, x.shape[-1], fairness)


def _ranks(
    members: NDArray[np.float64], truth: NDArray[np.float64], draw: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts of ranks (C, M + 1), and of values that all members equal (C,); of undefined values none."""
    count = members.shape[1]
    below, equal = ((members < truth[:, None]).sum(1), (members == truth[:, None]).sum(1))
    # Drawn for all of them, so that it does not matter how fields are split into chunks.
    places = below + (draw.random(below.shape) * (equal + 1)).astype(np.int64)
    told = np.isfinite(members).all(1) & np.isfinite(truth)
    ranks = [np.bincount(places[:, c][told[:, c]], minlength=count + 1) for c in range(truth.shape[1])]
    return np.stack(ranks), ((equal == count) & told).sum((0, 2))
