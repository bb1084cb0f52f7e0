"""Bars of what may take long: shown where they are wanted, once it has taken long."""

import pytest
from emuloss.foundation import bars


@pytest.mark.parametrize("shown", [True, False, None])
@pytest.mark.parametrize("delay", [0.0, 60.0])
def test_a_bar_shows_after_a_while_where_it_is_wanted(shown, delay, monkeypatch, capsys):
    monkeypatch.setattr(bars, "_DELAY", delay)
    assert list(bars.counted(iter("abc"), "reading", "file", shown)) == ["a", "b", "c"]
    told = capsys.readouterr().err
    assert ("reading" in told) == (shown is True and not delay)  # None: a test has no terminal
