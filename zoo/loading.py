"""Where surrogates come from: the ones that ship with the package, directories, the Hugging Face Hub."""

from __future__ import annotations

import difflib
import fnmatch
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ..errors import ArgumentError, CheckpointError, HubConnectionError, NotFoundError, OfflineError
from . import checkpoint, golden
from .contract import CONFIG, WEIGHTS, read_config, read_sealed
from .secrets import discreet
from .surrogate import Surrogate

MODELS = Path(__file__).parent / "models"
"""A folder for each surrogate that ships with the package; the default one is minkowski-opera."""
_PATTERN = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class ModelInfo:
    """What a checkpoint says about itself; printed, a few lines for people.

    Attributes:
        name: bundled name, directory or "org/repo@commit".
        metric: name of the metric.
        architecture: name of the architecture.
        outputs: names of the C outputs.
        units: their units.
        thresholds: the Q thresholds, in `unit`.
        unit: unit of the fields; empty if not stated.
        field_shape: (H, W) of the fields trained on; None if any.
        license: licence, as the Hub names it; empty if not stated.
        trained_on: data and settings of the training.
        evaluation: figures measured on held-out fields.
        size: bytes of the weights.
        revision: commit on the Hub; None for a local checkpoint.
    """

    name: str
    metric: str
    architecture: str
    outputs: tuple[str, ...]
    units: tuple[str, ...]
    thresholds: tuple[float, ...]
    unit: str
    field_shape: tuple[int, int] | None
    license: str
    trained_on: dict[str, Any]
    evaluation: dict[str, Any]
    size: int
    revision: str | None

    def __str__(self) -> str:
        outputs = ", ".join(f"{o} ({u})" for o, u in zip(self.outputs, self.units, strict=False))
        shape = " x ".join(map(str, self.field_shape)) if self.field_shape else "any shape"
        lines = [f"{self.name}: {self.metric}, {self.architecture}", f"  outputs     {outputs}"]
        if self.thresholds:
            low, high = self.thresholds[0], self.thresholds[-1]
            lines.append(f"  thresholds  {len(self.thresholds)}, {low:g} to {high:g} {self.unit}".rstrip())
        lines.append(f"  fields      {self.unit or 'unit not stated'}, {shape}")
        scores = self.evaluation.get("fidelity", {}).get("outputs", {})
        if scores:
            found = ", ".join(
                f"{name} {'-' if each['r2_mean'] is None else format(each['r2_mean'], '.4f')}"
                for name, each in scores.items()
            )
            lines.append(f"  R2 mean     {found}")
        lines.append(f"  weights     {self.size / 1e6:.1f} MB, licence {self.license or 'not stated'}")
        return "\n".join(lines + [f"  revision    {self.revision}"] * (self.revision is not None))


@discreet
def load(
    source: str | Path,
    *,
    revision: str | None = None,
    device: str | torch.device | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
) -> Surrogate:
    """Load a frozen surrogate.

    A name of `list_models()` is one that ships with the package; otherwise a path that exists is a
    directory that `save_pretrained` or train_surrogate.py wrote; otherwise "org/repo" or
    "org/repo@revision" is a repository on the Hugging Face Hub. Nothing of a checkpoint is ever
    executed: weights are safetensors, all files are checked by their hashes, and what does not fit
    is refused.

    Args:
        source: name, directory or repository; a `Path` is always a directory.
        revision: of a repository: branch, tag or commit; default: main. A commit of 40 hex digits
            that is in the cache makes no request.
        device: where to put it; default: the CPU.
        cache_dir: of the Hub's files; default: HF_HUB_CACHE.
        token: of the Hub; default: HF_TOKEN or that of `hf auth login`; False sends none.
        force_download: fetch anew what the cache holds.
        local_files_only: ask nobody: the cache alone.

    Returns:
        The surrogate: in evaluation mode, no weight takes a gradient, gradients flow to its input.

    Raises:
        ArgumentError: no such name or device, or arguments that cannot be meant together.
        NotFoundError: no such repository, revision or file.
        AccessError: gated, private, or a token without the right.
        OfflineError: not in the cache, and the Hub may not be asked.
        HubConnectionError: the Hub is unreachable, which takes 30 seconds at most, or fails, or a
            transfer stalls, to which each file has 25 seconds and its size at 50 kB/s.
        CorruptedError: a file is damaged, or not the one that belongs to the others.
        IncompatibleError: a format, a metric, an architecture or an argument of another version.
        CheckpointError: a file is missing or cannot be read; the six above are special cases of it.
    """
    place = _found(source, revision, cache_dir, token, force_download, local_files_only)
    with place.named():
        module, manifest = checkpoint.load(place.folder, device=device)
    surrogate = Surrogate(module, manifest.architecture.name, manifest.provenance)
    surrogate.revision = place.commit
    return surrogate


