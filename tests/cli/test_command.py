"""The commands: whole small runs, going on after an interruption, and one line for every mistake."""

import csv
import dataclasses
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import emuloss
import h5py
import numpy as np
import pytest
import torch
from drawn import read_all
from emuloss import train_surrogate
from emuloss.cli import train
from emuloss.cli.main import main
from emuloss.datasets.labels.parts import read_part
from emuloss.emulators import ARCHITECTURES
from emuloss.evaluation import plan, summary_table
from emuloss.losses import Provenance, UnfitWarning
from emuloss.pipeline import measuring
from emuloss.zoo import Surrogate
from refusals import refusal

ROOT = Path(train_surrogate.__file__).resolve().parent
SCRIPT = ROOT / "train_surrogate.py"
PRODUCTS = [
    "README.md", "config.json", "evaluation.json", "golden.safetensors", "labels.h5", "log.csv",
    "model.safetensors", "report.png", "training.pt",
]  # fmt: skip
OF_TRAINING = {"log.csv", "training.pt"}


SMALL = """
import dataclasses, sys
from emuloss.cli import train
from emuloss.emulators import ARCHITECTURES
small = dataclasses.replace(ARCHITECTURES["constrained"], defaults={"widths": (8, 16), "hidden": 16})
ARCHITECTURES._things["constrained"] = small
"""


@pytest.fixture(scope="module", autouse=True)
def small_work():
    """Runs in this process train a small network and take few steps of descent; the script's own do not."""
    small = dataclasses.replace(ARCHITECTURES["constrained"], defaults={"widths": (8, 16), "hidden": 16})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES._things, "constrained", small)
        patch.setattr(plan, "EFFORTS", (plan.Effort(steps=10, slopes=5, repeats=1),))
        yield


def arguments(out, **options):
    """A whole run of a few seconds."""
    given = {
        "fields": "rain", "arch": "constrained", "count": 96, "size": 32, "minutes": 5, "budget": 32,
        "batch-size": 8, "precision": "float32", "thresholds": "0.105,0.5,1,5", "out": out,
    } | {name.replace("_", "-"): value for name, value in options.items()}  # fmt: skip
    return [*(f"--{name}={value}" for name, value in given.items() if value is not None), "--no-progress"]


def environment():
    return os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "0"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_work):
    """The folder of a finished run, which no test changes."""
    out = tmp_path_factory.mktemp("runs") / "deep" / "first"
    assert train.main(arguments(out)) == 0
    return out


def untimed(figures):
    return {name: value for name, value in figures.items() if name != "timing"}


# Whole runs


def test_a_run_leaves_everything(finished):
    assert sorted(path.name for path in finished.iterdir()) == PRODUCTS
    assert (finished / "report.png").read_bytes().startswith(b"\x89PNG")
    figures = json.loads((finished / "evaluation.json").read_text())
    assert set(figures["fidelity"]["outputs"]) == {"area", "perimeter", "euler"}
    assert set(figures["fidelity"]["violations"].values()) == {0.0}
    rows = list(csv.DictReader((finished / "log.csv").read_text().splitlines()))
    assert int(rows[-1]["fields"]) >= 32
    assert "R2" in (finished / "README.md").read_text()


def test_what_a_run_leaves_is_a_loss(finished):
    surrogate = emuloss.load(finished)
    assert surrogate.thresholds == (0.105, 0.5, 1.0, 5.0)
    assert surrogate.units == ("km^2", "km", "1")
    assert surrogate.metric.pixel_size == 2.0
    assert surrogate.provenance.unit == "mm/h"
    assert surrogate.provenance.field_shape == [32, 32]
    assert surrogate.trained_on["source"]["name"] == "rain"
    assert surrogate.trained_on["fields_seen"] >= 32
    assert surrogate.evaluation == json.loads((finished / "evaluation.json").read_text())
    prediction = torch.rand(2, 32, 32).requires_grad_()
    with pytest.warns(UnfitWarning):  # after 32 fields
        loss = surrogate.as_loss()
    loss(prediction, torch.rand(2, 32, 32)).backward()
    assert prediction.grad.isfinite().all()


def test_the_same_command_again_changes_no_figure(finished, capsys):
    before = json.loads((finished / "evaluation.json").read_text())
    weights = (finished / "model.safetensors").read_bytes()
    log = (finished / "log.csv").read_text()
    assert train.main(arguments(finished)) == 0
    assert "R2 mean" in capsys.readouterr().out
    assert untimed(json.loads((finished / "evaluation.json").read_text())) == untimed(before)
    assert (finished / "model.safetensors").read_bytes() == weights
    assert (finished / "log.csv").read_text() == log


