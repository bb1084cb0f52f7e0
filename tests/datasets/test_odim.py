"""Radar composites: small real ODIM-HDF5 files, and the files of a folder that the environment names."""

import os
import pickle
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from emuloss.datasets import Opera, assign_splits
from emuloss.errors import ArgumentError, DataError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NODATA, UNDETECT = -9999000.0, -8888000.0


def write(
    path,
    raw,
    place="dataset1/what",
    *,
    gain=1.0,
    offset=0.0,
    quantity="RATE",
    time="180000",
    scale=2000.0,
    data="dataset1/data1/data",
    nodata=NODATA,
    undetect=UNDETECT,
    leave_out=(),
):
    """Write a composite whose `what` attributes stand in the given place."""
    with h5py.File(path, "a") as file:
        file[data] = np.asarray(raw)
        what = {"gain": gain, "offset": offset, "nodata": nodata, "undetect": undetect}
        file.require_group(place).attrs.update({k: v for k, v in what.items() if k not in leave_out})
        file[place].attrs["quantity"] = np.bytes_(quantity)
        file.require_group("what").attrs.update({"date": np.bytes_("20180824"), "time": np.bytes_(time)})
        for key in {"xscale", "yscale"} - set(leave_out):
            file.require_group("where").attrs[key] = scale
    return path


def read_frame(folder, **options):
    return Opera(folder, **{"size": 2, **options}).read_frame(0)


@pytest.mark.parametrize("place", ["dataset1/data1/what", "dataset1/what", "what"])
def test_attributes_in_any_place(tmp_path, place):
    raw = np.array([[0, 10, 20], [30, 254, 255]], np.uint8)
    write(tmp_path / "a.h5", raw, place, gain=0.1, offset=-1.0, nodata=255, undetect=254)
    expected = np.array([[0, 0, 1], [2, 0, np.nan]], np.float32)
    np.testing.assert_array_equal(read_frame(tmp_path), expected)


def test_the_nearest_attribute_counts(tmp_path):
    path = write(tmp_path / "a.h5", np.full((4, 4), 3.0), "dataset1/what")
    with h5py.File(path, "a") as file:
        file.require_group("dataset1/data1/what").attrs["gain"] = 2.0
        file["what"].attrs["gain"] = 7.0
    assert (read_frame(tmp_path) == 6).all()


def test_bounds_and_markers(tmp_path):
    raw = np.array([[0.09, 0.1, 0.11, 150.0], [151.0, NODATA, UNDETECT, np.nan]])
    write(tmp_path / "a.h5", raw)
    expected = np.array([[0, 0.1, 0.11, 150], [150, np.nan, 0, np.nan]], np.float32)
    np.testing.assert_array_equal(read_frame(tmp_path), expected)
    np.testing.assert_array_equal(
        read_frame(tmp_path, bounds=(0.105, 2.0))[0], np.array([0, 0, 0.11, 2], np.float32)
    )


