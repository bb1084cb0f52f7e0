"""Publishing runs on the Hugging Face Hub, once they are what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import checkpoint, golden, hub


def publish(folder: str | Path, repo: str, **options: Any) -> str:
    """Publish a checkpoint, once its golden outputs replay.

    Args:
        folder: with an evaluation, as train_surrogate.py writes it.
        repo: "org/repo"; made if missing.
        **options: see `emuloss.zoo.hub.push`: `private`, `revision`, `create_pr`, `tag`, `token` and
            `dry_run`.

    Returns:
        Where it is published; for a dry run, what would be sent.

    Raises:
        ArgumentError: a name that cannot be meant, or a folder without evaluation.
        CorruptedError: the surrogate does not give what it gave when it was saved.
        CheckpointError: the folder is incomplete, or a special case that `hub.push` names.
    """
    return hub.push(folder, repo, check=_replays, **options)


def _replays(folder: Path) -> None:
    golden.verify(checkpoint.load(folder), folder)
