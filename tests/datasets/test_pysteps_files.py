"""Files that importers of pysteps read: small ones that these tests write, compared with the importers."""

import bz2
import gzip
import pickle
import sys
import warnings

import h5py
import numpy as np
import pytest
from array_files import swiss
from emuloss.datasets import PystepsFiles, open_source
from emuloss.datasets.sources.pysteps_importers import importers
from emuloss.errors import ArgumentError, DataError

pytest.importorskip("pysteps")
from pysteps.io import importers as of_pysteps

GEOGRAPHY = (
    "# obstime {time}\n# metersperpixel_x 999.674053\n# metersperpixel_y 999.62859\n# projection radar {{\n"
    "# type stereographic\n# centrallongitude 25\n# centrallatitude 90\n# truelatitude 60\n"
    "# bottomleft 18.6 57.93\n# topright 34.903 69.005\n# }}\n"
)


def levels(seed, shape=(12, 15), dry=64):
    """Grey levels of a picture: many dry ones, some missing."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(shape) < 0.2, 255, rng.integers(dry, 150, shape) * (rng.random(shape) < 0.6))


def finnish(folder, time, pixels, opened=gzip.open):
    """Write a composite as the Finnish service does: a packed PGM, missing where 255."""
    path = folder / f"{time}_fmi.radar.composite.lowest_FIN_SUOMI1.pgm{'.gz' if opened is gzip.open else ''}"
    height, width = pixels.shape
    head = f"P5\n{GEOGRAPHY.format(time=time)}{width} {height}\n255\n"
    with opened(path, "wb") as file:
        file.write(head.encode() + pixels.astype(np.uint8).tobytes())
    return path


def swiss_depth(path):
    """What the importer makes of such a file, which it leaves open."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        return of_pysteps.import_mch_gif(str(path), "AQC", "mm", 5)[0]


def odim(path, raw, quantity="RATE", scale=2000.0):
    """Write a composite in ODIM-HDF5: hundredths, 65535 where no radar is, 0 where no echo is."""
    with h5py.File(path, "w") as file:
        file["dataset1/data1/data"] = np.asarray(raw, np.uint16)
        what = {
            "quantity": np.bytes_(quantity),
            "gain": 0.01,
            "offset": 0.0,
            "nodata": 65535.0,
            "undetect": 0.0,
        }
        file.require_group("dataset1/data1/what").attrs.update(what)
        corners = {"LL_lon": 0.0, "LL_lat": 50.0, "UR_lon": 1.0, "UR_lat": 51.0}
        sides = {"xscale": scale, "yscale": scale}
        file.require_group("where").attrs.update(projdef=np.bytes_("+proj=laea +lat_0=55 +lon_0=10"))
        file["where"].attrs.update({**corners, **sides})
    return path


def dutch(path, raw):
    """Write a file as the Dutch service does: HDF5, hundredths of mm, 65535 where no radar is."""
    told = {
        "geo_column_offset": 0.0,
        "geo_row_offset": 3650.0,
        "geo_pixel_size_x": 1.0,
        "geo_pixel_size_y": -1.0,
    }
    with h5py.File(path, "w") as file:
        file["image1/image_data"] = np.asarray(raw, np.uint16)
        place = file.require_group("geographic").attrs
        sides = {"geo_number_rows": raw.shape[0], "geo_number_columns": raw.shape[1]}
        place.update({key: np.array([value]) for key, value in {**told, **sides}.items()})
        place["geo_dim_pixel"] = np.bytes_("KM,KM")
        corners = [0.0, 49.362, 0.0, 55.974, 10.856, 55.389, 9.009, 48.895]
        place["geo_product_corners"] = corners  # which older versions of pysteps read
        projection = np.bytes_("+proj=stere +lat_0=90")
        file.require_group("geographic/map_projection").attrs["projection_proj4_params"] = projection


def accumulated(path, values, minutes, unit="mm"):
    """Write a file as the Australian service does: NetCDF, masked, of rain from a start to an end."""
    netCDF4 = pytest.importorskip("netCDF4")
    with netCDF4.Dataset(path, "w") as file:
        for name, count in zip("yx", values.shape, strict=True):
            file.createDimension(name, count)
            axis = file.createVariable(name, "f8", (name,))
            axis.units = "km"
            axis[:] = np.arange(count) * 0.5
        for name, time in (("start_time", 0), ("valid_time", 60 * minutes)):
            file.createVariable(name, "i4", ()).units = "seconds since 2020-08-10 05:40:00"
            file[name][...] = time
        file.createVariable("proj", "i1", ()).grid_mapping_name = "albers_conical_equal_area"
        file["proj"].setncatts(
            {"longitude_of_central_meridian": 150.0, "latitude_of_projection_origin": -33.0}
        )
        file["proj"].standard_parallel = np.array([-30.0, -36.0])
        rain = file.createVariable("precipitation", "i2", ("y", "x"), fill_value=-1)
        rain.setncatts({"units": unit, "scale_factor": 0.05})
        rain[:] = np.ma.masked_less(values, 0)
    return path


