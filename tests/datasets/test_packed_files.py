"""Masks, markers and packing: numbers of files that are no values, or others than they seem."""

import emuloss
import h5py
import numpy as np
import pytest
from array_files import CF, WRITERS, masked_fields, packed, same, write_hdf5, write_netcdf
from drawn import read_all
from emuloss.datasets import Arrays, InMemory, XarrayFiles, as_source, label
from emuloss.datasets.sources.packing import Packing
from emuloss.errors import ArgumentError, DataError

xarray = pytest.importorskip("xarray")


@pytest.fixture
def values():
    return masked_fields()


ATTRIBUTES = {
    "arrays of one": {
        "scale_factor": np.array([0.1]),
        "add_offset": np.array([20.0]),
        "_FillValue": np.array([-9999], "i2"),
    },
    "single precision": {
        "scale_factor": np.float32(0.1),
        "add_offset": np.float32(20),
        "missing_value": np.float32(-9999),
    },
    "text": {"scale_factor": "0.1", "add_offset": np.bytes_("20"), "CodeMissingValue": "-9999"},
    "other case": {"Scale_Factor": 0.1, "ADD_OFFSET": 20.0, "FillValue": -9999},
    "several markers": {"scale_factor": 0.1, "add_offset": 20.0, "missing_value": np.array([-9998, -9999])},
    "valid range": {"scale_factor": 0.1, "add_offset": 20.0, "valid_range": np.array([-300, 300], "i2")},
    "valid least": {"scale_factor": 0.1, "add_offset": 20.0, "valid_min": np.int16(-300)},
    "valid range of values": {
        "scale_factor": 0.1,
        "add_offset": 20.0,
        "valid_range": np.array([-30.0, 60.0]),
    },
}

REFUSED = {
    "ODIM": ("dataset1/what", {"gain": 0.1, "offset": 0.0}, "gain (=0.1) of /dataset1/what .* opera:FOLDER"),
    "ODIM, undetect": ("dataset1/data1/what", {"undetect": -8888000.0}, "undetect .* opera:FOLDER"),
    "ODIM, root": ("what", {"gain": np.array([0.5])}, "gain .* of /what"),
    "KNMI": (
        "dataset1/calibration",
        {"calibration_formulas": b"GEO = 0.5 * PV + -32"},
        "calibration_formulas",
    ),
    "slope": ("dataset1/data1/data", {"slope": 0.1}, "slope"),
    "GDAL": ("dataset1/data1/data", {"scale": 0.1}, "scale"),
    "MODIS": ("dataset1/data1/data", {"reflectance_scales": np.array([0.1, 0.2])}, "reflectance_scales"),
    "scale of the group": ("dataset1", {"scale_factor": 0.1}, "scale_factor .* of /dataset1"),
    "several scales": ("dataset1/data1/data", {"scale_factor": np.array([0.1, 0.2])}, "must be one number"),
    "a scale of 0": ("dataset1/data1/data", {"scale_factor": 0.0}, "must be one number"),
}

NEUTRAL = {
    "gain 1": {"gain": 1.0, "offset": 0.0},
    "words": {"scale": "1:50000", "calibration": "none", "calibration_date": "2020-01-01"},
    "of the axes": {"CLASS": np.bytes_("IMAGE"), "IMAGE_VERSION": np.bytes_("1.2"), "xscale": 2000.0},
    "nothing": {},
}


