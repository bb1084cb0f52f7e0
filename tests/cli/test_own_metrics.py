"""A metric that is a class in a file: named on the command line, in worker processes, and relaxed."""

import subprocess
import sys
from pathlib import Path

import emuloss
import numpy as np
import pytest
from emuloss import train_surrogate
from emuloss.cli.main import main
from emuloss.datasets import LabelledFields
from emuloss.evaluation import plan
from refusals import refusal

CONTRIBUTING = Path(train_surrogate.__file__).with_name("CONTRIBUTING.md").read_text()
RELAXED = """
from emuloss.emulators.relaxations import RELAXATIONS, RelaxedMasks

@RELAXATIONS.register(Volume)
class RelaxedVolume(RelaxedMasks):
    \"\"\"Rain, weighed by its membership.\"\"\"

    def soft(self, batch, given):
        \"\"\"Soft curves (N, C, Q).\"\"\"
        rain = batch.clamp(min=0)[:, None]
        return (rain * self.memberships(batch)).sum((2, 3))[:, None]
"""
SPECS = ("volume", "volume.py:Volume", "volume.py:volume", "volume:Volume")
SLOW = 'name = "slow-volume"\n    parallel = "processes"'


def block(first, last):
    """Lines of CONTRIBUTING from one that begins so to the one before one that begins so."""
    lines = [line.removeprefix(" " * 7) for line in CONTRIBUTING.splitlines()]
    start = next(k for k, line in enumerate(lines) if line.startswith(first))
    end = next(k for k, line in enumerate(lines[start:], start) if line.startswith(last))
    return "\n".join(lines[start:end]) + "\n"


def example(name):
    """The class that CONTRIBUTING shows, below its imports, with another line for the name."""
    imports = block("from collections.abc import Sequence", "   and `--metric")
    return imports + block("@register", "2. Declare").replace('name = "volume"', name)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with the example of CONTRIBUTING and a relaxation, forgotten afterwards."""
    from emuloss.emulators.relaxations import RELAXATIONS
    from emuloss.metrics.registry import METRICS

    (tmp_path / "volume.py").write_text(example('name = "volume"') + RELAXED)
    (tmp_path / "slow.py").write_text(example(SLOW))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for registry in (METRICS, RELAXATIONS):
        monkeypatch.setattr(registry, "_things", dict(registry._things))
    yield tmp_path
    sys.modules.pop("volume", None)


def labelled(spec, out, *options):
    given = ["--fields=rain", "--count=48", "--size=16", "--no-progress", "--thresholds=0.5,2"]
    return main(["label", f"--metric={spec}", f"--out={out}", *given, *options])


def volumes(fields):
    """Rain over each threshold, in plain NumPy."""
    return np.stack([np.where(fields >= u, fields.astype(float), 0).sum((1, 2)) for u in (0.5, 2.0)], 1)[
        :, None
    ]


@pytest.mark.parametrize("spec", [*SPECS, "slow.py:Volume"])
def test_a_class_of_ones_own_labels(spec, here, capsys):
    assert labelled(spec, here / "labels.h5") == 0
    store = LabelledFields(here / "labels.h5")
    assert store.outputs == ("volume",)
    fields, curves = store.split("train")
    np.testing.assert_allclose(curves, volumes(fields), rtol=1e-12)


def test_its_options_and_its_mistakes(here, capsys):
    assert labelled("volume.py:Volume", here / "a.h5", "--metric-option=levels=[0.2,0.7]") == 0
    assert LabelledFields(here / "a.h5").metric_config["arguments"]["levels"] == [0.2, 0.7]
    capsys.readouterr()
    for words, told in (
        (("volume.py:Volume", here / "b.h5", "--outputs=volume"), "takes no outputs; leave --outputs out"),
        (
            ("volume.py:Volumes", here / "b.h5"),
            "has no function or class 'Volumes'; it has Volume, RelaxedVolume",
        ),
        (("volume.py:Volume", here / "b.h5", "--metric-option=wet=1"), "'wet'"),
        (("volumes", here / "b.h5"), "unknown metric 'volumes'"),
    ):
        assert told in refusal(capsys, labelled(*words))


def test_other_code_is_other_work(here, capsys):
    assert labelled("volume.py:Volume", here / "labels.h5") == 0
    source = (here / "volume.py").read_text()
    (here / "volume.py").write_text(source.replace(".clip(0)", ".clip(0) * 2"))
    capsys.readouterr()
    assert "code" in refusal(capsys, labelled("volume.py:Volume", here / "labels.h5"))


@pytest.mark.parametrize("spec", ["volume", "volume.py:Volume"])
def test_its_relaxation_is_found_and_frozen(spec, here, capsys, monkeypatch):
    monkeypatch.setattr(plan, "EFFORTS", (plan.Effort(steps=20, slopes=2, repeats=1),))
    given = [
        "--fields=rain",
        "--count=48",
        "--size=16",
        "--no-progress",
        "--thresholds=0.5,2",
        "--arch=relaxed",
    ]
    assert main(["train", f"--metric={spec}", *given, "--temperature=0.02", "--out=run"]) == 0
    surrogate = emuloss.load("run")
    assert surrogate.module.temperature == 0.02
    fit = surrogate.evaluation["fidelity"]["outputs"]["volume"]
    assert fit["r2_mean"] > 0.99
    capsys.readouterr()


def test_a_checkpoint_of_it_in_another_process(here, capsys):
    assert labelled("volume.py:Volume", here / "labels.h5") == 0
    emuloss.relax(emuloss.metric("volume", thresholds=[0.5, 2.0])).save_pretrained(here / "run")
    evaluate = ["evaluate", "run", "--count=8", "--quick", "--no-progress", "--source-option=size=16"]
    given = ["--metric=volume.py:Volume"]
    # One process for all commands, where nobody has named the class at first.
    words = [["show", "run"], evaluate, ["verify", "run"], [*evaluate, *given], ["verify", "run", *given]]
    code = f"from emuloss.cli.main import main; print([main(words) for words in {words!r}])"
    done = subprocess.run([sys.executable, "-c", code], cwd=here, capture_output=True, text=True, timeout=200)
    assert done.stdout.splitlines()[-1] == "[0, 2, 2, 0, 0]", done.stderr
    assert done.stderr.count("unknown metric 'volume'; if it is one of yours") == 2
    assert "Traceback" not in done.stderr
