"""Arrays with one frame, with axes that are too many, and files that are damaged."""

import warnings
import zlib

import emuloss
import numpy as np
import pytest
from array_files import CF, WRITERS, masked_fields, packed, write_hdf5, write_netcdf
from drawn import read_all
from emuloss.datasets import Arrays, InMemory, as_source
from emuloss.errors import ArgumentError, DataError, EmulossError

xarray = pytest.importorskip("xarray")


@pytest.fixture
def values():
    return masked_fields()


class TestAxes:
    """Kind: one frame, and axes that are too many."""

    @pytest.mark.parametrize("shape", [(12, 16), (1, 12, 16), (1, 1, 12, 16), (1, 12, 16, 1)])
    @pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5", ".nc", ".zarr", "array", "xarray"])
    def test_one_frame(self, tmp_path, values, shape, suffix):
        frame = values.filled(0)[0]
        given = frame.reshape(shape)
        dims = ("a", "b", "c", "d")[: len(shape)]
        if suffix == "array":
            source = as_source(given)
        elif suffix == "xarray":
            source = as_source(xarray.DataArray(given, dims=dims))
        elif suffix in (".nc", ".zarr"):
            source = Arrays(write_netcdf(tmp_path / f"a{suffix}", given, {}, dims))
        elif suffix == ".h5":
            source = Arrays(write_hdf5(tmp_path / "a.h5", given, {}))
        else:
            (np.save if suffix == ".npy" else np.savez)(tmp_path / f"a{suffix}", given)
            source = Arrays(tmp_path / f"a{suffix}")
        assert (len(source), source.field_shape) == (1, (12, 16))
        np.testing.assert_array_equal(source.read(0, "test"), frame[None])
        with pytest.raises(ArgumentError, match="has 1 chunks, too few"):
            emuloss.label(fields=source, out=tmp_path / "l.h5")

    @pytest.mark.parametrize("suffix", [".npy", ".h5", ".nc", "array"])
    def test_a_channel_axis_is_left_out(self, tmp_path, values, suffix):
        for shape in ((3, 1, 12, 16), (3, 12, 16, 1)):
            given = values.filled(0).reshape(shape)
            path = tmp_path / f"{shape[1]}{suffix}"
            if suffix == "array":
                source = InMemory(given, size=(6, 8))
            elif suffix == ".npy":
                np.save(path, given)
                source = Arrays(path, size=(6, 8))
            else:
                more = {} if suffix == ".h5" else {"dims": ("a", "b", "c", "d")}
                source = Arrays(WRITERS[suffix](path, given, {}, **more), size=(6, 8))
            expected = read_all(InMemory(values.filled(0), size=(6, 8)))
            np.testing.assert_array_equal(read_all(source), expected)

    @pytest.mark.parametrize("shape", [(2, 3, 12, 16), (2, 3, 1, 4, 5), (16,), ()])
    def test_too_many_and_too_few(self, tmp_path, shape):
        words = (
            "reshape it"
            if len(shape) < 2
            else r"choose one member of each further axis, such as array\[:, 0\]"
        )
        with pytest.raises(DataError, match=rf"is not \(T, H, W\) or \(H, W\) of real numbers; {words}"):
            InMemory(np.zeros(shape))
        np.save(tmp_path / "a.npy", np.zeros(shape))
        with pytest.raises(DataError, match="holds no array of shape"):
            Arrays(tmp_path / "a.npy")

    @pytest.mark.parametrize("shape", [(0, 12, 16), (3, 0, 16), (0, 1, 12, 16)])
    def test_no_frame(self, tmp_path, shape):
        np.save(tmp_path / "a.npy", np.zeros(shape))
        with pytest.raises(DataError, match="holds no frame"):
            Arrays(tmp_path / "a.npy")

    @pytest.mark.parametrize("dims", [("y", "x", "time"), ("y", "time", "x"), ("lat", "lon", "valid_time")])
    @pytest.mark.parametrize("suffix", [".nc", ".zarr", "xarray"])
    def test_times_that_come_late_are_no_rows(self, tmp_path, values, dims, suffix):
        given = values.filled(0)
        if suffix == "xarray":
            late = xarray.DataArray(given, dims=dims, name="rain")
            wanted = late.transpose(dims[2] if dims[1] != "time" else "time", ...)
            np.testing.assert_array_equal(read_all(as_source(late)), wanted)
            with pytest.raises(DataError, match="must be the first"):
                InMemory(late)
        else:
            path = write_netcdf(tmp_path / f"a{suffix}", given, {}, dims)
            with pytest.raises(
                DataError, match=rf"its dimensions are {', '.join(dims)}, .*; read .* xarray:"
            ):
                Arrays(path)

    def test_bounds_and_coordinates_are_no_fields(self, tmp_path, values):
        times = ("time", np.arange(3.0), {"bounds": "time_bnds"})
        fields = {
            "rain": (("time", "y", "x"), values.filled(0)),
            "time_bnds": (("time", "side"), np.zeros((3, 2))),
        }
        data = xarray.Dataset(fields, coords={"time": times, "lat": (("y", "x"), np.zeros((12, 16)))})
        data.to_netcdf(tmp_path / "a.nc")
        assert Arrays(tmp_path / "a.nc").variable == "rain"


class TestDamage:
    """Kind: a traceback where the package's own error belongs."""

    @pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5", ".nc"])
    @pytest.mark.parametrize("seed", range(12))
    def test_flipped_and_cut_files(self, tmp_path, values, suffix, seed):
        path = tmp_path / f"a{suffix}"
        if suffix in (".npy", ".npz"):
            (np.save if suffix == ".npy" else np.savez_compressed)(path, values.filled(0))
        else:
            WRITERS[suffix](path, packed(values), CF)
        content = bytearray(path.read_bytes())
        rng = np.random.default_rng(seed)
        for place in rng.integers(0, len(content), 3):
            content[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(content[: len(content) if seed % 2 else int(rng.integers(len(content)))])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            said = ""
            try:
                read_all(Arrays(path))
            except EmulossError as error:
                said = str(error)
        assert "\n" not in said

    def test_errors_of_any_library(self, tmp_path, values, monkeypatch):
        path = write_hdf5(tmp_path / "a.h5", values.filled(0), {})
        for kind in (RuntimeError, KeyError, zlib.error, NotImplementedError):

            def broken(*_, kind=kind):
                raise kind("one\ntwo")

            monkeypatch.setattr("emuloss.datasets.sources.stored.open_hdf5", broken)
            with pytest.raises(DataError, match=r"a\.h5 cannot be read as \.h5"):
                Arrays(path)
