"""What version 0.1.0 left on the disk goes on: its labels, and a training that was interrupted half-way."""

import shutil
from pathlib import Path

import pytest
import torch
from emuloss.datasets import Rain, label
from emuloss.emulators import ConvEmulator
from emuloss.metrics import Minkowski
from emuloss.training import Trainer, Training
from safetensors.torch import load_file

LEFT = Path(__file__).parent / "version_0_1_0"
METRIC = Minkowski([0.105, 0.505, 2.005], pixel_size=2.0, length_unit="km")
SOURCE = Rain(36, size=16, seed=3)
OPTIONS = Training(
    minutes=None, fields=96, batch_size=8, validations=4, precision="float32", penalty="one-sided"
)


@pytest.fixture
def folder(tmp_path):
    for name in ("labels.h5", "training.pt"):
        shutil.copy(LEFT / name, tmp_path)
    return tmp_path


def test_labels_are_taken_as_they_are(folder):
    before = (folder / "labels.h5").read_bytes()
    store = label(SOURCE, METRIC, folder / "labels.h5", progress=False)
    assert store.package_version == "0.1.0"
    assert (folder / "labels.h5").read_bytes() == before
    for role in ("train", "validation", "test"):
        fields, curves = store.split(role)
        assert len(fields)
        assert (METRIC(fields) == curves).all()


def test_training_goes_on_and_ends_as_it_would_have(folder):
    store = label(SOURCE, METRIC, folder / "labels.h5", progress=False)
    torch.manual_seed(9)  # the weights come from the state
    # What version 0.1.0 took for spreads: the thresholds, or their range.
    emulator = ConvEmulator(METRIC, widths=(8,), hidden=8, masks=2, spreads=[0.105, 0.505, 1.9])
    trainer = Trainer(
        emulator,
        store.split("train"),
        store.split("validation"),
        OPTIONS,
        folder,
        quantum=store.quantum,
        progress=False,
    )
    assert trainer.step == 5
    trainer.run()
    assert trainer.step == 12
    # Version 0.1.0 without the interruption, on another machine perhaps.
    end = load_file(LEFT / "end.safetensors")
    for name, tensor in emulator.state_dict().items():
        torch.testing.assert_close(tensor, end[name], rtol=1e-4, atol=1e-5)
