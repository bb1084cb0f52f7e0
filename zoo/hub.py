"""The Hugging Face Hub: checkpoints fetched at one commit and checked, runs published in one commit.

Every request goes through huggingface_hub and its cache. That client reads HF_HOME, HF_HUB_CACHE,
HF_HUB_OFFLINE and its time limits once, when it is first imported, and HF_TOKEN at every call; HF_ENDPOINT
is read here at every call. What the client leaves open is done here: a bound on all waiting (left alone it
asks an unreachable Hub for minutes), one commit for all files, the hash of what the cache holds (the
client never looks at a cached file again), and errors of this package.
"""

from __future__ import annotations

import json
import logging
import os
import re
import textwrap
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeVar

from huggingface_hub import (
    CommitOperationAdd,
    HfApi,
    constants,
    hf_hub_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    BadRequestError,
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ..errors import (
    AccessError,
    ArgumentError,
    CheckpointError,
    ConflictError,
    CorruptedError,
    EmulossError,
    HubConnectionError,
    IncompatibleError,
    NotFoundError,
    OfflineError,
)
from .card import merged_card, placed
from .contract import (
    CARD,
    CONFIG,
    FORMAT,
    FORMAT_VERSION,
    LARGEST_CONFIG,
    SEALED,
    digest,
    read_bounded,
    sha256,
)

PATIENCE = 25.0
"""Seconds that a call to the Hub may take besides its transfer: so long to learn that it is unreachable."""
SLOWEST = 50_000.0
"""Bytes per second below which a transfer counts as stalled."""
_TIMEOUT = 6.0
"""Seconds for one answer of the Hub; three of them and the pauses leave a rest of PATIENCE."""
_PAUSES = (1.0, 2.0)
"""Seconds before the second and the third try."""
_LARGEST = {CONFIG: LARGEST_CONFIG, CARD: LARGEST_CONFIG} | {name: most for name, (_, most) in SEALED.items()}
"""Bytes beyond which a file is none of a checkpoint."""
_NEEDED = (CONFIG, *SEALED)
_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_REVISION = re.compile(r"\w[\w./+-]*", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")


class Fetched(NamedTuple):
    """A checkpoint of the Hub on this disk: its folder in the cache, and its commit (40 hex digits)."""

    folder: Path
    revision: str


class _Listing(NamedTuple):
    """A revision on the Hub: its commit, the bytes of its files, and whether the repository is private."""

    commit: str
    sizes: dict[str, int]
    private: bool


@dataclass(frozen=True)
class _Place:
    """A revision of a repository on a Hub, and how to get there; reads "org/repo@revision"."""

    repo: str
    revision: str
    endpoint: str
    token: str | bool | None
    cache_dir: Path | None = None

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}"

    @property
    def url(self) -> str:
        return f"{self.endpoint}/{self.repo}"

    @property
    def api(self) -> HfApi:
        return HfApi(
            endpoint=self.endpoint,
            token=self.token,
            library_name="emuloss",
            library_version=version("emuloss"),
        )


def split_name(name: str) -> tuple[str, str | None]:
    """Split "org/repo@revision" into the repository and the revision (None where it has none).

    Raises:
        ArgumentError: the name is not of this form.
    """
    repo, at, revision = name.partition("@")
    _refuse_names(repo, revision if at else None)
    return repo, revision if at else None


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
    _refuse_names(repo, revision)
    if force_download and local_files_only:
        raise ArgumentError("force_download asks the Hub and local_files_only forbids it; give one of them")
    place = _place(repo, revision, token, cache_dir)
    offline = local_files_only or constants.HF_HUB_OFFLINE
    known = _cached_commit(place)
    if offline and (known is None or force_download):
        raise _offline(place)
    if known is not None and (offline or (known == place.revision and not force_download)):
        return _taken(place, known, {}, force=False, offline=offline)
    instead = None if force_download else known
    try:
        commit, sizes, _ = _listing(place, place.revision, patient=instead is None)
        _require(place, sizes)
        fetched = _taken(place, commit, sizes, force=force_download)
    except HubConnectionError as error:
        if instead is None:
            raise
        _logger.warning("%s; going on with commit %s from the cache", error, instead)
        return _taken(place, instead, {}, force=False)
    if commit not in (place.revision, known):
        # By looking this one up, the client notes which commit the revision is. It comes last: until
        # the new commit is complete, an older one can stand in.
        with suppress(HubConnectionError):
            _download(place, CONFIG, place.revision, sizes[CONFIG])
    return fetched


def push(
    folder: str | Path,
    repo: str,
    *,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    tag: str | None = None,
    token: str | bool | None = None,
    dry_run: bool = False,
    check: Callable[[Path], None] | None = None,
) -> str:
    """Publish a checkpoint on the Hub, in one commit.

    Sent are config.json, model.safetensors, golden.safetensors, README.md, and the pictures that
    README.md shows. The repository and the branch are made where they are missing. Text that others
    wrote into the README.md there is kept (`merged_card`). If the branch moves while the files are
    under way, nothing is published. Publishing the same folder again changes nothing.

    Args:
        folder: a checkpoint with an evaluation, as train_surrogate.py writes it.
        repo: "org/repo".
        private: make a new repository private; one that exists must be private already.
        revision: branch; default: main.
        create_pr: open a pull request on main instead.
        tag: name for the new commit; must not exist yet.
        token: of the Hub; default: HF_TOKEN or that of `hf auth login`.
        dry_run: check everything on this side, ask and send nothing.
        check: called with the folder before anything is sent; raises to refuse it.

    Returns:
        Where it is published: the pull request, or the tree at the commit. For a dry run, what would be sent:
        a line for the target, then one for each file and its size.

    Raises:
        ArgumentError: a name that cannot be meant, a folder without evaluation, a public repository
            that should be private, or a card that the Hub refuses.
        CheckpointError: the folder is incomplete or damaged.
        AccessError: the token has no right to write there.
        ConflictError: the branch moved meanwhile, or the tag exists.
        HubConnectionError: the Hub is unreachable, stalls, or fails.
        OfflineError: HF_HUB_OFFLINE is set.
    """
    _refuse_names(repo, revision)
    if tag is not None and (not _REVISION.fullmatch(tag) or ".." in tag):
        raise ArgumentError(f"tag {tag!r} cannot be the name of a tag; take letters, digits, '.', '-' or '_'")
    if create_pr and (revision is not None or tag is not None):
        raise ArgumentError("create_pr proposes a change to main; leave revision and tag out")
    files = _publishable(Path(folder))
    if check is not None:
        check(Path(folder))
    place = _place(repo, revision, token, None)
    if dry_run:
        return _plan(place, files, private=private, create_pr=create_pr, tag=tag)

    api, ask = place.api, partial(_call, place, PATIENCE)
    ask(api.create_repo, repo, private=private, exist_ok=True)
    if revision is not None:
        ask(api.create_branch, repo, branch=revision, exist_ok=True)
    if tag is not None and tag in {known.name for known in ask(api.list_repo_refs, repo).tags}:
        raise ConflictError(f"{place}: tag {tag!r} exists at {place.url}; choose another one")
    listing = _listing(place, place.revision)
    if private and not listing.private:
        raise ArgumentError(f"{place} is public; leave --private out, or make it private at {place.url}")
    ours = placed(files[CARD].read_text("utf-8"), repo if revision is None else str(place))
    card = merged_card(_published_card(place, listing.commit) if CARD in listing.sizes else "", ours)
    operations = [
        CommitOperationAdd(path_in_repo=name, path_or_fileobj=card.encode() if name == CARD else str(path))
        for name, path in files.items()
    ]
    commit = _call(
        place,
        PATIENCE + sum(path.stat().st_size for path in files.values()) / SLOWEST,
        api.create_commit,
        repo,
        operations,
        commit_message=f"Checkpoint of emuloss {version('emuloss')}",
        revision=revision,
        create_pr=create_pr,
        parent_commit=listing.commit,
    )
    if tag is not None:
        ask(api.create_tag, repo, tag=tag, revision=commit.oid)
    return commit.pr_url or f"{place.url}/tree/{commit.oid}"


def _refuse_names(repo: str, revision: str | None) -> None:
    if not isinstance(repo, str) or not _NAME.fullmatch(repo):
        raise ArgumentError(f"repo {repo!r} is not the name of a repository; write org/repo")
    # Revisions become file names in the cache.
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise ArgumentError(
            f"revision {revision!r} of {repo} is not the name of a revision; give a branch, a tag or a commit"
        )


def _place(repo: str, revision: str | None, token: str | bool | None, cache_dir: str | Path | None) -> _Place:
    endpoint = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
    cache = None if cache_dir is None else Path(cache_dir).expanduser()
    return _Place(repo, revision or constants.DEFAULT_REVISION, endpoint, token, cache)


# Fetching


def _cached(place: _Place, name: str, revision: str) -> Path | None:
    """A file in the cache; None if it is not there."""
    path = _call(
        place,
        PATIENCE,
        try_to_load_from_cache,
        place.repo,
        name,
        cache_dir=place.cache_dir,
        revision=revision,
    )
    return Path(path) if isinstance(path, str) else None


def _cached_commit(place: _Place) -> str | None:
    """The commit that the cache knows for a revision; None if its copy is not complete."""
    paths = [_cached(place, name, place.revision) for name in _NEEDED]
    return None if paths[0] is None or None in paths else paths[0].parent.name


def _require(place: _Place, sizes: dict[str, int]) -> None:
    """Refuse a repository that lacks a file, or whose files are beyond reason."""
    for name in _NEEDED:
        if name not in sizes:
            raise NotFoundError(
                f"{place}: there is no {name}; give a repository and revision that `emuloss publish` wrote"
            )
    for name, most in _LARGEST.items():
        if sizes.get(name, 0) > most:
            raise IncompatibleError(
                f"{place}: {name} has {sizes[name]} bytes, more than any that emuloss writes ({most})"
            )


def _listing(place: _Place, revision: str, *, patient: bool = True) -> _Listing:
    """What the Hub says of a revision; not `patient`: one short question."""
    info = _patiently(
        place,
        PATIENCE if patient else _TIMEOUT,
        _PAUSES if patient else (),
        place.api.model_info,
        place.repo,
        revision=revision,
        timeout=_TIMEOUT,
        files_metadata=True,
    )
    commit = str(info.sha)
    if not _COMMIT.fullmatch(commit):
        raise _no_answer(place, f"its commit is {commit[:60]!r}")
    return _Listing(
        commit, {file.rfilename: file.size or 0 for file in info.siblings or ()}, bool(info.private)
    )


def _download(place: _Place, name: str, revision: str, size: int, force: bool = False) -> Path:
    """A file of `size` bytes, brought into the cache."""
    path = _patiently(
        place,
        PATIENCE + size / SLOWEST,
        _PAUSES,
        hf_hub_download,
        place.repo,
        name,
        revision=revision,
        cache_dir=place.cache_dir,
        token=place.token,
        endpoint=place.endpoint,
        etag_timeout=_TIMEOUT,
        force_download=force,
        library_name="emuloss",
        library_version=version("emuloss"),
    )
    return Path(path)


def _taken(
    place: _Place, commit: str, sizes: dict[str, int], *, force: bool, offline: bool = False
) -> Fetched:
    """The checkpoint of a commit, its hashes checked.

    Args:
        place: where it is.
        commit: of 40 hex digits.
        sizes: of the files that the Hub has, in bytes; empty: those of the cache.
        force: download what is in the cache.
        offline: ask nobody.
    """

    def take(name: str, force: bool) -> Path:
        cached = _cached(place, name, commit)
        if cached is not None and not force:
            return cached
        if offline:
            raise CorruptedError(f"{place}: {name} in the cache is damaged; load it once while connected")
        size = sizes.get(name) or (cached.stat().st_size if cached else 0)
        return _download(place, name, commit, size, force)

    path = _intact(place, CONFIG, take, _config_damage, force)
    config = json.loads(path.read_bytes())
    if config.get("format") != FORMAT:
        raise IncompatibleError(
            f"{place}: its {CONFIG} is not one of emuloss; give a repository that `emuloss publish` wrote"
        )
    if _is_foreign(config):
        raise IncompatibleError(
            f"{place}: its format_version is {config.get('format_version')!r:.40}, and this emuloss reads "
            f"{FORMAT_VERSION}; install another version of emuloss, or take another revision"
        )
    if CARD in sizes:
        take(CARD, force)
    for name in SEALED:
        _intact(place, name, take, partial(_seal_damage, config=config), force)
    return Fetched(path.parent, commit)


def _intact(
    place: _Place, name: str, take: Callable[[str, bool], Path], damage: Callable[[Path], str], force: bool
) -> Path:
    """A file without damage, downloaded once more where it has some."""
    path = take(name, force)
    problem = damage(path)
    if problem:
        _logger.warning("%s: %s %s; downloading it again", place, name, problem)
        path = take(name, True)
        problem = damage(path)
    if problem:
        raise CorruptedError(
            f"{place}: {name} {problem}, and so it arrives from {place.endpoint}; "
            "take another revision or endpoint, or ask its owner to publish it again"
        )
    return path


def _is_foreign(config: dict[str, Any]) -> bool:
    """Whether a configuration is a stranger's or of another version, rather than a damaged one of ours."""
    if "config_sha256" not in config and config.get("format") != FORMAT:
        return True
    return config.get("format") == FORMAT and config.get("format_version") != FORMAT_VERSION


def _config_damage(path: Path) -> str:
    """What shows that a configuration is not the one that was written; empty if nothing does."""
    try:
        config = json.loads(read_bounded(path, LARGEST_CONFIG))
        if _is_foreign(config):
            return ""  # how another format is sealed is not known here
        return "" if config.get("config_sha256") == digest(config) else "differs from its own hash"
    except (ValueError, RecursionError, TypeError, AttributeError):
        return "is not a JSON object"


def _seal_damage(path: Path, config: dict[str, Any]) -> str:
    """What shows that a file is not the one that the configuration describes; empty if nothing does."""
    key, most = SEALED[path.name]
    return "" if sha256(read_bounded(path, most)) == config.get(key) else f"differs from its hash in {CONFIG}"


# Publishing


def _publishable(folder: Path) -> dict[str, Path]:
    """The files of a folder to publish, by name; refuses one that is incomplete, damaged or not evaluated."""
    files = {name: folder / name for name in (*_NEEDED, CARD)}
    missing = [name for name, path in files.items() if not path.is_file()]
    if missing:
        raise CheckpointError(
            f"{folder} lacks {', '.join(missing)}; give a folder that save_pretrained wrote"
        )
    damage = {CONFIG: _config_damage(files[CONFIG])}
    if not damage[CONFIG]:
        config = json.loads(files[CONFIG].read_bytes())
        damage |= {name: _seal_damage(files[name], config) for name in SEALED}
    for name, problem in damage.items():
        if problem:
            raise CorruptedError(f"{files[name]} {problem}; write the checkpoint again")
    if not config.get("evaluation"):
        raise ArgumentError(
            f"folder {str(folder)!r} has no evaluation in its {CONFIG}; "
            "measure it with `emuloss evaluate --save` first"
        )
    card = files[CARD].read_text("utf-8")
    return files | {path.name: path for path in sorted(folder.glob("*.png")) if f"({path.name})" in card}


def _plan(place: _Place, files: dict[str, Path], *, private: bool, create_pr: bool, tag: str | None) -> str:
    """What would be sent, and where, for people to read."""
    facts = ["private if new" if private else "public if new"]
    facts += ["as a pull request"] * create_pr + [f"tag {tag}"] * (tag is not None)
    lines = [f"{place} at {place.endpoint} ({', '.join(facts)})"]
    width = max(len(name) for name in files)
    lines += [f"  {name:{width}} {path.stat().st_size:>12,} bytes" for name, path in files.items()]
    return "\n".join(lines)


def _published_card(place: _Place, commit: str) -> str:
    """The README.md that stands in the repository."""
    with TemporaryDirectory() as folder:
        elsewhere = _Place(place.repo, place.revision, place.endpoint, place.token, Path(folder))
        return _download(elsewhere, CARD, commit, 0).read_text("utf-8", errors="replace")


# The client, bounded and understood


def _call(place: _Place, seconds: float, function: Callable[..., _T], *arguments: Any, **keywords: Any) -> _T:
    """Call the client: its result within a time limit, or an error of this package.

    The limits of the client count from byte to byte and from try to try, and looking up a host has none;
    only another thread can be left waiting. It is a daemon, so that a stalled one does not
    keep the interpreter from ending.
    """
    future: Future[_T] = Future()

    def work() -> None:
        try:
            future.set_result(function(*arguments, **keywords))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, name="emuloss-hub", daemon=True).start()
    try:
        return future.result(max(seconds, 0.0))
    except FutureTimeoutError as error:
        raise _no_answer(place, "it takes too long") from error
    except Exception as error:  # the client's own, the HTTP library's, the disk's, of any version
        raise _explained(error, place) from error


