"""Training in two processes: it ends as in one, and whatever ends one process ends both, in one line."""

import csv
import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import emuloss
import numpy as np
import pytest
import torch
from chatter import said
from emuloss import train_surrogate
from emuloss.cli import train
from emuloss.emulators import ARCHITECTURES, ConvEmulator
from emuloss.foundation.launched import processes
from emuloss.pipeline import run
from emuloss.training import Learner, Trainer, Training, descents, trainer

SCRIPT = Path(train_surrogate.__file__).resolve()
CPU = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
BATCH, STEPS = 9, 8  # parts of five and of four fields
# Of a batch of five there is one field at which gradients are penalised, and so none in the second part.
GRADIENTS = {"penalty": "two-sided", "penalty_weight": 0.1, "sobolev": 0.5} | {
    "batch-size": 5,
    "budget": 5 * STEPS,
}

# Does the runs of a list one after the other, as the command does them, with a small network and without
# evaluation; tells how each ended in this process. A run may meet with a fault before one of its steps.
WORKER = """
import contextlib, dataclasses, errno, hashlib, io, json, os, signal, sys
from pathlib import Path
from emuloss import errors
from emuloss.cli import train
from emuloss.emulators import ARCHITECTURES
from emuloss.foundation.launched import processes
from emuloss.pipeline import run
from emuloss.training import Learner, descents, trainer

descents.EVERY, trainer._LEARNT = 2, float("inf")
small = dataclasses.replace(ARCHITECTURES["constrained"], defaults={"widths": (8, 16), "hidden": 16})
ARCHITECTURES._things["constrained"] = small
run.evaluated = lambda surrogate, fields, curves, settings, *_: (
    surrogate.save_pretrained(settings.out), print("evaluated")
)
train.tell = lambda *_: None
learn, fsync = Learner.learn, os.fsync


def full(descriptor):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def faulty(self, *batch):
    if fault and (processes().rank, self.step) == (fault["index"], fault["step"]):
        if fault["kind"] == "interrupt":
            signal.raise_signal(signal.SIGINT)
        elif fault["kind"] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault["kind"] == "full":
            os.fsync = full
        elif fault["kind"] == "error":
            raise errors.DataError("field 3 is broken")
        else:
            raise ZeroDivisionError("a bug")
    values = learn(self, *batch)
    weights["digest"] = hashlib.sha256(
        b"".join(tensor.numpy().tobytes() for tensor in self.emulator.state_dict().values())
    ).hexdigest()
    return values


Learner.learn = faulty
runs, told = json.loads(Path(sys.argv[1]).read_text()), []
for words, fault in runs:
    weights, os.fsync = {}, fsync
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            code = train.main(words)
        except (ZeroDivisionError, SystemExit) as error:
            code = repr(error)
    told.append({"code": code, "out": out.getvalue(), "err": err.getvalue(), **weights})
    Path(f"{sys.argv[1]}.{os.environ['RANK']}").write_text(json.dumps(told))
"""


