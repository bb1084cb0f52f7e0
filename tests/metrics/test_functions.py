"""Metrics of the user's own: functions by their place, registered classes, entry points of other packages."""

import copy
import importlib
import json
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import emuloss
import numpy as np
import pytest
from emuloss import metrics
from emuloss.errors import ArgumentError, DataError
from emuloss.foundation.workers import Workers
from emuloss.metrics import CSI, FieldError, FunctionMetric, Metric, metric_from_config, registry
from emuloss.metrics.constraints import AtLeast, AtMost, NonDecreasing, NonIncreasing

CODE = """
import numpy as np

def peaks(field):
    return int((field > 1).sum())

def both(field):
    return [field.max(), field.mean()]

def profile(field):
    return np.sort(field.ravel())[:: field.size // 4][None]

def above(field, thresholds):
    return [(field >= u).sum() for u in thresholds]

def above_km(field, thresholds, pixel_size):
    return np.array([[(field >= u).sum() * pixel_size**2 for u in thresholds], thresholds])

def greedy(field):
    field[:] = 0
    return field.sum()

def difference(prediction, observation):
    return abs(prediction.mean() - observation.mean())

def of_batch(fields):
    if (fields.max((1, 2)) > 50).any():
        raise ValueError("too wet")
    return fields.max((1, 2))
of_batch.batched = True

def of_batch_wrongly(fields):
    return fields.max()
of_batch_wrongly.batched = True

def raises(field):
    raise RuntimeError("a text\\nof two lines")

def raises_when_wet(field):
    if field.max() > 50:
        raise RuntimeError("too wet")
    return 1.0

def not_a_number(field):
    return np.nan if field.max() > 50 else 0.0

def infinite(field):
    return field.max() / np.float64(0) if False else np.inf

def text(field):
    return "seven"

def nothing(field):
    pass

def ragged(field):
    return [[1, 2], [3]]

def changing(field):
    return [1.0] * (3 if field.max() > 50 else 2)

def cube(field):
    return np.zeros((2, 2, 2))

anonymous = lambda field: field.sum()

class Kinds:
    @staticmethod
    def total(field):
        return field.sum()

number = 3
"""


@pytest.fixture
def place(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(CODE)
    return path


@pytest.fixture
def mine(place):
    """Builds the metric of a function in the file."""
    return lambda name, **arguments: emuloss.metric(f"{place}:{name}", **arguments)


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    """No function is known from another test, no class registered, and the packages offer no metric."""
    for module in (metrics.found, metrics.functions):
        monkeypatch.setattr(module, "NAMED", {})
    monkeypatch.setattr(registry.METRICS, "_things", dict(registry.METRICS._things))


@pytest.fixture
def fields():
    return np.random.default_rng(0).gamma(0.5, 2.0, (6, 8, 12)).astype(np.float32)


# What a function gives


def test_a_number(mine, fields):
    metric = mine("peaks")
    assert (metric.outputs, metric.units, metric.levels, metric.thresholds) == (
        ("peaks",),
        ("1",),
        (0.5,),
        (),
    )
    np.testing.assert_array_equal(metric(fields)[:, 0, 0], (fields > 1).sum((1, 2)))
    assert metric(fields).dtype == np.float64
    assert metric(fields[:0]).shape == (0, 1, 1)


@pytest.mark.parametrize(
    ("name", "given", "outputs", "points"),
    [
        ("peaks", {}, ("peaks",), 1),
        ("both", {}, ("both_1", "both_2"), 1),
        ("both", {"outputs": ("wettest", "mean")}, ("wettest", "mean"), 1),
        ("both", {"outputs": ("pair",)}, ("pair",), 2),
        ("both", {"levels": (0.2, 0.8)}, ("both",), 2),
        ("profile", {}, ("profile",), 4),
        ("above", {"thresholds": (0.5, 1.0, 2.0)}, ("above",), 3),
        ("above_km", {"thresholds": (0.5, 1.0), "pixel_size": 2.0}, ("above_km_1", "above_km_2"), 2),
        ("above", {"quantiles": (0.1, 0.5, 0.9)}, ("above",), 3),
        ("of_batch", {}, ("of_batch",), 1),
        ("anonymous", {}, ("anonymous",), 1),
        ("Kinds.total", {}, ("total",), 1),
        ("difference", {"arity": 2}, ("difference",), 1),
    ],
)
def test_outputs_and_levels_are_found(mine, fields, name, given, outputs, points):
    metric = mine(name, fields=fields, **given)
    assert metric.outputs == outputs
    assert len(metric.levels) == points
    curves = metric(*[fields] * metric.arity)
    assert curves.shape == (6, len(outputs), points)
    again = metric_from_config(json.loads(json.dumps(metric.config())))
    assert again == metric
    np.testing.assert_array_equal(again(*[fields] * metric.arity), curves)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(metric))(*[fields] * metric.arity), curves)
    assert copy.deepcopy(metric) == metric


