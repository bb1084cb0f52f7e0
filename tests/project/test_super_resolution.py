"""The comparison of losses in super-resolution: its parts, and the whole command on a few fields."""

import importlib
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import emuloss
import numpy as np
import pytest
import skimage.io
import torch
from array_files import swiss
from emuloss.datasets import Rain
from safetensors.torch import load_file
from super_resolution import FOLDER, importable, rain, started
from torch.nn import functional as F

MODULES = ("data", "network", "objectives", "scores", "training", "costs", "limits", "report")


@pytest.fixture
def example():
    """The modules of the example."""
    with importable():
        found = {name: importlib.import_module(name) for name in MODULES}
        yield SimpleNamespace(**found, main=started())


@pytest.fixture
def fields(example):
    parts = rain(24), rain(4, seed=1), rain(6, seed=2)
    return example.data.Fields(*parts, 2.0, "drawn rain", torch.arange(6))


def test_fields_of_a_file_are_read_and_split(example, tmp_path):
    fields = rain(60)
    fields[:, 0, 0] = torch.arange(60)  # dry ones would be alike
    np.save(tmp_path / "rain.npy", fields.numpy())
    found = example.data.read(str(tmp_path / "rain.npy"), size=64)
    parts = [found.train, found.validation, found.test]
    assert all(len(part) for part in parts)
    read = {field.tobytes() for part in parts for field in part.numpy()}
    assert len(read) == sum(map(len, parts)) > 50  # none twice; a gap before the test is left out
    assert read <= {field.tobytes() for field in fields.numpy()}


def test_groups_are_the_times_that_fields_come_from(example, tmp_path):
    frames = rain(12, size=128)
    frames += 20 * torch.arange(12)[:, None, None]  # which tells the time of a patch
    np.save(tmp_path / "rain.npy", frames.numpy())
    found = example.data.read(str(tmp_path / "rain.npy"), size=64)
    assert found.test_groups.dtype == torch.int64
    assert torch.equal(found.test_groups, (found.test.amin((1, 2)) / 20).long())
    assert found.test_groups.tolist() == [10] * 4 + [11] * 4

    drawn = example.data.read("rain", count=60, size=64)
    assert len(drawn.test_groups.unique()) == len(drawn.test_groups) == len(drawn.test)


def test_finer_pixels_become_means_of_rates(example, tmp_path):
    pytest.importorskip("pysteps")
    levels = np.random.default_rng(0).integers(0, 200, (12, 131, 261))
    levels[:, :, 128:135] = 255  # where nothing was measured
    for k, each in enumerate(levels):
        swiss(tmp_path, f"AQC16193{2000 + 5 * k}V_00005.801.gif", each)
    found = example.data.read(f"pysteps:mch_gif:{tmp_path}", size=64)

    rates = np.where(levels < 2, 0, 12 * (10 ** ((levels - 71.5) / 20) / 316) ** (1 / 1.5))
    rates[levels == 255] = np.nan
    blocks = rates[:, :128, :256].reshape(12, 64, 2, 128, 2)
    coarse = np.nansum(blocks, axis=(2, 4)) / 4
    coarse[:, :, 64:67], coarse[:, :, 67] = np.nan, 2 * coarse[:, :, 67]  # of which half was measured
    assert found.pixel_size == 2.0
    patches = [coarse[k, :, left : left + 64] for k in (10, 11) for left in (0, 64)]
    np.testing.assert_allclose(found.test, patches, rtol=1e-5)
    assert found.test_groups.tolist() == [10, 10, 11, 11]
    assert len(found.train) == 8 * 3  # half a patch apart
    given = example.data.read(f"pysteps:mch_gif:{tmp_path}", size=64, coarsen=2, stride=64)
    assert torch.equal(given.test.nan_to_num(-1), found.test.nan_to_num(-1))
    assert len(given.train) == 8 * 2


