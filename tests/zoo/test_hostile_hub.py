"""A Hub that means harm: paths for names, answers without end, bombs, and words that steer terminals."""

import gzip
import json
import os
import threading
import time
import tracemalloc
import zlib
from pathlib import Path

import emuloss
import pytest
from emuloss.cli import main as cli
from emuloss.errors import CheckpointError, CorruptedError, EmulossError, HubConnectionError
from emuloss.zoo import answers, client, hub, publish
from hub_standin import TOKEN, HubStandIn

REPO = "org/repo"
API = ("GET", "/revision/main")
BODY = ("GET", "model.safetensors")
MB = 2**20


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A checkpoint that no test changes."""
    folder = tmp_path_factory.mktemp("saved")
    emuloss.relax(emuloss.metric("minkowski", thresholds=[0.5, 1.0])).save_pretrained(folder)
    return folder


@pytest.fixture
def there(standin, saved, monkeypatch):
    """A Hub that has it, and a client of little patience."""
    monkeypatch.setattr(client, "PATIENCE", 0.9)
    monkeypatch.setattr(client, "SLOWEST", 1e9)
    monkeypatch.setattr(client, "TIMEOUT", 0.6)
    monkeypatch.setattr(answers, "TIMEOUT", 0.6)
    standin.add(REPO, saved)
    return standin


def refusal(kind, *words, call=hub.fetch, **arguments):
    started = time.monotonic()
    with pytest.raises(kind) as caught:
        call(REPO, **arguments)
    assert time.monotonic() - started < 5
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 500
    for word in words:
        assert word in message
    return message


def files_under(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def answer_of(there, **headers):
    """The listing as it is, with other headers or other content."""
    repository = there.repositories[REPO]
    commit = repository.branches["main"]
    files = [{"rfilename": n, "size": len(c)} for n, c in repository.commits[commit].items()]
    return {"sha": commit, "siblings": files, "private": False} | headers


def says(content, **headers):
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return lambda handler: handler.say(200, body, **headers)


# Names that are paths

TAGS = ["/{outside}", "../../../../{outside}", "..", "a/../b", "a\\b", "C:\\x", "\x01", "\u00e9"]


@pytest.mark.parametrize("tag", TAGS, ids=lambda tag: repr(tag)[:20])
@pytest.mark.parametrize("header", ["ETag", "X_Linked_Etag"])
@pytest.mark.parametrize("request_", [BODY, ("GET", "config.json")], ids=str)
def test_a_tag_that_is_a_path_is_refused(there, tag, header, request_, tmp_path, saved):
    outside = tmp_path / "outside"
    tag = tag.format(outside=str(outside).lstrip("/")).encode("utf-8").decode("latin-1")
    there.fail(says((saved / request_[1]).read_bytes(), **{header: f'"{tag}"'}), *request_)
    refusal(HubConnectionError, header.lower().replace("_", "-"))
    assert not [name for name in files_under(tmp_path) if name.endswith(request_[1])]
    assert not outside.exists()
    assert all(name.startswith("cache") for name in files_under(tmp_path))


@pytest.mark.parametrize(
    "tag", ['W/"2f-Qr/Md1+x="', '"' + "0" * 64 + '"', '"abc-5"', '"x" "y"', "", '"' + "x" * 5000 + '"']
)
def test_tags_as_servers_have_them(there, tag, saved):
    there.fail(says(answer_of(there), ETag=tag), *API)
    there.fail(says((saved / "model.safetensors").read_bytes(), ETag=tag), *BODY)
    assert hub.fetch(REPO)


def test_a_tag_of_a_listing_is_not_looked_at(there, tmp_path):
    there.fail(says(answer_of(there), ETag=f'"{tmp_path}/outside"'), *API)
    assert hub.fetch(REPO)
    assert not (tmp_path / "outside").exists()


def test_a_tag_is_no_part_of_any_path(there, tmp_path, saved):
    there.fail(says((saved / "model.safetensors").read_bytes(), ETag='W/"abc-2"'), *BODY)
    there.fail(lambda handler: handler.say(200, ETag=f'"{tmp_path}/evil"'), "HEAD", "")
    hub.fetch(REPO)
    assert not [name for name in files_under(tmp_path) if "abc" in name or "evil" in name]


@pytest.mark.parametrize(
    "commit",
    [
        "../../../x",
        "/tmp/x",
        "main",
        "0" * 39,
        "0" * 41,
        "0" * 40 + "\n",
        "G" * 40,
        "A" * 40,
        7,
        None,
        ["0" * 40],
        {},
    ],
    ids=lambda commit: repr(commit)[:16],
)  # fmt: skip
def test_a_commit_that_is_none(there, commit, tmp_path):
    there.fail(says(answer_of(there, sha=commit)), *API)
    refusal(HubConnectionError, "its commit is")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("commit", ["../../../x", "0" * 40, "main", ""])
def test_a_file_of_another_commit(there, commit, saved):
    there.fail(says((saved / "config.json").read_bytes(), X_Repo_Commit=commit), "GET", "config.json")
    refusal(HubConnectionError, "its commit is")


ODD = [None, True, -1, 1.5, "1234", "", [], {}, 10**30, [1]]


@pytest.mark.parametrize("size", ODD, ids=repr)
def test_a_size_that_is_none(there, size):
    listing = answer_of(there)
    next(f for f in listing["siblings"] if f["rfilename"] == "model.safetensors")["size"] = size
    there.fail(says(listing), *API)
    if size is None:  # some mirrors do not say
        assert hub.fetch(REPO)
    else:
        refusal(EmulossError, "model.safetensors")
        assert not there.asked(*BODY)


@pytest.mark.parametrize(
    "change",
    [
        *({"siblings": odd} for odd in ("x", 3, {"a": 1}, True)),
        *({"private": odd} for odd in ("false", 0, None, [])),
    ],
    ids=str,
)
def test_a_listing_of_another_form(there, change):
    there.fail(says(answer_of(there, **change)), *API)
    refusal(HubConnectionError, "describes no repository")


@pytest.mark.parametrize(
    "content", [b"[]", b"3", b"null", b'"x"', b"\xff", b"[" * 100_000, b"9" * 10_000, b"", b"{"]
)
def test_a_listing_that_is_none(there, content):
    there.fail(says(content), *API)
    refusal(EmulossError)


def test_other_files_of_a_repository_do_not_matter(there, tmp_path):
    listing = answer_of(there)
    odd = ["../../x", "/etc/passwd", "a\x1b[2J", None, 3, "config.json/../../y", "CONFIG.JSON", ""]
    listing["siblings"] += [{"rfilename": name, "size": "many"} for name in odd] + [None, 3, [], {}]
    there.fail(says(listing), *API)
    hub.fetch(REPO)
    assert all(name.startswith("cache") for name in files_under(tmp_path))


@pytest.mark.parametrize("aim", ["/dev/zero", "/etc/passwd", "../../../../../secret"])
def test_a_link_out_of_the_cache_is_not_followed(there, aim, tmp_path, saved):
    """As a cache that others may write could have it."""
    fetched = hub.fetch(REPO)
    (tmp_path / "secret").write_bytes((saved / "model.safetensors").read_bytes())
    path = fetched.folder / "model.safetensors"
    path.unlink()
    path.symlink_to(aim)
    assert hub.fetch(REPO).folder == fetched.folder
    assert not path.is_symlink()
    assert path.read_bytes() == (saved / "model.safetensors").read_bytes()


def test_links_within_the_cache_are_those_of_the_client(there, saved):
    fetched = hub.fetch(REPO)
    for name in os.listdir(fetched.folder):
        blob = fetched.folder.parents[1] / "blobs" / f"of {name}"
        blob.parent.mkdir(exist_ok=True)
        (fetched.folder / name).rename(blob)
        (fetched.folder / name).symlink_to(Path("../../blobs") / blob.name)
    there.requests.clear()
    assert hub.fetch(REPO, revision=fetched.revision) == fetched
    assert there.requests == []


# Words

WORDS = "\x1b[31mred\x1b]0;title\x07 \x9b2J \u202eback\u2066 \u200bzero \r\noverwritten\x00\x08"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 412, 418, 500, 503])
@pytest.mark.parametrize("place", ["body", "JSON", "list", "header"])
def test_words_of_a_server_do_not_reach_the_terminal(there, status, place, capfd):
    plain = WORDS.encode("ascii", "ignore").decode().translate({0: None, 10: None, 13: None})
    ways = {
        "body": lambda handler: handler.say(status, WORDS.encode(), Content_Type="text/plain"),
        "JSON": lambda handler: handler.say(status, json.dumps({"error": WORDS}).encode()),
        "list": lambda handler: handler.say(status, json.dumps({"errors": [{"message": WORDS}]}).encode()),
        "header": lambda handler: handler.say(status, b"{}", X_Error_Message=plain),
    }
    there.fail(ways[place], *API)
    message = refusal(CheckpointError, call=emuloss.load) if status != 400 else refusal(EmulossError)
    assert message.isprintable()
    assert cli.main(["show", REPO]) == 2
    shown = "".join(capfd.readouterr())
    assert shown.strip().isprintable()


def test_words_of_a_server_while_publishing(there, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    there.fail(lambda handler: handler.say(403, json.dumps({"error": WORDS}).encode()), "POST", "/create")
    folder = tmp_path / "run"
    evaluated(folder)
    there.repositories.clear()
    with pytest.raises(EmulossError) as caught:
        publish(folder, "org/new")
    assert str(caught.value).isprintable()


def evaluated(folder):
    """A checkpoint that says it was measured."""
    emuloss.relax(emuloss.metric("minkowski", thresholds=[0.5, 1.0])).save_pretrained(folder)
    path = folder / "config.json"
    from emuloss.zoo import contract

    config = json.loads(path.read_text()) | {"evaluation": {"fidelity": {"outputs": {}}}}
    path.write_text(json.dumps(config | {"config_sha256": contract.digest(config)}))


# Sizes and time


def endless(piece=b"x" * 2**16, pause=0.0):
    while True:
        yield piece
        time.sleep(pause)


def bomb(size, unit=b"\0" * MB):
    """A gzip of so many zeros, as pieces."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    for _ in range(size // MB):
        yield packer.compress(unit)
    yield packer.flush()


