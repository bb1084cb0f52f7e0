"""Training: it learns, resumes to the last bit, stops when told to, and refuses what it cannot use."""

import csv
import dataclasses
import functools
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from drawn import SUPPORT, rain_array
from emuloss.emulators import ConvEmulator, CurveDistance, RelaxedMinkowski
from emuloss.emulators.gradients import directions, pulled_back, slopes
from emuloss.errors import ArgumentError, DataError
from emuloss.foundation.interrupts import interrupts_deferred
from emuloss.metrics import Metric, Minkowski
from emuloss.metrics.constraints import AtLeast
from emuloss.training import Learner, Trainer, Training, batches, penalties
from emuloss.training import trainer as training
from emuloss.training.batches import Batches, prefetched
from emuloss.training.objective import HomoscedasticLoss

METRIC = Minkowski((0.3, 0.8, 2.0), outputs=("area", "perimeter", "euler"))
BATCH = 8
OPTIONS = Training(
    minutes=None, fields=12 * BATCH, batch_size=BATCH, validations=4, learning_rate=3e-3, precision="float32"
)


def labelled(number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    fields = rain_array(number, 12, 12, seed=seed)
    fields[:, :3] = 0
    return fields, METRIC(fields)


DATA, VALIDATION = labelled(40, 0), labelled(11, 1)


def network(seed: int = 0, metric=METRIC, **arguments) -> ConvEmulator:
    torch.manual_seed(seed)
    return ConvEmulator(metric, **{"widths": (8, 16), "hidden": 16, "prior": None, **arguments})


def trainer(folder, options=OPTIONS, emulator=None, metric=METRIC, **changes) -> Trainer:
    folder.mkdir(exist_ok=True)
    options = dataclasses.replace(options, **changes)
    return Trainer(emulator or network(metric=metric), DATA, VALIDATION, options, folder, progress=False)


def weights(run: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in run.emulator.state_dict().items()}


def assert_same_end(ours: Trainer, theirs: Trainer) -> None:
    """Equal to the last bit, but for the time it took."""
    assert (ours.step, ours.finished) == (theirs.step, theirs.finished)
    for a, b in ((weights(ours), weights(theirs)), (ours.best["weights"], theirs.best["weights"])):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)
    assert torch.equal(ours.learner.objective.log_scale, theirs.learner.objective.log_scale)
    assert ours.best["loss"] == theirs.best["loss"]
    assert [row["validation_loss"] for row in ours.log] == [row["validation_loss"] for row in theirs.log]


def validation_loss(emulator) -> float:
    emulator.eval()
    with torch.no_grad():
        curves = emulator(torch.from_numpy(VALIDATION[0]))
    distances = CurveDistance(METRIC.levels)(curves, torch.from_numpy(VALIDATION[1]).float())
    return distances.mean(0).sum().item()


# Learning


def test_the_loss_falls(tmp_path):
    emulator = network()
    before = validation_loss(emulator)
    run = trainer(tmp_path, emulator=emulator, fields=40 * BATCH)
    run.run()
    assert validation_loss(emulator) < 0.7 * before
    assert validation_loss(emulator) == pytest.approx(run.best["loss"], rel=1e-5)
    assert run.finished
    assert run.seen == 40 * BATCH
    assert run.spent == 1


def test_the_best_weights_are_kept(tmp_path):
    # A learning rate at which training gets worse before long.
    run = trainer(tmp_path, learning_rate=3.0, clip=1e3, validations=12, patience=12)
    run.run()
    losses = [row["validation_loss"] for row in run.log]
    assert len(losses) == 12
    assert losses[-1] > min(losses)
    assert run.best["loss"] == min(losses)
    assert run.best["step"] == run.log[losses.index(min(losses))]["step"]
    assert validation_loss(run.emulator) == pytest.approx(min(losses), rel=1e-5)


