"""Frames become fields: against loops over every place where a patch may lie."""

import re

import numpy as np
import pytest
from emuloss.datasets import Arrays, Images, InMemory
from emuloss.datasets.sources.tiling import Tiling
from emuloss.errors import ArgumentError
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


@given(st.integers(0, 99), st.tuples(*[st.integers(6, 15)] * 2), SIZES, SIZES, st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_patches_are_those_of_a_loop(seed, shape, size, stride, least):
    draw = np.random.default_rng(seed)
    frame = draw.uniform(size=shape).astype(np.float32)
    frame[draw.uniform(size=shape) < 0.3] = np.nan
    tiling = Tiling.of(size, stride, least)
    for role, step in (("train", stride), ("test", size), ("validation", size)):
        fields = tiling.cut(frame, role)
        expected = looped(frame, size, step, least)
        assert fields.shape == (len(expected), *size)
        assert fields.flags.c_contiguous
        np.testing.assert_array_equal(fields, np.array(expected).reshape(-1, *size))
    assert tiling.count(shape) == len(looped(frame, size, stride, 0))


def test_whole_frames():
    frame = np.arange(12, dtype=np.float32).reshape(3, 4)
    tiling = Tiling.of(None)
    np.testing.assert_array_equal(tiling.cut(frame, "train"), frame[None])
    assert (tiling.size_in((3, 4)), tiling.stride_in((3, 4)), tiling.count((3, 4))) == ((3, 4), (3, 4), 1)
    frame[0] = np.nan
    assert len(Tiling.of(None, min_coverage=0.6).cut(frame, "train")) == 1
    assert len(Tiling.of(None, min_coverage=0.7).cut(frame, "train")) == 0


def test_misfits():
    assert Tiling.of(None).misfit((3, 4), (3, 4)) == ""
    assert "differs from (4, 4); give `size`" in Tiling.of(None).misfit((3, 4), (4, 4))
    assert Tiling.of(3).misfit((3, 4), (9, 9)) == ""
    assert "exceeds its shape (2, 4)" in Tiling.of(3).misfit((2, 4), (9, 9))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": 0}, "size must be a whole number of at least 1"),
        ({"size": 4, "stride": (1, 0)}, "stride must be"),
        ({"size": None, "stride": 2}, "`stride` (=2) needs `size`: whole frames are not cut"),
        ({"size": 4, "min_coverage": 2.0}, "min_coverage must be a share"),
    ],
)
def test_arguments(given, message):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        Tiling.of(**given)


def test_every_source_leaves_out_what_is_measured_too_little(tmp_path):
    frames = np.random.default_rng(0).uniform(size=(3, 8, 8)).astype(np.float32)
    frames[1, :5, :4] = np.nan
    np.save(tmp_path / "a.npy", frames)
    for i, frame in enumerate(frames):
        bands = np.stack([np.nan_to_num(frame) * 255, np.where(np.isnan(frame), 0, 255)], axis=2)
        Image.fromarray(bands.astype(np.uint8), "LA").save(tmp_path / f"{i}.png")
    asked = {"size": 4, "min_coverage": 0.5}
    for kind, place in ((InMemory, frames), (Arrays, tmp_path / "a.npy"), (Images, tmp_path)):
        source, every = kind(place, **asked), kind(place, size=4)
        assert [sum(len(each.read(k, "test")) for k in range(len(each))) for each in (source, every)] == [
            11,
            12,
        ]
        assert source.config() == {**every.config(), "min_coverage": 0.5}
