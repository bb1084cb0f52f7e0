"""Damage of labels is told: flipped bits, cut files, odd definitions, full and closed disks, no locks."""

import errno
import fcntl
import json
import os
import resource
import shutil
from pathlib import Path

import emuloss
import h5py
import numpy as np
import pytest
from emuloss.datasets import Arrays, LabelledFields, Rain, label
from emuloss.datasets.labels import assembly
from emuloss.datasets.labels.parts import read_part
from emuloss.errors import DataError
from flips import flipped

METRIC = emuloss.metric("minkowski", thresholds=[0.5, 2.0], outputs=["area", "euler"])
SOURCE = Rain(40, size=16, seed=1)


def make(path, source=SOURCE, metric=METRIC):
    return label(source, metric, path, progress=False, workers=1)


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> bytes:
    return make(tmp_path_factory.mktemp("sound") / "labels.h5").path.read_bytes()


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> Path:
    """The parts of a labelling that was ended before they were joined."""
    path = tmp_path_factory.mktemp("parts") / "labels.h5"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assembly, "read_part", interrupt)
        with pytest.raises(KeyboardInterrupt):
            make(path)
    return Path(f"{path}.parts")


def interrupt(*_):
    raise KeyboardInterrupt


def all_of(store):
    """Whatever a store tells."""
    told = {name: value for name, value in vars(store).items() if name not in ("path", "_roles")}
    return told, [array.tobytes() for role in store.counts for array in store.split(role)], store.counts


def test_a_flipped_bit_in_labels_is_told(sound, tmp_path):
    path = tmp_path / "labels.h5"
    for content in flipped(sound, 300):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"^\S*labels\.h5 is damaged, .*label the fields again\.$"):
            LabelledFields(path)


def test_a_part_with_a_flipped_bit_is_made_anew(parts, sound, tmp_path):
    shutil.copytree(parts, tmp_path / "labels.h5.parts")
    part = tmp_path / "labels.h5.parts" / "000000.part"
    refused = pytest.raises(DataError, match=r"000000\.part cannot be read .*; run again to label it anew\.$")
    for content in flipped(part.read_bytes(), 200):
        part.write_bytes(content)
        with refused:
            read_part(part, ["fields"], SOURCE.field_shape)
    assert make(tmp_path / "labels.h5").path.read_bytes() == sound


def test_a_part_that_is_damaged_before_it_is_joined_is_not(sound, tmp_path, monkeypatch):
    read = assembly.read_part

    def damaged(path, *arguments):
        path.write_bytes(path.read_bytes()[:-1])
        return read(path, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(assembly, "read_part", damaged)
        with pytest.raises(DataError, match=r"000000\.part cannot be read .*; run again to label it anew\.$"):
            make(tmp_path / "labels.h5")
    assert not (tmp_path / "labels.h5").exists()
    assert make(tmp_path / "labels.h5").path.read_bytes() == sound


@pytest.mark.parametrize("size", [0, 1, 511, 512, 600, -1])
def test_cut_labels_are_told(sound, tmp_path, size):
    path = tmp_path / "labels.h5"
    path.write_bytes(sound[:size])
    with pytest.raises(DataError, match="is damaged, truncated or not a labelled store"):
        LabelledFields(path)


def test_labels_whose_end_or_beginning_is_zeros_are_told(sound, tmp_path):
    path = tmp_path / "labels.h5"
    for content in (bytes(4096) + sound[4096:], sound[:-4096] + bytes(4096), sound + b"\0"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="is damaged"):
            LabelledFields(path)


def test_labels_are_plain_hdf5_to_other_programs(sound, tmp_path):
    path = tmp_path / "labels.h5"
    path.write_bytes(sound)
    with h5py.File(path) as file:
        assert np.array_equal(METRIC(file["fields"][()]), file["curves"][()])


# What is sound, and odd


def unsealed(path, change):
    """A store as version 0.1.0 wrote it, with a change."""
    make(path)
    with h5py.File(path) as there, h5py.File(path.with_suffix(".old"), "w") as here:
        for name in there:
            there.copy(name, here)
        here.attrs.update(there.attrs)
        change(here)
    os.replace(path.with_suffix(".old"), path)
    return path


def drop_outputs(file):
    about = json.loads(file.attrs["about"])
    del about["outputs"]
    file.attrs["about"] = json.dumps(about)


def put(name, value):
    def change(file):
        del file[name]
        file[name] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        drop_outputs,
        lambda file: file.attrs.update(about="[1, 2]"),
        lambda file: file.attrs.update(about="no JSON"),
        lambda file: file.attrs.update(format_version="two"),
        put("definition", "[[1, 2, 3]]"),
        put("definition", "{"),
        put("definition", 3),
        put("fields", np.zeros((40, 16))),
        put("curves", np.zeros((3, 2, 2))),
        put("split", 7),
    ],
)
def test_odd_labels_are_refused_in_one_line(tmp_path, change):
    path = unsealed(tmp_path / "labels.h5", change)
    with pytest.raises(DataError, match=r"^\S*labels\.h5 is damaged") as caught:
        LabelledFields(path)
    assert "\n" not in str(caught.value)


