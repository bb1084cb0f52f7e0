"""The page to play with, in a headless browser: it draws and moves, and its numbers are those of Python.

It needs the site, which `make docs` builds, and Chromium.
"""

import functools
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import emuloss
import numpy as np
import pytest
import torch
from browser import Tab, browser

SITE = Path(__file__).resolve().parents[2] / "build" / "site"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (SITE / "play" / "index.html").exists(), reason="needs the site: make docs"),
    pytest.mark.skipif(browser() is None, reason="needs Chromium"),
]
OUTPUTS = ("area", "perimeter", "euler", "components", "holes")


class Quiet(SimpleHTTPRequestHandler):
    """What `python -m http.server` runs, without its log."""

    def log_message(self, *_):
        """Nothing on the screen."""


@pytest.fixture(scope="module")
def address():
    """Where the site is served on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(SITE)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def ready(tab):
    """Wait for the surrogate, and for what it says of the fields as they are."""
    tab.until(
        "document.readyState === 'complete' && window.play && play.ready && play.state().found !== null"
    )


def settled(tab):
    """What the page holds once the surrogate has been asked about it."""
    tab.ask("new Promise((done) => setTimeout(done, 400))")
    tab.until(
        "new Promise((done) => { const before = JSON.stringify(play.state());"
        " setTimeout(() => done(before === JSON.stringify(play.state())), 500); })"
    )
    return tab.ask("play.state()")


def check(state, ties=False):
    """Whether all numbers of the page are those of Python.

    With ties, as symmetric drawings have many, slopes may lie on other pixels of equal value.
    """
    field, target = (np.array(state[name], np.float32).reshape(1, 64, 64) for name in ("field", "target"))
    metric = emuloss.metric("minkowski", thresholds=[state["threshold"]], pixel_size=2.0, outputs=OUTPUTS)
    exact = [state["exact"][name] for name in OUTPUTS]
    np.testing.assert_allclose(exact, metric(field)[0, :, 0], rtol=1e-3)
    thresholds = [round(2 ** (k / 2), 4) for k in range(-4, 9)]
    relaxed = emuloss.relax(metric.with_arguments(thresholds=thresholds, levels=None), temperature=0.1)
    x, y = torch.from_numpy(field).requires_grad_(), torch.from_numpy(target)
    loss = relaxed.as_loss()(x, y)
    loss.backward()
    found = state["found"]
    for name, fields in (("curves", x), ("target_curves", y)):
        expected = relaxed(fields).detach().numpy().ravel()
        np.testing.assert_allclose(found[name], expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    assert found["loss"][0] == pytest.approx(loss.item(), rel=1e-3)
    gradient = x.grad.numpy().ravel()
    if not ties:
        differ = np.abs(found["gradient"] - gradient) > 1e-3 * np.abs(gradient).max()
        assert differ.mean() < 0.002  # where two pixels are equal by chance
        assert np.corrcoef(found["gradient"], gradient)[0, 1] > 0.99


def test_numbers_are_those_of_python_and_change(address, tmp_path):
    with Tab(tmp_path / "browser") as tab:
        tab.open(f"{address}/play/index.html")
        ready(tab)
        first = settled(tab)
        check(first)

        tab.ask("document.getElementById('clear').click()")
        box = "document.getElementById('field').getBoundingClientRect()"
        x, y, width = tab.ask(f"(({{x, y, width}}) => [x, y, width])({box})")
        tab.drag([(x + width * t, y + width * 0.4) for t in np.linspace(0.2, 0.8, 8)])
        drawn = settled(tab)
        check(drawn, ties=True)
        assert drawn["exact"]["components"] == 1
        assert drawn["exact"]["area"] > 0

        tab.ask("document.getElementById('field').focus()")
        for _ in range(20):
            tab.press("ArrowDown")
        tab.press(" ", "Space")
        tab.until("play.state().exact.components === 2")

        tab.ask(
            "const slider = document.getElementById('threshold'); slider.value = 2.5;"
            "slider.dispatchEvent(new Event('input'))"
        )
        moved = settled(tab)
        check(moved, ties=True)
        assert moved["threshold"] == pytest.approx(2**2.5)
        assert moved["exact"]["area"] < drawn["exact"]["area"]

        tab.ask("document.getElementById('blur').click()")
        before = settled(tab)["found"]["loss"][0]
        tab.ask("document.getElementById('descend').click()")
        tab.until("!play.state().descending", tries=3000)
        after = settled(tab)
        check(after)
        assert after["found"]["loss"][0] < 0.5 * before

        assert tab.complaints == []
        assert all(each.startswith((address, "blob:", "data:")) for each in tab.asked), tab.asked


def test_it_opens_from_a_folder(tmp_path):
    with Tab(tmp_path / "browser") as tab:
        tab.open(SITE.joinpath("play", "index.html").resolve().as_uri())
        ready(tab)
        check(settled(tab))
        assert tab.complaints == []


def test_everything_has_a_name_for_those_who_cannot_see_it(address, tmp_path):
    with Tab(tmp_path / "browser") as tab:
        tab.open(f"{address}/play/index.html")
        ready(tab)
        tab.call("Accessibility.enable")
        nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    roles = ("button", "slider", "radio", "combobox", "application", "image")
    asked = [each for each in nodes if each.get("role", {}).get("value") in roles and not each.get("ignored")]
    assert len(asked) >= 12
    nameless = [each for each in asked if not each.get("name", {}).get("value", "").strip()]
    assert [each["role"]["value"] for each in nameless if each["role"]["value"] != "image"] == []