def test_divergence_ends_in_one_line_and_saves_nothing(tmp_path):
    run = trainer(tmp_path, learning_rate=1e20, clip=1e20, validations=12)
    with pytest.raises(ArgumentError, match=r"^training diverged before step \d+; lower the learning rate$"):
        run.run()
    kept = run.best["weights"]
    assert kept is None or all(tensor.isfinite().all() for tensor in kept.values())
    assert not trainer(tmp_path, learning_rate=1e20, clip=1e20, validations=12).finished


def test_the_clock_counts_waiting_for_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "_PREFETCH", 1)
    run = trainer(tmp_path, minutes=0.5 / 60, fields=None)
    batch = run.batches[0]

    def slow(self, k):
        time.sleep(0.1)
        return batch

    monkeypatch.setattr(Batches, "__getitem__", slow)
    run.run()
    assert 1 <= run.step <= 8  # half a second at a tenth of a second each, and what was ahead


@pytest.mark.parametrize(("constant", "steps"), [(5.1, 5), (4.9, 12)])
def test_stops_when_validation_no_longer_improves(constant, steps, tmp_path, monkeypatch):
    """Unless nothing has been learnt so far beyond a constant."""
    run = trainer(tmp_path, fields=12 * 16, batch_size=16, validations=12, patience=3)
    assert run.constant > 0
    run.constant = constant
    losses = iter([5.0, 4.0, 4.5, 4.0, 6.0, *[4.0] * 7])

    def learn(*batch):
        run.learner.step += 1
        return {"loss": torch.tensor(0.0)}

    def distances(fields, curves):
        return torch.full((len(fields), 3), next(losses) / 3)

    monkeypatch.setattr(run.learner, "learn", learn)
    monkeypatch.setattr(run.learner, "distances", distances)
    run.run()
    assert run.finished
    assert (run.step, run.stale) == (steps, steps - 2)
    assert run.best["loss"] == pytest.approx(4.0)
    assert run.best["step"] == 2


@pytest.mark.parametrize("precision", ["bfloat16", "auto"])
def test_other_precisions_run(tmp_path, precision):
    run = trainer(tmp_path, precision=precision, fields=4 * BATCH)
    run.run()
    assert run.learner.precision in ("float32", "bfloat16")
    assert precision in ("auto", run.learner.precision)
    assert math.isfinite(run.best["loss"])
    again = trainer(tmp_path, precision=precision, fields=4 * BATCH)
    assert again.learner.precision == run.learner.precision


def test_a_compiled_network_learns_the_same(tmp_path, monkeypatch):
    # What torch traces and differentiates ahead, without the minute that its kernels take to compile.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    runs = [
        trainer(tmp_path / str(compiled), compiled=compiled, penalty="one-sided")
        for compiled in (False, True)
    ]
    for run in runs:
        run.run()
    assert isinstance(runs[1].learner.network, torch._dynamo.OptimizedModule)
    for (name, plain), theirs in zip(weights(runs[0]).items(), weights(runs[1]).values(), strict=True):
        torch.testing.assert_close(theirs, plain, msg=name)


def test_time_is_a_budget_too(tmp_path):
    run = trainer(tmp_path, minutes=0.3 / 60, fields=None)
    run.run()
    assert run.spent == 1
    assert 0.3 <= run.seconds < 3
    assert run.finished


def test_the_first_budget_to_be_spent_ends_the_run(tmp_path):
    run = trainer(tmp_path, minutes=60.0, fields=3 * BATCH)
    run.run()
    assert run.seen == 3 * BATCH


def test_learning_rate_rises_then_falls(tmp_path):
    run = trainer(tmp_path, validations=12, warmup=0.5)
    run.run()
    rates = [row["learning_rate"] for row in run.log]
    top = rates.index(max(rates))
    assert 0 < top < len(rates) - 1
    assert sorted(rates[: top + 1]) == rates[: top + 1]
    assert sorted(rates[top:], reverse=True) == rates[top:]
    assert rates[-1] < 0.1 * OPTIONS.learning_rate


