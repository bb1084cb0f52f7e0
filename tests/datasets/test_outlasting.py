"""Labels outlast a change of what their values do not depend on, and what they depend on is named."""

import json
import shutil

import emuloss
import h5py
import numpy as np
import pytest
from emuloss.datasets import InMemory, LabelledFields, label
from emuloss.datasets.labels import assembly
from emuloss.errors import DataError
from emuloss.foundation.differences import first_difference

FUNCTIONS = """
def moments(field):
    return float(field.mean()), float(field.max())

def gap(prediction, observation):
    return float(abs(prediction - observation).mean())

def sized(field, pixel_size):
    return float(pixel_size * field.mean())
"""
FIELDS = np.random.default_rng(0).gamma(0.5, 2.0, (24, 8, 8)).astype(np.float32)
MINKOWSKI = {"thresholds": [0.5, 2.0], "pixel_size": 2.0, "outputs": ["area"]}
MOMENTS = {"outputs": ["mean", "max"], "units": ["mm/h", "mm/h"]}


@pytest.fixture
def metric(tmp_path):
    place = tmp_path / "functions.py"
    place.write_text(FUNCTIONS)
    return lambda name, **given: emuloss.metric(name if name == "minkowski" else f"{place}:{name}", **given)


def make(path, metric, **source):
    return label(InMemory(FIELDS, **source), metric, path, progress=False, workers=1)


CHANGES = [
    ("minkowski", MINKOWSKI, {"length_unit": "km"}),
    ("minkowski", MINKOWSKI, {"levels": [0.3, 0.4]}),
    ("moments", MOMENTS, {"units": ["mm", "inch"]}),
    ("moments", MOMENTS, {"outputs": ["average", "peak"]}),
    ("moments", MOMENTS, {"bounds": {"mean": (0, None)}, "scales": [1.0, 2.0], "invariant": True}),
    ("moments", MOMENTS, {"pixel_size": 3.0}),
    ("gap", {"arity": 2}, {"lower_better": True}),
    ("gap", {"arity": 2}, {"symmetric": True, "identity": 0.0}),
]


@pytest.mark.parametrize("old", [False, True], ids=["sealed", "of version 0.1.0"])
@pytest.mark.parametrize(("name", "given", "change"), CHANGES, ids=str)
def test_labels_outlast_what_only_describes_the_metric(
    metric, tmp_path, monkeypatch, name, given, change, old
):
    path = tmp_path / "labels.h5"
    before = make(path, metric(name, **given)).split("train")
    if old:
        without_seal(path)
    monkeypatch.setattr(InMemory, "read", None)  # nothing is labelled anew
    changed = metric(name, **(given | change))
    for store in (make(path, changed), LabelledFields(path)):
        assert store.metric_config == json.loads(json.dumps(changed.config()))
        assert (store.outputs, store.units) == (changed.outputs, changed.units)
        assert all(map(np.array_equal, store.split("train"), before))


def without_seal(path):
    with h5py.File(path) as there, h5py.File(path.with_suffix(".old"), "w") as here:
        for name in there:
            there.copy(name, here)
        here.attrs.update(there.attrs)
    path.with_suffix(".old").replace(path)


@pytest.mark.parametrize(
    "change", [{"unit": "K"}, {"pixel_size": 5.0}, {"quantum": 0.5}, {"length_unit": "km"}]
)
def test_labels_outlast_what_only_describes_the_fields(metric, tmp_path, monkeypatch, change):
    path = tmp_path / "labels.h5"
    make(path, metric("minkowski", **MINKOWSKI))
    monkeypatch.setattr(InMemory, "read", None)
    source = InMemory(FIELDS, **change)
    for store in (make(path, metric("minkowski", **MINKOWSKI), **change), LabelledFields(path)):
        assert (store.unit, store.pixel_size, store.quantum) == (
            source.unit,
            source.pixel_size,
            source.quantum,
        )


def test_parts_outlast_a_change_too(metric, tmp_path, monkeypatch):
    path = tmp_path / "labels.h5"

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(assembly, "read_part", interrupt)
        with pytest.raises(KeyboardInterrupt):
            make(path, metric("moments", **MOMENTS))
    monkeypatch.setattr(InMemory, "read", None)
    with pytest.raises(DataError, match=r"breaks its own constraints in \S*labels\.h5\.parts: mean <= 0\.1"):
        make(path, metric("moments", **MOMENTS, bounds={"mean": (None, 0.1)}))
    assert make(path, metric("moments", **MOMENTS | {"units": ["a", "b"]})).units == ("a", "b")


@pytest.mark.parametrize(
    ("name", "given", "change", "words"),
    [
        (
            "minkowski",
            MINKOWSKI,
            {"pixel_size": 3.0},
            r"metric\.arguments\.pixel_size is 2\.0 there and 3\.0 here",
        ),
        ("minkowski", MINKOWSKI, {"outputs": ["euler"]}, r'outputs is \["area"\] there and \["euler"\] here'),
        ("sized", {}, {"pixel_size": 3.0}, r"metric\.arguments\.pixel_size is 1\.0 there and 3\.0 here"),
        (
            "moments",
            MOMENTS,
            {"outputs": ["m"], "units": None, "levels": [0.2, 0.4]},
            r"arguments\.shape is ",
        ),
    ],
    ids=str,
)
def test_labels_of_other_values_name_what_differs_and_the_remedy(
    metric, tmp_path, name, given, change, words
):
    path = tmp_path / "labels.h5"
    make(path, metric(name, **given))
    with pytest.raises(DataError, match=words) as caught:
        make(path, metric(name, **(given | change)))
    assert str(caught.value).endswith("; choose another path or delete it.")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "given", "change", "words"),
    [
        ("moments", MOMENTS, {"bounds": {"mean": (None, 0.1)}}, r"mean <= 0\.1 \(100\.00% of the labels"),
        ("gap", {"arity": 2}, {"identity": 1.0}, r"m\(x, x\) = 1 \(in the first 2 pairs\)"),
    ],
)
def test_labels_that_break_what_is_declared_anew_are_refused(metric, tmp_path, name, given, change, words):
    path = tmp_path / "labels.h5"
    make(path, metric(name, **given))
    before = path.read_bytes()
    with pytest.raises(DataError, match=rf"breaks its own constraints in \S*labels\.h5: {words}"):
        make(path, metric(name, **(given | change)))
    assert path.read_bytes() == before


def test_a_folder_that_takes_nothing_keeps_the_old_description(metric, tmp_path, monkeypatch):
    path = tmp_path / "labels.h5"
    make(path, metric("moments", **MOMENTS))

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        with pytest.raises(DataError, match="is full"):
            make(path, metric("moments", **MOMENTS | {"units": ["a", "b"]}))
    assert LabelledFields(path).units == ("mm/h", "mm/h")


def test_the_first_difference_of_long_lists_is_shown():
    there, here = ["train"] * 40, ["train"] * 39 + ["test"]
    assert first_difference({"splits": there}, {"splits": here}) == (
        'splits is "train" there and "test" here, in place 39'
    )
    assert first_difference({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}) == "a.c is 2 there and null here"
    assert first_difference({"a": [1, {"b": 2}]}, {"a": [1, {"b": 2}]}) == ""
    assert len(first_difference("x" * 1000, "y")) < 120