def _patiently(
    place: _Place,
    seconds: float,
    pauses: Iterable[float],
    function: Callable[..., _T],
    *arguments: Any,
    **keywords: Any,
) -> _T:
    """Call the client, and after a pause again where the Hub failed, all within a time limit."""
    deadline, left = time.monotonic() + seconds, iter(pauses)
    while True:
        try:
            return _call(place, deadline - time.monotonic(), function, *arguments, **keywords)
        except (HubConnectionError, CorruptedError):
            pause = next(left, None)
            if pause is None or time.monotonic() + pause >= deadline:
                raise
            time.sleep(pause)


_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
_MEANINGS: tuple[tuple[type[Exception], type[EmulossError], str], ...] = (
    (
        GatedRepoError,
        AccessError,
        f"access is gated; ask for it at {{url}}, then {_LOG_IN}",
    ),
    (
        RepositoryNotFoundError,
        NotFoundError,
        f"{{endpoint}} has no such repository, or a private one; check the name, or {_LOG_IN}",
    ),
    (
        RevisionNotFoundError,
        NotFoundError,
        "the repository has no such revision; its branches and tags stand at {url}/tree/main",
    ),
    (LocalTokenNotFoundError, AccessError, f"there is no token; {_LOG_IN}"),
    (HFValidationError, ArgumentError, "not a name that the Hub can have ({reason}); write org/repo"),
)
"""What exceptions of the client mean; the first that fits."""
_REFUSED = (AccessError, f"the Hub refuses access ({{reason}}); {_LOG_IN} to a token with the right")
_STATUSES: dict[int, tuple[type[EmulossError], str]] = {
    400: (ArgumentError, "the Hub refuses what it is sent ({reason}); correct it"),
    401: _REFUSED,
    403: _REFUSED,
    409: (ConflictError, "something of that name exists ({reason}); choose another name"),
    412: (ConflictError, "the branch moved meanwhile, so nothing was published; publish again"),
}
"""What answers of the Hub mean that the client has no exception for."""


