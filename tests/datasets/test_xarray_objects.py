"""Fields of xarray objects, in memory or computed by dask."""

import pickle

import emuloss
import numpy as np
import pytest
from array_files import CF, masked_fields, packed, same, write_netcdf
from emuloss.datasets import InMemory, as_source
from emuloss.errors import ArgumentError, DataError

xarray = pytest.importorskip("xarray")
dask = pytest.importorskip("dask")


@pytest.fixture
def data():
    """Rain (time 6, number 3, y, x) and its logarithm, hourly."""
    values = np.random.default_rng(0).gamma(1.0, 2.0, (6, 3, 12, 16)).astype("f4")
    times = np.datetime64("2020-01-01", "ns") + np.arange(6) * np.timedelta64(1, "h")
    sides = {name: (name, 500.0 * np.arange(n), {"units": "m"}) for name, n in (("y", 12), ("x", 16))}
    dims = ("time", "number", "y", "x")
    return xarray.Dataset(
        {"rain": (dims, values, {"units": "mm/h"}), "log": (dims, np.log(values))},
        {"time": times, "number": [1, 2, 3], **sides},
    )


def all_of(source):
    return np.concatenate([source.read(k, "test") for k in range(len(source))])


class Counting:
    """An array that counts how many of its frames are read."""

    def __init__(self, values):
        self.values, self.shape, self.dtype, self.ndim = values, values.shape, values.dtype, values.ndim
        self.read = 0

    def __getitem__(self, index):
        found = self.values[index]
        self.read += len(found)
        return found


@pytest.mark.parametrize("lazy", [False, True])
class TestObjects:
    def test_a_member_of_a_variable_of_a_data_set(self, data, lazy):
        data = data.chunk(time=1) if lazy else data
        source = as_source(data, variable="rain", select="number=2")
        np.testing.assert_array_equal(all_of(source), data["rain"].values[:, 1])
        assert (source.unit, source.pixel_size, source.length_unit) == ("mm/h", 0.5, "km")
        assert [str(time)[11:13] for time in source.times] == ["00", "01", "02", "03", "04", "05"]
        assert source.config()["shape"] == [6, 12, 16]

    def test_members_are_more_fields(self, data, lazy):
        data = data.chunk(time=2) if lazy else data
        source = as_source(data["rain"], members="number", size=6)
        whole = all_of(as_source(data["rain"], members="number"))
        np.testing.assert_array_equal(whole, data["rain"].values.reshape(18, 12, 16))
        assert len(source.times) == len(source)
        assert source.pixel_size == 0.5

    def test_frames_are_put_in_order_of_time(self, data, lazy):
        turned = data["rain"].isel(number=0, time=slice(None, None, -1))
        turned = turned.chunk(time=1) if lazy else turned
        source = as_source(turned)
        np.testing.assert_array_equal(all_of(source), data["rain"].values[:, 0])
        assert source.times == sorted(source.times)

    def test_dimensions_wherever_they_stand(self, data, lazy):
        turned = data["log"].isel(number=0).transpose("y", "x", "time")
        turned = turned.chunk(time=1) if lazy else turned
        np.testing.assert_array_equal(all_of(as_source(turned)), data["log"].values[:, 0])

    def test_packed_numbers(self, tmp_path, lazy):
        path = write_netcdf(tmp_path / "a.nc", packed(masked_fields()), CF)
        chunks = {"time": 1} if lazy else None
        with xarray.open_dataset(path, mask_and_scale=False, chunks=chunks) as data:
            same(all_of(as_source(data)), masked_fields())
        with xarray.open_dataset(path, chunks=chunks) as data:
            same(all_of(as_source(data)), masked_fields())
            with pytest.raises(DataError, match=r"rain: floating-point values .* may be packed or not"):
                as_source(data["rain"].assign_attrs(scale_factor=0.1))

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({}, r"several variables \(rain, log\); choose one by `variable`"),
            ({"variable": "snow"}, "no variable 'snow', but rain, log"),
            ({"variable": "rain", "select": "number=7"}, "rain: number is never 7, but 1, 2, 3"),
            ({"variable": "rain", "columns": "z"}, "rain has no dimension 'z'"),
            ({"variable": "rain", "size": 99, "select": "number=1"}, "exceeds its shape"),
            ({"variabel": "rain"}, "has no option 'variabel'"),
        ],
    )
    def test_what_has_to_be_chosen(self, data, lazy, options, words):
        with pytest.raises((ArgumentError, DataError), match=words):
            as_source(data.chunk() if lazy else data, **options)