class TestMasks:
    """Kind: masked arrays lose their mask."""

    def test_in_memory(self, values):
        same(read_all(InMemory(values)), values)
        assert not np.ma.getmaskarray(values).all()
        assert values.data.max() > 1e36, "the caller's array was changed"

    @pytest.mark.parametrize("chunks", [(1, 12, 16), (3, 5, 7)])
    def test_dask(self, values, chunks):
        dask = pytest.importorskip("dask.array")
        same(read_all(as_source(dask.from_array(values, chunks=chunks))), values)
        held = xarray.DataArray(dask.from_array(values, chunks=chunks), dims=("time", "y", "x"))
        same(read_all(as_source(held)), values)

    def test_xarray(self, values):
        same(read_all(as_source(xarray.DataArray(values, dims=("time", "y", "x")))), values)

    @pytest.mark.parametrize("name", ["mask", "rain_mask"])
    def test_masks_beside_arrays(self, tmp_path, values, name):
        np.savez(tmp_path / "a.npz", **{"rain": values.data, name: values.mask})
        same(read_all(Arrays(tmp_path / "a.npz")), values)
        same(read_all(Arrays(tmp_path / "a.npz", variable="rain")), values)

    def test_a_boolean_array_alone_is_a_field(self, tmp_path, values):
        np.savez(tmp_path / "a.npz", mask=values.mask)
        np.testing.assert_array_equal(read_all(Arrays(tmp_path / "a.npz")), values.mask)

    @pytest.mark.parametrize("suffix", [".nc", ".zarr", ".h5"])
    def test_unwritten_values(self, tmp_path, values, suffix):
        path = WRITERS[suffix](tmp_path / f"a{suffix}", values.data, {"units": "K"})
        same(read_all(Arrays(path)), values)

    @pytest.mark.parametrize("kind", ["i2", "i4"])
    def test_whole_numbers_that_nobody_wrote(self, tmp_path, kind):
        """As the NetCDF library itself has it: it masks them when it reads what it has left open."""
        netcdf = pytest.importorskip("netCDF4")
        with netcdf.Dataset(tmp_path / "a.nc", "w") as file:
            for name, size in (("time", 2), ("y", 8), ("x", 8)):
                file.createDimension(name, size)
            rain = file.createVariable("rain", kind, ("time", "y", "x"))
            rain.setncatts({"units": "mm/h", "scale_factor": 0.01})
            rain[0] = np.arange(64).reshape(8, 8) * 0.01
            rain[1, :4] = 0.5
        with netcdf.Dataset(tmp_path / "a.nc") as file:
            expected = np.ma.filled(file["rain"][:].astype(np.float32), np.nan)
        assert np.isnan(expected[1, 4:]).all()
        for source in (Arrays(tmp_path / "a.nc"), XarrayFiles(tmp_path / "a.nc")):
            found = np.concatenate([source.read(k, "test") for k in range(len(source))])
            np.testing.assert_allclose(found, expected, rtol=1e-6)

    def test_labels_do_not_count_what_is_masked(self, values, tmp_path):
        metric = emuloss.metric("minkowski", thresholds=[5.05], outputs=["area"])
        roles = ["train", "validation", "test"]
        store = label(InMemory(values), metric, tmp_path / "x.h5", splits=roles, progress=False)
        expected = (values > 5.05).filled(False).sum((1, 2))
        assert [int(store.split(role)[1].item()) for role in roles] == expected.tolist()

    def test_nodata_is_named(self, tmp_path, values):
        np.save(tmp_path / "a.npy", values.filled(-99))
        same(read_all(Arrays(tmp_path / "a.npy", nodata=-99)), values)
        same(read_all(InMemory(values.filled(-99), nodata=[-99, -98])), values)
        assert Arrays(tmp_path / "a.npy", nodata=-99).config() != Arrays(tmp_path / "a.npy").config()
        with pytest.raises(
            ArgumentError, match=r"^nodata must be a number such as 255, or several, got 'x'$"
        ):
            InMemory(values, nodata="x")