@given(
    st.lists(st.integers(10, 14999), min_size=4, max_size=40),
    st.sampled_from([0.01, 0.1, 0.5, 1.0, 2.0]),
    st.sampled_from([0.0, -32.0, 1.5, -0.01]),
    st.sampled_from([np.float64, np.float32]),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_gain_and_offset_round_trip(tmp_path, steps, gain, offset, kind):
    rate = np.array(steps) / 100
    raw = ((rate - offset) / gain).astype(kind).reshape(1, -1)
    path = tmp_path / "a.h5"
    path.unlink(missing_ok=True)
    write(path, np.repeat(raw, 2, axis=0), gain=gain, offset=offset)
    np.testing.assert_array_equal(read_frame(tmp_path)[0], rate.astype(np.float32))


def test_whole_numbers_with_a_gain_round_trip(tmp_path):
    raw = np.arange(10, 15000, dtype=np.uint16).reshape(1, -1).repeat(2, axis=0)
    write(tmp_path / "a.h5", raw, gain=0.01, nodata=65535, undetect=65534)
    np.testing.assert_array_equal(read_frame(tmp_path)[0], (raw[0] / 100).astype(np.float32))


def test_values_are_left_alone_without_a_step(tmp_path):
    write(tmp_path / "a.h5", np.full((2, 2), 1.2345))
    assert (read_frame(tmp_path, quantum=None) == np.float32(1.2345)).all()


def test_finds_the_quantity_among_data_sets(tmp_path):
    path = write(tmp_path / "a.h5", np.full((4, 4), 9.0), quantity="QIND")
    write(path, np.full((4, 4), 40.0), "dataset2/data1/what", quantity="DBZH", data="dataset2/data1/data")
    write(path, np.full((4, 4), 5.0), "dataset10/data2/what", data="dataset10/data2/data")
    assert (read_frame(tmp_path) == 5).all()
    # Marshall and Palmer: 40 dBZ is 11.53 mm/h.
    np.testing.assert_allclose(read_frame(tmp_path, quantity="DBZH"), 11.53, rtol=1e-3)
    path.rename(tmp_path / "b.h5")
    write(tmp_path / "a.h5", np.zeros((4, 4)), quantity="QIND")
    with pytest.warns(UserWarning, match=r"1 of 2 files, first a\.h5: no data set of quantity 'RATE'"):
        assert [path.name for path in Opera(tmp_path, size=2).files] == ["b.h5"]
    (tmp_path / "b.h5").unlink()
    with pytest.raises(DataError, match=r"a\.h5: no data set of quantity 'RATE'; the file holds QIND"):
        Opera(tmp_path, size=2)


def test_files_are_sorted_by_time(tmp_path):
    for name, time in (("a", "190000"), ("b", "180000"), ("c", "183000")):
        write(tmp_path / f"{name}.hdf", np.zeros((4, 4)), time=time)
    assert [path.name for path in Opera(tmp_path, size=2).files] == ["b.hdf", "c.hdf", "a.hdf"]


def test_patches_and_coverage(tmp_path):
    raw = np.arange(64.0).reshape(8, 8) + 1
    raw[:4, :4] = NODATA
    raw[0, 4] = NODATA
    write(tmp_path / "a.h5", raw)
    source = Opera(tmp_path, size=4, stride=2)
    assert source.pixel_size == 2.0
    np.testing.assert_array_equal(source.read(0, "test")[:, -1, -1], [32, 60, 64])
    assert len(source.read(0, "train")) == 5
    assert len(Opera(tmp_path, size=4, stride=2, min_coverage=0.5).read(0, "train")) == 7
    assert len(Opera(tmp_path, size=4, stride=2, min_coverage=0.0).read(0, "train")) == 9
    full = Opera(tmp_path, size=4, stride=2, min_coverage=1.0)
    assert not np.isnan(full.read(0, "train")).any()


def test_rates_are_rounded_and_bounded_before_they_are_averaged(tmp_path):
    raw = np.array([[0.004, 0.126, 5, NODATA], [0.2, 0.4, NODATA, NODATA], [9, 9, 9, 9]])
    write(tmp_path / "a.h5", raw)
    source = Opera(tmp_path, size=(1, 2), coarsen=2, min_coverage=0, bounds=(0.1, 0.3))
    np.testing.assert_allclose(source.read(0, "test"), [[[(0 + 0.13 + 0.2 + 0.3) / 4, np.nan]]], rtol=1e-6)
    assert (source.pixel_size, source.quantum) == (4.0, 0.0025)
    assert source.config()["quantum"] == 0.01
    assert "coarsen" not in Opera(tmp_path, size=1).config()


def test_a_frame_without_measurements_has_no_patches(tmp_path):
    write(tmp_path / "a.h5", np.full((8, 8), NODATA))
    assert Opera(tmp_path, size=4).read(0, "train").shape == (0, 4, 4)


def test_pickles_and_describes_itself_wherever_it_stands(tmp_path):
    write(tmp_path / "a.h5", np.ones((8, 8)))
    source = Opera(tmp_path, size=4)
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(source)).read(0, "train"), source.read(0, "train")
    )
    config = source.config()
    moved = tmp_path / "moved"
    moved.mkdir()
    (tmp_path / "a.h5").rename(moved / "a.h5")
    assert Opera(moved, size=4).config() == config
    assert Opera(moved, size=2).config() != config


def write_sum(path, raw, minutes, place="dataset1/what", **given):
    """Write rain that was summed up for so long, until 18:00."""
    write(path, raw, place, quantity="ACRR", **given)
    begin = np.datetime64("2018-08-24T18:00") - np.timedelta64(minutes, "m")
    date, time = str(begin).split("T")
    with h5py.File(path, "a") as file:
        file[place].attrs.update(
            {
                "startdate": np.bytes_(date.replace("-", "")),
                "starttime": np.bytes_(time.replace(":", "") + "00"),
                "enddate": np.bytes_("20180824"),
                "endtime": np.bytes_("180000"),
            }
        )
    return path


