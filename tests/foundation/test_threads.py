"""Kernels share their work among threads, whatever else keeps the cores busy."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
from emuloss.foundation import threads
from hypothesis import given
from hypothesis import strategies as st

LARGE = 2**30
"""Pixels worth any number of threads."""


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 2)


@given(st.integers(0, 60), st.sampled_from([0, 2**17, 2**18, LARGE]))
def test_every_item_is_worked_on_once(number, pixels):
    seen = np.zeros(number, int)

    def count(batch):
        seen[batch] += 1

    threads.in_threads(count, number, pixels)
    assert (seen == 1).all()


def test_a_helper_works_beside_the_caller():
    met = threading.Barrier(2, timeout=30)
    threads.in_threads(lambda _: met.wait(), 2, LARGE)


def test_a_helper_that_has_no_core_is_not_waited_for(monkeypatch):
    with ThreadPoolExecutor(1) as busy:
        monkeypatch.setattr(threads, "_helpers", lambda *_: busy)
        free, workers = threading.Event(), set()
        other = busy.submit(free.wait, 60)
        try:
            threads.in_threads(lambda _: workers.add(threading.current_thread()), 8, LARGE)
            assert not other.done()
        finally:
            free.set()
    assert workers == {threading.current_thread()}


@pytest.mark.parametrize("by_caller", [False, True])
def test_an_error_ends_the_work_and_reaches_the_caller(by_caller):
    caller, met, begun = threading.current_thread(), threading.Barrier(2, timeout=30), []

    def fail(batch):
        begun.append(batch)
        met.wait()
        if (threading.current_thread() is caller) == by_caller:
            raise ValueError("no such field")
        time.sleep(0.5)  # meanwhile, the other one takes what is left away

    with pytest.raises(ValueError, match="no such field"):
        threads.in_threads(fail, 8, LARGE)
    assert len(begun) == 2


def test_an_interrupt_of_the_caller_waits_for_helpers_and_outweighs_their_errors():
    caller, met, ended = threading.current_thread(), threading.Barrier(2, timeout=30), []

    def fail(_):
        met.wait()
        if threading.current_thread() is caller:
            raise KeyboardInterrupt
        time.sleep(0.2)
        ended.append(True)
        raise ValueError("no such field")

    with pytest.raises(KeyboardInterrupt):
        threads.in_threads(fail, 8, LARGE)
    assert ended


# How torch's threads wait


def environment_after(code, tmp_path, **given):
    """OMP_WAIT_POLICY in a fresh process after some code."""
    told = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport os; print('policy', os.environ.get('OMP_WAIT_POLICY'))"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name not in threads._WAITING} | given,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return told.split()[-1]


COMMAND = "from emuloss.cli.main import main; main(['--version'])"


def test_commands_have_threads_sleep_while_they_wait(tmp_path):
    assert environment_after(COMMAND, tmp_path) == "passive"


@pytest.mark.parametrize(
    ("name", "value"), [("OMP_WAIT_POLICY", "active"), ("GOMP_SPINCOUNT", "5"), ("KMP_BLOCKTIME", "1")]
)
def test_how_threads_wait_is_the_users_to_say(name, value, tmp_path):
    found = environment_after(COMMAND, tmp_path, **{name: value})
    assert found == (value if name == "OMP_WAIT_POLICY" else "None")


def test_the_library_leaves_the_environment_alone(tmp_path, monkeypatch):
    assert environment_after("import emuloss; emuloss.list_models()", tmp_path) == "None"
    for name in threads._WAITING:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "torch", object())  # which has read it
    threads.sleep_while_waiting()
    assert "OMP_WAIT_POLICY" not in os.environ
