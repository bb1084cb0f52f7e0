"""The Hub: the real client against a stand-in, its faults, and what users are told about them."""

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import emuloss
import pytest
import torch
from emuloss.emulators import ARCHITECTURES
from emuloss.errors import (
    AccessError,
    ArgumentError,
    CheckpointError,
    ConflictError,
    CorruptedError,
    EmulossError,
    HubConnectionError,
    IncompatibleError,
    NotFoundError,
    OfflineError,
)
from emuloss.zoo import Surrogate, answers, client, contract, golden, hub, place, publish
from emuloss.zoo import card as cards
from hub_standin import TOKEN
from huggingface_hub import HfApi, constants, hf_hub_download
from hypothesis import given
from hypothesis import strategies as st

REPO = "org/repo"
FILES = ["README.md", "config.json", "golden.safetensors", "model.safetensors"]
SEALED = ["config.json", "golden.safetensors", "model.safetensors"]


NEWER = {"fidelity": {"outputs": {}}, "newer": 1}


def rewrite(folder, **changes):
    """Change a configuration and seal it again."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(config | {"config_sha256": contract.digest(config)}))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Two evaluated checkpoints that no test changes."""
    metric = emuloss.metric("minkowski", thresholds=[0.105, 0.5, 1, 5], pixel_size=2.0)
    folders = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        emulator = ARCHITECTURES["hybrid"](metric, widths=(8, 16), hidden=16)
        with torch.no_grad():
            for parameter in emulator.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        folders.append(tmp_path_factory.mktemp("saved"))
        Surrogate(emulator, "hybrid").save_pretrained(folders[-1])
        rewrite(folders[-1], evaluation={"fidelity": {"outputs": {}}, "seed": seed})
    return folders


@pytest.fixture
def run(saved, tmp_path):
    """A copy of the first to publish and to spoil, with things beside it that no one should publish."""
    folder = Path(shutil.copytree(saved[0], tmp_path / "run"))
    (folder / "state.pt").write_bytes(b"optimiser")
    (folder / "stray.png").write_bytes(b"not shown")
    (folder / "report.png").write_bytes(b"a picture")
    (folder / "README.md").write_text((folder / "README.md").read_text() + "\n![report](report.png)\n")
    return folder


@pytest.fixture
def hurry(monkeypatch):
    """Shortens the time limits, for faults that run into them."""

    def shorten(kind):
        if kind.startswith("stall"):
            monkeypatch.setattr(client, "PATIENCE", 0.9)
            monkeypatch.setattr(client, "SLOWEST", 1e7)
            monkeypatch.setattr(client, "TIMEOUT", 0.2)
            monkeypatch.setattr(answers, "TIMEOUT", 0.2)

    return shorten


@pytest.fixture
def there(standin, saved):
    """A Hub that has the first checkpoint."""
    standin.add(REPO, saved[0])
    return standin


@pytest.fixture
def warm(there):
    """The same, and the cache has it too."""
    hub.fetch(REPO)
    there.requests.clear()
    return there


