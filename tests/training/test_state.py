"""States of trainings: damage and odd contents are told, other runs named, disks and signals survived."""

import copy
import dataclasses
import errno
import io
import os
import re
import signal

import pytest
import torch
from drawn import rain_array
from emuloss.emulators import ConvEmulator
from emuloss.errors import ArgumentError, DataError
from emuloss.foundation.interrupts import Terminated
from emuloss.foundation.seals import seal_of
from emuloss.metrics import CSI, Minkowski
from emuloss.training import Trainer, Training
from emuloss.training.state import STATE, read_state, write_log, write_state
from flips import flipped

METRIC = Minkowski((0.3, 2.0), outputs=("area",))
OPTIONS = Training(minutes=None, fields=16, batch_size=4, validations=2, precision="float32")
FIELDS = rain_array(12, 8, 8, seed=0)
DATA = FIELDS, METRIC(FIELDS)


def trainer(folder, metric=METRIC, data=DATA, **changes) -> Trainer:
    torch.manual_seed(0)
    emulator = ConvEmulator(metric, widths=(8,), hidden=4, prior=None)
    options = dataclasses.replace(OPTIONS, **changes)
    return Trainer(emulator, data, data, options, folder, progress=False)


@pytest.fixture(scope="module")
def ended(tmp_path_factory) -> Trainer:
    run = trainer(tmp_path_factory.mktemp("ended"))
    run.run()
    return run


@pytest.fixture
def state(ended) -> dict:
    """Of a run that has ended, to be changed."""
    return copy.deepcopy(ended.state_dict())


@pytest.fixture(scope="module")
def content(ended) -> bytes:
    return (ended.folder / STATE).read_bytes()


REFUSED = r"^\S*training\.pt is not a training state, or damaged \([^\n]+\); delete it to start afresh$"


def test_a_flipped_bit_in_a_state_is_told(ended, content):
    wanted, path = ended.state_dict(), ended.folder / STATE
    for changed in flipped(content, 500):
        with pytest.raises(DataError, match=REFUSED):
            read_state(changed, path, wanted, torch.device("cpu"))


SEAL = len(seal_of(io.BytesIO()))


@pytest.mark.parametrize("size", [0, 1, 22, SEAL - 1, SEAL, SEAL + 1, 1000, -1, 1 - SEAL, -SEAL, -SEAL - 1])
def test_a_cut_state_is_told(ended, content, tmp_path, size):
    (tmp_path / STATE).write_bytes(content[:size])
    if size == -SEAL:  # the seal alone is missing, as in the states of version 0.1.0
        assert trainer(tmp_path).step == ended.step
    else:
        with pytest.raises(DataError, match=REFUSED):
            trainer(tmp_path)


def test_a_state_whose_end_is_zeros_is_told(content, tmp_path):
    (tmp_path / STATE).write_bytes(content[:-4096] + bytes(4096))
    with pytest.raises(DataError, match=REFUSED):
        trainer(tmp_path)


def test_a_state_is_plain_to_torch(ended, content):
    found = torch.load(io.BytesIO(content), weights_only=True)
    assert found["counters"] == ended.state_dict()["counters"]


