"""What every source of files has to do for the engines of labelling: travel, and be read by many at once."""

import contextlib
import gzip
import json
import pickle
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import emuloss
import h5py
import numpy as np
import pytest
from array_files import CF, masked_fields, packed, write_hdf5
from drawn import rain_array
from emuloss.datasets import label, open_source
from emuloss.errors import DataError
from skimage.io import imsave

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # of rioxarray

FRAMES, SHAPE = 14, (16, 20)


def rates():
    """Fields (T, H, W) of rain in steps of 0.1 mm/h."""
    return np.round(rain_array(FRAMES, *SHAPE), 1)


def radar(folder):
    for k, values in enumerate(rates()):
        with h5py.File(folder / f"{k}.h5", "w") as file:
            file.create_dataset("dataset1/data1/data", data=values, compression="gzip")
            what = {"gain": 1.0, "offset": 0.0, "nodata": -1.0, "undetect": -2.0}
            file.create_group("dataset1/what").attrs.update({**what, "quantity": "RATE"})
            file.create_group("what").attrs.update({"date": "20180824", "time": f"{k:02d}0000"})
            file.create_group("where").attrs.update({"xscale": 2000.0, "yscale": 2000.0})
    return f"opera:{folder}", {"size": SHAPE}


def finnish(folder):
    pytest.importorskip("pysteps")
    geography = (
        "# metersperpixel_x 999.67\n# metersperpixel_y 999.63\n# projection radar {\n# type stereographic\n"
        "# centrallongitude 25\n# centrallatitude 90\n# truelatitude 60\n# bottomleft 18.6 57.93\n"
        "# topright 34.903 69.005\n# }\n"
    )
    for k, values in enumerate(rates()):
        height, width = SHAPE
        levels = np.clip(64 + 20 * values, 0, 254).astype(np.uint8)
        with gzip.open(folder / f"20160928{k:02d}00_fmi.radar.pgm.gz", "wb") as file:
            file.write(f"P5\n{geography}{width} {height}\n255\n".encode() + levels.tobytes())
    return f"pysteps:fmi_pgm:{folder}", {}


def one_file(folder):
    return str(write_hdf5(folder / "rain.h5", packed(masked_fields()).repeat(5, axis=0), CF)), {}


def dataset(first, last):
    """Frames of a series as xarray has them."""
    xarray = pytest.importorskip("xarray")
    times = np.datetime64("2018-08-24T00:00", "ns") + np.arange(first, last) * np.timedelta64(1, "h")
    sides = {"y": np.arange(SHAPE[0]) * 2000.0, "x": np.arange(SHAPE[1]) * 2000.0}
    rain = (("time", "y", "x"), rates()[first:last], {"units": "mm/h"})
    return xarray.Dataset({"rain": rain}, coords={"time": times, **sides})


def netcdf(folder):
    for k in range(0, FRAMES, 2):
        dataset(k, k + 2).to_netcdf(folder / f"part{k}.nc", encoding={"rain": {"zlib": True}})
    return f"xarray:{folder}", {}


def zarr(folder):
    pytest.importorskip("zarr")
    for k in range(0, FRAMES, 2):
        dataset(k, k + 2).to_zarr(folder / f"part{k}.zarr")
    return f"xarray:{folder}", {}


def geotiff(folder):
    pytest.importorskip("rioxarray")
    for k in range(FRAMES):
        dataset(k, k + 1).rain[0].rio.to_raster(folder / f"rain_20180824{k:02d}00.tif")
    return f"xarray:{folder}", {"pixel_size": 2.0, "length_unit": "km"}


def grib(folder):
    pytest.importorskip("cfgrib")
    eccodes = pytest.importorskip("eccodes")
    height, width = SHAPE
    for k in range(0, FRAMES, 2):
        with open(folder / f"part{k}.grib2", "wb") as file:
            for hour, values in enumerate(rates()[k : k + 2], k):
                message = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
                sides = {"Ni": width, "Nj": height, "dataDate": 20180824, "dataTime": 100 * hour}
                corners = {"First": (50, 10), "Last": (50 - height / 10 + 0.1, 10 + width / 10 - 0.1)}
                for key, value in sides.items():
                    eccodes.codes_set(message, key, value)
                for side, (latitude, longitude) in corners.items():
                    eccodes.codes_set(message, f"latitudeOf{side}GridPointInDegrees", latitude)
                    eccodes.codes_set(message, f"longitudeOf{side}GridPointInDegrees", longitude)
                for direction in "ij":
                    eccodes.codes_set(message, f"{direction}DirectionIncrementInDegrees", 0.1)
                eccodes.codes_set_values(message, values.ravel().astype(float))
                eccodes.codes_write(message, file)
                eccodes.codes_release(message)
    return f"xarray:{folder}", {"pixel_size": 10.0, "length_unit": "km"}


