"""Ensembles of the super-resolution example: objectives, terms, generator, verification, and their page."""

import csv
import importlib
import itertools
import json
import sys
from functools import partial
from types import SimpleNamespace

import ensemble_runs
import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from emuloss.errors import ArgumentError
from ensemble_runs import fabricated
from super_resolution import importable, rain
from torch.nn import functional as F

MODULES = ("board", "data", "ensembles", "models", "pictures", "recipes", "results", "terms", "training",
           "verification")  # fmt: skip
TERMS = ("multiscale", "amse", "patches", "spectra", "relaxed", "excursion", "components", "clusters")


@pytest.fixture(scope="module")
def example():
    """The modules of the example."""
    with importable():
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})


@pytest.fixture(autouse=True)
def _no_accelerator():
    """It outlives its Accelerator, and has one precision."""
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def quick(example, monkeypatch):
    """A classifier that learns for a moment."""
    test = partial(example.verification.classifier_test, steps=4)
    monkeypatch.setattr(example.verification, "classifier_test", test)
    monkeypatch.setattr(example.verification, "_FEWEST", 48)


def logs(count, members, size=64, seed=0):
    """Members (N, M, H, W) and a target (N, H, W) of log(1 + rain), all of one distribution."""
    drawn = rain(count * (members + 1), seed, size).log1p().unflatten(0, (count, members + 1))
    return drawn[:, 1:].clone(), drawn[:, 0].clone()


def texture(count, slope=-1.5, stretch=1.0, size=64, seed=0):
    """Gaussian fields (N, H, W) whose power falls with the wavenumber, stretched along rows."""
    draw = torch.Generator().manual_seed(seed)
    rows, columns = torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)[None]
    length = torch.hypot(rows, stretch * columns).clamp(min=1 / size)
    waves = torch.fft.rfft2(torch.randn(count, size, size, generator=draw)) * length**slope
    fields = torch.fft.irfft2(waves, (size, size))
    return fields / fields.std((1, 2), keepdim=True)


def showers(count, seed=0, **options):
    """Rain (N, H, W) in mm/h where such a texture is above its median."""
    return 2 * texture(count, seed=seed, **options).clamp(min=0).expm1()


# Objectives


def test_an_objective_is_its_score_and_terms_with_their_weights(example):
    members, target = logs(4, 2)
    rain_rates = target.expm1()
    recipe = example.recipes.Recipe("crps+spectra:0.3+multiscale")
    assert recipe.members == 2
    settings = [{"rings": 12, "directions": 1.0}, {"windows": [4, 16]}]
    assert recipe.asked == {"name": recipe.name, "weights": [0.3, 1.0], "settings": settings}
    total, pixels = recipe(members, rain_rates)
    assert pixels == example.recipes.Recipe("crps")(members, rain_rates)[0]
    spectra, multiscale = (
        example.terms.TERMS[name].build(2)(members, target) for name in ("spectra", "multiscale")
    )
    torch.testing.assert_close(total, pixels + 0.3 * spectra + multiscale)
    recipe.at(0.0)
    assert recipe(members, rain_rates)[0] == pixels
    assert not recipe.settled(0.5)
    assert recipe.settled(0.8)
    assert example.recipes.Recipe("crps").settled(0.0)
    assert example.recipes.Recipe("mse+relaxed").members == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("relaxed", "begin with mse or crps, got 'relaxed'"),
        ("crps+fog", "got 'fog' in 'crps\\+fog'"),
        ("crps+spectra:0", "must be positive and finite, got 'crps\\+spectra:0'"),
        ("crps+spectra:inf", "must be positive and finite"),
        ("mse+spectra", "spectra is a score of ensembles: put it beside crps, got 'mse\\+spectra'"),
        ("crps+spectra:-1", "must be positive"),
        ("crps+spectra:much", "much"),
        ("crps+", "got ''"),
    ],
)
def test_mistaken_objectives_are_refused(example, name, said):
    with pytest.raises(ValueError, match=said):
        example.recipes.Recipe(name)


