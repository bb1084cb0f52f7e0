"""Exact scores of predicted fields, field by field, and their means with bootstrap intervals."""

from __future__ import annotations

import math
from typing import Any

import emuloss
import numpy as np
import torch
from emuloss.emulators.distances import CurveDistance, default_distance
from numpy.typing import NDArray
from objectives import OUTPUTS, clusters, minkowski
from torch import Tensor

RATES = (0.5, 2.0, 10.0)
"""Thresholds of the skill scores in mm/h; half a step of the data (0.01) less is compared."""
_THRESHOLDS = tuple(rate - 0.005 for rate in RATES)
_SKILLS: dict[str, dict[str, Any]] = {"fss": {"windows": [5]}, "csi": {}}
"""The skill scores, by the name of their metric: that of fractions in windows of 5 pixels."""
_BINS = np.concatenate([[-np.inf], np.geomspace(0.01, 200, 600), [np.inf]])
"""Edges of the bins of rain rates from which quantiles are taken."""
_RESAMPLES = 1000

Scores = dict[str, NDArray[np.float64]]
"""By name, the score of each field (N,); NaN where a field has none. What "wet" and "bins" count of
prediction and observation is (N, 2) and (N, 2, bins)."""


def score(prediction: Tensor, observation: Tensor) -> Scores:
    """All scores of predicted fields (N, H, W) in mm/h; pixels that were not observed count in none."""
    missing = observation.isnan()
    predicted, observed = prediction.masked_fill(missing, torch.nan).numpy(), observation.numpy()
    found: Scores = {
        "log MSE": np.nanmean(np.square(np.log1p(predicted) - np.log1p(observed)), (1, 2), dtype=np.float64),
        "MSE": np.nanmean(np.square(predicted - observed), (1, 2), dtype=np.float64),
    }
    metric = minkowski()
    curves = [torch.from_numpy(metric(fields)) for fields in (predicted, observed)]
    distances = CurveDistance(metric.levels, metric.scales)(*curves).numpy()
    found |= {name: distances[:, c] for c, name in enumerate(OUTPUTS)}
    found["distance"] = distances.sum(1)
    sizes = clusters()
    curves = [torch.from_numpy(sizes(fields)) for fields in (predicted, observed)]
    found["clusters"] = default_distance(sizes)(*curves).sum(1).numpy()
    # Below the floor lies what rounding to 0.01 mm/h adds.
    spectrum = emuloss.metric("spectrum", floor=1e-4, field_unit="mm/h")
    found["spectrum"] = np.abs(spectrum(predicted) - spectrum(observed)).mean((1, 2))
    for name in _SKILLS:
        found |= skill(name, predicted, observed)
    both = np.stack([predicted, observed], 1).reshape(len(predicted), 2, -1)
    found["wet"] = (both >= _THRESHOLDS[0]).sum(2).astype(float)
    found["bins"] = np.stack([[np.histogram(x, _BINS)[0] for x in pair] for pair in both]).astype(float)
    return found


def skill(name: str, predicted: NDArray[Any], observed: NDArray[Any]) -> Scores:
    """A skill score of predicted fields (N, H, W) at each of `RATES`, "fss 0.5" and so on."""
    values = emuloss.metric(name, thresholds=_THRESHOLDS, **_SKILLS[name])(predicted, observed)[:, 0]
    # A score says little of fields without such rain; which ones count shall not depend on the prediction.
    reached = np.stack([(observed >= u).any((1, 2)) for u in _THRESHOLDS], 1)
    values = np.where(reached, values, np.nan)
    return {f"{name} {rate:g}": values[:, q] for q, rate in enumerate(RATES)}


def mean(scores: Scores, name: str, fields: NDArray[np.intp] | slice = slice(None)) -> float:
    """A score over all fields, or some: a mean, or the ratio of prediction to observation.

    That is of the share of pixels of at least 0.5 mm/h for "wet", of the 99 % quantile of all pixels for
    "bins".
    """
    values = scores[name][fields]
    if name not in ("wet", "bins"):
        values = values[~np.isnan(values)]
        return float(values.mean()) if len(values) else math.nan
    predicted, observed = values.sum(0)
    if name == "bins":
        predicted, observed = _quantile(predicted, 0.99), _quantile(observed, 0.99)
    return float(predicted / observed) if observed else math.nan


def interval(scores: Scores, name: str, than: Scores | None = None) -> tuple[float, float]:
    """The middle 95 % of a score over resampled fields; with `than`, of its ratio to another's."""
    rng = np.random.default_rng(0)
    number = len(scores[name])
    found = []
    for _ in range(_RESAMPLES):
        fields = rng.integers(number, size=number)
        found.append(mean(scores, name, fields) / (mean(than, name, fields) if than else 1.0))
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


def _quantile(counts: NDArray[np.float64], share: float) -> float:
    """A quantile of rain rates, from the counts of their bins."""
    return float(_BINS[1:][np.searchsorted(counts.cumsum(), share * counts.sum())])
