"""Checkpoints of the Hugging Face Hub, fetched at one commit and checked.

They stand in the cache of huggingface_hub. That client reads HF_HOME, HF_HUB_CACHE and HF_HUB_OFFLINE once,
when it is first imported, and HF_TOKEN at every call; HF_ENDPOINT is read here at every call. Requests are
made here, one a file: left alone, the client writes where a server's answer says, reads answers of any size,
waits for minutes where the Hub is unreachable, and never looks at a cached file again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import constants

from ..errors import ArgumentError, CorruptedError, HubConnectionError, IncompatibleError, NotFoundError
from .client import cached, download, listing_of, note
from .contract import (
    CARD,
    CONFIG,
    LARGEST,
    NEEDED,
    SEALED,
    VERSIONS,
    config_damage,
    is_foreign,
    raw_config,
    seal_damage,
)
from .faults import not_in_cache
from .manifest import FORMAT
from .place import Place

_logger = logging.getLogger(__name__)


class Fetched(NamedTuple):
    """A checkpoint of the Hub on this disk: its folder in the cache, and its commit (40 hex digits)."""

    folder: Path
    revision: str


def fetch(
    repo: str,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
) -> Fetched:
    """Bring a checkpoint from the Hub into the cache and check its hashes.

    The revision is resolved once; all files are those of that commit. Only config.json,
    model.safetensors, golden.safetensors and README.md are ever taken. Files that are in the cache
    are not fetched again, and a commit that is there (`revision` of 40 hex digits) makes no request
    at all. Where the Hub does not answer, the cached copy of the revision is used, with a warning in
    the log. A file whose hash is wrong is downloaded once more.

    Args:
        repo: "org/repo".
        revision: branch, tag or commit; default: main.
        cache_dir: where the client's cache stands; default: HF_HUB_CACHE.
        token: of the Hub; default: HF_TOKEN or that of `hf auth login`; False sends none.
        force_download: replace what the cache holds.
        local_files_only: ask nobody; the cache alone.

    Returns:
        The folder that holds the files, and the commit.

    Raises:
        ArgumentError: a name or a combination of arguments that cannot be meant.
        NotFoundError: no such repository, revision or file.
        AccessError: gated, private, or a token without the right.
        OfflineError: not in the cache, and the Hub may not be asked.
        HubConnectionError: the Hub is unreachable, stalls, or fails.
        CorruptedError: the hashes do not match, a second download notwithstanding.
        IncompatibleError: the repository holds no checkpoint of emuloss.
        CheckpointError: the cache cannot be written.
    """
    place = Place.of(repo, revision, token, cache_dir)
    if force_download and local_files_only:
        raise ArgumentError("force_download asks the Hub and local_files_only forbids it; give one of them")
    offline = local_files_only or constants.HF_HUB_OFFLINE
    known = _cached_commit(place)
    if offline and (known is None or force_download):
        raise not_in_cache(place)
    if known is not None and (offline or (known == place.revision and not force_download)):
        return _taken(_Files(place, known, offline=offline))
    instead = None if force_download else known
    try:
        listing = listing_of(place, patient=instead is None)
        _require(place, listing.sizes)
        fetched = _taken(_Files(place, listing.commit, listing.sizes, anew=force_download))
    except HubConnectionError as error:
        if instead is None:
            raise
        _logger.warning("%s; going on with commit %s from the cache", error, instead)
        return _taken(_Files(place, instead))
    if listing.commit not in (place.revision, known):
        note(place, listing.commit)  # last: until the new commit is complete, an older one can stand in
    return fetched


def _cached_commit(place: Place) -> str | None:
    """The commit that the cache knows for a revision; None if its copy is not complete."""
    paths = [cached(place, name, place.revision) for name in NEEDED]
    return None if paths[0] is None or None in paths else paths[0].parent.name


def _require(place: Place, sizes: Mapping[str, int | None]) -> None:
    """Refuse a repository that lacks a file, or whose files are beyond reason."""
    for name in NEEDED:
        if name not in sizes:
            raise NotFoundError(
                f"{place}: there is no {name}; give a repository and revision that `emuloss publish` wrote"
            )
    for name, most in LARGEST.items():
        if (sizes.get(name) or 0) > most:
            raise IncompatibleError(
                f"{place}: {name} has {sizes[name]} bytes, more than any that emuloss writes ({most})"
            )


@dataclass(frozen=True)
class _Files:
    """The files of a commit, brought into the cache where they are not there.

    Attributes:
        place: where they are.
        commit: of 40 hex digits.
        sizes: of the files that the Hub has, in bytes; empty where it was not asked.
        anew: download what is in the cache.
        offline: ask nobody.
    """

    place: Place
    commit: str
    sizes: Mapping[str, int | None] = field(default_factory=dict)
    anew: bool = False
    offline: bool = False

    def take(self, name: str, *, again: bool = False) -> Path:
        """A file, unchecked; downloaded once more where that is asked for.

        Raises:
            CorruptedError: the cache has none that can be used, and nobody may be asked.
        """
        found = cached(self.place, name, self.commit)
        if found is not None and not (self.anew or again):
            return found
        if self.offline:
            raise CorruptedError(
                f"{self.place}: {name} in the cache is damaged; load it once while connected"
            )
        return download(self.place, name, self.commit, self.sizes.get(name))

    def take_intact(self, name: str, damage: Callable[[Path], str]) -> Path:
        """A file without damage, downloaded once more where it has some.

        Args:
            name: of the file.
            damage: what shows that it is not what was published; empty if nothing does.

        Raises:
            CorruptedError: it arrives damaged.
        """
        path = self.take(name)
        problem = damage(path)
        if problem:
            _logger.warning("%s: %s %s; downloading it again", self.place, name, problem)
            path = self.take(name, again=True)
            problem = damage(path)
        if problem:
            raise CorruptedError(
                f"{self.place}: {name} {problem}, and so it arrives from {self.place.endpoint}; "
                "take another revision or endpoint, or ask its owner to publish it again"
            )
        return path


def _taken(files: _Files) -> Fetched:
    """The checkpoint of a commit, its hashes checked."""
    path = files.take_intact(CONFIG, config_damage)
    config = raw_config(path)
    if config.get("format") != FORMAT:
        raise IncompatibleError(
            f"{files.place}: its {CONFIG} is not one of emuloss; "
            "give a repository that `emuloss publish` wrote"
        )
    if is_foreign(config):
        raise IncompatibleError(
            f"{files.place}: its format_version is {config.get('format_version')!r:.40}, and this emuloss "
            f"reads {VERSIONS}; install another version of emuloss, or take another revision"
        )
    if CARD in files.sizes:
        files.take(CARD)
    for name in SEALED:
        files.take_intact(name, partial(seal_damage, config=config))
    return Fetched(path.parent, files.commit)