def test_log(tmp_path):
    run = trainer(tmp_path)
    run.run()
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        *("step", "fields", "seconds", "learning_rate", "train_loss", "validation_loss"),
        *("validation_area", "validation_perimeter", "validation_euler"),
    ]
    assert [int(row["step"]) for row in rows] == [3, 6, 9, 12]
    assert [int(row["fields"]) for row in rows] == [3 * BATCH, 6 * BATCH, 9 * BATCH, 12 * BATCH]
    for row in rows:
        parts = sum(float(row[f"validation_{name}"]) for name in METRIC.outputs)
        assert float(row["validation_loss"]) == pytest.approx(parts)
        assert float(row["train_loss"]) > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.csv", "training.pt"]


def test_log_of_the_terms_on_gradients(tmp_path):
    run = trainer(tmp_path, penalty="two-sided", sobolev=0.5)
    run.run()
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[3:7] == ["learning_rate", "train_loss", "penalty", "sobolev"]
    assert all(float(row["penalty"]) > 0 and 0 < float(row["sobolev"]) <= 2 for row in rows)


def test_homoscedastic_loss_learns_the_scale_of_each_distance():
    loss = HomoscedasticLoss(2)
    distances = torch.tensor([0.5, 20.0])
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.05)
    for _ in range(500):
        optimizer.zero_grad()
        loss(distances).backward()
        optimizer.step()
    torch.testing.assert_close(loss.log_scale.exp().detach(), distances, rtol=0.02, atol=0)


# Terms on gradients


def gradients(surrogate, seed: int = 5) -> torch.Tensor:
    """Along the same directions at the same probes of the data, whatever the surrogate."""
    rng = np.random.default_rng(seed)
    fields = torch.from_numpy(penalties.probes(DATA[0], rng))
    return pulled_back(surrogate, fields, directions((len(fields), 3, 3), rng))


def mean_slope(surrogate) -> float:
    return slopes(gradients(surrogate)).mean().item()


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Trainer:
    run = trainer(tmp_path_factory.mktemp("plain") / "run", fields=40 * BATCH)
    run.run()
    return run


@pytest.mark.parametrize("penalty", ["one-sided", "two-sided", "jacobian"])
def test_penalties_flatten(tmp_path, plain, penalty):
    changes = {"penalty": penalty, "penalty_weight": 10.0, "penalty_share": 1.0}
    limit = 0.3 * mean_slope(plain.emulator)
    run = trainer(tmp_path, fields=40 * BATCH, penalty_limit=limit, **changes)
    run.run()
    assert mean_slope(run.emulator) < 0.7 * mean_slope(plain.emulator)


def test_sobolev_training_brings_gradients_closer_to_those_of_the_relaxation(tmp_path):
    # Hotter than usual: white noise has hardly a pixel within 5 % of a threshold.
    wanted = RelaxedMinkowski(METRIC, temperature=0.3)
    distances = []
    for sobolev in (0.0, 30.0):
        run = trainer(
            tmp_path / f"{sobolev}",
            emulator=network(masks=7),
            fields=150 * BATCH,
            learning_rate=1e-2,
            sobolev=sobolev,
            penalty_limit=0.1,
            penalty_share=1.0,
        )
        run.learner.terms.relaxed = wanted if sobolev else None
        run.run()
        distances.append(penalties.sobolev_distance(gradients(run.emulator), gradients(wanted), 0.1).item())
    assert distances[1] < 0.95 * distances[0]


def test_terms_on_gradients_depend_on_seed_and_step_alone(tmp_path):
    fields = torch.from_numpy(DATA[0][:BATCH])

    def terms(name: str, step: int = 0, **changes) -> dict[str, torch.Tensor]:
        run = trainer(
            tmp_path / name, emulator=network(prior=0.05), penalty="two-sided", sobolev=1.0, **changes
        )
        return run.learner.terms(fields, step)

    first = terms("first")
    assert list(first) == ["penalty", "sobolev"]
    torch.manual_seed(123)  # the global generator plays no part
    assert terms("again") == first
    assert terms("another seed", seed=1) != first
    assert terms("another step", step=1) != first


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_terms_on_gradients_with_a_relaxed_prior(tmp_path, precision):
    changes = {"penalty": "one-sided", "sobolev": 1.0, "precision": precision}
    run = trainer(tmp_path, emulator=network(prior=0.05), fields=4 * BATCH, **changes)
    run.run()
    assert all(math.isfinite(value) for row in run.log for value in row.values())