@pytest.fixture
def writer(standin, monkeypatch):
    """A Hub for one who may write."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return standin


def contents(fetched):
    return {path.name: path.read_bytes() for path in fetched.folder.iterdir()}


def refusal(kind, *words, call=hub.fetch, repo=REPO, revision="main", **arguments):
    """The message of an error: one line that quotes repository and revision."""
    started = time.monotonic()
    with pytest.raises(kind) as caught:
        call(repo, revision=revision, **arguments) if call is hub.fetch else call(repo=repo, **arguments)
    assert time.monotonic() - started < 4
    message = str(caught.value)
    assert type(caught.value) is kind
    assert f"{repo}@{revision}" in message
    assert "\n" not in message
    assert len(message) < 500
    for word in words:
        assert word in message
    return message


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1 << place % 7
    path.write_bytes(content)


# The stand-in itself


def test_the_stand_in_deletes_and_lists_as_the_hub_does(writer):
    writer.add(REPO, {"a": b"1", "b": b"22"})
    api = HfApi(endpoint=writer.url, token=TOKEN)
    api.delete_file("a", REPO)
    assert [(file.path, file.size) for file in api.list_repo_tree(REPO)] == [("b", 2)]
    assert [branch.name for branch in api.list_repo_refs(REPO).branches] == ["main"]


# Names


@pytest.mark.parametrize(
    ("name", "parts"),
    [("org/repo", ("org/repo", None)), ("org/repo@v1.0", ("org/repo", "v1.0")),
     ("a-b/c.d_e@refs/pr/1", ("a-b/c.d_e", "refs/pr/1")), ("org/repo@" + "0" * 40, ("org/repo", "0" * 40))],
)  # fmt: skip
def test_names(name, parts):
    assert place.split_name(name) == parts


@pytest.mark.parametrize(
    "name",
    ["", "repo", "org/", "/repo", "a/b/c", "../repo", "org/..", "org/re po", "org/repo@", "org/repo@../../x",
     "org/repo@/x", "org/repo@a b", "org/repo@a\nb", "org\\repo", "örg/repo", None, 3],
)  # fmt: skip
def test_names_that_are_none(name):
    with pytest.raises(ArgumentError, match=r"repo|revision") as caught:
        place.split_name(name) if isinstance(name, str) else hub.fetch(name)
    assert "\n" not in str(caught.value)


def test_a_name_that_only_the_client_refuses(standin):
    refusal(ArgumentError, "org/repo", repo="org/re--po")
    assert standin.requests == []


# Fetching


def test_all_files_of_one_commit(there, saved):
    commit = there.repositories[REPO].branches["main"]
    fetched = hub.fetch(REPO)
    assert fetched.revision == commit
    assert contents(fetched) == {path.name: path.read_bytes() for path in saved[0].iterdir()}
    fields = torch.rand(2, 32, 32)
    assert torch.equal(emuloss.load(fetched.folder)(fields), emuloss.load(saved[0])(fields))
    # One question for the listing, then everything by commit; the cache notes which commit the branch is.
    assert [(r.method, r.path) for r in there.requests] == [("GET", f"/api/models/{REPO}/revision/main")] + [
        ("GET", f"/{REPO}/resolve/{commit}/{name}") for name in ("config.json", "README.md", *SEALED[:0:-1])
    ]
    assert (fetched.folder.parents[1] / "refs" / "main").read_text() == commit
    assert hf_hub_download(REPO, "config.json", local_files_only=True) == str(fetched.folder / "config.json")


def test_a_copy_in_the_cache_costs_one_question(warm):
    hub.fetch(REPO)
    assert [(r.method, r.path) for r in warm.requests] == [("GET", f"/api/models/{REPO}/revision/main")]


def test_a_commit_in_the_cache_costs_none(warm):
    commit = warm.repositories[REPO].branches["main"]
    assert hub.fetch(REPO, revision=commit).revision == commit
    assert warm.requests == []


def test_branches_tags_and_commits(there, saved):
    first = there.repositories[REPO].branches["main"]
    there.repositories[REPO].tags["v1"] = first
    second = there.add(REPO, saved[1], branch="next")
    for revision, commit in {"v1": first, "next": second, first: first, second: second}.items():
        assert hub.fetch(REPO, revision=revision).revision == commit


def test_a_branch_that_moves_is_followed(warm, saved, monkeypatch):
    second = warm.add(REPO, saved[1])
    assert hub.fetch(REPO).revision == second
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.fetch(REPO).revision == second


@pytest.mark.parametrize("moment", range(4))
def test_a_branch_that_moves_meanwhile(there, saved, monkeypatch, moment):
    download, moves = hub.download, iter([*[()] * moment, [saved[1]]])
    first = there.repositories[REPO].branches["main"]

    def late(*arguments):
        for folder in next(moves, ()):
            there.add(REPO, folder)
        return download(*arguments)

    monkeypatch.setattr(hub, "download", late)
    fetched = hub.fetch(REPO)
    assert fetched.revision == first != there.repositories[REPO].branches["main"]
    assert contents(fetched) == {path.name: path.read_bytes() for path in saved[0].iterdir()}
    assert contents(hub.fetch(REPO)) == {path.name: path.read_bytes() for path in saved[1].iterdir()}


def test_nothing_else_is_taken(there):
    there.add(REPO, {"pytorch_model.bin": b"\x80\x04 a pickle", "setup.py": b"raise SystemExit"})
    assert sorted(contents(hub.fetch(REPO))) == FILES
    assert not there.asked("GET", "bin") + there.asked("GET", "py")


def test_a_repository_without_a_card(there):
    del there.repositories[REPO].commits[there.repositories[REPO].branches["main"]]["README.md"]
    assert sorted(contents(hub.fetch(REPO))) == SEALED


def test_another_cache(there, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert hub.fetch(REPO, cache_dir="~/mine").folder.is_relative_to(tmp_path / "mine")
    there.requests.clear()
    assert hub.fetch(REPO, cache_dir="~/mine", local_files_only=True)
    assert there.requests == []


def test_forced_download_replaces_the_cache(warm):
    fetched = hub.fetch(REPO)
    before = contents(fetched)
    flip(fetched.folder / "README.md", 3)  # which no hash vouches for
    assert contents(hub.fetch(REPO, force_download=True)) == before
    assert hub.fetch(REPO, revision=fetched.revision, force_download=True) == fetched


def test_a_forced_download_that_fails_once(warm):
    fetched = hub.fetch(REPO)
    before = contents(fetched)
    warm.fail("flip", *BODY, times=1)
    assert hub.fetch(REPO, force_download=True) == fetched
    assert contents(fetched) == before


def test_several_at_once(there):
    results = []
    threads = [threading.Thread(target=lambda: results.append(hub.fetch(REPO))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert len(set(results)) == 1
    assert emuloss.load(results[0].folder)


def test_gated_and_private_with_a_token(there):
    there.repositories[REPO].gated = there.repositories[REPO].private = True
    assert hub.fetch(REPO, token=TOKEN)


# Faults of the Hub. A fault that passes is not noticed; one that stays is told, or the cache stands in.

API = ("GET", "/revision/main")
CONFIG = ("GET", "config.json")
BODY = ("GET", "model.safetensors")


PASSES = [(kind, API) for kind in ("500", "drop", "stall", "portal")]
PASSES += [(kind, CONFIG) for kind in ("500", "drop", "stall")]
PASSES += [(kind, BODY) for kind in ("500", "drop", "stall", "stall body", "truncate", "short", "flip")]


@pytest.mark.parametrize("fault", PASSES, ids=str)
def test_a_fault_that_passes(there, saved, fault, hurry):
    kind, request_ = fault
    hurry(kind)
    there.fail(kind, *request_, times=1)
    assert contents(hub.fetch(REPO)) == {path.name: path.read_bytes() for path in saved[0].iterdir()}
    assert there.faults[0].times == 0


STAYS = {
    ("500", API): (HubConnectionError, "500"),
    ("drop", API): (HubConnectionError, "disconnected"),
    ("stall", API): (HubConnectionError, ""),
    ("portal", API): (HubConnectionError, "HF_ENDPOINT"),
    ("500", CONFIG): (HubConnectionError, "500"),
    ("drop", CONFIG): (HubConnectionError, "disconnected"),
    ("stall", CONFIG): (HubConnectionError, ""),
    ("500", BODY): (HubConnectionError, "500"),
    ("drop", BODY): (HubConnectionError, "disconnected"),
    ("truncate", BODY): (HubConnectionError, "closed connection"),
    ("stall", BODY): (HubConnectionError, ""),
    ("stall body", BODY): (HubConnectionError, ""),
    ("short", BODY): (CorruptedError, "incomplete"),
    ("flip", BODY): (CorruptedError, "model.safetensors"),
    ("flip", ("GET", "golden.safetensors")): (CorruptedError, "golden.safetensors"),
    ("flip", ("GET", "config.json")): (CorruptedError, "config.json"),
}


@pytest.mark.parametrize("fault", STAYS, ids=str)
def test_a_fault_that_stays_with_a_cold_cache(there, fault, hurry):
    kind, request_ = fault
    hurry(kind)
    there.fail(kind, *request_)
    message = refusal(*STAYS[fault])
    assert there.url in message
    there.mend()
    assert hub.fetch(REPO)  # nothing of the failure is left behind


@pytest.mark.parametrize("fault", [fault for fault in STAYS if fault[1] is API], ids=str)
def test_a_fault_that_stays_with_a_warm_cache(warm, fault, caplog, hurry):
    kind, request_ = fault
    hurry(kind)
    warm.fail(kind, *request_)
    commit = warm.repositories[REPO].branches["main"]
    assert hub.fetch(REPO).revision == commit
    (record,) = [record for record in caplog.records if record.name == hub.__name__]
    assert record.levelname == "WARNING"
    assert f"commit {commit} from the cache" in record.getMessage()
    refusal(HubConnectionError, force_download=True)


@pytest.mark.parametrize("fault", [fault for fault in STAYS if fault[0] not in ("flip", "short")], ids=str)
def test_a_new_commit_that_does_not_arrive(warm, saved, caplog, fault, hurry):
    kind, request_ = fault
    old = warm.repositories[REPO].branches["main"]
    new = warm.add(REPO, saved[1])
    hurry(kind)
    warm.fail(kind, *request_)
    assert hub.fetch(REPO).revision == old
    assert f"commit {old} from the cache" in caplog.text
    assert hub.fetch(REPO, local_files_only=True).revision == old
    warm.mend()
    assert hub.fetch(REPO).revision == new


def test_a_hub_that_is_gone(warm, caplog):
    warm.close()
    assert hub.fetch(REPO)
    assert "from the cache" in caplog.text
    refusal(HubConnectionError, "refused", revision="other")
    refusal(HubConnectionError, "refused", force_download=True)


def test_no_second_question_where_the_cache_can_answer(warm):
    warm.fail("500", *API)
    hub.fetch(REPO)
    assert warm.asked(*API) == 1


@pytest.mark.parametrize("name", SEALED)
def test_a_damaged_cache_heals(warm, name, caplog):
    fetched = hub.fetch(REPO)
    before = contents(fetched)
    chance = random.Random(0)
    for _ in range(12):
        flip(fetched.folder / name, chance.randrange(2**30))
        assert hub.fetch(REPO, revision=fetched.revision) == fetched
        assert contents(fetched) == before
    assert "downloading it again" in caplog.text


@pytest.mark.parametrize("name", SEALED)
def test_a_damaged_cache_offline(warm, name):
    fetched = hub.fetch(REPO)
    flip(fetched.folder / name, 1000)
    refusal(CorruptedError, name, "while connected", local_files_only=True)


def test_a_cache_with_holes(warm):
    fetched = hub.fetch(REPO)
    for name in FILES:
        (fetched.folder / name).resolve().unlink()
        assert hub.fetch(REPO, revision=fetched.revision)
    assert len(contents(fetched)) == 4


# What the Hub does not have, or not for everyone


def test_unknown_repository(standin):
    refusal(NotFoundError, "no such repository", "HF_TOKEN", standin.url)


def test_private_repository(there):
    there.repositories[REPO].private = True
    refusal(NotFoundError, "private", "log in")


def test_unknown_revision(there):
    refusal(NotFoundError, "no such revision", f"{there.url}/{REPO}", revision="v9")
    refusal(NotFoundError, "no such revision", revision="0" * 40)


@pytest.mark.parametrize("name", SEALED)
def test_missing_file(there, name):
    del there.repositories[REPO].commits[there.repositories[REPO].branches["main"]][name]
    refusal(NotFoundError, name)
    assert not there.asked("GET", "model.safetensors")


def test_gated(there):
    there.repositories[REPO].gated = True
    refusal(AccessError, "gated", f"{there.url}/{REPO}", "HF_TOKEN")


def test_a_token_that_must_be_there_and_is_not(there):
    refusal(AccessError, "no token", token=True)


def test_a_repository_of_something_else(there):
    there.add(REPO, {"config.json": b'{"model_type": "bert"}'})
    refusal(IncompatibleError, "not one of emuloss")
    assert not there.asked("GET", "model.safetensors")


@pytest.mark.parametrize("content", [b"", b"[1]", b"null", b"\xff", b"[" * 10_000, b"9" * 5000], ids=repr)
def test_a_configuration_that_is_none(there, content):
    there.add(REPO, {"config.json": content})
    refusal(CorruptedError, "config.json is not a JSON object")


def test_files_beyond_reason_are_not_taken(there, monkeypatch):
    monkeypatch.setitem(contract.LARGEST, "model.safetensors", 1000)
    refusal(IncompatibleError, "model.safetensors has", "1000")
    assert not there.asked("GET", ".safetensors")


# Offline


def test_offline_and_not_in_the_cache(there, monkeypatch):
    refusal(OfflineError, "HF_HUB_OFFLINE", local_files_only=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refusal(OfflineError, "HF_HUB_OFFLINE")
    assert there.requests == []


def test_offline_with_a_copy(warm, monkeypatch):
    commit = warm.repositories[REPO].branches["main"]
    assert hub.fetch(REPO, local_files_only=True).revision == commit
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.fetch(REPO).revision == commit
    assert hub.fetch(REPO, revision=commit).revision == commit
    refusal(OfflineError, force_download=True)
    refusal(OfflineError, revision="v1")
    assert warm.requests == []


def test_forced_and_local_contradict_each_other():
    with pytest.raises(ArgumentError, match="force_download"):
        hub.fetch(REPO, force_download=True, local_files_only=True)


def test_a_cache_that_cannot_be_written(there, tmp_path):
    (tmp_path / "file").write_text("")
    refusal(CheckpointError, "cannot use the cache", "HF_HOME", cache_dir=tmp_path / "file" / "cache")


# The environment, which the client reads when it is imported

SCRIPT = """
import logging, sys, time
from emuloss.zoo import hub
started = time.monotonic()
try:
    print(hub.fetch("org/repo", revision=sys.argv[1]).folder)
