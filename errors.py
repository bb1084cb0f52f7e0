"""The exceptions that users of emuloss meet: one line each, naming what is wrong and what to do."""

from __future__ import annotations

import textwrap


class EmulossError(Exception):
    """Base of every error that emuloss raises on purpose."""


class ArgumentError(EmulossError, ValueError):
    """An argument is not usable; the message names it, its value and the remedy."""


class DataError(EmulossError):
    """A file or a data set cannot be used; the message names it and the remedy."""


class ClusterError(EmulossError):
    """A cluster cannot be reached, has no workers, or loses them; the message says which."""


class CheckpointError(EmulossError):
    """A frozen surrogate cannot be read or written; the message names the file and the remedy."""


class NotFoundError(CheckpointError):
    """A repository, a revision or a file does not exist on the Hub; the message says which."""


class AccessError(CheckpointError):
    """The Hub refuses access: a gated or private repository, or a token without the right."""


class OfflineError(CheckpointError):
    """A checkpoint is not in the cache, and the Hub may not be asked."""


class HubConnectionError(CheckpointError):
    """The Hub cannot be reached, answers with an error of its own, or stalls."""


class ConflictError(CheckpointError):
    """What is published stands in the way: the branch moved meanwhile, or the tag exists."""


class CorruptedError(CheckpointError):
    """A file is not the one that was published: its hash or its length differs."""


class IncompatibleError(CheckpointError):
    """A checkpoint is sound, but not for this version: unknown format, metric or architecture."""


class FieldError(DataError):
    """A metric cannot be taken of one field.

    Attributes:
        index: number of the field in the batch.
        reason: what is wrong, in one line.
    """

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(index, reason)
        self.index, self.reason = index, reason

    def __str__(self) -> str:
        return f"field {self.index}: {self.reason}"


def printable(text: str) -> str:
    """Text that every terminal takes as it is; "?" stands for what would steer it, or turn its direction."""
    return "".join(character if character.isprintable() else "?" for character in text)


def plain(text: object, longest: int = 300) -> str:
    """Foreign text as messages quote it: printable, in one line of bounded length."""
    return printable(textwrap.shorten(str(text)[:10_000], longest, placeholder=" ..."))


def one_line(error: BaseException) -> str:
    """An exception's type and message, in one line."""
    return printable(f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": "))