class TestAccumulations:
    @pytest.mark.parametrize("place", ["dataset1/data1/what", "dataset1/what", "what"])
    @pytest.mark.parametrize("minutes", [5, 15, 60, 1440])
    def test_become_rates(self, tmp_path, minutes, place):
        millimetres = np.array([[0.5, 2.0, NODATA], [UNDETECT, 1.0, 3.0]])
        write_sum(tmp_path / "a.h5", millimetres, minutes, place)
        expected = np.array([[0.5, 2, np.nan], [0, 1, 3]]) * 60 / minutes
        expected[expected < 0.1] = 0
        rates = read_frame(tmp_path, quantity="ACRR", quantum=None)
        np.testing.assert_allclose(rates, expected, rtol=1e-6)
        assert Opera(tmp_path, size=2, quantity="ACRR").unit == "mm/h"

    def test_that_do_not_tell_their_time_are_left_out(self, tmp_path):
        write_sum(tmp_path / "a.h5", np.ones((4, 4)), 60)
        write(tmp_path / "b.h5", np.ones((4, 4)), quantity="ACRR")
        write_sum(tmp_path / "c.h5", np.ones((4, 4)), 0)
        with pytest.warns(UserWarning, match=r"left out 2 of 3 files, first b\.h5: it does not tell when"):
            assert [path.name for path in Opera(tmp_path, size=2, quantity="ACRR").files] == ["a.h5"]
        (tmp_path / "a.h5").unlink()
        with pytest.raises(DataError, match=r"none of 2 files .* b\.h5: it does not tell when its accumul"):
            Opera(tmp_path, size=2, quantity="ACRR")

    def test_over_another_time_than_most_are_left_out(self, tmp_path):
        for name, minutes in (("a", 60), ("b", 5), ("c", 5)):
            write_sum(tmp_path / f"{name}.h5", np.ones((4, 4)), minutes)
        with pytest.warns(UserWarning, match=r"a\.h5: it holds ACRR over 60 min, most .* ACRR over 5 min"):
            assert len(Opera(tmp_path, size=2, quantity="ACRR")) == 2