def test_arrays_that_need_no_choice_stay_what_they_were(data):
    array = data["rain"][:, 0]
    assert as_source(array).config() == InMemory(array).config()
    assert as_source(array[:1]).config() == InMemory(array[:1]).config()


@pytest.mark.parametrize("plain", [False, True])
def test_dask_computes_what_is_read_and_no_more(plain):
    counting = Counting(np.random.default_rng(0).random((240, 8, 8), "f4"))
    array = dask.array.from_array(counting, chunks=(1, 8, 8), meta=np.empty((0, 0, 0), "f4"))
    source = as_source(array if plain else xarray.DataArray(array, dims=("time", "y", "x")))
    looked_at = counting.read
    assert looked_at <= 4
    source.read(1, "train")
    assert counting.read == looked_at + source.chunk == looked_at + 20


@pytest.mark.parametrize("plain", [False, True])
class TestWhatTellsLazyFieldsFromOthers:
    @staticmethod
    def of(array, plain):
        return as_source(array if plain else xarray.DataArray(array, dims=("time", "y", "x")))

    def test_every_value_counts(self, plain, tmp_path):
        values = np.random.default_rng(0).gamma(1.0, 2.0, (60, 8, 8)).astype("f4")
        changed = values.copy()
        changed[7] += 1
        before, after = (
            self.of(dask.array.from_array(each, chunks=(9, 5, 8)), plain) for each in (values, changed)
        )
        assert before.config() == self.of(values, plain).config()
        emuloss.label(fields=before, thresholds=[1.0], out=tmp_path / "l.h5", progress=False)
        with pytest.raises(DataError, match="digest"):
            emuloss.label(fields=after, thresholds=[1.0], out=tmp_path / "l.h5", progress=False)

    def test_each_chunk_is_computed_once(self, plain):
        counting = Counting(np.random.default_rng(0).random((150, 8, 8), "f4"))
        array = dask.array.from_array(counting, chunks=(7, 8, 8), meta=np.empty((0, 0, 0), "f4"))
        source = self.of(array, plain)
        looked_at = counting.read
        assert source.config() == source.config()
        assert counting.read == looked_at + 150

    def test_names_of_a_graph_count_for_nothing(self, plain):
        values = np.random.default_rng(0).random((12, 8, 8), "f4")
        delayed = [dask.delayed(np.copy)(values) for _ in range(2)]
        one, other = (dask.array.from_delayed(each, values.shape, values.dtype) for each in delayed)
        assert one.name != other.name
        assert self.of(one, plain).config() == self.of(other, plain).config()


def test_lazy_labels_are_those_of_memory(data, tmp_path):
    stores = []
    for name, each in (("a", data), ("b", data.chunk(time=2))):
        source = pickle.loads(pickle.dumps(as_source(each, variable="rain", members="number")))
        call = {"thresholds": [1.0, 4.0], "out": tmp_path / f"{name}.h5", "progress": False}
        stores.append(emuloss.label(fields=source, **call))
    for one, other in zip(stores[0].split("train"), stores[1].split("train"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_cluster_computes_lazy_fields(data, tmp_path):
    distributed = pytest.importorskip("distributed")
    source = as_source(data.chunk(time=1), variable="rain", members="number")
    options = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "protocol": "tcp://"}
    with distributed.LocalCluster(dashboard_address=":0", **options) as cluster:
        call = {"engine": "dask", "scheduler": cluster.scheduler_address, "progress": False}
        store = emuloss.label(fields=source, thresholds=[1.0], out=tmp_path / "l.h5", **call)
    fields, _ = store.split("test")
    assert np.isin(fields, data["rain"].values).all()
