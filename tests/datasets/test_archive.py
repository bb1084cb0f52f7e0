"""Archives of files: order, tiling, mixed folders, unreadable files, units; on small files of NumPy."""

import json
import pickle
import re
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from emuloss.datasets import assign_splits
from emuloss.datasets.sources.archive import Archive, MisfitError, Told, files_in
from emuloss.datasets.sources.grids import Grid
from emuloss.errors import ArgumentError, DataError

HOUR = np.timedelta64(1, "h")
BEGIN = np.datetime64("2020-01-01T00:00")


class Kept(Archive):
    """Frames in .npz files, with what the test says about them."""

    name = "kept"

    def __init__(self, folder, pattern="**/*.npz", **options):
        super().__init__(**options)
        self.opened = []
        self.scan(Path(folder), files_in(Path(folder), pattern, "npz files"))

    def look(self, path):
        with np.load(path) as file:
            if "misfit" in file:
                raise MisfitError(f"{path}: it is of another kind.")
            return Told(
                shape=tuple(file["shape"].tolist()),
                times=[None if hour < 0 else BEGIN + hour * HOUR for hour in file["hours"]],
                unit=str(file["unit"]),
                grid=Grid(float(file["side"]), "km"),
                quantity=str(file["quantity"]),
                quantum=float(file["quantum"]) or None,
            )

    def frame(self, entry):
        self.opened.append(entry.path.name)
        with np.load(entry.path) as file:
            return file["frames"][entry.index]


def write(path, hours=(0,), values=None, shape=(8, 8), unit="mm/h", side=1.0, quantity="", quantum=0.0):
    """A file of one frame for each hour; a negative one is a time that is not told."""
    path.parent.mkdir(exist_ok=True)
    if values is None:
        values = np.random.default_rng(len(path.name)).uniform(0.1, 9, (len(hours), *shape))
    np.savez(
        path,
        frames=values,
        hours=hours,
        shape=values.shape[1:],
        unit=unit,
        side=side,
        quantity=quantity,
        quantum=quantum,
    )
    return values


def remedied(error):
    """Whether a message is one line that tells what to do."""
    return "\n" not in str(error) and "skip_unreadable" in str(error)


class TestOrder:
    def test_frames_come_in_order_of_time_whatever_files_are_called(self, tmp_path):
        late, early = write(tmp_path / "a.npz", (4, 6)), write(tmp_path / "b.npz", (5, 3))
        archive = Kept(tmp_path)
        assert list(archive.times) == [BEGIN + hour * HOUR for hour in (3, 4, 5, 6)]
        for k, expected in enumerate((early[1], late[0], early[0], late[1])):
            np.testing.assert_array_equal(archive.read(k, "train"), expected[None].astype(np.float32))
        assert [archive.file_of(k) for k in range(4)] == ["b.npz", "a.npz", "b.npz", "a.npz"]
        assert [path.name for path in archive.files] == ["b.npz", "a.npz"]

    def test_names_break_ties(self, tmp_path):
        for name in ("c", "a", "b"):
            write(tmp_path / f"{name}.npz", (2,))
        assert [path.stem for path in Kept(tmp_path).files] == ["a", "b", "c"]

    def test_names_stand_in_where_no_time_is_told(self, tmp_path):
        for name in ("c", "a", "b"):
            write(tmp_path / f"{name}.npz", (-1, -1))
        archive = Kept(tmp_path)
        assert archive.times is None
        assert [(entry.path.stem, entry.index) for entry in archive.entries] == [
            (name, i) for name in "abc" for i in (0, 1)
        ]

    def test_split_by_time(self, tmp_path):
        for i in range(12):
            write(tmp_path / f"{i:02d}.npz", (11 - i,))
        archive = Kept(tmp_path)
        roles = assign_splits(archive)
        tested = [archive.file_of(k) for k, role in enumerate(roles) if role == "test"]
        assert tested == ["01.npz", "00.npz"]


