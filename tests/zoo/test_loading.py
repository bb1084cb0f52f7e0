"""Names that load: bundled surrogates, directories, the Hub; what each says about itself, and publishing."""

import json
import re
import shutil
from pathlib import Path

import emuloss
import numpy as np
import pytest
import torch
import yaml
from drawn import read_all
from emuloss.cli import main as cli
from emuloss.datasets import Rain, predictions_of
from emuloss.errors import (
    ArgumentError,
    CheckpointError,
    CorruptedError,
    EmulossError,
    HubConnectionError,
    IncompatibleError,
    NotFoundError,
    OfflineError,
)
from emuloss.evaluation import evaluate
from emuloss.losses import Provenance
from emuloss.zoo import Surrogate, contract, names, publish, verify
from hub_standin import TOKEN

BUNDLED = [
    "clusters-opera",
    "components-opera",
    "fss-opera",
    "minkowski-opera",
    "minkowski-opera-certified",
    "minkowski-opera-constrained",
    "minkowski-opera-lipschitz",
    "minkowski-rain",
]
REPO = "org/repo"
FILES = (*contract.SEALED, contract.CONFIG, contract.CARD)


def rain(count, size=128, seed=0):
    return read_all(Rain(count, size=size, seed=seed), "test")


@pytest.fixture(scope="module")
def evaluated():
    """A surrogate with a real evaluation."""
    fields = rain(8, size=32, seed=5)
    metric = emuloss.metric("minkowski", thresholds=[0.105, 0.5, 2.0], pixel_size=2.0, length_unit="km")
    surrogate = emuloss.relax(metric)
    surrogate.provenance = Provenance(
        unit="mm/h",
        field_shape=[32, 32],
        license="mit",
        training={"source": {"name": "rain", "count": 8}},
    )
    figures = evaluate(surrogate, fields, metric(fields), descent_fields=1, descent_steps=5, progress=False)
    surrogate.provenance.evaluation = figures.figures
    return surrogate


