"""What the README shows runs as it is printed."""

import re
from pathlib import Path

import emuloss
import numpy as np
import pytest
import torch
from emuloss.datasets import Rain

README = Path(__file__).parents[1].joinpath("README.md").read_text()
BLOCKS = [block for block in re.findall(r"```python\n(.*?)```", README, re.S) if "runs/" not in block]


def test_blocks_are_found():
    assert len(BLOCKS) >= 2


@pytest.mark.parametrize("block", BLOCKS)
def test_block_runs(block):
    fields = Rain(64, size=64).read(0, "train")
    prediction = torch.from_numpy(fields[:2]).requires_grad_()
    names = {
        "emuloss": emuloss,
        "prediction": prediction,
        "target": torch.from_numpy(fields[2:4]),
        "fields": fields,
    }
    exec(block, names)
    if "backward" in block:
        assert np.isfinite(prediction.grad.numpy()).all()
        assert prediction.grad.abs().sum() > 0
