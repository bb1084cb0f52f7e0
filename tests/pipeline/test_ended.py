"""Runs that are ended from outside, or meet another in their folder: what was done is kept, and goes on."""

import os
import pty
import select
import signal
import subprocess
import sys
import time

import emuloss
import numpy as np
import pytest
import torch
from emuloss.datasets import label
from emuloss.errors import DataError
from emuloss.evaluation import evaluate
from emuloss.foundation.files import unfinished
from emuloss.foundation.locks import one_writer
from emuloss.pipeline import measuring
from emuloss.training import Learner, Trainer

FIELDS = np.random.default_rng(0).gamma(0.5, 2.0, (48, 16, 16)).astype(np.float32)
SMALL = {
    "fields": FIELDS, "metric": "minkowski", "thresholds": [0.5, 2.0], "arch": "constrained", "widths": [8],
    "budget": 64, "batch_size": 8, "precision": "float32", "quick": True, "progress": False,
}  # fmt: skip
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def handlers():
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_and_sighup_while_training_keep_the_best_emulator_and_the_state(
    tmp_path, monkeypatch, number
):
    before, learn = handlers(), Learner.learn

    def signalled(self, *batch):
        if self.step == 5:
            signal.raise_signal(number)
        return learn(self, *batch)

    monkeypatch.setattr(Learner, "learn", signalled)
    with pytest.raises(SystemExit) as caught:
        emuloss.train(out=tmp_path, **SMALL)
    assert caught.value.code == 128 + number
    assert handlers() == before
    assert emuloss.load(tmp_path)(torch.from_numpy(FIELDS[:2])).isfinite().all()
    assert torch.load(tmp_path / "training.pt", weights_only=True)["counters"]["step"] == 6
    monkeypatch.setattr(Learner, "learn", learn)
    assert emuloss.train(out=tmp_path, **SMALL).trained_on["fields_seen"] == 64
    assert not list(tmp_path.glob("*.tmp"))
    assert not list(tmp_path.glob("*.lock"))


@pytest.mark.parametrize("number", SIGNALS)
def test_sigterm_and_sighup_while_labelling_keep_the_parts(tmp_path, number):
    def curves(field):
        if field.max() == FIELDS[20].max():
            os.kill(os.getpid(), number)
        return float(field.mean())

    given = {"fields": FIELDS, "metric": curves, "out": tmp_path / "labels.h5", "progress": False}
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        emuloss.label(**given)
    assert not (tmp_path / "labels.h5").exists()
    assert list((tmp_path / "labels.h5.parts").glob("*.part"))


def test_sigterm_while_evaluating_keeps_the_surrogate(tmp_path, monkeypatch):
    def signalled(*arguments, **options):
        signal.raise_signal(signal.SIGTERM)
        return evaluate(*arguments, **options)

    monkeypatch.setattr(measuring, "evaluate", signalled)
    with pytest.raises(SystemExit):
        emuloss.train(out=tmp_path, **SMALL)
    assert emuloss.load(tmp_path).evaluation == {}


def test_two_trainings_in_one_folder_the_second_is_refused(tmp_path, monkeypatch):
    learn, errors = Learner.learn, []

    def second(self, *batch):
        if self.step == 2 and not errors:
            with pytest.raises(
                DataError, match=r"^another process is writing \S+ \(process \d+ on "
            ) as caught:
                emuloss.train(out=tmp_path, **SMALL)
            errors.append(str(caught.value))
        return learn(self, *batch)

    monkeypatch.setattr(Learner, "learn", second)
    assert emuloss.train(out=tmp_path, **SMALL).trained_on["fields_seen"] == 64
    assert len(errors) == 1
    with one_writer(tmp_path) as alone:  # the first has given it back
        assert alone


def test_what_a_killed_training_left_unfinished_is_swept(tmp_path):
    left = unfinished(tmp_path / "training.pt")
    left.write_bytes(b"half a state")
    emuloss.train(out=tmp_path, **SMALL)
    assert not left.exists()


def test_training_goes_on_after_a_change_of_what_only_describes_its_metric(tmp_path, monkeypatch):
    first = emuloss.train(out=tmp_path, **SMALL)
    monkeypatch.setattr(Trainer, "_train", None)
    monkeypatch.setattr(sys.modules[label.__module__], "_label_missing", None)
    again = emuloss.train(out=tmp_path, **SMALL, length_unit="mile")
    assert again.units[0] == "mile^2"
    assert torch.equal(first(torch.from_numpy(FIELDS[:2])), again(torch.from_numpy(FIELDS[:2])))


SCRIPT = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from emuloss.cli import train
sys.exit(train.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_sighup_of_a_closed_terminal_keeps_the_best_emulator_and_the_state(tmp_path):
    """Whatever is said after it raises an error of its own."""
    out = tmp_path / "out"
    options = [
        "--fields=rain",
        "--count=64",
        "--size=16",
        "--arch=constrained",
        "--widths=8",
        "--budget=1000000",
    ]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *options, f"--out={out}"],
        cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    deadline = time.monotonic() + 100
    while not (out / "log.csv").exists() and process.poll() is None and time.monotonic() < deadline:
        if select.select([ours], [], [], 0.1)[0]:
            os.read(ours, 4096)
    os.close(ours)
    assert process.wait(timeout=60) == 129
    assert emuloss.load(out)(torch.rand(2, 16, 16)).isfinite().all()
    assert not torch.load(out / "training.pt", weights_only=True)["counters"]["finished"]
