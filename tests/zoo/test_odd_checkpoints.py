"""Checkpoints that are sealed, and odd: every value of config.json, and every figure that `show` prints.

Each place of a configuration is replaced by values that JSON can hold, and sealed again; what then loads
or is shown has to be right, and all else ends in one line.
"""

import json
import random
import shutil
import sys
from pathlib import Path

import emuloss
import numpy as np
import pytest
import torch
from emuloss.cli import main as cli
from emuloss.emulators import ARCHITECTURES
from emuloss.errors import CheckpointError, EmulossError, IncompatibleError
from emuloss.evaluation import evaluate
from emuloss.losses import Provenance
from emuloss.zoo import Surrogate, contract, golden, names, publish, recorded, verify
from emuloss.zoo.golden import golden_fields, golden_values

ODD = [
    None, True, False, -1, 0, 3, 1.5, -0.0, 1e30, -1e30, 1e-46, 2**31, 2**53, "", "x", "1.5", "nan", "\u202e",
    "a\nb", "\x1b[2J", "x" * 5000, [], {}, [[]], [None], {"a": 1}, {"": {}}, [1, "x"], [0.5] * 2000, [[1.0]],
    {"\u202e\n": 1},
]  # fmt: skip
"""Values that may stand for any other."""


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """A small surrogate with all that a thorough evaluation measures."""
    metric = emuloss.metric("minkowski", thresholds=[0.2, 0.5, 1.0], outputs=["area", "components"])
    surrogate = emuloss.relax(metric)
    fields = np.random.default_rng(0).random((6, 16, 16), np.float32) * 2
    found = evaluate(
        surrogate, fields, metric(fields), thorough=False, descent_fields=1, descent_steps=2, progress=False
    )
    surrogate.provenance = Provenance(
        unit="mm/h",
        field_shape=[16, 16],
        license="mit",
        training={"source": {"name": "rain", "seed": 3}, "fields": {"train": 10}, "seconds": 1.5},
        evaluation=json.loads(json.dumps(found.figures)),
    )
    folder = tmp_path_factory.mktemp("evaluated")
    surrogate.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A small network."""
    metric = emuloss.metric("minkowski", thresholds=[0.2, 0.5, 1.0], outputs=["area", "components"])
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("network")
    Surrogate(ARCHITECTURES["hybrid"](metric, widths=(8,), hidden=8), "hybrid").save_pretrained(folder)
    return folder


def places(value):
    """Every (path of keys) below a value."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield (key,)
        yield from ((key, *rest) for rest in places(value[key]))


def changed(config, path, odd):
    config = json.loads(json.dumps(config))
    inner = config
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = odd
    return config


def lacking(config, path):
    config = json.loads(json.dumps(config))
    inner = config
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return config


def sealed(config):
    return json.dumps(config | {"config_sha256": contract.digest(config)})


def outcome(call, *arguments):
    """What a call gives, or the line that it ends in; a traceback of another kind fails the test."""
    try:
        return call(*arguments)
    except EmulossError as error:
        message = str(error)
        assert message.isprintable(), message
        assert 10 < len(message) < 900, message
        return error


def forged(folder, tmp_path, count, seed, below=()):
    """Copies of a checkpoint with one odd value each, below some keys: (path, odd value, folder)."""
    chance = random.Random(seed)
    copy = Path(shutil.copytree(folder, tmp_path / "forged"))
    config = json.loads((copy / "config.json").read_text())
    inner = config
    for key in below:
        inner = inner[key]
    paths = [(*below, *path) for path in places(inner) if path[-1] != "config_sha256"]
    # A few entries of each list stand for the others.
    paths = [path for path in paths if not (isinstance(path[-1], int) and path[-1] > 2)]
    for _ in range(count):
        path, odd = chance.choice(paths), chance.choice(ODD)
        spoilt = changed(config, path, odd) if chance.random() < 0.85 else lacking(config, path)
        (copy / "config.json").write_text(sealed(spoilt))
        yield path, odd, copy


@pytest.mark.parametrize("below", [(), ("architecture",), ("metric",), ("training",)], ids=str)
@pytest.mark.parametrize("kind", ["evaluated", "network"])
def test_an_odd_value_anywhere_loads_right_or_ends_in_one_line(kind, below, request, tmp_path):
    folder = request.getfixturevalue(kind)
    if below == ("training",) and kind == "network":
        pytest.skip("it has none")
    fields = torch.linspace(0, 2, 256).reshape(1, 16, 16)
    known = {type(emuloss.load(folder))}
    refused = 0
    for _, _, copy in forged(folder, tmp_path, 60, seed=1, below=below):
        found = outcome(emuloss.load, copy)
        if isinstance(found, EmulossError):
            refused += 1
            continue
        assert type(found) in known
        curves = found(fields)
        assert curves.isfinite().all()
        assert curves.shape[1] == len(found.outputs)
        repr(found)
    assert refused > 5 or below == ("training",)


