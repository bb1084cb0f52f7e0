"""One writer at a time: a second is told who writes, the killed leave no locks, and there may be none."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest
from emuloss.errors import DataError
from emuloss.foundation.locks import one_writer

HOLDS = """
import sys, time
from pathlib import Path
from emuloss.foundation.locks import one_writer
with one_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_two_writers_a_second_one_is_told_who_writes(tmp_path):
    path = tmp_path / "labels.h5"
    with one_writer(path) as alone:
        assert alone
        with (
            pytest.raises(
                DataError,
                match=rf"^another process is writing .*labels\.h5 \(process {os.getpid()} on .*wait",
            ),
            one_writer(path),
        ):
            pass
        with one_writer(tmp_path / "others.h5") as other:
            assert other
    assert list(tmp_path.iterdir()) == []


def test_two_writers_of_a_folder(tmp_path):
    with one_writer(tmp_path), pytest.raises(DataError, match="another process"), one_writer(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_two_writers_the_lock_of_a_killed_one_is_taken_over(tmp_path):
    path = tmp_path / "labels.h5"
    command = [sys.executable, "-c", HOLDS, str(path)]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(DataError, match=rf"process {process.pid} on "), one_writer(path):
            pass
        process.kill()
    assert (tmp_path / "labels.h5.lock").exists()
    with one_writer(path) as alone:
        assert alone
    assert list(tmp_path.iterdir()) == []


def test_two_writers_a_lock_that_was_given_back_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    place, flock, waiting = tmp_path / "x.lock", fcntl.flock, [1]

    def late(file, how):
        if waiting:  # its holder gives it back between the opening of its file and the locking
            waiting.clear()
            place.unlink()
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with one_writer(tmp_path / "x") as alone:
        assert alone
        assert place.exists()  # others meet the lock that is held, not the removed one
    assert not place.exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_writers_manage_alone(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with one_writer(tmp_path / "x") as alone, one_writer(tmp_path / "x") as also:
        assert not alone
        assert not also
    assert list(tmp_path.iterdir()) == []


def test_without_a_place_for_a_lock_writers_manage_alone(tmp_path):
    with one_writer(tmp_path / "missing" / "x") as alone:
        assert not alone