class TestReading:
    def test_whole_frames_and_patches(self, tmp_path):
        values = write(tmp_path / "a.npz", shape=(9, 8))[0].astype(np.float32)
        values[:3, :4] = np.nan
        write(tmp_path / "a.npz", values=values[None])
        np.testing.assert_array_equal(Kept(tmp_path).read(0, "train"), values[None])
        loose = Kept(tmp_path, size=4, stride=2, min_coverage=0)
        assert loose.field_shape == (4, 4)
        corners = [(i, j) for i in (0, 2, 4) for j in (0, 2, 4)]
        expected = np.array([values[i : i + 4, j : j + 4] for i, j in corners])
        np.testing.assert_array_equal(loose.read(0, "train"), expected)
        assert len(loose.read(0, "test")) == 4
        covered = [patch for patch in expected if np.isnan(patch).mean() <= 0.1]
        np.testing.assert_array_equal(Kept(tmp_path, size=4, stride=2).read(0, "train"), covered)

    def test_a_part_of_each_frame(self, tmp_path):
        values = write(tmp_path / "a.npz", shape=(9, 8))
        write(tmp_path / "b.npz", (1,), shape=(7, 8))
        write(tmp_path / "c.npz", (2,), shape=(4, 8))
        with pytest.warns(UserWarning, match=r"c\.npz: `crop` .* exceeds its shape \(4, 8\)"):
            archive = Kept(tmp_path, crop=(1, 2, 5, 6))
        assert archive.field_shape == (5, 6)
        np.testing.assert_array_equal(archive.read(0, "train"), values[:, 1:6, 2:8].astype(np.float32))
        assert archive.read(1, "train").shape == (1, 5, 6)
        assert archive.config()["crop"] == [1, 2, 5, 6]

    def test_patches_of_frames_of_several_shapes(self, tmp_path):
        write(tmp_path / "a.npz", (0,), shape=(8, 8))
        write(tmp_path / "b.npz", (1,), shape=(4, 12))
        archive = Kept(tmp_path, size=4)
        assert [len(archive.read(k, "test")) for k in (0, 1)] == [4, 3]

    def test_only_three_frames_are_read_to_build_one(self, tmp_path):
        for i in range(20):
            write(tmp_path / f"{i:02d}.npz", (i,))
        assert Kept(tmp_path).opened == ["00.npz", "09.npz", "19.npz"]
        assert Kept(tmp_path, quantum=0.1).opened == []

    def test_a_bar_counts_the_files_of_a_long_look(self, tmp_path, monkeypatch):
        seen = []

        def bar(items, title, **given):
            seen.append((len(items), title, given["delay"] > 0))
            return items

        monkeypatch.setattr("emuloss.foundation.bars.Bar", bar)
        write(tmp_path / "a.npz")
        write(tmp_path / "b.npz")
        Kept(tmp_path)
        assert seen == [(2, "looking into files", True)]

    def test_a_copy_reads_the_same(self, tmp_path):
        write(tmp_path / "a.npz", (1, 0))
        archive = Kept(tmp_path, to_unit="m/s", size=4)
        copy = pickle.loads(pickle.dumps(archive))
        np.testing.assert_array_equal(copy.read(1, "train"), archive.read(1, "train"))
        assert copy.config() == archive.config()


