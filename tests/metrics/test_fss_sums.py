"""The fractions skill score of a whole data set, and of ensembles, against other libraries and plain sums."""

import numpy as np
import pytest
from emuloss.errors import ArgumentError
from emuloss.metrics import FSS
from scipy import ndimage

THRESHOLDS = (0.5, 2.0, 5.0)
WINDOWS = (1, 3, 9)
teacher = FSS(THRESHOLDS, windows=WINDOWS)


def rain(*shape: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).gamma(0.4, 4.0, shape)
    return ndimage.uniform_filter(noise, (0,) * (len(shape) - 2) + (3, 3))


def plain(members: np.ndarray, observations: np.ndarray) -> np.ndarray:
    """(2, N, C, Q), by the fractions of windows, of which the members' are averaged."""
    result = np.empty((2, len(observations), len(WINDOWS), len(THRESHOLDS)))
    for n, size in np.ndindex(len(observations), len(WINDOWS)):
        for q, u in enumerate(THRESHOLDS):
            shares = [
                ndimage.uniform_filter((field >= u).astype(float), WINDOWS[size], mode="constant")
                for field in (*members[n], observations[n])
            ]
            p, o = np.mean(shares[:-1], 0), shares[-1]
            result[:, n, size, q] = ((p - o) ** 2).sum(), (p**2 + o**2).sum()
    return result


@pytest.mark.parametrize("members", [1, 2, 5])
def test_sums_of_members(members: int) -> None:
    predicted, observed = rain(4, members, 21, 17), rain(4, 21, 17, seed=1)
    np.testing.assert_allclose(
        teacher.sums(predicted, observed), plain(predicted, observed), rtol=1e-9, atol=1e-9
    )


def test_one_field_has_its_own_score() -> None:
    predicted, observed = rain(5, 16, 16), rain(5, 16, 16, seed=1)
    sums = teacher.sums(predicted, observed)
    np.testing.assert_allclose(teacher.of_sums(sums), teacher(predicted, observed), rtol=1e-12)
    np.testing.assert_array_equal(sums, teacher.sums(predicted[:, None], observed))


def test_equal_members_are_one() -> None:
    predicted, observed = rain(3, 16, 16), rain(3, 16, 16, seed=1)
    repeated = predicted[:, None].repeat(7, 1)
    np.testing.assert_allclose(
        teacher.sums(repeated, observed), teacher.sums(predicted, observed), rtol=1e-12
    )


def test_dry_fields_weigh_nothing() -> None:
    predicted, observed = rain(2, 16, 16), rain(2, 16, 16, seed=1)
    predicted[1] = observed[1] = 0
    whole = teacher.of_sums(teacher.sums(predicted, observed).sum(1))
    np.testing.assert_allclose(whole, teacher(predicted, observed)[0], rtol=1e-12)
    assert (teacher.of_sums(np.zeros((2, 3, 3))) == 1).all()


def test_what_one_member_misses_is_left_out() -> None:
    predicted, observed = rain(2, 3, 12, 12), rain(2, 12, 12, seed=1)
    predicted[0, 1, 4, 5] = np.nan
    everywhere = predicted.copy()
    everywhere[0, :, 4, 5] = np.nan
    np.testing.assert_array_equal(teacher.sums(predicted, observed), teacher.sums(everywhere, observed))


def test_a_data_set_by_scores() -> None:
    pytest.importorskip("scores")
    import xarray
    from scores.spatial import fss_2d

    predicted, observed = rain(6, 20, 24), rain(6, 20, 24, seed=1)
    ours = teacher.of_sums(teacher.sums(predicted, observed).sum(1))
    for c, size in enumerate(WINDOWS):
        # Windows beyond the edge find the world dry.
        around = ((0, 0), (size // 2,) * 2, (size // 2,) * 2)
        both = [
            xarray.DataArray(np.pad(each, around), dims=("t", "y", "x")) for each in (predicted, observed)
        ]
        for q, u in enumerate(THRESHOLDS):
            theirs = fss_2d(
                *both,
                event_threshold=u,
                window_size=(size, size),
                spatial_dims=("y", "x"),
                threshold_operator=np.greater_equal,
            )
            assert ours[c, q] == pytest.approx(float(theirs), rel=1e-9)


def test_a_data_set_by_pysteps() -> None:
    pytest.importorskip("pysteps", exc_type=ImportError)
    from pysteps.verification.spatialscores import fss_accum, fss_compute, fss_init

    predicted, observed = rain(6, 20, 24), rain(6, 20, 24, seed=1)
    ours = teacher.of_sums(teacher.sums(predicted, observed).sum(1))
    for c, size in enumerate(WINDOWS):
        for q, u in enumerate(THRESHOLDS):
            state = fss_init(thr=u, scale=size)
            for pair in zip(predicted, observed, strict=True):
                fss_accum(state, *pair)
            assert ours[c, q] == pytest.approx(fss_compute(state), rel=1e-9)


@pytest.mark.parametrize("shape", [(2, 3, 8, 9), (3, 8, 8), (2, 0, 8, 8), (8, 8), (2, 1, 1, 8, 8)])
def test_unusable_shapes(shape) -> None:
    with pytest.raises(ArgumentError, match=r"predictions must be \(N, H, W\), or members"):
        teacher.sums(np.zeros(shape), np.zeros((2, 8, 8)))
