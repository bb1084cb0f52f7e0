"""Ctrl-C, SIGTERM and SIGHUP: raised or held back, and the caller's handlers as they were."""

import pickle
import signal
import subprocess
import sys
import threading

import pytest
from emuloss.foundation.interrupts import (
    ENDED,
    Terminated,
    ended_by,
    interrupts_deferred,
    terminations_raised,
)

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def handlers():
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_and_sighup_are_raised(number):
    before = handlers()
    with pytest.raises(Terminated) as caught, terminations_raised():
        signal.raise_signal(number)
    assert (caught.value.number, caught.value.code) == (number, 128 + number)
    assert handlers() == before


@pytest.mark.parametrize("number", SIGNALS)
def test_sigterm_and_sighup_are_held_back_as_ctrl_c_is(number):
    before = handlers()
    with terminations_raised(), interrupts_deferred() as interrupted:
        assert interrupted() == 0
        signal.raise_signal(number)
        if number != signal.SIGINT:
            signal.raise_signal(number)  # batch systems say it twice
        assert interrupted() == number
    assert handlers() == before
    assert isinstance(ended_by(number), ENDED)
    assert isinstance(ended_by(number), KeyboardInterrupt) == (number == signal.SIGINT)


def test_sigterm_within_sigterm_is_held_by_the_inner_block():
    with interrupts_deferred() as outer:
        with interrupts_deferred() as inner:
            signal.raise_signal(signal.SIGTERM)
            assert inner() == signal.SIGTERM
        assert outer() == 0
        signal.raise_signal(signal.SIGHUP)
        assert outer() == signal.SIGHUP


@pytest.mark.parametrize("theirs", [signal.SIG_IGN, lambda *_: None], ids=["ignored", "handled"])
@pytest.mark.parametrize("block", [terminations_raised, interrupts_deferred])
def test_sigterm_and_sighup_of_the_caller_stay_the_callers(theirs, block):
    before = [signal.signal(number, theirs) for number in (signal.SIGTERM, signal.SIGHUP)]
    try:
        with block() as interrupted:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGHUP)
            assert interrupted is None or interrupted() == 0
        assert signal.getsignal(signal.SIGTERM) is theirs
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGHUP), before, strict=True):
            signal.signal(number, handler)


def test_sigterm_is_left_alone_in_other_threads():
    seen = []

    def work():
        with terminations_raised(), interrupts_deferred() as interrupted:
            seen.extend([interrupted(), handlers()])

    before = handlers()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [0, before]


def test_what_sigterm_raises_travels_between_processes():
    error = pickle.loads(pickle.dumps(Terminated(signal.SIGTERM)))
    assert (error.number, error.code) == (signal.SIGTERM, 143)
    assert Terminated(signal.SIGTERM).__reduce__() == (Terminated, (signal.SIGTERM,))  # what tblib goes by


SCRIPT = """
import signal
from emuloss.foundation.interrupts import terminations_raised
with terminations_raised():
    signal.raise_signal(signal.SIGHUP)
"""


def test_sighup_that_nobody_catches_ends_a_script_with_its_code(tmp_path):
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (129, "", "")