class TestMixedFolders:
    ODD: ClassVar = {
        "shape": ({"shape": (8, 4)}, r"shape \(8, 4\) differs from \(8, 8\); give `size`"),
        "unit": ({"unit": "dBZ"}, "unit 'dBZ' differs from 'mm/h'"),
        "pixel": ({"side": 2.0}, "pixel size 2 km differs from 1 km"),
        "quantity": ({"quantity": "snow"}, "it holds snow"),
        "time": ({"hours": (-1,)}, "it tells no time, unlike most of the others"),
    }

    @pytest.mark.parametrize(("odd", "message"), ODD.values(), ids=ODD)
    def test_what_most_are_is_taken(self, tmp_path, odd, message):
        write(tmp_path / "a.npz", **odd)
        for name in ("b", "c", "d"):
            write(tmp_path / f"{name}.npz", (5,))
        with pytest.warns(UserWarning, match=rf"left out 1 of 4 files, first a\.npz: {message}") as told:
            archive = Kept(tmp_path)
        assert len(told) == 1
        assert [path.stem for path in archive.files] == ["b", "c", "d"]
        assert list(archive.skipped) == ["a.npz"]
        assert (archive.unit, archive.pixel_size, archive.field_shape) == ("mm/h", 1.0, (8, 8))

    def test_units_spelled_otherwise_and_sizes_that_differ_by_rounding_fit(self, tmp_path):
        for i, (unit, side) in enumerate([("mm/h", 1.0), ("mm h-1", 1.0002), ("mm/hr", 0.9998)]):
            write(tmp_path / f"{i}.npz", unit=unit, side=side)
        assert len(Kept(tmp_path)) == 3

    def test_all_that_is_left_out_is_counted(self, tmp_path):
        write(tmp_path / "a.npz")
        for name in ("b", "c"):
            np.savez(tmp_path / f"{name}.npz", misfit=1)
        with pytest.warns(UserWarning, match=r"left out 2 of 3 files, first b\.npz: it is of another kind"):
            archive = Kept(tmp_path)
        assert archive.skipped == {f"{name}.npz": "it is of another kind" for name in "bc"}

    def test_one_that_tells_a_time_among_others(self, tmp_path):
        write(tmp_path / "a.npz", (3,))
        for name in ("b", "c"):
            write(tmp_path / f"{name}.npz", (-1,))
        with pytest.warns(UserWarning, match=r"first a\.npz: it tells a time, unlike most of the others"):
            Kept(tmp_path)

    def test_nothing_fits(self, tmp_path):
        np.savez(tmp_path / "a.npz", misfit=1)
        with pytest.raises(DataError, match=r"a\.npz: it is of another kind\.$"):
            Kept(tmp_path)
        write(tmp_path / "b.npz", shape=(4, 4))
        with pytest.raises(DataError, match=r"none of 2 files in .* can be used, first a\.npz: it is of ano"):
            Kept(tmp_path, size=5)

    def test_no_file(self, tmp_path):
        with pytest.raises(DataError, match=r"none' does not exist; give a folder of npz files"):
            Kept(tmp_path / "none")
        with pytest.raises(DataError, match=r"no file in .* matches"):
            Kept(tmp_path)


