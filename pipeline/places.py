"""Where results go, asked before there are any."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ..foundation.files import disk_errors


def as_writable(folder: Path) -> Path:
    """A folder that takes files; it is made if missing.

    Raises:
        DataError: it cannot be made, or takes no file.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