def test_files_that_tell_no_size_have_that_of_the_metric(example, tmp_path):
    fine = rain(12, size=128)
    np.save(tmp_path / "rain.npy", fine.numpy())
    for options in ({"coarsen": 2}, {"pixel_size": 1.0}):
        found = example.data.read(str(tmp_path / "rain.npy"), size=64, **options)
        torch.testing.assert_close(found.test, F.avg_pool2d(fine[-2:, None], 2)[:, 0])


def test_fields_that_the_losses_do_not_know_are_refused(example, tmp_path, monkeypatch):
    np.save(tmp_path / "rain.npy", rain(8).numpy())
    with pytest.raises(emuloss.errors.ArgumentError, match=r"pixels of 2 km, .*rain.npy' has .* on 1.6 "):
        example.data.read(str(tmp_path / "rain.npy"), size=32, pixel_size=0.8)
    (tmp_path / "images").mkdir()
    skimage.io.imsave(tmp_path / "images" / "x.png", np.zeros((64, 64), np.uint8), check_contrast=False)
    with pytest.raises(emuloss.errors.ArgumentError, match="no unit on 2 "):
        example.data.read(f"images:{tmp_path / 'images'}", size=64, pixel_size=2.0)
    monkeypatch.setattr(Rain, "unit", "K")
    with pytest.raises(emuloss.errors.ArgumentError, match="'rain' has K on 2 km"):
        example.data.read("rain", count=8)


def test_coarse_cells_are_area_means(example):
    x = rain(3)
    coarsening = example.data.Coarsening((64, 64), 8)
    torch.testing.assert_close(coarsening(x), F.avg_pool2d(x[:, None], 8)[:, 0])
    for factor in (12.5, 5.3, 1.0, 64.0, 80.0):
        coarsening = example.data.Coarsening((64, 48), factor)
        coarse = coarsening(x[:, :, :48])
        assert coarse.shape == (3, math.ceil(64 / factor), math.ceil(48 / factor))
        rows, columns = (
            torch.tensor([min((i + 1) * factor, size) - i * factor for i in range(math.ceil(size / factor))])
            for size in (64, 48)
        )
        total = (coarse * rows[:, None] * columns).sum((1, 2))
        torch.testing.assert_close(total, x[:, :, :48].sum((1, 2)), rtol=1e-4, atol=1e-3)


def test_coarse_cells_leave_out_what_was_not_measured(example):
    x = rain(1)
    x[0, :8, :4] = math.nan
    x[0, 8:16, 8:16] = math.nan
    coarse = example.data.Coarsening((64, 64), 8)(x)
    torch.testing.assert_close(coarse[0, 0, 0], x[0, :8, 4:8].mean())
    assert coarse[0, 1, 1] == 0
    assert torch.isfinite(coarse).all()


def test_interpolation_keeps_planes(example):
    coarsening = example.data.Coarsening((64, 64), 12.5)
    plane = torch.arange(64.0)[:, None] + 2 * torch.arange(64.0)
    found = coarsening.interpolate(coarsening(plane[None]))[0]
    torch.testing.assert_close(found[7:57, 7:57], plane[7:57, 7:57])
    torch.testing.assert_close(coarsening.interpolate(torch.ones(1, 6, 6)), torch.ones(1, 64, 64))


def test_network_starts_at_interpolation_and_stays_above_zero(example):
    network = example.network.UNet((8, 8, 8, 8))
    smooth = rain(2)[:, None]
    torch.nn.init.zeros_(network.exit.weight)
    torch.nn.init.zeros_(network.exit.bias)
    torch.testing.assert_close(network(smooth), torch.log1p(smooth))
    torch.nn.init.normal_(network.exit.weight)
    assert (network(smooth) >= 0).all()


