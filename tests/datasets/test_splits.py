"""Splits by time: gaps that are durations, and tests that are never earlier than the training."""

from datetime import timedelta

import numpy as np
import pytest
from emuloss.datasets import FieldSource, as_source, assign_splits
from emuloss.errors import ArgumentError
from hypothesis import given
from hypothesis import strategies as st


class Timed(FieldSource):
    """Empty chunks of known times."""

    name, unit, pixel_size, quantum, field_shape = "timed", "mm/h", 1.0, None, (2, 2)

    def __init__(self, minutes, chronological=True):
        self.count, self.chronological = len(minutes), chronological
        self.times = [np.datetime64("2018-08-24T00:00") + np.timedelta64(each, "m") for each in minutes]

    def __len__(self):
        return self.count

    def read(self, k, role):
        return np.zeros((0, 2, 2), np.float32)

    def config(self):
        return {"name": self.name}


HOURLY = Timed(range(0, 24 * 60, 60))


def count(roles, name):
    return list(roles).count(name)


@pytest.mark.parametrize(
    ("gap", "unused"),
    [
        ("3h", 2),  # 17 h is 3 h before 20 h, and may validate
        ("180min", 2),
        (timedelta(hours=3, seconds=1), 3),
        (np.timedelta64(181, "m"), 3),
        ("59min", 0),
        ("0h", 0),
        (2, 2),
        (np.int64(3), 3),
    ],
)
def test_a_gap_is_a_duration_or_a_number(gap, unused):
    roles = assign_splits(HOURLY, gap=gap)
    rest = ["validation"] * 2 + ["unused"] * unused + ["test"] * 4
    assert roles == ["train"] * (24 - len(rest)) + rest


def test_a_gap_follows_the_times_and_not_the_number_of_files():
    minutes = [0, 60, 120, 180, 240, 600, 605, 610, 615, 620, 720, 780]  # five files within 20 minutes
    roles = assign_splits(Timed(minutes), gap="2h", test=2, validation=1)
    assert roles == ["train"] * 5 + ["validation"] + ["unused"] * 4 + ["test"] * 2
    assert assign_splits(Timed(minutes), test=2, validation=1) == (
        ["train"] * 8 + ["validation", "unused"] + ["test"] * 2
    )


times = st.lists(st.integers(0, 100_000), min_size=6, max_size=60)


@given(times, st.booleans(), st.sampled_from([None, 0, 1, "0s", "3h", "2d"]), st.integers(0, 2))
def test_no_test_is_earlier_than_what_trains(minutes, chronological, gap, validation):
    source = Timed(minutes, chronological)
    try:
        roles = np.array(assign_splits(source, gap=gap, validation=validation))
    except ArgumentError:  # too few chunks
        return
    along = np.array(source.times)
    tested, before = along[roles == "test"], along[np.isin(roles, ("train", "validation"))]
    assert tested.min() >= before.max()
    for early, late in (("train", "validation"), ("validation", "test"), ("train", "test")):
        if count(roles, early) and count(roles, late):
            assert along[roles == early].max() <= along[roles == late].min()
    if isinstance(gap, str):
        least = {"0s": 0, "3h": 180, "2d": 2880}[gap]
        assert tested.min() - before.max() >= np.timedelta64(least, "m")
        nearer = along[roles == "unused"]
        assert (tested.min() - nearer < np.timedelta64(least, "m")).all()  # and nothing else is left out


def test_a_gap_counts_from_the_last_frame_of_a_chunk():
    source = Timed(range(0, 24 * 60, 120))
    source.ends = [time + np.timedelta64(110, "m") for time in source.times]
    assert count(assign_splits(source, gap="10min", test=2), "unused") == 0
    assert count(assign_splits(source, gap="11min", test=2), "unused") == 1
    assert count(assign_splits(source, gap="130min", test=2), "unused") == 1
    assert count(assign_splits(source, gap="131min", test=2), "unused") == 2


def test_frames_of_an_array_of_xarray_have_their_times():
    xarray = pytest.importorskip("xarray")
    times = np.datetime64("2018-08-24T00:00", "ns") + np.arange(50) * np.timedelta64(1, "h")
    fields = np.random.default_rng(0).random((50, 4, 4), np.float32)
    source = as_source(xarray.DataArray(fields, dims=("time", "y", "x"), coords={"time": times}))
    assert len(source) == 10  # of five frames each
    assert np.array_equal(source.times, times[::5])
    assert np.array_equal(source.ends, times[4::5])
    roles = assign_splits(source, gap="2h", test=2)
    assert roles == ["train"] * 6 + ["validation", "unused"] + ["test"] * 2
    shorter = as_source(xarray.DataArray(fields[:48], dims=("time", "y", "x"), coords={"time": times[:48]}))
    assert np.array_equal(shorter.ends, [*times[3:47:4], times[47]])


def test_chunks_out_of_order_are_shared_out_by_time():
    roles = np.array(assign_splits(Timed([50, 0, 40, 10, 30, 20]), validation=1, test=2, gap=1))
    assert roles.tolist() == ["test", "train", "test", "train", "unused", "validation"]


def test_times_in_order_change_no_roles():
    untimed = Timed(range(24))
    untimed.times = None
    assert assign_splits(untimed) == assign_splits(HOURLY) == assign_splits(Timed([0] * 24))


def test_times_that_are_not_told(monkeypatch):
    monkeypatch.setattr(HOURLY, "times", None)
    expected = (
        r"^gap \(='3h'\) needs the times of the chunks, which source 'timed' does not tell; give a number"
    )
    with pytest.raises(ArgumentError, match=expected):
        assign_splits(HOURLY, gap="3h")
    monkeypatch.setattr(HOURLY, "times", [np.datetime64("NaT", "s")] + [np.datetime64("2018-08-24")] * 23)
    with pytest.raises(ArgumentError, match=expected):
        assign_splits(HOURLY, gap="3h")
    assert count(assign_splits(HOURLY), "test") == 4


def test_a_gap_that_leaves_nothing():
    with pytest.raises(
        ArgumentError, match=r"has 24 chunks, too few for 1 train, 2 validation, 20 gap and 4 .* shorter gap"
    ):
        assign_splits(HOURLY, gap="3d")


@pytest.mark.parametrize("gap", ["3", "h", -1, 1.5, True])
def test_gaps_that_are_none(gap):
    with pytest.raises(ArgumentError, match=r"^gap must be a (duration|whole number), 0 or more, "):
        assign_splits(HOURLY, gap=gap)


def test_without_a_test_there_is_no_gap():
    assert count(assign_splits(HOURLY, gap="3h", test=0), "unused") == 0