class Wetness(Metric):
    name = "wetness"
    outputs, units, constraints = ("wetness",), ("1",), ()
    thresholds, levels, pixel_size = (0.5,), (0.5,), 1.0

    def arguments(self):
        return {}

    def _compute(self, fields):
        return (fields >= 0.5).mean((1, 2))[:, None, None]


def test_sobolev_training_needs_a_relaxation(tmp_path):
    message = "sobolev needs a metric whose relaxation is known, got 'wetness'; set it to 0"
    emulator = ConvEmulator(Wetness(), widths=(8, 16), hidden=16, spreads=[0.5])
    with pytest.raises(ArgumentError, match=f"^{message}$"):
        trainer(tmp_path, emulator=emulator, sobolev=1.0)


def test_there_must_be_weights_to_train(tmp_path):
    message = r"emulator \(RelaxedMinkowski\) has no weights to train; use it as it is"
    with pytest.raises(ArgumentError, match=f"^{message}$"):
        trainer(tmp_path, emulator=RelaxedMinkowski(METRIC))


def test_frozen_weights_stay(tmp_path):
    emulator = network()
    frozen = emulator.fc[0].requires_grad_(False)
    before, other = frozen.weight.clone(), emulator.fc[2].weight.clone()
    trainer(tmp_path, emulator=emulator, fields=4 * BATCH, penalty="jacobian").run()
    assert torch.equal(frozen.weight, before)
    assert not torch.equal(emulator.fc[2].weight, other)


# Interruption and resumption


class Interrupting(ConvEmulator):
    """Raises at a given call in training, at a given place in the step."""

    calls, at, where = 0, 0, "before"

    def forward(self, fields):
        if self.training:
            self.calls += 1
            if self.calls == self.at and self.where == "before":
                raise KeyboardInterrupt
        curves = super().forward(fields)
        if self.training and self.calls == self.at and self.where == "backward":
            curves.register_hook(self.interrupt)
        if not self.training and self.calls == self.at and self.where == "validation":
            raise KeyboardInterrupt
        if self.training and self.calls == self.at and self.where == "signal":
            signal.raise_signal(signal.SIGINT)
        return curves

    @staticmethod
    def interrupt(gradient):
        raise KeyboardInterrupt


def interrupting(at: int, where: str) -> Interrupting:
    emulator = network()
    emulator.__class__, emulator.at, emulator.where = Interrupting, at, where
    return emulator


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Trainer:
    run = trainer(tmp_path_factory.mktemp("whole") / "run")
    run.run()
    return run


@pytest.mark.parametrize("changes", [{"penalty": "one-sided"}, {"sobolev": 1.0}], ids=str)
def test_a_run_with_terms_on_gradients_resumes_to_the_last_bit(tmp_path, monkeypatch, changes):
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    whole = trainer(tmp_path / "whole", **changes)
    whole.run()
    run = trainer(tmp_path / "run", emulator=interrupting(9, "before"), **changes)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    torch.manual_seed(123)  # the global generator plays no part
    resumed = trainer(tmp_path / "run", emulator=network(seed=9), **changes)
    assert 0 < resumed.step < whole.step
    resumed.run()
    assert_same_end(resumed, whole)