def test_every_objective_teaches_the_network(example):
    target, prediction = rain(4, size=128), torch.log1p(rain(4, seed=1, size=128)).requires_grad_()
    target[0, :5] = math.nan
    plain, error = example.objectives.Objective("mse", 0.0)(prediction, target)
    assert plain is error
    for name in example.objectives.KINDS:
        objective = example.objectives.Objective(name, 0.1)
        total, squared = objective(prediction, target)
        assert squared == error
        assert total != error
        (gradient,) = torch.autograd.grad(total - squared, prediction)
        assert torch.isfinite(gradient).all()
        assert gradient.any()
        assert not gradient[0, :5].any()
        objective.at(0.0)
        assert objective(prediction, target)[0] == error


@pytest.mark.parametrize("name", ["relaxed", "excursion"])
def test_labels_computed_once_serve_for_targets_in_any_position(example, name):
    target, prediction = rain(4, size=128), torch.log1p(rain(4, seed=1, size=128))
    target[0, :5] = math.nan
    objective = example.objectives.Objective(name, 0.1)
    labels = objective.labels(target)
    for turns in range(4):
        turned = torch.rot90(target, turns, (1, 2)).flip(2)
        torch.testing.assert_close(
            objective(prediction, turned, labels)[0], objective(prediction, turned)[0], rtol=1e-5, atol=0
        )


def test_batches_go_with_their_labels(example):
    options, fields = example.training.Options(64, batch_size=16), rain(40, size=128)
    labels = example.objectives.Objective("relaxed", 0.1).labels(fields)
    for step in range(3):
        chosen, turned = example.training.batch_of(fields, options, step)
        found = torch.from_numpy(example.objectives.minkowski()(turned.numpy())).float()
        torch.testing.assert_close(labels[chosen], found)
        assert not torch.equal(turned, fields[chosen])


def test_training_compares_each_field_with_its_own_curves(example, fields, tmp_path, monkeypatch):
    """In steps and in validation: labels that are given are those of the targets that are given."""
    forward, batches = example.objectives.Objective.forward, []

    def checked(objective, prediction, target, labels=None):
        torch.testing.assert_close(labels, objective.labels(target))
        batches.append(objective.training)
        return forward(objective, prediction, target, labels)

    monkeypatch.setattr(example.objectives.Objective, "forward", checked)
    options = example.training.Options(32, batch_size=8, validations=2, precision="no")
    example.training.train(
        example.objectives.Objective("relaxed", 0.01), fields, options, tmp_path / "run", progress=False
    )
    assert batches == [True, True, False, True, True, False]


def test_a_balanced_loss_has_its_share_of_the_gradient(example):
    """And is otherwise the loss with a weight, which rises and cools alike."""
    target, prediction = rain(4, size=128), torch.log1p(rain(4, seed=1, size=128)).requires_grad_()
    balanced = example.objectives.Objective("relaxed-balanced", 0.3)
    labels = balanced.labels(target)
    total, error = balanced(prediction, target, labels)
    assert float(balanced.combined.shares["distance"]) == pytest.approx(0.3, abs=1e-4)
    weight = float(balanced.combined.weights["distance"])
    same = example.objectives.Objective("relaxed", weight)(prediction, target, labels)
    torch.testing.assert_close((total, error), same)
    assert balanced.asked["settings"]["balanced"]
    balanced.at(0.0)
    assert balanced(prediction, target, labels)[0] == error


def test_a_loss_with_other_settings_is_another_training(example, fields, tmp_path, monkeypatch):
    options = example.training.Options(8, batch_size=8, validations=1, precision="no")
    example.training.train(
        example.objectives.Objective("relaxed", 0.01), fields, options, tmp_path / "run", progress=False
    )
    kind = replace(example.objectives.KINDS["relaxed"], arguments=())
    monkeypatch.setitem(example.objectives.KINDS, "relaxed", kind)
    with pytest.raises(SystemExit, match="a run with settings"):
        example.training.train(
            example.objectives.Objective("relaxed", 0.01), fields, options, tmp_path / "run", progress=False
        )


def test_labels_are_of_losses_that_compare_with_exact_curves(example):
    for name in ("relaxed-hot", "certified", "fss"):
        assert example.objectives.Objective(name, 0.1).labels(rain(2, size=128)) is None


