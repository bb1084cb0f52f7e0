"""The example of generation: it trains, goes on, steers, and writes its page; what it steers comes closer."""

import importlib
import json
import runpy
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from emuloss import train_surrogate

EXAMPLES = Path(train_surrogate.__file__).resolve().parent / "examples"
FOLDER = EXAMPLES / "generation"
NAMES = {path.stem for path in FOLDER.glob("*.py")} | {"files", "pages", "terms"}
TINY = "--fields=32 --size=32 --steps=2 --batch=4 --count=8 --few=2 --lessons=32 --tuning=1 --classifier=1"


@contextmanager
def importable():
    """Let the example's modules be imported, and leave none of them behind."""

    def taken():
        return {n: sys.modules.pop(n) for n in [*sys.modules] if n.partition(".")[0] in NAMES - {"__main__"}}

    kept, path = taken(), [*sys.path]
    sys.path[:0] = [str(FOLDER), str(EXAMPLES / "super_resolution")]
    try:
        yield
    finally:
        sys.path[:] = path
        taken()
        sys.modules.update(kept)


@pytest.fixture(scope="module")
def example():
    with importable():
        yield SimpleNamespace(
            **{name: importlib.import_module(name) for name in ("counting", "flow", "learning", "steering")}
        )


class Straight(torch.nn.Module):
    """The flow of rain that is one field, give or take a little of the noise."""

    def __init__(self, clean):
        super().__init__()
        self.clean = clean

    def forward(self, x, t):
        t = t[:, None, None, None]
        return (self.clean + 0.3 * (x - t * self.clean) / (1 - 0.7 * t) - x) / (1 - t)


def test_units_of_the_flow(example):
    rain = example.learning.rain(4, 16, 3)
    assert ((rain >= 0.5).flatten(1).float().mean(1) >= 0.02).all()
    torch.testing.assert_close(example.flow.as_radar(example.flow.from_physical(rain)), rain)


def test_sampling_follows_the_velocity(example):
    """From any noise to the field, where all of it goes there."""
    clean = example.flow.noise(1, 8, 1)

    def flow(x, t):
        return (clean - x) / (1 - t[:, None, None, None])

    torch.testing.assert_close(
        example.flow.sample(flow, example.flow.noise(3, 8, 2)), clean.expand(3, -1, -1, -1)
    )


@pytest.mark.parametrize("through", [True, False])
def test_steered_samples_have_the_curves_asked_for(example, through):
    s, f = example.steering, example.flow
    rain = example.learning.rain(8, 32, 3)
    flow, asked = Straight(f.from_physical(rain[:4])), s.curves_of(rain[4:])
    free, _ = s.drawn(flow, 4, 32, 1, None)
    guided, _ = s.drawn(flow, 4, 32, 1, s.early_and_late(*s.to_curves(asked, rain), through=through))
    before, after = (s.distances(x, asked).sum(1).mean() for x in (free, guided))
    assert after < 0.6 * before


def test_means_are_reached_by_guidance_alone(example):
    s, f = example.steering, example.flow
    rain = example.learning.rain(8, 32, 3)
    flow = Straight(f.from_physical(rain[:4]))
    asked = s.coarse(rain[4:])
    free, _ = s.drawn(flow, 4, 32, 1, None)
    guided, _ = s.drawn(flow, 4, 32, 1, s.early_and_late(*s.to_means(asked)))
    before, after = ((s.coarse(x) - asked).square().mean() for x in (free, guided))
    assert after < 0.5 * before


def test_guidance_is_asked_when_it_is_to_be(example):
    """Every second time; in between nothing is added, or what was added last. Late it is asked each time."""
    s = example.steering
    x, times = torch.zeros(2, 1, 8, 8), [0.0, 0.1, 0.2, 0.3, 0.9]
    told = lambda x: (torch.ones_like(x), x + 1)  # noqa: E731

    def guidance(x, estimate, t):
        return torch.full_like(x, (1 + 10 * t) * (1 - t))

    for held, expected in ((False, [1, 0, 3, 0, 10]), (True, [1, 1, 3, 3, 10])):
        correct = s.early_and_late(
            guidance, guidance, asked=lambda t: round(10 * t) % 2 == 0, held=held, through=False
        )
        assert [float(correct(x, t, told)[1].mean()) for t in times] == pytest.approx(expected)


