"""What a run says of itself while it works."""

from __future__ import annotations

import contextlib
import sys

from ..errors import printable
from ..foundation.launchers import first_of_several


def say(text: str) -> None:
    """A line on standard error, by the first of several processes alone."""
    if first_of_several():
        with contextlib.suppress(OSError):  # a terminal that is closed
            print(printable(f"emuloss: {text}"), file=sys.stderr, flush=True)