class TestUnreadableFiles:
    def test_a_missing_file_comes_first_in_its_message(self, tmp_path):
        write(tmp_path / "a.npz")
        archive = Kept(tmp_path)
        (tmp_path / "a.npz").unlink()
        with pytest.raises(
            DataError, match=rf"^{tmp_path}/a\.npz: cannot be read \(FileNotFoundError"
        ) as told:
            archive.read(0, "test")
        assert remedied(told.value)

    @pytest.fixture
    def damaged(self, tmp_path):
        for i in range(5):
            write(tmp_path / "day" / f"{i}.npz", (i,))
        (tmp_path / "day" / "2.npz").write_bytes(b"text")
        return tmp_path

    def test_end_the_work(self, damaged):
        with pytest.raises(DataError, match=r"day/2\.npz: cannot be read \(ValueError: ") as caught:
            Kept(damaged)
        assert remedied(caught.value)

    def test_are_left_out_when_told(self, damaged):
        with pytest.warns(UserWarning, match=r"left out 1 of 5 files, first day/2\.npz: cannot be read"):
            archive = Kept(damaged, skip_unreadable=True)
        assert [path.name for path in archive.files] == ["0.npz", "1.npz", "3.npz", "4.npz"]
        assert list(archive.skipped) == ["day/2.npz"]
        assert archive.skipped["day/2.npz"].startswith("cannot be read (ValueError")
        assert "skip_unreadable" not in archive.skipped["day/2.npz"]

    def test_that_show_when_they_are_read(self, tmp_path):
        for i in range(3):
            write(tmp_path / f"{i}.npz", (i,))
        strict, loose = Kept(tmp_path), Kept(tmp_path, skip_unreadable=True, size=4)
        (tmp_path / "1.npz").write_bytes(b"text")
        with pytest.raises(DataError, match=r"1\.npz: cannot be read") as caught:
            strict.read(1, "train")
        assert remedied(caught.value)
        copy = pickle.loads(pickle.dumps(loose))
        assert copy.read(1, "train").shape == (0, 4, 4)
        assert list(copy.skipped) == ["1.npz"]
        assert not loose.skipped
        assert len(copy.read(2, "train")) == 4

    def test_a_file_that_is_gone(self, tmp_path):
        write(tmp_path / "a.npz")
        archive = Kept(tmp_path, skip_unreadable=True)
        (tmp_path / "a.npz").unlink()
        assert archive.read(0, "train").shape == (0, 8, 8)

    def test_another_shape_than_was_told(self, tmp_path):
        path = tmp_path / "a.npz"
        write(path)
        archive = Kept(tmp_path)
        write(path, shape=(4, 4))
        with pytest.raises(DataError, match=r"a\.npz: shape \(4, 4\) differs from \(8, 8\)"):
            archive.read(0, "train")

    def test_that_tell_the_quantum_are_passed_over(self, tmp_path):
        steps = np.random.default_rng(0).integers(0, 99, (1, 8, 8)) / 4
        for i in range(3):
            write(tmp_path / f"{i}.npz", (i,), steps)
        with np.load(tmp_path / "0.npz") as file:
            held = dict(file)
        np.savez(tmp_path / "0.npz", **{**held, "frames": np.array("none")})
        with pytest.raises(DataError, match=r"0\.npz: cannot be read"):
            Kept(tmp_path)
        assert Kept(tmp_path, skip_unreadable=True).quantum == 0.25

    @pytest.mark.parametrize("raised", [ArgumentError("x needs y; run: pip install y"), MemoryError()])
    def test_what_is_no_fault_of_the_file_is_not_hidden(self, tmp_path, monkeypatch, raised):
        write(tmp_path / "a.npz")
        archive = Kept(tmp_path, skip_unreadable=True)

        def fail(*_):
            raise raised

        monkeypatch.setattr(Kept, "frame", fail)
        with pytest.raises(type(raised)) as caught:
            archive.read(0, "train")
        assert caught.value is raised
        monkeypatch.setattr(Kept, "look", fail)
        with pytest.raises(type(raised)):
            Kept(tmp_path, skip_unreadable=True)


class TestMeaning:
    def test_what_the_files_say(self, tmp_path):
        write(tmp_path / "a.npz", side=0.5, unit="K")
        archive = Kept(tmp_path)
        assert (archive.unit, archive.pixel_size, archive.length_unit) == ("K", 0.5, "km")
        archive = Kept(tmp_path, unit="mm", pixel_size=3, length_unit="m", wet=0.2)
        assert (archive.unit, archive.pixel_size, archive.length_unit, archive.wet) == ("mm", 3.0, "m", 0.2)

    def test_a_unit_is_converted(self, tmp_path):
        values = write(tmp_path / "a.npz", unit="m/s")
        archive = Kept(tmp_path, to_unit="mm/h")
        assert archive.unit == "mm/h"
        np.testing.assert_allclose(archive.read(0, "train"), values * 3.6e6, rtol=1e-6)
        assert archive.config()["converted"] == ["m/s", "mm/h"]
        assert "converted" not in Kept(tmp_path, unit="mm h-1", to_unit="mm/h").config()

    def test_reflectivity_becomes_rain(self, tmp_path):
        dbz = np.random.default_rng(0).integers(-20, 120, (1, 8, 8)) / 2
        dbz[0, 0, 0] = np.nan
        write(tmp_path / "a.npz", values=dbz, unit="dBZ", quantum=0.5)
        rain = Kept(tmp_path, to_unit="mm/h").read(0, "train")
        np.testing.assert_allclose(200 * rain.astype(float) ** 1.6, 10 ** (dbz / 10), rtol=1e-5)
        assert Kept(tmp_path, to_unit="mm/h").quantum is None
        assert Kept(tmp_path).quantum == 0.5
        np.testing.assert_allclose(Kept(tmp_path, to_unit="m/s").read(0, "train"), rain / 3.6e6, rtol=1e-6)

    def test_conversions_that_are_refused(self, tmp_path):
        pytest.importorskip("pint")
        write(tmp_path / "a.npz", unit="K")
        with pytest.raises(ArgumentError, match="'K' cannot be turned into 'mm/h'"):
            Kept(tmp_path, to_unit="mm/h")
        write(tmp_path / "a.npz", unit="")
        with pytest.raises(ArgumentError, match=r"does not tell the unit of its values.*give `unit`"):
            Kept(tmp_path, to_unit="mm/h")
        assert Kept(tmp_path, unit="m/h", to_unit="mm/h").unit == "mm/h"

    def test_the_step_of_values(self, tmp_path):
        steps = np.random.default_rng(0).integers(0, 99, (1, 8, 8)) * 0.5
        write(tmp_path / "a.npz", values=steps, unit="mm/h", quantum=0.5)
        assert Kept(tmp_path).quantum == 0.5
        assert Kept(tmp_path, quantum=0.1).quantum == 0.1
        write(tmp_path / "a.npz", values=np.zeros((1, 8, 8)), unit="m/h", quantum=0.001)
        assert Kept(tmp_path).quantum == 0.001
        assert Kept(tmp_path, to_unit="mm/h").quantum == pytest.approx(1.0)

    @pytest.mark.parametrize(
        ("option", "value", "message"),
        [
            ("wet", "much", "wet must be"),
            ("quantum", 0, "quantum must be a positive number"),
            ("unit", 3, "unit must be"),
            ("to_unit", 3, "to_unit must be"),
            ("pixel_size", -1, "pixel_size must be"),
            ("skip_unreadable", "yes", "skip_unreadable must be True or False"),
            ("nodata", "none", "must be a number"),
        ],
    )
    def test_arguments(self, tmp_path, option, value, message):
        with pytest.raises(ArgumentError, match=re.escape(message)):
            Kept(tmp_path, **{option: value})


