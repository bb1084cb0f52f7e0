"""Folders of NetCDF, Zarr, GRIB and GeoTIFF, read by xarray one time step a chunk."""

import contextlib
import fcntl
import pickle
import sys
import warnings
from typing import ClassVar

import emuloss
import numpy as np
import pytest
from array_files import CF, masked_fields, packed, same, write_netcdf
from emuloss.datasets import XarrayFiles, as_source
from emuloss.datasets.sources import xarray_engines, xarray_files
from emuloss.errors import ArgumentError, DataError

xarray = pytest.importorskip("xarray")

SIDES = {
    "y": ("y", 2000.0 * np.arange(12), {"units": "m"}),
    "x": ("x", 2000.0 * np.arange(16), {"units": "m"}),
}


def at(minutes):
    """A coordinate of times, as NetCDF keeps it."""
    return {"time": ("time", minutes, {"units": "minutes since 2020-01-01"})}


def archive(folder, suffix=".nc", attributes=CF, **more):
    """Three files of one packed frame, their names against the order of their times."""
    values = masked_fields()
    for k in range(3):
        coords = {**at([10 * k]), **SIDES, **more}
        write_netcdf(folder / f"{'cab'[k]}{suffix}", packed(values)[k : k + 1], attributes, coords=coords)
    return values


def all_of(source):
    return np.concatenate([source.read(k, "test") for k in range(len(source))])