def ended():
    """Whether the threads that talked with the Hub are over within a second."""
    for thread in threading.enumerate():
        if thread.name == "emuloss-hub":
            thread.join(1)
            if thread.is_alive():
                return False
    return True


def drip(handler, piece=b"X-Slow: 1\r\n"):
    """Headers without end, one now and then."""
    handler.close_connection = True
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for _ in range(100):
        try:
            handler.wfile.write(piece)
        except OSError:
            return
        if handler.hub.ended.wait(0.2):
            return


HARM = {
    "endless": lambda: lambda h: h.say(200, endless()),
    "slow": lambda: lambda h: h.say(200, endless(b"x", 0.1)),
    "bomb": lambda: lambda h: h.say(200, bomb(512 * MB), Content_Encoding="gzip"),
    "endless bomb": lambda: lambda h: h.say(200, endless(gzip.compress(bytes(MB))), Content_Encoding="gzip"),
    "damaged gzip": lambda: lambda h: h.say(200, b"\x1f\x8b" + b"x" * 1000, Content_Encoding="gzip"),
    "another encoding": lambda: lambda h: h.say(200, b"x", Content_Encoding="br"),
    "endless complaint": lambda: lambda h: h.say(500, endless()),
    "bomb as complaint": lambda: lambda h: h.say(400, bomb(512 * MB), Content_Encoding="gzip"),
    "slow complaint": lambda: lambda h: h.say(404, endless(b"x", 0.1)),
    "slow headers": lambda: drip,
    "redirects to itself": lambda: lambda h: h.say(302, Location=h.path),
    "redirects on and on": lambda: lambda h: h.say(302, Location=f"/{time.monotonic_ns()}{h.path}"),
    "redirects nowhere": lambda: lambda h: h.say(302, Location="http://["),
    "redirects to a file": lambda: lambda h: h.say(302, Location="file:///etc/passwd"),
    "other status": lambda: lambda h: h.say(206, b"{}"),
    "no content": lambda: lambda h: h.say(204),
    "wrong length": lambda: lambda h: h.say(200, b"{}", Content_Length="2147483648"),
    "no number": lambda: lambda h: h.say(200, b"{}", Content_Length="many"),
}