@pytest.fixture
def run(evaluated, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "report.png").write_bytes(b"a picture")
    evaluated.save_pretrained(tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def there(standin, run):
    """A Hub that has the run."""
    standin.add(
        REPO, {name: (run / name).read_bytes() for name in (*contract.SEALED, "config.json", "README.md")}
    )
    return standin


@pytest.fixture
def writer(standin, monkeypatch):
    """A Hub for one who may write."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return standin


# Bundled surrogates


def test_the_bundled_ones_are_listed():
    assert emuloss.list_models() == BUNDLED
    assert emuloss.list_models("*opera*") == [name for name in BUNDLED if "opera" in name]


def test_they_are_small():
    files = [path for path in names.MODELS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 40e6
    assert {path.name for path in files} == {
        "config.json",
        "model.safetensors",
        "golden.safetensors",
        "README.md",
    }


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled(name):
    verify(name)  # golden outputs within 1e-4
    surrogate = emuloss.load(name)
    found = emuloss.info(name)
    assert found.outputs == surrogate.outputs
    assert found.thresholds == surrogate.thresholds
    assert surrogate.revision is None
    assert surrogate.lower_better is (False if name == "fss-opera" else None)
    assert surrogate.license == found.license == "apache-2.0"
    assert surrogate.trained_on["source"]["name"] in ("opera", "rain")
    assert surrogate.evaluation["fidelity"]["fields"] >= 300
    assert not any(p.requires_grad for p in surrogate.parameters())
    assert f'emuloss.load("{name}")' in (names.MODELS / name / "README.md").read_text()
    fields = rain(4, seed=9)
    prediction = torch.from_numpy(fields[:2]).requires_grad_()
    surrogate.as_loss()(prediction, torch.from_numpy(fields[2:])).backward()
    assert prediction.grad.abs().sum() > 0


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_one_says_what_was_measured(name):
    """Its figures are of fields like these: close to the exact curves of others as well."""
    surrogate = emuloss.load(name)
    fields = (rain(64, seed=11),)
    if surrogate.metric.arity == 2:
        fields = predictions_of(fields[0], np.random.default_rng(0)), *fields
    exact = surrogate.metric(*fields)
    with torch.no_grad():
        curves = surrogate(*map(torch.from_numpy, fields)).numpy()
    for c, output in enumerate(surrogate.outputs):
        error = np.abs(np.arcsinh(curves[:, c]) - np.arcsinh(exact[:, c])).mean()
        spread = np.abs(np.arcsinh(exact[:, c]) - np.arcsinh(exact[:, c]).mean(0)).mean()
        assert error < 0.5 * spread, output


def test_filters(monkeypatch):
    known = ("x-2", "x-10", "y-1", "X-3")
    monkeypatch.setattr(names, "bundled", lambda: known)
    assert emuloss.list_models() == ["X-3", "x-2", "x-10", "y-1"]
    assert emuloss.list_models("x-*") == ["x-2", "x-10"]
    assert emuloss.list_models("-1") == ["x-10", "y-1"]  # text without wildcards, wherever it stands
    assert emuloss.list_models(["y*", "X*"]) == ["X-3", "y-1"]
    assert emuloss.list_models("x", exclude_filters="*10") == ["x-2"]
    assert emuloss.list_models(exclude_filters=["x", "X"]) == ["y-1"]
    assert emuloss.list_models("z*") == []


# Names


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda run: emuloss.list_models(None), "filter must be text"),
        (lambda run: emuloss.list_models(["x", 3]), "filter must be text"),
        (lambda run: emuloss.list_models(exclude_filters=3), "filter must be text"),
        (lambda run: emuloss.load(REPO, cache_dir=3), "cache_dir must be a path"),
        (lambda run: emuloss.load(REPO, cache_dir="a\0b"), "cache_dir must be a path"),
        (
            lambda run: emuloss.load(REPO, cache_dir="~nosuchuser/x", local_files_only=True),
            "not in the cache",
        ),
        (lambda run: emuloss.load(run).save_pretrained(3), "directory must be a path"),
        (lambda run: emuloss.load(run).save_pretrained("a\0b"), "directory must be a path"),
        (lambda run: publish(None, REPO), "folder must be a path"),
        (lambda run: publish(run, REPO, tag=3, dry_run=True), "tag 3 cannot be"),
        (lambda run: publish(run, 3), "repo 3 is not"),
    ],
)
def test_arguments_of_another_type_are_named(call, words, run, standin):
    with pytest.raises(EmulossError, match=words):
        call(run)
    assert standin.requests == []


def test_directories(run, evaluated, monkeypatch):
    fields = torch.from_numpy(rain(2, size=32))
    monkeypatch.chdir(run.parent)
    for source in (run, str(run), "run", Path("run"), "./run"):
        assert torch.equal(emuloss.load(source)(fields), evaluated(fields))
    assert emuloss.load(run).revision is None
    assert emuloss.info("run").evaluation == json.loads(json.dumps(evaluated.evaluation))


def test_a_bundled_name_comes_first_unless_it_is_a_path(tmp_path, run, monkeypatch):
    shutil.copytree(run, tmp_path / "minkowski-opera")
    monkeypatch.chdir(tmp_path)
    assert len(emuloss.load("minkowski-opera").thresholds) == 21
    assert len(emuloss.load("./minkowski-opera").thresholds) == 3
    assert len(emuloss.load(Path("minkowski-opera")).thresholds) == 3


@pytest.mark.parametrize(
    ("source", "kind", "words"),
    [
        ("minkovski-opera", ArgumentError, "did you mean 'minkowski-opera'"),
        ("minkowski-opera/", ArgumentError, "did you mean 'minkowski-opera'"),
        ("minkowski-opera@v1.0", ArgumentError, "did you mean 'minkowski-opera'"),
        ("minkowski.opera", ArgumentError, "did you mean 'minkowski-opera'"),
        ("", ArgumentError, "source must be"),
        (None, ArgumentError, "source must be"),
        (3, ArgumentError, "source must be"),
        ("~nosuchuser/x", CheckpointError, "is no directory"),
        ("./a\nb", CheckpointError, "is no directory"),
        ("mine/my run", ArgumentError, "write org/repo"),
        ("nothing", ArgumentError, "bundled: clusters-opera, .*minkowski-opera, "),
        ("runs/of/mine", CheckpointError, "is no directory"),
        ("./nothing", CheckpointError, "is no directory"),
        ("~/nothing", CheckpointError, "is no directory"),
        (Path("org/repo"), CheckpointError, "is no directory"),
        ("org/repo@", ArgumentError, "revision '' of org/repo"),
    ],
)
def test_names_that_cannot_be_meant(source, kind, words, standin, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=words) as caught:
        emuloss.load(source)
    assert "\n" not in str(caught.value)
    assert standin.requests == []


def test_a_file_is_no_directory(run, monkeypatch, standin):
    monkeypatch.chdir(run.parent)
    with pytest.raises(CheckpointError, match="is no directory"):
        emuloss.load("run/config.json")
    assert standin.requests == []


@pytest.mark.parametrize("device", ["nonsense", "cuda:99", 3.5])
def test_devices_that_are_none(device, run):
    with pytest.raises(ArgumentError, match="device"):
        emuloss.load(run, device=device)


def test_incomplete_checkpoints(run):
    (run / "model.safetensors").unlink()
    for call in (emuloss.load, emuloss.info, verify):
        with pytest.raises(CheckpointError, match=r"model\.safetensors"):
            call(run)


@pytest.mark.parametrize("options", [{"revision": "v1"}, {"force_download": True}])
def test_options_of_the_hub_are_refused_elsewhere(options, run):
    for source in (run, "minkowski-opera"):
        with pytest.raises(ArgumentError, match="on this disk"):
            emuloss.load(source, **options)


# The Hub


def test_from_the_hub(there, evaluated):
    commit = there.repositories[REPO].branches["main"]
    fields = torch.from_numpy(rain(2, size=32))
    loaded = emuloss.load(REPO)
    assert torch.equal(loaded(fields), evaluated(fields))
    assert loaded.revision == commit
    assert emuloss.load(f"{REPO}@main").revision == commit
    there.requests.clear()
    assert emuloss.load(f"{REPO}@{commit}").revision == commit
    assert emuloss.load(REPO, revision=commit).revision == commit
    assert emuloss.load(REPO, local_files_only=True).revision == commit
    assert there.requests == []
    found = emuloss.info(REPO)
    assert (found.name, found.revision, found.license) == (f"{REPO}@{commit}", commit, "mit")
    assert commit in str(found)
    verify(REPO)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format_version": 3}, "format_version is 3"),
        ({"metric": {"name": "unheard-of", "arguments": {}}}, "unheard-of"),
        ({"architecture": {"name": "unheard-of", "arguments": {}}}, "unknown architecture"),
        ({"evaluation": {"fidelity": 3}}, "evaluation.fidelity.outputs"),
        ({"units": ["km\x1b]0;x\x07", "km", "1"]}, "steers a terminal"),
    ],
)
def test_what_does_not_fit_is_told_by_repository_and_commit(changes, words, there, run):
    config = json.loads((run / "config.json").read_text()) | changes
    content = json.dumps(config | {"config_sha256": contract.digest(config)}).encode()
    files = {name: (run / name).read_bytes() for name in FILES} | {"config.json": content}
    there.add("org/other", files)
    commit = there.repositories["org/other"].branches["main"]
    with pytest.raises(IncompatibleError, match=words) as caught:
        emuloss.load("org/other")
    message = str(caught.value)
    assert f"org/other@{commit}" in message or "org/other@main" in message
    assert "snapshots" not in message
    assert "another" in message  # what to do
    assert message.isprintable()


def test_revisions_with_slashes(there):
    with pytest.raises(NotFoundError, match="no such revision"):
        emuloss.load(f"{REPO}@refs/pr/1")


def test_a_directory_of_that_name_comes_first(there, run, tmp_path, monkeypatch):
    shutil.copytree(run, tmp_path / REPO)
    monkeypatch.chdir(tmp_path)
    assert emuloss.load(REPO).revision is None
    assert there.requests == []


def test_whoever_mistypes_a_directory_learns_of_it(standin, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFoundError, match=r"^no directory 'mine/frist' exists here"):
        emuloss.load("mine/frist")
    with pytest.raises(OfflineError, match=r"^no directory 'mine/frist' exists here"):
        emuloss.load("mine/frist", local_files_only=True)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubConnectionError, match=r"^no directory 'mine/frist' exists here"):
        emuloss.load("mine/frist")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("runs/frist", "'runs/frist' is no directory .did you mean 'runs/first'"),
        ("./runs/frist", "did you mean './runs/first'"),
        ("runs/thing", "such as 'runs/first', 'runs/second', or runs/thing@main for a repository"),
        ("rnus/first", None),  # what could be a repository, and is none
        ("runs/first/again", "'runs/first/again' is no directory"),
        ("rnus/of/mine", "nor is 'rnus/of'"),
        ("runs", "has no config.json itself; give one of 'runs/first', 'runs/second' in it"),
        ("frist", "did you mean 'runs/first'"),
        ("./minkovski-opera", "did you mean 'minkowski-opera'"),
        ("runs/minkovski-opera", "did you mean 'minkowski-opera'"),
        ("https://huggingface.co/org/repo/tree/main", "give the name 'org/repo'"),
    ],
)
def test_names_that_look_like_paths_are_told_of_the_disk(source, words, run, standin, monkeypatch, tmp_path):
    for name in ("first", "second"):
        shutil.copytree(run, tmp_path / "runs" / name)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EmulossError) as caught:
        emuloss.load(source)
    assert "\n" not in str(caught.value)
    assert bool(standin.requests) == (words is None)
    if words is not None:
        assert re.search(words, str(caught.value)), str(caught.value)


def test_a_runs_folder_that_is_not_there_asks_nobody(standin, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="'runs/typo' is no directory, nor is 'runs'"):
        emuloss.load("runs/typo")
    assert standin.requests == []


def test_a_repository_whose_owner_has_a_folder_here_is_named_with_its_revision(there, monkeypatch, tmp_path):
    (tmp_path / "org").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="org/repo@main for a repository of the Hub"):
        emuloss.load(REPO)
    assert emuloss.load(f"{REPO}@main").revision == there.repositories[REPO].branches["main"]


def test_two_revisions(standin):
    with pytest.raises(ArgumentError, match="another one"):
        emuloss.load(f"{REPO}@v1", revision="v2")


# Cards and publishing


def test_the_card_has_what_the_hub_reads(run, evaluated):
    text = (run / "README.md").read_text()
    header = yaml.safe_load(text.split("---")[1])
    assert header["library_name"] == "emuloss"
    assert header["license"] == "mit"
    assert header["datasets"] == ["rain"]
    assert {"emuloss", "minkowski"} <= set(header["tags"])
    metrics = header["model-index"][0]["results"][0]["metrics"]
    measured = {each["name"]: each["value"] for each in metrics}
    fidelity = evaluated.evaluation["fidelity"]["outputs"]
    assert measured["R2 of area"] == pytest.approx(fidelity["area"]["r2_mean"], abs=1e-6)
    assert all(np.isfinite(each["value"]) for each in metrics)
    for part in (
        "Crofton's formula",
        "0.105, 0.5, 2",
        "pixel_size 2",
        "Citation",
        "![report](report.png)",
        "km^2",
    ):
        assert part in text
    for part in ("Global Lipschitz bound", "Gradient: cosine", "| violation |", "Descent:"):
        assert part in text


def test_undefined_figures_are_left_out_of_the_card(evaluated, tmp_path):
    surrogate = emuloss.relax(evaluated.metric)
    figures = json.loads(json.dumps(evaluated.evaluation))
    figures["fidelity"]["outputs"]["area"]["r2_mean"] = None
    surrogate.provenance.evaluation = figures
    surrogate.save_pretrained(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "R2 of perimeter" in text
    assert "R2 of area" not in text
    figures["fidelity"]["outputs"]["area"]["r2_mean"] = float("nan")
    with pytest.raises(CheckpointError, match="finite"):
        surrogate.save_pretrained(tmp_path)


def test_publish_and_load_again(writer, run, capsys):
    assert cli.main(["publish", str(run), REPO, "--private", "--tag", "v1"]) == 0
    url = capsys.readouterr().out.strip()
    commit = writer.repositories[REPO].branches["main"]
    assert url == f"{writer.url}/{REPO}/tree/{commit}"
    published = writer.files(REPO)
    assert published["report.png"] == b"a picture"
    assert f'emuloss.load("{REPO}")' in published["README.md"].decode()
    assert emuloss.load(f"{REPO}@v1").revision == commit
    assert cli.main(["verify", REPO]) == 0
    assert cli.main(["show", REPO]) == 0
    assert "R2 mean" in capsys.readouterr().out


def test_a_public_repository_is_not_taken_for_a_private_one(writer, run, capsys):
    assert cli.main(["publish", str(run), REPO]) == 0
    commit = writer.repositories[REPO].branches["main"]
    assert cli.main(["publish", str(run), REPO, "--private"]) == 2
    assert "is public" in capsys.readouterr().err
    assert writer.repositories[REPO].branches["main"] == commit


def test_a_branch_is_named_in_its_card(writer, run):
    publish(run, REPO, revision="next")
    loaded = emuloss.load(f"{REPO}@next")
    assert loaded.revision == writer.repositories[REPO].branches["next"]
    assert f'emuloss.load("{REPO}@next")' in writer.files(REPO, "next")["README.md"].decode()


def test_push_to_hub(writer, evaluated):
    evaluated.push_to_hub(REPO)
    assert emuloss.load(REPO).license == "mit"


def test_a_dry_run_sends_nothing(writer, run, capsys):
    assert cli.main(["publish", str(run), REPO, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    for name in ("config.json", "model.safetensors", "golden.safetensors", "README.md", "report.png"):
        assert name in shown
    assert writer.requests == []


def test_a_run_that_does_not_replay_is_not_published(writer, run, capsys):
    path = run / "config.json"
    config = json.loads(path.read_text())
    config["architecture"]["arguments"]["temperature"] = 0.2
    path.write_text(json.dumps(config | {"config_sha256": contract.digest(config)}))
    assert cli.main(["publish", str(run), REPO]) == 2
    assert "does not give what it gave when it was saved" in capsys.readouterr().err
    with pytest.raises(CorruptedError, match="does not give"):
        verify(run)
    assert writer.requests == []


def test_a_run_without_evaluation_is_not_published_until_it_has_one(writer, evaluated, tmp_path, capsys):
    bare = tmp_path / "bare"
    Surrogate(emuloss.relax(evaluated.metric).module, "relaxed", Provenance(unit="mm/h")).save_pretrained(
        bare
    )
    assert cli.main(["publish", str(bare), REPO]) == 2
    assert "emuloss evaluate --save" in capsys.readouterr().err
    assert writer.requests == []
    np.save(tmp_path / "fields.npy", rain(24, size=32))
    words = [f"--fields={tmp_path / 'fields.npy'}", "--whole", "--no-thorough", "--save", "--no-progress"]
    assert cli.main(["evaluate", str(bare), *words]) == 0
    assert cli.main(["publish", str(bare), REPO]) == 0
    assert "report.png" in writer.files(REPO)
    assert emuloss.load(REPO).evaluation["fidelity"]["fields"] == 24


def test_a_bundled_surrogate_is_not_written_to(capsys):
    assert cli.main(["evaluate", "minkowski-opera", "--save"]) == 2
    assert "needs a folder" in capsys.readouterr().err


# The command


def test_list(capsys):
    assert cli.main(["list"]) == 0
    shown = capsys.readouterr().out
    for name in BUNDLED:
        assert f"{name}: " in shown
    assert cli.main(["list", "nothing"]) == 2
    assert "no bundled surrogate matches 'nothing'" in capsys.readouterr().err
    assert cli.main(["list", "--metrics"]) == 0
    assert "minkowski " in capsys.readouterr().out
    assert cli.main(["list", "*nothing*", "--metrics"]) == 2
    assert "no metric matches" in capsys.readouterr().err


def test_verify_and_show(capsys):
    assert cli.main(["verify", "minkowski-opera"]) == 0
    assert cli.main(["show", "minkowski-opera"]) == 0
    assert "388 fields of 128 x 128 pixels" in capsys.readouterr().out