@pytest.mark.parametrize("where", ["before", "backward", "validation", "signal"])
@pytest.mark.parametrize("at", [3, 6])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path, monkeypatch, uninterrupted, where, at):
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    run = trainer(tmp_path, emulator=interrupting(at, where))
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert run.step in (at - 1, at)
    assert not run.finished
    state = torch.load(tmp_path / "training.pt", weights_only=True)
    # What strikes within a step leaves the state before it; a signal waits for the step's end.
    assert state["counters"]["step"] == (at if where == "signal" else at - 1)
    if run.best["weights"] is not None:
        kept = weights(run)
        assert all(torch.equal(kept[name], tensor) for name, tensor in run.best["weights"].items())
    # The weights that it starts with come from the state, not from the network that it is given.
    resumed = trainer(tmp_path, emulator=network(seed=9))
    assert resumed.step == state["counters"]["step"]
    resumed.run()
    assert_same_end(resumed, uninterrupted)


def test_a_state_of_any_step_resumes(tmp_path, monkeypatch, uninterrupted):
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    states = []
    original = Trainer.save

    def keep(self):
        original(self)
        states.append((tmp_path / "first" / "training.pt").read_bytes())

    monkeypatch.setattr(Trainer, "save", keep)
    trainer(tmp_path / "first").run()
    monkeypatch.setattr(Trainer, "save", original)
    assert len(states) == 13
    for k in (0, 2, 4, 10, 11, 12):
        folder = tmp_path / str(k)
        folder.mkdir()
        (folder / "training.pt").write_bytes(states[k])
        resumed = trainer(folder, emulator=network(seed=9))
        assert resumed.step == min(k + 1, 12)
        resumed.run()
        assert_same_end(resumed, uninterrupted)


def test_a_finished_run_stays_as_it_is(tmp_path):
    run = trainer(tmp_path)
    run.run()
    again = trainer(tmp_path, emulator=network(seed=9))
    assert again.finished
    again.run()
    assert_same_end(again, run)


def test_errors_within_a_step_are_passed_on_and_save_nothing_new(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    run = trainer(tmp_path)
    learn = run.learner.learn

    def fail(*batch):
        result = learn(*batch)
        if run.step == 4:
            raise RuntimeError("no more memory")
        return result

    monkeypatch.setattr(run.learner, "learn", fail)
    with pytest.raises(RuntimeError, match="no more memory"):
        run.run()
    assert trainer(tmp_path).step == 3


def test_an_error_in_making_a_batch_is_passed_on(tmp_path, monkeypatch):
    run = trainer(tmp_path)
    original = Batches.__getitem__

    def fail(self, k):
        if k == 5:
            raise OSError("disk gone")
        return original(self, k)

    monkeypatch.setattr(Batches, "__getitem__", fail)
    with pytest.raises(OSError, match="disk gone"):
        run.run()
    assert trainer(tmp_path).step == 5
    assert no_thread_left()


def test_interrupts_are_held_back_once():
    with interrupts_deferred() as interrupted:
        assert not interrupted()
        signal.raise_signal(signal.SIGINT)
        assert interrupted()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ignored_interrupts_stay_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts_deferred() as interrupted:
            signal.raise_signal(signal.SIGINT)
            assert not interrupted()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_training_runs_outside_the_main_thread(tmp_path):
    run = trainer(tmp_path, fields=2 * BATCH)
    thread = threading.Thread(target=run.run)
    thread.start()
    thread.join()
    assert run.finished


KILLED = """
import sys
from pathlib import Path
import test_training as t
t.training.SAVE_EVERY = 0.0
t.trainer(Path(sys.argv[1]), fields=100 * t.BATCH).run()
"""


@pytest.mark.slow
def test_a_killed_run_ends_as_an_uninterrupted_one(tmp_path):
    folders = os.pathsep.join([os.path.dirname(__file__), SUPPORT])
    environment = {**os.environ, "PYTHONPATH": folders, "OMP_NUM_THREADS": "1"}
    folder, state = tmp_path / "killed", tmp_path / "killed" / "training.pt"
    for _ in range(2):
        before = state.stat().st_mtime_ns if state.exists() else 0
        command = [sys.executable, "-c", KILLED, str(folder)]
        with subprocess.Popen(command, env=environment, cwd=tmp_path) as process:
            while process.poll() is None and (not state.exists() or state.stat().st_mtime_ns == before):
                time.sleep(0.01)
            time.sleep(0.2)
            process.kill()
        assert process.returncode == -signal.SIGKILL
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        whole = trainer(tmp_path / "whole", fields=100 * BATCH)
        whole.run()
        resumed = trainer(folder, fields=100 * BATCH, emulator=network(seed=9))
        assert 0 < resumed.step < 100
        resumed.run()
        assert_same_end(resumed, whole)
    finally:
        torch.set_num_threads(threads)


# States that do not belong


def refuses(error: type[Exception], pattern: str):
    return pytest.raises(error, match=rf"^[^\n]*training\.pt {pattern}[^\n]*$")


@pytest.fixture
def begun(tmp_path):
    trainer(tmp_path, fields=2 * BATCH).run()
    return tmp_path


def test_other_options_are_refused(begun):
    with refuses(ArgumentError, "belongs to a run with other options"):
        trainer(begun, fields=3 * BATCH)


def test_another_metric_is_refused(begun):
    with refuses(ArgumentError, "belongs to a run with other metric"):
        trainer(begun, fields=2 * BATCH, metric=Minkowski((0.3, 0.8, 2.5)))


def test_other_data_are_refused(begun):
    options = dataclasses.replace(OPTIONS, fields=2 * BATCH)
    for data, quantum in ((labelled(40, 2), None), (DATA, 0.01)):
        with refuses(ArgumentError, "belongs to a run with other data"):
            Trainer(network(), data, VALIDATION, options, begun, quantum=quantum, progress=False)


def test_another_network_is_refused(begun):
    with refuses(ArgumentError, "belongs to a run with other network"):
        trainer(begun, fields=2 * BATCH, emulator=network(hidden=8))


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "tensor", "entries"])
def test_a_damaged_state_is_refused(begun, damage):
    path = begun / "training.pt"
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-1000])
    elif damage == "text":
        path.write_text("not a state")
    elif damage == "tensor":
        torch.save(torch.zeros(3), path)
    else:
        torch.save({"options": {}}, path)
    with refuses(DataError, "is not a training state"):
        trainer(begun, fields=2 * BATCH)