@pytest.mark.parametrize("request_", [API, BODY], ids=str)
@pytest.mark.parametrize("way", HARM)
def test_harm_is_bounded_in_time_and_memory_and_ends(there, way, request_, monkeypatch, tmp_path):
    monkeypatch.setattr(client, "PAUSES", ())
    there.fail(HARM[way](), *request_)
    tracemalloc.start()
    refusal(EmulossError)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * MB
    assert ended()
    sent = there.sent
    time.sleep(0.05)
    assert there.sent - sent < MB
    assert not [name for name in files_under(tmp_path) if name.endswith((".tmp", "model.safetensors"))]


def test_a_file_longer_than_listed_is_cut_off_there(there, monkeypatch):
    monkeypatch.setattr(client, "PAUSES", ())
    there.fail(lambda handler: handler.say(200, endless(b"x" * 1000)), *BODY)
    message = refusal(CorruptedError, "model.safetensors arrives with more than")
    assert str(16) in message  # a relaxation has no weights: 16 bytes are listed
    assert ended()
    assert there.sent < 4 * MB  # what buffers hold


def test_compressed_answers_are_read(there, saved):
    listing = gzip.compress(json.dumps(answer_of(there)).encode())
    there.fail(says(listing, Content_Encoding="gzip"), *API)
    content = zlib.compress((saved / "config.json").read_bytes())
    there.fail(says(content, Content_Encoding="deflate"), "GET", "config.json")
    assert hub.fetch(REPO)
    assert {r.headers["accept-encoding"] for r in there.requests} == {"identity"}