def test_thresholds_and_pixel_size_are_passed(mine, fields):
    metric = mine("above_km", fields=fields, thresholds=(0.5, 1.0), pixel_size=2.0)
    np.testing.assert_array_equal(metric(fields)[:, 0, 1], 4 * (fields >= 1).sum((1, 2)))
    np.testing.assert_array_equal(metric(fields)[:, 1], np.tile([0.5, 1.0], (6, 1)))
    quantiles = mine("above", fields=fields, quantiles=(0.1, 0.5))
    assert quantiles.levels == (0.1, 0.5)
    assert quantiles.thresholds == emuloss.metrics.quantile_thresholds(fields, (0.1, 0.5))
    with pytest.raises(ArgumentError, match="has no thresholds; leave quantiles= out"):
        mine("peaks", fields=fields, quantiles=(0.1, 0.5))


def test_pairs(mine, fields):
    metric = mine("difference", arity=2, symmetric=True, identity=0, lower_better=True)
    other = fields[::-1]
    expected = np.abs(fields.mean((1, 2)) - other.mean((1, 2)))
    np.testing.assert_allclose(metric(fields, other)[:, 0, 0], expected)
    assert metric.check_pairs(fields, other) == {"symmetric": 0.0, "m(x, x) = 0": 0.0}
    assert (metric.arity, metric.lower_better) == (2, True)


def test_a_function_may_change_its_field(mine, fields):
    before = fields.copy()
    assert (mine("greedy")(fields) == 0).all()
    np.testing.assert_array_equal(fields, before)


def test_declared_constraints(mine):
    metric = mine(
        "both",
        outputs=("a", "b"),
        levels=(1, 2, 3),
        bounds={"a": (0, None), "b": [-1, 5.5]},
        monotone={"a": "non-increasing", "b": "non-decreasing"},
        scales=(1, 20.0),
    )
    assert [type(c) for c in metric.constraints] == [NonIncreasing, NonDecreasing, AtLeast, AtLeast, AtMost]
    assert [c.label for c in metric.constraints[2:]] == ["a >= 0", "b >= -1", "b <= 5.5"]
    curves = np.array([[[3.0, 2, 2], [0, 1, 5.5]], [[3, 4, -1], [0, 6, 5]]])
    assert set(metric.check(curves[:1]).values()) == {0.0}
    assert metric.check(curves) == pytest.approx(
        {
            "a non-increasing": 1 / 6, "b non-decreasing": 1 / 6, "a >= 0": 1 / 6, "b >= -1": 0,
            "b <= 5.5": 1 / 6,
        }
    )  # fmt: skip
    again = metric_from_config(json.loads(json.dumps(metric.config())))
    assert again == metric
    assert again.check(curves) == metric.check(curves)
    assert again.scales == (1.0, 20.0)


