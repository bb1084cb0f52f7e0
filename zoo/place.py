"""Names of repositories and revisions of the Hugging Face Hub, and how to get there."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from huggingface_hub import HfApi, constants

from ..errors import ArgumentError

_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_REVISION = re.compile(r"\w[\w./+-]*", re.ASCII)


@dataclass(frozen=True)
class Place:
    """A revision of a repository on a Hub, and how to get there; reads "org/repo@revision".

    Attributes:
        repo: "org/repo".
        revision: branch, tag or commit.
        endpoint: address of the Hub.
        token: of the Hub; None: HF_TOKEN or that of `hf auth login`; False: none.
        cache_dir: where the client's cache stands; None: HF_HUB_CACHE.
    """

    repo: str
    revision: str
    endpoint: str
    token: str | bool | None
    cache_dir: Path | None = None

    @classmethod
    def of(
        cls, repo: str, revision: str | None, token: str | bool | None, cache_dir: str | Path | None = None
    ) -> Place:
        """A place on the Hub that HF_ENDPOINT names now; default of the revision: main.

        Raises:
            ArgumentError: a repository or a revision of a name that none can have.
        """
        _refuse_names(repo, revision)
        endpoint = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
        cache = None if cache_dir is None else Path(cache_dir).expanduser()
        return cls(repo, revision or constants.DEFAULT_REVISION, endpoint, token, cache)

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}"

    @property
    def url(self) -> str:
        """The repository's page."""
        return f"{self.endpoint}/{self.repo}"

    @property
    def api(self) -> HfApi:
        """The client for this Hub."""
        return HfApi(
            endpoint=self.endpoint,
            token=self.token,
            library_name="emuloss",
            library_version=version("emuloss"),
        )

    @property
    def cache(self) -> Path:
        """The folder of the client's cache."""
        return self.cache_dir or Path(constants.HF_HUB_CACHE)


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
        raise ArgumentError(f"repo {repo!r} is not the name of a repository; write org/repo")
    if revision is not None and not is_revision(revision):
        raise ArgumentError(
            f"revision {revision!r} of {repo} is not the name of a revision; give a branch, a tag or a commit"
        )
