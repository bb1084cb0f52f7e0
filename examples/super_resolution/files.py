"""Files that are there whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` once all is written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    yield part
    part.replace(path)


def write_json(path: Path, facts: Any) -> None:
    """Write facts as JSON, whole or not at all."""
    with whole(path) as part:
        part.write_text(json.dumps(facts, indent=1))


def finished(path: Path, asked: dict[str, Any]) -> bool:
    """Whether a file of results is there; it must be what was asked for.

    Raises:
        SystemExit: it answers another question.
    """
    if not path.exists():
        return False
    check_asked(json.loads(path.read_text())["asked"], asked, path.parent)
    return True


def check_asked(known: dict[str, Any], asked: dict[str, Any], folder: Path) -> None:
    """SystemExit with the first difference where a folder holds another run than asked for."""
    for name, value in asked.items():
        if known.get(name) != value:
            raise SystemExit(
                f"{folder} holds a run with {name} {known.get(name)!r}, not {value!r}; use another --out"
            )
