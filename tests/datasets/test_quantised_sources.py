"""Quantised data and pictures: their step is found, no threshold lies on a value, what is missing is NaN."""

import emuloss
import numpy as np
import pytest
from drawn import read_all
from emuloss.datasets import Arrays, FieldSource, Images, InMemory, Rain, assign_splits
from emuloss.errors import ArgumentError
from emuloss.pipeline.settings import Teacher
from emuloss.pipeline.teacher import metric_of
from PIL import Image, TiffImagePlugin
from skimage import data


def thresholds_of(source: FieldSource) -> np.ndarray:
    """Default thresholds of a run on a source."""
    return np.array(metric_of(Teacher(), source, assign_splits(source)).thresholds)


def waves(count: int = 24, size: int = 32, seed: int = 0) -> np.ndarray:
    """Smooth fields (count, size, size), each pixel of mean 0 and deviation 1 or so."""
    noise = np.random.default_rng(seed).standard_normal((count, size, size))
    for axis in (1, 2):
        noise = sum(np.roll(noise, k, axis) for k in range(5))
    return noise / noise.std()


def check(source: FieldSource, quantum: float | None) -> None:
    """Whether a source knows its step, and its default thresholds lie between values and part its fields."""
    fields = read_all(source, "test").astype(float)
    assert source.quantum == (None if quantum is None else pytest.approx(quantum, rel=1e-5))
    thresholds = thresholds_of(source)
    assert (np.diff(thresholds) > 0).all()
    known = fields[np.isfinite(fields)]
    assert known.min() < thresholds[0] < thresholds[-1] < known.max()
    if quantum is not None:
        distance = np.abs(np.unique(known)[:, None] - thresholds).min()
        assert distance > 0.49 * quantum
    areas = emuloss.metric("minkowski", thresholds=thresholds, outputs=["area"])(fields)[:, 0]
    assert (np.ptp(areas, axis=0) > 0).all()


DATA = {
    "8 bit": (lambda z: np.round(128 + 30 * z).clip(0, 255).astype("u1"), 1),
    "8 bit in [0, 1]": (lambda z: np.round(128 + 30 * z).clip(0, 255) / 255, 1 / 255),
    "16 bit": (lambda z: np.round(30000 + 5000 * z).clip(0, 65535).astype("u2"), 1),
    "rain in 0.1 mm/h": (lambda z: np.round(np.exp(np.maximum(z, 0)) - 1, 1), 0.1),
    "dBZ in steps of 0.5": (lambda z: np.where(z > 0, np.round(2 * (10 + 15 * z)) / 2, -32), 0.5),
    "tenths of K": (lambda z: np.round(285 + 8 * z, 1), 0.1),
    "hundredths of degC as K": (lambda z: np.round(8 * z, 2) + 273.15, 0.01),
    "whole numbers far from 0": (lambda z: np.round(1e5 + 100 * z).astype("i4"), 1),
    "z-scores": (lambda z: z, None),
    "continuous rain": (lambda z: np.maximum(np.exp(z) - 1.5, 0), None),
}


@pytest.mark.parametrize(("make", "quantum"), DATA.values(), ids=DATA)
def test_arrays_know_their_step(make, quantum, tmp_path):
    fields = make(waves())
    check(InMemory(fields), quantum)
    np.save(tmp_path / "a.npy", fields)
    check(Arrays(tmp_path / "a.npy"), quantum)


def test_a_step_that_is_given_counts():
    assert InMemory(np.round(waves(), 1), quantum=0.5).quantum == 0.5


def test_what_was_labelled_before_is_found_again(tmp_path):
    """A step that was found decides no value: labels of a version that found none are of use."""
    fields = np.round(128 + 30 * waves()).astype("f4")
    assert InMemory(fields).quantum == 1
    assert InMemory(fields).config()["quantum"] is None


PICTURES = {
    "grey": ("L", lambda grey: grey),
    "colours that are grey": ("RGB", lambda grey: np.stack([grey] * 3, -1)),
    "wholly opaque": ("RGBA", lambda grey: np.stack([grey] * 3 + [np.full_like(grey, 255)], -1)),
    "16 bit": ("I;16", lambda grey: grey.astype(np.uint16) * 257),
}


@pytest.mark.parametrize(("mode", "make"), PICTURES.values(), ids=PICTURES)
def test_pictures_of_8_bits_know_their_step(mode, make, tmp_path):
    greys = np.round(128 + 30 * waves()).clip(0, 255).astype(np.uint8)
    for k, grey in enumerate(greys):
        Image.fromarray(make(grey)).save(tmp_path / f"{k}.png")
    source = Images(tmp_path)
    check(source, 1 / 255)
    order = [int(path.stem) for path in source.files]
    np.testing.assert_allclose(read_all(source), greys[order] / 255, atol=1e-7)


@pytest.mark.parametrize("name", ["camera", "moon", "coins"])
def test_photographs(name, tmp_path):
    Image.fromarray(getattr(data, name)()).save(tmp_path / "a.png")
    tiles = read_all(Images(tmp_path, size=64))
    check(InMemory(tiles), 1 / 255)
    Image.fromarray(getattr(data, name)()).save(tmp_path / "b.png")
    Image.fromarray(getattr(data, name)()).save(tmp_path / "c.png")
    check(Images(tmp_path, size=64), 1 / 255)


GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def picture(kind: str) -> Image.Image:
    """A picture whose first row is missing in one way or another, and whose other rows are `GREY`."""
    hidden = np.zeros((8, 8), bool)
    hidden[0] = True
    alpha = np.where(hidden, 0, 255).astype(np.uint8)
    if kind == "LA":
        return Image.fromarray(np.stack([GREY, alpha], -1))
    if kind == "RGBA":
        return Image.fromarray(np.stack([GREY] * 3 + [alpha], -1))
    if kind == "palette":
        paletted = Image.fromarray(np.where(hidden, 255, GREY // 4).astype(np.uint8), "P")
        paletted.putpalette(np.repeat(np.arange(0, 256, 4), 3).tolist() + [255] * 3 * 192)
        return paletted
    return Image.fromarray(np.where(hidden, np.nan, GREY / 255).astype(np.float32))


@pytest.mark.parametrize(
    ("kind", "name", "saved"),
    [
        ("LA", "a.png", {}),
        ("RGBA", "a.png", {}),
        ("RGBA", "a.tif", {}),
        ("palette", "a.png", {"transparency": 255}),
        ("NaN", "a.tif", {}),
    ],
)
def test_transparent_pixels_are_missing(kind, name, saved, tmp_path):
    picture(kind).save(tmp_path / name, **saved)
    found = read_all(Images(tmp_path))[0]
    assert np.isnan(found[0]).all()
    np.testing.assert_allclose(found[1:], GREY[1:] / 255, atol=1e-7)


def test_a_level_can_be_named_as_missing(tmp_path):
    grey = GREY.copy()
    grey[2] = 255
    Image.fromarray(grey).save(tmp_path / "a.pgm")
    assert np.nanmax(read_all(Images(tmp_path))) == 1
    found = read_all(Images(tmp_path, nodata=255))[0]
    assert np.isnan(found[2]).all()
    np.testing.assert_allclose(np.delete(found, 2, 0), np.delete(GREY, 2, 0) / 255, atol=1e-7)
    assert Images(tmp_path, nodata=255).config() != Images(tmp_path).config()
    with pytest.raises(ArgumentError, match=r"^nodata must be a number"):
        Images(tmp_path, nodata="white")


def test_tiff_files_name_their_own_missing_level(tmp_path):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[42113] = "4"
    Image.fromarray(GREY).save(tmp_path / "a.tif", tiffinfo=tags)
    np.testing.assert_array_equal(np.isnan(read_all(Images(tmp_path))[0]), GREY == 4)


def test_black_and_white(tmp_path):
    Image.fromarray(GREY > 100).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_all(Images(tmp_path))[0], GREY > 100)


class TestWet:
    """Which pixels set the default thresholds."""

    def test_rain_says_that_it_is_wet_above_0(self):
        assert Rain(8, 16).dry == 0
        rain = Rain(240, 24, regimes="all-wet", quantum=None)  # whose dry pixels are too few to be told
        wet = np.concatenate([rain.read(k, "train") for k in range(2)])
        assert thresholds_of(rain)[0] == pytest.approx(np.quantile(wet[wet > 0], 0.01), rel=0.2)

    def test_a_value_that_is_given_counts(self):
        fields = np.maximum(waves(), 0)
        above = thresholds_of(InMemory(fields, wet=1.0))
        assert above[0] > 1
        assert thresholds_of(InMemory(fields, wet=-1.0))[0] < thresholds_of(InMemory(fields))[0]
        assert InMemory(fields, wet=1.0).config() == InMemory(fields).config(), "wet decides no value"
        assert thresholds_of(Rain(48, 24, wet=2.0))[0] > 2

    def test_other_fields_take_all_of_their_pixels(self):
        fields = waves()
        for scale, offset in ((1, 0), (8, 285), (0.1, 0.5)):
            found = thresholds_of(InMemory(scale * fields + offset))
            np.testing.assert_allclose(found[10], np.median(scale * fields + offset), atol=0.1 * scale)

    @pytest.mark.parametrize("wet", ["x", np.nan, [1.0]])
    def test_what_is_no_value(self, wet):
        with pytest.raises(ArgumentError, match=r"^wet must be a finite number"):
            InMemory(waves(), wet=wet)

    def test_from_the_pipeline(self, tmp_path):
        fields = np.maximum(waves(), 0)
        options = {"outputs": ["area"], "progress": False}
        plain = emuloss.label(fields=fields, out=tmp_path / "a.h5", **options)
        above = emuloss.label(fields=fields, wet=1.0, out=tmp_path / "b.h5", **options)
        assert plain.thresholds[0] < 1 < above.thresholds[0]


def test_a_few_values_tell_no_step_of_others():
    """The frames that are looked at are nearly empty."""
    fields = np.round(np.exp(np.maximum(waves(), 0)) - 1, 1)
    for k in (0, 12, 23):
        fields[k] = 0
        fields[k, 3, 3:5] = 0.7
    source = InMemory(fields)
    assert source.quantum is None
    thresholds = thresholds_of(source)
    assert np.abs(np.unique(fields)[:, None] - thresholds).min() > 0.049
    assert InMemory(fields[1:]).quantum == pytest.approx(0.1, rel=1e-6)


def test_a_step_that_is_none_of_the_data(tmp_path):
    fields = np.maximum(waves(), 0)
    thresholds = thresholds_of(InMemory(fields, quantum=100.0))
    assert 0 < thresholds[0] < thresholds[-1] < fields.max()
