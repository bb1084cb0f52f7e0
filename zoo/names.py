"""Names of checkpoints: those that ship with the package, folders, repositories of the Hub."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import (
    ArgumentError,
    CheckpointError,
    HubConnectionError,
    NotFoundError,
    OfflineError,
    plain,
)
from .manifest import CONFIG

MODELS = Path(__file__).parent / "models"
"""A folder for each surrogate that ships with the package; the default one is minkowski-opera."""
_PATTERN = re.compile(r"[*?\[]")
_REPO = re.compile(r"\w[^/\\]*/[^/\\]+", re.ASCII)
"""What may be the name of a repository."""
_RUNS = "runs"
"""The folder that the documentation puts runs into: whoever writes it means no repository."""
_MOST_LISTED = 1000
_MOST_NAMED = 5


def list_models(filter: str | Sequence[str] = "", exclude_filters: str | Sequence[str] = ()) -> list[str]:
    """Names of the surrogates that ship with the package, in natural order.

    Args:
        filter: keep names that match one of these; "*", "?" and "[...]" are wildcards, and text without any
            matches wherever it stands. Default: all.
        exclude_filters: leave out names that match one of these.

    Raises:
        ArgumentError: filters that are no text.
    """
    return sorted(
        (name for name in bundled() if matches(name, filter) and not matches(name, exclude_filters or ())),
        key=_natural,
    )


def matches(name: str, filter: str | Sequence[str]) -> bool:
    """Whether a name matches one of the filters; see `list_models`. The empty text matches all."""
    texts = [filter] if isinstance(filter, str) else filter
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise ArgumentError(
            f"filter must be text such as '*opera*', or several, got {plain(repr(filter), 80)}"
        )
    patterns = [text if _PATTERN.search(text) else f"*{text}*" for text in texts]
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _natural(name: str) -> list[tuple[int, str]]:
    """A key under which x2 comes before x10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


@cache
def bundled() -> tuple[str, ...]:
    """Names of the surrogates that ship with the package, in no order."""
    return tuple(path.parent.name for path in MODELS.glob(f"*/{CONFIG}"))


@dataclass(frozen=True)
class Found:
    """A checkpoint on this disk: its folder, what the user calls it, and its commit if it is of the Hub."""

    folder: Path
    name: str
    commit: str | None = None

    def __str__(self) -> str:
        return self.name if self.commit is None else f"{self.name}@{self.commit}"

    @contextmanager
    def named(self) -> Iterator[None]:
        """Have errors quote the repository and its commit, rather than a place in the cache."""
        try:
            yield
        except CheckpointError as error:
            if self.commit is None:
                raise
            raise type(error)(str(error).replace(str(self.folder), str(self))) from error


def found(
    source: str | Path,
    revision: str | None,
    cache_dir: str | Path | None,
    token: str | bool | None,
    force_download: bool,
    local_files_only: bool,
) -> Found:
    """The checkpoint that is meant, fetched where it is on the Hub.

    Args:
        source: name, directory or repository; a `Path` is always a directory.
        revision: of a repository: branch, tag or commit; default: main. A commit of 40 hex digits
            that is in the cache makes no request.
        cache_dir: of the Hub's files; default: HF_HUB_CACHE.
        token: of the Hub; default: HF_TOKEN or that of `hf auth login`; False sends none.
        force_download: fetch anew what the cache holds.
        local_files_only: ask nobody: the cache alone.

    Raises:
        EmulossError: see `emuloss.load`.
    """
    if not isinstance(source, str | Path) or not str(source):
        raise ArgumentError(f"source must be a name, a directory or org/repo, got {plain(repr(source))}")
    text = str(source)
    on_disk = _on_disk(source)
    if on_disk is not None:
        if revision is not None or force_download:
            raise ArgumentError(
                f"{text!r} is on this disk; revision and force_download are for repositories of the Hub"
            )
        return Found(on_disk, text)
    from .hub import fetch  # the Hub's client is slow to import, and few need it
    from .place import split_name

    try:
        repo, at = split_name(text)
        if at is not None and revision is not None and at != revision:
            raise ArgumentError(f"{text!r} names a revision, and revision={revision!r} another one; give one")
        folder, commit = fetch(
            repo,
            revision=revision if at is None else at,
            cache_dir=cache_dir,
            token=token,
            force_download=force_download,
            local_files_only=local_files_only,
        )
    except (NotFoundError, OfflineError, HubConnectionError) as error:
        # Whoever mistyped a directory learns that it was taken for a repository.
        raise type(error)(f"no directory {text!r} exists here; as a repository, {error}") from error
    return Found(folder, repo, commit)


