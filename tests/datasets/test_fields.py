"""Sources of fields: synthetic rain, arrays, pictures, drawn shapes, splits and specifications."""

import hashlib
import itertools
import pickle
import warnings

import numpy as np
import pytest
from drawn import read_all
from emuloss.datasets import SOURCES, Arrays, FieldSource, Images, Rain, assign_splits, open_source
from emuloss.datasets.sources import rain, shapes
from emuloss.datasets.sources.rain import REGIMES
from emuloss.errors import ArgumentError, DataError
from hypothesis import given
from hypothesis import strategies as st
from skimage.io import imsave
from skimage.measure import euler_number, perimeter_crofton
from skimage.measure import label as components_of


class Counted(FieldSource):
    """A source of so many empty chunks."""

    name, unit, pixel_size, quantum, field_shape = "counted", "", 1.0, None, (2, 2)

    def __init__(self, n, chronological):
        self.n, self.chronological = n, chronological

    def __len__(self):
        return self.n

    def read(self, k, role):
        return np.zeros((0, 2, 2), np.float32)

    def config(self):
        return {"name": self.name}


class TestSplits:
    def test_a_day_of_composites(self):
        roles = assign_splits(Counted(24, True))
        assert roles == ["train"] * 16 + ["validation"] * 2 + ["unused"] * 2 + ["test"] * 4

    @given(st.integers(3, 500), st.booleans())
    def test_each_split_is_there_in_order_of_time(self, n, chronological):
        roles = assign_splits(Counted(n, chronological))
        assert len(roles) == n
        order = [roles.index(role) for role in ("train", "validation", "test")]
        assert order == sorted(order)
        assert roles.count("test") == max(1, round(n / 6))
        assert roles.count("unused") == (round(n / 12) if chronological else 0)
        changes = sum(a != b for a, b in itertools.pairwise(roles))
        assert changes == 2 + ("unused" in roles)

    def test_explicit_counts_leave_the_rest_unused(self):
        roles = assign_splits(Counted(10, True), train=3, validation=1, test=2, gap=1)
        assert roles == ["train"] * 3 + ["unused"] * 3 + ["validation", "unused"] + ["test"] * 2

    @pytest.mark.parametrize("n", [0, 1, 2])
    def test_too_few_chunks(self, n):
        with pytest.raises(ArgumentError, match=f"has {n} chunks, too few"):
            assign_splits(Counted(n, True))

    def test_bad_counts(self):
        with pytest.raises(ArgumentError, match=r"^test must be a whole number, 0 or more, got -1$"):
            assign_splits(Counted(9, True), test=-1)
        with pytest.raises(ArgumentError, match="too few for 9 train"):
            assign_splits(Counted(9, True), train=9)