def test_renoised_fields_are_distributed_as_earlier_ones(example):
    """Variance of t * clean + (1 - t) * noise, of clean fields of variance 4, at the earlier time."""
    torch.manual_seed(0)
    clean, noise = 2 * torch.randn(100, 1, 32, 32), torch.randn(100, 1, 32, 32)
    back = example.flow.renoised(0.75 * clean + 0.25 * noise, 0.75, 0.5)
    assert float(back.var()) == pytest.approx(0.25 * 4 + 0.25, rel=0.02)
    assert float((back * clean).mean()) == pytest.approx(0.5 * 4, rel=0.02)


def test_peaks_are_local_maxima(example):
    field = np.zeros((7, 7), np.float32)
    field[2, 2] = field[4, 4] = 3
    field[2, 4] = 0.5
    assert example.counting.peaks(field) == 2


def test_particles_chosen_on_the_way_come_closer_than_those_of_the_end(example):
    """Of white noise, fields with more rain than most of eight have."""
    s, asked = example.steering, torch.full((64,), 0.45)

    def flow(x, t):
        t = t[:, None, None, None]
        return (x * t / (t**2 + (1 - t) ** 2) - x) / (1 - t)

    def away(fields):
        return (fields.mean((1, 2)) - asked).abs()

    found = [float(away(s.resampled(flow, away, 64, 8, 1, 8, at)[0]).mean()) for at in ((), (4, 8, 12))]
    assert found[1] < 0.7 * found[0]


def test_network_learns_peaks_where_it_leads(example):
    """Live it learns in each step of the sampling; frozen it stays; both leave fewer peaks wrong."""
    c, s, f = example.counting, example.steering, example.flow
    rain = example.learning.rain(40, 32, 3)
    flow, asked = Straight(f.from_physical(rain[:4])), c.counts(rain[4:8])
    networks = c.losses(rain[8:], 320)
    free, _ = s.drawn(flow, 4, 32, 1, None)
    before = c.differences(free, asked).mean()
    for name, loss in networks.items():
        guided, _ = s.drawn(flow, 4, 32, 1, s.early_and_late(*c.to_peaks(loss, asked)))
        assert c.differences(guided, asked).mean() < before, name
    assert networks["live"].gauge.figures()["exact"] > 0


def test_energy_is_least_for_the_truth(example):
    rain = example.learning.rain(24, 32, 3)
    same = example.steering.energy(rain[:12], rain[12:])[1]
    assert same < 0.3 * example.steering.energy(rain[:12] * 0.3, rain[12:])[1]


def test_training_goes_on_to_the_bit(example, tmp_path, monkeypatch):
    asked = {"fields": 8, "size": 16, "steps": 4, "batch": 2}
    monkeypatch.setattr(example.learning, "_KEEP", 2)
    whole = example.learning.train(tmp_path / "whole", **asked)
    keep = example.learning.whole
    monkeypatch.setattr(example.learning, "write_json", lambda *_: pytest.fail("it was to be interrupted"))

    @contextmanager
    def interrupted(path):
        with keep(path) as part:
            yield part
        raise KeyboardInterrupt

    monkeypatch.setattr(example.learning, "whole", interrupted)
    with pytest.raises(KeyboardInterrupt):
        example.learning.train(tmp_path / "parts", **asked)
    monkeypatch.undo()
    parts = example.learning.train(tmp_path / "parts", **asked)
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(SystemExit, match="holds a run with steps 4, not 5"):
        example.learning.train(tmp_path / "whole", **asked | {"steps": 5})


@pytest.mark.slow
def test_whole_run_writes_its_page_and_repeats_nothing(monkeypatch, tmp_path, capsys):
    page = tmp_path / "page.md"
    monkeypatch.setattr(
        sys, "argv", ["generation", *TINY.split(), "--out", str(tmp_path / "run"), "--page", str(page)]
    )
    with importable():
        runpy.run_path(str(FOLDER / "__main__.py"), run_name="__main__")
    rows = json.loads((tmp_path / "run" / "results.json").read_text())["rows"]
    assert {"unguided", "guided", "every second", "peaks live", "few resampled", "fine-tuned"} <= set(rows)
    assert all(np.isfinite(row["distance"]) for row in rows.values())
    text = page.read_text()
    assert "| guided: exact distance, of that without | at most 15 % |" in text
    assert (tmp_path / "page" / "wishes.png").stat().st_size > 10_000
    page.write_text(text.replace("<!-- reading -->\n", "<!-- reading -->\nSeen.\n"))
    capsys.readouterr()
    with importable():
        runpy.run_path(str(FOLDER / "__main__.py"), run_name="__main__")
    assert "distance" not in capsys.readouterr().out
    assert "Seen." in page.read_text()
