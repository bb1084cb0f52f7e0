"""One command: label fields, train an emulator of a metric, evaluate it, freeze it.

python train_surrogate.py --metric minkowski --fields rain --arch constrained --minutes 3 --out runs/first
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

if not __package__:
    # Run as a script: the folder `datasets` beside this file would shadow the Hugging Face package
    # of that name, so this folder leaves the search path, and the installed package takes over.
    _here = Path(__file__).resolve().parent
    sys.path[:] = [place for place in sys.path if Path(place or ".").resolve() != _here]
    try:
        command = import_module("emuloss.cli.train")
    except ModuleNotFoundError as error:
        print(
            f"error: {error}; install emuloss, or use .venv/bin/python after `make install`", file=sys.stderr
        )
        sys.exit(2)
    sys.exit(command.main())

from .cli.train import main

if __name__ == "__main__":  # python -m emuloss.train_surrogate
    sys.exit(main())
