"""The super-resolution example: its modules, which stand in no package, and rain for it."""

import importlib
import sys
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate.state import AcceleratorState
from drawn import read_all
from emuloss import train_surrogate
from emuloss.datasets import Rain

FOLDER = Path(train_surrogate.__file__).resolve().parent / "examples" / "super_resolution"
NAMES = {path.stem for path in FOLDER.iterdir()} - {"__main__", "__pycache__"}


@contextmanager
def importable():
    """Let the example's modules be imported, and leave none of them behind."""
    kept = _taken()
    sys.path.insert(0, str(FOLDER))
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        yield
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)  # it outlives its Accelerator
        sys.path.remove(str(FOLDER))
        _taken()
        sys.modules.update(kept)


def _taken():
    """What has the names of the example's modules, taken out of those that are imported."""
    names = [name for name in sys.modules if name.partition(".")[0] in NAMES]
    return {name: sys.modules.pop(name) for name in names}


def started():
    """The module that `python examples/super_resolution` runs."""
    spec = importlib.util.spec_from_file_location("super_resolution_main", FOLDER / "__main__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rain(count=8, seed=0, size=64):
    """Synthetic rain (N, H, W) in mm/h."""
    source = Rain(count, size=size, seed=seed, regimes=("stratiform", "convective"))
    return torch.from_numpy(read_all(source))
