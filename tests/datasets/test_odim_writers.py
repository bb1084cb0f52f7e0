"""ODIM-HDF5 as other writers write it: types and case of attributes, markers left out, sizes rounded."""

import h5py
import numpy as np
import pytest
from emuloss.datasets import Opera
from emuloss.errors import DataError

HELD = {"quantity": "RATE", "gain": 0.1, "offset": 0.0, "nodata": 65535.0, "undetect": 0.0}
NEARLY = [1 + 1e-7, 1 - 1e-7, 1 + 5e-5, 1 - 5e-5]


def numbers() -> np.ndarray:
    """Raw numbers (16, 16): nothing, 2.5 mm/h in a square, no radar in the first rows."""
    raw = np.zeros((16, 16), "u2")
    raw[6:10, 6:10] = 25
    raw[:4] = 65535
    return raw


def expected() -> np.ndarray:
    """Rates in mm/h of `numbers`."""
    rates = numbers() * np.float32(0.1)
    rates[:4] = np.nan
    return rates


def write(
    path, raw=None, place="dataset1/what", *, grid="where", scales=(2000.0, 2000.0), renamed=str, **held
):
    """A composite; `held` replaces attributes of `place`, None leaves them out."""
    attributes = {key: value for key, value in {**HELD, **held}.items() if value is not None}
    with h5py.File(path, "w") as file:
        file.attrs["Conventions"] = np.bytes_("ODIM_H5/V2_3")
        file[renamed("dataset1/data1/data")] = numbers() if raw is None else raw
        holder = file[place] if place in file else file.require_group(renamed(place))
        holder.attrs.update({renamed(key): value for key, value in attributes.items()})
        for key, value in zip(("xscale", "yscale"), scales, strict=True):
            file.require_group(renamed(grid)).attrs[renamed(key)] = value
        file.require_group(renamed("what")).attrs[renamed("date")] = "20200101"
    return path


def check(folder, **options):
    """Whether the rates of the first file are right, to the precision of a decimal."""
    source = Opera(folder, size=8, min_coverage=0.0, **options)
    np.testing.assert_allclose(source.read_frame(0), expected(), atol=1e-6)
    assert source.pixel_size == pytest.approx(2.0, rel=1e-4)
    return source


AS_WRITTEN = {
    "numbers in arrays of one": {
        "gain": np.array([0.1]),
        "nodata": np.array([65535.0]),
        "scales": [np.array([2e3])] * 2,
    },
    "arrays of one by one": {"gain": np.array([[0.1]]), "undetect": np.array([[0.0]])},
    "single precision": {"gain": np.float32(0.1), "offset": np.float32(0), "nodata": np.float32(65535)},
    "whole numbers": {
        "offset": 0,
        "nodata": np.uint16(65535),
        "undetect": np.int64(0),
        "scales": (2000, np.int32(2000)),
    },
    "numbers as text": {"gain": "0.1", "nodata": np.bytes_("65535"), "scales": ("2000", np.bytes_("2000.0"))},
    "an array of bytes": {"quantity": np.array([b"RATE"])},
    "an array of text": {"quantity": np.array(["RATE"], object)},
    "bytes": {"quantity": np.bytes_("RATE")},
    "trailing blanks": {"quantity": np.bytes_("RATE  \n")},
    "padded by zeros": {"quantity": np.array(b"RATE\0\0\0", dtype="S8")},
    "lower case": {"quantity": "rate"},
    "no nodata": {"nodata": None},
    "no undetect": {"undetect": None},
    "neither": {"nodata": None, "undetect": None},
    "no offset": {"offset": None},
    "negative heights of pixels": {"scales": (2000.0, -2000.0)},
    "other height, by rounding": {"scales": (2000.0, 2000.1)},
}


@pytest.mark.parametrize("held", AS_WRITTEN.values(), ids=AS_WRITTEN)
@pytest.mark.parametrize("place", ["dataset1/what", "dataset1/data1/what", "what"])
def test_attributes_as_writers_write_them(tmp_path, held, place):
    write(tmp_path / "a.h5", place=place, **held)
    check(tmp_path)


@pytest.mark.parametrize("renamed", [str.upper, str.title])
def test_names_in_other_case(tmp_path, renamed):
    write(tmp_path / "a.h5", renamed=renamed)
    check(tmp_path)