except Exception as error:
    print(type(error).__name__, error)
print(time.monotonic() - started)
"""


def in_another_process(tmp_path, revision, **variables):
    """What the script says about a revision, and after how many seconds."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, revision],
        cwd=tmp_path, env=kept | variables, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    outcome, seconds = done.stdout.splitlines()
    return outcome, float(seconds)


def test_environment(there, tmp_path):
    there.repositories[REPO].gated = True
    home = str(tmp_path / "home")
    folder, _ = in_another_process(tmp_path, "main", HF_ENDPOINT=there.url, HF_HOME=home, HF_TOKEN=TOKEN)
    assert Path(folder).is_relative_to(Path(home) / "hub")
    assert all(r.headers["authorization"] == f"Bearer {TOKEN}" for r in there.requests)


def test_environment_offline(there, tmp_path):
    fetched = hub.fetch(REPO, cache_dir=tmp_path / "mine")
    there.requests.clear()
    variables = {"HF_HUB_CACHE": str(tmp_path / "mine"), "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": there.url}
    assert in_another_process(tmp_path, "main", **variables)[0] == str(fetched.folder)
    assert there.requests == []


def test_not_even_the_clients_own_question(there, tmp_path, monkeypatch):
    asking = pytest.importorskip("huggingface_hub.utils._detect_agent", reason="older clients do not ask")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, there.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", there.url)
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(tmp_path / "harnesses.json"))
    monkeypatch.setattr(asking, "_registry", None)
    hub.fetch(REPO)
    assert there.asked("GET", "/api/agent-harnesses") == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["refused", "silent"])
