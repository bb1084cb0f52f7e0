"""Exact scores of ensembles: beside double loops, in chunks, with gaps, calibrated ones told from others."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn import rain_array
from emuloss.emulators import relaxation
from emuloss.emulators.distances import CurveDistance
from emuloss.errors import ArgumentError
from emuloss.evaluation import EnsembleScores, ensemble_scores, ensembles, write_ensembles
from emuloss.losses import SurrogateScore
from emuloss.metrics import FSS, Minkowski
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

METRIC = Minkowski([0.2, 1.0, 3.0], outputs=("area", "perimeter", "euler"), pixel_size=2.0)
FIELDS, MEMBERS = 5, 4
DRAWN = rain_array(FIELDS * (MEMBERS + 1), 16, 20).reshape(FIELDS, MEMBERS + 1, 16, 20)
ENSEMBLE, OBSERVED = DRAWN[:, :MEMBERS], DRAWN[:, MEMBERS]


def scores(*arguments: NDArray[np.float32], **options: object) -> EnsembleScores:
    return ensemble_scores(METRIC, *(arguments or (ENSEMBLE, OBSERVED)), progress=False, **options)


def looped(
    distance: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]], fairness: float
) -> NDArray[np.float64]:
    """Kernel scores of curves, field by field, by the double sums of their definition."""
    found = []
    for members, truth in zip(ENSEMBLE, OBSERVED, strict=True):
        x, y = METRIC(members), METRIC(truth[None])[0]
        to_truth = sum(distance(a, y) for a in x) / MEMBERS
        apart = sum(distance(a, b) for a, b in itertools.product(x, x))
        fair, plain = apart / (2 * MEMBERS * (MEMBERS - 1)), apart / (2 * MEMBERS**2)
        found.append(to_truth - fairness * fair - (1 - fairness) * plain)
    return np.array(found)


def curve_distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    pair = (torch.from_numpy(curves[None]) for curves in (a, b))
    return CurveDistance.of(METRIC)(*pair)[0].numpy()


def in_logs(a: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sign(a) * np.log1p(np.abs(a) / np.array(METRIC.scales)[:, None])


@pytest.mark.parametrize(
    ("options", "fairness"),
    [({}, 1.0), ({"estimator": "almost-fair", "alpha": 0.9}, 0.9), ({"estimator": "plain"}, 0.0)],
)
def test_scores_are_the_double_sums(options: dict[str, object], fairness: float) -> None:
    found = scores(**options)
    assert found.fairness == fairness
    np.testing.assert_allclose(found.energy, looped(curve_distance, fairness), rtol=1e-9)
    np.testing.assert_allclose(found.crps, looped(lambda a, b: np.abs(a - b), fairness), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(
        found.log_crps, looped(lambda a, b: np.abs(in_logs(a) - in_logs(b)), fairness), rtol=1e-6, atol=1e-9
    )


def test_distance_spread_and_skill() -> None:
    found = scores()
    x = np.stack([METRIC(ENSEMBLE[:, m]) for m in range(MEMBERS)])
    y = METRIC(OBSERVED)
    each = [[curve_distance(a, b) for a, b in zip(member, y, strict=True)] for member in x]
    np.testing.assert_allclose(found.distance, np.mean(each, axis=0), rtol=1e-9)
    weights = CurveDistance.of(METRIC).weights.double().numpy()
    variance = (in_logs(x).var(axis=0, ddof=1).mean(0) * weights).sum(-1)
    np.testing.assert_allclose(found.spread, np.sqrt(1.25 * variance), rtol=1e-6)
    error = (((in_logs(x).mean(0) - in_logs(y)) ** 2).mean(0) * weights).sum(-1)
    np.testing.assert_allclose(found.skill, np.sqrt(error), rtol=1e-6)


def test_crps_is_that_of_scoringrules() -> None:
    scoringrules = pytest.importorskip("scoringrules")
    curves = METRIC(ENSEMBLE.reshape(-1, 16, 20)).reshape(FIELDS, MEMBERS, 3, 3)
    for ours, theirs in (("fair", "fair"), ("plain", "nrg")):
        expected = scoringrules.crps_ensemble(METRIC(OBSERVED), np.moveaxis(curves, 1, -1), estimator=theirs)
        np.testing.assert_allclose(scores(estimator=ours).crps, expected, rtol=1e-9, atol=1e-9)


def test_ensembles_drawn_as_the_truth_are_calibrated_and_score_best() -> None:
    rng = np.random.default_rng(0)
    cells = rain_array(120 * 6, 12, 12, seed=1).reshape(120, 6, 12, 12)
    weather = rng.lognormal(0, 1, (120, 1, 1, 1)).astype(np.float32)
    members, observed = (weather * cells)[:, :5], (weather * cells)[:, 5]
    drawn = scores(members, observed)
    unlike = scores(members.mean(1, keepdims=True) * 0.3 + 0.7 * members, observed)
    better = unlike.energy.sum(1) - drawn.energy.sum(1)
    assert better.mean() > 4 * better.std() / len(better) ** 0.5
    np.testing.assert_allclose(drawn.spread / drawn.skill, 1, atol=0.15)
    assert (unlike.spread / unlike.skill < 0.8).any()
    assert drawn.ranks.sum() == 3 * 120 * 3
    area, blurred = (found.ranks[0] / found.ranks[0].mean() for found in (drawn, unlike))
    assert np.abs(area - 1).max() < 0.35 < np.abs(blurred - 1).max()


def test_ranks_are_counts_of_the_members_below() -> None:
    observed = np.full((1, 4, 4), 1.5, np.float32)  # area above 1: 16 pixels
    members = np.zeros((1, 3, 4, 4), np.float32)
    members[0, 0] = 1.5
    members[0, 0, 0] = 0  # 12 pixels
    metric = Minkowski([1.0], outputs=("area",))
    found = ensemble_scores(metric, members, observed, progress=False)
    assert found.ranks.tolist() == [[0, 0, 0, 1]]
    assert found.tied == [0]


def test_ties_are_spread_evenly() -> None:
    dry = np.zeros((300, 3, 4, 4), np.float32)
    found = scores(dry, dry[:, 0])
    np.testing.assert_allclose(found.ranks / found.ranks.mean(), 1, atol=0.15)
    assert found.tied.tolist() == [1, 1, 1]
    assert (scores(dry, dry[:, 0], seed=1).ranks != found.ranks).any()


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scores()
    monkeypatch.setattr(ensembles, "_NUMBERS", 2 * MEMBERS * 16 * 20)
    parts = scores()
    for name in ("energy", "distance", "crps", "log_crps", "ranks", "tied"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    np.testing.assert_allclose(parts.spread, whole.spread)


def test_what_was_not_measured_counts_in_no_member() -> None:
    observed, members = OBSERVED.copy(), ENSEMBLE.copy()
    observed[:, 3:7, 5:] = np.nan
    members[:, :, 3:7, 5:] = 1e3
    np.testing.assert_array_equal(
        scores(members, observed).energy,
        scores(np.where(np.isnan(observed)[:, None], 0, members), observed).energy,
    )
    assert (members[:, :, 3:7, 5:] == 1e3).all()


def test_members_equal_to_the_truth_score_0() -> None:
    found = scores(np.repeat(OBSERVED[:, None], 3, axis=1), OBSERVED[:, None])
    assert not found.energy.any()
    assert not found.skill.any()
    assert found.as_dict()["outputs"]["area"]["spread_to_skill"] is None


def test_dictionary_is_plain() -> None:
    found = scores()
    plain = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert plain == found.as_dict()
    assert plain["energy"] == pytest.approx(found.energy.sum() / FIELDS)
    assert plain["outputs"]["euler"]["unit"] == "1"
    assert len(plain["outputs"]["area"]["crps"]) == 3
    assert sum(plain["outputs"]["area"]["ranks"]) == FIELDS * 3


@pytest.mark.parametrize(
    ("members", "observed", "message"),
    [
        (ENSEMBLE[:, :1], OBSERVED, "at least 2 .* got 1: a single one has no spread"),
        (ENSEMBLE[:, 0], OBSERVED, r"members must have shape \(N, M, H, W\)"),
        (ENSEMBLE[:3], OBSERVED, r"members must have shape .* got \(3, 4, 16, 20\) and \(5, 16, 20\)"),
        (ENSEMBLE[:0], OBSERVED[:0], "N >= 1"),
        (np.full_like(ENSEMBLE, np.nan), OBSERVED, "got 6400 pixels without"),
        (ENSEMBLE, OBSERVED[0], "observed must have shape"),
    ],
)
def test_refused(members: NDArray[np.float32], observed: NDArray[np.float32], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        scores(members, observed)


def test_refused_metrics_and_estimators() -> None:
    with pytest.raises(ArgumentError, match="'fss' compares two fields"):
        ensemble_scores(FSS((0.1, 1.0), windows=(1, 3)), ENSEMBLE, OBSERVED)
    with pytest.raises(ArgumentError, match="estimator must be one of"):
        scores(estimator="unbiased")


def test_energy_is_what_the_score_of_a_surrogate_is_where_it_counts_exactly() -> None:
    score = SurrogateScore(relaxation(METRIC), estimator="fair", forward="exact")
    observed = np.where(rain_array(FIELDS, 16, 20, seed=7) > 2, np.nan, OBSERVED)
    exact = score.by_output(torch.from_numpy(ENSEMBLE), torch.from_numpy(observed)).detach()
    np.testing.assert_allclose(exact, scores(ENSEMBLE, observed).energy, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", ["rain", "one threshold", "dry"])
def test_picture(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metric = Minkowski([1.0], outputs=("area",)) if case == "one threshold" else METRIC
    members, observed = ENSEMBLE * (case != "dry"), OBSERVED.copy() * (case != "dry")
    observed[:, :4, :5] = np.nan
    drawn: list[Figure] = []
    save = Figure.savefig

    def kept(figure: Figure, *arguments: object, **options: object) -> None:
        drawn.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", kept)
    found = ensemble_scores(metric, members, observed, progress=False)
    write_ensembles(tmp_path / "members.png", found, members, observed, unit="mm/h")
    assert (tmp_path / "members.png").read_bytes().startswith(b"\x89PNG")
    shown = [axes for axes in drawn[0].findobj(Axes) if isinstance(axes, Axes)]
    assert all(axes.has_data() for axes in shown)
    images = [np.ma.getmaskarray(axes.images[0].get_array()) for axes in shown if axes.images]
    assert len(images) == 3 * (MEMBERS + 1)
    assert all(image[:4, :5].all() and not image[4:].any() for image in images)


def test_picture_takes_what_the_scores_take(tmp_path: Path) -> None:
    for name, observed in (("a", OBSERVED), ("b", OBSERVED[:, None])):
        write_ensembles(tmp_path / f"{name}.png", scores(ENSEMBLE, observed), ENSEMBLE, observed)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_picture_of_other_fields_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="must be those of the scores, 5 ensembles of 4"):
        write_ensembles(tmp_path / "members.png", scores(), ENSEMBLE[:2], OBSERVED[:2])