@pytest.mark.parametrize("missing", [0, 1])
def test_data_are_needed(tmp_path, missing):
    data = [DATA, VALIDATION]
    data[missing] = (DATA[0][:0], DATA[1][:0])
    with pytest.raises(ArgumentError, match=r"^training and validation need at least one field each$"):
        Trainer(network(), *data, OPTIONS, tmp_path, progress=False)


# Options


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"minutes": None, "fields": None}, "a budget is needed: give minutes, fields, or both"),
        ({"minutes": 0.0}, "minutes must be a positive number, got 0.0"),
        ({"minutes": math.nan}, "minutes must be a positive number, got nan"),
        ({"fields": -3}, "budget of fields must be a positive whole number, got -3"),
        ({"fields": 1e6}, "budget of fields must be a positive whole number, got 1000000.0"),
        ({"batch_size": 0}, "batch_size must be a positive whole number, got 0"),
        ({"validations": 2.5}, "validations must be a positive whole number, got 2.5"),
        ({"patience": 0}, "patience must be a positive whole number, got 0"),
        ({"learning_rate": -1e-3}, "learning_rate must be a positive number, got -0.001"),
        ({"clip": math.inf}, "clip must be a positive number, got inf"),
        ({"weight_decay": -0.1}, "weight_decay must be 0 or more, got -0.1"),
        ({"seed": -1}, "seed must be a whole number, 0 or more, got -1"),
        ({"warmup": 1.5}, "warmup must be a share in [0, 1], got 1.5"),
        ({"rescaled": -0.1}, "rescaled must be a share in [0, 1], got -0.1"),
        ({"mixed": math.nan}, "mixed must be a share in [0, 1], got nan"),
        ({"rescaled": 0.7, "mixed": 0.6}, "rescaled + mixed must be at most 1, got 1.3"),
        ({"precision": "float16"}, "precision must be one of auto, float32, bfloat16, got 'float16'"),
        ({"penalty": "l2"}, "penalty must be one of none, one-sided, two-sided, jacobian, got 'l2'"),
        ({"penalty_weight": 0.0}, "penalty_weight must be a positive number, got 0.0"),
        ({"penalty_limit": -1.0}, "penalty_limit must be a positive number, got -1.0"),
        ({"penalty_share": 0.0}, "penalty_share must be a share in (0, 1], got 0.0"),
        ({"penalty_share": math.nan}, "penalty_share must be a share in (0, 1], got nan"),
        ({"sobolev": -0.5}, "sobolev must be 0 or more, got -0.5"),
    ],
    ids=str,
)
def test_bad_options_are_refused(changes, message):
    with pytest.raises(ArgumentError, match=f"^{re.escape(message)}$"):
        Training(**changes)