class TestArchive:
    def test_the_times_of_chunks(self, tmp_path):
        for name, time in (("a", "190000"), ("b", "180000"), ("c", "1830")):
            write(tmp_path / f"{name}.h5", np.zeros((4, 4)), time=time)
        times = Opera(tmp_path, size=2).times
        assert [str(time) for time in times] == [
            f"2018-08-24T{time}:00" for time in ("18:00", "18:30", "19:00")
        ]

    def test_no_time_is_told(self, tmp_path):
        for name in "ba":
            write(tmp_path / f"{name}.h5", np.zeros((4, 4)), time="noon")
        source = Opera(tmp_path, size=2)
        assert source.times is None
        assert [path.stem for path in source.files] == ["a", "b"]

    def test_names_tell_times_where_files_do_not(self, tmp_path):
        for name in ("b_201808241800", "a_201808241815"):
            write(tmp_path / f"{name}.h5", np.zeros((4, 4)), time="noon")
        write(tmp_path / "c_201808240000.h5", np.zeros((4, 4)), time="1830")
        times = Opera(tmp_path, size=2).times
        assert [str(time)[11:16] for time in times] == ["18:00", "18:15", "18:30"]

    def test_whole_composites(self, tmp_path):
        raw = np.full((6, 8), 2.0)
        raw[:5] = NODATA
        write(tmp_path / "a.h5", raw)
        source = Opera(tmp_path, size=None)
        assert source.field_shape == (6, 8)
        np.testing.assert_array_equal(source.read(0, "train"), np.where(raw == NODATA, np.nan, raw)[None])
        assert len(Opera(tmp_path, size=None, min_coverage=0.5).read(0, "train")) == 0

    def test_markers_that_the_file_does_not_name(self, tmp_path):
        write(tmp_path / "a.h5", np.array([[3.0, -1.0], [4.0, -9.0]]))
        expected = np.array([[3, np.nan], [4, np.nan]], np.float32)
        np.testing.assert_array_equal(read_frame(tmp_path, nodata=[-1, -9]), expected)
        assert Opera(tmp_path, size=2, nodata=-1).config()["nodata"] == [-1.0]
        assert "nodata" not in Opera(tmp_path, size=2).config()

    def test_subfolders(self, tmp_path):
        for day, time in (("1", "190000"), ("2", "180000")):
            (tmp_path / day).mkdir()
            write(tmp_path / day / "a.h5", np.zeros((4, 4)), time=time)
        source = Opera(tmp_path, size=2, pattern="**/*.h5")
        assert [source.file_of(k) for k in range(2)] == ["2/a.h5", "1/a.h5"]

    def test_unreadable_files(self, tmp_path):
        for i in range(4):
            write(tmp_path / f"{i}.h5", np.random.default_rng(i).uniform(1, 2, (64, 64)), time=f"18{i}000")
        truncated, text = tmp_path / "1.h5", tmp_path / "2.h5"
        truncated.write_bytes(truncated.read_bytes()[:9000])
        text.write_bytes(b"text")
        with pytest.raises(DataError, match=r"1\.h5: not a readable HDF5 file.*; .* give `skip_unreadable`"):
            Opera(tmp_path, size=8)
        with pytest.warns(UserWarning, match=r"left out 2 of 4 files, first 1\.h5: not a readable HDF5 file"):
            source = Opera(tmp_path, size=8, skip_unreadable=True)
        assert [path.stem for path in source.files] == ["0", "3"]
        assert set(source.skipped) == {"1.h5", "2.h5"}
        (tmp_path / "3.h5").write_bytes(b"text")
        assert source.read(1, "test").shape == (0, 8, 8)
        assert "3.h5" in source.skipped

    def test_what_is_no_composite_is_left_out(self, tmp_path):
        write(tmp_path / "a.h5", np.ones((4, 4)))
        with h5py.File(tmp_path / "b.h5", "w") as file:
            file["rain"] = np.zeros((4, 4))
        write(tmp_path / "c.h5", np.ones((4, 4)), leave_out=["xscale"])
        write(tmp_path / "d.h5", np.ones((4, 4)), quantity="DBZH")
        with pytest.warns(UserWarning, match="left out 3 of 4 files, first b") as told:
            assert len(Opera(tmp_path, size=2)) == 1
        assert len(told) == 1


def by_definition(raw, gain, offset, nodata, undetect, quantum, bounds):
    """Rates, number by number."""
    slack = 1e-6 if raw.dtype.kind == "f" else 0.0
    rates = []
    for number in raw.ravel().tolist():
        rate = number * gain + offset
        if quantum is not None and np.isfinite(rate):
            rate = round(rate / quantum) * quantum
        rate = 0.0 if rate < bounds[0] - (quantum or 0) * 1e-6 else min(rate, bounds[1])
        for mark, meaning in ((undetect, 0.0), (nodata, np.nan)):
            both = np.isnan(number) and np.isnan(mark)
            if both or number == mark or abs(number - mark) <= slack * abs(mark) < np.inf:
                rate = meaning
        rates.append(rate)
    return np.array(rates, np.float32).reshape(raw.shape)


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "i4", "i8", "f2", "f4", "f8", ">u2", ">f4", ">f8"])
@pytest.mark.parametrize(
    ("nodata", "undetect"), [(100, 0), (-1.5, 2.5), (np.nan, 0.0), (np.inf, -np.inf), (1e300, 3.0)]
)
def test_numbers_of_every_type_mean_what_they_say(tmp_path, kind, nodata, undetect):
    rng = np.random.default_rng(0)
    if np.dtype(kind).kind == "f":
        raw = rng.gamma(0.5, 4, (13, 17)).astype(kind)
        marks = rng.integers(0, 12, raw.shape)
        for k, mark in enumerate((undetect, np.nan, np.inf, -np.inf, 0.0, min(nodata, 1e4))):
            raw[marks == k] = mark
    else:
        raw = rng.integers(-100 if "i" in kind else 0, 127, (13, 17)).astype(kind)
    write(tmp_path / "a.h5", raw, gain=0.3, offset=-0.7, nodata=nodata, undetect=undetect)
    for quantum, bounds in ((0.01, (0.1, 150.0)), (None, (0.0, 30.0)), (0.5, (0.7, 9.0))):
        expected = by_definition(raw, 0.3, -0.7, nodata, undetect, quantum, bounds)
        np.testing.assert_array_equal(read_frame(tmp_path, quantum=quantum, bounds=bounds), expected)