@pytest.mark.parametrize("place", ["dataset1/data1", "dataset1", "dataset1/data1/data"])
@pytest.mark.parametrize("grid", ["dataset1/where", "dataset1/data1/where", "where"])
def test_attributes_on_other_levels(tmp_path, place, grid):
    write(tmp_path / "a.h5", place=place, grid=grid)
    check(tmp_path)


@pytest.mark.parametrize("factor", NEARLY)
def test_sizes_that_differ_by_rounding_are_one_grid(tmp_path, factor):
    write(tmp_path / "a.h5")
    write(tmp_path / "b.h5", scales=(2000 * factor, 2000 / factor))
    assert len(check(tmp_path)) == 2


@pytest.mark.parametrize("factor", [1.01, 0.5])
def test_other_sizes_are_not(tmp_path, factor):
    write(tmp_path / "a.h5")
    write(tmp_path / "b.h5", scales=(2000 * factor, 2000 * factor))
    with pytest.warns(UserWarning, match="differs from"):
        assert [path.name for path in Opera(tmp_path, size=8).files] == ["a.h5"]
    write(tmp_path / "b.h5", scales=(2000, 2000 * factor))
    with pytest.warns(UserWarning, match="are not square"):
        assert [path.name for path in Opera(tmp_path, size=8).files] == ["a.h5"]


def test_missing_markers_are_guessed_of_whole_numbers_alone(tmp_path):
    """The greatest number of 8 and 16 bits is what writers take; a largest rate is a rate."""
    for kind in ("u1", "u2"):
        raw = np.minimum(numbers(), np.iinfo(kind).max).astype(kind)
        write(tmp_path / "a.h5", raw, nodata=None)
        check(tmp_path)
    write(tmp_path / "a.h5", numbers().astype("f4"), nodata=None)
    assert not np.isnan(Opera(tmp_path, size=8).read_frame(0)).any()


def test_the_greatest_number_is_no_echo_where_the_file_says_so(tmp_path):
    raw = np.where(numbers() == 25, 25, 255).astype("u1")
    write(tmp_path / "a.h5", raw, nodata=None, undetect=255.0)
    np.testing.assert_allclose(Opera(tmp_path, size=8).read_frame(0), np.nan_to_num(expected()), atol=1e-6)


@pytest.mark.parametrize("name", ["_FillValue", "missing_value"])
def test_markers_of_other_conventions(tmp_path, name):
    raw = numbers().astype("i4")
    raw[:4] = -1
    write(tmp_path / "a.h5", raw, nodata=None, **{name: -1})
    check(tmp_path)


@pytest.mark.parametrize("marker", [-9999.9, np.float32(-9999.9), "-9999.9"])
@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_markers_with_other_rounding(tmp_path, marker, kind):
    raw = numbers().astype(kind)
    raw[:4] = -9999.9
    write(tmp_path / "a.h5", raw, nodata=marker)
    check(tmp_path)


def test_one_frame_of_three_axes(tmp_path):
    write(tmp_path / "a.h5", numbers()[None])
    check(tmp_path)


def test_several_data_sets_with_attributes_of_their_own(tmp_path):
    """Reflectivity comes first, and its gain stands where that of rain does not."""
    path = write(tmp_path / "a.h5", place="dataset2/data1/what", gain=0.5)
    with h5py.File(path, "a") as file:
        file["dataset2/data1/data"] = numbers()
        file["dataset2/data1/what"].attrs["gain"] = 0.1
        file["dataset1"].create_group("data1/what").attrs.update(
            {"quantity": "DBZH", "gain": 0.5, "offset": -32.0}
        )
    check(tmp_path)
    assert np.nanmax(Opera(tmp_path, size=8, quantity="DBZH", bounds=(0, 150)).read_frame(0)) == 0


@pytest.mark.parametrize("key", ["gain", "offset", "nodata", "undetect"])
def test_attributes_that_are_no_numbers(tmp_path, key):
    write(tmp_path / "a.h5", **{key: "many"})
    with pytest.raises(
        DataError, match=rf"a\.h5: attribute what/{key} \(='many'\) is not a number"
    ) as caught:
        Opera(tmp_path, size=8)
    assert "\n" not in str(caught.value)


def test_files_are_sorted_by_the_time_of_their_data(tmp_path):
    for name, time in (("a", "1100"), ("b", "0900"), ("c", "1000")):
        write(tmp_path / f"{name}.h5", startdate=np.bytes_("20200101"), starttime=np.array([time.encode()]))
    assert [path.stem for path in Opera(tmp_path, size=8).files] == ["b", "c", "a"]