def test_accumulations_become_rates(tmp_path):
    pixels = levels(0)
    path = swiss(tmp_path, "AQC161932045V_00005.801.gif", pixels)
    depth = swiss_depth(path)
    source = PystepsFiles(f"mch_gif:{tmp_path}")
    assert (source.unit, source.pixel_size, source.length_unit, source.dry) == ("mm/h", 1.0, "km", 0.0)
    np.testing.assert_array_equal(source.read(0, "test")[0], (depth * 12).astype(np.float32))
    # The levels of the pictures of these products, in mm in 5 minutes.
    wet = (pixels >= 2) & (pixels < 251)
    expected = np.where(wet, 12 * (10 ** ((pixels - 71.5) / 20) / 316) ** (1 / 1.5), 0)
    np.testing.assert_allclose(
        source.read(0, "test")[0], np.where(pixels == 255, np.nan, expected), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("options", "unit", "factor"),
    [
        ({"to_unit": "mm"}, "mm", 1),
        ({"unit": "mm"}, "mm", 1),
        ({"unit": "mm/h"}, "mm/h", 1),
        ({"accutime": 60}, "mm/h", 1),
        ({"unit": "mm", "to_unit": "mm/h", "accutime": 10}, "mm/h", 6),
        ({"to_unit": "mm/day"}, "mm/day", 288),
    ],
)
def test_accumulations_become_what_is_asked_for(tmp_path, options, unit, factor):
    path = swiss(tmp_path, "AQC161932045V_00005.801.gif", levels(1))
    depth = swiss_depth(path)
    source = PystepsFiles(f"mch_gif:{tmp_path}", **options)
    assert source.unit == unit
    np.testing.assert_allclose(source.read(0, "test")[0], depth * factor, rtol=1e-6)


def test_reflectivity_becomes_rain(tmp_path):
    pixels = levels(2)
    path = finnish(tmp_path, "201609281445", pixels)
    dbz, _, metadata = of_pysteps.import_fmi_pgm(str(path), gzipped=True)
    assert (metadata["zr_a"], metadata["zr_b"]) == (223.0, 1.53)
    kept = PystepsFiles(f"fmi_pgm:{tmp_path}", to_unit="dBZ")
    assert (kept.unit, kept.quantum, kept.dry, kept.length_unit) == ("dBZ", 0.5, None, "km")
    assert kept.pixel_size == pytest.approx(0.9996, abs=1e-4)
    np.testing.assert_array_equal(kept.read(0, "test")[0], dbz.astype(np.float32))
    for options, (a, b) in [({}, (223, 1.53)), ({"zr": [200, 1.6]}, (200, 1.6))]:
        source = PystepsFiles(f"fmi_pgm:{tmp_path}", **options)
        rain = np.where(pixels > 0, (10 ** (dbz / 10) / a) ** (1 / b), 0)
        np.testing.assert_allclose(
            source.read(0, "test")[0], np.where(pixels == 255, np.nan, rain), rtol=1e-6
        )
        assert (source.unit, source.dry, source.config()["zr"]) == ("mm/h", 0.0, [a, b])


def test_coarse_rain_is_the_mean_of_rates(tmp_path):
    pixels = levels(0)
    finnish(tmp_path, "201609281600", pixels)
    options = {"place": f"fmi_pgm:{tmp_path}"}
    fine, coarse = PystepsFiles(**options), PystepsFiles(**options, coarsen=3)
    assert coarse.pixel_size == pytest.approx(3 * fine.pixel_size)
    blocks = fine.read(0, "test")[0].reshape(4, 3, 5, 3)
    measured = (~np.isnan(blocks)).mean((1, 3))
    expected = np.where(measured >= 0.5, np.nanmean(blocks, (1, 3)), np.nan)
    np.testing.assert_allclose(coarse.read(0, "test")[0], expected, rtol=1e-6)
    with pytest.raises(ArgumentError, match="has dBZ, whose means are none of rain"):
        PystepsFiles(**options, coarsen=2, to_unit="dBZ")


