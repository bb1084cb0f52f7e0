"""The pipeline from Python: whole runs and labels of fields and metrics in every form that they may have."""

import functools
import inspect

import emuloss
import numpy as np
import pytest
import torch
from drawn import rain_array
from emuloss.datasets import Rain
from emuloss.errors import ArgumentError, DataError
from emuloss.evaluation import plan
from emuloss.pipeline import Data, Network, Run, Teacher
from emuloss.training import Training

SMALL = {"widths": [8, 16], "budget": 32, "batch_size": 8, "precision": "float32", "progress": False}


def wetness(field):
    """Share of the pixels above 0.5."""
    return float((np.nan_to_num(field) > 0.5).mean())


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Descents of a few steps."""
    monkeypatch.setattr(plan, "EFFORTS", (plan.Effort(steps=3, slopes=2, repeats=1),))


@pytest.fixture(scope="module")
def fields():
    return rain_array(48, 16, 16, seed=4)


def as_xarray(fields):
    xarray = pytest.importorskip("xarray")
    return xarray.DataArray(fields, dims=("time", "y", "x"), attrs={"units": "mm/h"})


def test_a_run_returns_the_frozen_surrogate_with_its_evaluation(tmp_path, capsys):
    surrogate = emuloss.train(
        fields="rain", count=48, size=16, metric="minkowski", thresholds=[0.5, 2.0], arch="constrained",
        out=tmp_path, license="apache-2.0", **SMALL,
    )  # fmt: skip
    assert capsys.readouterr().out == ""
    assert not any(parameter.requires_grad for parameter in surrogate.parameters())
    assert surrogate.evaluation["fidelity"]["outputs"].keys() == {"area", "perimeter", "euler"}
    assert surrogate.trained_on["fields_seen"] == 32
    assert (surrogate.license, surrogate.provenance.unit) == ("apache-2.0", "mm/h")
    loaded = emuloss.load(tmp_path)
    x = torch.rand(2, 16, 16) * 3
    torch.testing.assert_close(loaded(x), surrogate(x))
    assert loaded.evaluation == surrogate.evaluation
    emuloss.zoo.verify(tmp_path)


@pytest.mark.parametrize("form", ["array", "xarray", "source"])
def test_fields_in_every_form(form, fields, tmp_path):
    given = {"array": fields, "xarray": as_xarray(fields), "source": Rain(48, size=16)}[form]
    store = emuloss.label(
        fields=given, metric="minkowski", thresholds=[0.5, 2.0], out=tmp_path / "labels.h5", progress=False
    )
    assert store.unit == {"array": "", "xarray": "mm/h", "source": "mm/h"}[form]
    labelled, curves = store.split("train")
    assert len(labelled)
    exact = emuloss.metric("minkowski", thresholds=[0.5, 2.0], pixel_size=store.pixel_size)
    np.testing.assert_array_equal(curves, exact(labelled))


@pytest.mark.parametrize("form", ["name", "metric", "function", "lambda"])
def test_metrics_in_every_form(form, fields, tmp_path):
    given = {
        "name": "minkowski",
        "metric": emuloss.metric("minkowski", thresholds=[0.5], outputs=["area"]),
        "function": wetness,
        "lambda": lambda field: float(np.nanmax(field)),
    }[form]
    store = emuloss.label(fields=fields, metric=given, out=tmp_path / "labels.h5", progress=False)
    labelled, curves = store.split("test")
    expected = {
        "name": lambda: emuloss.metrics.metric_from_config(store.metric_config)(labelled),
        "metric": lambda: (labelled >= 0.5).sum((1, 2))[:, None, None],
        "function": lambda: np.array([wetness(field) for field in labelled])[:, None, None],
        "lambda": lambda: labelled.max((1, 2))[:, None, None],
    }[form]()
    np.testing.assert_allclose(curves, expected)


@pytest.mark.filterwarnings("ignore::emuloss.losses.UnfitWarning")
def test_a_function_becomes_a_loss(fields, tmp_path):
    surrogate = emuloss.train(fields=fields, metric=wetness, out=tmp_path, **SMALL)
    assert surrogate.architecture == "hybrid"
    assert surrogate.metric.title.endswith(":wetness")
    x = torch.from_numpy(fields[:4]).requires_grad_()
    loss = surrogate.as_loss()(x, torch.from_numpy(fields[4:8]))
    loss.backward()
    assert x.grad.abs().sum() > 0
    again = emuloss.load(tmp_path)  # the function is known in this process
    assert again.metric(fields[:2]).shape == (2, 1, 1)


def test_what_needs_no_training_is_frozen_and_evaluated(fields, tmp_path):
    surrogate = emuloss.train(
        fields=fields, metric="minkowski", thresholds=[0.5], out=tmp_path, progress=False
    )
    assert surrogate.architecture == "excursion"
    assert surrogate.evaluation["fidelity"]["fields"] > 0
    assert "fields_seen" not in surrogate.trained_on


def test_the_same_call_finds_its_labels_and_its_training(fields, tmp_path):
    call = functools.partial(emuloss.train, fields=fields, metric=wetness, out=tmp_path, **SMALL)
    first = call()
    stamps = {name: (tmp_path / name).stat().st_mtime_ns for name in ("labels.h5",)}
    second = call()
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in stamps} == stamps
    x = torch.from_numpy(fields[:2])
    assert torch.equal(first(x), second(x))
    with pytest.raises(ArgumentError, match="belongs to a run with other options"):
        call(learning_rate=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"feilds": "rain"}, "there is no option 'feilds' (did you mean 'fields'?); options are fields, "),
        ({"metric": "minkowsky"}, "unknown metric 'minkowsky' (did you mean 'minkowski'?); available: "),
        ({"arch": "perceptron"}, "unknown architecture 'perceptron'; available: "),
        ({"fields": 3}, "fields must be a source, "),
        ({"thresholds": [1.0], "quantiles": [0.5]}, "give either `thresholds` or `quantiles`"),
        ({"metric": wetness, "thresholds": [1.0]}, "takes no thresholds; leave `thresholds` out"),
        ({"minutes": -1}, "minutes must be a positive number, got -1"),
        ({"thresholds": np.array([2.0, 1.0])}, "thresholds must be strictly increasing, got 2 before 1"),
        ({"quantiles": [0.0, 0.5]}, "quantiles must lie strictly between 0 and 1"),
        ({"levels": [0.5]}, "levels must go with `thresholds`"),
        ({"metric_options": "size=3"}, "metric_options must be a mapping"),
        ({"penalty": "l2"}, "penalty must be one of none, one-sided, two-sided, jacobian, got 'l2'"),
        ({"spectral": "exact", "arch": "excursion"}, "spectral is no option of architecture 'excursion'"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_mistakes_cost_one_line(options, message, fields, tmp_path):
    given = {"fields": fields, "metric": "minkowski", "out": tmp_path, "progress": False} | options
    with pytest.raises(ArgumentError) as caught:
        emuloss.train(**given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["thresholds", "quantiles"])
def test_numpy_arrays_of_numbers(name, fields, tmp_path):
    store = emuloss.label(
        fields=fields, out=tmp_path / "labels.h5", progress=False, **{name: np.array([0.5, 0.9])}
    )
    assert len(store.thresholds) == 2


def test_a_function_without_a_name_has_a_title():
    assert Teacher(metric=functools.partial(wetness)).title == "partial"


def test_what_is_missing_is_named(fields):
    with pytest.raises(ArgumentError, match=r"^out is missing: folder of the run"):
        emuloss.train(fields=fields)


def test_labels_that_teach_nothing_are_refused(tmp_path):
    dry = np.zeros((48, 16, 16), np.float32)
    with pytest.raises(DataError, match=r"constant output: .* nothing to learn"):
        emuloss.train(fields=dry, metric="minkowski", thresholds=[1.0], out=tmp_path, progress=False)


def test_an_arguments_name_default_and_help_stand_once():
    parameters = inspect.signature(emuloss.train).parameters
    assert parameters["metric"].default == "minkowski"
    assert parameters["budget"].default is None
    assert parameters["out"].default is inspect.Parameter.empty
    documented = inspect.getdoc(emuloss.train)
    for name in parameters:
        assert f"    {name}: " in documented
    settings = (Data, Teacher, Network, Training, Run)
    assert all(kind.__doc__ for kind in settings)
    shared = set(parameters) & set(inspect.signature(emuloss.label).parameters)
    assert {"fields", "size", "metric", "thresholds", "test_chunks", "seed", "out"} <= shared
