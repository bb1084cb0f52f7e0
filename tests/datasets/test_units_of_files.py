"""Units of files and arrays: of values, and of the pixels that coordinates tell."""

import emuloss
import numpy as np
import pytest
from array_files import WRITERS, masked_fields, write_hdf5, write_netcdf
from emuloss.datasets import Arrays, InMemory, as_source
from emuloss.errors import ArgumentError, DataError
from emuloss.foundation.units import conversion, same_unit
from emuloss.pipeline.measuring import fields_for

xarray = pytest.importorskip("xarray")


@pytest.fixture
def values():
    return masked_fields()


GRIDS = {
    "km": (2 * np.arange(12.0), 2 * np.arange(16.0) - 99, "km", (2.0, "km")),
    "m": (2000 * np.arange(12.0), 2000 * np.arange(16.0) + 1e6, "m", (2.0, "km")),
    "metres": (-500 * np.arange(12.0), 500 * np.arange(16.0), "metres", (0.5, "km")),
    "small": (0.25 * np.arange(12.0), 0.25 * np.arange(16.0), "m", (0.25, "m")),
    "a microscope": (0.1 * np.arange(12.0), 0.1 * np.arange(16.0), "um", (0.1, "um")),
    "single precision": (
        (4.1e6 + 1000 * np.arange(12)).astype("f4"),
        (1000 * np.arange(16) - 3.3e6).astype("f4"),
        "m",
        (1.0, "km"),
    ),
    "numbers of pixels": (np.arange(12), np.arange(16), "1", (1.0, "pixel")),
    "no unit": (3 * np.arange(12), 3 * np.arange(16), "", (1.0, "pixel")),
}

TOLD = {
    "degrees": (np.arange(12.0), np.arange(16.0), ("degrees_north", "degrees_east"), "in degrees_north"),
    "uneven": (np.arange(12.0) ** 2, np.arange(16.0), ("km", "km"), "values of y are not evenly spaced"),
    "not square": (np.arange(12.0), 2 * np.arange(16.0), ("km", "km"), "1000 by 2000 m are not square"),
    "all the same": (np.zeros(12), np.arange(16.0), ("km", "km"), "values of y are not evenly spaced"),
}