class TestRain:
    def test_same_fields_in_any_order_and_any_process(self):
        source = Rain(100, size=32, seed=3)
        forward = [source.read(k, "train") for k in range(len(source))]
        copy = pickle.loads(pickle.dumps(source))
        backward = [copy.read(k, "test") for k in reversed(range(len(source)))]
        for a, b in zip(forward, reversed(backward), strict=True):
            np.testing.assert_array_equal(a, b)

    def test_a_field_does_not_depend_on_the_count(self):
        np.testing.assert_array_equal(read_all(Rain(20, size=32)), read_all(Rain(150, size=32))[:20])

    @pytest.mark.parametrize("drawing", [{}, {"quantum": None}, {"regimes": ["dry", "showers"], "size": 96}])
    def test_a_field_does_not_depend_on_how_many_are_drawn_at_once(self, monkeypatch, drawing):
        together = read_all(Rain(20, **{"size": (20, 33), "seed": 2} | drawing))
        monkeypatch.setattr(rain, "_AT_ONCE", 1)
        monkeypatch.setattr(rain, "_IN_PLACE", False)  # as with NumPy 1
        alone = read_all(Rain(20, **{"size": (20, 33), "seed": 2} | drawing))
        assert together.tobytes() == alone.tobytes()

    @pytest.mark.parametrize(
        ("drawing", "digest"),
        [
            ({"size": 128}, "82a799f9d523cb88"),
            ({"size": 64, "seed": 7, "regimes": "showers"}, "319f971b5eaf5d6b"),
            (
                {"size": (33, 50), "seed": 123456, "regimes": ["dry", "widespread", "all-wet"]},
                "5eeff004c17c74a1",
            ),
            ({"size": (1, 40), "seed": 1, "quantum": 0.1}, "c7ce961ec72873f9"),
            ({"size": 256, "seed": 2, "count": 24, "regimes": "convective"}, "0992271308a270e6"),
        ],
    )
    def test_values_are_those_of_earlier_versions(self, drawing, digest):
        # Stores and checkpoints name rain by its arguments alone. In steps of the quantum, of which another
        # processor's last bits are too small a part to matter.
        source = Rain(**{"count": 96} | drawing)
        steps = np.rint(read_all(source) / np.float64(source.quantum)).astype("<i4")
        assert hashlib.sha256(steps.tobytes()).hexdigest()[:16] == digest

    def test_seeds_differ(self):
        assert not np.array_equal(
            Rain(8, size=32).read(0, "train"), Rain(8, size=32, seed=1).read(0, "train")
        )

    @pytest.mark.parametrize("size", [(1, 1), (7, 50), (33, 32), (128, 128)])
    def test_shape_and_values(self, size):
        fields = read_all(Rain(12, size=size))
        assert fields.shape == (12, *size)
        assert fields.dtype == np.float32
        assert np.isfinite(fields).all()
        assert ((fields == 0) | ((fields >= np.float32(0.1)) & (fields <= 150))).all()
        steps = np.rint(fields.astype(float) * 100)
        np.testing.assert_array_equal(fields, (steps / 100).astype(np.float32))

    def test_continuous_values(self):
        fields = read_all(Rain(4, size=32, quantum=None, regimes="all-wet"))
        assert len(np.unique(fields)) > 0.9 * fields.size

    def test_statistics_resemble_radar(self):
        fields = read_all(Rain(512, size=128))
        wet = fields > 0
        share = wet.mean(axis=(1, 2))
        assert 0.10 < wet.mean() < 0.18
        assert 0.05 < (share == 0).mean() < 0.25
        assert share.max() == 1
        radar = [0.11, 0.12, 0.13, 0.19, 0.39, 0.99, 2.31, 3.69, 8.87]
        found = np.quantile(fields[fields > 0.105], [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99])
        np.testing.assert_allclose(np.log(found), np.log(radar), atol=0.3)

    def test_regimes_differ_as_named(self):
        wet = {name: (read_all(Rain(48, size=64, regimes=name)) > 0).mean() for name in REGIMES}
        assert wet["dry"] < 0.02
        assert wet["all-wet"] > 0.98
        assert 0.02 < wet["convective"] < wet["stratiform"] < 0.4
        both = read_all(Rain(48, size=64, regimes=["dry", "all-wet"])) > 0
        assert 0.2 < both.mean() < 0.8

    def test_edges_do_not_fit_together(self):
        fields = np.log(read_all(Rain(32, size=64, quantum=None, regimes="all-wet")))
        inside = np.abs(fields[:, 32] - fields[:, 31]).mean()
        across = np.abs(fields[:, 0] - fields[:, -1]).mean()
        assert across > 2 * inside

    @pytest.mark.parametrize(
        ("argument", "value"),
        [
            ("count", 0),
            ("size", 0),
            ("size", "x"),
            ("seed", -1),
            ("quantum", 0),
            ("pixel_size", -2.0),
            ("regimes", "x"),
        ],
    )
    def test_bad_arguments(self, argument, value):
        with pytest.raises(ArgumentError, match=f"^(each of )?{argument} must be .*, got {value!r}$"):
            Rain(**{argument: value})

    def test_no_such_chunk(self):
        with pytest.raises(ArgumentError, match="`k`"):
            Rain(8, size=32).read(99, "train")


@pytest.fixture
def frames():
    values = np.random.default_rng(0).gamma(0.3, 3, (30, 20, 24)).astype(np.float32)
    values[0, :3] = np.nan
    return values


def save(path, frames):
    if path.suffix == ".npy":
        np.save(path, frames)
    elif path.suffix == ".npz":
        np.savez(path, rain=frames, times=np.arange(len(frames)))
    elif path.suffix in (".h5", ".hdf5"):
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            file["group/rain"] = frames
            file["times"] = np.arange(len(frames))
    else:
        xarray = pytest.importorskip("xarray")
        dataset = xarray.Dataset({"rain": (("time", "y", "x"), frames)})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the writing libraries; reading must not warn
            dataset.to_zarr(path) if path.suffix == ".zarr" else dataset.to_netcdf(path)
    return path


