"""Messages of wrong options: a command names flags, a Python call its arguments, and both what was meant."""

import emuloss
import numpy as np
import pytest
from emuloss.cli.flags import in_flags
from emuloss.cli.main import main
from emuloss.datasets import Rain
from emuloss.errors import EmulossError
from refusals import refusal

FLAGS = {"size": "--size", "batch_size": "--batch-size", "windows": "--metric-option windows"}


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("size must be positive", "--size must be positive"),
        ("size (=3) must be at least 4", "--size (=3) must be at least 4"),
        ("`size` (=3) needs `stride`", "--size (=3) needs `stride`"),
        ("batch_size must be 1", "--batch-size must be 1"),
        ("windows must be odd", "--metric-option windows must be odd"),
        ("give windows=[1], or leave `size` out", "give --metric-option windows=[1], or leave --size out"),
        # Words, names in quotes and parts of words stay.
        ("the size must be", "the size must be"),
        ("size 'x' is unknown", "size 'x' is unknown"),
        ("sizes must be", "sizes must be"),
        ("field.size= stays", "field.size= stays"),
        ("there is no option 'size'; but count", "there is no option 'size'; but count"),
    ],
)  # fmt: skip
def test_arguments_become_flags(message, told):
    assert in_flags(message, FLAGS) == told


MISTAKES = {
    "threshold and quantiles": ({"thresholds": [1.0], "quantiles": [0.5]}, ("`quantiles`", "--quantiles")),
    "levels alone": (
        {"levels": [0.5]},
        ("levels must go with `thresholds`", "--levels must go with --thresholds"),
    ),
    "no thresholds": (
        {"metric": "spectrum", "thresholds": [1.0]},
        ("leave `thresholds` out", "leave --thresholds out"),
    ),
    "twice": (
        {"outputs": ["area"], "metric_options": {"outputs": ["area"]}},
        ("by `outputs` and by `metric_options`", "by --outputs and by --metric-option"),
    ),
    "batch size": ({"batch_size": 0}, ("batch_size must be", "--batch-size must be")),
    "learning rate": ({"learning_rate": 0.0}, ("learning_rate must be", "--learning-rate must be")),
    "budget": ({"budget": 0}, ("budget of fields must be", "--budget of fields must be")),
    "precision": ({"precision": "half"}, ("precision must be one of", "--precision must be one of")),
    "size": ({"size": 0}, ("size must be", "--size must be")),
    "test chunks": ({"test_chunks": 0}, ("test_chunks (=0) must", "--test-chunks (=0) must")),
    "metric's own": (
        {"metric": "fss", "thresholds": [1.0], "metric_options": {"windows": [2]}},
        ("windows must be odd", "--metric-option windows must be odd"),
    ),
    "source's own": (
        {"source_options": {"quantum": -1}},
        ("quantum must be", "--source-option quantum must be"),
    ),
    "source's own, twice": (
        {"size": 16, "source_options": {"size": 16}},
        ("by `size` and by `source_options`", "by --size and by --source-option"),
    ),
    "no temperature": (
        {"arch": "constrained", "temperature": 0.1, "thresholds": [1.0]},
        ("temperature is no option of architecture", "--temperature is no option of architecture"),
    ),
    "no temperature of a relaxation": (
        {"arch": "relaxed", "metric": "spectrum", "temperature": 0.1},
        ("'spectrum' has no argument 'temperature'; it takes forward",) * 2,
    ),
    "temperature": (
        {"temperature": -1.0, "thresholds": [1.0]},
        ("temperature must be", "--temperature must be"),
    ),
    "architecture's own": (
        {"arch": "constrained", "arch_options": {"hidden": 0}, "thresholds": [1.0]},
        ("hidden must be", "--arch-option hidden must be"),
    ),
}  # fmt: skip


def words_of(options):
    """The words of a command line that mean the same as the options of a call."""
    many = {
        "metric_options": "metric-option",
        "source_options": "source-option",
        "arch_options": "arch-option",
    }
    words = []
    for name, value in options.items():
        if name in many:
            words += [f"--{many[name]}={key}={each}".replace("'", '"') for key, each in value.items()]
        else:
            shown = ",".join(map(str, value)) if isinstance(value, list) else value
            words.append(f"--{name.replace('_', '-')}={shown}")
    return words


@pytest.mark.parametrize("name", MISTAKES)
def test_each_caller_hears_of_his_own_options(name, tmp_path, capsys, monkeypatch):
    options, (in_python, in_command) = MISTAKES[name]
    monkeypatch.setattr(Rain, "read", lambda *_: pytest.fail("fields were read"))
    given = {"fields": "rain", "out": str(tmp_path / "out"), **options}
    with pytest.raises(EmulossError) as caught:
        emuloss.train(**given, progress=False)
    assert in_python in str(caught.value)
    assert "--" not in str(caught.value)
    line = refusal(capsys, main(["train", *words_of(given), "--no-progress"]))
    assert in_command in line
    assert "`" not in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["--metric=minkowsky"], "did you mean 'minkowski'?"),
        (["--arch=hybird"], "did you mean 'hybrid'?"),
        (["--source-option=quantun=1"], "quantum"),
        (["--arch=hybrid", "--arch-option=hiden=8"], "did you mean 'hidden'?"),
        (["--metric-option=pixelsize=1"], "did you mean 'pixel_size'?"),
        (["--thresold=1"], "--threshold"),
    ],
)
def test_what_was_meant_is_told(words, meant, tmp_path, capsys):
    given = ["train", "--fields=rain", f"--out={tmp_path / 'out'}", "--thresholds=1", *words]
    assert meant in refusal(capsys, main(given))


def test_what_was_meant_is_told_in_python(tmp_path):
    with pytest.raises(emuloss.ArgumentError, match=r"no option 'thresold' \(did you mean 'thresholds'\?\)"):
        emuloss.train(fields="rain", out=tmp_path, thresold=[1.0])
    with pytest.raises(emuloss.ArgumentError, match="unknown architecture"):
        emuloss.train(fields=np.zeros((40, 8, 8)), out=tmp_path, arch=["hybrid"])
