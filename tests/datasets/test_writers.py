"""Two writers of one path, and killed joins: a finished file is never harmed, and work is never lost."""

import os
import subprocess
import sys
import threading

import emuloss
import pytest
from emuloss.datasets import Rain, label
from emuloss.datasets.labels import label as labelling  # the function, which hides the module
from emuloss.datasets.labels import parts as parts_module
from emuloss.errors import DataError
from emuloss.foundation import locks

METRIC = emuloss.metric("minkowski", thresholds=[0.5, 2.0], outputs=["area"])
SOURCE = Rain(3, size=8, seed=1)
ROLES = ["train"] * (len(SOURCE) - 1) + ["test"]
MODULE = sys.modules[labelling.__module__]


def make(path):
    return label(SOURCE, METRIC, path, splits=ROLES, progress=False, workers=1)


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> bytes:
    return make(tmp_path_factory.mktemp("sound") / "labels.h5").path.read_bytes()


def at_the_join(monkeypatch, act):
    """Do something at the moment when the parts of the first labelling are all there."""
    assemble, waiting = MODULE.assemble, [1]

    def first_act(*arguments):
        if waiting:
            waiting.clear()
            act()
        assemble(*arguments)

    monkeypatch.setattr(MODULE, "assemble", first_act)


def test_two_writers_the_second_is_refused_and_the_first_ends_well(tmp_path, monkeypatch, sound):
    path = tmp_path / "labels.h5"
    errors = []

    def second():
        with pytest.raises(DataError, match=r"^another process is writing \S*labels\.h5 \(") as caught:
            make(path)
        errors.append(str(caught.value))

    at_the_join(monkeypatch, second)
    assert make(path).path.read_bytes() == sound
    assert len(errors) == 1
    assert os.listdir(tmp_path) == ["labels.h5"]


def without_locks(monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)


def test_two_writers_without_locks_harm_nothing(tmp_path, monkeypatch, sound):
    """The second begins, and ends, while the first joins."""
    path = tmp_path / "labels.h5"
    without_locks(monkeypatch)
    at_the_join(monkeypatch, lambda: make(path))
    assert make(path).path.read_bytes() == sound  # although its parts are gone
    assert os.listdir(tmp_path) == ["labels.h5"]


def test_two_writers_without_locks_at_once(tmp_path, monkeypatch, sound):
    path = tmp_path / "labels.h5"
    without_locks(monkeypatch)
    found = []
    threads = [threading.Thread(target=lambda: found.append(make(path))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) >= 1  # one may have to be run again, in one line
    assert path.read_bytes() == sound


def test_two_writers_one_that_comes_late_takes_what_the_other_made(tmp_path, monkeypatch, sound):
    """The file appears between the look at it and the lock."""
    path = tmp_path / "labels.h5"
    one_writer = MODULE.one_writer

    def late(place):
        monkeypatch.setattr(MODULE, "one_writer", one_writer)
        make(path)
        monkeypatch.setattr(parts_module, "write_part", None)
        return one_writer(place)

    monkeypatch.setattr(MODULE, "one_writer", late)
    assert make(path).path.read_bytes() == sound


# Killed at each step

# Joins the parts in a folder again and again: each process is gone without a word one step later than the one
# before, of the steps that change the disk.
STEPS = """
import os, shutil, sys
from pathlib import Path
import emuloss, h5py
from emuloss.datasets import Rain, label

def make(path):
    metric = emuloss.metric("minkowski", thresholds=[0.5, 2.0], outputs=["area"])
    source = Rain(3, size=8, seed=1)
    roles = ["train"] * (len(source) - 1) + ["test"]
    label(source, metric, path, splits=roles, progress=False, workers=1)

def dying(function):
    def call(*arguments, **options):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), 9)
        return function(*arguments, **options)
    return call

os.fsync = lambda descriptor: None  # what is killed loses nothing that the system has
given, sound, step, finished = Path(sys.argv[1]), Path(sys.argv[2]).read_bytes(), 0, []
while True:
    path = Path(f"{step}.h5")
    shutil.copytree(given, f"{path}.parts")
    child = os.fork()
    if not child:
        left = step
        for name in ("fsync", "replace", "unlink", "rmdir", "mkdir", "open"):
            setattr(os, name, dying(getattr(os, name)))
        for owner, name in ((h5py.File, "__init__"), (h5py.File, "close"), (h5py.Group, "__setitem__")):
            setattr(owner, name, dying(getattr(owner, name)))
        make(path)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finished.append(path.exists())
    assert not path.exists() or path.read_bytes() == sound, step
    make(path)
    assert path.read_bytes() == sound, step
    assert not Path(f"{path}.parts").exists(), step
    step += 1
    if code == 0:
        break
    assert code == -9, code
print(len(finished), sum(finished))
"""


def test_a_join_killed_at_each_step_leaves_no_file_or_the_whole_one(tmp_path, monkeypatch, sound):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(MODULE, "assemble", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "labels.h5")
    (tmp_path / "sound").write_bytes(sound)
    done = subprocess.run(
        [sys.executable, "-c", STEPS, "labels.h5.parts", "sound"],
        cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"NUMBA_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    steps, finished = map(int, done.stdout.split())
    assert steps > 20
    assert 1 < finished < steps - 5