class TestErrors:
    def test_folder(self, tmp_path):
        with pytest.raises(DataError, match=r"none' does not exist"):
            Opera(tmp_path / "none")
        with pytest.raises(DataError, match=r"matches '\*\.h\*'"):
            Opera(tmp_path)

    def test_not_hdf5(self, tmp_path):
        (tmp_path / "a.h5").write_bytes(b"text")
        with pytest.raises(DataError, match=r"a\.h5: not a readable HDF5 file"):
            Opera(tmp_path)

    def test_truncated(self, tmp_path):
        path = write(tmp_path / "a.h5", np.random.default_rng(0).uniform(size=(64, 64)))
        path.write_bytes(path.read_bytes()[:9000])
        with pytest.raises(DataError, match=r"a\.h5: not a readable HDF5 file, truncated"):
            Opera(tmp_path, size=8)

    def test_damaged_after_opening(self, tmp_path):
        path = write(tmp_path / "a.h5", np.ones((64, 64)))
        source = Opera(tmp_path, size=8)
        path.write_bytes(b"text")
        with pytest.raises(DataError, match=r"a\.h5"):
            source.read(0, "train")

    def test_not_odim(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["rain"] = np.zeros((4, 4))
        with pytest.raises(DataError, match=r"a\.h5: not an ODIM file, group /dataset1/data1"):
            Opera(tmp_path)

    @pytest.mark.parametrize("key", ["xscale", "yscale"])
    def test_missing_attribute(self, tmp_path, key):
        path = write(tmp_path / "a.h5", np.zeros((4, 4)), leave_out=[key])
        with pytest.raises(DataError, match=rf"a\.h5: .*attribute where/{key} is missing; add it"):
            Opera(tmp_path, size=2)
        with h5py.File(path, "a") as file:
            file["what"].attrs["object"] = "PVOL"
        with pytest.raises(DataError, match=r"it holds a polar PVOL"):
            Opera(tmp_path, size=2)

    def test_grid(self, tmp_path):
        write(tmp_path / "a.h5", np.zeros((4, 4)))
        with pytest.raises(DataError, match=r"`size` \(=\(8, 8\)\) exceeds its shape \(4, 4\)"):
            Opera(tmp_path, size=8)
        write(tmp_path / "b.h5", np.zeros((4, 4)), scale=1000.0)
        with pytest.warns(UserWarning, match=r"b\.h5: pixel size 1 km differs from 2 km"):
            assert len(Opera(tmp_path, size=2)) == 1

    def test_not_a_grid(self, tmp_path):
        write(tmp_path / "a.h5", np.zeros(4))
        with pytest.raises(DataError, match=r"expected a 2-D grid"):
            Opera(tmp_path, size=2)

    @pytest.mark.parametrize(
        ("argument", "value", "message"),
        [
            ("size", 0, "size must be a whole number of at least 1, got 0"),
            ("stride", -1, "stride must be a whole number of at least 1, got -1"),
            ("min_coverage", 1.5, "min_coverage must be a share in [0, 1], got 1.5"),
            ("bounds", (2, 1), "`bounds` (=(2, 1)) must be two increasing rates"),
            ("quantity", "VRAD", "quantity must be one of RATE, ACRR, DBZH, got 'VRAD'"),
            ("quantum", 0, "quantum must be a positive number, got 0"),
        ],
    )
    def test_arguments(self, tmp_path, argument, value, message):
        with pytest.raises(ArgumentError, match=f"^{re.escape(message)}"):
            Opera(tmp_path, **{argument: value})


@pytest.mark.skipif(
    not Path(os.environ.get("EMULOSS_OPERA") or "missing").is_dir(),
    reason="EMULOSS_OPERA names no folder of OPERA composites",
)
def test_real_files():
    source = Opera(os.environ["EMULOSS_OPERA"])
    roles = assign_splits(source)
    assert source.pixel_size == 2.0
    fields = source.read(len(source) - 1, roles[-1])
    assert fields.shape[1:] == (128, 128)
    assert (np.isnan(fields).mean(axis=(1, 2)) <= 0.1).all()
    assert 0.02 < (fields > 0).mean() < 0.5
    wet = fields[fields > 0].astype(float)
    np.testing.assert_array_equal(fields[fields > 0], (np.rint(wet * 100) / 100).astype(np.float32))
