"""What would fail after labels and training is refused before, and leaves nothing behind."""

import os

import emuloss
import numpy as np
import pytest
from drawn import rain_array
from emuloss.emulators import ARCHITECTURES
from emuloss.emulators.architectures import Architecture
from emuloss.errors import EmulossError
from emuloss.evaluation import plan
from emuloss.pipeline import run

SMALL = {"widths": [8, 16], "budget": 32, "batch_size": 8, "precision": "float32", "progress": False}


def difference(prediction, observation):
    """Of the means: it does not say whether smaller is better."""
    return float(abs(prediction.mean() - observation.mean()))


def fails(field):
    """On every field."""
    raise RuntimeError("no licence")


def unbuilt(metric, depth=1):
    """An architecture that stumbles over what it is given."""
    return range(depth)


def bad_gradient(metric, **arguments):
    """An architecture whose gradient cannot be taken."""
    built = ARCHITECTURES["relaxed"](metric)
    built.register_forward_hook(lambda module, inputs, curves: curves.long())
    return built


LATE = {
    "a pair without a direction": (
        {"metric": difference, "metric_options": {"arity": 2}, "arch": "hybrid", **SMALL},
        "lower_better=",
    ),
    "a metric that fails": ({"metric": fails, **SMALL}, "no licence"),
    "a metric without a relaxation": (
        {"metric": "clusters", "thresholds": [1.0], "sobolev": 0.1, **SMALL},
        "sobolev needs a metric whose relaxation is known",
    ),
    "an architecture that fails": (
        {"metric": "minkowski", "thresholds": [1.0], "arch": "failing"},
        "architecture 'failing' of metric 'minkowski' fails on fields of 16 x 16 pixels: RuntimeError",
    ),
    "an architecture that cannot be built": (
        {"metric": "minkowski", "thresholds": [1.0], "arch": "unbuilt", "arch_options": {"depth": "deep"}},
        "architecture 'unbuilt' cannot be built: TypeError",
    ),
    "what no checkpoint may hold": ({"thresholds": [1.0], "unit": "x" * 200}, "unit"),
    "a licence of several lines": ({"thresholds": [1.0], "license": "mine\nyours"}, "license"),
}


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Evaluations of little effort."""
    monkeypatch.setattr(plan, "EFFORTS", (plan.Effort(steps=3, slopes=1, repeats=1),))


@pytest.fixture
def fields():
    return rain_array(48, 16, 16, seed=4)


@pytest.mark.parametrize("name", LATE)
def test_late_failures_are_refused_before_labelling(name, fields, tmp_path, monkeypatch):
    options, words = LATE[name]
    for key, build in (("failing", bad_gradient), ("unbuilt", unbuilt)):
        monkeypatch.setitem(ARCHITECTURES._things, key, Architecture(build, {}))
    monkeypatch.setattr(run, "labelled", lambda *_: pytest.fail("fields were labelled"))
    given = {"fields": fields, "out": tmp_path / "run", "progress": False, **options}
    with pytest.raises(EmulossError) as caught:
        emuloss.train(**given)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_pair_with_a_direction_is_trained(fields, tmp_path):
    declared = {"arity": 2, "lower_better": True}
    surrogate = emuloss.train(
        fields=fields, metric=difference, metric_options=declared, out=tmp_path, quick=True, **SMALL
    )
    assert surrogate.metric.lower_better is True
    assert "descent" not in surrogate.evaluation


def test_a_training_without_any_time_is_evaluated_and_judged(fields, tmp_path):
    """It has validated nothing, and so logged nothing."""
    given = {**SMALL, "budget": None, "minutes": 1e-7, "arch": "constrained"}
    surrogate = emuloss.train(fields=fields, thresholds=[1.0, 2.0], out=tmp_path, quick=True, **given)
    assert not (tmp_path / "log.csv").exists()
    assert surrogate.evaluation["verdict"]["fit"] != "fit"
    assert (tmp_path / "report.png").exists()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs rights that can be taken away")
def test_a_folder_without_rights_is_refused_before_labelling(fields, tmp_path, monkeypatch):
    tmp_path.chmod(0o500)
    with pytest.raises(EmulossError, match="cannot be written"):
        emuloss.train(fields=fields, thresholds=[1.0], out=tmp_path, progress=False)


@pytest.mark.parametrize("call", [emuloss.train, emuloss.label])
def test_a_folder_below_a_file_is_refused_before_labelling(call, fields, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(EmulossError, match="cannot be written"):
        call(fields=fields, thresholds=[1.0], out=tmp_path / "file" / "a" / "b", progress=False)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_rehearsal_changes_no_result(fields, tmp_path, monkeypatch):
    call = {"fields": fields, "thresholds": [1.0], "arch": "constrained", "quick": True, **SMALL}
    first = emuloss.train(out=tmp_path / "rehearsed", **call)
    monkeypatch.setattr(run, "rehearse", lambda *_: None)
    second = emuloss.train(out=tmp_path / "not", **call)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert np.array_equal(one.numpy(), other.numpy())
