"""The examples run as their docstrings say, and the loss does what they show."""

import ast
import importlib.util
import re
import subprocess
import sys
import types
from pathlib import Path

import emuloss
import pytest
import torch
from emuloss import train_surrogate
from torch import nn

EXAMPLES = Path(train_surrogate.__file__).resolve().parent / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))
LINE = re.compile(r"(\d+) steps, weight (\S+) +MSE (\S+) +exact distance (\S+)")


def loaded(name):
    """The module of an example, from its file."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def printed(capsys, monkeypatch, *options):
    """Steps, weight, MSE and exact distance of each line that the plain loop prints."""
    monkeypatch.setattr(sys, "argv", ["plain_loop.py", *map(str, options)])
    loaded("plain_loop").main()
    return [tuple(map(float, found)) for found in LINE.findall(capsys.readouterr().out)]


@pytest.mark.parametrize("name", NAMES)
def test_example_is_short_and_says_how_to_run_it(name):
    text = (EXAMPLES / f"{name}.py").read_text()
    assert f"python examples/{name}.py" in ast.get_docstring(ast.parse(text))
    assert text.count("\n") < 100


def test_plain_loop(capsys, monkeypatch, tmp_path):
    metric = emuloss.metric("minkowski", thresholds=[0.5, 2], pixel_size=2.0)
    emuloss.relax(metric).save_pretrained(tmp_path)
    before, alone, both = printed(capsys, monkeypatch, "--steps", 2, "--surrogate", tmp_path)
    assert [before[:2], alone[:2], both[:2]] == [(0, 0), (2, 0), (2, 0.002)]
    assert before[2:] != alone[2:] != both[2:]


def annealed(monkeypatch):
    """The list of what `anneal` is called with from now on."""
    progress = []
    monkeypatch.setattr(emuloss.SurrogateLoss, "anneal", lambda loss, share: progress.append(share))
    return progress


@pytest.mark.parametrize(("name", "wanted"), [("minkowski-opera", [0.0, 0.25, 0.5, 0.75]), ("fss-opera", [])])
def test_plain_loop_anneals_what_has_a_temperature(monkeypatch, name, wanted):
    example, progress = loaded("plain_loop"), annealed(monkeypatch)
    loss = emuloss.load(name).as_loss()
    example.train(example.Sharpen(), example.rain(4, seed=0), loss, weight=0.002, steps=4)
    assert progress == wanted


@pytest.mark.slow
def test_plain_loop_with_its_defaults(capsys, monkeypatch):
    """A little squared error buys a good deal of the exact metric."""
    before, alone, both = printed(capsys, monkeypatch)
    assert alone[2] < both[2] < before[2]
    assert both[3] < 0.8 * alone[3] < alone[3] < before[3]


@pytest.fixture
def stand_in(monkeypatch):
    """As much of Lightning as the definition of a module needs."""
    library = types.ModuleType("lightning")
    library.LightningModule = type("LightningModule", (nn.Module,), {"log_dict": lambda self, *_, **__: None})
    monkeypatch.setitem(sys.modules, "lightning", library)
    monkeypatch.syspath_prepend(EXAMPLES)
    yield
    sys.modules.pop("plain_loop", None)


@pytest.mark.usefixtures("stand_in")
def test_steps_of_the_lightning_module():
    """Without Lightning's trainer: the network learns, and the state is the network's alone."""
    example, fields = loaded("lightning_module"), loaded("plain_loop").rain(4, seed=0)
    module = example.SharpenRain(emuloss.load("minkowski-opera"), weight=0.002)
    assert set(module.state_dict()) == {f"model.{name}" for name in module.model.state_dict()}
    optimizer, losses = module.configure_optimizers(), []
    for _ in range(10):
        losses.append(module.train().training_step(fields, 0))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    logged = {}
    module.log_dict = lambda found, **_: logged.update(found)
    with torch.no_grad():
        module.validation_step(fields, 0)
    assert set(logged) == {"mse", "distance"}


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(("name", "wanted"), [("minkowski-opera", [0.0, 0.5]), ("components-opera", [])])
def test_lightning_module_anneals_what_has_a_temperature(monkeypatch, name, wanted):
    example, progress = loaded("lightning_module"), annealed(monkeypatch)
    module = example.SharpenRain(emuloss.load(name), weight=0.002)
    module.trainer = types.SimpleNamespace(estimated_stepping_batches=4)
    for module.global_step in (0, 2):
        module.on_train_batch_start(None, 0)
    assert progress == wanted


@pytest.mark.usefixtures("stand_in")
def test_a_live_loss_in_the_lightning_module_goes_on_from_its_state():
    example, fields = loaded("lightning_module"), loaded("plain_loop").rain(4, seed=0)
    surrogate = emuloss.load("components-opera")

    def steps(module, count):
        logged = {}
        module.train().log_dict = lambda found, **_: logged.update(found)
        for _ in range(count):
            module.zero_grad()
            module.training_step(fields, 0).backward()
            module.on_train_batch_end(None, fields, 0)
        return logged

    module = example.SharpenRain(surrogate, weight=0.002, live=True)
    assert {"said", "exact", "weight"} <= set(steps(module, 1))
    resumed = example.SharpenRain(surrogate, weight=0.002, live=True)
    resumed.load_state_dict(module.state_dict())
    assert steps(resumed, 1) == steps(module, 1)
    frozen = example.SharpenRain(surrogate, weight=0.002)
    frozen.on_train_batch_end(None, fields, 0)  # learns nothing, and has nothing to log


@pytest.mark.slow
def test_lightning_module():
    pytest.importorskip("lightning")
    command = [sys.executable, str(EXAMPLES / "lightning_module.py"), "--fast-dev-run"]
    assert subprocess.run(command, timeout=240, check=False).returncode == 0