def test_scales_are_found_where_none_are_given(mine, fields):
    metric = mine("peaks")
    scaled = metric.with_found_scales(lambda: (20.0,))
    assert (metric.scales, scaled.scales) == ((1.0,), (20.0,))
    assert scaled.with_found_scales(lambda: (3.0,)) is scaled
    assert scaled != metric
    np.testing.assert_array_equal(scaled(fields), metric(fields))


# A configuration chooses no code


def test_a_configuration_runs_nothing(place, fields, tmp_path, monkeypatch):
    touched = tmp_path / "touched"
    (tmp_path / "evil.py").write_text(
        f"import pathlib\npathlib.Path({str(touched)!r}).touch()\ndef f(field): return 0.0\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for source in ("evil:f", "evil.py:f", f"{tmp_path}/evil.py:f"):
        config = {"name": "function", "arguments": {"source": source, "outputs": ["f"]}}
        metric = metric_from_config(config)
        assert (metric.name, metric.outputs, metric.config()["arguments"]["source"]) == (
            "function", ("f",), source,
        )  # fmt: skip
        assert pickle.loads(pickle.dumps(metric)) == metric
        for use in (lambda m=metric: m(fields), lambda m=metric: m.code):
            with pytest.raises(ArgumentError, match=r"is not loaded.*name it first: emuloss\.metric\('"):
                use()
        for name in (source, "evil", "os:system", "os.path"):
            with pytest.raises(ArgumentError, match="unknown metric"):
                metric_from_config({"name": name, "arguments": {}})
    assert not touched.exists()
    assert "evil" not in sys.modules

    # The user's own call does it, for the configurations before and after it, but for those functions alone.
    early = metric_from_config({"name": "function", "arguments": {"source": "evil.py:f", "outputs": ["f"]}})
    emuloss.metric(f"{tmp_path}/evil.py:f")
    assert touched.exists()
    assert (early(fields) == 0).all()
    other = metric_from_config({"name": "function", "arguments": {"source": "evil.py:g", "outputs": ["g"]}})
    with pytest.raises(ArgumentError, match="is not loaded"):
        other(fields)


def test_no_folder_of_one_machine_in_a_configuration(mine, place):
    text = json.dumps(mine("peaks").config())
    assert '"mine.py:peaks"' in text
    assert place.parent.name not in text


def test_a_module(place, fields, monkeypatch):
    monkeypatch.syspath_prepend(place.parent)
    metric = emuloss.metric("mine:peaks")
    assert metric.source == "mine:peaks"
    assert (metric(fields) > 0).any()
    sys.modules.pop("mine")


def test_a_module_in_the_working_directory(place, fields, monkeypatch):
    monkeypatch.chdir(place.parent)
    metric = emuloss.metric("mine:peaks")
    assert metric.source == "mine:peaks"
    monkeypatch.chdir("/")
    assert pickle.loads(pickle.dumps(metric))(fields).shape == (6, 1, 1)
    assert "mine" not in sys.modules


def test_a_file_that_imports_its_neighbour(tmp_path, fields):
    (tmp_path / "neighbour_of_mine.py").write_text("def count(field): return (field > 1).sum()\n")
    (tmp_path / "uses.py").write_text("from neighbour_of_mine import count\n")
    assert emuloss.metric(f"{tmp_path}/uses.py:count")(fields).shape == (6, 1, 1)


_MAKERS = """
def above(limit, names=()):
    def share(field, _=frozenset(names)):
        return (field > limit).mean()
    return share

def nested(limit):
    helper = lambda field: field > limit
    def share(field, depth=0):
        return share(field, 1) if depth == 0 else helper(field).mean()
    return share

class Limit:
    def __init__(self, limit):
        self.limit = limit
    def share(self, field):
        return (field > self.limit).mean()
"""


def made_of(limit):
    """Functions that no other process finds, by what they hold."""
    names = {}
    exec(_MAKERS, names)
    table = np.array([limit])
    return [
        names["above"](limit),
        names["above"](1.0, ["a", "b", str(limit)]),
        names["nested"](limit),
        names["Limit"](limit).share,
        lambda field: (field > table).mean(),
    ]


def test_what_a_function_holds_tells_it_from_others():
    """Two closures have one text; labels of one are not those of the other, but those of its like."""
    first, again, other = (
        [emuloss.metric(each).code for each in made_of(limit)] for limit in (1.0, 1.0, 3.0)
    )
    assert first == again
    assert all(one != another for one, another in zip(first, other, strict=True))


def test_what_a_function_holds_is_told_alike_in_every_process(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        f"exec({_MAKERS!r})\nimport emuloss\n"
        "for each in (above(1.0, ['a', 'b', 'c', 'd']), nested(1.0), Limit(1.0).share):\n"
        "    print(emuloss.metric(each, outputs=['share']).code)\n"
    )
    told = {
        subprocess.run(
            [sys.executable, str(script)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1
    assert len(set(told.pop().split())) == 3


def test_what_nobody_can_tell_is_the_same_in_one_process_alone():
    lock = threading.Lock()
    codes = [emuloss.metric(lambda field: 0.0 * lock.locked()).code for _ in range(2)]
    assert codes[0] != codes[1]
    metric = emuloss.metric(lambda field: 0.0 * lock.locked())
    assert metric.code == metric.code


def test_a_file_that_changes(mine, place, fields):
    before, digest = mine("peaks")(fields), mine("peaks").code
    assert digest == mine("peaks").code
    place.write_text(CODE.replace("field > 1", "field > 0.01") + "\n\n")
    assert (mine("peaks")(fields) > before).any()
    assert mine("peaks").code != digest


# Faults, each one line


@pytest.mark.parametrize(
    ("name", "index", "reason"),
    [
        ("raises", 0, r"mine\.py:raises raised RuntimeError: a text of two lines"),
        ("raises_when_wet", 4, r"mine\.py:raises_when_wet raised RuntimeError: too wet"),
        ("of_batch", 4, r"mine\.py:of_batch raised ValueError: too wet"),
        ("of_batch_wrongly", 0, r"is batched and gave shape \(\) for 6 fields"),
        ("not_a_number", 4, "gave nan; give a finite number for every field, dry ones too"),
        ("infinite", 0, "gave inf; give a finite number"),
        ("text", 0, "gave str that holds no real numbers"),
        ("nothing", 0, "gave NoneType that holds no real numbers"),
        ("ragged", 0, "gave list that holds no real numbers"),
        ("both", 0, r"gave shape \(2,\), where 1 x 1 values"),
    ],
)
def test_what_a_function_does_wrong(mine, fields, name, index, reason):
    fields[4, 2, 2] = 99
    metric = mine(name)
    with pytest.raises(FieldError, match=rf"^field {index}: [^\n]*{reason}[^\n]*$") as caught:
        metric(fields)
    assert caught.value.index == index
    assert isinstance(caught.value, DataError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    with Workers(metric, 2, "peaks") as processes, pytest.raises(FieldError) as elsewhere:
        processes(fields)
    if name != "of_batch_wrongly":  # which speaks of its batch, here a smaller one
        assert str(elsewhere.value) == str(caught.value)


def test_a_function_of_two_arrays_says_how_it_can_have_them(mine, fields):
    with pytest.raises(FieldError, match=r"^field 0: [^\n]*missing 1 required[^\n]*; [^\n]* give arity=2 "):
        mine("difference", fields=fields)
    named = mine("difference")  # which is how a checkpoint of it is made usable
    with pytest.raises(FieldError, match="give arity=2"):
        named(fields)
    assert mine("difference", arity=2)(fields, fields).shape == (6, 1, 1)


def test_another_shape_for_another_field(mine, fields):
    fields[4, 2, 2] = 99
    metric = mine("changing", fields=fields[:2])
    with pytest.raises(FieldError, match=r"^field 4: .* gave shape \(3,\), where 2 x 1 values"):
        metric(fields)


@pytest.mark.parametrize("name", ["raises", "infinite", "text", "cube", "ragged"])
def test_faults_are_met_when_the_shape_is_found(mine, fields, name):
    with pytest.raises(FieldError, match=r"^field 0: [^\n]+$"):
        mine(name, fields=fields)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mine.py:peeks", "has no function or class 'peeks'; it has peaks, both, profile.* mean 'peaks'"),
        ("mine.py:number", "has no function or class 'number'"),
        ("mine.py:peaks.x", "has no function or class 'peaks.x'"),
        ("mine.py:", "must be 'module:function' or"),
        (":peaks", "must be 'module:function' or"),
        ("mine.py:a-b", "must be 'module:function' or"),
        ("folder/mine:peaks", "must be 'module:function' or"),
        ("/folder/mine:peaks", "must be 'module:function' or"),
        (".mine:peaks", "must be 'module:function' or"),
        ("yours.py:peaks", "yours.py does not exist"),
        ("broken.py:peaks", "broken.py cannot be run: SyntaxError"),
        ("fails.py:peaks", "fails.py cannot be run: ZeroDivisionError: division by zero"),
        ("exits.py:peaks", "exits.py cannot be run: SystemExit"),
        ("needs.py:peaks", "needs.py cannot be run: ModuleNotFoundError: No module named 'not_there'"),
        ("not_there.sub:peaks", "there is no module 'not_there.sub'"),
        ("json.nothing:peaks", "there is no module 'json.nothing'"),
        ("needs:peaks", "No module named 'not_there'"),
        ("__main__:peaks", "worker processes cannot import __main__"),
        ("nothing", "unknown metric 'nothing'; available: betti-error, boxcount, .* or your own function"),
        (3, "is given by its name, by a function, or by the place of one"),
        (CSI, "is given by its name, by a function, or by the place of one"),
    ],
)
def test_functions_that_are_not_there(place, spec, message, monkeypatch):
    monkeypatch.chdir(place.parent)
    for name, code in (
        ("broken", "def f(:"), ("fails", "1 / 0"), ("exits", "raise SystemExit"),
        ("needs", "import not_there"),
    ):  # fmt: skip
        Path(f"{name}.py").write_text(code)
    with pytest.raises(ArgumentError, match=message) as caught:
        emuloss.metric(spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"outputs": ()}, "outputs must be distinct names"),
        ({"outputs": "peaks"}, "outputs must be distinct names"),
        ({"outputs": ("a", "a")}, "outputs must be distinct names"),
        ({"units": ("1", "2")}, "units must match the 1 outputs"),
        ({"units": (1,)}, "each of units must be a string"),
        ({"levels": (2, 1)}, "levels must be strictly increasing"),
        ({"thresholds": (1, 2), "levels": (1,)}, "levels must match"),
        ({"pixel_size": 0}, "pixel_size must be a positive number"),
        ({"arity": 3}, "arity must be 1"),
        ({"batched": 1}, "batched must be True or False"),
        ({"symmetric": True}, "are for functions of arity 2"),
        ({"identity": 1.0}, "are for functions of arity 2"),
        ({"identity": float("nan"), "arity": 2}, "identity must be a finite number"),
        ({"lower_better": "yes", "arity": 2}, "lower_better must be"),
        ({"bounds": {"b": (0, 1)}}, "bounds must be"),
        ({"bounds": {"peaks": (1, 0)}}, "bounds must be"),
        ({"bounds": {"peaks": 1}}, "bounds must be"),
        ({"bounds": [("peaks", 0, 1), ("peaks", 0, 1)]}, "bounds must be"),
        ({"bounds": {"peaks": ("0", 1)}}, "each bound must be a finite number"),
        ({"monotone": {"peaks": "up"}}, "monotone must be"),
        ({"monotone": {"b": "non-increasing"}}, "monotone must be"),
        ({"monotone": "non-increasing"}, "monotone must be"),
        ({"scales": (1, 2)}, "scales must match the 1 outputs"),
        ({"scales": (0,)}, "each of scales must be a positive number"),
        ({"colour": "red"}, "has no argument 'colour'; it takes outputs, units"),
        ({"fields": np.zeros((0, 4, 4))}, "fields must have shape"),
    ],
)
def test_arguments_out_of_range(mine, arguments, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        mine("peaks", **arguments)
    assert "\n" not in str(caught.value)


def test_a_source_that_is_no_place():
    with pytest.raises(ArgumentError, match="source must be"):
        FunctionMetric("peaks", ("a",))


# Worker processes


def test_processes_give_what_the_metric_gives(mine, fields):
    for metric in (mine("both", fields=fields), mine("of_batch"), CSI([0.5])):
        given = [fields, fields[::-1]][: metric.arity]
        with Workers(metric, 2, "a metric") as processes:
            np.testing.assert_array_equal(processes(*given), metric(*given))
            np.testing.assert_array_equal(processes(*(each[:1] for each in given)), metric(*given)[:1])
            assert processes(*(each[:0] for each in given)).shape[0] == 0


def test_an_unloaded_function_in_processes(fields):
    metric = FunctionMetric("nowhere.py:f", ("f",))
    with Workers(metric, 1, "f") as processes, pytest.raises(DataError, match="is not loaded"):
        processes(fields)


def test_processes_of_a_script_without_a_guard(place, tmp_path):
    code = (
        "import emuloss, numpy as np; from emuloss.foundation.workers import Workers\n"
        "print('once')\n"
        f"metric = emuloss.metric({f'{place}:peaks'!r})\n"
        "with Workers(metric, 2, 'peaks') as processes: print(processes(np.ones((3, 4, 4))).sum())"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    for command in (["-c", code], [str(script)]):
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert done.stdout == "once\n0.0\n"


def test_a_class_of_a_script(tmp_path):
    code = """
import emuloss, numpy as np
from emuloss.metrics import CSI
from emuloss.foundation.workers import Workers
class Here(CSI):
    parallel = "processes"
try:
    with Workers(Here([1.0]), 1, "metric 'csi'") as processes: processes(*np.ones((2, 3, 4, 4)))
except emuloss.ArgumentError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("metric 'csi' cannot be sent to worker processes (")
    assert "define it in a module or a file" in done.stdout
    assert done.stderr == ""


# Names


def rainiest(name="rainiest"):
    class Rainiest(Metric):
        """The wettest pixel."""

        outputs, units, thresholds, levels, pixel_size = ("rain",), ("mm/h",), (), (0.5,), 1.0
        constraints = ()

        def arguments(self):
            return {}

        def _compute(self, fields):
            return np.nanmax(fields, (1, 2))[:, None, None]

    if name is not None:
        Rainiest.name = name
    return Rainiest


def test_register(fields):
    cls = rainiest()
    assert emuloss.register(cls) is cls
    assert "rainiest" in emuloss.list_metrics()
    metric = emuloss.metric("rainiest")
    assert type(metric_from_config(metric.config())) is cls
    assert metric(fields).shape == (6, 1, 1)
    assert emuloss.register(rainiest()) is not cls  # a cell that runs again
    with pytest.raises(ArgumentError, match="unexpected keyword argument 'size'; it takes"):
        emuloss.metric("rainiest", size=3)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (
            rainiest("minkowski"),
            r"metric name 'minkowski' of .*Rainiest is taken by .*Minkowski; choose",
        ),
        (rainiest("function"), "is taken by .*FunctionMetric"),
        (rainiest("a:b"), "needs a class attribute name, text without a colon, got 'a:b'"),
        (rainiest(""), "needs a class attribute name"),
        (rainiest(None), "needs a class attribute name"),
        (rainiest(3), "needs a class attribute name"),
        (dict, "takes a subclass of emuloss.Metric"),
        (CSI([1.0]), "takes a subclass of emuloss.Metric"),
    ],
)
def test_classes_that_cannot_be_registered(cls, message):
    with pytest.raises(ArgumentError, match=message):
        emuloss.register(cls)


@pytest.fixture
def offer(tmp_path, monkeypatch):
    """Installs a package that offers metrics."""

    def install(package, points, code):
        (tmp_path / f"{package}.py").write_text(code)
        about = tmp_path / f"{package}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = "\n".join(f"{name} = {value}" for name, value in points.items())
        (about / "entry_points.txt").write_text(f"[emuloss.metrics]\n{lines}\n")
        importlib.invalidate_caches()

    monkeypatch.syspath_prepend(tmp_path)
    yield install
    for name in ("offers_one", "offers_two"):
        sys.modules.pop(name, None)


OFFERED = """
from emuloss.metrics import CSI
class Offered(CSI):
    name = "offered"
"""


def test_entry_points(offer):
    offer("offers_one", {"offered": "offers_one:Offered", "csi": "offers_one:Offered"}, OFFERED)
    assert "offered" in emuloss.list_metrics()
    assert emuloss.metric("csi", thresholds=[1.0]).__class__ is CSI
    assert "offers_one" not in sys.modules  # looked at only where a name is not known
    metric = emuloss.metric("offered", thresholds=[1.0])
    assert type(metric).__module__ == "offers_one"
    assert metric_from_config(metric.config()) == metric


def test_two_packages_that_offer_one_name(offer):
    offer("offers_one", {"offered": "offers_one:Offered"}, OFFERED)
    offer("offers_two", {"offered": "offers_two:Offered"}, OFFERED)
    with pytest.raises(
        ArgumentError, match=r"'offered' is offered by 'offers_\w+' .* and .*uninstall all but one"
    ):
        emuloss.metric("offered", thresholds=[1.0])


@pytest.mark.parametrize(
    ("value", "code", "message"),
    [
        ("offers_one:Offered", "1 / 0", "cannot be loaded: ZeroDivisionError: division by zero; repair"),
        ("offers_one:Gone", OFFERED, "cannot be loaded: AttributeError"),
        ("offers_gone:Offered", OFFERED, "cannot be loaded: ModuleNotFoundError"),
        ("offers_one:CSI", OFFERED, "is no subclass of emuloss.Metric with that name"),
        ("offers_one:f", "def f(): pass", "is no subclass of emuloss.Metric with that name"),
    ],
)
def test_broken_entry_points(offer, value, code, message):
    offer("offers_one", {"offered": value}, code)
    with pytest.raises(ArgumentError, match=rf"^metric 'offered' of package 'offers_one' [^\n]*{message}"):
        emuloss.metric("offered", thresholds=[1.0])
    assert emuloss.metric("csi", thresholds=[1.0]).name == "csi"


def test_every_metric_says_what_it_takes():
    for name in emuloss.list_metrics():
        takes = metrics.takes(name)
        given = {"thresholds": [0.5, 1.0]} if "thresholds" in takes else {}
        metric = emuloss.metric(name, **given)
        # What came later is left out where it is as in all earlier definitions.
        later = {
            "spectrum": {"outputs"},
            "minkowski": {"spacing", "row_weights", "persistence"},
            "fss": {"percentiles"},
        }
        assert set(takes) - set(metric.arguments()) == later.get(name, set())
        assert set(metric.arguments()) <= set(takes)
        assert metric_from_config(json.loads(json.dumps(metric.config()))) == metric
        assert len(metric.units) == len(metric.outputs)
    with pytest.raises(ArgumentError, match="'spectrum' has no thresholds"):
        emuloss.metric("spectrum", quantiles=(0.5,), fields=np.ones((1, 4, 4)))