class TestConfig:
    def test_is_the_same_wherever_the_folder_stands(self, tmp_path):
        for i in range(3):
            write(tmp_path / "here" / f"{i}.npz", (i,))
        config = Kept(tmp_path / "here").config()
        (tmp_path / "here").rename(tmp_path / "there")
        assert Kept(tmp_path / "there").config() == config == json.loads(json.dumps(config))
        assert (config["files"], config["first"], config["last"]) == (3, "0.npz", "2.npz")

    def test_tells_what_decides_values(self, tmp_path):
        write(tmp_path / "a.npz")
        config = Kept(tmp_path).config()
        for option in ({"size": 4}, {"min_coverage": 0.5}, {"nodata": 3}, {"unit": "m/h", "to_unit": "mm/h"}):
            changed = Kept(tmp_path, **option).config()
            assert {key for key in changed if changed[key] != config.get(key)} - set(Kept.describing)
        for option in ({"unit": "K"}, {"pixel_size": 3.0}, {"length_unit": "m"}, {"quantum": 0.5}):
            changed = Kept(tmp_path, **option).config()
            assert {key for key in changed if changed[key] != config[key]} == set(option)
        write(tmp_path / "a.npz", (0, 1))
        assert Kept(tmp_path).config()["digest"] != config["digest"]

    def test_folders_that_stand_for_files_count_by_what_is_in_them(self, tmp_path):
        class Folders(Kept):
            def look(self, path):
                return Told((2, 2))

            def frame(self, entry):
                return np.zeros((2, 2))

            def __init__(self, folder):
                Archive.__init__(self)
                self.scan(folder, [folder / "a"])

        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "0").write_bytes(b"1")
        config = Folders(tmp_path).config()
        (tmp_path / "a" / "1").write_bytes(b"23")
        assert Folders(tmp_path).config()["digest"] != config["digest"]


def test_a_package_that_is_missing_is_no_fault_of_the_file(tmp_path, monkeypatch):
    write(tmp_path / "a.npz")

    def needing(self, path):
        raise ModuleNotFoundError("No module named 'h5netcdf'", name="h5netcdf")

    monkeypatch.setattr(Kept, "look", needing)
    with pytest.raises(ArgumentError, match=r"^a\.npz needs h5netcdf; run: pip install h5netcdf\.$"):
        Kept(tmp_path, skip_unreadable=True)