def arguments(out, **options):
    given = {
        "fields": "rain", "arch": "constrained", "count": 64, "size": 16, "budget": BATCH * STEPS,
        "batch-size": BATCH, "precision": "float32", "thresholds": "0.105,0.5,1,5", "out": out,
        "learning-rate": 3e-3, "descents": 0,
    } | {name.replace("_", "-"): value for name, value in options.items()}  # fmt: skip
    return [*(f"--{name}={value}" for name, value in given.items()), "--no-progress"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def in_two_processes(folder, *runs):
    """Do runs, (words, fault) each, in two processes: how each run ended in both, and their exit codes."""
    plan = folder / "runs.json"
    plan.write_text(json.dumps(runs))
    (folder / "worker.py").write_text(WORKER)
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    workers = [
        subprocess.Popen(
            [sys.executable, "worker.py", str(plan)],
            cwd=folder, env=os.environ | CPU | meeting | {"RANK": str(k), "LOCAL_RANK": str(k)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for k in range(2)
    ]  # fmt: skip
    try:
        noise = [said(worker.communicate(timeout=250)[0]) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert noise == ["", ""]
    told = [json.loads((folder / f"runs.json.{k}").read_text()) for k in range(2)]
    return told, [worker.returncode for worker in workers]


def weights(folder) -> dict[str, torch.Tensor]:
    """Those that training ended with, not the best ones."""
    return torch.load(folder / "training.pt", weights_only=True)["weights"]


def apart(folder, other) -> float:
    """How far apart the weights of two runs ended, as a share of the way that they went."""
    surrogate = emuloss.load(other)
    torch.manual_seed(0)  # as the runs start
    start = ConvEmulator(surrogate.metric, **surrogate.module.arguments())
    names = [name for name, _ in start.named_parameters()]
    ours, theirs, first = (
        torch.cat([held[name].double().flatten() for name in names])
        for held in (weights(folder), weights(other), start.state_dict())
    )
    return ((ours - theirs).norm() / (theirs - first).norm()).item()


def assert_same_end(folder, other, tolerance=1e-3):
    """Weights and log agree within rounding, which training enlarges.

    Measured: the small network ends 2e-7 to 8e-6 of its way apart, the architecture's own 1e-3, as it does if
    its first weights are changed by 1e-7. Parts of a batch that are weighed wrongly make a twelfth or more.
    """
    assert apart(folder, other) < tolerance
    rows = [[*csv.DictReader((place / "log.csv").read_text().splitlines())] for place in (folder, other)]
    assert len(rows[0]) == STEPS
    for row, same in zip(*rows, strict=True):
        assert row.keys() == same.keys()
        for name in row.keys() - {"seconds"}:
            assert (row[name] == "") == (same[name] == "")
            assert float(row[name] or 0) == pytest.approx(float(same[name] or 0), rel=tolerance)


# Two processes without a launcher, whose exit codes and messages are then their own


@pytest.fixture(scope="module", autouse=True)
def small_work():
    """Runs in this process do as little as the worker's."""
    small = dataclasses.replace(ARCHITECTURES["constrained"], defaults={"widths": (8, 16), "hidden": 16})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES._things, "constrained", small)
        patch.setattr(
            run,
            "evaluated",
            lambda surrogate, fields, curves, settings, *_: surrogate.save_pretrained(settings.out),
        )
        patch.setattr(train, "tell", lambda *_: None)
        patch.setattr(descents, "EVERY", 2)
        patch.setattr(trainer, "_LEARNT", float("inf"))
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, small_work):
    """Runs in one process: whole ones, and one that Ctrl-C ended."""
    folder = tmp_path_factory.mktemp("alone")
    assert train.main(arguments(folder / "plain")) == 0
    assert train.main(arguments(folder / "gradients", **GRADIENTS)) == 0
    assert train.main(arguments(folder / "descents", descents=0.5)) == 0
    learn = Learner.learn

    def interrupted(self, *batch):
        if self.step == 3:
            signal.raise_signal(signal.SIGINT)
        return learn(self, *batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "learn", interrupted)
        assert train.main(arguments(folder / "interrupted")) == 130
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory, alone):
    """The folder of runs in two processes, what each process told of each, and the exit codes at the end."""
    folder = tmp_path_factory.mktemp("pair")
    shutil.copytree(alone / "interrupted", folder / "begun alone")

    def fault(kind, index):
        return {"kind": kind, "index": index, "step": 3}

    runs = {
        "metric": (arguments(folder / "none", metric="minkowsky"), None),
        "batch": (arguments(folder / "none", batch_size=1), None),
        "plain": (arguments(folder / "plain"), None),
        "gradients": (arguments(folder / "gradients", **GRADIENTS), None),
        "descents": (arguments(folder / "descents", descents=0.5), None),
        "begun alone": (arguments(folder / "begun alone"), None),
        "interrupted": (arguments(folder / "interrupted"), fault("interrupt", 0)),
        "broken": (arguments(folder / "broken"), fault("error", 1)),
        "full": (arguments(folder / "full"), fault("full", 0)),
        "bug": (arguments(folder / "bug"), fault("bug", 1)),
        "kill": (arguments(folder / "kill"), fault("kill", 1)),
    }
    (main, other), codes = in_two_processes(folder, *runs.values())
    # The killed one tells nothing of its last run.
    return folder, dict(zip(runs, zip(main, [*other, None], strict=True), strict=True)), codes


def last_line(told) -> str:
    return told["err"].splitlines()[-1]


@pytest.mark.parametrize("name", ["plain", "gradients", "descents"])
def test_two_processes_end_as_one(name, alone, pair):
    folder, told, _ = pair
    main, other = told[name]
    assert (main["code"], main["out"]) == (0, "evaluated\n")
    assert "in 2 processes" in main["err"]
    assert other == {"code": 0, "out": "", "err": "", "digest": main["digest"]}  # equal to the bit
    assert_same_end(folder / name, alone / name)
    files = [sorted(path.name for path in (place / name).iterdir()) for place in (folder, alone)]
    assert files[0] == files[1]
    surrogate, same = (emuloss.load(place / name) for place in (folder, alone))
    fields = torch.from_numpy(emuloss.datasets.Rain(8, size=16).read(0, "train"))
    torch.testing.assert_close(surrogate(fields), same(fields), rtol=1e-4, atol=1e-3)


def test_all_processes_hold_the_same_reservoir_in_the_end(alone, pair):
    held = [
        torch.load(place / "descents" / "training.pt", weights_only=True)["descents"]["reservoir"]
        for place in (pair[0], alone)
    ]
    assert len(held[0]["fields"])
    for name, tensor in held[0].items():
        torch.testing.assert_close(tensor, held[1][name], rtol=1e-3, atol=1e-3)


def test_what_one_process_began_two_finish(alone, pair):
    folder, told, _ = pair
    assert [process["code"] for process in told["begun alone"]] == [0, 0], told["begun alone"]
    assert_same_end(folder / "begun alone", alone / "plain")


def test_what_two_processes_began_one_finishes(tmp_path, alone, pair, capsys):
    folder, told, _ = pair
    main, other = told["interrupted"]
    assert main["code"] == 130
    assert other == {"code": 130, "out": "", "err": "", "digest": main["digest"]}
    assert last_line(main) == "interrupted; run the same command again to go on"
    state = torch.load(folder / "interrupted" / "training.pt", weights_only=True)
    assert (state["counters"]["step"], state["counters"]["finished"]) == (4, False)
    assert emuloss.load(folder / "interrupted")(torch.rand(2, 16, 16)).isfinite().all()
    shutil.copytree(folder / "interrupted", tmp_path / "run")
    assert train.main(arguments(tmp_path / "run")) == 0
    capsys.readouterr()
    assert_same_end(tmp_path / "run", alone / "plain")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("metric", "unknown metric 'minkowsky' (did you mean 'minkowski'?); "),
        ("batch", "--batch-size (=1) must be at least the number of processes, 2"),
        ("broken", "field 3 is broken"),
        ("full", "the disk of "),
    ],
)
def test_an_error_of_one_process_ends_both_in_one_line(name, line, pair):
    folder, told, _ = pair
    main, other = told[name]
    assert (main["code"], main["out"]) == (2, "")
    errors = [line for line in main["err"].splitlines() if not line.startswith("emuloss: ")]
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {line}")
    assert (other["code"], other["out"], other["err"]) == (2, "", "")
    assert not (folder / "none" / "training.pt").exists()