def _explained(error: BaseException, place: _Place) -> EmulossError:
    """The error of this package for one that came out of the client."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", 0)
    reason = str(error)
    if status:
        told = getattr(error, "server_message", None) or getattr(response, "reason_phrase", "")
        reason = f"{status} {told}"
    elif isinstance(error, json.JSONDecodeError):
        reason = "it sends something else than JSON"
    reason = textwrap.shorten(reason, 160, placeholder=" ...") or type(error).__name__
    for kind, ours, text in _MEANINGS:
        if isinstance(error, kind):
            return ours(f"{place}: " + text.format(reason=reason, url=place.url, endpoint=place.endpoint))
    if status in _STATUSES:
        ours, text = _STATUSES[status]
        return ours(f"{place}: " + text.format(reason=reason))
    if isinstance(error, OfflineModeIsEnabled):
        return _offline(place)
    if isinstance(error, ValueError) and isinstance(error.__cause__, BadRequestError):
        return ArgumentError(f"{place}: {reason}")  # a card whose header the Hub cannot read
    if isinstance(error, LocalEntryNotFoundError | ValueError) and error.__cause__ is not None:
        return _explained(error.__cause__, place)  # "not in the cache", because the Hub did not answer
    if isinstance(error, EntryNotFoundError):
        return NotFoundError(f"{place}: a file is missing there ({reason}); take another revision")
    if reason.startswith("Consistency check failed"):
        return CorruptedError(f"{place}: a file arrives incomplete from {place.endpoint}; try again later")
    if isinstance(error, OSError) and error.errno and not isinstance(error, ConnectionError | TimeoutError):
        return CheckpointError(
            f"{place}: cannot use the cache {error.filename or _cache(place)} ({error.strerror}); "
            "make room there, or set HF_HOME or cache_dir to another folder"
        )
    return _no_answer(place, reason)


def _no_answer(place: _Place, reason: str) -> HubConnectionError:
    return HubConnectionError(
        f"{place}: no sound answer from {place.endpoint} ({reason}); "
        "check the connection and HF_ENDPOINT, or try again later"
    )


def _offline(place: _Place) -> OfflineError:
    return OfflineError(
        f"{place}: not in the cache {_cache(place)}, and the Hub may not be asked; load it once "
        "while connected, without HF_HUB_OFFLINE and local_files_only, or give a directory"
    )


def _cache(place: _Place) -> Path:
    return place.cache_dir or Path(constants.HF_HUB_CACHE)