def test_a_redirect_is_followed_and_nobody_else_learns_the_token(there, saved):
    with HubStandIn() as elsewhere:
        elsewhere.fail(says((saved / "model.safetensors").read_bytes()), "GET", "/elsewhere")
        there.fail(lambda h: h.say(302, Location=f"{elsewhere.url}/elsewhere?sig=x"), *BODY)
        there.fail(lambda h: h.say(307, Location="/renamed"), *API)
        there.fail(says(answer_of(there)), "GET", "/renamed")
        assert hub.fetch(REPO, token=TOKEN)
        assert [r.headers.get("authorization") for r in elsewhere.requests] == [None]
    assert {r.headers.get("authorization") for r in there.requests} == {f"Bearer {TOKEN}"}


def test_a_warm_cache_outlasts_all_harm(there, monkeypatch):
    fetched = hub.fetch(REPO)
    for way in HARM:
        there.mend()
        there.fail(HARM[way](), *API)
        if way not in ("bomb as complaint", "slow complaint"):
            assert hub.fetch(REPO) == fetched
    assert ended()


@pytest.mark.parametrize(
    "way", ["endless", "slow", "bomb", "another encoding", "slow headers", "endless complaint"]
)
@pytest.mark.parametrize("ending", ["/create", "/preupload/main", "/commit/main"])
def test_harm_while_publishing(there, way, ending, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    evaluated(tmp_path / "run")
    there.fail(HARM[way](), "POST", ending)
    if ending == "/create":
        there.repositories.clear()
    tracemalloc.start()
    refusal(EmulossError, call=lambda repo: publish(tmp_path / "run", repo))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * MB
    assert ended()
