"""Frames become fields: against loops over every place where a patch may lie."""

import re

import numpy as np
import pytest
from emuloss.datasets import Arrays, Images, InMemory
from emuloss.datasets.sources.tiling import Tiling, block_means
from emuloss.errors import ArgumentError, DataError
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

SIDES = st.integers(1, 6)
SIZES = st.tuples(SIDES, SIDES)


def looped(frame, size, stride, least):
    """Patches of a frame whose share of measured pixels is at least so large."""
    height, width = size
    places = (
        frame[i : i + height, j : j + width]
        for i in range(0, frame.shape[0] - height + 1, stride[0])
        for j in range(0, frame.shape[1] - width + 1, stride[1])
    )
    return [patch for patch in places if np.mean(~np.isnan(patch)) >= least]


@given(
    st.integers(0, 99),
    st.tuples(*[st.integers(6, 15)] * 2),
    SIZES,
    SIZES,
    st.floats(0, 1),
    st.none() | st.tuples(*[st.integers(0, 3)] * 2),
)
@settings(max_examples=60, deadline=None)
def test_patches_are_those_of_a_loop(seed, shape, size, stride, least, corner):
    draw = np.random.default_rng(seed)
    frame = draw.uniform(size=shape).astype(np.float32)
    frame[draw.uniform(size=shape) < 0.3] = np.nan
    taken, crop = frame, None
    if corner:
        sides = [n - m for n, m in zip(shape, corner, strict=True)]
        crop = (*corner, *(max(side - 1, m) for side, m in zip(sides, size, strict=True)))
        taken = frame[crop[0] : crop[0] + crop[2], crop[1] : crop[1] + crop[3]]
    tiling = Tiling.of(size, stride, least, crop)
    if tiling.misfit(shape, shape):
        assert crop[0] + crop[2] > shape[0] or crop[1] + crop[3] > shape[1]
        return
    for role, step in (("train", stride), ("test", size), ("validation", size)):
        fields = tiling.cut(frame, role)
        expected = looped(taken, size, step, least)
        assert fields.shape == (len(expected), *size)
        assert fields.flags.c_contiguous
        np.testing.assert_array_equal(fields, np.array(expected).reshape(-1, *size))
    assert tiling.count(shape) == len(looped(taken, size, stride, 0))


def test_whole_frames():
    frame = np.arange(12, dtype=np.float32).reshape(3, 4)
    tiling = Tiling.of(None)
    np.testing.assert_array_equal(tiling.cut(frame, "train"), frame[None])
    assert (tiling.size_in((3, 4)), tiling.stride_of((3, 4)), tiling.count((3, 4))) == ((3, 4), (3, 4), 1)
    frame[0] = np.nan
    assert len(Tiling.of(None, min_coverage=0.6).cut(frame, "train")) == 1
    assert len(Tiling.of(None, min_coverage=0.7).cut(frame, "train")) == 0


def looped_means(frame, side):
    """Means over blocks of the measured pixels; NaN where less than half is."""
    height, width = (n // side for n in frame.shape)
    means = np.full((height, width), np.nan)
    for i in range(height):
        for j in range(width):
            block = frame[i * side : (i + 1) * side, j * side : (j + 1) * side].astype(np.float64)
            if np.mean(~np.isnan(block)) >= 0.5:
                means[i, j] = np.nanmean(block)
    return means


@given(
    st.integers(0, 99),
    st.tuples(*[st.integers(6, 15)] * 2),
    st.integers(1, 5),
    st.none() | st.tuples(*[st.integers(0, 3)] * 2),
)
@settings(max_examples=60, deadline=None)
def test_blocks_are_those_of_a_loop(seed, shape, side, corner):
    draw = np.random.default_rng(seed)
    frame = draw.uniform(size=shape).astype(np.float32)
    frame[draw.uniform(size=shape) < 0.4] = np.nan
    taken, crop = frame, None
    if corner:
        crop = (*corner, *(n - m for n, m in zip(shape, corner, strict=True)))
        taken = frame[corner[0] :, corner[1] :]
    tiling = Tiling.of(None, crop=crop, coarsen=side)
    if tiling.misfit(shape, tiling.size_in(shape)):
        assert min(taken.shape) < side
        return
    expected = looped_means(taken, side)
    assert tiling.size_in(shape) == expected.shape
    np.testing.assert_allclose(tiling.cut(frame, "train")[0], expected, rtol=1e-6)
    patches = Tiling.of(1, (2, 1), crop=crop, coarsen=side)
    np.testing.assert_allclose(patches.cut(frame, "train").ravel(), expected[::2].ravel(), rtol=1e-6)
    assert patches.count(shape) == expected[::2].size


def test_blocks_of_members_are_apart():
    frames = np.random.default_rng(0).uniform(size=(2, 3, 7, 5)).astype(np.float32)
    expected = [[looped_means(frame, 2) for frame in each] for each in frames]
    np.testing.assert_allclose(block_means(frames, 2), expected, rtol=1e-6)
    assert block_means(frames, 2).dtype == np.float32


def test_misfits():
    assert Tiling.of(None).misfit((3, 4), (3, 4)) == ""
    assert "differs from (4, 4); give `size`" in Tiling.of(None).misfit((3, 4), (4, 4))
    assert Tiling.of(3).misfit((3, 4), (9, 9)) == ""
    assert "exceeds its shape (2, 4)" in Tiling.of(3).misfit((2, 4), (9, 9))
    coarse = Tiling.of(None, coarsen=3)
    assert coarse.misfit((7, 9), (2, 3)) == ""
    assert "shape (3, 3) differs from (2, 3); give `size`" in coarse.misfit((9, 9), (2, 3))
    assert "`coarsen` (=3) exceeds its shape (2, 9)" in coarse.misfit((2, 9), (0, 3))
    assert "exceeds its shape (2, 3)" in Tiling.of(3, coarsen=3).misfit((8, 9), (3, 3))
    cropped = Tiling.of(None, crop=(1, 0, 2, 3))
    assert cropped.misfit((3, 3), (9, 9)) == ""
    assert cropped.misfit((2, 3), (2, 3)) == "`crop` (=(1, 0, 2, 3)) exceeds its shape (2, 3)"
    assert "`size` (=(3, 3)) exceeds its shape (2, 3)" in Tiling.of(3, crop=(1, 0, 2, 3)).misfit(
        (9, 9), (9, 9)
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": 0}, "size must be a whole number of at least 1"),
        ({"size": 4, "stride": (1, 0)}, "stride must be"),
        ({"size": None, "stride": 2}, "`stride` (=2) needs `size`: whole frames are not cut"),
        ({"size": None, "crop": 3}, "crop must be (first row, first column, height, width), got 3"),
        ({"size": None, "crop": (0, 0, 3)}, "crop must be (first row"),
        ({"size": None, "crop": (-1, 0, 3, 3)}, "each of crop must be a whole number, 0 or more"),
        ({"size": None, "crop": (0, 0, 0, 3)}, "each of crop must be a whole number of at least 1"),
        ({"size": 4, "min_coverage": 2.0}, "min_coverage must be a share"),
        ({"size": 4, "coarsen": 0}, "coarsen must be a whole number of at least 1"),
        ({"size": 4, "coarsen": 1.5}, "coarsen must be a whole number"),
    ],
)
def test_arguments(given, message):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        Tiling.of(**given)


