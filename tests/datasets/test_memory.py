"""Fields in memory, and the one way to a source from whatever is given."""

import pickle
import subprocess
import sys

import emuloss
import numpy as np
import pytest
from drawn import read_all
from emuloss.datasets import (
    SOURCES,
    Arrays,
    FieldSource,
    InMemory,
    Rain,
    as_source,
    assign_splits,
    label,
    shapes,
)
from emuloss.errors import ArgumentError, DataError
from emuloss.foundation import registry


@pytest.fixture
def frames():
    values = np.random.default_rng(0).gamma(0.3, 3, (30, 20, 24)).astype(np.float32)
    values[0, :3] = np.nan
    return values


class TestInMemory:
    def test_gives_the_frames_as_they_are(self, frames):
        source = InMemory(frames, pixel_size=2.0, unit="mm/h", length_unit="km", quantum=0.5)
        assert (len(source), source.field_shape, source.chronological) == (10, (20, 24), True)
        assert (source.pixel_size, source.unit, source.length_unit) == (2.0, "mm/h", "km")
        assert (source.quantum, source.variable) == (0.5, None)
        np.testing.assert_array_equal(read_all(source), frames)
        np.testing.assert_array_equal(read_all(pickle.loads(pickle.dumps(source)), "test"), frames)

    def test_is_the_array_file_without_a_file(self, tmp_path, frames):
        np.save(tmp_path / "a.npy", frames)
        options = {"size": (10, 12), "stride": (5, 6), "pixel_size": 2.0, "quantum": 0.5}
        kept, saved = InMemory(frames, **options), Arrays(tmp_path / "a.npy", **options)
        assert (len(kept), assign_splits(kept)) == (len(saved), assign_splits(saved))
        for k in range(len(kept)):
            for role in ("train", "test"):
                np.testing.assert_array_equal(kept.read(k, role), saved.read(k, role))
        common = ("shape", "pixel_size", "unit", "size", "stride", "quantum")
        assert {key: kept.config()[key] for key in common} == {key: saved.config()[key] for key in common}

    def test_patches_overlap_in_training_only(self, frames):
        source = InMemory(frames, size=(10, 12), stride=(5, 6))
        assert len(read_all(source, "train")) == 30 * 9
        tested = read_all(source, "test")
        assert len(tested) == 30 * 4
        np.testing.assert_array_equal(tested[1], frames[0, :10, 12:])
        assert max(len(source.read(k, "train")) for k in range(len(source))) <= 64

    @pytest.mark.parametrize("drawn", [shapes.disk(), shapes.annulus(), shapes.two_disks()])
    def test_drawn_fields_keep_what_is_known_of_them(self, drawn, tmp_path):
        field, answers = drawn
        metric = emuloss.metric("minkowski", thresholds=[0.5], outputs=("area", "components", "holes"))
        roles = ["train", "validation", "test"]
        store = label(
            InMemory(np.stack([field] * 3)), metric, tmp_path / "x.h5", splits=roles, progress=False
        )
        for role in roles:
            fields, curves = store.split(role)
            np.testing.assert_array_equal(fields, field[None])
            assert dict(zip(metric.outputs, curves[0, :, 0], strict=True)) == {
                name: answers[name] for name in metric.outputs
            }

    @pytest.mark.parametrize("kind", [np.float64, np.float16, np.uint8, np.int64, bool])
    def test_any_real_numbers(self, kind):
        values = (np.arange(24).reshape(2, 3, 4) % 2).astype(kind)
        found = read_all(InMemory(values))
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, values)

    def test_single_precision_is_not_copied(self, frames):
        assert np.shares_memory(InMemory(frames).array, frames)

    def test_one_frame(self, frames):
        np.testing.assert_array_equal(read_all(InMemory(frames[5])), frames[5:6])

    @pytest.mark.parametrize("kind", [np.float32, np.float64, np.int16])
    def test_masked_pixels_were_not_measured(self, kind):
        values = np.arange(24).reshape(2, 3, 4).astype(kind)
        masked = np.ma.masked_greater(values, 20)
        found = read_all(InMemory(masked))
        np.testing.assert_array_equal(np.isnan(found), masked.mask)
        np.testing.assert_array_equal(found[~masked.mask], values[~masked.mask])
        np.testing.assert_array_equal(read_all(InMemory(np.ma.array(values))), values)
        assert not np.isnan(values.astype(float)).any()

    def test_config_tells_contents_apart(self, frames):
        first = InMemory(frames).config()
        assert InMemory(frames.astype(np.float64)).config() == first
        assert InMemory(frames[:, ::-1][:, ::-1]).config() == first  # however they lie in memory
        other = frames.copy()
        other[7, 3, 3] += 1
        assert InMemory(other).config()["digest"] != first["digest"]
        assert InMemory(frames[:, :, ::-1]).config()["digest"] != first["digest"]
        assert InMemory(frames, size=5).config() != first

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"pixel_size": 0}, "pixel_size must be a positive number, got 0"),
            ({"quantum": -1.0}, "quantum must be a positive number, got -1.0"),
            ({"unit": 3}, "unit must be a string such as 'mm/h', got 3"),
            ({"length_unit": 2}, "length_unit must be a string such as 'km', got 2"),
            ({"size": "x"}, "size must be a whole number or a pair"),
            ({"size": 4, "stride": 0}, "stride must be a whole number of at least 1, got 0"),
            ({"stride": 2}, "`stride` .* needs `size`"),
        ],
    )
    def test_options_out_of_range(self, frames, options, message):
        with pytest.raises(ArgumentError, match=f"^{message}"):
            InMemory(frames, **options)

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            (np.zeros(4), r"fields: shape \(4,\) is not \(T, H, W\) or \(H, W\) of real numbers"),
            (np.zeros((2, 2, 2, 2)), r"shape \(2, 2, 2, 2\) is not"),
            (np.zeros((2, 4, 4), complex), "of real numbers"),
            (np.full((2, 4, 4), "x"), "of real numbers"),
            (np.zeros((0, 4, 4)), r"fields: shape \(0, 4, 4\) holds no frame"),
            (np.zeros((2, 0, 4)), r"fields: shape \(2, 0, 4\) holds no frame"),
        ],
    )
    def test_no_frames(self, values, message):
        with pytest.raises(DataError, match=message) as caught:
            InMemory(values)
        assert "\n" not in str(caught.value)

    def test_patches_that_do_not_fit(self, frames):
        with pytest.raises(DataError, match=r"fields: `size` \(=\(21, 21\)\) exceeds its shape \(20, 24\)"):
            InMemory(frames, size=21)


