"""What is read of the Hugging Face Hub, and where it is kept: in the cache that the Hub's client has, too."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

from huggingface_hub import try_to_load_from_cache

from ..errors import CorruptedError, HubConnectionError
from ..foundation.files import write_safely
from .answers import LARGEST_ANSWER, TIMEOUT, attended, receive, told
from .contract import LARGEST
from .faults import no_answer
from .line import Line, within
from .place import Place

PATIENCE = 25.0
"""Seconds that a call to the Hub may take besides its transfer: so long to learn that it is unreachable."""
SLOWEST = 50_000.0
"""Bytes per second below which a transfer counts as stalled."""
PAUSES = (1.0, 2.0)
"""Seconds before the second and the third try."""
_LATER = "try again later, or take another revision or endpoint"
_COMMIT = re.compile(r"[0-9a-f]{40}")
T = TypeVar("T")


class Listing(NamedTuple):
    """A revision on the Hub: its commit, the bytes of its files, and whether the repository is private.

    Only files of a checkpoint are listed; None for one whose size the Hub does not say.
    """

    commit: str
    sizes: dict[str, int | None]
    private: bool


def listing_of(place: Place, *, patient: bool = True) -> Listing:
    """What the Hub says of a revision; not `patient`: one short question.

    Raises:
        EmulossError: see `within`.
    """
    seconds, pauses = (PATIENCE, PAUSES) if patient else (TIMEOUT, ())
    said = _retried(place, seconds, pauses, told, place, place.listing_path)
    if not isinstance(said, dict):
        raise no_answer(place, "it describes no repository")
    files, private = said.get("siblings") or [], said.get("private", False)
    if not isinstance(files, list) or not isinstance(private, bool):
        raise no_answer(place, "it describes no repository")
    return Listing(as_commit(place, said.get("sha")), _sizes(place, files), private)


def as_commit(place: Place, said: object) -> str:
    """A commit that the Hub names.

    Raises:
        HubConnectionError: it is none.
    """
    if not isinstance(said, str) or not _COMMIT.fullmatch(said):
        raise no_answer(place, f"its commit is {str(said)[:60]!r}")
    return said


def _sizes(place: Place, files: list[Any]) -> dict[str, int | None]:
    """Sizes of the files of a checkpoint; what else a repository holds is passed over."""
    sizes: dict[str, int | None] = {}
    for file in files:
        name = file.get("rfilename") if isinstance(file, dict) else None
        if isinstance(name, str) and name in LARGEST:
            size = file.get("size")
            if size is not None and (type(size) is not int or size < 0):
                raise no_answer(place, f"the size of {name} is {str(size)[:40]!r}")
            sizes[name] = size
    return sizes


def cached(place: Place, name: str, revision: str) -> Path | None:
    """A file of a revision in the cache; None if it is not there, or a link out of it. Nobody is asked.

    Raises:
        EmulossError: see `within`.
    """

    def found(line: Line) -> str | object | None:
        return try_to_load_from_cache(place.repo, name, cache_dir=place.cache, revision=revision)

    path = within(PATIENCE, place, found)
    if not isinstance(path, str):
        return None
    aim = Path(path).resolve()
    inside = any(aim.is_relative_to(folder.resolve()) for folder in (place.shelf, place.cache))
    return Path(path) if inside else None


def download(place: Place, name: str, commit: str, size: int | None) -> Path:
    """A file of a commit, of `size` bytes if that is known, brought into the cache, whatever is there.

    It appears in the cache when all of it is there. No name that the Hub says becomes part of a path.

    Raises:
        CorruptedError: it arrives longer or shorter than it should be.
        EmulossError: see `within`.
    """
    path = place.shelf / "snapshots" / commit / name

    def fetched(line: Line) -> Path:
        content = _received(line, place, name, commit, size)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_safely(path, memoryview(content))
        return path

    return _retried(place, _seconds(size), PAUSES, fetched)


def content_of(place: Place, name: str, commit: str, size: int | None) -> bytes:
    """The content of a file of a commit, of `size` bytes if that is known, which is not kept.

    Raises:
        CorruptedError: it arrives longer or shorter than it should be.
        EmulossError: see `within`.
    """
    return bytes(_retried(place, _seconds(size), PAUSES, _received, place, name, commit, size))


def note(place: Place, commit: str) -> None:
    """Note in the cache which commit the revision is.

    Raises:
        EmulossError: see `within`.
    """

    def noted(line: Line) -> None:
        path = place.shelf / "refs" / place.revision
        path.parent.mkdir(parents=True, exist_ok=True)
        write_safely(path, commit.encode())

    within(PATIENCE, place, noted)


def bounded(place: Place, size: int, function: Callable[..., T], *arguments: Any, **keywords: Any) -> T:
    """What a function of the Hub's client gives, within a time limit, its answers bounded.

    Args:
        place: what is asked for, for messages.
        size: bytes of the transfer, which lengthen the limit.
        function: of the client.
        *arguments: of the function.
        **keywords: of the function.

    Raises:
        EmulossError: see `within`.
    """

    def asked(line: Line) -> T:
        with attended(line):
            return function(*arguments, **keywords)

    return within(_seconds(size), place, asked)


def _seconds(size: int | None) -> float:
    """How long a call that transfers so many bytes may take."""
    return PATIENCE + (LARGEST_ANSWER if size is None else size) / SLOWEST


def _received(line: Line, place: Place, name: str, commit: str, size: int | None) -> bytearray:
    """The content of a file."""
    most = LARGEST[name] if size is None else size
    content = bytearray()

    def keep(piece: bytes) -> None:
        if len(content) + len(piece) > most:
            raise CorruptedError(
                f"{place}: {name} arrives with more than {most} bytes from {place.endpoint}; {_LATER}"
            )
        content.extend(piece)

    receive(line, place, f"{place.repo}/resolve/{quote(commit)}/{quote(name)}", keep, commit=commit)
    if size is not None and len(content) < size:
        raise CorruptedError(
            f"{place}: {name} arrives incomplete from {place.endpoint} "
            f"({len(content)} of {size} bytes); {_LATER}"
        )
    return content


def _retried(
    place: Place,
    seconds: float,
    pauses: Iterable[float],
    function: Callable[..., T],
    *arguments: Any,
) -> T:
    """What a function gives, asked for again after each pause where the Hub failed; all within a limit."""
    deadline, left = time.monotonic() + seconds, iter(pauses)
    while True:
        try:
            return within(deadline - time.monotonic(), place, function, *arguments)
        except (HubConnectionError, CorruptedError):
            pause = next(left, None)
            if pause is None or time.monotonic() + pause >= deadline:
                raise
            time.sleep(pause)