def test_the_temperature_falls_from_its_first_to_its_last(example, monkeypatch):
    kind = replace(example.objectives.KINDS["relaxed"], temperature=(0.4, 0.1))
    monkeypatch.setitem(example.objectives.KINDS, "relaxed", kind)
    objective = example.objectives.Objective("relaxed", 1.0)
    temperatures = []
    for progress in (0.0, 0.4, 1.0):
        objective.at(progress)
        temperatures.append(objective.loss.surrogate.temperature)
    assert temperatures[0] == pytest.approx(0.4)
    assert temperatures[2] == pytest.approx(0.1)
    assert temperatures[0] > temperatures[1] > temperatures[2]


def test_scores_of_what_was_observed(example):
    observed = rain(6)
    observed[0, :9] = math.nan
    found = example.scores.score(observed.nan_to_num(0.0), observed)
    means = {name: example.scores.mean(found, name) for name in found}
    assert {name for name, value in means.items() if value == 0} == {
        "log MSE", "MSE", "area", "perimeter", "euler", "components", "distance", "clusters",
        "spectrum",
    }  # fmt: skip
    assert all(value in (0, 1) for value in means.values() if not math.isnan(value))


def test_scores_of_other_fields(example):
    observed, predicted = rain(6), rain(6, seed=1)
    found = example.scores.score(predicted, observed)
    assert example.scores.mean(found, "MSE") == pytest.approx(
        float(F.mse_loss(predicted, observed)), rel=1e-5
    )
    loss = emuloss.relax(example.objectives.minkowski()).as_loss(forward="exact")
    assert example.scores.mean(found, "distance") == pytest.approx(float(loss(predicted, observed)), rel=1e-5)
    wet = [(x >= 0.5).double().mean() for x in (predicted, observed)]
    assert example.scores.mean(found, "wet") == pytest.approx(float(wet[0] / wet[1]))
    heavy = [float(np.quantile(x, 0.99)) for x in (predicted, observed)]
    assert example.scores.mean(found, "bins") == pytest.approx(heavy[0] / heavy[1], rel=0.05)
    low, high = example.scores.interval(found, "distance")
    assert low < example.scores.mean(found, "distance") < high
    assert example.scores.interval(found, "distance", than=found) == (1.0, 1.0)


