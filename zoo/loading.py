"""Where surrogates come from: the ones that ship with the package, directories, the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

import torch

from ..foundation.docs import takes_those_of
from . import checkpoint, golden
from .names import found
from .secrets import discreet
from .surrogate import Surrogate


@discreet
@takes_those_of(found, checkpoint.load)
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
    place = found(source, revision, cache_dir, token, force_download, local_files_only)
    with place.named():
        module, manifest = checkpoint.load(place.folder, device=device)
    surrogate = Surrogate(module, manifest.architecture.name, manifest.provenance)
    surrogate.revision = place.commit
    return surrogate


@discreet
@takes_those_of(found)
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

    Raises:
        CorruptedError: a checkpoint that does not give what it gave when it was saved.
        EmulossError: see `load`.
    """
    place = found(source, revision, cache_dir, token, force_download, local_files_only)
    with place.named():
        golden.verify(checkpoint.load(place.folder).module, place.folder)