@pytest.mark.parametrize(
    "below", [(), ("evaluation",), ("evaluation", "fidelity"), ("evaluation", "descent")], ids=str
)
def test_show_of_odd_figures(evaluated, below, tmp_path, capsys):
    shown = refused = 0
    for path, odd, copy in forged(evaluated, tmp_path, 40, seed=2, below=below):
        code = cli.main(["show", str(copy)])
        out, err = capsys.readouterr()
        assert code in (0, 2), (path, odd)
        assert all(line.isprintable() for line in (out + err).splitlines()), (path, odd)
        assert len(err.splitlines()) == (code == 2), (path, odd, err)
        assert max(map(len, (out + err).splitlines())) < 2000, (path, odd)
        shown, refused = shown + (code == 0), refused + (code == 2)
    assert shown > 2
    assert refused > 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda e: e["fidelity"]["outputs"]["area"].pop("r2_worst"),
            "evaluation.fidelity.outputs.area lacks",
        ),
        (lambda e: e["fidelity"]["outputs"]["area"].update(r2_mean="0.99"), "r2_mean must be a number"),
        (lambda e: e["fidelity"].update(field_shape=[16]), "do not belong together"),
        (lambda e: e["fidelity"].update(fields="many"), "fidelity.fields must be a whole number"),
        (lambda e: e["descent"]["outputs"].pop("area"), "do not belong together"),
        (lambda e: e["timing"].update(device="\u202ecpu"), "timing.device must be printable"),
        (lambda e: e["fidelity"]["violations"].update({"a\nb": 0.0}), "must be printable"),
        (lambda e: e["timing"].update(forward=None), "timing.forward must be a number"),
        (lambda e: e["classes"].update(x={}), "classes.x lacks"),
    ],
)
def test_figures_that_are_none_are_named(evaluated, change, words, tmp_path, capsys):
    copy = Path(shutil.copytree(evaluated, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    change(config["evaluation"])
    (copy / "config.json").write_text(sealed(config))
    code = cli.main(["show", str(copy)])
    out, err = capsys.readouterr()
    assert code == 2
    assert words in err
    assert "emuloss evaluate" in err or "another checkpoint" in err
    assert len(err.splitlines()) == 1
    if "another checkpoint" not in err:
        assert "minkowski, relaxed" in out  # what is known is shown all the same


@pytest.mark.parametrize("name", names.bundled())
def test_recorded_figures_of_all_versions_are_shown(name):
    assert "R2 mean" in recorded.summary(emuloss.info(name).evaluation)


def test_keys_of_later_versions_are_passed_over(evaluated):
    figures = emuloss.info(evaluated).evaluation
    assert recorded.summary(figures | {"later": {"x": [1]}}) == recorded.summary(figures)


def test_a_mean_that_is_missing_is_a_dash(evaluated, tmp_path):
    copy = Path(shutil.copytree(evaluated, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    del config["evaluation"]["fidelity"]["outputs"]["area"]["r2_mean"]
    (copy / "config.json").write_text(sealed(config))
    assert "R2 mean     area -, components" in str(emuloss.info(copy))


@pytest.mark.parametrize("thresholds", ["abc", [1, "x"], None, [], {"a": 1}, 3])
def test_thresholds_of_an_unknown_metric(evaluated, thresholds, tmp_path):
    copy = Path(shutil.copytree(evaluated, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    config["metric"] = {"name": "unheard-of", "arguments": {"thresholds": thresholds}}
    (copy / "config.json").write_text(sealed(config))
    found = outcome(emuloss.info, copy)
    assert isinstance(found, EmulossError) or "unheard-of" in str(found)
    with pytest.raises(EmulossError):
        emuloss.load(copy)


def test_publishing_and_verifying_of_odd_values(evaluated, tmp_path):
    for _, _, copy in forged(evaluated, tmp_path, 30, seed=3):
        outcome(verify, copy)
        outcome(lambda copy: publish(copy, "org/repo", dry_run=True), copy)


# Sizes that a file names

HUGE = [2**31, 1e30, [2**31], list(range(1, 1025)), [1.0] * 4000]


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of the peak is another elsewhere")
@pytest.mark.parametrize("kind", ["evaluated", "network"])
def test_memory_does_not_follow_sizes_that_a_file_names(kind, request, tmp_path):
    import resource

    copy = Path(shutil.copytree(request.getfixturevalue(kind), tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for part in ("metric", "architecture"):
        for key in config[part]["arguments"]:
            for size in HUGE:
                (copy / "config.json").write_text(sealed(changed(config, (part, "arguments", key), size)))
                outcome(emuloss.load, copy)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**17  # kB


def test_tensors_beyond_the_weights_are_not_made(network, tmp_path):
    copy = Path(shutil.copytree(network, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    for changes in (
        {"widths": [4096] * 8},
        {"hidden": 16384, "widths": [4096]},
        {"depth": 8, "widths": [2048] * 8},
    ):
        spoilt = json.loads(json.dumps(config))
        spoilt["architecture"]["arguments"].update(changes)
        (copy / "config.json").write_text(sealed(spoilt))
        with pytest.raises(IncompatibleError, match="too large for its weights"):
            emuloss.load(copy)


def test_exact_norms_of_wide_layers_are_refused():
    metric = emuloss.metric("minkowski", thresholds=[0.2, 0.5])
    with torch.device("meta"), pytest.raises(EmulossError, match="spectral='power'"):
        ARCHITECTURES["constrained"](metric, widths=(4096,), spectral="exact")


# Golden fields know no unit


@pytest.mark.parametrize(
    ("a", "b"), [(1.0, 273.15), (10.0, -30.0), (0.01, 0.0), (255.0, 0.0), (8.0, 285.0), (1e-9, 0.0)]
)
@pytest.mark.parametrize(
    "thresholds", [[-1.0, -0.3, 0.4, 1.1], [0.0, 1.0], [-2.0, 0.0], [0.105, 0.5, 1.0, 5.0]], ids=str
)
@pytest.mark.parametrize("pairs", [False, True])
def test_golden_fields_follow_the_thresholds_to_any_unit(a, b, thresholds, pairs):
    here = golden_values(thresholds, (24, 32), pairs=pairs)
    there = golden_values([a * u + b for u in thresholds], (24, 32), pairs=pairs)
    assert here.dtype == np.float64
    np.testing.assert_allclose((there - b) / a, here, rtol=0, atol=1e-9 * max(1.0, abs(b) / a))


def test_golden_fields_of_kelvin_see_every_interval():
    thresholds = [277.0, 283.0, 285.0, 287.0, 293.0]
    fields = golden_fields(emuloss.metric("minkowski", thresholds=thresholds), (64, 64))
    assert 270 < fields.nan_to_num(285).min() < 277
    assert 293 < fields.nan_to_num(285).max() < 300
    counts = np.histogram(fields[0], [0, *thresholds, 400])[0]
    assert counts.min() > 64 * 64 // 2 // 6


@pytest.mark.parametrize("name", ["minkowski-opera-lipschitz", "clusters-opera", "fss-opera"])
def test_bundled_golden_fields_replay(name):
    """They stand in the file, so that a new recipe leaves them as they are."""
    folder = names.MODELS / name
    golden.verify(emuloss.load(name), folder)


def test_saving_ends_in_one_line_where_an_evaluation_is_odd(evaluated, tmp_path):
    surrogate = emuloss.load(evaluated)
    surrogate.provenance.evaluation = {"fidelity": {"outputs": {"area": {"r2_mean": 0.5}}}}
    with pytest.raises(CheckpointError, match="provenance"):
        surrogate.save_pretrained(tmp_path)


# Names and texts of files


@pytest.mark.parametrize("name", ["line\nbreak", "\x1b[31mred", "\u202eback"])
def test_folders_with_odd_names_load_and_are_told_plainly(evaluated, name, tmp_path, capsys):
    copy = Path(shutil.copytree(evaluated, tmp_path / name))
    assert emuloss.load(copy)
    for file in ("model.safetensors", "config.json"):
        (copy / file).write_bytes(b"{}")
        for call in (emuloss.load, emuloss.info, verify, lambda folder: publish(folder, "org/repo")):
            assert isinstance(outcome(call, copy), EmulossError)
        assert cli.main(["show", str(copy)]) == 2
    (copy / "config.json").unlink()
    assert isinstance(outcome(emuloss.load, copy), EmulossError)
    assert isinstance(outcome(emuloss.load, str(copy / "none")), EmulossError)
    out, err = capsys.readouterr()
    assert all(line.isprintable() for line in (out + err).splitlines())


@pytest.mark.parametrize("content", [b"\xff\xfe", b"\0" * (2**22 + 1)], ids=["not UTF-8", "too long"])
def test_a_card_that_is_no_text_is_not_published(evaluated, content, tmp_path):
    copy = Path(shutil.copytree(evaluated, tmp_path / "copy"))
    (copy / "README.md").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"README\.md"):
        publish(copy, "org/repo", dry_run=True)