def _on_disk(source: str | Path) -> Path | None:
    """The folder of a bundled name or a directory; None for what can only be a repository."""
    text = str(source)
    if isinstance(source, str) and text in bundled():
        return MODELS / text
    folder = Path(os.path.expanduser(text))
    if os.path.isdir(folder):  # unlike Path.is_dir, it takes names that no file can have
        inside = _checkpoints_in(folder, text)
        if inside and not os.path.lexists(folder / CONFIG):
            raise CheckpointError(f"{text!r} has no {CONFIG} itself; give one of {_some(inside)} in it")
        return folder
    name = plain(repr(text), 200)
    if os.path.lexists(folder):
        raise CheckpointError(f"{name} is no directory, but a file; give the one that save_pretrained wrote")
    if isinstance(source, str) and "://" in text:
        repo = "/".join(urlsplit(text).path.strip("/").split("/")[:2])
        raise ArgumentError(f"{name} is an address; of a repository of the Hub, give the name {repo!r}")
    if isinstance(source, str) and _REPO.fullmatch(text.partition("@")[0]) and not _means_a_path(text):
        return None
    if isinstance(source, str) and not re.search(r"[/\\~]", text.rstrip("/")):
        known = [*bundled(), *_checkpoints_in(Path(), ""), *_checkpoints_in(Path(_RUNS), _RUNS)]
        hint = _did_you_mean(text.partition("@")[0].rstrip("/"), known)
        raise ArgumentError(
            f"{name} is no bundled surrogate and no directory{hint}; bundled: {', '.join(list_models())}; "
            "from the Hub, load it as org/repo"
        )
    raise CheckpointError(f"{name} is no directory{_hint(text, folder)}")


def _means_a_path(text: str) -> bool:
    """Whether what could be a repository is a path that was mistyped: its first folder is here.

    Whoever means a repository all the same names a revision.
    """
    first = text.partition("/")[0]
    return "@" not in text and (first == _RUNS or os.path.isdir(first))


def _hint(text: str, folder: Path) -> str:
    """What a mistyped path may mean, and what to give; it ends the message."""
    give = "; give the one that save_pretrained wrote"
    if not os.path.isdir(folder.parent):
        near = _did_you_mean(folder.name, bundled())
        return f"{near}, nor is {plain(repr(str(folder.parent)), 100)}{give}"
    siblings = _checkpoints_in(folder.parent, os.path.dirname(text))
    near = _did_you_mean(folder.name, [*siblings, *bundled()])
    give += f", such as {_some(siblings)}" if siblings and not near else ""
    if _REPO.fullmatch(text):
        give += f", or {text}@main for a repository of the Hub"
    return f"{near}{give}"


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    """Like `foundation.near.did_you_mean`, but only the last parts of paths are compared."""
    from ..foundation.near import nearest  # needed for errors alone

    ends = {os.path.basename(each): each for each in reversed(known)}
    close = nearest(name, ends)
    return "" if close is None else f" (did you mean {ends[close]!r}?)"


def _checkpoints_in(folder: Path, called: str) -> list[str]:
    """The checkpoints in a folder that the user calls so, as the user would call them."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry, _ in zip(entries, range(_MOST_LISTED), strict=False)]
        return sorted(os.path.join(called, name) for name in names if (folder / name / CONFIG).is_file())
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return []


def _some(names: Sequence[str]) -> str:
    """A few names, as text to type."""
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(map(repr, names[:_MOST_NAMED])) + more