class Foreign:
    """Pickles as a call that leaves a trace."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def test_a_state_with_foreign_code_is_refused_and_not_run(state, tmp_path):
    state["log"] = [Foreign(tmp_path / "trace")]
    write_state(tmp_path, state)
    with pytest.raises(DataError, match=REFUSED):
        trainer(tmp_path)
    assert not (tmp_path / "trace").exists()


def at(*keys, value):
    """Puts a value into a state."""

    def change(state):
        for key in keys[:-1]:
            state = state[key]
        state[keys[-1]] = value

    return change


def without(*keys):
    """Takes an entry out of a state."""

    def change(state):
        for key in keys[:-1]:
            state = state[key]
        del state[keys[-1]]

    return change


OTHER_FIELDS = {
    "fields": torch.ones(2, 5, 5),
    "curves": torch.ones(2, 1, 2),
    "ways": torch.zeros(2, dtype=torch.int64),
    "begun": 1,
}
WAITING = dict.fromkeys(("fields", "said", "goals"), torch.ones(2, 4, 3, 3))
ODD = {
    "no counter": without("counters", "stale"),
    "another counter": at("counters", "odd", value=1),
    "counters": at("counters", value=3),
    "step of text": at("counters", "step", value="3"),
    "step of a fraction": at("counters", "step", value=2.0),
    "step below 0": at("counters", "step", value=-1),
    "seconds of NaN": at("counters", "seconds", value=float("nan")),
    "seconds without end": at("counters", "seconds", value=float("inf")),
    "finished of a number": at("counters", "finished", value=1),
    "validated of a tensor": at("counters", "validated", value=torch.ones(2)),
    "best": at("best", value=None),
    "best loss of text": at("best", "loss", value="low"),
    "best loss of NaN": at("best", "loss", value=float("nan")),
    "best step": at("best", "step", value=None),
    "best weights": at("best", "weights", value=[1, 2]),
    "best weights of a name": at("best", "weights", value={"odd": torch.ones(1)}),
    "log": at("log", value=7),
    "log of text": at("log", value=[{"step": "one"}]),
    "log of lists": at("log", value=[[1]]),
    "precision": at("precision", value="float8"),
    "layout": at("layout", value="upside down"),
    "layout of a list": at("layout", value=[]),
    "weights": at("weights", value={}),
    "weights of a number": at("weights", "fc.0.weight", value=3),
    "weights of another shape": at("weights", "fc.0.weight", value=torch.ones(1)),
    "objective": at("objective", value=None),
    "objective of another shape": at("objective", "log_scale", value=torch.ones(5)),
    "optimizer": at("optimizer", value=0),
    "optimizer without groups": at("optimizer", "param_groups", value=[]),
    "another optimizer": at("optimizer", "param_groups", 0, "betas", value=(2.0, 3.0)),
    "optimizer without a rate": without("optimizer", "param_groups", 0, "lr"),
    "moments of another shape": at("optimizer", "state", 0, "exp_avg", value=torch.ones(7)),
    "moments of a number": at("optimizer", "state", 0, "exp_avg_sq", value=1.0),
    "no moments": without("optimizer", "state", 0, "exp_avg"),
    "steps of moments": at("optimizer", "state", 0, "step", value=torch.ones(3)),
    "moments of a name": at("optimizer", "state", "odd", value={}),
    "no options": at("options", value=None),
    "no metric": at("metric", value=[]),
    "no data": without("data"),
    "descents of a number": at("descents", value=3),
    "descents without a share": without("descents", "share"),
    "share of text": at("descents", "share", value="half"),
    "share beyond 1": at("descents", "share", value=1.5),
    "reservoir of a list": at("descents", "reservoir", value=[1]),
    "reservoir without ways": without("descents", "reservoir", "ways"),
    "reservoir of other fields": at("descents", "reservoir", value=OTHER_FIELDS),
    "what waits is a list": at("descents", "waiting", value=[1]),
    "what waits lacks goals": at("descents", "waiting", value={"fields": torch.ones(1)}),
    "what waits has other fields": at("descents", "waiting", value=WAITING),
    "an entry": at("odd", value=1),
}


@pytest.mark.parametrize("change", ODD.values(), ids=ODD)
def test_odd_contents_of_a_state_are_refused_in_one_line(state, tmp_path, change):
    change(state)
    write_state(tmp_path, state)
    with pytest.raises(DataError, match=REFUSED):
        trainer(tmp_path)


def test_a_state_that_is_changed_in_nothing_is_taken(ended, state, tmp_path):
    write_state(tmp_path, state)
    assert trainer(tmp_path).step == ended.step


# Whose state


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fields": 20}, "other options (options.fields is 16 there and 20 here)"),
        (
            {"metric": Minkowski((0.3, 2.5), outputs=("area",))},
            "other metric (metric.arguments.thresholds is [0.3, 2.0] there and [0.3, 2.5] here)",
        ),
        ({"data": (FIELDS[1:], DATA[1][1:])}, "other data"),
    ],
)
def test_a_state_of_another_run_names_what_differs_and_the_remedy(state, tmp_path, changes, words):
    write_state(tmp_path, state)
    message = f"training.pt belongs to a run with {words}; choose another folder or delete it"
    with pytest.raises(ArgumentError, match=re.escape(message)):
        trainer(tmp_path, **changes)


def test_a_state_outlasts_what_training_does_not_depend_on(state, ended, tmp_path):
    write_state(tmp_path, state)
    assert trainer(tmp_path, Minkowski((0.3, 2.0), outputs=("area",), length_unit="km")).step == ended.step
    state["metric"] = CSI([0.5]).config() | {"arguments": {"lower_better": None}}
    write_state(tmp_path, state)
    wanted = state | {"metric": CSI([0.5]).config() | {"arguments": {"lower_better": True}}}
    assert read_state((tmp_path / STATE).read_bytes(), tmp_path / STATE, wanted, torch.device("cpu"))


def test_a_state_of_fewer_options_is_taken(state, ended, tmp_path):
    del state["options"]["penalty_limit"]
    write_state(tmp_path, state)
    assert trainer(tmp_path).step == ended.step
    state["options"]["penalty_weight"] = 0.5
    del state["options"]["batch_size"]  # whose default is another
    write_state(tmp_path, state)
    with pytest.raises(ArgumentError, match=r"options\.batch_size is 32 there and 4 here"):
        trainer(tmp_path)


# Disks


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("write", ["state", "log"])
def test_a_disk_that_takes_no_state_is_told(state, tmp_path, monkeypatch, number, write):
    def full(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"^[^\n]+(training\.pt|log\.csv) (is full|cannot be written)[^\n]+$"):
        write_state(tmp_path, state) if write == "state" else write_log(tmp_path, [{"step": 1}])
    assert list(tmp_path.iterdir()) == []


def test_a_state_that_may_not_be_read_is_told(state, tmp_path):
    (tmp_path / STATE).mkdir()
    with pytest.raises(
        DataError, match=r"training\.pt cannot be read \(.*\); check the disk and its rights$"
    ):
        trainer(tmp_path)


def test_a_log_with_new_columns_is_written(tmp_path):
    write_log(tmp_path, [{"step": 1, "a": 2}, {"step": 2, "b": 3}])
    assert (tmp_path / "log.csv").read_text().split() == ["step,a,b", "1,2,", "2,,3"]


# Signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_and_sighup_end_a_training_with_its_state_saved(tmp_path, monkeypatch, ended, number):
    before = signal.getsignal(number)
    run = trainer(tmp_path)
    learn = run.learner.learn

    def signalled(*batch):
        for _ in range(2 if run.step == 2 else 0):
            signal.raise_signal(number)
        return learn(*batch)

    monkeypatch.setattr(run.learner, "learn", signalled)
    with pytest.raises(Terminated) as caught:
        run.run()
    assert caught.value.code == 128 + number
    assert signal.getsignal(number) is before
    again = trainer(tmp_path)
    assert (again.step, again.finished) == (3, False)
    again.run()
    for name, tensor in ended.emulator.state_dict().items():
        assert torch.equal(again.emulator.state_dict()[name], tensor)


def test_sigterm_after_the_last_step_is_not_lost(tmp_path, monkeypatch):
    run = trainer(tmp_path)
    save = run.save
    monkeypatch.setattr(run, "save", lambda: (signal.raise_signal(signal.SIGTERM), save()))
    with pytest.raises(Terminated):
        run.run()
    assert trainer(tmp_path).finished


def test_sigterm_of_the_caller_is_the_callers(tmp_path, monkeypatch):
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append(1))
    try:
        run = trainer(tmp_path)
        learn = run.learner.learn
        monkeypatch.setattr(
            run.learner, "learn", lambda *b: (signal.raise_signal(signal.SIGTERM), learn(*b))[1]
        )
        run.run()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert run.finished
    assert len(seen) == run.step
