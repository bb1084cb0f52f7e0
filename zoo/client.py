"""The client of the Hugging Face Hub, bounded in time, its errors understood."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from huggingface_hub import hf_hub_download, try_to_load_from_cache

from ..errors import CorruptedError, HubConnectionError
from .faults import explained, no_answer
from .place import Place

PATIENCE = 25.0
"""Seconds that a call to the Hub may take besides its transfer: so long to learn that it is unreachable."""
SLOWEST = 50_000.0
"""Bytes per second below which a transfer counts as stalled."""
TIMEOUT = 6.0
"""Seconds for one answer of the Hub; three of them and the pauses leave a rest of PATIENCE."""
PAUSES = (1.0, 2.0)
"""Seconds before the second and the third try."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
T = TypeVar("T")


class Listing(NamedTuple):
    """A revision on the Hub: its commit, the bytes of its files, and whether the repository is private."""

    commit: str
    sizes: dict[str, int]
    private: bool


def listing_of(place: Place, *, patient: bool = True) -> Listing:
    """What the Hub says of a revision; not `patient`: one short question.

    Raises:
        EmulossError: see `bounded`.
    """
    info = _retried(
        place,
        PATIENCE if patient else TIMEOUT,
        PAUSES if patient else (),
        place.api.model_info,
        place.repo,
        revision=place.revision,
        timeout=TIMEOUT,
        files_metadata=True,
    )
    commit = str(info.sha)
    if not _COMMIT.fullmatch(commit):
        raise no_answer(place, f"its commit is {commit[:60]!r}")
    return Listing(
        commit, {file.rfilename: file.size or 0 for file in info.siblings or ()}, bool(info.private)
    )


def cached(place: Place, name: str, revision: str) -> Path | None:
    """A file of a revision in the cache; None if it is not there. Nobody is asked.

    Raises:
        EmulossError: see `bounded`.
    """
    path = bounded(
        place, 0, try_to_load_from_cache, place.repo, name, cache_dir=place.cache_dir, revision=revision
    )
    return Path(path) if isinstance(path, str) else None


def download(place: Place, name: str, revision: str, size: int, force: bool = False) -> Path:
    """A file of a revision, of `size` bytes, brought into the cache; anew where that is forced.

    Raises:
        EmulossError: see `bounded`.
    """
    path = _retried(
        place,
        _seconds(size),
        PAUSES,
        hf_hub_download,
        place.repo,
        name,
        revision=revision,
        cache_dir=place.cache_dir,
        token=place.token,
        endpoint=place.endpoint,
        etag_timeout=TIMEOUT,
        force_download=force,
        library_name="emuloss",
        library_version=version("emuloss"),
    )
    return Path(path)


def bounded(place: Place, size: int, function: Callable[..., T], *arguments: Any, **keywords: Any) -> T:
    """The client's answer, within a time limit.

    Args:
        place: what is asked for, for messages.
        size: bytes of the transfer, which lengthen the limit.
        function: of the client.
        *arguments: of the function.
        **keywords: of the function.

    Raises:
        EmulossError: what the client's exception means, in the errors of this package.
        HubConnectionError: it takes too long.
    """
    return _within(_seconds(size), place, function, *arguments, **keywords)


def _seconds(size: int) -> float:
    """How long a call that transfers so many bytes may take."""
    return PATIENCE + size / SLOWEST


def _retried(
    place: Place,
    seconds: float,
    pauses: Iterable[float],
    function: Callable[..., T],
    *arguments: Any,
    **keywords: Any,
) -> T:
    """The client's answer, after each pause asked for again where the Hub failed, all within a time limit."""
    deadline, left = time.monotonic() + seconds, iter(pauses)
    while True:
        try:
            return _within(deadline - time.monotonic(), place, function, *arguments, **keywords)
        except (HubConnectionError, CorruptedError):
            pause = next(left, None)
            if pause is None or time.monotonic() + pause >= deadline:
                raise
            time.sleep(pause)


def _within(seconds: float, place: Place, function: Callable[..., T], *arguments: Any, **keywords: Any) -> T:
    """The client's answer within so many seconds, or an error of this package.

    The limits of the client count from byte to byte and from try to try, and looking up a host has none;
    only another thread can be left waiting. It is a daemon, so that a stalled one does not
    keep the interpreter from ending.
    """
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(function(*arguments, **keywords))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, name="emuloss-hub", daemon=True).start()
    try:
        return future.result(max(seconds, 0.0))
    except FutureTimeoutError as error:
        raise no_answer(place, "it takes too long") from error
    except Exception as error:  # the client's own, the HTTP library's, the disk's, of any version
        raise explained(error, place) from error
