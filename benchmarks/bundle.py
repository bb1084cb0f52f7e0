"""Put a finished run into the package: python benchmarks/bundle.py RUN NAME.

The surrogate is loaded, its golden outputs are replayed, its speed is measured on this machine, which should
be idle, and it is saved under zoo/models, from where `emuloss.load(NAME)` takes it.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
from emuloss.datasets import Rain, predictions_of
from emuloss.evaluation import milliseconds_per_field
from emuloss.zoo import load, verify
from emuloss.zoo.card import placed
from emuloss.zoo.contract import CARD, SEALED
from emuloss.zoo.names import MODELS

LARGEST = 40e6
"""Bytes that all bundled surrogates may have together."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Put a finished run into the package.")
    parser.add_argument("run", type=Path, help="folder of a run, evaluated, with a licence")
    parser.add_argument("name", help="name under which emuloss.load finds it")
    arguments = parser.parse_args()
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", arguments.name):
        raise SystemExit(f"{arguments.name!r} is no name of a surrogate; write it like minkowski-opera")
    folder = MODELS / arguments.name
    verify(arguments.run)
    surrogate = load(arguments.run)
    if not (surrogate.evaluation and surrogate.license):
        raise SystemExit(f"{arguments.run} has no evaluation or no licence; see emuloss train --license")
    others = sum(
        path.stat().st_size for path in MODELS.rglob("*") if folder not in path.parents and path.is_file()
    )
    size = sum((arguments.run / name).stat().st_size for name in SEALED)
    if others + size > LARGEST:
        raise SystemExit(
            f"bundled surrogates may have {LARGEST / 1e6:g} MB together, not {(others + size) / 1e6:.1f}"
        )
    shape = surrogate.provenance.field_shape or (128, 128)
    source = Rain(64, tuple(shape))
    fields = np.concatenate([source.read(k, "test") for k in range(len(source))])
    if surrogate.metric.arity == 2:
        fields = np.stack([predictions_of(fields, np.random.default_rng(0)), fields], axis=1)
    surrogate.evaluation["timing"] = milliseconds_per_field(surrogate, fields)
    surrogate.save_pretrained(folder)
    (folder / CARD).write_text(placed((folder / CARD).read_text(), arguments.name))
    verify(folder)
    print(f"{arguments.name}: {surrogate.evaluation['timing']}; together {(others + size) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
