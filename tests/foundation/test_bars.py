"""Bars of what may take long: shown where they are wanted, once it has taken long, and rarely in logs."""

import io
import sys

import pytest
from emuloss.foundation import bars


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("shown", [True, False, None])
@pytest.mark.parametrize("delay", [0.0, 60.0])
def test_a_bar_shows_after_a_while_where_it_is_wanted(terminal, shown, delay, monkeypatch, capsys):
    monkeypatch.setattr(bars, "_DELAY", delay)
    monkeypatch.setattr(bars, "_RARELY", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    assert list(bars.counted(iter("abc"), "reading", "file", shown)) == ["a", "b", "c"]
    told = capsys.readouterr().err
    assert ("reading" in told) == ((terminal if shown is None else shown) and not delay)


@pytest.mark.parametrize("leave", [True, False])
def test_a_log_gets_few_lines_and_the_last_one_that_stays(leave, capsys):
    with bars.Bar(total=1000, desc="training", mininterval=0.0, leave=leave) as bar:
        for k in range(1000):
            bar.update()
            bar.set_postfix_str(f"step {k + 1}")
        bar.close()  # and once more, when it is left
    told = capsys.readouterr().err
    assert told.count("\n") == leave
    assert "\r" not in told
    assert ("100%" in told and "step 1000" in told) == leave


@pytest.mark.parametrize("stream", [None, io.BytesIO, object])
def test_what_standard_error_cannot_do_is_not_asked_of_it(stream, monkeypatch):
    """As of a logger in its place, or of a program without a console."""
    monkeypatch.setattr(sys, "stderr", stream and stream())
    with bars.Bar(total=2, disable=True) as bar:
        bar.update()
    assert list(bars.counted(iter("ab"), "reading", "file", False)) == ["a", "b"]


def test_a_long_loop_tells_a_log_where_it_is(monkeypatch, capsys):
    now = iter(range(0, 100_000, 10))
    monkeypatch.setattr(bars.time, "monotonic", lambda: next(now))
    with bars.Bar(total=30, desc="training", mininterval=0.0, leave=False) as bar:
        for _ in range(30):
            bar.update()
    lines = [line for line in capsys.readouterr().err.split("\n") if "training" in line]
    assert 5 <= len(lines) <= 10


def test_a_terminal_gets_a_bar_that_moves(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with bars.Bar(total=3, desc="training", mininterval=0.0) as bar:
        for _ in range(3):
            bar.update()
    told = capsys.readouterr().err
    assert told.count("\r") >= 4
    assert told.count("\n") == 1