def test_a_bug_in_one_process_ends_both_and_shows_once(pair):
    main, other = pair[1]["bug"]
    assert (main["code"], other["code"]) == ("SystemExit(1)", "ZeroDivisionError('a bug')")


def test_a_killed_process_ends_the_other_in_one_line(pair):
    _, told, codes = pair
    assert codes == [0, -signal.SIGKILL]
    assert told["kill"][0]["code"] == 2
    assert last_line(told["kill"][0]) == (
        "error: another process of this run was killed; run the same command again"
    )


def test_processes_need_the_same_data(tmp_path, monkeypatch):
    team = processes()
    monkeypatch.setattr(team, "all_gather", lambda value: [value, "another"])
    fields = np.random.default_rng(0).random((4, 8, 8), np.float32)
    metric = emuloss.metric("minkowski", thresholds=[0.2, 0.5])
    data = fields, metric(fields)
    with pytest.raises(emuloss.ArgumentError, match=r"^all processes need the same data: "):
        Trainer(ARCHITECTURES["constrained"](metric), data, data, Training(), tmp_path)


# As users start it


def launched(folder, *words):
    """The script in two processes of `accelerate launch`; its own --cpu would start one."""
    launcher = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1"]
    launcher += ["--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0"]
    return subprocess.Popen(
        [sys.executable, *launcher, str(SCRIPT), *words],
        cwd=folder, env=os.environ | CPU, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def end_of(run):
    try:
        out, err = run.communicate(timeout=250)
    finally:
        run.terminate()  # ends the processes that it has launched, too
    return run.returncode, out, err


@pytest.mark.slow
def test_accelerate_launch(tmp_path):
    code, out, err = end_of(launched(tmp_path, *arguments(tmp_path / "two", size=32)))
    assert code == 0, err
    assert out.count("R2 mean") == 2  # one table
    assert [line for line in err.splitlines() if not line.startswith("emuloss: ")] == []
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments(tmp_path / "one", size=32)],
        cwd=tmp_path, env=os.environ | CPU, capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert_same_end(tmp_path / "two", tmp_path / "one", 0.02)
    files = [sorted(path.name for path in (tmp_path / name).iterdir()) for name in ("two", "one")]
    assert files[0] == files[1]


@pytest.mark.slow
def test_accelerate_launch_with_a_mistake(tmp_path):
    code, out, err = end_of(launched(tmp_path, *arguments(tmp_path / "out", fields="missing.npy")))
    assert code != 0
    assert out == ""
    assert err.count("error: ") == 1, err  # the launcher's own report follows
    assert "exitcode  : 2" in err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_accelerate_launch_and_interrupt(tmp_path, number):
    out = tmp_path / "out"
    run = launched(tmp_path, *arguments(out, size=32, budget=10**5))
    deadline = time.monotonic() + 120
    while not (out / "labels.h5").exists() and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    while not (out / "log.csv").exists() and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    run.send_signal(number)
    _, _, err = end_of(run)
    assert err.count("interrupted; run the same command again to go on") == 1, err
    state = torch.load(out / "training.pt", weights_only=True)
    assert not state["counters"]["finished"]