# Batches


def drawn(metric=METRIC, part=slice(None), **changes) -> Batches:
    return Batches(metric, *DATA, dataclasses.replace(OPTIONS, **changes), None, part)


def test_symmetries_of_a_metric_that_notices_them_get_new_labels():
    class Directional(Minkowski):
        invariant = False

        def _compute(self, fields):
            return super()._compute(fields) + fields[:, :1, :1]

    metric = Directional(METRIC.thresholds, outputs=METRIC.outputs)
    fields, curves = drawn(metric, rescaled=0.0, mixed=0.0)[0]
    np.testing.assert_allclose(curves.numpy(), metric(fields.numpy()), rtol=1e-6)


def test_batches_depend_on_seed_and_number_alone():
    first, second = drawn(), drawn(learning_rate=1.0)
    order = [first[k] for k in (0, 1, 2)], [second[k] for k in (2, 1, 0)][::-1]
    for (fields, curves), (same_fields, same_curves) in zip(*order, strict=True):
        assert torch.equal(fields, same_fields)
        assert torch.equal(curves, same_curves)
    assert not torch.equal(first[0][0], first[1][0])
    assert not torch.equal(first[0][0], drawn(seed=1)[0][0])


@pytest.mark.parametrize("shares", [(0.0, 0.0), (0.25, 0.25), (1.0, 0.0), (0.0, 1.0), (0.5, 0.5)], ids=str)
def test_labels_are_exact(shares):
    rescaled, mixed = shares
    made = drawn(rescaled=rescaled, mixed=mixed, batch_size=16)
    for k in range(5):
        fields, curves = made[k]
        assert fields.shape == (16, 12, 12)
        assert fields.dtype == curves.dtype == torch.float32
        torch.testing.assert_close(
            curves.double(), torch.from_numpy(METRIC(fields.numpy())), rtol=1e-6, atol=1e-5
        )


def test_parts_make_up_the_batch():
    fields, curves = drawn(batch_size=11)[3]
    for count in (2, 3, 11):
        labelled = np.zeros(curves.shape, np.float32)
        for index in range(count):
            part = slice(index, None, count)
            same_fields, labelled[part] = drawn(batch_size=11, part=part)[3]
            assert torch.equal(same_fields, fields)
        assert np.array_equal(labelled, curves)


def test_shares_of_changed_fields():
    originals = {np.sort(field.ravel()).tobytes() for field in DATA[0]}
    fields, _ = drawn(rescaled=0.25, mixed=0.25, batch_size=16)[0]
    kept = [np.sort(field.ravel()).tobytes() in originals for field in fields.numpy()]
    assert kept == [False] * 8 + [True] * 8


def test_batches_leave_the_data_alone():
    fields, curves = DATA[0].copy(), DATA[1].copy()
    made = drawn(rescaled=0.5, mixed=0.5)
    for k in range(4):
        made[k][0].zero_(), made[k][1].zero_()
    assert np.array_equal(DATA[0], fields)
    assert np.array_equal(DATA[1], curves)