def test_a_killed_training_goes_on_as_if_nothing_had_happened(example, fields, tmp_path, monkeypatch):
    options = example.training.Options(64, batch_size=8, validations=4, precision="no")
    example.training.train(
        example.objectives.Objective("relaxed", 0.01), fields, options, tmp_path / "whole", progress=False
    )
    batch, calls = example.training.batch_of, []

    def dying(*arguments):
        calls.append(arguments)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return batch(*arguments)

    monkeypatch.setattr(example.training, "batch_of", dying)
    arguments = (example.objectives.Objective("relaxed", 0.01), fields, options, tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        example.training.train(*arguments, progress=False)
    with pytest.raises(SystemExit, match=r"weight 0\.01, not 0\.02"):
        example.training.train(
            example.objectives.Objective("relaxed", 0.02), fields, options, tmp_path / "parts", progress=False
        )
    example.training.train(*arguments, progress=False)
    assert len(calls) == 6 + 4  # from the last validation, after 4 of 8 steps, on
    whole, parts = (example.training.trained(tmp_path / name, fields) for name in ("whole", "parts"))
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    example.training.train(*arguments, progress=False)
    assert len(calls) == 10
    other = fields._replace(source="other rain")
    with pytest.raises(SystemExit, match="source 'drawn rain', not 'other rain'"):
        example.training.train(
            example.objectives.Objective("relaxed", 0.01), other, options, tmp_path / "parts", progress=False
        )


def test_training_learns(example, fields, tmp_path):
    options = example.training.Options(480, batch_size=8)
    example.training.train(
        example.objectives.Objective("mse", 0.0), fields, options, tmp_path / "run", progress=False
    )
    model = example.training.trained(tmp_path / "run", fields)
    smooth = torch.log1p(model.coarsening.interpolate(model.coarsening(fields.train)))
    learnt = torch.log1p(model.predict(fields.train))
    truth = torch.log1p(fields.train)
    assert F.mse_loss(learnt, truth) < 0.97 * F.mse_loss(smooth, truth)


@pytest.mark.parametrize(("name", "expected"), [("mse", 3), ("relaxed", 10)])
def test_training_stops_early_once_its_objective_has_settled(
    example, fields, tmp_path, monkeypatch, name, expected
):
    """Each validation is worse than the one before: of ten, two come after the relaxed loss has settled."""
    values = iter(range(1, 100))
    monkeypatch.setattr(example.training, "_validate", lambda *_: torch.tensor([next(values), 0.0]))
    options = example.training.Options(80, batch_size=8, validations=10, patience=2, precision="no")
    example.training.train(
        example.objectives.Objective(name, 0.01), fields, options, tmp_path / "run", progress=False
    )
    assert next(values) == expected + 1
    assert json.loads((tmp_path / "run" / "training.json").read_text())["fields"] == 8 * expected


def test_an_objective_that_is_never_finite_is_said(example, fields, tmp_path, monkeypatch):
    monkeypatch.setattr(example.training, "_validate", lambda *_: torch.tensor([math.nan, 0.0]))
    options = example.training.Options(16, batch_size=8, precision="no")
    with pytest.raises(SystemExit, match="never finite"):
        example.training.train(
            example.objectives.Objective("mse", 0.0), fields, options, tmp_path / "run", progress=False
        )


def test_descent_brings_curves_closer_and_leaves_gaps(example, fields):
    observed = fields.test.clone()
    observed[0, :20] = math.nan
    coarsening = example.data.Coarsening((64, 64), 8)
    start = coarsening.interpolate(coarsening(observed)).masked_fill(observed.isnan(), math.nan)
    goal = torch.from_numpy(example.objectives.minkowski()(observed.numpy())).float()
    found = example.limits.descended(start, goal, 0.03)
    assert torch.equal(found.isnan(), observed.isnan())
    before, after = (sum(example.limits.distances(goal, x).values()) for x in (start, found))
    assert after < 0.5 * before


def test_the_whole_command(example, monkeypatch, tmp_path, capsys):
    def command(*options):
        monkeypatch.setattr(sys, "argv", ["super_resolution", "--out", str(tmp_path), *options])
        example.main.main()
        return capsys.readouterr().out

    common = ("--count", "30", "--start", "64", "--budget", "32", "--losses", "relaxed")
    monkeypatch.setattr(example.main, "_TURNS", 1)
    first = command(*common, "--weights", "0.01")
    page = tmp_path / "report.md"
    text = page.read_text()
    assert "| relaxed |" in text
    assert {"fronts.png", "samples.png", "scores.csv"} == {
        path.name for path in (tmp_path / "report").iterdir()
    }
    page.write_text(text.replace("<!-- reading -->\n", "<!-- reading -->\nIt helps.\n\n"))
    second = command(*common, "--weights", "0.01", "0.1", "--limits", "32")
    assert set(first.splitlines()) < set(second.splitlines())
    assert "relaxed-0.1 " in second
    assert "descent-0.01 " in second
    text = page.read_text()
    assert "It helps." in text
    assert "32 fields seen" in text
    (tmp_path / "limits" / "weights.safetensors.part").write_text("what a kill leaves behind")
    assert command(*common, "--limits", "32")  # nothing is done again
    with pytest.raises(SystemExit, match="budget 32, not 64"):
        command(*common, "--limits", "64")


@pytest.mark.parametrize("option", ["--count", "--factor", "--start", "--budget"])
def test_mistakes_on_the_command_line(example, monkeypatch, tmp_path, capsys, option):
    for words, said in (
        ([option, "0"], f"{option} must be positive"),
        (["--fields", "nowhere"], "nowhere"),
        (["--losses", "own-live"], "--losses own-live needs a --surrogate"),
    ):
        monkeypatch.setattr(sys, "argv", ["super_resolution", "--out", str(tmp_path), *words])
        with pytest.raises(SystemExit) as stop:
            example.main.main()
        assert stop.value.code == 2
        assert said in capsys.readouterr().err.splitlines()[-1]


def test_a_surrogate_of_ones_own(example, monkeypatch):
    kinds = example.objectives.kinds_of("minkowski-opera-constrained")
    monkeypatch.setattr(example.objectives, "KINDS", kinds)
    frozen, live = (example.objectives.Objective(name, 0.5) for name in example.objectives.OWN)
    assert (frozen.learns, live.learns) == (False, True)
    assert frozen.asked["settings"]["place"] == "minkowski-opera-constrained"
    assert json.loads(json.dumps(live.asked)) == live.asked


def test_scores_of_earlier_versions_are_made_anew(example, tmp_path):
    assert not example.report.scored(tmp_path / "test.npz")
    scores = example.scores.score(rain(2), rain(2, seed=1))
    np.savez(tmp_path / "test.npz", **{name: values for name, values in scores.items() if name != "clusters"})
    assert not example.report.scored(tmp_path / "test.npz")
    np.savez(tmp_path / "test.npz", **scores)
    assert example.report.scored(tmp_path / "test.npz")


def test_runs_that_an_earlier_version_scored_are_left_out_of_the_report(example, tmp_path, capsys):
    scores = example.scores.score(rain(2), rain(2, seed=1))
    older = {name: values for name, values in scores.items() if name != "clusters"}
    for name, held in (("mse", scores), ("relaxed-0.01", older)):
        (tmp_path / name).mkdir()
        asked = {"name": name.partition("-")[0], "weight": 0.0}
        (tmp_path / name / "training.json").write_text(json.dumps({"asked": asked}))
        for split in ("test", "validation"):
            np.savez(tmp_path / name / f"{split}.npz", **held)
    assert [run.name for run in example.report._collect(tmp_path)] == ["mse"]
    assert "relaxed-0.01 was scored by an earlier version" in capsys.readouterr().out


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    common = ["--count", "30", "--start", "64", "--budget", "32", "--losses", "relaxed", "--weights", "0.01"]
    common += ["--precision", "no", "--out"]
    launcher = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1"]
    launcher += ["--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0"]
    environment = os.environ | {
        "ACCELERATE_USE_CPU": "true",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }
    for name, how in (("two", [*launcher, str(FOLDER / "__main__.py")]), ("one", [str(FOLDER)])):
        done = subprocess.run(
            [sys.executable, *how, *common, str(tmp_path / name)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("relaxed-0.01 ") == 1
    for run in ("start", "mse", "relaxed-0.01"):
        one, two = (load_file(tmp_path / name / run / "weights.safetensors") for name in ("one", "two"))
        for key, value in one.items():
            torch.testing.assert_close(two[key], value, rtol=1e-3, atol=1e-4)


def test_pictures_tell_fifteen_losses_apart_beside_their_legend(example, tmp_path, monkeypatch):
    names = [*(f"relaxed-{k}" for k in range(6)), *(f"loss {k}" for k in range(9))]
    figures = []
    monkeypatch.setattr(example.report.plt, "close", figures.append)
    example.report.draw_fronts({name: [(1.0, 50.0), (2.0, 40.0)] for name in names}, tmp_path / "fronts.png")
    (axes,) = figures[0].axes
    lines = [line for line in axes.get_lines() if line.get_label() in names]
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == len(names)
    (legend,) = figures[0].legends
    assert legend.get_window_extent().x0 >= axes.get_window_extent().x1
    assert {text.get_text() for text in legend.get_texts()} == {"mse", *names}
