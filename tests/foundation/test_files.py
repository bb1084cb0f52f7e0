"""Files appear whole under their name or not at all, and full disks are told in one line."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from emuloss.errors import DataError
from emuloss.foundation.files import TEMPORARY, disk_errors, first_line, sweep, unfinished, write_safely


def test_a_file_is_written_and_replaced(tmp_path):
    path = tmp_path / "a.bin"
    for content in (b"first", memoryview(b"second")):
        write_safely(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_what_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch, where):
    path = tmp_path / "a.bin"
    write_safely(path, b"before")

    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, where, fail)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            write_safely(path, b"after")
    assert path.read_bytes() == b"before"
    assert {other.suffix for other in tmp_path.iterdir()} <= {".bin", TEMPORARY}


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "^the disk of out is full; free some space"),
        (RuntimeError("flush failed (errno = 28, error message = 'x')"), "^the disk of out is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "^the disk of out is full .* quota .* run again"),
        (OSError(errno.EFBIG, "File too large"), r"^the disk of out is full .* \(ulimit -f\) and run again"),
        (RuntimeError("write failed (errno = 27, error message = 'x')"), "^the disk of out is full"),
        (
            PermissionError(errno.EACCES, "Permission denied"),
            r"^out cannot be written \(\[Errno 13\].*rights",
        ),
        (OSError(errno.EROFS, "Read-only"), r"^out cannot be written .*choose a place that can be written"),
        (OSError(errno.ENAMETOOLONG, "Too long"), r"^out cannot be written .*choose a shorter name"),
    ],
)
def test_errors_of_a_full_or_closed_disk_take_one_line(error, message):
    with pytest.raises(DataError, match=message) as caught, disk_errors("out"):
        raise error
    assert "\n" not in str(caught.value)


def test_unfinished_files_have_names_of_their_own(tmp_path):
    here = unfinished(tmp_path / "a")
    with ThreadPoolExecutor(1) as pool:
        there = pool.submit(unfinished, tmp_path / "a").result()
    assert here != there
    assert str(os.getpid()) in here.name
    for path in (here, there, tmp_path / "kept", tmp_path / "theirs.tmp"):
        path.touch()
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"kept", "theirs.tmp"}


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match=r"^a bug$"), disk_errors("out"):
        raise RuntimeError("a bug")


def test_first_line_of_an_error():
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(ValueError()) == "ValueError"