def test_the_weakest_echo_of_a_wet_frame_is_not_dry(tmp_path):
    finnish(tmp_path, "201609281445", np.arange(100, 200).reshape(10, 10))
    assert PystepsFiles(f"fmi_pgm:{tmp_path}").read(0, "test").min() > 0.1


def test_packed_and_plain_files(tmp_path):
    pixels = levels(3)
    finnish(tmp_path, "201609281445", pixels, open)
    finnish(tmp_path, "201609281500", pixels)
    source = PystepsFiles(f"fmi_pgm:{tmp_path}")
    np.testing.assert_array_equal(source.read(0, "test"), source.read(1, "test"))


@pytest.mark.parametrize(("suffix", "packed"), [(".gz", gzip.compress), (".bz2", bz2.compress)])
def test_packed_files_of_importers_that_unpack_none(tmp_path, suffix, packed):
    plain = swiss(tmp_path, "AQC161932045V_00005.801.gif", levels(4))
    options = {"product": "AQC", "unit": "mm", "to_unit": "mm", "accutime": 5}
    expected = PystepsFiles(f"mch_gif:{tmp_path}", **options).read(0, "test")
    (tmp_path / f"{plain.name}{suffix}").write_bytes(packed(plain.read_bytes()))
    plain.unlink()
    source = PystepsFiles(f"mch_gif:{tmp_path}", **options)
    np.testing.assert_array_equal(source.read(0, "test"), expected)
    assert str(source.times[0]) == "2016-07-11T20:45:00"


def test_order_of_time(tmp_path):
    """The day of the year tells the order, beyond the turn of the year; so does a format that is given."""
    for name in ("AQC170010000V", "AQC163662355V", "AQC163662350V"):
        swiss(tmp_path, f"{name}_00005.801.gif", levels(len(name)))
    source = PystepsFiles(f"mch_gif:{tmp_path}")
    assert [path.name[3:12] for path in source.files] == ["163662350", "163662355", "170010000"]
    expected = ["2016-12-31T23:50", "2016-12-31T23:55", "2017-01-01T00:00"]
    assert [str(time)[:16] for time in source.times] == expected
    turned = PystepsFiles(f"mch_gif:{tmp_path}", time_format="AQC%y%j%M%H", pattern="*170*")
    assert str(turned.times[0]) == "2017-01-01T00:00:00"


def test_files_of_other_names_are_left_out(tmp_path):
    for name in ("AQC161932045V", "AQC161932050V", "CPC161932050V"):
        swiss(tmp_path, f"{name}_00005.801.gif", levels(5))
    (tmp_path / "README.txt").write_text("about")
    with pytest.warns(
        UserWarning, match=r"left out 2 of 4 files, first CPC161932050V_00005.801.gif: its name"
    ):
        source = PystepsFiles(f"mch_gif:{tmp_path}")
    assert len(source) == 2
    assert list(source.skipped) == ["CPC161932050V_00005.801.gif", "README.txt"]


def test_odim(tmp_path):
    rng = np.random.default_rng(6)
    raw = rng.integers(0, 900, (8, 9)) * (rng.random((8, 9)) < 0.5)
    raw[0] = 65535
    path = odim(tmp_path / "radar_20180824180000.h5", raw)
    for importer in ("odim_hdf5", "opera_hdf5"):
        source = PystepsFiles(f"{importer}:{tmp_path}")
        assert (source.unit, source.pixel_size, source.quantum) == ("mm/h", 2.0, 0.01)
        values = of_pysteps.import_odim_hdf5(str(path))[0]
        np.testing.assert_array_equal(source.read(0, "test")[0], values.astype(np.float32))
        np.testing.assert_allclose(source.read(0, "test")[0][1:], raw[1:] / 100, rtol=1e-6)


def test_accumulation_times_that_are_not_known_are_not_guessed(tmp_path):
    odim(tmp_path / "radar_20180824180000.h5", np.full((4, 4), 300), "ACRR")
    place = f"odim_hdf5:{tmp_path}"
    assert of_pysteps.import_odim_hdf5(str(tmp_path / "radar_20180824180000.h5"), "ACRR")[2]["accutime"] == 15
    kept = PystepsFiles(place, qty="ACRR")
    assert (kept.unit, kept.read(0, "test").max()) == ("mm", 3)
    with pytest.raises(ArgumentError, match=r"'odim_hdf5' does not know .* give `accutime`, in minutes"):
        PystepsFiles(place, qty="ACRR", to_unit="mm/h")
    hourly = PystepsFiles(place, qty="ACRR", accutime=120)
    assert (hourly.unit, hourly.read(0, "test").max()) == ("mm/h", 1.5)
    assert hourly.config()["accutime"] == 120