@discreet
def info(
    source: str | Path,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
) -> ModelInfo:
    """What a checkpoint says about itself, without building it; from the Hub, all of it is fetched.

    Arguments and errors: see `load`.
    """
    place = _found(source, revision, cache_dir, token, force_download, local_files_only)
    with place.named():
        manifest = read_config(place.folder / CONFIG)
        size = len(read_sealed(place.folder, WEIGHTS, manifest))
    return ModelInfo(
        name=str(place),
        metric=manifest.metric.name,
        architecture=manifest.architecture.name,
        outputs=tuple(manifest.outputs),
        units=tuple(manifest.units),
        thresholds=tuple(manifest.metric.arguments.get("thresholds", ())),
        unit=manifest.unit,
        field_shape=None
        if manifest.field_shape is None
        else (manifest.field_shape[0], manifest.field_shape[1]),
        license=manifest.license,
        trained_on=manifest.training,
        evaluation=manifest.evaluation,
        size=size,
        revision=place.commit,
    )


@discreet
def verify(
    source: str | Path,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
) -> None:
    """Replay the golden outputs of a checkpoint: curves and gradients within 1e-4, relative.

    Arguments and errors: see `load`. A checkpoint that does not give what it gave when it was saved raises
    CorruptedError.
    """
    place = _found(source, revision, cache_dir, token, force_download, local_files_only)
    with place.named():
        golden.verify(checkpoint.load(place.folder).module, place.folder)


def list_models(filter: str | Sequence[str] = "", exclude_filters: str | Sequence[str] = ()) -> list[str]:
    """Names of the surrogates that ship with the package, in natural order.

    Args:
        filter: keep names that match one of these; "*", "?" and "[...]" are wildcards, and text without any
            matches wherever it stands. Default: all.
        exclude_filters: leave out names that match one of these.
    """
    return sorted(
        (name for name in bundled() if matches(name, filter) and not matches(name, exclude_filters or ())),
        key=_natural,
    )


def matches(name: str, filter: str | Sequence[str]) -> bool:
    """Whether a name matches one of the filters; see `list_models`. The empty text matches all."""
    texts = [filter] if isinstance(filter, str) else filter
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
class _Found:
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


def _found(
    source: str | Path,
    revision: str | None,
    cache_dir: str | Path | None,
    token: str | bool | None,
    force_download: bool,
    local_files_only: bool,
) -> _Found:
    """The checkpoint that is meant, fetched where it is on the Hub."""
    if not isinstance(source, str | Path) or not str(source):
        raise ArgumentError(f"source must be a name, a directory or org/repo, got {source!r}")
    text = str(source)
    on_disk = _on_disk(source)
    if on_disk is not None:
        if revision is not None or force_download:
            raise ArgumentError(
                f"{text!r} is on this disk; revision and force_download are for repositories of the Hub"
            )
        return _Found(on_disk, text)
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
        raise type(error)(f"{error}; no directory {text!r} exists here") from error
    return _Found(folder, repo, commit)


def _on_disk(source: str | Path) -> Path | None:
    """The folder of a bundled name or a directory; None for what can only be a repository."""
    text = str(source)
    if isinstance(source, str) and text in bundled():
        return MODELS / text
    folder = Path(os.path.expanduser(text))
    if os.path.isdir(folder):  # unlike Path.is_dir, it takes names that no file can have
        return folder
    if os.path.lexists(folder):
        raise CheckpointError(f"{text!r} is no directory; give the one that save_pretrained wrote")
    repo = text.partition("@")[0]
    if isinstance(source, str) and re.fullmatch(r"\w[^/\\]*/[^/\\]+", repo, re.ASCII):
        return None
    name = repo.rstrip("/")
    if isinstance(source, str) and not re.search(r"[/\\~]", name):
        near = difflib.get_close_matches(name, bundled(), 1)
        hint = f"did you mean {near[0]!r}?" if near else f"bundled: {', '.join(list_models())}"
        raise ArgumentError(
            f"{text!r} is no bundled surrogate and no directory ({hint}); from the Hub, load it as org/repo"
        )
    raise CheckpointError(f"{text!r} is no directory; give the one that save_pretrained wrote")
