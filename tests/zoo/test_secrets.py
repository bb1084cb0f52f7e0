"""No secret in any message, log or card, whatever goes wrong: tokens, and passwords in addresses."""

import logging
import traceback
from base64 import b64encode
from dataclasses import replace

import emuloss
import hub_standin
import pytest
from emuloss.cli import main as cli
from emuloss.errors import AccessError, ArgumentError, EmulossError, HubConnectionError
from emuloss.losses import Provenance
from emuloss.zoo import hub, place, publish, secrets
from hub_standin import TOKEN
from huggingface_hub import close_session, constants

REPO = "org/repo"
SECRET = "hf_SECRETSECRETSECRET"
PASSWORD = "SECRETpass"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A checkpoint that says it was evaluated."""
    folder = tmp_path_factory.mktemp("saved")
    surrogate = emuloss.relax(emuloss.metric("minkowski", thresholds=[0.5, 1.0], outputs=["area"]))
    surrogate.provenance = Provenance(unit="mm/h")
    surrogate.save_pretrained(folder)
    return folder


@pytest.fixture
def there(standin, saved):
    """A Hub that has it."""
    standin.add(REPO, saved)
    return standin


def told(call, *arguments, **keywords):
    """All that a caller can see of an error: its message, and the tracebacks of what it came from."""
    with pytest.raises(EmulossError) as caught:
        call(*arguments, **keywords)
    chain = [caught.value]
    for error in chain:
        chain += [e for e in (error.__cause__, error.__context__) if e is not None and e not in chain]
    assert "\n" not in str(caught.value)
    shown = "".join(traceback.format_exception(caught.value, limit=0))
    return caught.value, "\n".join([shown, *map(repr, chain), *map(str, chain)])


# Tokens


def test_a_token_as_files_have_it_works(there):
    there.repositories[REPO].gated = True
    for token in (f"{TOKEN}\n", f"{TOKEN}\r\n", f"  {TOKEN}\t\n"):
        assert hub.fetch(REPO, token=token, force_download=True)
    assert {r.headers["authorization"] for r in there.requests} == {f"Bearer {TOKEN}"}


BROKEN = [
    "hf_SECRET\0SECRET", "hf_SECRET\nSECRET", "hf_SECRET SECRET", "hf_SECRET\x1b[31mSECRET",
    "hf_SECR\u00c9TSECRET", "hf_SECRET\u202eSECRET", "SECRET" * 4000, "", " \n", "\0",
]  # fmt: skip


@pytest.mark.parametrize("token", BROKEN, ids=lambda token: repr(token)[:24])
def test_a_token_that_is_none_is_refused_and_not_shown(there, token, saved):
    for call, arguments in ((emuloss.load, (REPO,)), (emuloss.info, (REPO,)), (publish, (saved, REPO))):
        error, shown = told(call, *arguments, token=token)
        assert type(error) is ArgumentError
        assert str(error).startswith("token ")
        assert "copy it anew" in str(error)
        assert "SECR" not in shown
    assert there.requests == []


@pytest.mark.parametrize("token", ["hf_SECRET SECRET", "hf_SECR\u00c9T", "hf_SECRET\x1bSECRET"])
def test_a_token_of_the_environment_that_is_none(there, token, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", token)
    error, shown = told(emuloss.load, REPO)
    assert "HF_TOKEN" in str(error)
    assert "SECR" not in shown


def test_a_token_of_a_file_that_is_none(there, monkeypatch, tmp_path):
    (tmp_path / "token").write_text("hf_SECRET SECRET\n")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    error, shown = told(emuloss.load, REPO)
    assert "hf auth login" in str(error)
    assert "SECR" not in shown


@pytest.mark.parametrize("token", [b"hf_SECRET", 7, ["hf_SECRET"]])
def test_a_token_of_another_type(there, token):
    error, shown = told(emuloss.load, REPO, token=token)
    assert type(token).__name__ in str(error)
    assert "SECR" not in shown


def test_a_place_does_not_show_its_token():
    there = place.Place.of(REPO, None, SECRET)
    assert SECRET not in repr(there) + str(there) + f"{replace(there, login='SECRETlogin')!r}"


# Echoes: a server, or the library that reads it, repeats what it was sent

SAYS = (
    f"bad token {SECRET}, Bearer {SECRET}, http://me:{PASSWORD}@host/x and link https://cdn/x?sig={PASSWORD}"
)
ECHOES = {
    "in a header": lambda status: lambda handler: handler.say(status, b"{}", X_Error_Message=SAYS),
    "in JSON": lambda status: lambda handler: handler.say(status, b'{"error": "%s"}' % SAYS.encode()),
    "in text": lambda status: lambda handler: handler.say(status, SAYS.encode()),
    "in the reason": lambda status: lambda handler: handler.say(status, reason=SAYS),
    "in a tag": lambda status: lambda handler: handler.say(200, ETag=f'"/{SAYS}"'),
    "in the commit": lambda status: lambda handler: handler.say(200, b'{"sha": "%s"}' % SAYS.encode()),
    "in a redirect": lambda status: (
        lambda handler: handler.say(307, Location=f"ftp://me:{PASSWORD}@host/{SECRET}")
    ),
    "in a header of the protocol": lambda status: (
        lambda handler: handler.say(200, Transfer_Encoding=SAYS, Content_Length=SECRET)
    ),
}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 500])
@pytest.mark.parametrize("way", ECHOES)
def test_what_a_server_repeats_is_not_shown(there, way, status, caplog):
    caplog.set_level(logging.DEBUG)
    there.fail(ECHOES[way](status), "GET", "/revision/main")
    _, shown = told(emuloss.load, REPO, token=SECRET)
    assert "SECRET" not in shown
    assert "SECRET" not in "".join(
        record.getMessage() for record in caplog.records if "emuloss" in record.name
    )


@pytest.mark.parametrize("status", [400, 401, 403, 500])
@pytest.mark.parametrize("ending", ["/create", "/validate-yaml", "/preupload/main", "/commit/main"])
def test_what_a_server_repeats_while_publishing(there, saved, status, ending, monkeypatch, evaluated):
    monkeypatch.setattr(hub_standin, "TOKEN", SECRET)  # it may write, so that all requests are reached
    there.fail(ECHOES["in JSON"](status), "POST", ending)
    if ending == "/create":  # who may not make it may still write there
        assert publish(evaluated, REPO, token=SECRET)
        there.repositories.clear()
    _, shown = told(publish, evaluated, REPO, token=SECRET)
    assert "SECRET" not in shown


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """A checkpoint that can be published."""
    import numpy as np
    from emuloss.evaluation import evaluate

    metric = emuloss.metric("minkowski", thresholds=[0.5, 1.0], outputs=["area"])
    surrogate = emuloss.relax(metric)
    fields = np.random.default_rng(0).random((4, 16, 16), np.float32) * 2
    figures = evaluate(
        surrogate, fields, metric(fields), descent_fields=1, descent_steps=2, progress=False
    ).figures
    surrogate.provenance = Provenance(unit="mm/h", evaluation=dict(figures))
    folder = tmp_path_factory.mktemp("evaluated")
    surrogate.save_pretrained(folder)
    return folder


def test_a_warm_cache_tells_no_secret_in_its_warning(there, caplog):
    hub.fetch(REPO)
    there.fail(ECHOES["in JSON"](500), "GET", "/revision/main")
    assert hub.fetch(REPO, token=SECRET)
    assert "from the cache" in caplog.text
    assert "SECRET" not in caplog.text


# Addresses


def with_login(url, login=f"me:{PASSWORD}"):
    return url.replace("://", f"://{login}@")


def test_an_endpoint_with_a_password_works_and_is_not_shown(there, monkeypatch, caplog, evaluated):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("HF_ENDPOINT", with_login(there.url, f"me%40home:{PASSWORD}%2F"))
    hub.fetch(REPO, token=TOKEN)
    pair = b64encode(f"me@home:{PASSWORD}/".encode()).decode()
    assert {r.headers["authorization"] for r in there.requests} == {f"Basic {pair}"}
    assert PASSWORD not in publish(evaluated, REPO, dry_run=True)
    there.fail("500", "GET", "/revision/main")
    there.fail("500", "POST", "/create")
    for call, arguments in ((emuloss.load, (REPO,)), (publish, (evaluated, REPO))):
        _, shown = told(call, *arguments, **({"force_download": True} if call is emuloss.load else {}))
        assert PASSWORD not in shown
        assert pair not in shown
    assert PASSWORD not in caplog.text
    assert pair not in caplog.text


@pytest.mark.parametrize(
    "login", [f"me:{PASSWORD}", f"me:x@{PASSWORD}", PASSWORD, f"{PASSWORD}:", f":{PASSWORD}"]
)
def test_an_endpoint_with_a_password_that_nobody_answers(
    standin, login, monkeypatch, capsys, evaluated, quick
):
    monkeypatch.setenv("HF_ENDPOINT", with_login("http://127.0.0.1:9", login))
    error, shown = told(emuloss.load, REPO)
    assert type(error) is HubConnectionError
    assert "http://127.0.0.1:9" in str(error)
    assert PASSWORD not in shown
    assert PASSWORD not in told(publish, evaluated, REPO)[1]
    for words in (["show", REPO], ["verify", REPO], ["publish", str(evaluated), REPO]):
        assert cli.main(words) == 2
    assert PASSWORD not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    "address",
    [f"me:{PASSWORD}@host", f"http://me:{PASSWORD}/x@host", f"http://me:{PASSWORD}@host:port",
     f"ftp://me:{PASSWORD}@host", f"http://me:{PASSWORD}@", f"http://host?token={PASSWORD}", f"http://[{PASSWORD}",
     f"http://me:{PASSWORD} @host", f"http://h\0ost:{PASSWORD}"],
)  # fmt: skip
def test_an_endpoint_that_is_none_is_not_shown(standin, address, monkeypatch, evaluated, quick):
    if "\0" in address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.delenv("HF_ENDPOINT")
    else:
        monkeypatch.setenv("HF_ENDPOINT", address)
    for call, arguments in ((emuloss.load, (REPO,)), (publish, (evaluated, REPO))):
        error, shown = told(call, *arguments)
        assert "HF_ENDPOINT" in str(error)
        assert PASSWORD not in shown


@pytest.mark.parametrize(
    "proxy",
    [f"http://me:{PASSWORD}@127.0.0.1:9", f"http://me:{PASSWORD}@127.0.0.1:port", f"socks9://me:{PASSWORD}@127.0.0.1:9",
     f"http://me:{PASSWORD}/@127.0.0.1:9"],
)  # fmt: skip
def test_a_proxy_with_a_password(standin, proxy, monkeypatch, quick):
    close_session()
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    _, shown = told(emuloss.load, REPO)
    assert PASSWORD not in shown


@pytest.mark.parametrize(
    "name",
    [f"https://me:{PASSWORD}@huggingface.co/org/repo", f"https://me:{PASSWORD}/@huggingface.co/org/repo",
     SECRET, f"{REPO}@{SECRET}", f"org/{SECRET}", f"{SECRET}/repo", f"./https://me:{PASSWORD}@host/x",
     f"https://huggingface.co/org/repo?token={SECRET}"],
)  # fmt: skip
def test_names_that_hold_a_secret(standin, name, evaluated, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for call, arguments in ((emuloss.load, (name,)), (publish, (evaluated, name))):
        assert "SECRET" not in told(call, *arguments)[1]
    assert "SECRET" not in told(emuloss.load, REPO, revision=SECRET)[1]


# The words themselves


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("at http://me:pass@host/x, ok", "at http://***@host/x, ok"),
        ("http://me:p@ss@host", "http://***@host"),
        ("see https://host/x?sig=1&y=2 there", "see https://host/x?*** there"),
        (f"token {SECRET}.", "token ***."),
        ("org/repo@main is fine, as is a@b", "org/repo@main is fine, as is a@b"),
    ],
)
def test_what_is_hidden(text, hidden):
    assert secrets.without_secrets(text) == hidden


def test_errors_without_secrets_keep_their_cause(saved, tmp_path):
    with pytest.raises(EmulossError) as caught:
        emuloss.load(tmp_path)
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_nobody_is_logged_in_is_told_without_a_word_of_the_library(standin):
    error, _ = told(emuloss.load, REPO, token=True)
    assert type(error) is AccessError
    assert error.__cause__ is None
    assert error.__context__ is None