def test_names_tell_accumulation_times(tmp_path):
    """Of files whose names pysteps knows; others hold hours or days, and the importer cannot say which."""
    raw = np.where(np.eye(5) > 0, 65535, np.arange(25.0).reshape(5, 5))
    expected = np.where(raw == 65535, np.nan, raw / 100)
    dutch(tmp_path / "RAD_NL25_RAP_5min_202001010005.h5", raw)
    dutch(tmp_path / "RAD_NL25_RAC_24H_202001010005.h5", raw)
    for kind, options, unit, factor in [
        ("RAP", {}, "mm/h", 12),
        ("RAC", {}, "mm", 1),
        ("RAC", {"accutime": 24 * 60}, "mm/h", 1 / 24),
    ]:
        source = PystepsFiles(f"knmi_hdf5:{tmp_path}", pattern=f"*{kind}*", **options)
        assert (source.unit, source.pixel_size, source.length_unit) == (unit, 1.0, "km")
        np.testing.assert_allclose(source.read(0, "test")[0], expected * factor, rtol=1e-6)


def test_accumulation_times_in_files(tmp_path):
    values = np.arange(30.0).reshape(5, 6) - 3
    for minutes in (6, 12):
        accumulated(tmp_path / f"2_20200810_05{40 + minutes}00.prcp-cscn.nc", values, minutes)
    source = PystepsFiles(f"bom_rf3:{tmp_path}")
    assert (source.unit, source.pixel_size) == ("mm/h", 0.5)
    for k, factor in enumerate((10, 5)):
        expected = np.where(values < 0, np.nan, values * factor)
        np.testing.assert_allclose(source.read(k, "test")[0], expected, rtol=1e-6)


def test_a_file_that_tells_no_accumulation_time(tmp_path):
    for minutes in (6, 12, 18):
        accumulated(tmp_path / f"2_20200810_05{40 + minutes}00.prcp-cscn.nc", np.eye(4), minutes)
    accumulated(tmp_path / "2_20200810_055200.prcp-cscn.nc", np.eye(4), 0)
    source = PystepsFiles(f"bom_rf3:{tmp_path}", quantum=0.05)
    with pytest.raises(DataError, match=r"055200.*'bom_rf3' does not know .* give `accutime`"):
        source.read(1, "test")
    assert PystepsFiles(f"bom_rf3:{tmp_path}", accutime=30).read(1, "test").max() == 2


def test_rates_are_not_below_none(tmp_path, monkeypatch):
    said = {"unit": "mm", "accutime": 30}
    monkeypatch.setattr(
        of_pysteps, "import_low", lambda filename: (np.load(filename), None, said), raising=False
    )
    np.save(tmp_path / "201808241800.npy", np.array([[-0.01, 1.0], [0.0, np.nan]]))
    source = PystepsFiles(f"low:{tmp_path}")
    np.testing.assert_array_equal(source.read(0, "test")[0], [[0, 2], [0, np.nan]])


def test_patches_and_markers(tmp_path):
    raw = np.arange(64).reshape(8, 8) + 1
    odim(tmp_path / "radar_20180824180000.h5", raw)
    source = PystepsFiles(f"odim_hdf5:{tmp_path}", size=4, stride=2, nodata=0.64, min_coverage=1)
    assert source.field_shape == (4, 4)
    assert [len(source.read(0, role)) for role in ("train", "test")] == [8, 3]
    np.testing.assert_allclose(source.read(0, "test")[0], raw[:4, :4] / 100, rtol=1e-6)


def test_a_copy_reads_alone(tmp_path):
    finnish(tmp_path, "201609281445", levels(7))
    source = open_source(f"pysteps:fmi_pgm:{tmp_path}")
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy.read(0, "test"), source.read(0, "test"))
    assert copy.config() == source.config()


