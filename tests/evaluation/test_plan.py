"""The time of an evaluation: what it is expected to take, what it is cut to, and one bar for all of it."""

import itertools
import sys
import time

import emuloss
import pytest
from drawn import rain_array
from emuloss.evaluation import evaluate, plan, planned
from emuloss.evaluation.bars import Parts, counted
from emuloss.evaluation.plan import EFFORTS


@pytest.fixture
def fields():
    return rain_array(40, 16, 16, seed=3)


def relaxed():
    return emuloss.relax(emuloss.metric("minkowski", thresholds=[0.5, 2.0]))


def test_efforts_fall_and_end_with_little():
    for dear, cheap in itertools.pairwise(EFFORTS):
        assert all(one >= other for one, other in zip(dear, cheap, strict=True))
        assert dear != cheap
    assert EFFORTS[-1].fields >= 1, "--quick alone leaves descents out"


def test_expected_time_is_measured(fields):
    """Four fields take 20 ms a call: 2 x 400 steps of two calls each, for the descents alone."""
    surrogate = relaxed()
    surrogate.register_forward_pre_hook(lambda *_: time.sleep(0.02))
    expected = planned(surrogate, fields)
    assert expected.effort == EFFORTS[0]
    assert not expected.cut
    steps = 2 * EFFORTS[0].steps
    assert expected.seconds["descents"] > 0.9 * steps * 0.04
    assert expected.total == pytest.approx(sum(expected.seconds.values()))


def test_an_evaluation_is_cut_to_its_time(fields, monkeypatch):
    surrogate = relaxed()
    whole = planned(surrogate, fields)
    costs = plan._Costs(number=40, forward=0.01, step=0.04, exact=0.001, outputs=3, derivatives=64)
    monkeypatch.setattr(plan._Costs, "of", lambda *_: costs)
    totals = [sum(costs.parts(effort, False).values()) for effort in EFFORTS]
    assert totals == sorted(totals, reverse=True)
    for k, total in enumerate(totals):
        found = planned(surrogate, fields, seconds=total * 1.001)
        assert (found.effort, found.cut) == (EFFORTS[k], k > 0)
    least = planned(surrogate, fields, seconds=1e-3)
    assert least.effort == EFFORTS[-1], "there is always something"
    quick = planned(surrogate, fields, quick=True)
    assert quick.effort.fields == 0
    assert "descents" not in quick.seconds
    assert whole.seconds.keys() == {"curves", "time", "slopes", "descents", "gradients"}


def test_an_evaluation_does_what_is_planned(fields):
    surrogate = relaxed()
    effort = plan.Effort(fields=2, steps=3, slopes=1, repeats=1)
    asked = plan.Plan.of(surrogate, fields, effort, thorough=False)
    found = evaluate(surrogate, fields, surrogate.metric(fields), plan=asked, progress=False).figures
    assert (found["descent"]["fields"], found["descent"]["steps"]) == (2, 3)
    quick = plan.Plan.of(surrogate, fields, effort._replace(fields=0), thorough=False)
    found = evaluate(surrogate, fields, surrogate.metric(fields), plan=quick, progress=False).figures
    assert "descent" not in found
    assert found["fidelity"]["fields"] == len(fields)


def test_one_bar_shows_all_of_it(fields, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    surrogate = relaxed()
    evaluate(surrogate, fields, surrogate.metric(fields), descent_steps=3)
    shown = capsys.readouterr().err
    assert "evaluating:" in shown
    assert {
        line.split(":")[0].strip() for line in shown.replace("\r", "\n").splitlines() if line.strip()
    } == {"evaluating"}


def test_a_bar_counts_parts_by_their_time(capsys):
    with Parts({"short": 1.0, "long": 3.0}, True) as bar:
        with bar.part("short"):
            pass
        assert bar._bar.n == pytest.approx(25)
        with bar.part("long") as tell:
            tell(0.5)
            assert bar._bar.n == pytest.approx(62.5)
        with bar.part("unforeseen") as tell:
            tell(1.0)
        assert bar._bar.n == pytest.approx(100)
    capsys.readouterr()


def test_counted_tells_the_share_that_is_done():
    told = []
    assert list(counted([1, 2, 3, 4], "items", "item", told.append)) == [1, 2, 3, 4]
    assert told == [0.25, 0.5, 0.75, 1.0]
    assert list(counted(range(3), "items", "item", False)) == [0, 1, 2]