def test_crps_is_that_of_scoringrules(example):
    scoringrules = pytest.importorskip("scoringrules")
    members, target = logs(3, 4)
    target[0, :9] = torch.nan
    fair, plain = (
        np.nanmean(scoringrules.crps_ensemble(target.numpy(), members.numpy(), m_axis=1, estimator=name))
        for name in ("fair", "nrg")
    )
    _, pixels = example.recipes.Recipe("crps")(members, target.expm1())
    assert float(pixels) == pytest.approx(0.95 * fair + 0.05 * plain, rel=1e-5)


def test_squared_error_is_that_of_measured_pixels(example):
    members, target = logs(3, 1)
    target[0, :9] = torch.nan
    _, error = example.recipes.Recipe("mse")(members[:, 0], target.expm1())
    assert float(error) == pytest.approx(float((members[:, 0] - target).square().nanmean()), rel=1e-5)


@pytest.mark.parametrize("name", TERMS)
def test_terms_do_not_see_what_was_not_measured(example, name):
    members, target = logs(2, 2)
    target[:, 20:30, 40:] = torch.nan
    term = example.terms.TERMS[name].build(2).eval()

    def slope(members):
        members = members.clone().requires_grad_()
        value = term(members, target)
        return value, torch.autograd.grad(value, members)[0]

    value, gradient = slope(members)
    assert torch.isfinite(gradient).all()
    assert not gradient[..., 20:30, 40:].any()
    assert gradient.flatten(2).any(2).all()
    members[..., 20:30, 40:] = 3.0
    torch.testing.assert_close(slope(members)[0], value)
    torch.testing.assert_close(slope(members.flip(1))[0], value)


@pytest.mark.parametrize("name", ["spectra", "patches", "multiscale"])
def test_scores_are_least_of_the_right_distribution(example, name):
    """Not of textures that lack scales, lean, vary too little or not at all."""
    score = example.terms.TERMS[name].build(2)
    truth, first, second = (texture(96, seed=seed) for seed in range(3))
    right = float(score(torch.stack([first, second], 1), truth))
    alike = torch.stack([first, first], 1)
    wrong = {"alike": alike, "weak": 0.5 * torch.stack([first, second], 1)}
    if name != "multiscale":  # which sees means over windows alone
        wrong["rough"] = torch.stack([texture(96, -0.7, seed=seed) for seed in (1, 2)], 1)
        wrong["smooth"] = torch.stack([texture(96, -2.5, seed=seed) for seed in (1, 2)], 1)
        wrong["leaning"] = torch.stack([texture(96, stretch=4.0, seed=seed) for seed in (1, 2)], 1)
    for members in wrong.values():
        assert float(score(members, truth)) > 1.005 * right


def test_patches_have_the_energy_score_of_scoringrules(example):
    scoringrules = pytest.importorskip("scoringrules")
    members, target = logs(2, 3)
    term = example.terms.TERMS["patches"].build(3)
    found = float(term(members, target))
    edge, step = term.edge, term.step

    def cut(fields):
        patches = fields.unfold(-2, edge, step).unfold(-2, edge, step)
        return patches.flatten(-2).numpy().astype(np.float64) / edge

    observed, drawn = cut(target), np.moveaxis(cut(members), 1, -2)
    plain, fair = (
        scoringrules.es_ensemble(observed, drawn, estimator=name).mean() for name in ("nrg", "fair")
    )
    assert found == pytest.approx(0.95 * fair + 0.05 * plain, rel=1e-3)


def test_multiscale_crps_is_that_of_means_over_windows(example):
    members, target = logs(3, 2)
    found = example.terms.TERMS["multiscale"].build(2)(members, target)
    expected = [
        example.recipes.Recipe("crps")(F.avg_pool2d(members, edge), F.avg_pool2d(target, edge).expm1())[0]
        for edge in (4, 16)
    ]
    torch.testing.assert_close(found, torch.stack(expected).mean())