def test_one_file_is_read_to_know_all(tmp_path, monkeypatch):
    """Importers read all of a file: an archive of many must be built without."""
    for minute in range(40):
        finnish(tmp_path, f"2016092814{minute:02}", levels(minute))
    calls = []
    original = of_pysteps.import_fmi_pgm
    monkeypatch.setattr(
        of_pysteps,
        "import_fmi_pgm",
        lambda filename, gzipped=False: calls.append(filename) or original(filename, gzipped),
    )
    assert len(PystepsFiles(f"fmi_pgm:{tmp_path}")) == 40
    assert len(calls) <= 4


def test_unreadable_files(tmp_path):
    for minute in range(5):
        path = finnish(tmp_path, f"20160928140{minute}", levels(minute))
        if minute in (0, 3):
            path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"201609281400_fmi.*cannot be read .*skip_unreadable"):
        PystepsFiles(f"fmi_pgm:{tmp_path}")
    with pytest.warns(UserWarning, match="left out 1 of 5 files, first 201609281400_fmi"):
        source = PystepsFiles(f"fmi_pgm:{tmp_path}", skip_unreadable=True)
    assert [len(source.read(k, "test")) for k in range(len(source))] == [1, 1, 0, 1]
    assert [name[:12] for name in source.skipped] == ["201609281400", "201609281403"]


def test_files_that_differ_show_when_they_are_read(tmp_path):
    for minute in range(7):
        odim(
            tmp_path / f"radar_2018082418{minute:02}.h5",
            np.full((4, 4), 9),
            scale=1000 if minute == 1 else 2000,
        )
    odim(tmp_path / "radar_201808241802.h5", np.full((4, 5), 9))
    source = PystepsFiles(f"odim_hdf5:{tmp_path}")
    with pytest.raises(
        DataError, match=r"1801.h5: it holds mm/h in pixels of 1000.0 by 1000.0 m, the first file"
    ):
        source.read(1, "test")
    with pytest.raises(DataError, match=r"1802.h5: shape \(4, 5\) differs from \(4, 4\)"):
        source.read(2, "test")
    source = PystepsFiles(f"odim_hdf5:{tmp_path}", skip_unreadable=True)
    assert [len(source.read(k, "test")) for k in range(7)] == [1, 0, 0, 1, 1, 1, 1]
    assert list(source.skipped) == ["radar_201808241801.h5", "radar_201808241802.h5"]


@pytest.mark.timeout(20)
def test_a_picture_without_comments_ends(tmp_path):
    """In which pysteps would look for comments for ever."""
    (tmp_path / "201609281445.pgm").write_bytes(b"P5\n2 2\n255\n\1\2\3\4")
    with pytest.raises(DataError, match="no comments"):
        PystepsFiles(f"fmi_pgm:{tmp_path}")


@pytest.mark.parametrize(
    ("place", "options", "message"),
    [
        ("fmi_pmg:{}", {}, r"no importer 'fmi_pmg'; use one of .*did you mean 'fmi_pgm'"),
        ("fmi_pgm", {}, r"must be pysteps:IMPORTER:FOLDER"),
        ("fmi_pgm:{}", {"qyt": 1}, r"'pysteps:fmi_pgm' has no option 'qyt'"),
        ("odim_hdf5:{}", {"qyt": 1}, r"no option 'qyt'; it takes qty, .*did you mean 'qty'"),
        (
            "mch_gif:{}",
            {"unit": "mm"},
            r"needs product and accutime for such files.*help\(pysteps.io.import_mch_gif",
        ),
        ("fmi_pgm:{}", {"zr": [200]}, r"zr must be two numbers"),
        ("fmi_pgm:{}", {"time_format": "%H%M"}, r"must tell year and day"),
        ("fmi_pgm:{}", {"time_format": "%Y%b%d"}, r"not '%b'"),
        ("fmi_pgm:{}", {"time_format": "x%Y%m%d"}, r"'x%Y%m%d' fits no file, such as 201609281445"),
        ("fmi_pgm:{}", {"accutime": 0}, r"accutime must be a positive number"),
        ("odim_hdf5:{}", {"qty": {1}}, r"numbers, texts or lists"),
    ],
)
def test_refusals(tmp_path, place, options, message):
    finnish(tmp_path, "201609281445", levels(8))
    with pytest.raises(ArgumentError, match=message):
        PystepsFiles(place.format(tmp_path), **options)


