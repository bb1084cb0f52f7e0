"""The exceptions that users of emuloss meet: one line each, naming what is wrong and what to do."""


class EmulossError(Exception):
    """Base of every error that emuloss raises on purpose."""


class ArgumentError(EmulossError, ValueError):
    """An argument is not usable; the message names it, its value and the remedy."""


class DataError(EmulossError):
    """A file or a data set cannot be used; the message names it and the remedy."""


class CheckpointError(EmulossError):
    """A frozen surrogate cannot be read or written; the message names the file and the remedy."""