class TestXarray:
    @pytest.fixture
    def array(self, frames):
        xarray = pytest.importorskip("xarray")
        return xarray.DataArray(frames, dims=("time", "y", "x"), name="rain", attrs={"units": "mm/h"})

    def test_says_its_unit_and_its_name(self, array, frames):
        source = InMemory(array)
        assert (source.unit, source.variable) == ("mm/h", "rain")
        assert source.config()["variable"] == "rain"
        np.testing.assert_array_equal(read_all(source), frames)
        assert source.config()["digest"] == InMemory(frames).config()["digest"]

    def test_what_is_given_counts_more(self, array):
        assert InMemory(array, unit="dBZ").unit == "dBZ"
        del array.attrs["units"]
        assert InMemory(array).unit == ""
        assert InMemory(array.rename(None)).variable is None

    def test_messages_name_it(self, array):
        with pytest.raises(DataError, match=r"^rain: shape \(24,\) is not"):
            InMemory(array[0, 0])

    def test_as_source(self, array):
        assert as_source(array, size=8).config() == InMemory(array, size=8).config()

    def test_is_not_imported_for_arrays(self, tmp_path):
        code = (
            "import sys, numpy as np; from emuloss.datasets import as_source\n"
            "as_source(np.ones((3, 4, 4))); print('xarray' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert done.stdout == "False\n"


class TestAsSource:
    def test_a_source_stays_as_it_is(self):
        source = Rain(8, size=16)
        assert as_source(source) is source
        assert as_source(source, seed=3) is source
        with pytest.raises(ArgumentError, match=r"takes no options, got size, count; give them to its class"):
            as_source(source, size=8, count=4)

    def test_text_and_files_are_opened(self, tmp_path, frames):
        assert as_source("rain", count=5, size=16).config() == Rain(5, 16).config()
        np.save(tmp_path / "a.npy", frames)
        for place in (str(tmp_path / "a.npy"), tmp_path / "a.npy"):
            source = as_source(place, size=8)
            assert isinstance(source, Arrays)
            assert source.field_shape == (8, 8)
        with pytest.raises(ArgumentError, match="unknown source of fields 'snow'"):
            as_source("snow", seed=3)

    def test_the_seed_goes_to_sources_that_draw(self, tmp_path, frames):
        assert as_source("rain", count=5, size=16, seed=2).config() == Rain(5, 16, 2).config()
        assert as_source("rain", count=5, size=16, quantum=None, seed=2).quantum is None
        np.save(tmp_path / "a.npy", frames)
        path = tmp_path / "a.npy"
        assert as_source(path, seed=2).config() == as_source(path).config()
        assert as_source(frames, seed=2).config() == as_source(frames).config()

    def test_arrays(self, frames):
        assert as_source(frames, size=8).config() == InMemory(frames, size=8).config()
        with pytest.raises(
            ArgumentError, match="source 'memory' has no option 'colour'; it takes pixel_size"
        ):
            as_source(frames, colour="red")

    def test_tensors(self, frames):
        torch = pytest.importorskip("torch")
        tensor = torch.from_numpy(frames)
        assert as_source(tensor).config() == as_source(frames).config()
        as_source(tensor.float().bfloat16().requires_grad_())
        with pytest.raises(ArgumentError, match="a dense tensor"):
            as_source(tensor.to_sparse())

    @pytest.mark.parametrize("thing", [None, 3, [[1.0, 2.0]], Rain])
    def test_anything_else(self, thing):
        with pytest.raises(ArgumentError, match=r"^fields must be a source, .* got \w+$") as caught:
            as_source(thing)
        assert "\n" not in str(caught.value)
        with pytest.raises(ArgumentError, match=r"^fields must be a NumPy array or .* got \w+$"):
            InMemory(thing)


class TestSources:
    @pytest.fixture
    def mine(self, monkeypatch):
        """A source of a place and a seed, known to this test alone."""
        monkeypatch.setattr(SOURCES, "_things", dict(SOURCES._things))

        @SOURCES.register("mine")
        class Mine(Rain):
            def __init__(self, station, seed=0):
                super().__init__(4, 8, seed)
                self.station = station

        return Mine

    def test_a_source_of_ones_own(self, mine):
        source = as_source("mine:north", seed=3)
        assert isinstance(source, mine)
        assert (source.station, source.seed) == ("north", 3)
        with pytest.raises(ArgumentError, match="has no option 'station'; it takes seed"):
            as_source("mine:north", station="south")
        with pytest.raises(ArgumentError, match=r"use rain, opera:DIR, .*, mine:STATION, or"):
            as_source("mine")

    def test_the_name_of_another_is_taken(self, mine):
        with pytest.raises(ArgumentError, match=r"name 'rain' of .* is taken by emuloss\.datasets\.sources"):
            SOURCES.register("rain")(mine)

    def test_other_packages_offer_theirs(self, monkeypatch):
        class Point:
            def __init__(self, name, thing):
                self.name, self.value, self.thing, self.dist = name, f"their.module:{name}", thing, None

            def load(self):
                return self.thing

        class Theirs(InMemory):
            def __init__(self, count=2):
                super().__init__(np.ones((count, 4, 4)))

        points = [Point("theirs", Theirs), Point("broken", dict)]
        monkeypatch.setattr(SOURCES, "_things", dict(SOURCES._things))
        monkeypatch.setattr(
            registry, "entry_points", lambda group: points if group == "emuloss.sources" else []
        )
        source = as_source("theirs", count=3)
        assert isinstance(source, FieldSource)
        assert source.frames == 3
        with pytest.raises(ArgumentError, match=r"their\.module:broken\) is no subclass of .*FieldSource"):
            as_source("broken")
        with pytest.raises(ArgumentError, match=r"array:FILE, .*, theirs, broken, or a file ending in"):
            as_source("snow")