def test_other_settings_in_the_same_folder(finished, capsys):
    assert "other" in refusal(capsys, train.main(arguments(finished, seed=1)))
    assert "other" in refusal(capsys, train.main(arguments(finished, learning_rate=0.1)))
    assert "other" in refusal(capsys, train.main(arguments(finished, thresholds="1,2")))


def test_levels_are_the_axis_of_integration(tmp_path, capsys):
    assert train.main(arguments(tmp_path, levels="0.1,0.4,0.7,0.9")) == 0
    capsys.readouterr()
    assert emuloss.load(tmp_path).metric.levels == (0.1, 0.4, 0.7, 0.9)


def test_thresholds_from_quantiles(tmp_path, capsys):
    options = {"thresholds": None, "quantiles": "0.2,0.5,0.9", "outputs": "area, euler", "length_unit": "mi"}
    assert train.main(arguments(tmp_path, **options)) == 0
    capsys.readouterr()
    surrogate = emuloss.load(tmp_path)
    assert surrogate.metric.levels == (0.2, 0.5, 0.9)
    assert surrogate.outputs == ("area", "euler")
    assert surrogate.units == ("mi^2", "1")
    steps = np.array(surrogate.thresholds) / 0.01
    np.testing.assert_allclose(steps - np.floor(steps), 0.5, atol=1e-6)  # between the data's steps


def write_composites(folder, count=12):
    """Small ODIM-HDF5 composites of rain, one a time step."""
    folder.mkdir()
    fields = emuloss.datasets.open_source("rain", count=count, size=64).read(0, "train")
    for k in range(count):
        with h5py.File(folder / f"{k:02d}.h5", "w") as file:
            file["dataset1/data1/data"] = fields[k % len(fields)].astype(np.float64)
            file["dataset1"].create_group("what").attrs.update(
                {"gain": 1.0, "offset": 0.0, "nodata": -1.0, "undetect": 0.0, "quantity": np.bytes_("RATE")}
            )
            file.create_group("what").attrs.update(
                {"date": np.bytes_("20180824"), "time": np.bytes_(f"{k:02d}0000")}
            )
            file.create_group("where").attrs.update({"xscale": 2000.0, "yscale": 2000.0})
    return folder


def test_radar_composites(tmp_path, capsys):
    folder = write_composites(tmp_path / "radar")
    options = {"fields": f"opera:{folder}", "count": None, "stride": 16, "test_chunks": 2, "gap_chunks": 1}
    assert train.main(arguments(tmp_path / "out", **options)) == 0
    captured = capsys.readouterr()
    assert "R2 mean" in captured.out
    surrogate = emuloss.load(tmp_path / "out")
    assert surrogate.metric.pixel_size == 2.0
    assert surrogate.trained_on["fields"] == {"train": 72, "validation": 4, "test": 8}


@pytest.mark.parametrize("arch", [None, "relaxed"])
def test_what_needs_no_training_is_evaluated_and_frozen(arch, tmp_path, capsys):
    outputs = ("area", "perimeter", "euler", "components", "holes")
    assert train.main(arguments(tmp_path, arch=arch, outputs=",".join(outputs))) == 0
    captured = capsys.readouterr()
    assert "R2 mean" in captured.out
    assert "training on" not in captured.err
    assert {path.name for path in tmp_path.iterdir()} == set(PRODUCTS) - OF_TRAINING
    surrogate = emuloss.load(tmp_path)
    assert surrogate.architecture == (arch or "excursion")
    assert surrogate.outputs == outputs
    assert "fields_seen" not in surrogate.trained_on
    assert surrogate.provenance.unit == "mm/h"
    figures = surrogate.evaluation["fidelity"]
    assert all(output["r2_mean"] > 0.95 for output in figures["outputs"].values())
    if surrogate.architecture == "excursion":
        assert set(figures["violations"].values()) == {0.0}
    assert surrogate.with_thresholds([1.0, 2.0])(torch.rand(1, 8, 8)).shape == (1, 5, 2)


def test_settings_of_the_network_and_of_its_gradients(tmp_path, capsys):
    options = {
        "spectral": "none", "isoperimetric": "textbook", "penalty": "one-sided", "penalty_weight": 0.5,
        "penalty_limit": 0.7, "sobolev": 0.25, "widths": "16,8",
    }  # fmt: skip
    assert train.main(arguments(tmp_path, **options)) == 0
    capsys.readouterr()
    built_with = emuloss.load(tmp_path).module.arguments()
    assert (built_with["spectral"], built_with["isoperimetric"]) == ("none", "textbook")
    assert built_with["widths"] == [16, 8]
    rows = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
    assert all(float(row["penalty"]) >= 0 and float(row["sobolev"]) >= 0 for row in rows)
    trained_with = torch.load(tmp_path / "training.pt", weights_only=True)["options"]
    for name, value in options.items():
        if name in trained_with:
            assert trained_with[name] == value
    assert "other" in refusal(capsys, train.main(arguments(tmp_path, **options | {"penalty": "none"})))


