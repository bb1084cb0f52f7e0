"""Put a finished run into the package: python benchmarks/bundle.py RUN NAME.

The surrogate is loaded, its golden outputs are replayed, its speed is measured on this machine, which should
be idle, and it is saved under zoo/models, from where `emuloss.load(NAME)` takes it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from emuloss.datasets import Rain
from emuloss.evaluation import milliseconds_per_field
from emuloss.zoo import load, verify
from emuloss.zoo.card import PLACE
from emuloss.zoo.contract import CARD
from emuloss.zoo.loading import MODELS

LARGEST = 40e6
"""Bytes that all bundled surrogates may have together."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Put a finished run into the package.")
    parser.add_argument("run", type=Path, help="folder of a run, evaluated")
    parser.add_argument("name", help="name under which emuloss.load finds it")
    arguments = parser.parse_args()
    verify(arguments.run)
    surrogate = load(arguments.run)
    if not (surrogate.evaluation and surrogate.license):
        raise SystemExit(
            f"{arguments.run} has no evaluation or no licence; evaluate it, or train with --license"
        )
    shape = surrogate.provenance["field_shape"] or (128, 128)
    source = Rain(64, tuple(shape))
    fields = np.concatenate([source.read(k, "test") for k in range(len(source))])
    surrogate.evaluation["timing"].update(milliseconds_per_field(surrogate, fields))
    folder = MODELS / arguments.name
    surrogate.save_pretrained(folder)
    text = (folder / CARD).read_text()
    (folder / CARD).write_text(text.replace(PLACE, arguments.name))
    size = sum(path.stat().st_size for path in MODELS.rglob("*") if path.is_file())
    print(f"{arguments.name}: {surrogate.evaluation['timing']}; all bundled surrogates: {size / 1e6:.1f} MB")
    if size > LARGEST:
        raise SystemExit(f"bundled surrogates may have {LARGEST / 1e6:g} MB together")


if __name__ == "__main__":
    main()
