"""What type checkers read of `emuloss.pipeline`, whose functions take options of settings at run time.

python tests/support/stub.py    # writes pipeline/__init__.pyi
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from emuloss.foundation.options import Options, options_of, whole_of
from emuloss.pipeline import settings
from emuloss.training import Training

PLACE = Path(settings.__file__).with_name("__init__.pyi")
FUNCTIONS: dict[str, tuple[str, tuple[type[Options], ...]]] = {
    "label": ("LabelledFields", (settings.Data, settings.Teacher, settings.Labelling)),
    "look": ("Look", (settings.Data, settings.Looking)),
    "train": ("Surrogate", (settings.Data, settings.Teacher, settings.Network, Training, settings.Run)),
}
HEAD = '''"""Written by tests/support/stub.py: what `label`, `look` and `train` take."""

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from ..datasets import LabelledFields
from ..metrics import Metric
from ..training import Training
from ..zoo import Surrogate
from .living import live as live
from .looked import Look as Look
from .settings import Data as Data
from .settings import Labelling as Labelling
from .settings import Looking as Looking
from .settings import Network as Network
from .settings import Run as Run
from .settings import Teacher as Teacher
'''


def arguments(kind: type[Options]) -> Iterator[str]:
    """The options of settings, as keywords; none has to be given, for settings may be given whole."""
    types = {field.name: str(field.type) for field in dataclasses.fields(kind)}
    for option in options_of(kind):
        default = "..." if option.required else repr(option.default).replace("'", '"')
        yield f"{option.key}: {types[option.field].replace('Path', 'str | os.PathLike[str]')} = {default}"


def stub() -> str:
    """The text of the file."""
    parts = [HEAD]
    for name, (found, kinds) in FUNCTIONS.items():
        wholes = [f"{whole_of(kind)}: {kind.__name__} | None = None" for kind in kinds]
        lines = ["*", *(line for kind in kinds for line in arguments(kind)), *wholes]
        parts.append(f"def {name}(\n" + "".join(f"    {line},\n" for line in lines) + f") -> {found}: ...")
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    PLACE.write_text(stub(), encoding="utf-8")