class TestArrays:
    @pytest.mark.parametrize("suffix", Arrays.suffixes)
    def test_reads_every_format(self, tmp_path, frames, suffix):
        source = Arrays(save(tmp_path / f"a{suffix}", frames), pixel_size=2.0, unit="mm/h")
        assert (len(source), source.field_shape, source.unit) == (10, (20, 24), "mm/h")
        source = pickle.loads(pickle.dumps(source))
        np.testing.assert_array_equal(read_all(source), frames)
        assert source.read(0, "test").dtype == np.float32

    def test_patches_overlap_in_training_only(self, tmp_path, frames):
        source = Arrays(save(tmp_path / "a.npy", frames), size=(10, 12), stride=(5, 6))
        assert source.read(0, "train").shape[1:] == (10, 12)
        assert len(read_all(source, "train")) == 30 * 9
        tested = read_all(source, "test")
        assert len(tested) == 30 * 4
        np.testing.assert_array_equal(tested[1], frames[0, :10, 12:])
        assert max(len(source.read(k, "train")) for k in range(len(source))) <= 64

    def test_one_frame(self, tmp_path, frames):
        source = Arrays(save(tmp_path / "a.npy", frames[5]))
        np.testing.assert_array_equal(read_all(source), frames[5:6])

    def test_config_tells_contents_apart(self, tmp_path, frames):
        first = Arrays(save(tmp_path / "a.npy", frames)).config()
        assert Arrays(save(tmp_path / "a.npy", frames)).config() == first
        assert Arrays(save(tmp_path / "a.npy", frames * 2)).config() != first

    def test_variables(self, tmp_path, frames):
        np.savez(tmp_path / "a.npz", rain=frames, snow=frames)
        with pytest.raises(ArgumentError, match="`variable` must choose one of rain, snow"):
            Arrays(tmp_path / "a.npz")
        with pytest.raises(ArgumentError, match=r"'hail'.*rain, snow"):
            Arrays(tmp_path / "a.npz", variable="hail")
        assert Arrays(tmp_path / "a.npz", variable="snow").variable == "snow"

    @pytest.mark.parametrize("suffix", Arrays.suffixes)
    def test_damaged_files(self, tmp_path, suffix):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(b"not an array")
        with pytest.raises(DataError, match=r"a\.\w+ cannot be read"):
            Arrays(path)

    def test_bad_arrays(self, tmp_path, frames):
        with pytest.raises(DataError, match="does not exist"):
            Arrays(tmp_path / "a.npy")
        with pytest.raises(ArgumentError, match=r"`path`.*must end in \.npy"):
            Arrays(tmp_path / "a.csv")
        with pytest.raises(DataError, match="is not"):
            Arrays(save(tmp_path / "c.npy", frames.astype(complex)), variable="array")
        with pytest.raises(DataError, match="`size`"):
            Arrays(save(tmp_path / "a.npy", frames), size=21)
        with pytest.raises(ArgumentError, match="`stride`"):
            Arrays(save(tmp_path / "a.npy", frames), stride=2)

    def test_xarray_missing(self, tmp_path, frames, monkeypatch):
        path = tmp_path / "a.nc"
        path.touch()
        monkeypatch.setitem(__import__("sys").modules, "xarray", None)
        with pytest.raises(ArgumentError, match=r"pip install 'emuloss\[xarray\]'"):
            Arrays(path)