def pictures(folder):
    for k, values in enumerate(rates()):
        imsave(folder / f"{k}.png", np.clip(20 * values, 0, 255).astype(np.uint8), check_contrast=False)
    return f"images:{folder}", {}


def drawn(folder):
    return "rain", {"count": 40, "size": 16}


KINDS = (radar, finnish, one_file, netcdf, zarr, geotiff, grib, pictures, drawn)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Specification and options of each source; what it needs that is missing skips the test."""
    made = {}

    def place(kind):
        if kind not in made:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the writing libraries; reading must not warn
                made[kind] = kind(tmp_path_factory.mktemp(kind.__name__))
        return made[kind]

    return place


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def source(request, places):
    spec, options = places(request.param)
    return open_source(spec, **options)


def digest(source, k):
    """What a chunk holds."""
    fields = source.read(k, "test")
    return sha256(fields.tobytes()).hexdigest(), list(fields.shape)


ALONE = """
import json, pickle, sys
from hashlib import sha256
for source in pickle.load(sys.stdin.buffer):
    fields = [source.read(k, "test") for k in reversed(range(len(source)))]
    print(json.dumps([(sha256(each.tobytes()).hexdigest(), each.shape) for each in reversed(fields)]))
"""


def test_sources_travel_and_read_alone(places):
    sources = []
    for kind in KINDS:
        with contextlib.suppress(pytest.skip.Exception):  # of packages that are missing
            spec, options = places(kind)
            sources.append(open_source(spec, **options))
    sent = pickle.dumps(sources)
    assert len(sent) < 200_000
    done = subprocess.run([sys.executable, "-c", ALONE], input=sent, capture_output=True, check=True)
    for source, told in zip(sources, done.stdout.splitlines(), strict=True):
        here = [digest(source, k) for k in range(len(source))]
        assert [tuple(each) for each in json.loads(told)] == here
        assert len({name for name, _ in here}) > 1


def test_many_threads_read_what_one_does(source):
    alone = [digest(source, k) for k in range(len(source))]
    chunks = np.random.default_rng(0).permutation(np.arange(len(source)).repeat(6))
    with ThreadPoolExecutor(8) as pool:
        for k, found in zip(chunks, pool.map(lambda k: digest(source, k), chunks), strict=True):
            assert found == alone[k]


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, dashboard_address=":0", processes=False
    ) as there:
        yield there.scheduler_address


def test_a_cluster_labels_each_source(source, cluster, tmp_path):
    metric = emuloss.metric("minkowski", thresholds=[0.15, 1.05], outputs=["area", "euler"])
    options = {"progress": False, "workers": 3}
    here = label(source, metric, tmp_path / "here.h5", **options)
    there = label(source, metric, tmp_path / "there.h5", engine="dask", scheduler=cluster, **options)
    assert there.path.read_bytes() == here.path.read_bytes()
    assert len(there) == sum(there.counts.values()) > 0
    assert (there.times("test") is None) == (source.times is None)


def damage(path):
    """Cut a file, or those of a Zarr archive that hold values: rain/c/0/0/0, before version 3 rain/0.0.0."""
    chunks = [each for each in path.rglob("rain/**/*") if each.is_file() and each.name[-1].isdigit()]
    for each in [path] if path.is_file() else chunks:
        each.write_bytes(each.read_bytes()[: each.stat().st_size // 2])


@pytest.mark.parametrize(
    "kind", [radar, finnish, netcdf, zarr, geotiff, grib], ids=lambda kind: kind.__name__
)
def test_a_file_that_is_damaged_while_the_archive_is_open(kind, cluster, tmp_path, places):
    places(kind)  # skips where a package is missing
    (tmp_path / "archive").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spec, options = kind(tmp_path / "archive")
    strict, lenient = open_source(spec, **options), open_source(spec, skip_unreadable=True, **options)
    middle = strict.entries[7].path
    damage(middle)
    metric = emuloss.metric("minkowski", thresholds=[0.15, 1.05], outputs=["area", "euler"])
    for name, engine in {"here": {}, "there": {"engine": "dask", "scheduler": cluster}}.items():
        with pytest.raises(DataError) as caught:
            label(strict, metric, tmp_path / f"{name}.h5", progress=False, workers=2, **engine)
        assert str(middle) in str(caught.value)
        assert "`skip_unreadable`" in str(caught.value)
        assert "\n" not in str(caught.value)
        store = label(lenient, metric, tmp_path / f"{name}.h5", progress=False, workers=2, **engine)
        assert (store.skipped_files, store.skipped) == (1, (middle.name,))
        assert 0 < len(store) < FRAMES
    assert (tmp_path / "here.h5").read_bytes() == (tmp_path / "there.h5").read_bytes()
