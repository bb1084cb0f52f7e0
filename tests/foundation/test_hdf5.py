"""Data sets read whole, chunk by chunk, against h5py itself."""

import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
from emuloss.foundation.hdf5 import open_hdf5, read_whole

VALUES = np.random.default_rng(0).gamma(0.3, 3, (37, 52)).round(2)

KEPT = {
    "in one piece": {},
    "in chunks": {"chunks": (10, 20)},
    "gzip": {"chunks": (10, 20), "compression": "gzip", "compression_opts": 9},
    "gzip, chunks that fit": {"chunks": (37, 13), "compression": "gzip"},
    "gzip, chunks beyond it": {"chunks": (64, 64), "compression": "gzip", "maxshape": (None, None)},
    "shuffled": {"chunks": (10, 20), "compression": "gzip", "shuffle": True},
    "with checksums": {"chunks": (10, 20), "compression": "gzip", "fletcher32": True},
    "lzf": {"chunks": (10, 20), "compression": "lzf"},
}


@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("kind", ["f8", ">f4", "u1", ">i2", "i8"])
def test_values_are_those_of_h5py(tmp_path, kept: str, kind: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", data=VALUES.astype(kind), **KEPT[kept])
    with open_hdf5(tmp_path / "a.h5") as file:
        found = read_whole(file["a"])
        assert found.dtype == file["a"].dtype
        np.testing.assert_array_equal(found, file["a"][()])


@pytest.mark.parametrize("shape", [(9,), (3, 4, 5), (1, 30, 20, 1), (0, 4)])
def test_any_number_of_axes(tmp_path, shape: tuple[int, ...]) -> None:
    values = np.arange(np.prod(shape)).reshape(shape)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset(
            "a",
            data=values,
            chunks=(1, *(3,) * (len(shape) - 1)),
            compression="gzip",
            maxshape=(None,) * len(shape),
        )
        np.testing.assert_array_equal(read_whole(file["a"]), values)


def test_chunks_that_nobody_wrote(tmp_path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("a", (40, 40), "f4", chunks=(16, 16), compression="gzip", fillvalue=-1)
        dataset[20:30, 3:9] = 5
        found = read_whole(dataset)
    assert (found == 5).sum() == 60
    assert (found == -1).sum() == 40 * 40 - 60


def test_a_chunk_that_is_not_compressed(tmp_path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("a", (4, 8), "f8", chunks=(4, 4), compression="gzip")
        dataset[:] = 1
        dataset.id.write_direct_chunk((0, 4), VALUES[:4, :4].tobytes(), filter_mask=1)
    with open_hdf5(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(read_whole(file["a"]), np.hstack([np.ones((4, 4)), VALUES[:4, :4]]))


class Counted:
    """What counts the calls of an object's methods."""

    def __init__(self, of, without=()):
        self.of, self.without, self.calls = of, without, Counter()

    def __getattr__(self, name):
        if name in self.without:
            raise AttributeError(name)
        found = getattr(self.of, name)
        if not callable(found):
            return found

        def call(*arguments):
            self.calls[name] += 1
            return found(*arguments)

        return call


class Watched:
    """A data set, and calls of its identifier."""

    def __init__(self, dataset, without=()):
        self.dataset, self.id = dataset, Counted(dataset.id, without)

    def __getattr__(self, name):
        return getattr(self.dataset, name)

    def __getitem__(self, index):
        return self.dataset[index]


def test_chunks_are_found_in_one_walk(tmp_path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = Watched(file.create_dataset("a", data=VALUES, chunks=(4, 4), compression="gzip"))
        np.testing.assert_array_equal(read_whole(dataset), VALUES)
        assert dataset.id.calls == {"get_create_plist": 1, "chunk_iter": 1, "read_direct_chunk": 10 * 13}
        older = Watched(dataset.dataset, without=["chunk_iter"])
        np.testing.assert_array_equal(read_whole(older), VALUES)


PACKED = zlib.compress(bytes(4 * 4 * 8))


@pytest.mark.parametrize("damage", [b"no gzip", PACKED[:-6], PACKED[:-1] + b"x"], ids=["other", "cut", "sum"])
def test_a_damaged_chunk(tmp_path, damage: bytes) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("a", (4, 8), "f8", chunks=(4, 4), compression="gzip")
        dataset[:] = 1
        dataset.id.write_direct_chunk((0, 4), damage)
    # HDF5's words, and those of its releases before 2.0.
    words = "filter returned failure|inflate\\(\\) failed"
    with open_hdf5(tmp_path / "a.h5") as file, pytest.raises(OSError, match=words):
        read_whole(file["a"])


def test_threads_read_files_of_their_own_at_once(tmp_path):
    """In versions of h5py that do not lock what it calls, sound files fail and the process crashes."""
    for k in range(8):
        with h5py.File(tmp_path / f"{k}.h5", "w") as file:
            file.create_dataset("a", data=VALUES + k, **KEPT["gzip"])

    def fine(k: int) -> bool:
        with open_hdf5(tmp_path / f"{k}.h5") as file:
            return np.array_equal(read_whole(file["a"]), VALUES + k)

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(fine, list(range(8)) * 100))