@pytest.mark.parametrize(
    ("importer", "flag", "message"),
    [
        (
            "mrms_grib",
            "PYGRIB",
            r"needs pygrib; run: pip install pygrib, or read the GRIB files as xarray:FOLDER",
        ),
        ("fmi_geotiff", "GDAL", r"needs gdal; run: .* gdal, or read the GeoTIFF files"),
        ("bom_rf3", "NETCDF4", r"needs netCDF4; run: pip install 'emuloss\[xarray\]'"),
    ],
)
def test_packages_that_importers_need(tmp_path, monkeypatch, importer, flag, message):
    monkeypatch.setattr(of_pysteps, f"{flag}_IMPORTED", False)
    (tmp_path / "radar_201808241800").write_bytes(b"")
    with pytest.raises(ArgumentError, match=message):
        PystepsFiles(f"{importer}:{tmp_path}", skip_unreadable=True)


def test_without_pysteps(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pysteps", None)
    with pytest.raises(ArgumentError, match=r"needs pysteps; run: pip install 'emuloss\[pysteps\]'"):
        open_source(f"pysteps:fmi_pgm:{tmp_path}")


def test_importers_of_plugins(tmp_path, monkeypatch):
    """Which pysteps puts beside its own; what they say decides."""

    def import_ours(filename, factor=1.0, **kwargs):
        said = {"unit": "mm", "accutime": 30, "transform": None, "xpixelsize": 0.5, "ypixelsize": 0.5}
        return np.load(filename) * factor, None, {**said, "cartesian_unit": "km"}

    monkeypatch.setattr(of_pysteps, "import_ours", import_ours, raising=False)
    assert "ours" in importers()
    np.save(tmp_path / "201808241800.npy", np.eye(4))
    source = open_source(f"pysteps:ours:{tmp_path}", factor=3)
    assert (source.unit, source.pixel_size, source.length_unit) == ("mm/h", 0.5, "km")
    np.testing.assert_array_equal(source.read(0, "test")[0], np.eye(4) * 6)
    assert source.config()["arguments"] == {"factor": 3}


def test_the_greeting_is_silent(tmp_path, monkeypatch, capfd):
    (tmp_path / "pysteps").mkdir()
    (tmp_path / "pysteps" / "__init__.py").write_text("print('found at')\nfrom . import io\n")
    (tmp_path / "pysteps" / "io.py").write_text("class importers:\n    import_this = print\n")
    for name in [each for each in sys.modules if each.split(".")[0] == "pysteps"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    assert importers() == ["this"]
    assert capfd.readouterr().out == ""
    for name in [each for each in sys.modules if each.split(".")[0] == "pysteps"]:
        monkeypatch.delitem(sys.modules, name)


def test_degrees_are_told(tmp_path, monkeypatch):
    def import_round(filename):
        return (
            np.load(filename),
            None,
            {
                "unit": "mm/h",
                **dict.fromkeys(("xpixelsize", "ypixelsize"), 0.04),
                "cartesian_unit": "degrees",
            },
        )

    monkeypatch.setattr(of_pysteps, "import_round", import_round, raising=False)
    np.save(tmp_path / "201808241800.npy", np.eye(4))
    with pytest.warns(UserWarning, match="in degrees, in which pixels have no one size"):
        assert PystepsFiles(f"round:{tmp_path}").length_unit == "pixel"
    source = PystepsFiles(f"round:{tmp_path}", pixel_size=4, length_unit="km")
    assert (source.pixel_size, source.length_unit) == (4, "km")


def test_without_a_unit(tmp_path, monkeypatch):
    monkeypatch.setattr(
        of_pysteps, "import_bare", lambda filename: (np.load(filename), None, {}), raising=False
    )
    np.save(tmp_path / "201808241800.npy", np.eye(4) * 2)
    assert [PystepsFiles(f"bare:{tmp_path}", unit=unit).unit for unit in (None, "K")] == ["", "K"]
    given = {"unit": "mm", "to_unit": "mm/h", "accutime": 30}
    assert PystepsFiles(f"bare:{tmp_path}", **given).read(0, "test").max() == 4
    rain = PystepsFiles(f"bare:{tmp_path}", unit="dBZ", to_unit="mm/h").read(0, "test").max()
    assert rain == pytest.approx((10**0.2 / 200) ** (1 / 1.6))


def test_transformed_values_are_refused(tmp_path, monkeypatch):
    said = {"unit": "mm/h", "transform": "dB"}
    monkeypatch.setattr(
        of_pysteps, "import_db", lambda filename: (np.load(filename), None, said), raising=False
    )
    np.save(tmp_path / "201808241800.npy", np.eye(4))
    with pytest.raises(DataError, match="after the transform 'dB'"):
        PystepsFiles(f"db:{tmp_path}")
