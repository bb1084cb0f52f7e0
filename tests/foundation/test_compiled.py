"""Compiled code is kept where there is a place for it; without one, everything works all the same."""

import errno
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from emuloss.foundation import compiled as room
from emuloss.foundation.compiled import compiled
from frame import read_sources
from numba.core.caching import IndexDataCacheFile

PACKAGE = str(Path(room.__file__).parents[2])
MODULE = """
from emuloss.foundation.compiled import compiled

@compiled
def inner(a, b):
    return a + b

@compiled(error_model="numpy")
def outer(a, b):
    return inner(a, b) / (a - a)
"""
SCRIPT = "import mine; print(mine.outer(1.0, 2.0), mine.inner(1, 2))"


def run(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run compiled functions of a module in a folder; neither home nor cache is there unless told."""
    (folder / "mine.py").write_text(MODULE)
    nowhere = str(folder / "file" / "below")
    (folder / "file").write_text("")  # below a file nobody makes a folder, not even root
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("NUMBA_")}
    places = {"HOME": nowhere, "XDG_CACHE_HOME": nowhere, "PYTHONPATH": f"{folder}{os.pathsep}{PACKAGE}"}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        cwd=folder, env=inherited | places | environment, capture_output=True, text=True,
    )  # fmt: skip


def test_without_a_place_for_a_cache_code_is_compiled_anew_and_one_line_says_so(tmp_path: Path) -> None:
    (tmp_path / "__pycache__").write_text("")
    result = run(tmp_path)
    assert result.stdout.split() == ["inf", "3"]
    assert result.stderr.startswith(
        "compiled code is not kept, so that each process compiles it anew; set NUMBA"
    )
    assert result.stderr.count("\n") == 1
    assert result.returncode == 0


def test_a_named_folder_serves_where_nothing_else_does(tmp_path: Path) -> None:
    (tmp_path / "__pycache__").write_text("")
    result = run(tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "kept"))
    assert (result.stdout.split(), result.stderr) == (["inf", "3"], "")
    assert len(list((tmp_path / "kept").rglob("mine.*.nbi"))) == 2


def test_code_is_kept_beside_its_file(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert (result.stdout.split(), result.stderr) == (["inf", "3"], "")
    assert len(list((tmp_path / "__pycache__").glob("mine.*.nbi"))) == 2


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What is said, as if nothing had been said before."""
    room._TOLD.clear()
    caplog.set_level(logging.WARNING)
    yield caplog
    room._TOLD.clear()


def kept_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("numba.config.CACHE_DIR", str(folder))


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE])
@pytest.mark.parametrize("step", ["save", "load"])
def test_a_cache_that_fails_later_costs_time_alone(step, fault, tmp_path, monkeypatch, told) -> None:
    kept_in(tmp_path, monkeypatch)

    @compiled
    def double(x):
        return 2 * x

    def fails(*_):
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(IndexDataCacheFile, step, fails)
    assert double(21) == 42
    assert double(1.5) == 3.0
    assert [record.levelname for record in told.records] == ["WARNING"]
    assert os.strerror(fault) in told.text


@pytest.mark.parametrize("content", [b"", b"\x80", b"no pickle at all"])
def test_a_damaged_cache_is_as_good_as_none(content, tmp_path, monkeypatch, told) -> None:
    kept_in(tmp_path, monkeypatch)

    def compile_anew():
        @compiled
        def total(values):
            return values.sum()

        return total

    values = np.arange(5)
    assert compile_anew()(values) == 10
    indices = list(tmp_path.rglob("*.nbi"))
    assert indices
    for index in indices:
        index.write_bytes(content)
    assert compile_anew()(values) == 10
    assert len(told.records) == 1
    again = compile_anew()
    assert again(values) == 10
    assert sum(again.stats.cache_hits.values()) == 1  # it was kept anew


def test_every_kernel_is_compiled_through_this_door() -> None:
    sources = read_sources()
    others = [path for path, text in sources.items() if "cache=True" in text]
    assert others == []
    kernels = [path for path, text in sources.items() if "@compiled" in text]
    assert {"metrics/kernels/excursions.py", "emulators/soft/kernels.py"} <= set(kernels)