def test_amplitudes_do_not_ask_where_things_are(example):
    term = example.terms.TERMS["amse"].build(1)
    waves = texture(16)
    moved = torch.stack([waves.roll(k, 2) for k in (20, 40)], 1)
    other = texture(16, -0.7)[:, None]
    assert float(term(waves[:, None], waves)) == 0
    assert float(term(moved, waves)) < 0.2 * float(term(other, waves))
    apart = (moved - waves[:, None]).square().mean()
    assert float(term(moved, waves)) < 0.1 * float(apart)
    # Of a field with half the amplitude, all of the error is one of amplitudes.
    window = np.outer(*[np.sin(np.pi * (np.arange(64) + 0.5) / 64) ** 2] * 2)
    x = (
        waves.numpy()
        - np.average(waves.numpy(), axis=(1, 2), weights=window + np.zeros((16, 64, 64)))[:, None, None]
    )
    power = ((x * window) ** 2).sum((1, 2)) / (window**2).sum()
    assert float(term(0.5 * waves[:, None], waves)) == pytest.approx(0.25 * power.mean(), rel=1e-3)


# The generator


@pytest.fixture
def fields(example):
    parts = rain(24), rain(4, seed=1), rain(6, seed=2)
    return example.data.Fields(*parts, 2.0, "drawn rain", torch.arange(6))


def ensemble(example, **options):
    given = {"budget": 16, "batch_size": 4, "members": 2, "precision": "no", "validations": 2} | options
    return example.training.Options(**given)


def test_members_differ_and_come_again(example, fields):
    model = example.models.network_of((64, 64), ensemble(example))
    first = model.predict(fields.test, 3, seed=1)
    assert first.shape == (6, 3, 64, 64)
    assert torch.equal(first, model.predict(fields.test, 3, seed=1))
    torch.testing.assert_close(first[:, :2], model.predict(fields.test, 2, seed=1))
    apart = [first[:, 0] - first[:, 1], first[:, 1] - first[:, 2], first - model.predict(fields.test, 3, 2)]
    assert all(each.abs().flatten(1).max(1).values.min() > 1e-3 for each in apart)
    assert (first >= 0).all()


def test_a_network_that_gives_back_what_it_gets_is_turned_back(example, fields, monkeypatch):
    model = example.models.network_of((64, 64), ensemble(example, members=16))
    seen = []

    def given_back(smooth, draw):
        seen.append(smooth)
        return smooth.log1p()

    monkeypatch.setattr(model.network, "forward", given_back)
    first, *others = model.predict(fields.test, 16).unbind(1)
    for member in others:
        torch.testing.assert_close(member, first, rtol=1e-4, atol=1e-4)
    ways = seen[0].unflatten(0, (16, 6))[:, 0]
    assert 4 < len({way.numpy().tobytes() for way in ways}) <= 8


def test_members_keep_the_coarse_means_that_were_seen(example, fields, monkeypatch):
    """Whatever is drawn: cells that are dry and wet side by side, and spikes in the last, narrow ones."""
    model = example.models.network_of((64, 64), ensemble(example, factor=12.5))
    spike = rain(8, seed=5).clone()
    spike[:, 62, 62] = 140.0
    monkeypatch.setattr(model.network, "forward", lambda smooth, draw: spike[: len(smooth), None].log1p())
    seen = fields.test[:4].clone()
    seen[0, :9, :9] = torch.nan
    members = model.predict(seen, 2)
    assert float(members.max()) <= 150.0
    means = model.coarsening(members[:, 0].masked_fill(seen.isnan(), torch.nan))
    wanted = model.coarsening(seen)
    # Cells share the pixels at their edges, and one that was drawn ten times too dry stays too dry.
    error = (means - wanted).abs().sum() / wanted.sum()
    before = (model.coarsening(spike[:4]) - wanted).abs().sum() / wanted.sum()
    assert error < 0.25 * before
    dry = model.predict(torch.zeros(1, 64, 64), 2)
    assert float(dry.mean()) < example.models._TRACE