def decoded(path, **options):
    """A file as xarray alone reads it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return xarray.open_dataset(path, **options).load()


class TestOneFileATime:
    @pytest.mark.parametrize("suffix", [".nc", ".zarr"])
    def test_values_are_those_of_xarray_in_order_of_time(self, tmp_path, suffix):
        values = archive(tmp_path, suffix)
        source = as_source(f"xarray:{tmp_path}")
        found = all_of(source)
        same(found, values)
        alone = [decoded(tmp_path / f"{name}{suffix}")["rain"].values[0] for name in "cab"]
        np.testing.assert_allclose(found, alone, atol=1e-5)
        assert [str(time) for time in source.times] == [f"2020-01-01T00:{m}:00" for m in ("00", "10", "20")]
        assert (source.unit, source.pixel_size, source.length_unit) == ("mm h-1", 2.0, "km")
        assert source.quantum == pytest.approx(0.1)
        assert source.chronological

    def test_a_pattern_a_file_and_a_path(self, tmp_path):
        values = archive(tmp_path)
        (tmp_path / "notes.txt").write_text("no field")
        assert len(XarrayFiles(f"{tmp_path}/[ab].nc")) == 2
        assert len(XarrayFiles(tmp_path.parent / "**" / tmp_path.name / "*.nc")) == 3
        same(all_of(XarrayFiles(tmp_path / "b.nc")), values[2:])

    def test_files_packed_each_in_its_own_way(self, tmp_path):
        values = masked_fields()[:2]
        for k, (scale, offset) in enumerate([(0.1, 20.0), (0.05, 0.0)]):
            numbers = np.rint((values[k : k + 1].astype(float) - offset) / scale).filled(-9999).astype("i2")
            told = {**CF, "scale_factor": scale, "add_offset": offset}
            write_netcdf(tmp_path / f"{k}.nc", numbers, told, coords=at([k]))
        source = XarrayFiles(tmp_path)
        same(all_of(source), values)

    def test_only_what_is_wanted_is_read(self, tmp_path, monkeypatch):
        archive(tmp_path, more=("more", np.arange(5)))
        source = XarrayFiles(tmp_path)
        store, seen = xarray.backends.NetCDF4DataStore, []
        opening = store.open_store_variable

        def watched(file, name, *given):
            seen.append(name)
            return opening(file, name, *given)

        monkeypatch.setattr(store, "open_store_variable", watched)
        pickle.loads(pickle.dumps(source)).read(1, "train")
        assert seen == ["rain"]

    def test_labels_are_counts_of_the_fields(self, tmp_path):
        values = masked_fields()
        for k in range(14):
            write_netcdf(tmp_path / f"{k}.nc", packed(values)[:1], CF, coords={**at([k]), **SIDES})
        store = emuloss.label(
            fields=f"xarray:{tmp_path}",
            thresholds=[5.05],
            outputs=["area"],
            out=tmp_path / "l.h5",
            progress=False,
        )
        assert (store.unit, store.pixel_size, store.units) == ("mm h-1", 2.0, ("km^2",))
        _, curves = store.split("train")
        np.testing.assert_array_equal(curves[:, 0, 0], 4 * (values[0].filled(0) > 5.05).sum())


class TestSeries:
    def test_each_time_step_of_a_file_is_a_chunk(self, tmp_path):
        values = masked_fields()
        write_netcdf(tmp_path / "late.nc", packed(values)[1:], CF, coords=at([60, 120]))
        write_netcdf(tmp_path / "z.nc", packed(values)[:1], CF, coords=at([0]))
        source = XarrayFiles(tmp_path)
        assert [entry.index for entry in source.entries] == [0, 0, 1]
        same(all_of(source), values)
        assert source.read(2, "train").shape == (1, 12, 16)

    def test_times_of_another_calendar(self, tmp_path):
        times = {"time": ("time", [58, 59], {"units": "days since 2020-01-01", "calendar": "noleap"})}
        write_netcdf(tmp_path / "a.nc", packed(masked_fields())[:2], CF, coords=times)
        assert [str(t) for t in XarrayFiles(tmp_path).times] == ["2020-02-28T00:00:00", "2020-03-01T00:00:00"]

    def test_names_tell_times_where_coordinates_do_not(self, tmp_path):
        values = masked_fields()
        for k in (2, 0, 1):
            write_netcdf(tmp_path / f"{9 - k}_20200101{k:02}00.nc", packed(values)[k : k + 1], CF)
        source = XarrayFiles(tmp_path)
        same(all_of(source), values)
        assert str(source.times[2]) == "2020-01-01T02:00:00"

    def test_a_dimension_of_times_by_name(self, tmp_path):
        values = masked_fields()
        write_netcdf(tmp_path / "a.nc", packed(values), CF, dims=("frame", "y", "x"))
        with pytest.raises(DataError, match=r"a\.nc: rain has the dimension frame \(3\): select="):
            XarrayFiles(tmp_path)
        source = XarrayFiles(tmp_path, time="frame")
        same(all_of(source), values)
        assert source.times is None


def ensemble():
    """Rain (time 2, number 3, level 2, y, x), and the data set."""
    values = np.random.default_rng(1).gamma(1.0, 2.0, (2, 3, 2, 12, 16)).astype("f4")
    coords = {**SIDES, "number": [10, 11, 12], "level": [850.0, 500.0]}
    times = np.array(["2020-01-01T00", "2020-01-01T06"], "datetime64[ns]")
    return values, xarray.Dataset(
        {"rain": (("time", "number", "level", "y", "x"), values, {"units": "mm/h"})},
        {**coords, "time": times},
    )


class TestDimensions:
    @pytest.fixture
    def folder(self, tmp_path):
        ensemble()[1].to_netcdf(tmp_path / "a.nc")
        return tmp_path

    @pytest.mark.parametrize("select", ["number=11,level=500", {"number": 11, "level": 500.0}])
    def test_members_and_levels_are_chosen_by_coordinate(self, folder, select):
        np.testing.assert_array_equal(all_of(XarrayFiles(folder, select=select)), ensemble()[0][:, 1, 1])

    def test_or_taken_as_more_fields_of_their_time(self, folder):
        source = XarrayFiles(folder, select="level=850", members="number")
        assert len(source) == 2
        np.testing.assert_array_equal(source.read(1, "train"), ensemble()[0][1, :, 0])
        patches = XarrayFiles(folder, select="level=850", members=["number"], size=(6, 8))
        assert patches.read(0, "test").shape == (12, 6, 8)
        both = XarrayFiles(folder, members="number,level")
        np.testing.assert_array_equal(both.read(0, "train"), ensemble()[0][0].reshape(6, 12, 16))

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (
                {},
                r"dimension number \(3\): select='number=10' takes one, members='number' all",
            ),
            ({"select": "number=13", "members": "level"}, "number is never 13, but 10, 11, 12"),
            ({"select": "numbr=10"}, "no dimension 'numbr' to select of, but time, number, level, y, x"),
            ({"time": "tmie"}, "no dimension 'tmie', but time, number"),
            ({"rows": "q"}, "no dimension 'q'"),
            ({"variable": "snow"}, "no variable 'snow', but rain"),
        ],
    )
    def test_what_is_missing_is_told(self, folder, options, words):
        with pytest.raises(DataError, match=words) as caught:
            XarrayFiles(folder, **options)
        assert "\n" not in str(caught.value)
        assert "a.nc" in str(caught.value)

    @pytest.mark.parametrize(
        "options", [{"select": "number"}, {"select": 3}, {"members": [3]}, {"time": 1}, {"backend": 5}]
    )
    def test_options_that_are_none(self, folder, options):
        with pytest.raises(ArgumentError):
            XarrayFiles(folder, **options)

    def test_positions_where_there_are_no_coordinates(self, tmp_path):
        values, data = ensemble()
        data.drop_vars(["number", "level"]).to_netcdf(tmp_path / "a.nc")
        found = all_of(XarrayFiles(tmp_path, select="number=2,level=0"))
        np.testing.assert_array_equal(found, values[:, 2, 0])
        with pytest.raises(DataError, match="level has positions 0 to 1, not 850"):
            XarrayFiles(tmp_path, select="number=2,level=850")

    def test_those_of_length_one_are_left_out(self, tmp_path):
        values, data = ensemble()
        one = data.isel(number=[1], level=[0])
        one.to_netcdf(tmp_path / "a.nc")
        np.testing.assert_array_equal(all_of(XarrayFiles(tmp_path)), values[:, 1, 0])
        assert len(XarrayFiles(tmp_path, select="level=850")) == 2
        with pytest.raises(DataError, match=r"level is never 500, but 850\.0"):
            XarrayFiles(tmp_path, select="level=500")

    def test_rows_and_columns_wherever_they_stand(self, tmp_path):
        values, data = ensemble()
        one = data.isel(number=0, level=0)
        one.transpose("y", "x", "time").to_netcdf(tmp_path / "a.nc")
        np.testing.assert_array_equal(all_of(XarrayFiles(tmp_path)), values[:, 0, 0])
        turned = XarrayFiles(tmp_path, rows="x", columns="y")
        np.testing.assert_array_equal(all_of(turned), values[:, 0, 0].swapaxes(1, 2))

    def test_unknown_names_of_rows_and_columns(self, tmp_path):
        values, data = ensemble()
        one = data.isel(number=0, level=0).drop_vars(["y", "x"]).rename(y="a", x="b")
        one.to_netcdf(tmp_path / "a.nc")
        np.testing.assert_array_equal(all_of(XarrayFiles(tmp_path)), values[:, 0, 0])

    def test_one_of_several_variables(self, tmp_path):
        values, data = ensemble()
        two = data.isel(number=0, level=0)
        two = two.assign(snow=two["rain"] + 1, height=("x", np.arange(16.0)))
        two.to_netcdf(tmp_path / "a.nc")
        with pytest.raises(DataError, match=r"several variables \(rain, snow\); choose one by `variable`"):
            XarrayFiles(tmp_path)
        source = XarrayFiles(tmp_path, variable="snow")
        np.testing.assert_array_equal(all_of(source), values[:, 0, 0] + 1)
        assert source.config()["variable"] == "snow"

    def test_groups(self, tmp_path):
        values, data = ensemble()
        data.isel(number=0, level=0).to_netcdf(tmp_path / "a.HDF5", group="Grid", engine="netcdf4")
        source = XarrayFiles(tmp_path, backend={"group": "Grid"})
        np.testing.assert_array_equal(all_of(source), values[:, 0, 0])


class TestUnits:
    def test_values_are_converted_when_asked_for(self, tmp_path):
        archive(tmp_path, attributes={**CF, "units": "m s-1"})
        source = XarrayFiles(tmp_path, to_unit="mm/h")
        same(all_of(source) / 3.6e6, masked_fields())
        assert source.unit == "mm/h"
        assert XarrayFiles(tmp_path, unit="mm h-1").unit == "mm h-1"

    def test_temperatures_have_another_zero(self, tmp_path):
        archive(tmp_path, attributes={**CF, "units": "degC"})
        found, values = all_of(XarrayFiles(tmp_path, to_unit="K")), masked_fields()
        np.testing.assert_allclose(found[~values.mask], values.compressed() + 273.15, atol=5e-5)

    def test_what_cannot_be_converted_is_refused(self, tmp_path):
        archive(tmp_path)
        with pytest.raises(ArgumentError, match="'mm h-1' cannot be turned into 'K'"):
            XarrayFiles(tmp_path, to_unit="K")

    def test_pixels_of_no_one_size_are_told_once(self, tmp_path):
        degrees = {"y": ("y", np.arange(12.0), {"units": "degrees_north"})}
        archive(tmp_path, **degrees)
        with pytest.warns(UserWarning, match="y is in degrees_north.*unless you give pixel_size=") as caught:
            source = XarrayFiles(tmp_path)
        assert len(caught) == 1
        assert source.length_unit == "pixel"
        assert XarrayFiles(tmp_path, pixel_size=1.0, length_unit="km").length_unit == "km"


class TestFaults:
    @pytest.fixture
    def folder(self, tmp_path):
        archive(tmp_path)
        return tmp_path

    def test_a_truncated_file(self, folder):
        content = (folder / "a.nc").read_bytes()
        (folder / "a.nc").write_bytes(content[: len(content) // 3])
        with pytest.raises(DataError, match=r"a\.nc: cannot be read .*skip_unreadable") as caught:
            XarrayFiles(folder)
        assert "\n" not in str(caught.value)
        with pytest.warns(UserWarning, match=r"left out 1 of 3 files, first a\.nc"):
            source = XarrayFiles(folder, skip_unreadable=True)
        assert len(source) == 2
        assert list(source.skipped) == ["a.nc"]

    def test_a_file_that_breaks_later(self, folder):
        source, skipping = XarrayFiles(folder), XarrayFiles(folder, skip_unreadable=True)
        (folder / "a.nc").write_bytes(b"no longer")
        with pytest.raises(DataError, match=r"a\.nc"):
            source.read(1, "train")
        assert skipping.read(1, "train").shape == (0, 12, 16)

    def test_a_file_that_changes_later(self, folder):
        source = XarrayFiles(folder)
        write_netcdf(folder / "a.nc", packed(masked_fields()), CF, coords=at([0, 1, 2]))
        with pytest.raises(DataError, match=r"a\.nc: it has changed since it was looked into"):
            source.read(1, "train")

    def test_another_variable_in_the_folder(self, folder):
        data = xarray.Dataset({"wind": (("time", "y", "x"), np.ones((1, 12, 16)))})
        data.to_netcdf(folder / "d.nc")
        with pytest.warns(UserWarning, match=r"left out 1 of 4 files, first d\.nc: it holds wind"):
            source = XarrayFiles(folder)
        assert len(source) == 3

    def test_no_files(self, tmp_path):
        for place in (tmp_path, tmp_path / "*.nc", tmp_path / "missing"):
            with pytest.raises(DataError, match="no file"):
                XarrayFiles(place)

    @pytest.mark.parametrize(
        ("suffix", "package", "extra"),
        [
            (".nc", "netCDF4", "xarray"),
            (".zarr", "zarr", "xarray"),
            (".grib2", "cfgrib", "grib"),
            (".tif", "rioxarray", "geotiff"),
            (".nc", "xarray", "xarray"),
        ],
    )
    def test_missing_packages(self, tmp_path, monkeypatch, suffix, package, extra):
        (tmp_path / f"a{suffix}").touch()
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ArgumentError, match=rf"needs {package}; run: pip install 'emuloss\[{extra}\]'"):
            XarrayFiles(tmp_path)

    def test_unknown_suffixes_need_an_engine(self, folder):
        (folder / "a.nc").rename(folder / "a.data")
        with pytest.raises(ArgumentError, match=r"a\.data ends in none of .*give engine='netcdf4'"):
            XarrayFiles(folder / "a.data")
        assert len(XarrayFiles(folder, engine="netcdf4")) == 3

    def test_a_file_system_without_locks(self, folder):
        with xarray.open_dataset(folder / "a.nc") as data:
            data.to_netcdf(folder / "d.nc", group="inner")
        values = masked_fields()
        with contextlib.ExitStack() as locked:
            for path in folder.iterdir():  # where the library asks for a lock, it meets one that is held
                fcntl.flock(locked.enter_context(path.open("rb+")), fcntl.LOCK_EX)
            same(all_of(XarrayFiles(f"{folder}/[abc].nc")), values)
            same(all_of(XarrayFiles(folder / "d.nc", backend={"group": "inner"})), values[1:2])


class TestFilesThatSayTheSame:
    """What such files say is found out once; what they do not have in common is read of each."""

    @pytest.fixture
    def found(self, monkeypatch):
        """The number of files that were looked into by their dimensions."""
        found, layout_of = [], xarray_files.layout_of
        monkeypatch.setattr(xarray_files, "layout_of", lambda *args: found.append(1) or layout_of(*args))
        return found

    def write(self, folder, k, day=1, minutes=0, attributes=CF, suffix=".nc", **coords):
        times = {"time": ("time", [minutes], {"units": f"minutes since 2020-01-{day:02}"})}
        values = packed(masked_fields())[k : k + 1]
        write_netcdf(folder / f"{k}{suffix}", values, attributes, coords={**times, **SIDES, **coords})

    @pytest.mark.parametrize("suffix", [".nc", ".zarr"])
    def test_times_count_from_the_day_of_each(self, tmp_path, found, suffix):
        for k, day in enumerate((5, 3, 4)):
            self.write(tmp_path, k, day, 10 * k, suffix=suffix)
        source = XarrayFiles(tmp_path)
        assert [str(time) for time in source.times] == [
            "2020-01-03T00:10:00", "2020-01-04T00:20:00", "2020-01-05T00:00:00"
        ]  # fmt: skip
        same(all_of(source), masked_fields()[[1, 2, 0]])
        assert len(found) == 1

    def test_coordinates_that_differ_are_seen(self, tmp_path, found):
        for k in range(3):
            wider = {"x": ("x", 2500.0 * np.arange(16), {"units": "m"})} if k == 1 else {}
            tall = {"y": ("y", 2500.0 * np.arange(12), {"units": "m"})} if k == 1 else {}
            self.write(tmp_path, k, minutes=k, **wider, **tall)
        with pytest.warns(UserWarning, match=r"first 1\.nc: pixel size 2\.5 km differs from 2 km"):
            XarrayFiles(tmp_path)
        assert len(found) == 2

    @pytest.mark.parametrize("change", [{"units": "mm d-1"}, {"scale_factor": 0.2}, {"missing_value": -5}])
    def test_attributes_that_differ_are_seen(self, tmp_path, found, change):
        for k in range(3):
            self.write(tmp_path, k, minutes=k, attributes={**CF, **change} if k == 1 else CF)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            source = XarrayFiles(tmp_path)
        assert len(found) == 2
        assert list(source.skipped) == (["1.nc"] if "units" in change else [])
        assert source.quantum == pytest.approx(0.1)

    def test_a_level_of_which_there_is_one_differs(self, tmp_path):
        for k in range(3):
            self.write(tmp_path, k, minutes=k, level=(850.0 if k == 1 else 500.0))
        with pytest.warns(UserWarning, match=r"1 of 3 files, first 1\.nc: rain: level is never 500, but 850"):
            source = XarrayFiles(tmp_path, select="level=500")
        assert len(source) == 2


MISSING = [
    ("f8", [0.0, np.nan, 20.0], {}),
    ("f8", [0.0, -1.0, 20.0], {"_FillValue": -1.0}),
    ("f8", [0.0, 9.969209968386869e36, 20.0], {}),
    ("i4", [0, -2147483647, 20], {}),
    ("i8", [0, 7, 20], {"missing_value": 7}),
]
"""Times in minutes, the second of which is missing in some way."""


class TestMissingTimes:
    @pytest.fixture(params=MISSING, ids=["nan", "fill", "unwritten", "unwritten-whole", "marker"])
    def times(self, request):
        kind, minutes, attributes = request.param
        return {
            "time": ("time", np.array(minutes, kind), {"units": "minutes since 2020-01-01", **attributes})
        }

    def test_frames_without_one_are_left_out_of_an_archive(self, tmp_path, times):
        values = masked_fields()
        write_netcdf(tmp_path / "a.nc", packed(values)[:3], CF, coords=times)
        write_netcdf(tmp_path / "b.nc", packed(values)[:1], CF, coords=at([10]))
        words = r"left out 1 of 4 frames, whose times are missing, first in a\.nc"
        with pytest.warns(UserWarning, match=words):
            source = XarrayFiles(tmp_path)
        assert [str(time)[11:16] for time in source.times] == ["00:00", "00:10", "00:20"]
        same(all_of(source), values[[0, 0, 2]])
        assert not source.skipped

    def test_and_of_an_array(self, times):
        values = masked_fields()[:3]
        array = xarray.DataArray(values.filled(np.nan), times, ("time", "y", "x"))
        with pytest.warns(UserWarning, match="left out 1 of 3 frames, whose times are missing"):
            source = as_source(array)
        assert len(source.times) == 2
        same(all_of(source), values[[0, 2]])

    def test_all_of_them_tell_none(self, tmp_path, times):
        name, minutes, attributes = times["time"]
        gone = {"time": (name, np.full_like(minutes, minutes[1]), attributes)}
        write_netcdf(tmp_path / "a.nc", packed(masked_fields())[:3], CF, coords=gone)
        assert XarrayFiles(tmp_path).times is None
        assert len(XarrayFiles(tmp_path)) == 3

    def test_a_lead_that_is_missing(self, tmp_path):
        made = {"units": "hours since 2020-01-01", "standard_name": "forecast_reference_time"}
        leads = ("time", [1.0, np.nan, 3.0], {"units": "hours", "standard_name": "forecast_period"})
        coords = {"made": ((), 0.0, made), "time": leads}
        write_netcdf(tmp_path / "a.nc", packed(masked_fields())[:3], CF, coords=coords)
        with pytest.warns(UserWarning, match="left out 1 of 3 frames"):
            source = XarrayFiles(tmp_path, time="time")
        assert [str(time)[11:13] for time in source.times] == ["01", "03"]

    def test_other_attributes_of_times_say_nothing(self, tmp_path):
        told = {"units": "minutes since 2020-01-01", "offset": 5.0, "valid_range": "none"}
        times = {"time": ("time", [0, 10, 20], told)}
        write_netcdf(tmp_path / "a.nc", packed(masked_fields())[:3], CF, coords=times)
        assert [str(time)[14:16] for time in XarrayFiles(tmp_path).times] == ["00", "10", "20"]


class TestTimesOfBareFiles:
    """What is given as a file and nothing more tells times, too."""

    @pytest.mark.parametrize("suffix", [".nc", ".zarr"])
    def test_in_order(self, tmp_path, suffix):
        path = tmp_path / f"a{suffix}"
        write_netcdf(path, packed(masked_fields())[:3], CF, coords=at([0, 10, 20]))
        source = as_source(str(path))
        assert source.name == "array"
        assert [str(time)[11:16] for time in source.times] == ["00:00", "00:10", "00:20"]
        assert list(source.ends) == list(source.times)

    @pytest.mark.parametrize("minutes", [[10, 0, 20], [0.0, np.nan, 20.0]])
    def test_not_in_order_or_not_all(self, tmp_path, minutes):
        values = masked_fields()[:3]
        write_netcdf(tmp_path / "a.nc", packed(values), CF, coords=at(minutes))
        source = as_source(str(tmp_path / "a.nc"))
        assert source.times is None
        same(all_of(source), values)

    def test_one_frame_and_axes_of_length_one(self, tmp_path):
        values = packed(masked_fields())
        coords = {"time": ((), 10, {"units": "minutes since 2020-01-01"})}
        write_netcdf(tmp_path / "a.nc", values[0], CF, ("y", "x"), coords)
        assert [str(time)[11:16] for time in as_source(str(tmp_path / "a.nc")).times] == ["00:10"]
        dims = ("time", "level", "y", "x")
        write_netcdf(tmp_path / "b.nc", values[:3, None], CF, dims, at([0, 10, 20]))
        assert len(as_source(str(tmp_path / "b.nc")).times) == 3

    def test_chunks_of_several_frames(self, tmp_path):
        values = np.ones((30, 4, 4), "f4")
        write_netcdf(tmp_path / "a.nc", values, {}, coords=at(np.arange(30)))
        source = as_source(str(tmp_path / "a.nc"))
        assert [str(time)[14:16] for time in source.times[:2]] == ["00", "03"]
        assert [str(time)[14:16] for time in source.ends[-2:]] == ["26", "29"]
        store = emuloss.label(fields=source, thresholds=[0.5], out=tmp_path / "l.h5", progress=False)
        assert store.times("test")[-1] == np.datetime64("2020-01-01T00:27")


@pytest.mark.filterwarnings("ignore:Use .@. matmul:PendingDeprecationWarning")
class TestGeoTiff:
    """rasterio writes, rioxarray reads."""

    def write(self, path, bands, crs, **more):
        rasterio = pytest.importorskip("rasterio")
        pytest.importorskip("rioxarray")
        count, height, width = bands.shape
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            count=count,
            height=height,
            width=width,
            dtype=bands.dtype.name,
            crs=crs,
            transform=rasterio.transform.from_origin(4e6 if crs else 5, 3e6 if crs else 50, 1000, 1000),
            nodata=-9999,
        ) as file:
            file.write(bands)
            file.scales, file.offsets = [0.1] * count, [20.0] * count
            file.units = ["mm"] * count

    def test_values_times_and_pixels(self, tmp_path):
        values = masked_fields()
        for k in range(3):
            self.write(tmp_path / f"R_20200101_0{k}00.tif", packed(values)[k : k + 1], "EPSG:3035")
        source = as_source(f"xarray:{tmp_path}")
        same(all_of(source), values)
        assert (source.unit, source.pixel_size, source.length_unit) == ("mm", 1.0, "km")
        assert str(source.times[1]) == "2020-01-01T01:00:00"

    def test_bands(self, tmp_path):
        values = masked_fields()
        self.write(tmp_path / "a.tif", packed(values), "EPSG:3035")
        same(all_of(XarrayFiles(tmp_path, time="band")), values)
        same(all_of(XarrayFiles(tmp_path, select="band=2")), values[1:2])


class TestGrib:
    """eccodes writes, cfgrib reads."""

    def write(self, path, values, hours, numbers=(0,)):
        eccodes = pytest.importorskip("eccodes")
        pytest.importorskip("cfgrib")
        height, width = values.shape[-2:]
        with open(path, "wb") as file:
            for hour, number in [(hour, number) for hour in hours for number in numbers]:
                message = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
                told = {
                    **({"productDefinitionTemplateNumber": 1} if len(numbers) > 1 else {}),
                    "shortName": "t",
                    "dataDate": 20200101,
                    "dataTime": 0,
                    "forecastTime": hour,
                    "Ni": width,
                    "Nj": height,
                    "latitudeOfFirstGridPointInDegrees": 50 + height - 1,
                    "latitudeOfLastGridPointInDegrees": 50,
                    "longitudeOfFirstGridPointInDegrees": 5,
                    "longitudeOfLastGridPointInDegrees": 5 + width - 1,
                    "iDirectionIncrementInDegrees": 1,
                    "jDirectionIncrementInDegrees": 1,
                    "bitmapPresent": 1,
                    "missingValue": 9999,
                    **({"number": number, "numberOfForecastsInEnsemble": 9} if len(numbers) > 1 else {}),
                    "bitsPerValue": 24,
                }
                for key, value in told.items():
                    eccodes.codes_set(message, key, value)
                frame = values[hours.index(hour), numbers.index(number)]
                eccodes.codes_set_values(message, frame.filled(9999).astype(float).ravel())
                eccodes.codes_write(message, file)
                eccodes.codes_release(message)

    def test_steps_are_times_and_nothing_is_written(self, tmp_path):
        values = masked_fields()
        self.write(tmp_path / "a.grib2", values[:, None], [0, 6, 12])
        with pytest.warns(UserWarning, match="latitude is in degrees_north"):
            source = as_source(f"xarray:{tmp_path}")
        same(np.round(all_of(source), 4), values)
        assert [str(time)[11:13] for time in source.times] == ["00", "06", "12"]
        assert source.unit == "K"
        assert [path.name for path in tmp_path.iterdir()] == ["a.grib2"]
        assert len(pickle.dumps(source)) < 10_000

    def test_members(self, tmp_path):
        values = np.ma.stack([masked_fields(), masked_fields() + 1], axis=1)
        self.write(tmp_path / "a.grib", values, [0, 6, 12], (0, 1))
        same(np.round(all_of(XarrayFiles(tmp_path, select="number=1", pixel_size=1)), 4), values[:, 1])
        same(XarrayFiles(tmp_path, members="number", pixel_size=1).read(2, "test"), values[2])

    def test_a_message_that_is_cut_off(self, tmp_path):
        self.write(tmp_path / "a.grib", masked_fields()[:, None], [0, 6, 12])
        source = XarrayFiles(tmp_path, pixel_size=1)
        (tmp_path / "a.grib").write_bytes((tmp_path / "a.grib").read_bytes()[:-100])
        for read in (lambda: XarrayFiles(tmp_path), lambda: source.read(0, "test")):
            with pytest.raises(DataError, match=r"a\.grib: truncated, or no GRIB.*`skip_unreadable`"):
                read()

    def test_a_file_of_many_messages_is_scanned_once(self, tmp_path, monkeypatch):
        self.write(tmp_path / "a.grib", masked_fields()[:, None], [0, 6, 12])
        source = XarrayFiles(tmp_path, pixel_size=1)
        opening, opened = xarray.open_dataset, []
        monkeypatch.setattr(xarray, "open_dataset", lambda *a, **b: opened.append(a) or opening(*a, **b))
        xarray_engines._scanned.cache_clear()
        all_of(source)
        assert len(opened) == 1


class TestTimesOfForecasts:
    """When fields are valid, not when they were forecast."""

    MADE: ClassVar = {"units": "hours since 2020-01-01", "standard_name": "forecast_reference_time"}
    LEAD: ClassVar = {"units": "hours", "standard_name": "forecast_period"}

    def test_one_time_a_file(self, tmp_path):
        values = masked_fields()
        for k in range(3):
            coords = {"time": ((), 2.0 - k, {"units": "hours since 2020-01-01"})}
            write_netcdf(tmp_path / f"{k}.nc", packed(values)[k], CF, ("y", "x"), coords)
        source = XarrayFiles(tmp_path)
        assert [path.stem for path in source.files] == ["2", "1", "0"]
        assert [str(time)[11:13] for time in source.times] == ["00", "01", "02"]

    def test_several_leads_in_a_file(self, tmp_path):
        coords = {"lead": ("lead", [3.0, 0.0, 6.0], self.LEAD), "made": ((), 6.0, self.MADE)}
        path = write_netcdf(tmp_path / "a.nc", packed(masked_fields()), CF, ("lead", "y", "x"), coords)
        source = XarrayFiles(tmp_path)
        assert [entry.index for entry in source.entries] == [1, 0, 2]
        assert [str(time)[11:13] for time in source.times] == ["06", "09", "12"]
        with xarray.open_dataset(path) as data:
            assert [str(time)[11:13] for time in as_source(data.load()).times] == ["06", "09", "12"]

    def test_one_lead_a_file(self, tmp_path):
        for k in range(3):
            lead = ((), 180.0 * k, {**self.LEAD, "units": "minutes"})
            coords = {"lead": lead, "time": ((), 6.0, self.MADE)}
            write_netcdf(tmp_path / f"{k}.nc", packed(masked_fields())[k], CF, ("y", "x"), coords)
        assert [str(time)[11:13] for time in XarrayFiles(tmp_path).times] == ["06", "09", "12"]

    def test_steps_of_which_nothing_is_known_have_no_time(self, tmp_path):
        coords = {"step": ("step", [0.0, 1.0, 2.0]), "time": ((), 6.0, self.MADE)}
        write_netcdf(tmp_path / "a.nc", packed(masked_fields()), CF, ("step", "y", "x"), coords)
        assert XarrayFiles(tmp_path, time="step").times is None

    def test_dates_of_cftime(self):
        cftime = pytest.importorskip("cftime")
        dates = [cftime.DatetimeNoLeap(2004, 3, day) for day in (1, 2, 3)]
        data = xarray.DataArray(masked_fields().filled(0), dims=("time", "y", "x"), coords={"time": dates})
        assert [str(time)[5:10] for time in as_source(data).times] == ["03-01", "03-02", "03-03"]


def test_days_that_are_no_dates_keep_their_order(tmp_path):
    xarray = pytest.importorskip("xarray")
    days = {"units": "days since 2001-01-01", "calendar": "360_day"}
    for k in range(12):  # a file a month, of 30 days each; names in another order than times
        times = ("time", np.arange(30.0 * k, 30.0 * (k + 1)), days)
        data = xarray.Dataset({"rain": (("time", "y", "x"), np.full((30, 8, 8), float(k)))}, {"time": times})
        data.to_netcdf(tmp_path / f"{11 - k:02}.nc")
    source = XarrayFiles(tmp_path)
    assert len(source) == 360
    steps = np.diff(np.array(source.times)) / np.timedelta64(1, "h")
    np.testing.assert_allclose(steps, 24 * 365 / 360, atol=1e-3)
    assert source.times[0] == np.datetime64("2001-01-01")
    assert [source.read(k, "test")[0, 0, 0] for k in (0, 59, 60, 359)] == [0, 1, 2, 11]