@pytest.fixture
def sources(tmp_path):
    """Sources of the same three frames (8, 8), and the frames; part of one is not measured."""
    frames = np.random.default_rng(0).integers(0, 255, (3, 8, 8)).astype(np.float32) / 255
    frames[1, :5, :4] = np.nan
    np.save(tmp_path / "a.npy", frames)
    for i, frame in enumerate(frames):
        bands = np.stack([np.nan_to_num(frame) * 255, np.where(np.isnan(frame), 0, 255)], axis=2)
        Image.fromarray(np.rint(bands).astype(np.uint8), "LA").save(tmp_path / f"{i}.png")
    return ((InMemory, frames), (Arrays, tmp_path / "a.npy"), (Images, tmp_path)), frames


def test_every_source_leaves_out_what_is_measured_too_little(sources):
    for kind, place in sources[0]:
        source, every = kind(place, size=4, min_coverage=0.5), kind(place, size=4)
        counts = [sum(len(each.read(k, "test")) for k in range(len(each))) for each in (source, every)]
        assert counts == [11, 12]
        assert source.config() == {**every.config(), "min_coverage": 0.5}


def test_every_source_crops(sources):
    for kind, place in sources[0]:
        source, whole = kind(place, crop=[2, 1, 5, 6]), kind(place)
        assert source.field_shape == (5, 6)
        fields = [
            np.concatenate([each.read(k, "train") for k in range(len(each))]) for each in (source, whole)
        ]
        np.testing.assert_array_equal(fields[0], fields[1][:, 2:7, 1:7])
        np.testing.assert_allclose(np.sort(fields[1], axis=0), np.sort(sources[1], axis=0), atol=1e-6)
        assert source.config()["crop"] == [2, 1, 5, 6]
        assert "crop" not in whole.config()
        with pytest.raises(DataError, match=r"`crop` .* exceeds its shape \(8, 8\)"):
            kind(place, crop=(4, 0, 5, 8)).read(0, "train")


def test_every_source_coarsens(sources):
    for kind, place in sources[0]:
        source, whole = kind(place, coarsen=2, pixel_size=0.5), kind(place, pixel_size=0.5)
        fields, fine = (
            np.concatenate([each.read(k, "train") for k in range(len(each))]) for each in (source, whole)
        )
        assert source.field_shape == (4, 4)
        np.testing.assert_allclose(fields, [looped_means(each, 2) for each in fine], rtol=1e-6)
        assert (source.pixel_size, source.quantum) == (1.0, pytest.approx(whole.quantum / 4))
        assert source.config() == {
            **whole.config(),
            "coarsen": 2,
            "pixel_size": 1.0,
            **{key: [4, 4] for key in ("size", "stride") if whole.config()[key]},
        }
        with pytest.raises(DataError, match=r"`coarsen` .* exceeds its shape \(8, 8\)"):
            kind(place, coarsen=9)


def test_rain_is_averaged_and_reflectivity_is_not():
    dbz = np.array([[[10.0, 40.0], [10.0, 40.0]]], np.float32)
    rain = InMemory(dbz, unit="dBZ", to_unit="mm/h", coarsen=2).read(0, "test")
    expected = ((10 ** np.array([1.0, 4.0]) / 200) ** (1 / 1.6)).mean()
    np.testing.assert_allclose(rain, expected, rtol=1e-6)
    with pytest.raises(ArgumentError, match="has dBZ, whose means are none of rain; give to_unit='mm/h'"):
        InMemory(dbz, unit="dBZ", coarsen=2)