class TestPacking:
    """Kind: HDF5 read as an array ignores packing."""

    @pytest.mark.parametrize("suffix", [".h5", ".nc", ".zarr"])
    def test_is_undone(self, tmp_path, values, suffix):
        source = Arrays(WRITERS[suffix](tmp_path / f"a{suffix}", packed(values), CF))
        same(read_all(source), values)
        assert (source.unit, source.quantum) == ("mm h-1", pytest.approx(0.1))

    def test_netcdf_is_hdf5(self, tmp_path, values):
        path = write_netcdf(tmp_path / "a.nc", packed(values), CF)
        same(read_all(Arrays(path.rename(tmp_path / "a.h5"), variable="rain")), values)

    @pytest.mark.parametrize("attributes", ATTRIBUTES.values(), ids=ATTRIBUTES)
    def test_as_writers_write_it(self, tmp_path, values, attributes):
        same(read_all(Arrays(write_hdf5(tmp_path / "a.h5", packed(values), attributes))), values)

    def test_unsigned_numbers_kept_as_signed(self, tmp_path):
        numbers = np.arange(192, dtype="u1").reshape(1, 12, 16)
        hidden = np.ma.array(numbers, mask=numbers == 180)
        attributes = {"_Unsigned": "true", "_FillValue": np.uint8(180).view("i1")}
        same(read_all(Arrays(write_hdf5(tmp_path / "a.h5", numbers.view("i1"), attributes))), hidden)

    @pytest.mark.parametrize("kind", ["i1", "u1", "<i2", ">i2", "u2", ">u2"])
    @pytest.mark.parametrize("unsigned", [False, True])
    def test_of_many_pixels_values_are_looked_up(self, kind, unsigned):
        """There are more pixels than numbers: each value is the one that the number alone has."""
        count = 2 ** (8 * np.dtype(kind).itemsize)
        content = np.random.default_rng(0).bytes(2 * count * np.dtype(kind).itemsize)
        numbers = np.frombuffer(content, kind).reshape(4, -1)
        packing = Packing(0.1, -3.0, True, (7.0, 255.0), (-100.0, 200.0), unsigned)
        apart = [packing.unpacked(row) for row in numbers]
        assert np.isnan(apart).any()
        np.testing.assert_array_equal(packing.unpacked(numbers), apart)
        np.testing.assert_array_equal(packing.unpacked(numbers[:, ::-1].T), np.array(apart)[:, ::-1].T)

    def test_decimals_are_those_meant(self, tmp_path):
        numbers = np.arange(15000, dtype="i2").reshape(1, 100, 150)
        path = write_hdf5(tmp_path / "a.h5", numbers, {"scale_factor": np.float32(0.01)})
        np.testing.assert_array_equal(read_all(Arrays(path))[0], (numbers[0] / 100).astype(np.float32))

    def test_the_marker_that_hdf5_fills_with(self, tmp_path, values):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            rain = file.create_dataset("rain", (3, 12, 16), "f4", chunks=(1, 3, 4), fillvalue=-9999)
            rain[:, :, 4:] = 1
            file.create_dataset("snow", (3, 12, 16), "f4", fillvalue=0)
        assert np.isnan(read_all(Arrays(tmp_path / "a.h5", variable="rain"))).mean() == 0.25
        assert (read_all(Arrays(tmp_path / "a.h5", variable="snow")) == 0).all()

    def test_zarr_fills_with_0_what_nobody_wrote(self, tmp_path, values):
        zarr = pytest.importorskip("zarr", minversion="3")
        group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
        group.create_array("rain", shape=(3, 12, 16), dtype="f4", fill_value=0)[:] = values.filled(0)
        group["rain"].attrs["_ARRAY_DIMENSIONS"] = ["time", "y", "x"]
        zarr.consolidate_metadata(group.store)
        source = Arrays(tmp_path / "a.zarr")
        np.testing.assert_array_equal(read_all(source), values.filled(0))
        np.testing.assert_array_equal(
            np.isnan(read_all(Arrays(source.path, nodata=0))), values.filled(0) == 0
        )

    def test_markers_of_the_group_around(self, tmp_path, values):
        path = write_hdf5(tmp_path / "a.h5", values.filled(-99), {}, "grid/rain")
        with h5py.File(path, "a") as file:
            file["grid"].attrs["nodata"] = -99
        same(read_all(Arrays(path)), values)

    @pytest.mark.parametrize("suffix", [".h5", ".nc"])
    def test_one_marker_with_other_rounding(self, tmp_path, values, suffix):
        path = WRITERS[suffix](
            tmp_path / f"a{suffix}", values.filled(-9999.9).astype("f4"), {"missing_value": -9999.9}
        )
        same(read_all(Arrays(path)), values)

    @pytest.mark.parametrize(("place", "attributes", "words"), REFUSED.values(), ids=REFUSED)
    def test_what_is_packed_otherwise_is_refused(self, tmp_path, place, attributes, words):
        path = write_hdf5(tmp_path / "a.h5", np.ones((8, 8), "u2"), {}, "dataset1/data1/data")
        with h5py.File(path, "a") as file:
            (file[place] if place in file else file.create_group(place)).attrs.update(attributes)
        with pytest.raises(
            DataError, match=words.replace("(=", r"\(=").replace("1) of", r"1\) of")
        ) as caught:
            Arrays(path)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("attributes", NEUTRAL.values(), ids=NEUTRAL)
    def test_what_changes_nothing_is_read(self, tmp_path, attributes):
        path = write_hdf5(tmp_path / "a.h5", np.full((8, 8), 7, "u2"), attributes)
        assert (read_all(Arrays(path)) == 7).all()

    def test_in_memory(self, values):
        marked = xarray.DataArray(packed(values), dims=("t", "y", "x"), attrs=CF)
        same(read_all(InMemory(marked)), values)
        decoded = xarray.DataArray(values.filled(np.nan), dims=("t", "y", "x"), attrs=CF)
        with pytest.raises(DataError, match="may be packed or not; delete these attributes"):
            InMemory(decoded)

    @pytest.mark.parametrize("suffix", [".h5", ".nc"])
    def test_labels_are_those_of_the_values(self, tmp_path, values, suffix):
        path = WRITERS[suffix](tmp_path / f"a{suffix}", packed(values), CF)
        metric = emuloss.metric("minkowski", thresholds=[0.05, 5.05, 9.95])
        found = metric(read_all(Arrays(path)))
        np.testing.assert_array_equal(found, metric(values))
