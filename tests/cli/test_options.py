"""What Python offers and commands take: arguments of sources and architectures, temperature, quick."""

import json

import emuloss
import numpy as np
import pytest
import torch
from drawn import rain_array
from emuloss.cli.main import main
from emuloss.datasets import LabelledFields
from emuloss.evaluation import plan
from emuloss.training import Training
from refusals import refusal


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(plan, "EFFORTS", (plan.Effort(steps=3, slopes=2, repeats=1),))


@pytest.fixture
def file(tmp_path):
    """Rain, and ten times as much, in one file."""
    rain = rain_array(48, 16, 16, seed=4)
    np.savez(tmp_path / "two.npz", rain=rain, snow=10 * rain)
    return tmp_path / "two.npz"


def label(file, *words):
    given = [f"--fields={file}", f"--out={file.parent / 'labels.h5'}", "--thresholds=1", "--no-progress"]
    return main(["label", *given, *words])


def test_a_variable_of_a_file_is_chosen(file, capsys):
    assert "variable" in refusal(capsys, label(file))
    assert label(file, "--source-option=variable=snow", "--source-option=quantum=0.1") == 0
    store = LabelledFields(file.parent / "labels.h5")
    assert store.quantum == 0.1
    labelled = np.concatenate([store.split(role)[0] for role in store.counts])
    assert np.isin(labelled, np.load(file)["snow"]).all()
    assert labelled.max() > np.load(file)["rain"].max()


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("7", 7), ("0.5", 0.5), ("null", None), ("None", None), ("true", True), ("True", True),
        ("rain", "rain"), ("*.h5", "*.h5"), ("[1, 2]", [1, 2]), ("(1, 2)", (1, 2)),
        ('"7"', "7"), ("a=b", "a=b"), ("tcp://host:1", "tcp://host:1"), ("[" * 500, "[" * 500),
        ("", ""), ('{"a": [0, null]}', {"a": [0, None]}),
    ],
)  # fmt: skip
def test_values_are_json_or_python_or_text(words, value):
    from emuloss.pipeline.parsing import key_values

    assert key_values("--any", [f"key={words}"]) == {"key": value}


@pytest.mark.parametrize("text", ["key", "=1", "2key=1", "key value"])
def test_what_is_no_pair_is_refused(text):
    from emuloss.pipeline.parsing import key_values

    with pytest.raises(emuloss.ArgumentError, match="--any must be KEY=VALUE"):
        key_values("--any", [text])


def test_a_quick_run_at_a_temperature(file, capsys):
    out = file.parent / "run"
    words = [f"--fields={file}", "--source-option=variable=rain", "--thresholds=0.5,2", f"--out={out}"]
    assert (
        main(["train", *words, "--arch=relaxed", "--temperature=0.11,0.2", "--quick", "--no-progress"]) == 0
    )
    shown = capsys.readouterr()
    assert "steps" not in shown.err
    surrogate = emuloss.load(out)
    assert surrogate.module.temperature == (0.11, 0.2)
    figures = json.loads((out / "evaluation.json").read_text())
    assert "descent" not in figures
    assert "gradients" not in figures
    assert (out / "report.png").stat().st_size > 0
    assert main(["show", str(out)]) == 0
    fields = torch.from_numpy(np.load(file)["rain"][:8])
    hot = surrogate(fields)
    surrogate.temperature = 0.05
    assert not torch.allclose(hot, surrogate(fields), rtol=1e-3)


def test_the_same_from_python(file, tmp_path):
    surrogate = emuloss.train(
        fields=file, source_options={"variable": "rain"}, thresholds=[0.5, 2.0], temperature=(0.11, 0.2),
        quick=True, out=tmp_path / "run", progress=False,
    )  # fmt: skip
    assert surrogate.module.temperature == (0.11, 0.2)
    assert "descent" not in surrogate.evaluation


def test_whole_settings_train_as_their_options_do(tmp_path):
    rain = rain_array(48, 16, 16, seed=4)
    call = {"fields": rain, "thresholds": [0.5, 2.0], "arch": "constrained", "quick": True, "progress": False}
    call |= {"arch_options": {"hidden": 16, "widths": [8, 16]}}
    settings = {"batch_size": 8, "precision": "float32", "learning_rate": 3e-3}
    flat = emuloss.train(out=tmp_path / "flat", budget=32, **settings, **call)
    whole = emuloss.train(
        out=tmp_path / "whole", training=Training(minutes=None, fields=32, **settings), **call
    )
    assert flat.module.arguments()["hidden"] == 16
    for one, other in zip(flat.parameters(), whole.parameters(), strict=True):
        assert np.array_equal(one.numpy(), other.numpy())


def test_evaluate_takes_options_of_the_source(file, tmp_path, capsys):
    emuloss.relax(emuloss.metric("minkowski", thresholds=[0.5, 2.0])).save_pretrained(tmp_path / "run")
    words = ["evaluate", str(tmp_path / "run"), f"--fields={file}", "--quick", "--whole", "--no-progress"]
    assert "variable" in refusal(capsys, main(words))
    out = tmp_path / "out"
    assert main([*words, "--source-option=variable=snow", f"--out={out}"]) == 0
    figures = json.loads((out / "evaluation.json").read_text())
    assert figures["fidelity"]["fields"] == 48
    assert "descent" not in figures
    assert "shift" not in figures