def test_whole_cells_keep_their_means_to_rounding(example, fields, monkeypatch):
    model = example.models.network_of((64, 64), ensemble(example, factor=8.0))
    drawn = rain(8, seed=5) + 1.0
    monkeypatch.setattr(model.network, "forward", lambda smooth, draw: drawn[: len(smooth), None].log1p())
    seen = fields.test[:4] + 1.0
    means = model.coarsening(model.predict(seen, 2)[:, 1])
    torch.testing.assert_close(means, model.coarsening(seen), rtol=2e-3, atol=0.0)


@pytest.mark.parametrize("shape", [(64, 128), (100, 100)])
def test_generators_refuse_fields_that_they_cannot_turn_or_halve(example, shape):
    with pytest.raises(ArgumentError, match="square fields, a multiple of 16 pixels wide"):
        example.models.network_of(shape, ensemble(example))


def test_without_noise_members_of_one_way_are_alike(example, fields):
    model = example.models.network_of((64, 64), ensemble(example, members=8))
    for name, weight in model.named_parameters():
        if ".noise." in name or ".modulation." in name:
            torch.nn.init.zeros_(weight)
    members = model.predict(fields.test[:1], 8)[0]
    distinct = torch.unique((members * 1e3).round(), dim=0)
    assert len(distinct) < 8