def test_an_unreachable_hub_is_told_within_half_a_minute(kind, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        if kind == "refused":
            server.close()
        outcome, seconds = in_another_process(tmp_path, "main", HF_ENDPOINT=endpoint, HF_HOME=str(tmp_path))
    print(f"{kind}: {seconds:.1f} s: {outcome}")
    assert outcome.startswith(f"HubConnectionError org/repo@main: no sound answer from {endpoint}")
    assert seconds < 30


# Publishing


def test_publish_and_load(writer, run):
    url = publish(run, REPO)
    commit = writer.repositories[REPO].branches["main"]
    assert url == f"{writer.url}/{REPO}/tree/{commit}"
    published = writer.files(REPO)
    assert sorted(published) == [
        ".gitattributes",
        "README.md",
        *SEALED[:2],
        "model.safetensors",
        "report.png",
    ]
    for name in (*SEALED, "report.png"):
        assert published[name] == (run / name).read_bytes()
    assert len(writer.repositories[REPO].commits) == 2  # the first is the Hub's own
    fields = torch.rand(2, 32, 32)
    fetched = hub.fetch(REPO)
    assert fetched.revision == commit
    assert torch.equal(emuloss.load(fetched.folder)(fields), emuloss.load(run)(fields))


def test_publishing_again_changes_nothing(writer, run):
    url = publish(run, REPO)
    assert publish(run, REPO) == url
    assert len(writer.repositories[REPO].commits) == 2


def test_publishing_something_newer(writer, saved):
    first, second = (publish(folder, REPO) for folder in saved)
    assert first != second
    for name in SEALED:
        assert writer.files(REPO)[name] == (saved[1] / name).read_bytes()


def test_text_of_others_is_kept(writer, saved):
    writer.add(REPO, {"README.md": b"---\nlicense: mit\n---\n# My notes\n\nRead this first.\n"})
    for folder in saved:
        publish(folder, REPO)
    card = writer.files(REPO)["README.md"].decode()
    assert card.startswith("---\nlibrary_name: emuloss")
    for part in ("# My notes\n\nRead this first.", cards.BEGIN, cards.END):
        assert card.count(part) == 1
    assert "license: mit" in card  # what the new header has not is kept


def test_private_branch_and_tag(writer, run):
    publish(run, REPO, private=True, revision="next", tag="v1")
    repository = writer.repositories[REPO]
    assert repository.private
    assert repository.tags == {"v1": repository.branches["next"]}
    assert sorted(writer.files(REPO, "main")) == [".gitattributes"]
    assert hub.fetch(REPO, revision="v1").revision == repository.branches["next"]


def test_pull_request(writer, run):
    writer.add(REPO, {"README.md": b"notes"})
    assert publish(run, REPO, create_pr=True) == f"{writer.url}/{REPO}/discussions/1"
    assert writer.files(REPO) == {"README.md": b"notes"}
    assert b"notes" in writer.files(REPO, "refs/pr/1")["README.md"]


def test_dry_run(writer, run):
    plan = publish(run, REPO, private=True, tag="v1", dry_run=True)
    assert writer.requests == []
    target, *files = plan.splitlines()
    assert target == f"{REPO}@main at {writer.url} (private if new, tag v1)"
    assert {tuple(line.split()[:2]) for line in files} == {
        (name, f"{(run / name).stat().st_size:,}") for name in (*FILES, "report.png")
    }


def test_a_rival_commit(writer, run):
    publish(run, REPO)
    writer.before_commit = lambda: writer.add(REPO, {"notes.txt": b"mine"})
    rewrite(run, evaluation=NEWER)
    refusal(ConflictError, "publish again", call=publish, folder=run)
    assert b"newer" not in writer.files(REPO)["config.json"]
    writer.before_commit = lambda: None
    publish(run, REPO)
    assert writer.files(REPO)["notes.txt"] == b"mine"
    assert b"newer" in writer.files(REPO)["config.json"]


def test_a_tag_that_exists(writer, run):
    publish(run, REPO, tag="v1")
    rewrite(run, evaluation=NEWER)
    refusal(ConflictError, "'v1'", call=publish, folder=run, tag="v1")
    assert b"newer" not in writer.files(REPO)["config.json"]


def test_the_tag_fails_and_is_made_up_for(writer, run):
    publish(run, REPO)
    writer.fail("500", "POST", writer.repositories[REPO].branches["main"])
    refusal(HubConnectionError, call=publish, folder=run, tag="v1")
    writer.mend()
    publish(run, REPO, tag="v1")
    repository = writer.repositories[REPO]
    assert repository.tags == {"v1": repository.branches["main"]}


def refused_before_anything_is_asked(server, kind, words, folder, **arguments):
    with pytest.raises(kind, match=words) as caught:
        publish(folder, REPO, **arguments)
    assert "\n" not in str(caught.value)
    assert server.requests == []


def test_no_evaluation(writer, run):
    rewrite(run, evaluation={})
    refused_before_anything_is_asked(writer, ArgumentError, "emuloss evaluate", run)


@pytest.mark.parametrize("name", FILES)
def test_incomplete_folder(writer, run, name):
    (run / name).unlink()
    refused_before_anything_is_asked(writer, CheckpointError, f"lacks {name}", run)


@pytest.mark.parametrize("name", SEALED)
def test_damaged_folder(writer, run, name):
    flip(run / name, 1000)
    refused_before_anything_is_asked(writer, CorruptedError, name, run, dry_run=True)


def test_a_check_that_fails(writer, run, monkeypatch):
    def verify(module, folder):
        assert folder == run
        raise CheckpointError("it does not replay")

    monkeypatch.setattr(golden, "verify", verify)
    refused_before_anything_is_asked(writer, CheckpointError, "does not replay", run)


@pytest.mark.parametrize(
    "arguments",
    [{"tag": "v 1"}, {"tag": ""}, {"tag": "../x"}, {"revision": "../x"}, {"create_pr": True, "tag": "v1"},
     {"create_pr": True, "revision": "next"}],
    ids=str,
)  # fmt: skip
def test_arguments_that_cannot_be_meant(writer, run, arguments):
    refused_before_anything_is_asked(writer, ArgumentError, "tag|revision", run, **arguments)


def test_nobody_is_logged_in(standin, run):
    refusal(AccessError, "HF_TOKEN", call=publish, folder=run)
    refusal(AccessError, "HF_TOKEN", call=publish, folder=run, token="hf_of_a_stranger")
    assert standin.repositories == {}
    before = standin.add(REPO, {"README.md": b"of someone else"})
    refusal(AccessError, "HF_TOKEN", call=publish, folder=run)
    refusal(AccessError, "HF_TOKEN", call=publish, folder=run, token="hf_of_a_stranger")
    assert standin.repositories[REPO].branches == {"main": before}


def test_publishing_offline(writer, run, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refusal(OfflineError, call=publish, folder=run)


@pytest.mark.parametrize("kind", ["500", "drop", "stall"])
@pytest.mark.parametrize("ending", ["/create", "/validate-yaml", "/preupload/main", "/commit/main"])
def test_faults_while_publishing(writer, run, kind, ending, hurry):
    hurry(kind)
    writer.fail(kind, "POST", ending)
    refusal(HubConnectionError, writer.url, call=publish, folder=run)
    assert REPO not in writer.repositories or "config.json" not in writer.files(REPO)
    writer.mend()
    assert publish(run, REPO)


def test_publishing_to_nowhere(writer, run):
    writer.close()
    refusal(HubConnectionError, "refused", call=publish, folder=run)


def test_a_card_that_the_hub_refuses(writer, run):
    (run / "README.md").write_text("no header")
    refusal(ArgumentError, "no YAML header", call=publish, folder=run)
    assert "config.json" not in writer.files(REPO)


# The card

GENERATED = "---\nlibrary_name: emuloss\n---\n\n# Model\n\nText.\n"


def test_a_new_card():
    card = cards.merged_card("", GENERATED)
    assert card == f"---\nlibrary_name: emuloss\n---\n\n{cards.BEGIN}\n# Model\n\nText.\n{cards.END}\n"


def test_the_section_is_replaced_where_it_stands():
    first = cards.merged_card("", GENERATED)
    edited = first.replace(cards.BEGIN, f"before\n\n{cards.BEGIN}") + "\nafter\n"
    card = cards.merged_card(edited, GENERATED.replace("Text.", "Newer text."))
    assert card.count("Newer text.") == 1
    assert "\nText." not in card
    assert card.index("before") < card.index("Newer text.") < card.index("after")


@pytest.mark.parametrize(
    "damaged",
    [cards.BEGIN + "\nmine", "mine\n" + cards.END, f"{cards.END}\nmine\n{cards.BEGIN}",
     f"mine\n{cards.BEGIN}\nold\n{cards.END}\n{cards.BEGIN}\nold\n{cards.END}"],
)  # fmt: skip
def test_damaged_markers(damaged):
    card = cards.merged_card(damaged, GENERATED)
    assert "mine" in card
    assert "old" not in card
    assert card.count(cards.BEGIN) == card.count(cards.END) == 1


def test_windows_line_ends():
    card = cards.merged_card("---\r\nlicense: mit\r\n---\r\nmine\r\n", GENERATED.replace("\n", "\r\n"))
    assert card == cards.merged_card("---\nlicense: mit\n---\nmine", GENERATED)


def test_what_the_old_header_has_besides_is_kept():
    old = "---\nlibrary_name: other\nlicense: mit\nextra_gated_prompt: ask\n---\nmine\n"
    card = cards.merged_card(old, GENERATED)
    assert card.startswith("---\nlibrary_name: emuloss\nlicense: mit\nextra_gated_prompt: ask\n---\n")
    assert cards.merged_card("---\n[damaged\n---\nmine\n", GENERATED) == cards.merged_card("mine", GENERATED)


def test_a_card_that_was_published_brings_its_section_alone():
    published = cards.merged_card("# Mine\n", GENERATED)
    assert cards.merged_card(published, published) == published


@given(st.lists(st.sampled_from(["---", "mine", "", cards.BEGIN, cards.END, "a: b", "# Title"]), max_size=12))
def test_merging_again_changes_nothing(lines):
    card = cards.merged_card("\n".join(lines), GENERATED)
    assert cards.merged_card(card, GENERATED) == card
    assert card.startswith("---\nlibrary_name: emuloss\n")
    assert card.count("# Model\n\nText.") == 1


def test_errors_are_few_and_related():
    for kind in (AccessError, ConflictError, CorruptedError, HubConnectionError, IncompatibleError):
        assert issubclass(kind, CheckpointError)
    assert issubclass(CheckpointError, EmulossError)
