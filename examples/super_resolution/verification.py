"""Exact scores of members against what was observed, and whether they look like it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from emuloss.emulators.distances import CurveDistance
from emuloss.evaluation.ensembles import EnsembleScores, ensemble_scores
from emuloss.evaluation.realism import energy_test, grid_harmonics, log_spectrum, main_axes, spectrum_error
from emuloss.evaluation.two_sample import classifier_test
from numpy.typing import NDArray
from objectives import minkowski
from scores import skill
from terms.pixels import crps
from torch import Tensor

GRIDS = (2, 4, 8, 16)
"""Periods in pixels that a network which halves and doubles may leave."""
_BATCH = 16
_FOLDS, _FEWEST = 4, 100
"""Parts of the fields in which a network is tried to tell them apart, and fields of which it may learn to."""
_REPORTED, _STEP = 0.1, 0.01
"""Least rain that radar reports, and the step of its values, in mm/h."""


def verify(
    members: Tensor, observed: Tensor, groups: Tensor
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Scores by field, and figures of all fields together.

    Args:
        members: (N, M, H, W) in mm/h; M = 1 is of a deterministic prediction, whose scores are errors.
        observed: (N, H, W), NaN where nothing was measured.
        groups: (N,), fields of one composite have one number.

    Returns:
        By field "crps" of log(1 + rain), "distance" and "energy" of the exact curves, and "fss R" (N,) of
        each rate, NaN where no such rain was observed; members' means but for scores of all. And JSON-able:
        "spectrum" error of log(1 + rain), "rain_spectrum" of rain, those between two halves of the observed
        fields, "log_spectra" of log(1 + rain), "auc" (NaN of few fields), "harmonics", "axes" (p-value),
        "strength" of the axes, "q99", "q99.99" and "wet" over the observed ones, and by output, without what
        all members equal, "spread_to_skill", "ranks" of the observed and "ranks_of_member", those of the
        first member among the others (None of a single member).
    """
    members = members.masked_fill(observed.isnan()[:, None], torch.nan)
    scored = None if members.shape[1] == 1 else _scored(members, observed)
    by_field = _scores(members, observed, scored)
    fields = [_reported(members[:, 0]), _reported(observed)]
    rain, logs = [x.numpy() for x in fields], [x.log1p().numpy() for x in fields]
    axes = [main_axes(x) for x in logs]
    strengths = [float(np.nanmean(np.hypot(*x.T))) for x in axes]
    harmonics = [[grid_harmonics(x, step) for step in GRIDS] for x in logs]
    measured = [x[~x.isnan()].numpy() for x in fields]
    return by_field, {
        "members": members.shape[1],
        "spectrum": spectrum_error(logs[0], logs[1]),
        "spectrum_of_halves": spectrum_error(logs[1][::2], logs[1][1::2]),
        "rain_spectrum": spectrum_error(rain[0], rain[1]),
        "rain_spectrum_of_halves": spectrum_error(rain[1][::2], rain[1][1::2]),
        "log_spectra": [log_spectrum(x).tolist() for x in logs],
        "auc": _told_apart(logs[0], logs[1], groups.numpy()),
        "harmonics": (np.array(harmonics[0]) / harmonics[1]).tolist(),
        "axes": energy_test(*axes).p_value,
        "strength": strengths[0] / strengths[1],
        "q99": _ratio_of_quantiles(0.99, *measured),
        "q99.99": _ratio_of_quantiles(0.9999, *measured),
        "wet": float((measured[0] >= _REPORTED).mean() / (measured[1] >= _REPORTED).mean()),
        **_calibration(members, scored),
    }


def _scored(members: Tensor, observed: Tensor) -> EnsembleScores:
    """Scores of the exact curves of two members or more."""
    return ensemble_scores(minkowski(), members.numpy(), observed.numpy())


def _scores(members: Tensor, observed: Tensor, scored: EnsembleScores | None) -> dict[str, NDArray[Any]]:
    """The scores of each field, given those of its curves, unless there is one member alone."""
    logs, truth = members.log1p(), observed.log1p()
    if scored is None:
        metric = minkowski()
        curves = [torch.from_numpy(metric(x.numpy())) for x in (members[:, 0], observed)]
        distance = CurveDistance(metric.levels, metric.scales)(*curves).sum(1).numpy()
        pixels, energy = (logs[:, 0] - truth).abs(), distance
    else:
        distance, energy = scored.distance.sum(1), scored.energy.sum(1)
        batches = zip(logs.split(_BATCH), truth.split(_BATCH), strict=True)
        pixels = torch.cat([crps(*batch, fairness=1.0) for batch in batches])
    skills = [skill("fss", each.numpy(), observed.numpy()) for each in members.unbind(1)]
    return {
        "crps": pixels.nanmean((1, 2)).numpy(),
        "distance": distance,
        "energy": energy,
        **{name: np.mean([each[name] for each in skills], axis=0) for name in skills[0]},
    }


def _calibration(members: Tensor, scored: EnsembleScores | None) -> dict[str, Any]:
    """Spread over skill, and counts of ranks, by output."""
    names = ("spread_to_skill", "ranks", "ranks_of_member")
    if scored is None:
        return dict.fromkeys(names)
    outputs = scored.as_dict()["outputs"]
    ratios = {output: told["spread_to_skill"] for output, told in outputs.items()}
    # A member is distributed as the others are: its ranks are as uneven as so few fields leave to chance.
    of_member = _scored(members[:, 1:], members[:, 0]) if members.shape[1] > 2 else None
    found = (ratios, _ranks(scored), None if of_member is None else _ranks(of_member))
    return dict(zip(names, found, strict=True))


def _ranks(scored: EnsembleScores) -> dict[str, list[float]]:
    """Counts of ranks by output, without values that all members equal, such as those of dry fields.

    Those were spread evenly, and tell nothing.
    """
    even = scored.tied * scored.ranks.sum(1) / (scored.members + 1)
    return dict(zip(scored.as_dict()["outputs"], (scored.ranks - even[:, None]).tolist(), strict=True))


def _told_apart(generated: NDArray[Any], observed: NDArray[Any], groups: NDArray[np.int64]) -> float:
    """How well a network tells the two sets apart; composites are kept together where there are enough."""
    if len(observed) < _FEWEST:
        return math.nan
    labels = groups if len(np.unique(groups)) >= _FOLDS else None
    return classifier_test(generated, observed, groups=labels, observed_groups=labels, folds=_FOLDS).auc


def _ratio_of_quantiles(share: float, generated: NDArray[Any], observed: NDArray[Any]) -> float:
    """That of the first over that of the second; NaN where the second is dry."""
    first, second = (float(np.quantile(x, share)) for x in (generated, observed))
    return first / second if second else math.nan


def _reported(fields: Tensor) -> Tensor:
    """Fields as radar reports them: generated and observed ones shall not differ by what it leaves out."""
    return torch.where(fields < _REPORTED, 0.0, (fields / _STEP).round() * _STEP)
