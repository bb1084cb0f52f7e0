"""Publishing runs on the Hugging Face Hub, once they are what they say."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from huggingface_hub import CommitOperationAdd

from ..errors import ArgumentError, CheckpointError, ConflictError, CorruptedError, plain, printable
from ..foundation.arguments import as_path
from . import checkpoint, golden
from .card import merged_card, placed
from .client import Listing, as_commit, bounded, content_of, listing_of
from .contract import (
    CARD,
    CONFIG,
    LARGEST,
    NEEDED,
    SEALED,
    config_damage,
    raw_config,
    read_bounded,
    seal_damage,
)
from .place import Place, is_revision
from .secrets import discreet, without_secrets


@discreet
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
    """Publish a checkpoint on the Hub, in one commit, once its golden outputs replay.

    Sent are config.json, model.safetensors, golden.safetensors, README.md, and the pictures that
    README.md shows. The repository and the branch are made where they are missing. Text that others
    wrote into the README.md there is kept (`merged_card`). If the branch moves while the files are
    under way, nothing is published. Publishing the same folder again changes nothing.

    Args:
        folder: a checkpoint with an evaluation, as train_surrogate.py writes it.
        repo: "org/repo"; made if missing.
        private: make a new repository private; one that exists must be private already.
        revision: branch; default: main.
        create_pr: open a pull request on main instead.
        tag: name for the new commit; must not exist yet.
        token: of the Hub; default: HF_TOKEN or that of `hf auth login`.
        dry_run: check everything on this side, ask and send nothing.

    Returns:
        Where it is published: the pull request, or the tree at the commit. For a dry run, what would be sent:
        a line for the target, then one for each file and its size.

    Raises:
        ArgumentError: a name that cannot be meant, a folder without evaluation, a public repository
            that should be private, or a card that the Hub refuses.
        CorruptedError: the folder is damaged, or the surrogate does not give what it gave when it was saved.
        CheckpointError: the folder is incomplete.
        AccessError: the token has no right to write there.
        ConflictError: the branch moved meanwhile, or the tag exists.
        HubConnectionError: the Hub is unreachable, stalls, or fails.
        OfflineError: HF_HUB_OFFLINE is set.
    """
    place = Place.of(repo, revision, token)
    if tag is not None and not (isinstance(tag, str) and is_revision(tag)):
        raise ArgumentError(f"tag {tag!r} cannot be the name of a tag; take letters, digits, '.', '-' or '_'")
    if create_pr and (revision is not None or tag is not None):
        raise ArgumentError("create_pr proposes a change to main; leave revision and tag out")
    folder = as_path("folder", folder)
    files = _publishable(folder)
    golden.verify(checkpoint.load(folder).module, folder)
    if dry_run:
        return _plan(place, files, private=private, create_pr=create_pr, tag=tag)
    listing = _prepared(place, branch=revision, private=private, tag=tag)
    shown = placed(_text_of(files[CARD]), repo if revision is None else str(place))
    card = merged_card(_published_card(place, listing), shown)
    commit = bounded(
        place,
        sum(path.stat().st_size for path in files.values()),
        place.api.create_commit,
        repo,
        [
            CommitOperationAdd(name, card.encode() if name == CARD else str(path))
            for name, path in files.items()
        ],
        commit_message=f"Checkpoint of emuloss {version('emuloss')}",
        revision=revision,
        create_pr=create_pr,
        parent_commit=listing.commit,
    )
    oid = as_commit(place, commit.oid)
    if tag is not None:
        bounded(place, 0, place.api.create_tag, repo, tag=tag, revision=oid)
    return plain(without_secrets(commit.pr_url)) if commit.pr_url else f"{place.url}/tree/{oid}"


def _publishable(folder: Path) -> dict[str, Path]:
    """The files of a folder to publish, by name; refuses one that is incomplete, damaged or not evaluated."""
    files = {name: folder / name for name in (*NEEDED, CARD)}
    missing = [name for name, path in files.items() if not path.is_file()]
    if missing:
        raise CheckpointError(
            f"{printable(str(folder))} lacks {', '.join(missing)}; give a folder that save_pretrained wrote"
        )
    _refuse_damage(files[CONFIG], config_damage(files[CONFIG]))
    config = raw_config(files[CONFIG])
    for name in SEALED:
        _refuse_damage(files[name], seal_damage(files[name], config))
    if not config.get("evaluation"):
        raise ArgumentError(
            f"folder {str(folder)!r} has no evaluation in its {CONFIG}; "
            "measure it with `emuloss evaluate --save` first"
        )
    card = _text_of(files[CARD])
    return files | {path.name: path for path in sorted(folder.glob("*.png")) if f"({path.name})" in card}


def _text_of(path: Path) -> str:
    """What a text file says."""
    try:
        return read_bounded(path, LARGEST[path.name]).decode("utf-8")
    except UnicodeDecodeError as error:
        raise CorruptedError(
            f"{printable(str(path))} is not text in UTF-8; write the checkpoint again"
        ) from error


def _refuse_damage(path: Path, problem: str) -> None:
    """Refuse a file that has a problem."""
    if problem:
        raise CorruptedError(f"{printable(str(path))} {problem}; write the checkpoint again")


def _plan(place: Place, files: dict[str, Path], *, private: bool, create_pr: bool, tag: str | None) -> str:
    """What would be sent, and where, for people to read."""
    facts = ["private if new" if private else "public if new"]
    facts += ["as a pull request"] * create_pr + [f"tag {tag}"] * (tag is not None)
    lines = [f"{place} at {place.endpoint} ({', '.join(facts)})"]
    width = max(len(name) for name in files)
    lines += [f"  {name:{width}} {path.stat().st_size:>12,} bytes" for name, path in files.items()]
    return "\n".join(lines)


def _prepared(place: Place, *, branch: str | None, private: bool, tag: str | None) -> Listing:
    """What the repository holds before the commit; it and the branch are made where they are missing.

    Raises:
        ConflictError: the tag exists.
        ArgumentError: it is public, and should be private.
    """
    api = place.api
    # Who may not make it may still write there, which older clients do not find out by themselves.
    if not bounded(place, 0, api.repo_exists, place.repo):
        bounded(place, 0, api.create_repo, place.repo, private=private, exist_ok=True)
    if branch is not None:
        bounded(place, 0, api.create_branch, place.repo, branch=branch, exist_ok=True)
    if tag is not None:
        refs = bounded(place, 0, api.list_repo_refs, place.repo)
        if tag in {known.name for known in refs.tags}:
            raise ConflictError(f"{place}: tag {tag!r} exists at {place.url}; choose another one")
    listing = listing_of(place)
    if private and not listing.private:
        raise ArgumentError(f"{place} is public; leave `private` out, or make it private at {place.url}")
    return listing


def _published_card(place: Place, listing: Listing) -> str:
    """The README.md that stands in the repository; empty where there is none."""
    if CARD not in listing.sizes:
        return ""
    return content_of(place, CARD, listing.commit, listing.sizes[CARD]).decode("utf-8", errors="replace")