class TestUnits:
    """Kind: units of files are ignored."""

    @pytest.mark.parametrize("suffix", [".h5", ".nc", ".zarr"])
    def test_are_told_by_the_file(self, tmp_path, values, suffix):
        path = WRITERS[suffix](tmp_path / f"a{suffix}", values.filled(0), {"units": "m s-1"})
        assert Arrays(path).unit == "m s-1"
        assert Arrays(path, unit="mm/h").unit == "mm/h"

    @pytest.mark.parametrize("units", [np.bytes_("K "), np.array(["K"], object)])
    def test_as_writers_write_them(self, tmp_path, values, units):
        assert Arrays(write_hdf5(tmp_path / "a.h5", values.filled(0), {"Units": units})).unit == "K"

    @pytest.mark.parametrize(("y", "x", "unit", "expected"), GRIDS.values(), ids=GRIDS)
    def test_pixels_are_told_by_coordinates(self, tmp_path, values, y, x, unit, expected):
        coords = {"y": ("y", y, {"units": unit}), "x": ("x", x, {"units": unit})}
        path = write_netcdf(tmp_path / "a.nc", values.filled(0), {}, coords=coords)
        for source in (Arrays(path), as_source(xarray.open_dataset(path)["rain"].load())):
            assert (source.pixel_size, source.length_unit) == expected
        assert Arrays(path, pixel_size=7.0, length_unit="nm").pixel_size == 7
        same_file = Arrays(path.rename(tmp_path / "a.h5"))
        assert (same_file.pixel_size, same_file.length_unit) == expected

    @pytest.mark.parametrize(("y", "x", "units", "words"), TOLD.values(), ids=TOLD)
    def test_grids_without_one_size_of_pixels_say_so(self, tmp_path, values, y, x, units, words):
        coords = {"y": ("y", y, {"units": units[0]}), "x": ("x", x, {"units": units[1]})}
        path = write_netcdf(tmp_path / "a.nc", values.filled(0), {}, coords=coords)
        with pytest.warns(
            UserWarning, match=rf"{words}.*; lengths are in pixels unless you give pixel_size="
        ):
            source = Arrays(path)
        assert (source.pixel_size, source.length_unit) == (1.0, "pixel")
        assert Arrays(path, pixel_size=1.5, length_unit="km").pixel_size == 1.5  # without a warning

    def test_areas_are_in_the_unit_of_the_coordinates(self, tmp_path, values):
        coords = {name: (name, 2000.0 * np.arange(n), {"units": "m"}) for name, n in (("y", 12), ("x", 16))}
        path = write_netcdf(
            tmp_path / "a.nc", np.repeat(values.filled(9), 4, 0), {"units": "mm h-1"}, coords=coords
        )
        store = emuloss.label(
            fields=path, thresholds=[5.05], outputs=["area"], out=tmp_path / "l.h5", progress=False
        )
        assert (store.units, store.unit, store.pixel_size) == (("km^2",), "mm h-1", 2.0)
        fields, curves = store.split("train")
        np.testing.assert_array_equal(curves[:, 0, 0], 4 * (fields > 5.05).sum((1, 2)))

    def test_fields_in_another_unit_than_the_metric_takes(self, values, tmp_path):
        metric = emuloss.metric("spectrum", field_unit="mm/h")
        call = {"metric": metric, "out": tmp_path / "l.h5", "progress": False}
        with pytest.raises(
            ArgumentError, match=r"come in m s-1, metric 'spectrum' takes mm/h; multiply them by 3600000"
        ):
            emuloss.label(fields=InMemory(np.repeat(values.filled(0), 4, 0), unit="m s-1"), **call)
        emuloss.label(fields=InMemory(np.repeat(values.filled(0), 4, 0), unit="mm h-1"), **call)

    def test_fields_in_another_unit_than_the_surrogate_takes(self, values):
        surrogate = emuloss.load("minkowski-opera")
        fields = np.repeat(values.filled(0), 22, 0)[:64]
        for unit in ("mm/h", "mm h-1", "kg m-2 h-1", ""):
            fields_for(surrogate, InMemory(fields, unit=unit), 4, 0, whole=True)
        for unit, remedy in (("m s-1", "multiply them by 3600000"), ("K", "convert them")):
            with pytest.raises(ArgumentError, match=rf"come in {unit}, the surrogate takes mm/h; {remedy}"):
                fields_for(surrogate, InMemory(fields, unit=unit), 4, 0, whole=True)

    def test_other_pixels_than_those_of_the_surrogate_are_told(self, values, capsys):
        surrogate = emuloss.load("minkowski-opera")
        for size, words in ((1000.0, "pixels of 1000 m, the surrogate takes them for 2 km"), (2000.0, "")):
            source = InMemory(values.filled(0), pixel_size=size, length_unit="m")
            fields_for(surrogate, source, 2, 0, whole=True)
            said = capsys.readouterr().err
            assert words in said
            assert bool(said) == bool(words)


def a_file(suffix):
    return lambda folder, values, unit: WRITERS[suffix](folder / f"a{suffix}", values, {"units": unit})


def an_array(folder, values, unit):
    return xarray.DataArray(values, dims=("time", "y", "x"), attrs={"units": unit})


