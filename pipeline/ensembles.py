"""Scoring ensembles of a file by the exact metric of a surrogate, and writing down what was found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ..datasets.sources.packing import packing_of
from ..datasets.sources.stored import SUFFIXES, Stored, open_arrays, unit_of
from ..errors import DataError
from ..evaluation import EnsembleScores
from ..foundation.arguments import as_array, known_names
from ..foundation.files import disk_errors, write_together
from ..foundation.units import refuse_other_unit

_NEEDED = ("members", "observed")


def read_ensembles(path: Path, unit: str) -> tuple[np.ndarray, np.ndarray]:
    """The arrays "members" (N, M, H, W) and "observed" (N, H, W) of a file, float32, NaN where masked.

    Numbers that the file says are packed are unpacked, as those of `emuloss.datasets.Arrays` are.

    Args:
        path: a file of NumPy (.npz), HDF5, NetCDF or Zarr.
        unit: that the values are to have; another that the file tells is refused.

    Raises:
        ArgumentError: values in another unit, or what are no real numbers.
        DataError: no such file, one of another kind, without these arrays, or packed in a way that is not
            known.
    """
    if not path.exists() or path.suffix.lower() not in set(SUFFIXES) - {".npy"}:
        raise DataError(f"{path} is no file of arrays, one that ends in {', '.join(SUFFIXES[1:])}")
    with open_arrays(path) as arrays:
        if missing := [name for name in _NEEDED if name not in arrays]:
            raise DataError(
                f"{path} must hold arrays named members (N, M, H, W) and observed (N, H, W), got no "
                f"{missing[0]!r} among {known_names(missing[0], arrays)}"
            )
        members, observed = (_values(f"{path}, {name}", arrays[name], unit) for name in _NEEDED)
        return members, observed


def _values(what: str, stored: Stored, unit: str) -> np.ndarray:
    """What the numbers of an array mean, in the unit that is asked for."""
    refuse_other_unit(what, unit_of(stored), unit, "the surrogate")
    numbers = as_array(what, stored.array)
    packing = packing_of(stored.attributes, stored.array.dtype, what, around=stored.around)
    return packing.unpacked(numbers)


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
