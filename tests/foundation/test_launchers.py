"""Which of several processes has the word."""

import subprocess
import sys

import pytest
from emuloss.foundation.launchers import first_of_several

KINDS = [
    ("RANK", "WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
]


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for name in (name for kind in KINDS for name in kind):
        monkeypatch.delenv(name, raising=False)


def test_one_process_has_the_word():
    assert first_of_several()


@pytest.mark.parametrize(("rank", "size"), KINDS)
@pytest.mark.parametrize(
    ("values", "first"), [(("0", "2"), True), (("1", "2"), False), (("1", "1"), True), (("3", None), True)]
)
def test_the_first_of_several_alone_has_it(rank, size, values, first, monkeypatch):
    for name, value in zip((rank, size), values, strict=True):
        if value is not None:
            monkeypatch.setenv(name, value)
    assert first_of_several() == first


def test_to_tell_it_takes_no_torch(tmp_path):
    code = "import sys; import emuloss.foundation.launchers; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
