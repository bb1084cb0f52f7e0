"""Whether a launcher started this process as one of several, told without connecting them."""

from __future__ import annotations

import os

_VARIABLES = (
    ("RANK", "WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
)
"""Variables in which launchers of several processes tell each its index, and how many there are."""


def first_of_several() -> bool:
    """Whether this process has the word: of several that a launcher started, the first one alone.

    Only a command whose processes work together may go by it: others that are started side by side, such as
    one `emuloss label` for each part of an archive, know nothing of one another.
    """
    return not any(
        os.environ.get(rank, "0") != "0" and os.environ.get(size, "1") != "1" for rank, size in _VARIABLES
    )
