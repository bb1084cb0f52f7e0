"""What the README shows runs as it is printed."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import emuloss
import numpy as np
import pytest
import torch
from emuloss.datasets import Rain

ROOT = Path(__file__).resolve().parents[2]
README = ROOT.joinpath("README.md").read_text()
BLOCKS = [block for block in re.findall(r"```python\n(.*?)```", README, re.S) if "runs/" not in block]


def test_blocks_are_found():
    assert len(BLOCKS) >= 2


def test_blocks_run_as_they_are_pasted_one_after_the_other():
    names = {}
    for block in BLOCKS:
        exec(block, names)
        if "backward" in block:
            gradient = names["prediction"].grad
            assert np.isfinite(gradient.numpy()).all()
            assert gradient.abs().sum() > 0
            names["prediction"].grad = None


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_loss_for_your_own_metric(tmp_path):
    section = README.split("### A loss for your own metric\n")[1].split("\n### ")[0]
    assert len(section.split("It calls the function")[0].splitlines()) < 30
    code = re.search(r"```python\n# (\S+)\n(.*?)```", section, re.S)
    (tmp_path / code[1]).write_text(code[2])
    command = shlex.split(re.search(r"```bash\n(.*?)```", section, re.S)[1])
    assert command[:2] == ["python", "train_surrogate.py"]
    # As printed, but for as many fields as it sees in that time on two idle cores, however busy these are.
    minutes = command.index("--minutes")
    command[minutes : minutes + 2] = ["--budget", "50000"]
    subprocess.run([sys.executable, ROOT / command[1], *command[2:]], cwd=tmp_path, check=True)
    run = tmp_path / command[command.index("--out") + 1]
    figures = json.loads((run / "evaluation.json").read_text())
    assert figures["descent"]["removed"] > 20
    fields = torch.from_numpy(Rain(64, size=64).read(0, "train")[:2]).requires_grad_()
    emuloss.load(run).as_loss()(fields, fields.detach().flip(1)).backward()
    assert torch.isfinite(fields.grad).all()
    assert fields.grad.abs().sum() > 0


def test_links_become_absolute_for_a_release(tmp_path):
    copy = tmp_path / "README.md"
    copy.write_text(README)
    script = ROOT / ".github/absolute_links.py"
    if not script.exists():
        pytest.skip("an unpacked sdist has no workflows")
    subprocess.run([sys.executable, script, "https://example.org/o/n", "v1", copy], check=True)
    found = copy.read_text()
    links = re.findall(r"\]\(https://example.org/o/n/(blob|raw)/v1/([^)#]+)", found)
    assert len(links) > 10
    assert all((ROOT / path).exists() for _, path in links)
    assert [path for way, path in links if way == "raw"] == re.findall(r"!\[[^\]]*\]\(([^):]+)\)", README)
    assert re.sub(r"https://example.org/o/n/(blob|raw)/v1/", "", found) == README
    subprocess.run([sys.executable, script, "https://example.org/o/n", "v1", copy], check=True)
    assert copy.read_text() == found
