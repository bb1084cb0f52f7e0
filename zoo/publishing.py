"""Publishing runs on the Hugging Face Hub, once they are what they say."""

from __future__ import annotations

from pathlib import Path

from . import checkpoint, golden, hub


def publish(
    folder: str | Path,
    repo: str,
    *,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    tag: str | None = None,
    token: str | bool | None = None,
    dry_run: bool = False,
) -> str:
    """Publish a checkpoint, once its golden outputs replay.

    Args:
        folder: with an evaluation, as train_surrogate.py writes it.
        repo: "org/repo"; made if missing.
        private: make a new repository private; one that exists must be private already.
        revision: branch; default: main.
        create_pr: open a pull request on main instead.
        tag: name for the new commit; must not exist yet.
        token: of the Hub; default: HF_TOKEN or that of `hf auth login`.
        dry_run: check everything on this side, ask and send nothing.

    Returns:
        Where it is published; for a dry run, what would be sent.

    Raises:
        ArgumentError: a name that cannot be meant, or a folder without evaluation.
        CorruptedError: the surrogate does not give what it gave when it was saved.
        CheckpointError: the folder is incomplete, or a special case that `hub.push` names.
    """
    return hub.push(
        folder,
        repo,
        private=private,
        revision=revision,
        create_pr=create_pr,
        tag=tag,
        token=token,
        dry_run=dry_run,
        check=_replays,
    )


def _replays(folder: Path) -> None:
    golden.verify(checkpoint.load(folder), folder)
