"""Curves of xarray objects, eager and lazy."""

import emuloss
import numpy as np
import pytest
from emuloss.errors import ArgumentError
from emuloss.metrics import Minkowski, Spectrum

xarray = pytest.importorskip("xarray")

THRESHOLDS = (0.5, 2.0)
TIMES = np.array(["2024-01-01T00", "2024-01-01T01", "2024-01-01T02"], "datetime64[ns]")
STEP = np.timedelta64(1, "ns")


def rain() -> "xarray.DataArray":
    values = np.random.default_rng(0).gamma(0.5, 2.0, (3, 2, 12, 10)).astype(np.float32)
    values[0, 0, :2] = np.nan
    return xarray.DataArray(
        values,
        dims=("time", "member", "y", "x"),
        coords={"time": TIMES, "x": np.arange(10.0)},
        attrs={"units": "mm/h"},
        name="rain",
    )


def test_dimensions_and_units_are_named() -> None:
    teacher, fields = Minkowski(THRESHOLDS, 2.0, length_unit="km"), rain()
    curves = teacher(fields)
    assert curves.dims == ("time", "member", "output", "threshold")
    expected = teacher(fields.values.reshape(6, 12, 10)).reshape(3, 2, 3, 2)
    np.testing.assert_array_equal(curves.values, expected)
    np.testing.assert_array_equal(curves.time, TIMES)
    assert curves.dtype == np.float64
    assert curves.name == "minkowski"
    assert curves.sel(output="perimeter", threshold=2.0).units == "km"
    assert curves.threshold.attrs == {"units": "mm/h"}
    assert "x" not in curves.coords


def test_dimensions_of_any_name_and_order() -> None:
    fields = rain()
    for given in (fields.rename(y="a", x="b"), fields.rename(time="number", x="b"), fields.drop_vars("time")):
        np.testing.assert_array_equal(Minkowski(THRESHOLDS)(given), Minkowski(THRESHOLDS)(fields))
    tiles = (
        fields.isel(time=0, drop=True).expand_dims(rows=2).isel(member=0, drop=True).expand_dims(columns=1)
    )
    assert Minkowski(THRESHOLDS)(tiles).dims == ("columns", "rows", "output", "threshold")
    turned = Minkowski(THRESHOLDS)(fields.transpose("member", "time", "x", "y"))
    np.testing.assert_array_equal(turned.transpose("time", ...), Minkowski(THRESHOLDS)(fields))


def test_one_field() -> None:
    curves = Minkowski(THRESHOLDS)(rain()[0, 0])
    assert curves.dims == ("output", "threshold")
    np.testing.assert_array_equal(curves, Minkowski(THRESHOLDS)(rain().values[:1, 0])[0])


def test_a_metric_without_thresholds() -> None:
    teacher = Spectrum()
    curves = teacher(rain()[1])
    assert curves.dims == ("member", "output", "level")
    np.testing.assert_array_equal(curves.level, teacher.levels)


@pytest.mark.parametrize("chunks", [{"time": 1}, {"time": 2, "y": 5, "x": 3}], ids=str)
def test_dask_arrays_stay_lazy(chunks) -> None:
    pytest.importorskip("dask")
    teacher, fields = Minkowski(THRESHOLDS, outputs=("holes", "area")), rain()
    curves = teacher(fields.chunk(chunks))
    assert curves.chunks is not None
    assert curves.sizes == {"time": 3, "member": 2, "output": 2, "threshold": 2}
    xarray.testing.assert_identical(curves.compute(scheduler="threads"), teacher(fields))


def test_members_beside_one_observation() -> None:
    teacher, fields = emuloss.metric("fss", thresholds=THRESHOLDS, windows=[1, 3]), rain()
    observed = fields.isel(member=0, drop=True) * 1.1
    scores = teacher(fields, observed)
    assert scores.dims == ("time", "member", "output", "threshold")
    np.testing.assert_array_equal(scores.isel(member=1), teacher(fields.values[:, 1], observed.values))


def test_a_function_of_ones_own() -> None:
    teacher = emuloss.metric(lambda field: float(np.nanmax(field)), outputs=["highest"], units=["mm/h"])
    curves = teacher(rain())
    assert curves.sel(output="highest").shape == (3, 2, 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([rain()[0, 0, 0]], "two last dimensions"),
        ([rain().rename(member="output")], "a dimension 'output', as the curves do"),
        ([rain(), rain()], "takes 1 arrays, all DataArrays or none, got DataArray, DataArray"),
        ([rain()[..., :0]], "of a pixel at least"),
        ([rain().to_dataset()], r"a Dataset of rain; choose one, such as data\['rain'\]"),
        ([rain().transpose("member", "y", "x", "time")], r"got \('member', 'y', 'x', 'time'\); .*'y', 'x'\)"),
        ([rain()[:, 0, 0]], "the last two dimensions are those of a field"),
        (
            [rain()[0].rename(x="lng").transpose("y", "lng", "member")],
            r"use .transpose\(..., ROWS, COLUMNS\)",
        ),
        ([rain().transpose("time", "y", "x", "member")], "the last two dimensions"),
        (
            [
                rain()[0]
                .rename(y="south_north", x="west_east")
                .transpose("south_north", "west_east", "member")
            ],
            r"use .transpose\(..., 'south_north', 'west_east'\)",
        ),
    ],
)
def test_unusable_arrays(given, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Minkowski(THRESHOLDS)(*given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda fields: fields.values, "all DataArrays or none, got DataArray, ndarray"),
        (lambda fields: fields.transpose(..., "x", "y"), "same names"),
        (
            lambda fields: fields.assign_coords(time=TIMES + np.timedelta64(1, "ns")),
            "other coordinates; align them",
        ),
    ],
)
def test_pairs_that_do_not_match(change, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        emuloss.metric("fss", thresholds=THRESHOLDS)(rain(), change(rain()))
