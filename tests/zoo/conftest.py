"""A Hub on this machine, for the real client to talk to."""

import os
import threading
import time
from types import SimpleNamespace

import pytest
from emuloss.zoo import client
from hub_standin import HubStandIn
from huggingface_hub import close_session, constants, file_download
from huggingface_hub.utils import _http


@pytest.fixture
def quick(monkeypatch):
    """No pauses between tries: neither those of this package, nor those of the client."""
    monkeypatch.setattr(client, "PAUSES", (0.01, 0.01))
    for module in (file_download, _http):
        monkeypatch.setattr(module, "time", SimpleNamespace(sleep=lambda seconds: time.sleep(0.01)))


@pytest.fixture
def standin(quick, monkeypatch, tmp_path):
    """An empty Hub, a fresh cache, and nobody logged in."""
    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    hosts = getattr(constants, "HF_URL_HOSTS", frozenset())  # the first clients of version 1 had none
    monkeypatch.setattr(constants, "HF_URL_HOSTS", hosts | {"127.0.0.1"}, raising=False)
    with HubStandIn() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
    for thread in threading.enumerate():
        if thread.name == "emuloss-hub":  # left waiting by a test of a stall; it learns now that all is over
            thread.join(10)
    close_session()
