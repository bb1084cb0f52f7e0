"""The page of results, which grows while the benchmark runs."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


class Notes:
    """A page in Markdown: each line is printed and written at once, so that a run cut short leaves the rest.

    Args:
        path: of the page; what stood there is lost.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._began = path, time.monotonic()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")

    @property
    def seconds(self) -> float:
        """Since the page was begun."""
        return time.monotonic() - self._began

    def add(self, *lines: str) -> None:
        """Add lines as they are."""
        print(*lines, sep="\n", flush=True)
        with self.path.open("a") as page:
            page.writelines(f"{line}\n" for line in lines)

    def table(self, title: str, *header: str) -> None:
        """Begin a table under a title, one line of text."""
        self.add("", title, "", f"| {' | '.join(header)} |", "| --- |" + " ---: |" * (len(header) - 1))

    def row(self, *cells: str) -> None:
        """Add a row to the table."""
        self.add(f"| {' | '.join(cells)} |")

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A block whose failure is noted and stops nothing else: time on a GPU is too dear to begin anew."""
        began = self.seconds
        try:
            yield
        except Exception as error:
            self.add("", f"FAILED: {name}: {type(error).__name__}: {str(error)[:600]}", "")
            traceback.print_exc()
        finally:
            torch.cuda.empty_cache()  # the next stage measures its own memory; without a GPU it does nothing
            print(f"-- {name}: {self.seconds - began:.1f} s, {self.seconds:.0f} s in all", flush=True)