def test_rescaled_fields_keep_to_the_quantum():
    quantised = np.round(DATA[0] / 0.25).astype(np.float32) * 0.25
    options = dataclasses.replace(OPTIONS, rescaled=1.0, mixed=0.0)
    fields, _ = Batches(METRIC, quantised, METRIC(quantised), options, quantum=0.25)[0]
    assert torch.equal(fields, (fields / 0.25).round() * 0.25)


# Prefetching


def no_thread_left() -> bool:
    return not any(thread.name.startswith("emuloss-batches") for thread in threading.enumerate())


def test_prefetched_keeps_the_order_and_ends_its_thread():
    with prefetched(lambda k: k * k, 3) as items:
        assert [next(items) for _ in range(20)] == [k * k for k in range(3, 23)]
        assert not no_thread_left()
    assert no_thread_left()


def test_prefetched_by_several_threads_keeps_the_order():
    def make(k: int) -> int:
        time.sleep(0.01 * (k % 3))
        return k * k

    with prefetched(make, 3, threads=4) as items:
        assert [next(items) for _ in range(20)] == [k * k for k in range(3, 23)]
    assert no_thread_left()


def test_prefetched_makes_only_a_few_ahead():
    made = []
    with prefetched(lambda k: made.append(k) or k, 0) as items:
        next(items)
        time.sleep(0.3)
        assert len(made) <= 2 + batches._PREFETCH
    assert no_thread_left()


def test_prefetched_passes_errors_on_in_their_turn():
    def make(k: int) -> float:
        return 1 / (2 - k)

    with prefetched(make, 0) as items:
        assert next(items) == 0.5
        assert next(items) == 1.0
        with pytest.raises(ZeroDivisionError):
            next(items)
    assert no_thread_left()


def test_prefetched_ends_its_thread_when_the_caller_fails():
    def fail() -> None:
        with prefetched(lambda k: k, 0) as items:
            next(items)
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        fail()
    assert no_thread_left()


class Strong(Metric):
    """Number of pixels with strong rain: 0 of most fields."""

    name = "strong"
    outputs, units = ("strong",), ("1",)
    constraints = (AtLeast("strong", "strong >= 0", lambda: 0.0),)
    thresholds, levels, pixel_size, scales = (), (0.5,), 1.0, (5.0,)

    def arguments(self):
        return {}

    def _compute(self, fields):
        return (fields >= 4).sum((1, 2))[:, None, None].astype(float)


def test_a_network_whose_labels_mostly_lie_on_a_bound_does_not_stay_there():
    fields = rain_array(256, 16, 16, seed=0)
    fields[: len(fields) * 2 // 3] *= 0.5
    metric = Strong()
    curves = metric(fields)
    assert (curves == 0).mean() > 0.7
    values = (0.3, 1.0, 4.0)
    emulator = network(metric=metric, intensities=values, spreads=values)
    learner = Learner(emulator, Training(minutes=None, fields=1, learning_rate=3e-3, precision="float32"))
    learner.start(fields, curves)
    fields, curves = torch.from_numpy(fields), torch.from_numpy(curves).float()
    for step in range(120):
        chosen = torch.from_numpy(np.random.default_rng(step).integers(256, size=32))
        learner.learn(fields[chosen], curves[chosen])
    with torch.no_grad():
        found = emulator.eval()(fields)
    assert found.max() > 0.5
    assert (found - curves).square().mean() < curves.square().mean()


@pytest.mark.parametrize("fresh", [True, False])
def test_what_has_learnt_goes_on_from_its_weights(tmp_path, fresh):
    metric = Strong()
    data = [(fields := 2 * rain_array(9, 12, 12, seed=seed), metric(fields)) for seed in range(2)]
    emulator = network(metric=metric, intensities=(0.3, 1.0), spreads=(0.3, 1.0))
    before = {name: tensor.clone() for name, tensor in emulator.state_dict().items()}
    Trainer(emulator, *data, OPTIONS, tmp_path, progress=False, fresh=fresh)
    same = all(torch.equal(before[name], tensor) for name, tensor in emulator.state_dict().items())
    assert same is not fresh