def test_a_killed_training_of_a_generator_goes_on_to_the_bit(example, fields, tmp_path, monkeypatch):
    recipe, options = example.recipes.Recipe("crps+relaxed"), ensemble(example, budget=24)
    run = partial(example.training.train, recipe, fields, options, progress=False)
    run(tmp_path / "whole")
    batch, calls = example.training.batch_of, []

    def dying(*arguments):
        calls.append(arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return batch(*arguments)

    monkeypatch.setattr(example.training, "batch_of", dying)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts")
    with pytest.raises(SystemExit, match=r"name 'crps\+relaxed', not 'crps'"):
        example.training.train(example.recipes.Recipe("crps"), fields, options, tmp_path / "parts")
    run(tmp_path / "parts")
    assert len(calls) == 5 + 3  # from the last validation, after 3 of 6 steps, on
    whole, parts = (example.training.trained(tmp_path / name, fields) for name in ("whole", "parts"))
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.equal(one, other)
    drawn = [model.predict(fields.test, 2) for model in (whole, parts)]
    assert torch.equal(*drawn)


# Verification


def test_members_of_the_observed_distribution_are_told_so(example, quick):
    drawn = showers(5 * 48).unflatten(0, (48, 5))
    by_field, figures = example.verification.verify(drawn[:, 1:], drawn[:, 0], torch.arange(48))
    assert set(by_field) == {"crps", "energy", "distance", "fss 0.5", "fss 2", "fss 10"}
    assert {values.shape for values in by_field.values()} == {(48,)}
    assert json.loads(json.dumps(figures)) == figures
    assert 0 <= figures["auc"] <= 1
    assert (by_field["energy"] <= by_field["distance"]).all()
    assert figures["members"] == 4
    assert all(0.75 < ratio < 1.3 for ratio in figures["spread_to_skill"].values())
    for name, length in {"ranks": 5, "ranks_of_member": 4}.items():
        for counts in figures[name].values():
            assert len(counts) == length
            assert max(counts) < 1.5 * np.mean(counts)
    assert figures["spectrum"] < 0.2
    assert figures["axes"] > 0.01
    assert 0.7 < figures["strength"] < 1.4
    assert all(0.7 < ratio < 1.4 for ratio in figures["harmonics"])
    assert 0.7 < figures["q99"] < 1.4
    assert 0.8 < figures["wet"] < 1.25


def test_a_training_that_went_astray_is_told(example, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(example.ensembles, "trained", lambda *_: None)
    monkeypatch.setattr(example.ensembles, "draw", lambda *_: torch.zeros(3, 2, 8, 8))
    fields = SimpleNamespace(test=rain(3, size=8), source="rain")
    example.ensembles.score(tmp_path / "crps-seed0", fields, 2)
    assert "all dry" in capsys.readouterr().out
    assert not list(tmp_path.rglob("scores*"))


def test_copies_of_the_observed_fields_have_no_error(example, quick):
    observed = rain(8)
    observed[0, :9] = torch.nan
    copies = observed.nan_to_num(5.0)[:, None].repeat(1, 3, 1, 1)
    by_field, figures = example.verification.verify(copies, observed, torch.arange(8) // 2)
    for name in ("crps", "energy", "distance"):
        np.testing.assert_allclose(by_field[name], 0, atol=1e-9)
    for name in ("fss 0.5", "fss 2", "fss 10"):
        np.testing.assert_allclose(by_field[name][~np.isnan(by_field[name])], 1)
    assert figures["spectrum"] == 0
    assert figures["axes"] == 1
    assert [figures[name] for name in ("strength", "q99", "q99.99", "wet")] == [1] * 4
    assert figures["harmonics"] == [1.0] * 4
    assert set(figures["spread_to_skill"].values()) == {None}


def test_what_is_wrong_with_members_is_seen(example, quick):
    observed, others = showers(24), showers(48, seed=1).unflatten(0, (24, 2))
    verify = partial(example.verification.verify, observed=observed, groups=torch.arange(24))
    smooth = F.avg_pool2d(others, 9, 1, padding=4)
    assert verify(smooth)[1]["spectrum"] > 0.5
    leaning = F.avg_pool2d(others, (1, 9), 1, padding=(0, 4))
    assert verify(leaning)[1]["axes"] < 0.01
    checked = others * (1 + 0.5 * torch.eye(4).repeat(16, 16))
    figures = verify(checked)[1]
    assert figures["harmonics"][1] > 2
    assert verify(1.5 * others)[1]["q99"] == pytest.approx(1.5 * verify(others)[1]["q99"], rel=0.02)
    near = (observed[:, None] * (1 + 0.02 * torch.randn(24, 2, 64, 64))).clamp(min=0)
    timid = others.mean(1, keepdim=True) + near - observed[:, None]  # differ by little, err by much
    assert max(verify(timid.clamp(min=0))[1]["spread_to_skill"].values()) < 0.5


def test_a_single_prediction_has_errors_for_scores(example, quick):
    observed, predicted = rain(6), rain(6, seed=1)
    by_field, figures = example.verification.verify(predicted[:, None], observed, torch.arange(6))
    assert figures["members"] == 1
    assert np.isnan(figures["auc"])  # they are too few
    assert figures["ranks"] is None
    assert figures["ranks_of_member"] is None
    assert figures["spread_to_skill"] is None
    np.testing.assert_array_equal(by_field["energy"], by_field["distance"])
    expected = (predicted.log1p() - observed.log1p()).abs().mean((1, 2))
    np.testing.assert_allclose(by_field["crps"], expected, rtol=1e-5)
    # As of members that are all alike.
    members = predicted[:, None].repeat(1, 2, 1, 1)
    alike, _ = example.verification.verify(members, observed, torch.arange(6))
    for name in by_field:
        np.testing.assert_allclose(by_field[name], alike[name], rtol=1e-4, atol=1e-6)


def test_pixels_of_members_have_the_fair_crps(example, quick):
    scoringrules = pytest.importorskip("scoringrules")
    observed, drawn = rain(4), rain(12, seed=1).unflatten(0, (4, 3))
    observed[1, 10:40] = torch.nan
    found, _ = example.verification.verify(drawn, observed, torch.arange(4))
    x, y = np.log1p(drawn.numpy()), np.log1p(observed.numpy())
    expected = np.nanmean(scoringrules.crps_ensemble(y, x, m_axis=1, estimator="fair"), axis=(1, 2))
    np.testing.assert_allclose(found["crps"], expected, rtol=1e-4)


# The page


def row(example, name, scores, groups):
    """A row whose seeds have given scores (S, N)."""
    runs = [
        example.results.Run(None, {}, {"crps": np.asarray(each, float), "groups": groups}, {"members": 2})
        for each in scores
    ]
    return example.results.Row(name, runs)


def test_faults_of_two_seeds_do_not_cancel(example):
    def told(*figures):
        return example.results.Row("crps", [example.results.Run(None, {}, {}, each) for each in figures])

    seeds = told({"spread_to_skill": {"area": 0.8, "euler": 1.0}}, {"spread_to_skill": {"area": 1.2}})
    assert seeds.figure("spread") == 0.8
    assert told({"spread_to_skill": {"area": 0.0, "euler": 1.4}}).figure("spread") == 0
    assert told({"harmonics": [1.0, 0.8]}, {"harmonics": [1.24, 1.0]}).figure("harmonics") == 0.8
    assert told({"ranks": {"area": [9, 11]}}, {"ranks": {"area": [8, 12]}}).figure("ranks") == pytest.approx(
        20
    )


def test_intervals_are_of_composites_and_seeds(example):
    """Not of fields: those of one composite are alike."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 25)
    composites = rng.standard_normal(40)
    same = row(example, "a", np.tile(5 + composites[groups], (3, 1)), groups)
    low, high = same.interval("crps")
    assert low < same.score("crps") < high
    assert (high - low) / 3.92 == pytest.approx(composites.std() / np.sqrt(40), rel=0.1)
    seeds = rng.standard_normal(30)
    varied = row(example, "b", 5 + seeds[:, None] + np.zeros(1000), groups)
    low, high = varied.interval("crps")
    assert (high - low) / 3.92 == pytest.approx(seeds.std() / np.sqrt(30), rel=0.1)


def test_ratios_are_of_the_same_composites(example):
    groups = np.repeat(np.arange(5), 4)
    hard = np.array([1.0, 1.0, 5.0, 20.0, 0.1])[groups]
    half, whole = row(example, "a", [0.5 * hard] * 2, groups), row(example, "b", [hard] * 3, groups)
    np.testing.assert_allclose(half.interval("crps", than=whole), 0.5)
    low, high = half.interval("crps")
    assert high > 3 * low


def test_fields_without_a_score_count_in_none(example):
    groups = np.array([0, 0, 1, 1])
    told = row(example, "a", [[1.0, np.nan, 3.0, 3.0], [1.0, np.nan, 3.0, 3.0]], groups)
    assert told.score("crps") == pytest.approx(7 / 3)
    assert told.interval("crps") == (1.0, 3.0)
    nothing = row(example, "b", np.full((2, 4), np.nan), groups)
    assert np.isnan(nothing.score("crps"))
    assert nothing.interval("crps") is None


def test_no_interval_of_a_single_seed_or_composite(example):
    groups = np.array([0, 0, 1, 1])
    once, twice = row(example, "a", np.ones((1, 4)), groups), row(example, "b", np.ones((2, 4)), groups)
    assert once.interval("crps") is None
    assert twice.interval("crps", than=once) is None
    assert row(example, "c", np.ones((2, 4)), np.zeros(4)).interval("crps") is None
    assert twice.interval("crps") == (1.0, 1.0)


def verdicts(example, folder):
    """Which aims are met, by name."""
    lines = example.board.aims_section(example.results.collect(folder))[-1].splitlines()[2:]
    return {cells[1].strip(): "missed" not in cells[5] for cells in (line.split("|") for line in lines)}


def test_the_best_combination_is_the_least_energy_score_within_the_crps(example, tmp_path):
    weather = example.results.collect(fabricated(tmp_path))
    assert list(weather.rows)[:3] == ["mse", "mse+relaxed", "crps"]
    assert weather.control.name == "crps"
    assert weather.best.name == "crps+relaxed+spectra"  # crps+patches has less, and too much CRPS
    assert weather.close(weather.best)
    assert weather.sharpest.name == "mse+relaxed"


def test_without_a_close_combination_the_best_is_told_and_misses(example, tmp_path):
    folder = fabricated(tmp_path / "runs", ("crps", "crps+patches"), size=32)
    assert not verdicts(example, folder)["CRPS"]
    example.board.write(tmp_path / "page.md", [folder])
    assert "Here no CRPS is as low" in (tmp_path / "page.md").read_text()


@pytest.mark.parametrize(
    ("place", "value", "aim"),
    [
        (1, 0.60, "energy score"),
        (2, 1.35, "a member's distance"),
        (3, 0.84, "AUC"),
        (4, 0.09, "spectrum error"),
        (5, 1.25, "harmonics"),
        (5, 0.8, "harmonics"),
        (6, 0.005, "axes, p"),
        (7, 1.2, "spread/skill"),
        (7, 0.8, "spread/skill"),
    ],
)
def test_each_aim_can_be_missed(example, tmp_path, monkeypatch, place, value, aim):
    told = list(ensemble_runs.TOLD["crps+relaxed+spectra"])
    told[place] = value
    monkeypatch.setitem(ensemble_runs.TOLD, "crps+relaxed+spectra", tuple(told))
    found = verdicts(example, fabricated(tmp_path, size=32))
    assert {name for name, met in found.items() if not met} == {aim}


def test_ranks_that_are_not_flat_are_missed(example, tmp_path):
    assert all(verdicts(example, fabricated(tmp_path, size=32)).values())
    for path in tmp_path.glob("crps+relaxed+spectra-*/scores.json"):
        told = json.loads(path.read_text())
        told["ranks"]["area"] = [100] * 8 + [140]
        path.write_text(json.dumps(told))
    assert [name for name, met in verdicts(example, tmp_path).items() if not met] == ["ranks, off flat"]


def test_values_of_cut_bars_of_ranks_do_not_meet(example, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(example.pictures.plt, "close", figures.append)
    counts = {"area": [300, 60, 50, 50, 50, 60, 50, 50, 240], "euler": [700, 40, 30, 20, 10, 10, 10, 10, 10]}
    runs = [SimpleNamespace(figures={"ranks": {k: np.array(v) for k, v in counts.items()}})]
    rows = [SimpleNamespace(label=name, deterministic=False, runs=runs) for name in ("crps", "crps+relaxed")]
    example.pictures.draw_ranks(rows, tmp_path / "ranks.png")
    for axis in figures[0].axes:
        boxes = [text.get_window_extent() for text in axis.texts]
        assert len(boxes) == (4 if axis is figures[0].axes[0] else 2)
        assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_the_page_of_two_weathers(example, tmp_path, monkeypatch):
    first = fabricated(tmp_path / "opera")
    (first / "costs.json").write_text(json.dumps({"costs": {"crps+relaxed": 0.12}}))
    second = fabricated(tmp_path / "mch", tuple(ensemble_runs.TOLD)[:5], seeds=(0,), size=32)
    page = tmp_path / "page.md"
    arguments = ["board.py", str(first), str(second), "--page", str(page)]
    monkeypatch.setattr(sys, "argv", arguments)
    example.board.main()
    text = page.read_text()
    order = ["# Ensembles", "(page/fields.png)", "<!-- reading -->", "## Aims", "## All objectives",
             "## Scales", "## Other weathers and budgets", "### MeteoSwiss"]  # fmt: skip
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    for fact in ("25 km", "6,000 fields", "1,200 weights", "24 to test, of 4 times", "8 members"):
        assert fact in text
    assert "| **crps+relaxed+spectra** | 3 |" in text
    assert "+12 % |" in text
    assert "The order by energy score is that of OPERA" in text
    pictures = {path.name for path in (tmp_path / "page").iterdir()}
    assert pictures == {"fields.png", "spectra.png", "ranks.png", "figures.csv"}
    with (tmp_path / "page" / "figures.csv").open() as file:
        lines = {(line["weather"], line["objective"], line["figure"]): line for line in csv.DictReader(file)}
    ratio = lines["opera", "crps+relaxed+spectra", "energy over crps alone"]
    assert float(ratio["low"]) <= float(ratio["value"]) == pytest.approx(0.5 / 2.3, rel=0.02)
    assert lines["mch", "crps", "energy"]["low"] == ""

    text = text.replace("# Ensembles of rain", "# What it is trained on")
    page.write_text(text.replace("<!-- reading -->\n", "<!-- reading -->\nIt rains.\n\n"))
    told = list(ensemble_runs.TOLD["crps+relaxed"])
    told[1] = 0.1
    monkeypatch.setitem(ensemble_runs.TOLD, "crps+relaxed", tuple(told))
    fabricated(tmp_path / "mch", tuple(ensemble_runs.TOLD)[:5], seeds=(0,), size=32)
    example.board.main()
    text = page.read_text()
    assert text.startswith("# What it is trained on\n")
    assert "<!-- reading -->\nIt rains.\n" in text
    assert "is not that of OPERA (Europe), and not the same objective leads: here `crps+relaxed`," in text


@pytest.mark.parametrize("objectives", [("crps",), ("mse",), ("crps", "crps+relaxed")])
def test_the_page_of_few_runs(example, tmp_path, objectives):
    folder = fabricated(tmp_path / "runs", objectives, seeds=(0,), composites=1, size=32)
    page = tmp_path / "page.md"
    example.board.write(page, [folder])
    text = page.read_text()
    assert ("## Aims" in text) == ("crps+relaxed" in objectives)
    assert "95 %" not in text
    assert all(f"{name}" in text for name in objectives)
    for picture in ("fields", "spectra", "ranks"):
        drawn = (tmp_path / "page" / f"{picture}.png").exists()
        assert drawn == (f"{picture}.png" in text) == (picture != "ranks" or objectives != ("mse",))


def test_no_page_of_no_runs(example, tmp_path):
    with pytest.raises(SystemExit, match="no finished run"):
        example.board.write(tmp_path / "page.md", [tmp_path])


# The command


def test_the_whole_command(example, quick, monkeypatch, tmp_path, capsys):
    def command(*options):
        arguments = [
            "ensembles.py",
            "--count",
            "30",
            "--budget",
            "16",
            "--members",
            "3",
            "--out",
            str(tmp_path),
        ]
        monkeypatch.setattr(sys, "argv", [*arguments, *options])
        example.ensembles.main()
        return capsys.readouterr().out

    monkeypatch.setattr(example.ensembles, "_TURNS", 1)
    first = command("--objectives", "crps", "mse+relaxed")
    assert "crps-seed0 " in first
    second = command("--objectives", "crps", "mse+relaxed", "crps+spectra:0.1", "--seeds", "0")
    assert set(first.splitlines()) < set(second.splitlines())
    assert "crps+spectra-0.1-seed0 " in second
    text = (tmp_path / "report.md").read_text()
    assert "| crps+spectra:0.1 | 1 |" in text or "| **crps+spectra:0.1** | 1 |" in text
    assert (tmp_path / "report" / "fields.png").exists()
    measured = command("--objectives", "crps", "mse+relaxed", "crps+spectra:0.1", "crps+amse", "--costs")
    costs = json.loads((tmp_path / "costs.json").read_text())["costs"]
    assert set(costs) == {"mse+relaxed", "crps+spectra:0.1"}  # what was trained, and adds something
    assert measured.count("% of a training step") == 2
    with pytest.raises(SystemExit, match="members 3, not 4"):
        command("--objectives", "crps", "--members", "4")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--budget", "0"], "--budget must be positive"),
        (["--members", "1"], "--members must be at least 2"),
        (["--objectives", "crps+fog"], "got 'fog'"),
        (["--fields", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_on_the_command_line(example, monkeypatch, tmp_path, capsys, words, said):
    monkeypatch.setattr(sys, "argv", ["ensembles.py", "--out", str(tmp_path), *words])
    with pytest.raises(SystemExit) as stop:
        example.ensembles.main()
    assert stop.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