PLACES = {
    "hdf5": a_file(".h5"),
    "netcdf": a_file(".nc"),
    "zarr": a_file(".zarr"),
    "xarray": an_array,
    "dask": lambda *given: an_array(*given).chunk(time=1),
}
"""Where fields of a unit come from, other than archives."""


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
class TestConversions:
    """`to_unit` of arrays: values, their step and what is left of them in a store."""

    STEPS = np.random.default_rng(0).integers(0, 40, (13, 8, 8)).astype("f4")

    def opened(self, place, folder, values, told, /, **options):
        folder = folder / str(len(list(folder.iterdir())))
        folder.mkdir()
        given = place(folder, values, told)
        return as_source(given if isinstance(given, xarray.DataArray) else str(given), **options)

    def all_of(self, source):
        return np.concatenate([source.read(k, "test") for k in range(len(source))])

    def test_by_a_factor(self, place, tmp_path):
        source = self.opened(place, tmp_path, 0.5 * self.STEPS, "cm h-1", to_unit="mm/h")
        np.testing.assert_array_equal(self.all_of(source), 5 * self.STEPS)
        assert (source.unit, source.own_unit, source.quantum) == ("mm/h", "cm h-1", 5.0)

    def test_reflectivity_becomes_rain(self, place, tmp_path):
        source = self.opened(place, tmp_path, self.STEPS, "dBZ", to_unit="mm/h")
        np.testing.assert_allclose(
            self.all_of(source), (10 ** (self.STEPS / 10) / 200) ** (1 / 1.6), rtol=1e-6
        )
        assert source.quantum is None

    def test_nothing_where_the_unit_is_that_already(self, place, tmp_path):
        plain = self.opened(place, tmp_path, self.STEPS, "mm h-1", unit="mm/h")
        source = self.opened(place, tmp_path, self.STEPS, "mm h-1", to_unit="mm/h")
        np.testing.assert_array_equal(self.all_of(source), self.STEPS)
        assert source.config() == plain.config()

    @pytest.mark.parametrize(
        ("unit", "options", "words"),
        [
            ("K", {"to_unit": "mm/h"}, "K"),
            ("", {"to_unit": "mm/h"}, "does not tell the unit of its values, .* give `unit`"),
            ("m", {"unit": "mm/h", "to_unit": "K"}, "mm/h"),
        ],
    )
    def test_what_cannot_be_converted_is_refused(self, place, tmp_path, unit, options, words):
        with pytest.raises(ArgumentError, match=words):
            self.opened(place, tmp_path, self.STEPS, unit, **options)

    def test_labels_are_of_converted_values(self, place, tmp_path):
        call = {"thresholds": [57.5], "outputs": ["area"], "out": tmp_path / "l.h5", "progress": False}
        converted = self.opened(place, tmp_path, 0.5 * self.STEPS, "cm h-1", to_unit="mm/h")
        store = emuloss.label(fields=converted, **call)
        assert store.unit == "mm/h"
        fields, curves = store.split("train")
        np.testing.assert_array_equal(curves[:, 0, 0], (5 * self.STEPS[: len(fields)] > 57.5).sum((1, 2)))
        with pytest.raises(DataError, match="was made for other work"):
            emuloss.label(fields=self.opened(place, tmp_path, 0.5 * self.STEPS, "cm h-1"), **call)


SAME = [
    ("mm h-1", "mm/h"),
    ("mm/hr", "mm / hour"),
    ("mm h^-1", "mm/h"),
    ("mm.h-1", "mm h**-1"),
    ("kg m-2 h-1", "mm/h"),
    ("K", "kelvin"),
    ("degC", "°C"),
    ("dBZ", "dbz"),
    ("", "1"),
    ("W m-2", "W/m2"),
    ("mm per day", "mm d-1"),
    ("x", "x"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_one_unit_has_many_spellings(one, other):
    assert same_unit(one, other)
    assert same_unit(other, one)


@pytest.mark.parametrize(
    ("one", "other", "factor"),
    [
        ("m s-1", "mm/h", 3.6e6),
        ("kg m-2 s-1", "mm/h", 3600),
        ("mm d-1", "mm/h", 1 / 24),
        ("km", "m", 1000),
        ("hPa", "Pa", 100),
        ("K", "degC", None),
        ("mm", "mm/h", None),
        ("dBZ", "mm/h", None),
        ("m2", "m", None),
        ("degrees_north", "km", None),
        ("<>", "m", None),
    ],
)
def test_other_units_are_converted_if_a_factor_does_it(one, other, factor):
    assert not same_unit(one, other)
    found = conversion(one, other)
    assert found is None if factor is None else found == pytest.approx(factor, rel=1e-12)