def test_labels_without_a_seal_are_read(sound, tmp_path):
    path = unsealed(tmp_path / "labels.h5", lambda file: None)
    (tmp_path / "sound.h5").write_bytes(sound)
    assert all_of(LabelledFields(path)) == all_of(LabelledFields(tmp_path / "sound.h5"))


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"{", b"[1]", b"3", b"[" * 100_000], ids=range(6))
def test_a_damaged_definition_of_parts_is_refused_in_one_line(parts, tmp_path, content):
    shutil.copytree(parts, tmp_path / "labels.h5.parts")
    (tmp_path / "labels.h5.parts" / "definition.json").write_bytes(content)
    message = r"^\S*definition\.json is damaged \(.*\); delete \S*labels\.h5\.parts and run again\.$"
    with pytest.raises(DataError, match=message):
        make(tmp_path / "labels.h5")


@pytest.mark.parametrize("content", [b'{"metric": 3}', b'{"metric": {"name": 1, "arguments": [2]}}', b"{}"])
def test_an_odd_definition_of_parts_is_other_work(parts, tmp_path, content):
    shutil.copytree(parts, tmp_path / "labels.h5.parts")
    (tmp_path / "labels.h5.parts" / "definition.json").write_bytes(content)
    with pytest.raises(DataError, match="was made for other work: metric"):
        make(tmp_path / "labels.h5")


def test_parts_without_a_definition_are_not_joined(parts, tmp_path):
    shutil.copytree(parts, tmp_path / "labels.h5.parts")
    (tmp_path / "labels.h5.parts" / "definition.json").unlink()
    with pytest.raises(DataError, match=r"holds parts without definition\.json, which says whose; delete it"):
        make(tmp_path / "labels.h5")


# Disks


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("where", ["folder", "part", "joined"])
def test_a_disk_that_takes_no_labels_is_told_and_then_goes_on(tmp_path, monkeypatch, number, where, sound):
    path, fsync, write = tmp_path / "labels.h5", os.fsync, Path.write_bytes
    left = iter({"folder": [], "part": [0, 0, 0], "joined": [0]}[where] + [1] * 99)

    def full(*_):
        if next(left):
            raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        if where == "folder":
            patch.setattr(Path, "mkdir", lambda *args, **options: full())
        elif where == "part":
            patch.setattr(Path, "write_bytes", lambda path, content: (full(), write(path, content)))
        else:
            patch.setattr(os, "fsync", lambda descriptor: (full(), fsync(descriptor)))
        with pytest.raises(DataError) as caught:
            make(path)
    full_disk = number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    assert ("is full" if full_disk else "cannot be written") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert make(path).path.read_bytes() == sound


def test_a_limit_of_file_sizes_is_told(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    try:
        with pytest.raises(DataError, match=r"is full as far as the limit of a file's size goes"):
            make(tmp_path / "labels.h5", Rain(64, size=64))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", ["a" * 300, "file/below/labels.h5"])
def test_a_place_that_cannot_be_is_told(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"^\S+ cannot be written \(.*\); ") as caught:
        make(tmp_path / name)
    assert "\n" not in str(caught.value)


# File systems without locks


def test_without_locks_labels_and_sources_are_read(sound, tmp_path):
    """Where HDF5 asked for a lock, it would meet one that is held."""
    path = tmp_path / "labels.h5"
    path.write_bytes(sound)
    with path.open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert len(LabelledFields(path).split("train")[0])
        assert len(Arrays(path, variable="fields").read(0, "test"))


def test_without_locks_one_frame_of_netcdf_is_read(tmp_path):
    xarray = pytest.importorskip("xarray")
    path = tmp_path / "frames.nc"
    xarray.Dataset({"rain": (("t", "y", "x"), np.ones((3, 16, 16), "f4"))}).to_netcdf(path)
    with path.open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert (Arrays(path).read(0, "test") == 1).all()


def test_without_locks_labels_are_made(tmp_path, monkeypatch, sound):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert make(tmp_path / "labels.h5").path.read_bytes() == sound
    assert [path.name for path in tmp_path.iterdir()] == ["labels.h5"]