class TestImages:
    @pytest.fixture
    def folder(self, tmp_path):
        rng = np.random.default_rng(0)
        for name in ("cats", "dogs"):
            (tmp_path / name).mkdir()
            for i in range(20):
                picture = rng.integers(0, 256, (12, 16, 3) if i % 2 else (12, 16), dtype=np.uint8)
                imsave(tmp_path / name / f"{i}.png", picture, check_contrast=False)
        return tmp_path

    def test_grey_values(self, folder):
        fields = read_all(Images(folder))
        assert fields.shape == (40, 12, 16)
        assert fields.dtype == np.float32
        assert 0 <= fields.min() < 0.1 < 0.9 < fields.max() <= 1

    def test_depths_agree(self, tmp_path):
        grey = np.arange(60, dtype=np.uint8).reshape(6, 10) * 4
        for name, picture in (
            ("a.png", grey),
            ("b.png", np.stack([grey] * 3, -1)),
            ("c.tif", grey.astype(np.uint16) * 257),
        ):
            (tmp_path / name).mkdir()
            imsave(tmp_path / name / name, picture, check_contrast=False)
            np.testing.assert_allclose(read_all(Images(tmp_path / name))[0], grey / 255, atol=1e-6)

    def test_chunks_mix_subfolders_and_stay_the_same(self, folder):
        source = Images(folder)
        assert {path.parent.name for path in source.files[:10]} == {"cats", "dogs"}
        np.testing.assert_array_equal(read_all(source), read_all(Images(folder)))

    def test_patches(self, folder):
        source = Images(folder, size=8, stride=4)
        assert len(read_all(source, "train")) == 40 * 6
        assert len(read_all(source, "test")) == 40 * 2

    def test_values_outside_grey(self, tmp_path):
        imsave(tmp_path / "a.tif", np.full((8, 8), 40, np.float32), check_contrast=False)
        with pytest.raises(DataError, match=r"a\.tif: .* outside 0 to 1"):
            Images(tmp_path)

    def test_errors(self, folder, tmp_path):
        with pytest.raises(DataError, match="does not exist"):
            Images(tmp_path / "none")
        (tmp_path / "empty").mkdir()
        with pytest.raises(DataError, match="no picture"):
            Images(tmp_path / "empty")
        (folder / "cats" / "0.png").write_bytes(b"x")
        with pytest.raises(DataError, match=r"0\.png: not a readable picture"):
            read_all(Images(folder))
        imsave(folder / "cats" / "0.png", np.zeros((5, 5), np.uint8), check_contrast=False)
        with pytest.raises(DataError, match=r"0\.png: shape \(5, 5\) differs"):
            read_all(Images(folder))


class TestOpenSource:
    def test_specifications(self, tmp_path, frames):
        assert open_source("rain", count=5, size=16, seed=2).config() == Rain(5, 16, 2).config()
        path = save(tmp_path / "a.npy", frames)
        assert isinstance(open_source(str(path), size=8), Arrays)
        assert isinstance(open_source(f"array:{path}"), Arrays)
        imsave(tmp_path / "a.png", np.zeros((4, 4), np.uint8), check_contrast=False)
        assert isinstance(open_source(f"images:{tmp_path}"), Images)
        with pytest.raises(DataError, match="no file"):
            open_source(f"opera:{tmp_path}")

    @pytest.mark.parametrize(
        "spec", ["", "snow", "opera", "opera:", "images", "rain:3", "a.csv", "snow:/tmp"]
    )
    def test_unknown(self, spec):
        with pytest.raises(ArgumentError, match=r"rain, opera:DIR, images:DIR.*\.zarr"):
            open_source(spec)

    @pytest.mark.parametrize("spec", ["rain", "opera:x", "images:x", "array:x"])
    def test_unknown_option(self, spec):
        with pytest.raises(ArgumentError, match="has no option 'colour'"):
            open_source(spec, colour="red")

    def test_every_class_documents_its_chunks(self):
        for kind in (SOURCES[scheme] for scheme in SOURCES):
            assert issubclass(kind, FieldSource)
            assert isinstance(kind.chronological, bool)


DRAWN = {
    "disk": shapes.disk(),
    "annulus": shapes.annulus(),
    "two_disks": shapes.two_disks(),
    "rectangle": shapes.rectangle(value=5.0),
    "edge": shapes.rectangle((10, 12), 10, 12),
    "pixel": shapes.rectangle((3, 3), 1, 1),
    "checkerboard": shapes.checkerboard((5, 7)),
    "dots": shapes.dots(),
}


@pytest.mark.parametrize("name", DRAWN)
def test_answers_of_shapes(name):
    field, answers = DRAWN[name]
    mask = np.pad(field > 0, 1)
    assert answers["area"] == mask.sum()
    assert answers["components"] == components_of(mask, connectivity=1).max()
    assert answers["euler"] == euler_number(mask, connectivity=1)
    assert answers["holes"] == answers["components"] - answers["euler"]
    if "perimeter" in answers:
        assert answers["perimeter"] == pytest.approx(perimeter_crofton(mask, directions=4))


def test_shapes_refuse_what_does_not_fit():
    for draw in (
        lambda: shapes.disk((8, 8), 5),
        lambda: shapes.annulus(inner=10, outer=11),
        lambda: shapes.rectangle((4, 4), 5, 1),
        lambda: shapes.dots(spacing=1),
    ):
        with pytest.raises(ArgumentError):
            draw()
