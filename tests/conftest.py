"""What tests share: seeds, skipping what needs a GPU where there is none, and a Hub on this machine."""

import os
import signal
import threading
import time
from types import SimpleNamespace

import pytest
import torch
from emuloss.zoo import hub
from huggingface_hub import close_session, constants, file_download
from huggingface_hub.utils import _http

from .hub_standin import HubStandIn

# A shell starts what it puts into the background with Ctrl-C ignored, and so would be all that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA device")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def quick(monkeypatch):
    """No pauses between tries: neither those of this package, nor those of the client."""
    monkeypatch.setattr(hub, "_PAUSES", (0.01, 0.01))
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
    monkeypatch.setattr(constants, "HF_URL_HOSTS", constants.HF_URL_HOSTS | {"127.0.0.1"})
    with HubStandIn() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
    for thread in threading.enumerate():
        if thread.name == "emuloss-hub":  # left waiting by a test of a stall; it learns now that all is over
            thread.join(10)
    close_session()