@pytest.mark.slow
def test_script_from_the_root_of_the_repository(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT.name, *arguments(tmp_path / "out")],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "R2 mean" in done.stdout
    assert [line for line in done.stderr.splitlines() if not line.startswith("emuloss: ")] == []
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == PRODUCTS


def test_script_shadows_no_other_package(tmp_path):
    """Run as a script, its folder leads the search path, and `datasets` there is not Hugging Face's."""
    code = f"""
import importlib.util, runpy, sys
sys.argv = [{str(SCRIPT)!r}, "--metric", "none", "--fields", "rain", "--out", "out"]
sys.path[0] = {str(ROOT)!r}
try:
    runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
except SystemExit as end:
    found = importlib.util.find_spec("datasets")
    print(end.code, found and found.origin)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=True
    )
    assert done.stdout.startswith("2 ")
    assert str(ROOT / "datasets") not in done.stdout
    assert done.stderr.startswith("error: unknown metric 'none'; available: betti-error, ")
    assert done.stderr.count("\n") == 1


# Mistakes


MISTAKES = {
    "metric": ({"metric": "minkowsky"}, "minkowsky"),
    "arch": ({"arch": "transformer"}, "transformer"),
    "spectral": ({"spectral": "svd"}, "spectral must be one of none, power, exact"),
    "spectral of what has no convolution": (
        {"spectral": "exact", "arch": "excursion"},
        "--spectral is no option",
    ),
    "isoperimetric": ({"isoperimetric": "best"}, "isoperimetric must be one of valid, textbook"),
    "isoperimetric of a relaxation": ({"isoperimetric": "valid", "arch": "relaxed"}, "--isoperimetric is no"),
    "widths": ({"widths": "16,-8"}, "--widths must be positive whole numbers"),
    "widths of no multiple of 8": ({"widths": "10"}, "widths must be positive multiples of 8"),
    "widths of a relaxation": ({"widths": "16", "arch": "relaxed"}, "--widths is no option"),
    "penalty": ({"penalty": "l2"}, "penalty must be one of none, one-sided"),
    "penalty weight": ({"penalty": "one-sided", "penalty_weight": -1}, "--penalty-weight must"),
    "penalty limit": ({"penalty": "one-sided", "penalty_limit": 0}, "--penalty-limit must"),
    "sobolev": ({"sobolev": -1}, "sobolev must be 0 or more"),
    "source": ({"fields": "hail"}, "hail"),
    "source without place": ({"fields": "opera"}, "opera"),
    "missing folder": ({"fields": "opera:/no/such/folder", "count": None}, "/no/such/folder"),
    "missing file": ({"fields": "missing.npy", "count": None, "size": None}, "missing.npy"),
    "option of another source": ({"stride": 8}, "stride"),
    "thresholds out of order": ({"thresholds": "1,0.5"}, "increasing"),
    "thresholds not numbers": ({"thresholds": "1,b"}, "thresholds"),
    "thresholds not finite": ({"thresholds": "1,inf"}, "thresholds"),
    "no thresholds": ({"thresholds": ""}, "thresholds"),
    "quantiles out of range": ({"thresholds": None, "quantiles": "0.5,1"}, "quantiles"),
    "quantiles out of order": ({"thresholds": None, "quantiles": "0.5,0.2"}, "quantiles"),
    "levels without thresholds": ({"thresholds": None, "levels": "0.2,0.5"}, "--thresholds"),
    "levels not matching": ({"levels": "0.2,0.5"}, "one by one"),
    "bounds": ({"bounds": "0.1,b"}, "--bounds"),
    "coverage of rain": ({"min_coverage": 0.5}, "min_coverage"),
    "thresholds and quantiles": ({"quantiles": "0.5"}, "either"),
    "outputs": ({"outputs": "area,volume"}, "volume"),
    "outputs, with quantiles": ({"outputs": "", "thresholds": None, "quantiles": "0.5"}, "outputs"),
    "fields smaller than the stride": ({"size": 2}, "the network's stride"),
    "size": ({"size": 0}, "size"),
    "size not a number": ({"size": "big"}, "--size"),
    "precision": ({"precision": "float16"}, "float16"),
    "minutes": ({"minutes": -1}, "minutes"),
    "minutes nan": ({"minutes": "nan"}, "minutes"),
    "budget": ({"budget": 0}, "fields"),
    "batch size": ({"batch_size": 0}, "--batch-size must"),
    "learning rate": ({"learning_rate": "inf"}, "--learning-rate must"),
    "seed": ({"seed": -1}, "seed"),
    "huge seed": ({"seed": 10**30}, "seed"),
    "count": ({"count": 0}, "count"),
    "too few fields": ({"count": 2}, "too few"),
    "too many test chunks": ({"test_chunks": 99}, "test"),
    "no test": ({"test_chunks": 0}, "test-chunks"),
    "unknown option": ({"colour": "red"}, "colour"),
    "missing option": ({"fields": None}, "--fields"),
    "missing out": ({"out": None}, "--out"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_cost_one_line(name, tmp_path, capsys, monkeypatch):
    options, word = MISTAKES[name]

    def read(*_):
        pytest.fail("fields were read before the mistake was found")

    monkeypatch.setattr(emuloss.datasets.Rain, "read", read)
    monkeypatch.chdir(tmp_path)
    status = train.main(arguments(**{"out": tmp_path / "out"} | options))
    assert word in refusal(capsys, status)
    assert not list(tmp_path.rglob("labels*"))


def test_unusable_radar_folders(tmp_path, capsys):
    def status():
        return train.main(arguments(tmp_path / "out", fields=f"opera:{folder}", count=None))

    folder = tmp_path / "empty"
    folder.mkdir()
    assert "no file" in refusal(capsys, status())
    (folder / "a.h5").write_text("no HDF5")
    assert "a.h5" in refusal(capsys, status())
    with h5py.File(folder / "a.h5", "w") as file:
        file["data"] = np.zeros((64, 64))
    assert "a.h5" in refusal(capsys, status())


def test_dry_data_have_no_quantiles(tmp_path, capsys):
    np.save(tmp_path / "dry.npy", np.zeros((24, 32, 32), np.float32))
    options = {"fields": tmp_path / "dry.npy", "count": None, "size": None, "thresholds": None}
    assert "too few distinct values" in refusal(capsys, train.main(arguments(tmp_path / "out", **options)))


def test_a_split_without_a_usable_field(tmp_path, capsys):
    folder = write_composites(tmp_path / "radar")
    for path in sorted(folder.iterdir())[-2:]:
        with h5py.File(path, "a") as file:
            file["dataset1/data1/data"][...] = -1.0  # no radar anywhere
    options = {"fields": f"opera:{folder}", "count": None, "test_chunks": 2, "gap_chunks": 0}
    assert "test" in refusal(capsys, train.main(arguments(tmp_path / "out", **options)))


def test_out_is_a_file(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert "--out" in refusal(capsys, train.main(arguments(tmp_path / "file")))
    assert "file" in refusal(capsys, train.main(arguments(tmp_path / "file" / "below")))
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("name", ["log.csv", "training.pt", "model.safetensors"])
def test_full_disk(name, tmp_path, capsys, monkeypatch):
    write = Path.write_bytes

    def full(path, content):
        if path.name.startswith(name):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        told = refusal(capsys, train.main(arguments(tmp_path)))
    assert "No space left" in told if name == "model.safetensors" else f"{name} is full" in told
    if name == "training.pt":  # once there is space again, the same command goes on
        assert train.main(arguments(tmp_path)) == 0


def test_disk_full_while_labelling(tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        assert "full" in refusal(capsys, train.main(arguments(tmp_path)))


@pytest.mark.parametrize("name", ["labels.h5", "training.pt"])
def test_damaged_state(name, tmp_path, capsys):
    (tmp_path / name).write_bytes(b"damaged")
    assert name in refusal(capsys, train.main(arguments(tmp_path)))


# Ctrl-C


def interrupted(out, ready, *program, **options):
    """Start a run, send it Ctrl-C once `ready` holds, and return its exit code and standard error."""
    child = subprocess.Popen(
        [sys.executable, *program, *arguments(out, **options)],
        cwd=out.parent, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not ready() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    try:
        _, err = child.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        raise
    return child.returncode, err


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_interrupt_while_training(tmp_path, capsys):
    out = tmp_path / "out"
    code, err = interrupted(
        out, (out / "log.csv").exists, "-c", SMALL + "sys.exit(train.main())", budget=60_000
    )
    assert code == 130, err
    assert "Traceback" not in err
    assert "run the same command again" in err
    assert (out / "training.pt").exists()
    curves = emuloss.load(out)(torch.rand(2, 32, 32))  # usable as it is
    assert curves.isfinite().all()

    # The same command goes on from there: made short by taking the state to be nearly done.
    state = torch.load(out / "training.pt", weights_only=True)
    done = state["counters"]["step"]
    assert 0 < done < 7500
    state["options"]["fields"] = 8 * (done + 2)
    torch.save(state, out / "training.pt")
    assert train.main(arguments(out, budget=8 * (done + 2))) == 0
    capsys.readouterr()
    assert emuloss.load(out).trained_on["fields_seen"] == 8 * (done + 2)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_interrupt_while_labelling(tmp_path):
    out = tmp_path / "out"
    parts = out / "labels.h5.parts"
    code, err = interrupted(
        out, lambda: len([*parts.glob("0*.part")]) > 1, str(SCRIPT), count=50_000, size=64
    )
    assert code == 130, err
    assert "Traceback" not in err
    kept = [*parts.glob("0*.part")]
    assert kept
    assert not (out / "labels.h5").exists()
    for path in kept:
        part = read_part(path, ["fields"], (64, 64))
        assert len(part.curves) == len(part.blocks["fields"]) > 0


# The emuloss command


def test_help_is_whole_and_light(capsys, tmp_path):
    for words in (
        ["--help"],
        ["train", "--help"],
        ["label", "--help"],
        ["show", "--help"],
        ["evaluate", "--help"],
    ):
        assert main(words) == 0
        assert "Usage" in capsys.readouterr().out
    assert train.main(["--help"]) == 0
    text = capsys.readouterr().out
    for option in (
        "--fields", "--out", "--metric", "--arch", "--thresholds", "--minutes", "--no-progress", "--spectral",
        "--isoperimetric", "--penalty", "--sobolev",
    ):  # fmt: skip
        assert option in text
    code = (
        "import sys; from emuloss.cli.main import main; main(['--help']); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)


def test_list(capsys):
    assert main(["list", "--metrics"]) == 0
    header, *rows, own = capsys.readouterr().out.splitlines()
    assert header.split() == ["metric", "arity", "outputs", "relaxation", "pretrained"]
    assert [row.split()[0] for row in rows] == emuloss.list_metrics()
    table = {row.split()[0]: row.split() for row in rows}
    assert table["minkowski"][1:] == ["1", "area,", "perimeter,", "euler", "yes", "yes"]
    assert table["betti-error"][1:] == ["2", "components,", "holes", "no", "no"]
    assert table["sal"][-2:] == ["amplitude", "no"]
    assert table["spectrum"][1:] == ["1", "power", "yes", "no"]
    assert "FILE.py:NAME" in own
    assert main(["list", "--metrics", "csi"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


# Any metric

FUNCTIONS = """
def peaks(field):
    return (field > 1).sum()

