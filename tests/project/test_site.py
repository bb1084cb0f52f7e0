"""What the site hands out to be pasted runs, and its check of links sees what is wrong."""

import ast
import functools
import re
import sys
from pathlib import Path

import emuloss
import numpy as np
import pytest
import torch
from emuloss.datasets import Rain
from emuloss.losses import Live

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))

from building import check, chooser  # noqa: E402

ANSWERS = [(a, b, c) for a in chooser.MODELS for b in chooser.METRICS for c in chooser.FIELDS]


@pytest.fixture(scope="module")
def rain():
    source = Rain(32, size=32, seed=0, regimes=("convective",))
    return np.concatenate([source.read(k, "train") for k in range(len(source))])


def squared_error(prediction, target):
    return (torch.log1p(prediction) - torch.log1p(target)).square().mean()


def crps(members, target):
    near = (members - target[:, None]).abs().mean()
    return near - 0.5 * (members[:, 0] - members[:, 1]).abs().mean()


@pytest.mark.parametrize("answer", ANSWERS, ids="-".join)
def test_what_the_chooser_gives_runs(answer, rain, monkeypatch):
    quick = functools.partial(emuloss.live, budget=64, progress=False, live=Live(background=False))
    monkeypatch.setattr(emuloss, "live", quick)
    fields = torch.from_numpy(rain)
    asked = torch.nn.functional.avg_pool2d(fields[:4, None], 5, 1, 2)[:, 0].requires_grad_()
    members = torch.stack([fields[4:8], fields[8:12]], 1).requires_grad_()
    names = {
        "fields": rain, "prediction": asked, "target": fields[:4], "members": members,
        "clean": asked.detach()[:, None], "x": fields[8:12, None], "progress": 0.5, "step": 1, "steps": 4,
        "mse": squared_error, "crps": crps,
    }  # fmt: skip
    exec(chooser.recipe(*answer), names)
    if answer[0] == "generator":
        moved = (names["clean"] - asked.detach()[:, None]).flatten(1).norm(dim=1)
        assert moved.isfinite().all()
        assert (moved > 0).any()
    else:
        taken = asked.grad if answer[0] == "one" else members.grad
        assert taken.isfinite().all()
        assert taken.abs().sum() > 0


@pytest.mark.parametrize("answer", ANSWERS, ids="-".join)
def test_every_answer_has_notes(answer):
    notes = " ".join(chooser.notes(*answer))
    assert "Cost" in notes
    assert re.search("Weight|Strength", notes)


def test_faults_of_a_site_are_found(tmp_path):
    (tmp_path / "b.html").write_text('<p id="here">there</p>')
    (tmp_path / "a.html").write_text(
        '<a href="b.html#here">good</a><a href="b.html#gone">bad</a><a href="c.html">bad</a>'
        '<script src="https://cdn.example/x.js"></script><a href="https://example.org">elsewhere</a>'
    )
    (tmp_path / "a.css").write_text("@font-face { src: url(https://fonts.example/f.woff2) }")
    assert check.faults(tmp_path) == [
        "a.css loads something from elsewhere",
        "a.html links to b.html#gone, and there is no such place",
        "a.html links to c.html, which is not there",
        "a.html loads https://cdn.example/x.js",
    ]


@pytest.mark.parametrize("name", emuloss.list_metrics())
def test_every_metric_has_a_word_on_when_not_to_use_it(name):
    assert f"\n## {name}\n" in (ROOT / "docs" / "building" / "when_not.md").read_text()


@pytest.mark.parametrize(
    "path", sorted((ROOT / "docs" / "tutorials").glob("*.py")), ids=lambda path: path.stem
)
def test_every_tutorial_asserts_what_it_prints(path):
    assert any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(path.read_text())))
