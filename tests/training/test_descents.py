"""Descents as data: where they begin and go, exact labels, shares, resuming to the bit, and what is told."""

import csv
import dataclasses
import math
import pickle

import numpy as np
import pytest
import torch
from drawn import rain_array
from emuloss.emulators import ConvEmulator, CurveDistance
from emuloss.emulators.spaces import PixelSpace, Values
from emuloss.emulators.spoilt import blurred
from emuloss.errors import ArgumentError, DataError, FieldError
from emuloss.foundation import workers
from emuloss.metrics import CSI, Minkowski
from emuloss.training import Trainer, Training, descents, labels, reservoir
from emuloss.training import learner as learning
from emuloss.training import trainer as training
from emuloss.training.labels import Labels
from emuloss.training.learner import Learner, Neighbours
from emuloss.training.reservoir import Reservoir
from emuloss.training.ways import CONTINUED, STEPS, Starts, direction, way
from wetness import Wetness

METRIC = Minkowski((0.3, 0.8, 2.0), outputs=("area", "euler"))
BATCH = 8
OPTIONS = Training(
    minutes=None,
    fields=6 * BATCH,
    batch_size=BATCH,
    validations=6,
    learning_rate=3e-3,
    precision="float32",
    descents=0.5,
)


def data(number: int, seed: int, metric=METRIC):
    fields = rain_array(number, 12, 12, seed=seed)
    fields[:, :3] = 0
    if metric.arity == 2:
        fields = np.stack([blurred(fields, 2), fields], axis=1)
    return fields, metric(*metric.parts(fields))


def network(metric=METRIC) -> ConvEmulator:
    spreads = [0.5] * len(metric.thresholds)
    return ConvEmulator(metric, widths=(8, 16), hidden=16, prior=None, spreads=spreads)


def trainer(folder, metric=METRIC, seed=0, **changes) -> Trainer:
    folder.mkdir(exist_ok=True)
    torch.manual_seed(seed)
    emulator = network(metric)
    options = dataclasses.replace(OPTIONS, **changes)
    return Trainer(emulator, data(24, 0, metric), data(9, 1, metric), options, folder, progress=False)


@pytest.fixture
def at_once(monkeypatch):
    """Rounds of descents are frequent, and begin with the first validation."""
    monkeypatch.setattr(training, "_LEARNT", math.inf)
    monkeypatch.setattr(descents, "EVERY", 2)


# Where they begin


def starts(metric=METRIC, fields=None, curves=None) -> Starts:
    found, labels = data(24, 0, metric)
    return Starts(metric, found if fields is None else fields, labels if curves is None else curves, seed=3)


