"""What goes wrong at the Hub, in the errors of this package."""

from __future__ import annotations

import json

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
    EmulossError,
    HubConnectionError,
    NotFoundError,
    OfflineError,
    plain,
)
from .place import LOG_IN, Place
from .secrets import without_secrets

_MEANINGS: tuple[tuple[type[Exception], type[EmulossError], str], ...] = (
    (
        GatedRepoError,
        AccessError,
        f"access is gated; ask for it at {{url}}, then {LOG_IN}",
    ),
    (
        RepositoryNotFoundError,
        NotFoundError,
        f"{{endpoint}} has no such repository, or a private one; check the name, or {LOG_IN}",
    ),
    (
        RevisionNotFoundError,
        NotFoundError,
        "the repository has no such revision; its branches and tags stand at {url}/tree/main",
    ),
    (LocalTokenNotFoundError, AccessError, f"there is no token; {LOG_IN}"),
    (HFValidationError, ArgumentError, "not a name that the Hub can have ({reason}); write org/repo"),
)
"""What exceptions of the client mean; the first that fits."""
_REFUSED = (AccessError, f"the Hub refuses access ({{reason}}); {LOG_IN} to a token with the right")
_STATUSES: dict[int, tuple[type[EmulossError], str]] = {
    400: (ArgumentError, "the Hub refuses what it is sent ({reason}); correct it"),
    401: _REFUSED,
    403: _REFUSED,
    409: (ConflictError, "something of that name exists ({reason}); choose another name"),
    412: (ConflictError, "the branch moved meanwhile, so nothing was published; publish again"),
}
"""What answers of the Hub mean that the client has no exception for."""


def explained(error: BaseException, place: Place) -> EmulossError:
    """The error of this package for one that came out of the client."""
    if isinstance(error, EmulossError):
        return error
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", 0)
    reason = str(error)
    if status:
        told = getattr(error, "server_message", None) or getattr(response, "reason_phrase", "")
        reason = f"{status} {told}"
    elif isinstance(error, json.JSONDecodeError):
        reason = "it sends something else than JSON"
    reason = _quoted(place, reason) or type(error).__name__
    for kind, ours, text in _MEANINGS:
        if isinstance(error, kind):
            return ours(f"{place}: " + text.format(reason=reason, url=place.url, endpoint=place.endpoint))
    if status in _STATUSES:
        ours, text = _STATUSES[status]
        return ours(f"{place}: " + text.format(reason=reason))
    if isinstance(error, OfflineModeIsEnabled):
        return not_in_cache(place)
    if isinstance(error, ValueError) and isinstance(error.__cause__, BadRequestError):
        return ArgumentError(f"{place}: {reason}")  # a card whose header the Hub cannot read
    if isinstance(error, LocalEntryNotFoundError | ValueError) and error.__cause__ is not None:
        return explained(error.__cause__, place)  # "not in the cache", because the Hub did not answer
    if isinstance(error, EntryNotFoundError):
        return NotFoundError(f"{place}: a file is missing there ({reason}); take another revision")
    if isinstance(error, OSError) and error.errno and not isinstance(error, ConnectionError | TimeoutError):
        return CheckpointError(
            f"{place}: cannot use the cache {plain(error.filename or place.cache)} ({error.strerror}); "
            "make room there, or set HF_HOME or cache_dir to another folder"
        )
    return no_answer(place, reason)


def _quoted(place: Place, text: str) -> str:
    """What others say, without secrets that they repeat, and without what steers a terminal."""
    return plain(without_secrets(text, place.token), 160)


def no_answer(place: Place, reason: str) -> HubConnectionError:
    """The error of a Hub that does not answer, or not as a Hub does."""
    return HubConnectionError(
        f"{place}: no sound answer from {place.endpoint} ({_quoted(place, reason)}); "
        "check the connection and HF_ENDPOINT, or try again later"
    )


def not_in_cache(place: Place) -> OfflineError:
    """The error of what is not in the cache while the Hub may not be asked."""
    return OfflineError(
        f"{place}: not in the cache {place.cache}, and the Hub may not be asked; load it once "
        "while connected, without HF_HUB_OFFLINE and local_files_only, or give a directory"
    )
