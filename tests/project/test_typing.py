"""What a type checker knows of a user's file: every result has a type, and mistakes are told."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import stub
from frame import ROOT

HEAD = """
import emuloss
import numpy as np
import torch
from emuloss import functional, measures, plot
from emuloss.losses import Live

fields = np.zeros((4, 16, 16), np.float32)
prediction, target = torch.rand(2, 4, 16, 16)
members = torch.rand(4, 3, 16, 16)
metric = emuloss.metric("minkowski", thresholds=[0.5, 1.0])
surrogate = emuloss.load("minkowski-opera")
loss, score = surrogate.as_loss(), surrogate.as_score()
live = surrogate.as_loss(live=True)
combined = emuloss.Combined({"mse": torch.nn.MSELoss(), "geometry": loss}, geometry=emuloss.Share(0.5))
guidance = emuloss.Guidance(surrogate, target_curves=surrogate(target))
distance = measures.ExactDistance(metric)
"""

TENSOR = "torch._tensor.Tensor"
AXES = "matplotlib.axes._axes.Axes"
REVEALED = {
    "metric": "emuloss.metrics.metric.Metric",
    "metric(fields)": "numpy.ndarray[tuple[Any, ...], numpy.dtype[numpy.float64]]",
    "metric.thresholds": "tuple[float, ...]",
    "metric.outputs": "tuple[str, ...]",
    "metric.check(metric(fields))": "dict[str, float]",
    "metric.with_arguments(outputs=['area'])": "emuloss.metrics.metric.Metric",
    "emuloss.list_metrics()": "list[str]",
    "emuloss.list_models()": "list[str]",
    "emuloss.info('minkowski-opera')": "emuloss.zoo.describing.ModelInfo",
    "surrogate": "emuloss.zoo.surrogate.Surrogate",
    "surrogate(prediction)": TENSOR,
    "surrogate.with_thresholds([1.0])": "emuloss.zoo.surrogate.Surrogate",
    "emuloss.relax(metric)": "emuloss.zoo.surrogate.Surrogate",
    "loss": "emuloss.losses.loss.SurrogateLoss",
    "loss(prediction, target)": TENSOR,
    "loss.by_output(prediction, target)": TENSOR,
    "loss.by_channel(prediction, target)": f"dict[str, {TENSOR}]",
    "surrogate.as_loss(channels=('rain', None), live=False)": "emuloss.losses.loss.SurrogateLoss",
    "surrogate.as_loss(live=Live(steps=2))": "emuloss.losses.live.live.LiveLoss",
    "live(prediction, target)": TENSOR,
    "live.learn()": "dict[str, float]",
    "live.gauge.error": "float",
    "score": "emuloss.losses.score.SurrogateScore",
    "score(members, target)": TENSOR,
    "score.by_channel(members, target)": f"dict[str, {TENSOR}]",
    "functional.curves(prediction, metric)": TENSOR,
    "functional.distance(prediction, target, metric)": TENSOR,
    "functional.minkowski_distance(prediction, target, [0.5], persistence='10%')": TENSOR,
    "functional.fss_loss(prediction, target, percentiles=[90])": TENSOR,
    "functional.energy_score(members, target, metric, channels='each')": TENSOR,
    "combined": "emuloss.losses.balance.Combined",
    "combined(prediction, target)": TENSOR,
    "combined.learn()": "dict[str, dict[str, float]]",
    "combined.log": f"dict[str, {TENSOR}]",
    "emuloss.PerChannel({'rain': loss})(prediction, target)": TENSOR,
    "emuloss.SegmentationLoss(activation='softmax')(prediction, target)": TENSOR,
    "guidance(prediction, prediction, 0.5)": TENSOR,
    "emuloss.live('clusters', fields)": "emuloss.losses.live.live.LiveLoss",
    "emuloss.train(fields='rain', minutes=3, out='runs/x')": "emuloss.zoo.surrogate.Surrogate",
    "emuloss.label(fields=fields, out='labels.h5')": "emuloss.datasets.labels.store.LabelledFields",
    "emuloss.look(fields='rain')": "emuloss.pipeline.looked.Look",
    "plot.curves(prediction, target, metric)": f"list[{AXES}]",
    "plot.fields({'prediction': prediction})": f"list[{AXES}]",
    "plot.gradient(loss, prediction, target)": AXES,
    "distance": "emuloss.measures.ExactDistance",
    "distance(prediction, target)": TENSOR,
    "distance.compute()": TENSOR,
}

MISTAKES = {
    "emuloss.loses": '"loses"',
    "emuloss.train(feelds='rain', out='x')": 'Unexpected keyword argument "feelds"',
    "surrogate.as_loss(chanels='each')": '"chanels"',
    "loss(prediction, targets=target)": '"targets"',
    "loss.learn()": "not callable",
    "functional.fss_loss(prediction, target, windows=3)": '"windows"',
    "score(members, target, mask=3)": '"mask"',
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """What mypy says of each line of a user's file; the package is not judged, as if installed."""
    pytest.importorskip("mypy")
    folder = tmp_path_factory.mktemp("user")
    (folder / "site").mkdir()
    (folder / "site" / "emuloss").symlink_to(ROOT)
    lines = [*HEAD.splitlines(), *(f"reveal_type({asked})" for asked in REVEALED), *MISTAKES]
    (folder / "user.py").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--follow-imports=silent", "--no-pretty",
         "user.py"],
        cwd=folder, env=os.environ | {"MYPYPATH": str(folder / "site")}, capture_output=True, text=True,
    )  # fmt: skip
    assert not done.stderr
    found: dict[int, str] = {}
    for line in done.stdout.splitlines():
        line = re.sub(r"numpy\.floating\[[\w.]*_64Bit\]", "numpy.float64", line)  # older NumPy
        if match := re.match(r"user\.py:(\d+): (?:note: Revealed type is )?(.*)", line):
            found[int(match[1])] = found.get(int(match[1]), "") + match[2]
    return found


@pytest.mark.slow
def test_a_type_checker_knows_the_types_of_a_user_s_file(told: dict[int, str]) -> None:
    first = len(HEAD.splitlines()) + 1
    assert {line: said for line, said in told.items() if line < first} == {}
    for line, (asked, expected) in enumerate(REVEALED.items(), first):
        assert told[line] == f'"{expected}"', asked


@pytest.mark.slow
def test_a_type_checker_tells_mistakes(told: dict[int, str]) -> None:
    first = len(HEAD.splitlines()) + len(REVEALED) + 1
    for line, (mistake, said) in enumerate(MISTAKES.items(), first):
        assert said in told.get(line, ""), mistake


def test_what_type_checkers_read_of_the_pipeline_is_what_it_takes() -> None:
    assert stub.PLACE.read_text(encoding="utf-8") == stub.stub(), "run python tests/support/stub.py"


def test_the_package_says_that_it_is_typed() -> None:
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r'^emuloss = \["py.typed"\]$', settings, re.MULTILINE)
    assert re.search(r'^"emuloss.pipeline" = \["\*.pyi"\]$', settings, re.MULTILINE)
    assert (ROOT / "py.typed").is_file()
    assert Path(ROOT / "pipeline" / "__init__.pyi").is_file()