def above(field, thresholds):
    return [(field >= u).sum() for u in thresholds]

def difference(prediction, observation):
    return abs(prediction.mean() - observation.mean())

def constant(field):
    return 7

def fails(field):
    if (field > 0).mean() > 0.3:
        raise RuntimeError("too wet")
    return field.mean()
"""


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "mine.py").write_text(FUNCTIONS)
    return lambda name: f"{tmp_path / 'mine.py'}:{name}"


def labelled(out, metric, *options, fields="rain"):
    """Run the command that labels."""
    given = [f"--fields={fields}", "--count=48", "--size=16", "--no-progress"]
    return main(["label", *given, f"--metric={metric}", f"--out={out}", *options])


@pytest.mark.parametrize(
    ("metric", "options", "outputs", "points", "pairs"),
    [
        ("spectrum", ["--metric-option=bins=4"], ("power",), 4, False),
        ("spectrum", ["--metric-option=bins=4", "--outputs=anisotropy,power"], ("anisotropy", "power"),
         4, False),
        ("boxcount", ["--metric-option=scales=[1,4]", "--quantiles=0.2,0.8"],
         ("boxes_1", "boxes_4", "dimension"), 2, False),
        ("clusters", ["--outputs=mean,largest", "--thresholds=0.1,1", "--length-unit=mi"],
         ("mean", "largest"), 2, False),
        ("fss", ["--metric-option=windows=[1,3]", "--thresholds=0.1,1,5"], ("fss_1", "fss_3"), 3, True),
        ("sal", ["--metric-option=absolute=false"], ("structure", "amplitude", "location"), 1, True),
        ("peaks", ["--outputs=number", '--metric-option=bounds={"number": [0, null]}'],
         ("number",), 1, False),
        ("above", ["--quantiles=0.2,0.8"], ("above",), 2, False),
        ("difference", ["--metric-option=arity=2"], ("difference",), 1, True),
    ],
)  # fmt: skip
def test_labels_of_any_metric(metric, options, outputs, points, pairs, mine, tmp_path, capsys):
    spec = metric if metric in emuloss.list_metrics() else mine(metric)
    out = tmp_path / "deep" / "labels.h5"
    assert labelled(out, spec, *options) == 0
    kind = "pairs" if pairs else "fields"
    assert capsys.readouterr().out == (
        f"{out}: 36 train, 4 validation, 8 test {kind}; {', '.join(outputs)}\n"
    )
    store = emuloss.datasets.LabelledFields(out)
    fields, curves = store.split("train")
    assert (store.outputs, store.pairs) == (outputs, pairs)
    assert curves.shape == (36, len(outputs), points)
    teacher = emuloss.metrics.metric_from_config(store.metric_config)
    np.testing.assert_array_equal(teacher(*(fields.swapaxes(0, 1) if pairs else [fields])), curves)
    if metric == "clusters":
        assert store.units == ("mi^2", "mi^2")
    if metric == "peaks":
        assert [c.label for c in teacher.constraints] == ["number >= 0"]


def test_labels_of_other_code_are_others(mine, tmp_path, capsys):
    out = tmp_path / "labels.h5"
    assert labelled(out, mine("peaks")) == 0
    assert labelled(out, mine("peaks")) == 0
    capsys.readouterr()
    (tmp_path / "mine.py").write_text(FUNCTIONS.replace("field > 1", "field > 2 "))
    assert "was made for other work: code is" in refusal(capsys, labelled(out, mine("peaks")))


METRIC_MISTAKES = {
    "thresholds": ("spectrum", ["--thresholds=1"], "takes no thresholds; leave --thresholds out"),
    "quantiles": ("sal", ["--quantiles=0.5"], "takes no thresholds; leave --quantiles out"),
    "outputs": ("fss", ["--outputs=fss_1"], "takes no outputs; leave --outputs out"),
    "length unit": ("csi", ["--length-unit=km"], "takes no length_unit; leave --length-unit out"),
    "twice": ("csi", ["--outputs=csi", '--metric-option=outputs=["csi"]'], "is given by --outputs and"),
    "no option": ("fss", ["--metric-option=colour=1"], "unexpected keyword argument 'colour'; it takes"),
    "no value": ("fss", ["--metric-option=windows"], "must be KEY=VALUE"),
    "option twice": ("fss", ["--metric-option=windows=[1]"] * 2, "each KEY once"),
    "value": ("fss", ["--metric-option=windows=[1,2"], "windows must be"),
    "even window": ("fss", ["--metric-option=windows=[2]"], "windows must be odd"),
    "no function": ("gone", [], "has no function or class 'gone'"),
    "failing function": ("fails", [], "mine.py:fails raised RuntimeError: too wet"),
    "bounds of a function": ("peaks", ['--metric-option=bounds={"b": [0, 1]}'], "bounds must be"),
    "thresholds of a function": ("peaks", ["--quantiles=0.5"], "takes no thresholds"),
}


@pytest.mark.parametrize("name", METRIC_MISTAKES)
def test_mistakes_about_metrics_cost_one_line(name, mine, tmp_path, capsys):
    metric, options, words = METRIC_MISTAKES[name]
    spec = metric if metric in emuloss.list_metrics() else mine(metric)
    assert words in refusal(capsys, labelled(tmp_path / "labels.h5", spec, *options))
    assert not (tmp_path / "labels.h5").exists()
    assert "is a folder" in refusal(capsys, labelled(tmp_path, "sal"))


def test_a_constant_output(mine, tmp_path, capsys):
    assert labelled(tmp_path / "labels.h5", mine("constant")) == 0
    assert "warning: constant output: constant is the same for all 48 fields" in capsys.readouterr().err
    status = train.main(arguments(tmp_path / "out", metric=mine("constant"), thresholds=None))
    assert "constant output: " in refusal(capsys, status)
    assert not list(tmp_path.rglob("training.pt"))


def test_intensities_of_the_training_fields_stand_for_thresholds(tmp_path, capsys):
    words = arguments(tmp_path / "out", metric="spectrum", thresholds=None)
    assert train.main([*words, "--metric-option=bins=4"]) == 0
    capsys.readouterr()
    found = json.loads((tmp_path / "out" / "config.json").read_text())["architecture"]["arguments"][
        "intensities"
    ]
    fields, _ = emuloss.datasets.LabelledFields(tmp_path / "out" / "labels.h5").split("train")
    wet = fields[fields > fields.min()]
    assert len(found) == 7
    np.testing.assert_allclose(
        [(wet < value).mean() for value in found], [0.1, 0.5, 0.8, 0.92, 0.97, 0.99, 0.997], atol=0.02
    )


@pytest.mark.slow
def test_a_function_of_ones_own_becomes_a_loss(mine, tmp_path, capsys, monkeypatch):
    options = {"metric": mine("above"), "thresholds": None, "quantiles": "0.2,0.8"}
    words = arguments(tmp_path / "out", **options)
    declared = [
        '--metric-option=monotone={"above": "non-increasing"}',
        '--metric-option=bounds={"above": [0, null]}',
    ]
    assert train.main([*words, *declared]) == 0
    capsys.readouterr()
    for module in (emuloss.metrics.found, emuloss.metrics.functions):  # as in another process
        monkeypatch.setattr(module, "NAMED", {})
    surrogate = emuloss.load(tmp_path / "out")
    assert surrogate.metric.source == "mine.py:above"
    assert surrogate.metric.scales[0] > 1  # the size of its values, found in the labels
    assert set(surrogate.evaluation["fidelity"]["violations"].values()) == {0.0}
    prediction = torch.rand(2, 32, 32).requires_grad_()
    surrogate.as_loss()(prediction, torch.rand(2, 32, 32)).backward()
    assert prediction.grad.isfinite().all()
    with pytest.raises(emuloss.ArgumentError, match="is not loaded"):
        surrogate.metric(np.zeros((1, 32, 32)))
    emuloss.metric(mine("above"))
    assert surrogate.metric(np.zeros((1, 32, 32))).shape == (1, 1, 2)


def test_show(finished, capsys):
    assert main(["show", str(finished)]) == 0
    shown = capsys.readouterr().out
    assert "constrained" in shown
    assert "R2 mean" in shown


def test_show_what_was_not_evaluated(tmp_path, capsys):
    emuloss.relax(emuloss.metric("minkowski", thresholds=[1.0])).save_pretrained(tmp_path)
    assert main(["show", str(tmp_path)]) == 0
    assert "not evaluated" in capsys.readouterr().out


def test_certify(tmp_path, capsys):
    relaxed, network = tmp_path / "relaxed", tmp_path / "network"
    teacher = emuloss.metric("minkowski", thresholds=[1.0, 2.0])
    emuloss.relax(teacher).save_pretrained(relaxed)
    emuloss.Surrogate(ARCHITECTURES["constrained"](teacher), "constrained").save_pretrained(network)
    words = ["--count=2", "--steps=2"]
    assert main(["certify", str(relaxed), *words]) == 0
    shown = capsys.readouterr().out
    assert "global bound" in shown
    assert 0 < float(shown.split("share of the bound:")[1]) <= 1
    assert main(["certify", str(network), *words]) == 0
    shown = capsys.readouterr().out
    assert "no global bound: GroupNorm" in shown
    assert "largest slope found: " in shown
    assert "share of the bound" not in shown


def write_fields(path, count=1):
    """A file with small fields, by default one alone."""
    source = emuloss.datasets.Rain(count, size=32)
    np.save(path, read_all(source)[:count])
    return path


def save_relaxed(folder, **provenance):
    module = emuloss.relax(emuloss.metric("minkowski", thresholds=[0.5, 2.0])).module
    emuloss.Surrogate(module, "relaxed", Provenance(**provenance)).save_pretrained(folder)
    return folder


def test_evaluate(finished, tmp_path, capsys):
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    out = tmp_path / "deep" / "out"
    file = write_fields(tmp_path / "many.npy", 64)
    words = [f"--fields={file}", "--count=6", "--no-thorough", f"--out={out}", "--no-progress"]
    assert main(["evaluate", str(finished), *words]) == 0
    captured = capsys.readouterr()
    assert re.fullmatch(r"emuloss: evaluating on 6 fields: about \d+ (s|minutes)\n", captured.err)
    figures = json.loads((out / "evaluation.json").read_text())
    assert captured.out == summary_table(figures) + "\n"
    assert "R2 mean" in captured.out
    assert figures["fidelity"]["fields"] == 6
    assert figures["field_unit"] == "mm/h"  # the surrogate's: a file does not say its own
    assert not {"inversion", "shift"} & figures.keys()
    assert sorted(path.name for path in out.iterdir()) == ["evaluation.json", "report.png"]
    assert (out / "report.png").read_bytes().startswith(b"\x89PNG")
    # What was evaluated is left as it was.
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before


def test_evaluate_is_seeded(tmp_path, capsys):
    folder, file = save_relaxed(tmp_path / "relaxed"), write_fields(tmp_path / "some.npy", 2)
    found = []
    for name in ("first", "second"):
        words = ["--whole", "--no-thorough", "--seed=3", f"--out={tmp_path / name}", "--no-progress"]
        assert main(["evaluate", str(folder), f"--fields={file}", *words]) == 0
        found.append(untimed(json.loads((tmp_path / name / "evaluation.json").read_text())))
    capsys.readouterr()
    assert found[0] == found[1]


def test_one_field_of_a_file(tmp_path, capsys):
    folder, file = save_relaxed(tmp_path / "relaxed", unit="mm/h"), write_fields(tmp_path / "one.npy")
    words = [f"--fields={file}", "--whole", "--no-thorough", f"--out={tmp_path / 'out'}", "--no-progress"]
    assert main(["evaluate", str(folder), *words]) == 0
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["fidelity"]["fields"] == 1
    assert (tmp_path / "out" / "report.png").read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
    assert main(["certify", str(folder), f"--fields={file}", "--steps=1"]) == 0
    assert "for fields of 32 x 32" in capsys.readouterr().out


def test_evaluate_is_thorough_unless_told_otherwise(tmp_path, capsys, monkeypatch):
    given = []

    def stop(*_, **arguments):
        given.append(arguments["thorough"])
        raise emuloss.errors.DataError("enough")

    monkeypatch.setattr(measuring, "evaluate", stop)
    folder = str(save_relaxed(tmp_path / "relaxed"))
    for words in ([], ["--no-thorough"], ["--thorough"]):
        assert "enough" in refusal(capsys, main(["evaluate", folder, "--count=1", *words]))
    assert given == [True, False, True]


@pytest.mark.parametrize("command", ["evaluate", "certify"])
def test_fields_in_another_unit(command, tmp_path, capsys):
    folder = save_relaxed(tmp_path / "relaxed", unit="K")
    line = refusal(capsys, main([command, str(folder), "--fields=rain"]))
    assert line.startswith("error: --fields (='rain') come in mm/h, the surrogate takes K; ")


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["--count=0"], "count"), (["--fields=hail"], "hail"), (["--fields=missing.npy"], "missing.npy"),
        (["--seed=-1"], "seed"), (["--fields=one.npy"], "few"), (["--colour=red"], "colour"),
    ],
)  # fmt: skip
def test_mistakes_of_evaluate(words, word, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_fields(tmp_path / "one.npy")
    folder = save_relaxed(tmp_path / "relaxed")
    assert word in refusal(capsys, main(["evaluate", str(folder), "--no-thorough", *words]))


def test_evaluate_a_pairwise_surrogate(tmp_path, capsys):
    metric = emuloss.metric("fss", thresholds=[0.1, 1.0], windows=[1, 3])
    emuloss.relax(metric).save_pretrained(tmp_path / "fss")
    words = ["--count=8", "--quick", "--no-progress"]
    assert main(["evaluate", str(tmp_path / "fss"), *words]) == 0
    assert "fss_3" in capsys.readouterr().out
    assert main(["certify", str(tmp_path / "fss"), "--count=2", "--steps=2"]) == 0
    assert "largest slope found" in capsys.readouterr().out


def test_evaluate_a_surrogate_of_a_function(tmp_path, capsys):
    place = tmp_path / "peaks.py"
    place.write_text("def wet(field):\n    return float((field > 1).mean())\n")
    metric = emuloss.metric(f"{place}:wet", bounds={"wet": [0, 1]})
    torch.manual_seed(0)
    module = ARCHITECTURES["constrained"](metric, widths=(8, 16), hidden=16)
    Surrogate(module, "constrained").save_pretrained(tmp_path / "wet")
    words = [str(tmp_path / "wet"), "--count=8", "--quick", "--no-progress"]
    script = "import sys; from emuloss.cli.main import main; sys.exit(main(sys.argv[1:]))"
    # In a process of its own, where nobody has named the function.
    for options, code in (([], 2), ([f"--metric={place}:wet"], 0)):
        done = subprocess.run(
            [sys.executable, "-c", script, "evaluate", *words, *options],
            cwd=tmp_path, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        assert ("wet" in done.stdout) == (code == 0)


def test_evaluate_writes_where_it_can(tmp_path, capsys):
    folder, file = save_relaxed(tmp_path / "relaxed"), write_fields(tmp_path / "one.npy")
    words = [f"--fields={file}", "--whole", "--no-thorough", f"--out={file}", "--no-progress"]
    assert "one.npy" in refusal(capsys, main(["evaluate", str(folder), *words]))


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["bogus"], "bogus"), (["show"], "source"), (["show", "/no/such"], "/no/such"),
        (["list", "more"], "more"), (["train", "--fields", "rain"], "--out"), (["--bogus"], "--bogus"),
        (["certify"], "source"), (["certify", "/no/such"], "/no/such"),
        (["evaluate"], "source"), (["evaluate", "/no/such"], "/no/such"),
    ],
)  # fmt: skip
def test_mistakes_of_the_command(words, word, capsys):
    assert word in refusal(capsys, main(words)).lower()  # some versions of typer write SOURCE


def test_train_is_the_same_command(tmp_path, capsys):
    assert "minkowsky" in refusal(capsys, main(["train", *arguments(tmp_path / "out", metric="minkowsky")]))


def test_installed_command(tmp_path):
    script = Path(sys.executable).with_name("emuloss")
    if not script.exists():
        pytest.skip("the command is not installed beside this interpreter")
    done = subprocess.run([script, "list"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "minkowski" in done.stdout
    done = subprocess.run(
        [script, "show", "nowhere"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