@pytest.mark.parametrize("metric", [METRIC, CSI([0.5, 1.0])], ids=lambda m: m.name)
def test_starts_depend_on_the_seed_and_their_number_alone(metric):
    made, again = starts(metric), starts(metric)
    order = [(0, 0), (0, 1), (16, 1)]
    first = [made(*which) for which in order]
    for start, same in zip(first, reversed([again(*which) for which in reversed(order)]), strict=True):
        for ours, theirs in zip(start, same, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(first[0].field, first[1].field)
    assert not np.array_equal(first[1].field, first[2].field)


def test_starts_keep_to_the_values_of_the_data_and_aim_at_curves_of_fields():
    made = starts()
    fields, curves = made.fields, made.curves
    assert fields.min() == 0
    known = {label.tobytes() for label in curves.astype(np.float32)}
    pixels = {field.tobytes() for field in fields}
    for k in range(40):
        start = made(k, k)
        assert start.field.dtype == np.float32
        assert 0 <= start.field.min() <= start.field.max() <= np.float32(made.highest)
        assert start.goal.tobytes() in known
        assert start.field.tobytes() not in pixels
        assert start.beside is None
        assert (start.kept[0], start.kept[-1], len(set(start.kept))) == (0, STEPS, len(start.kept))
        assert (np.diff(start.kept) > 0).all()


def test_starts_of_pairs_have_their_observation_beside_them():
    metric = CSI([0.5])
    made = starts(metric)
    observations = {field.tobytes() for field in made.fields[:, 1]}
    for k in range(12):
        assert made(0, k).beside.tobytes() in observations or metric.invariant


@pytest.mark.parametrize("metric", [METRIC, CSI([0.5, 1.0])], ids=lambda m: m.name)
def test_some_ways_go_on_from_what_was_met(metric):
    made, met = starts(metric), Reservoir(4)
    fields, curves = data(4, 7, metric)
    met.add(fields, curves, [0, 0, 1, 1])
    known = [field.tobytes() for field in fields.reshape(4, -1, 12, 12)[:, 0]]
    going_on = [start for k in range(40) if (start := made(0, k, met)).field.tobytes() in known]
    assert 0.5 < len(going_on) / 40 / CONTINUED < 1.5
    for start in going_on:
        if metric.arity == 2:
            assert start.beside.tobytes() == fields[known.index(start.field.tobytes()), 1].tobytes()


def test_fields_that_are_like_most_are_not_descended_from():
    fields = np.zeros((10, 12, 12), np.float32)
    fields[7, 5, 5] = 3
    assert starts(fields=fields, curves=METRIC(fields)).telling.tolist() == [7]
    assert len(starts(fields=fields[:4], curves=METRIC(fields[:4])).telling) == 4


def test_what_was_not_measured_stays_so_on_the_way():
    fields, _ = data(24, 0)
    fields[:, 4, 4:8] = np.nan
    start = starts(fields=fields, curves=METRIC(fields))(0, 0)
    assert np.isnan(start.field).sum() == 4
    space = PixelSpace.of(Values.of(fields), lowest=0.0)
    one = torch.ones(1, 1, 1)
    gone = way(
        lambda x: torch.nan_to_num(x).sum((1, 2))[:, None, None],
        lambda curves: curves[:, 0, 0],
        torch.from_numpy(start.field[None]),
        space,
        length=0.1 * one,
        softness=one,
    )
    for met, _ in gone:
        assert torch.equal(met.isnan()[0], torch.from_numpy(np.isnan(start.field)))


# Where they go


@pytest.mark.parametrize("softness", [0.01, 1.0, 100.0])
def test_steps_go_down_and_are_of_one_size(softness):
    gradient = (
        torch.from_numpy(np.random.default_rng(0).normal(size=(5, 9, 7)))
        * torch.logspace(-9, 9, 5)[:, None, None]
    )
    step = direction(gradient, torch.full((5, 1, 1), softness))
    assert ((step * gradient) <= 0).all()
    size = step.square().mean((1, 2)).sqrt()
    torch.testing.assert_close(size, torch.ones(5, dtype=torch.float64), rtol=0.05, atol=0)
    if softness == 0.01:
        assert step.abs().std() < 0.1  # as by Adam
    if softness == 100.0:
        along = -gradient / gradient.square().mean((1, 2), keepdim=True).sqrt()
        torch.testing.assert_close(step, along.clamp(-3, 3), rtol=0.1, atol=0.1)


def test_no_gradient_no_step():
    gradient = torch.zeros(2, 3, 3)
    gradient[1, 0, 0] = math.nan
    assert torch.equal(direction(gradient, torch.ones(2, 1, 1)), torch.zeros(2, 3, 3))


def test_a_way_lowers_what_the_model_says_and_stays_above_the_ground():
    torch.manual_seed(0)
    learner = Learner(network(), OPTIONS)
    fields, curves = data(6, 0)
    for _ in range(20):
        learner.learn(torch.from_numpy(fields), torch.from_numpy(curves).float())
    emulator = learner.emulator.eval()
    goals = torch.from_numpy(curves[::-1].copy()).float()
    distance = CurveDistance.of(METRIC)
    space = starts().space
    before = {name: tensor.clone() for name, tensor in emulator.state_dict().items()}
    gone = list(
        way(
            emulator,
            lambda said: distance(said, goals).sum(1),
            torch.from_numpy(fields),
            space,
            length=torch.full((6, 1, 1), 0.1),
            softness=torch.ones(6, 1, 1),
        )
    )
    assert len(gone) == STEPS + 1
    assert torch.equal(gone[0][0], torch.from_numpy(fields))
    said = [distance(curves, goals).sum(1) for _, curves in gone]
    assert said[-1].sum() < 0.9 * said[0].sum()
    for met, told in gone:
        assert met.min() >= 0
        torch.testing.assert_close(told, emulator(met), rtol=1e-4, atol=1e-3)
    assert all(torch.equal(before[name], tensor) for name, tensor in emulator.state_dict().items())


# What is learnt from


def test_they_begin_once_more_than_a_constant_is_learnt(tmp_path, monkeypatch):
    monkeypatch.setattr(descents, "EVERY", 1)
    run = trainer(tmp_path / "run")
    seen = []
    learn = run.learner.learn

    def record(fields, curves, rate, neighbours):
        seen.append((fields.clone(), curves.clone(), neighbours))
        if run.step == 3:
            run.best["loss"] = 0.79 * run.constant
        return learn(fields, curves, rate, neighbours)

    monkeypatch.setattr(run.learner, "learn", record)
    monkeypatch.setattr(run.learner, "distances", lambda fields, curves: torch.full((len(fields), 2), 1e3))
    run.best["loss"] = 0.81 * run.constant
    run.run()
    for k, (fields, curves, neighbours) in enumerate(seen):
        plain = run.batches[k]
        same = torch.equal(fields, plain[0]) and torch.equal(curves, plain[1])
        assert same == (k <= 3)
        assert (neighbours is None) == (k <= 3)


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("metric", [METRIC, CSI([0.5, 1.0])], ids=lambda m: m.name)
def test_labels_are_exact_and_the_share_is_kept(tmp_path, at_once, monkeypatch, share, metric):
    run = trainer(tmp_path / "run", metric, descents=share)
    seen = []
    learn = run.learner.learn

    def record(fields, curves, rate, neighbours):
        seen.append((run.step, fields.clone(), curves.clone(), neighbours))
        return learn(fields, curves, rate, neighbours)

    monkeypatch.setattr(run.learner, "learn", record)
    run.run()
    number = round(share * BATCH)
    held = run.descents.reservoir.state_dict()
    assert 0 < len(run.descents.reservoir) <= run.descents.reservoir.capacity
    known = {field.numpy().tobytes() for field in held["fields"]}
    for step, fields, curves, neighbours in seen[2:]:
        exact = torch.from_numpy(metric(*metric.parts(fields.numpy()))).float()
        torch.testing.assert_close(curves, exact)
        met = [field.numpy().tobytes() in known for field in fields]
        assert met == [False] * (BATCH - number) + [True] * number
        torch.testing.assert_close(fields[: BATCH - number], run.batches[step][0][: BATCH - number])
        assert neighbours.places.shape == (number // 2, 2)
        torch.testing.assert_close(neighbours.curves, exact[neighbours.places])


def test_the_reservoir_is_bounded(tmp_path, at_once, monkeypatch):
    monkeypatch.setattr(reservoir, "_PIXELS", 20 * 144)
    run = trainer(tmp_path / "run")
    run.run()
    assert len(run.descents.reservoir) == 20


def test_without_descents_batches_and_log_are_plain(tmp_path, at_once):
    run = trainer(tmp_path / "run", descents=0.0)
    run.run()
    assert len(run.descents.reservoir) == 0
    assert "descents_r2" not in (tmp_path / "run" / "log.csv").read_text()


def test_the_log_tells_what_the_emulator_said_before_it_learnt(tmp_path, at_once, monkeypatch):
    run = trainer(tmp_path / "run")
    gone = []
    prepare = run.descents.prepare

    def spied(step, seconds):
        prepare(step, seconds)
        if run.descents._new:
            found, exact = run.descents._new[-1]
            run.emulator.eval()
            with torch.no_grad():
                said = run.emulator(torch.from_numpy(found.fields.reshape(-1, 12, 12)))
            np.testing.assert_allclose(
                said.numpy().reshape(found.said.shape), found.said, rtol=1e-4, atol=1e-3
            )
            gone.append((step, found, exact))

    monkeypatch.setattr(run.descents, "prepare", spied)
    run.run()
    with (tmp_path / "run" / "log.csv").open() as file:
        rows = {int(row["step"]): row for row in csv.DictReader(file)}
    assert rows[1]["descents_r2"] == ""  # before they began
    step, found, labels = gone[0]
    said, exact = (curves.reshape(-1, 6).astype(np.float64) for curves in (found.said, labels))
    defined = exact.std(0) > 0
    r2 = (1 - ((said - exact) ** 2).sum(0) / ((exact - exact.mean(0)) ** 2).sum(0))[defined].mean()
    row = rows[step + 1]
    assert float(row["descents_r2"]) == pytest.approx(r2)
    distance = CurveDistance.of(METRIC)
    goals = torch.from_numpy(found.goals).double()
    gains = [
        sum(
            float(sign * distance(torch.from_numpy(curves[:, place]).double(), goals).sum())
            for sign, place in ((1, 0), (-1, -1))
        )
        for curves in (found.said, labels)
    ]
    assert float(row["descents_ratio"]) == pytest.approx(gains[0] / gains[1])


def test_neighbours_learn_their_difference(monkeypatch):
    monkeypatch.setattr(learning, "_CHANGES", 5.0)
    fields, curves = (torch.from_numpy(array).float() for array in data(BATCH, 0))
    places = torch.arange(BATCH).reshape(-1, 2)

    def wrong(neighbours) -> float:
        """How far differences are wrong after some steps."""
        torch.manual_seed(0)
        learner = Learner(network(), OPTIONS)
        for _ in range(40):
            learner.learn(fields, curves, None, neighbours)
        learner.emulator.eval()
        with torch.no_grad():
            said = learner.distance.scaled(learner.emulator(fields))[places]
        exact = learner.distance.scaled(curves)[places]
        return float(learner.distance.size((said - exact)[:, 1] - (said - exact)[:, 0]).sum())

    assert wrong(Neighbours(places, curves[places])) < 0.9 * wrong(None)


# Whose share


@pytest.mark.parametrize(
    ("metric", "changes", "share"),
    [
        (METRIC, {}, 0.25),
        (METRIC, {"minutes": 1.0}, None),
        (METRIC, {"precision": "auto"}, None),
        (METRIC, {"descents": 0.125, "minutes": 1.0}, 0.125),
        (METRIC, {"descents": 0}, 0.0),
        (Wetness(), {}, 0.0),
        (Wetness(), {"minutes": 1.0}, None),
        (Wetness(), {"descents": 1}, 1.0),
        (CSI([0.5]), {"minutes": 1.0}, None),
    ],
    ids=str,
)
def test_the_share_that_nobody_asked_for(tmp_path, metric, changes, share):
    made = trainer(tmp_path / "run", metric, **{"descents": None, **changes}).descents.share
    assert made == share
    assert type(made) is type(share)


@pytest.mark.parametrize(("affordable", "share"), [(0.0, 0.0), (math.inf, 0.25)])
def test_dear_labels_are_done_without_and_the_choice_is_kept(
    tmp_path, at_once, monkeypatch, affordable, share
):
    monkeypatch.setattr(descents, "_AFFORDABLE", affordable)
    changes = {"minutes": 60.0, "descents": None}
    run = trainer(tmp_path / "run", Wetness(), **changes)
    validate, left = run._validate, []
    monkeypatch.setattr(
        run, "_validate", lambda told: (validate(told), left.append(run.descents._labels._workers))
    )
    run.run()
    assert (left[-1] is None) == (share == 0)  # no process waits for nothing
    assert run.descents.share == share
    assert (len(run.descents.reservoir) > 0) == (share > 0)
    assert trainer(tmp_path / "run", Wetness(), **changes).descents.share == share


@pytest.mark.parametrize(
    ("does", "error", "what"),
    [("refuse", FieldError, "too wet"), ("die", DataError, "wetness died")],
    ids=["refuses", "dies"],
)
def test_a_metric_that_fails_ends_descents_that_nobody_asked_for(tmp_path, at_once, does, error, what):
    run = trainer(tmp_path / "run", Wetness(does), descents=None, minutes=60.0)
    with pytest.warns(UserWarning, match=f"^descents are left out, since .*{what}"):
        run.run()
    assert (run.finished, run.descents.share) == (True, 0.0)
    run = trainer(tmp_path / "asked", Wetness(does))
    with pytest.raises(error, match=what):
        run.run()


@pytest.mark.parametrize("share", [-0.1, 1.5, math.nan])
def test_odd_shares_are_refused(share):
    with pytest.raises(ArgumentError, match=r"^descents must be a share in \[0, 1\]"):
        Training(descents=share)


# Going on


def assert_same_end(ours: Trainer, theirs: Trainer) -> None:
    assert (ours.step, ours.finished) == (theirs.step, theirs.finished)
    for name, tensor in ours.learner.emulator.state_dict().items():
        assert torch.equal(tensor, theirs.learner.emulator.state_dict()[name]), name
    assert ours.best["loss"] == theirs.best["loss"]
    held = [run.descents.reservoir.state_dict() for run in (ours, theirs)]
    for name in ("fields", "curves", "ways"):
        assert torch.equal(held[0][name], held[1][name])


@pytest.mark.parametrize("metric", [METRIC, CSI([0.5, 1.0]), Wetness()], ids=lambda m: m.name)
def test_a_state_of_any_step_resumes_to_the_last_bit(tmp_path, at_once, monkeypatch, metric):
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(reservoir, "_PIXELS", 20 * 144)
    states = []
    original = Trainer.save

    def keep(self):
        original(self)
        states.append((tmp_path / "first" / "training.pt").read_bytes())

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save", keep)
        whole = trainer(tmp_path / "first", metric)
        whole.run()
    assert len(whole.descents.reservoir)
    for k in range(5):
        folder = tmp_path / str(k)
        folder.mkdir()
        (folder / "training.pt").write_bytes(states[k])
        torch.manual_seed(123)  # the global generator plays no part
        resumed = trainer(folder, metric, seed=9)
        assert resumed.step == k + 1
        resumed.run()
        assert_same_end(resumed, whole)


def test_a_state_of_a_version_without_descents_goes_on_without(tmp_path, at_once):
    run = trainer(tmp_path / "run", descents=None)
    state = run.state_dict()
    del state["descents"], state["options"]["descents"]
    training.write_state(tmp_path / "run", state)
    again = trainer(tmp_path / "run", descents=None)
    assert again.descents.share == 0.0
    with pytest.raises(ArgumentError, match=r"options\.descents is null there and 0\.5 here"):
        trainer(tmp_path / "run")


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("metric", [METRIC, Wetness()], ids=lambda m: m.name)
def test_ways_of_several_processes_make_up_those_of_one(tmp_path, monkeypatch, metric, count):
    """Each goes its part of them and labels it, and all hold them in the same order."""

    runs = iter(trainer(tmp_path / f"{k}", metric) for k in range(99))

    def held(run) -> dict:
        with run.descents as ours:
            ours.prepare(0, 0.0)
            ours.prepare(descents.EVERY, 0.0)
            return ours.reservoir.state_dict()

    whole = held(next(runs))
    meetings: list[list] = []
    while True:
        met: list = []
        for rank in range(count):
            run, coming = next(runs), iter(list(meetings))

            def meet(value, coming=coming, met=met):
                if (parts := next(coming, None)) is None:
                    met.append(value)
                    raise InterruptedError
                return parts

            with monkeypatch.context() as patch:
                patch.setattr(run.learner.team, "world_size", count)
                patch.setattr(run.learner.team, "part", slice(rank, None, count))
                patch.setattr(run.learner.team, "all_gather", meet)
                try:
                    ours = held(run)
                except InterruptedError:
                    continue
            for name, tensor in ours.items():
                if name != "begun":
                    torch.testing.assert_close(tensor, whole[name], rtol=1e-3, atol=1e-3)
        if not met:
            break
        assert len(met) == count
        meetings.append(met)
    assert len(meetings) == (4 if metric is METRIC else 3)


# Metrics in plain Python


@pytest.mark.parametrize("fails", ["to be sent", "to be received"])
def test_what_other_processes_cannot_have_is_labelled_here(tmp_path, at_once, monkeypatch, fails):
    class Local(Wetness):
        """No other process can import it."""

    if fails == "to be received":  # as what is defined in a script is
        monkeypatch.setattr(workers, "beginning", lambda work, title: pickle.dumps((title, b"no pickle")))
    with trainer(tmp_path / "run", Local()).descents as ours:
        ours.prepare(0)
        ours.prepare(2)
        assert not ours._labels.behind
        held = ours.reservoir.state_dict()
        assert len(held["curves"])
        torch.testing.assert_close(held["curves"][:, 0, 0], (held["fields"] >= 0.5).float().mean((1, 2)))


def test_no_process_outlives_labels_that_are_left_at_once(monkeypatch):
    monkeypatch.setattr(labels, "usable_cores", lambda: 8)
    with Labels(Wetness()) as ours:
        ours.begin(np.zeros((8, 2, 5, 5), np.float32))
        processes = [worker.process for worker in ours._workers._workers]
    assert len(processes) == 4
    assert all(process.poll() is not None for process in processes)


def test_labels_are_charged_to_the_whole_machine(monkeypatch):
    monkeypatch.setattr(labels, "usable_cores", lambda: 8)
    with Labels(Wetness(), sharing=2) as ours:
        monkeypatch.setattr(ours, "_made", lambda work, fields: (np.zeros((2, 3, 1, 1)), 1.0))
        _, seconds = ours.finish(np.zeros((2, 3, 5, 5), np.float32))
    assert seconds == 0.5  # two processes are busy for each of the two that learn, of eight cores


def test_other_processes_label_until_the_next_round(tmp_path, at_once):
    quick = Wetness()
    quick.parallel = "threads"
    runs = [trainer(tmp_path / metric.parallel, metric) for metric in (Wetness(), quick)]
    with runs[0].descents as late, runs[1].descents as soon:
        late.prepare(0)
        soon.prepare(0)
        assert (len(late.reservoir), len(soon.reservoir)) == (0, 16)
        late.prepare(1)
        assert len(late.reservoir) == 0
        late.prepare(2)
        theirs = soon.reservoir.state_dict()
        for name, held in late.reservoir.state_dict().items():
            assert torch.equal(torch.as_tensor(held), torch.as_tensor(theirs[name])), name
        processes = [worker.process for worker in late._labels._workers._workers]
        assert processes
        assert all(process.poll() is None for process in processes)
    assert all(process.poll() is not None for process in processes)


def test_training_waits_for_no_labels_before_the_next_round(tmp_path, at_once):
    file = tmp_path / "go on"
    with trainer(tmp_path / "run", Wetness(waits_for=str(file))).descents as ours:
        ours.prepare(0)
        ours.prepare(1)
        assert len(ours.state_dict()["waiting"]["fields"]) == 4
        assert not ours._labels._begun.done()
        file.touch()
        ours.prepare(2)
        assert len(ours.reservoir) == 16
