"""Scoring ensembles of a file by the exact metric of a surrogate, and writing down what was found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ..datasets.sources.stored import SUFFIXES, open_arrays
from ..errors import DataError
from ..evaluation import EnsembleScores
from ..foundation.arguments import as_array, known_names
from ..foundation.files import disk_errors, write_together

_NEEDED = ("members", "observed")


def read_ensembles(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The arrays "members" (N, M, H, W) and "observed" (N, H, W) of a file.

    Args:
        path: a file of NumPy (.npz), HDF5, NetCDF or Zarr.

    Raises:
        DataError: no such file, one of another kind, or without these arrays.
    """
    if not path.exists() or path.suffix.lower() not in set(SUFFIXES) - {".npy"}:
        raise DataError(f"{path} is no file of arrays, one that ends in {', '.join(SUFFIXES[1:])}")
    with open_arrays(path) as arrays:
        if missing := [name for name in _NEEDED if name not in arrays]:
            raise DataError(
                f"{path} must hold arrays named members (N, M, H, W) and observed (N, H, W), got no "
                f"{missing[0]!r} among {known_names(missing[0], arrays)}"
            )
        members, observed = (as_array(name, arrays[name].array) for name in _NEEDED)
        return members, observed


def write_scores(
    folder: Path, found: EnsembleScores, members: np.ndarray, observed: np.ndarray, unit: str
) -> None:
    """Write ensembles.json and ensembles.png into a folder, which is made if missing.

    Raises:
        DataError: the disk is full, or cannot be written.
    """
    from ..evaluation import write_ensembles  # what draws is slow to import

    with disk_errors(folder / "ensembles.json"):
        write_together(folder, {"ensembles.json": json.dumps(found.as_dict(), indent=2).encode()})
    write_ensembles(folder / "ensembles.png", found, members, observed, unit=unit)
