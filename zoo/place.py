"""Names of repositories and revisions of the Hugging Face Hub, and how to get there."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

from huggingface_hub import HfApi, constants, get_token

from ..errors import AccessError, ArgumentError
from ..foundation.arguments import as_path
from .secrets import basic

LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
"""What helps who may not enter."""
_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_REVISION = re.compile(r"\w[\w./+-]*", re.ASCII)
_TOKEN = re.compile(r"[!-~]{1,10000}")
"""What a header can hold."""


_ADDRESS = re.compile(
    r"https?://(?:(?P<login>[!-.0->@-~]*)@)?(?:[\w.-]+|\[[\da-f:.]+\])(?::(?P<port>\d{1,5}))?(?:/[\w./~%+-]*)?",
    re.ASCII | re.IGNORECASE,
)
"""Scheme, user and password, host, port, path."""
_LARGEST_PORT = 2**16 - 1


@dataclass(frozen=True)
class Place:
    """A revision of a repository on a Hub, and how to get there; reads "org/repo@revision".

    Attributes:
        repo: "org/repo".
        revision: branch, tag or commit.
        endpoint: address of the Hub, without user and password.
        token: of the Hub; None: HF_TOKEN or that of `hf auth login`; False: none.
        login: user and password of the address, as a header holds them; empty where it has none.
        cache_dir: where the client's cache stands; None: HF_HUB_CACHE.
    """

    repo: str
    revision: str
    endpoint: str
    token: str | bool | None = field(repr=False)
    login: str = field(default="", repr=False)
    cache_dir: Path | None = None

    @classmethod
    def of(
        cls, repo: str, revision: str | None, token: str | bool | None, cache_dir: str | Path | None = None
    ) -> Place:
        """A place on the Hub that HF_ENDPOINT names now; default of the revision: main.

        Raises:
            ArgumentError: a repository, a revision or a folder of a name that none can have, a token or an
                address that is none; neither of these two is quoted.
        """
        _refuse_names(repo, revision)
        if isinstance(token, str):
            token = _as_token(token, "token")
        elif not isinstance(token, bool | None):
            raise ArgumentError(f"token must be text, True, False or None, got {type(token).__name__}")
        endpoint, login = _address(os.environ.get("HF_ENDPOINT") or constants.ENDPOINT)
        cache = None if cache_dir is None else as_path("cache_dir", cache_dir)
        return cls(repo, revision or constants.DEFAULT_REVISION, endpoint, token, login, cache)

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}"

    @property
    def url(self) -> str:
        """The repository's page."""
        return f"{self.endpoint}/{self.repo}"

    @cached_property
    def bearer(self) -> str:
        """The token that is sent; empty where none is.

        Raises:
            AccessError: one is asked for, and there is none.
            ArgumentError: the one that is kept on this machine is none.
        """
        if isinstance(self.token, str) or self.token is False:
            return self.token or ""
        kept = get_token()
        if kept is None and self.token is True:
            raise AccessError(f"{self}: there is no token; {LOG_IN}")
        return "" if kept is None else _as_token(kept, "the token of HF_TOKEN or `hf auth login`")

    @property
    def headers(self) -> dict[str, str]:
        """What every request says about who asks; user and password of the address go before a token."""
        said = {"user-agent": f"emuloss/{version('emuloss')}"}
        if self.login:
            return said | {"authorization": f"Basic {self.login}"}
        return said | ({"authorization": f"Bearer {self.bearer}"} if self.bearer else {})

    @property
    def api(self) -> HfApi:
        """The client for this Hub, for what is written there."""
        return HfApi(
            endpoint=self.endpoint,
            token=self.bearer or False,
            library_name="emuloss",
            library_version=version("emuloss"),
            headers={"authorization": f"Basic {self.login}"} if self.login else None,
        )

    @property
    def cache(self) -> Path:
        """The folder of the client's cache."""
        return self.cache_dir or Path(constants.HF_HUB_CACHE)

    @property
    def shelf(self) -> Path:
        """The folder of this repository in the client's cache."""
        return self.cache / f"models--{self.repo.replace('/', '--')}"

    @property
    def listing_path(self) -> str:
        """Where the Hub says what the revision holds."""
        return f"api/models/{self.repo}/revision/{quote(self.revision, safe='')}?blobs=true"


def split_name(name: str) -> tuple[str, str | None]:
    """Split "org/repo@revision" into the repository and the revision (None where it has none).

    Raises:
        ArgumentError: the name is not of this form.
    """
    repo, at, revision = name.partition("@")
    _refuse_names(repo, revision if at else None)
    return repo, revision if at else None


def is_revision(name: str) -> bool:
    """Whether a branch or a tag may have a name; it becomes a file name in the cache."""
    return bool(_REVISION.fullmatch(name)) and ".." not in name


def _refuse_names(repo: str, revision: str | None) -> None:
    """Refuse what no repository or revision can be called."""
    if not isinstance(repo, str) or not _NAME.fullmatch(repo):
        raise ArgumentError(f"repo {repo!r:.200} is not the name of a repository; write org/repo")
    if revision is not None and not (isinstance(revision, str) and is_revision(revision)):
        raise ArgumentError(
            f"revision {revision!r:.200} of {repo} is not the name of a revision; "
            "give a branch, a tag or a commit"
        )


def _as_token(text: str, name: str) -> str:
    """A token without the blanks and line breaks around it, which files have; it is never quoted."""
    token = text.strip()
    if not _TOKEN.fullmatch(token):
        raise ArgumentError(
            f"{name} is empty or has characters that no token has, such as blanks or line breaks within; "
            "copy it anew from the Hub's settings"
        )
    return token


def _address(text: str) -> tuple[str, str]:
    """The address of a Hub without user and password, and these as a header holds them; never quoted."""
    address = text.strip().rstrip("/")
    found = _ADDRESS.fullmatch(address)
    if not found or int(found["port"] or 0) > _LARGEST_PORT:
        raise ArgumentError("HF_ENDPOINT is not the address of a Hub; set it to https://HOST, or unset it")
    user, _, password = (found["login"] or "").partition(":")
    login = "" if found["login"] is None else basic(user, password)
    return address.replace(f"{found['login']}@", "", 1), login
