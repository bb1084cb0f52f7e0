"""The labelled store, as it is read: fields and their exact curves in one HDF5 file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ...errors import DataError, EmulossError
from ...foundation.arguments import as_choice
from ...foundation.files import first_line
from ...foundation.hdf5 import open_hdf5
from ..sources.source import ROLES
from .job import PREDICTIONS
from .sealed import check_seal

FORMAT = "emuloss labelled fields"
"""What a store says that it is."""
FORMAT_VERSION = 1
NAMED = 100
"""Most files that a store names of those that were left out."""
TIME = "datetime64[ms]"
"""Type of the times of fields, which are kept as numbers since 1970 (UTC)."""


class LabelledFields:
    """Reader of a labelled store.

    Attributes:
        path: The file.
        definition: What decides the content: the configurations of metric and source, and the roles of
            chunks.
        outputs: Names of the metric's outputs.
        units: Units of the outputs.
        thresholds: The metric's thresholds, in `unit`; empty for a metric without thresholds.
        unit: Physical unit of the fields.
        pixel_size: Side of a pixel.
        quantum: Step that the fields are multiples of, or None.
        field_shape: Shape (H, W) of a field.
        pairs: Whether the metric compares two fields.
        violations: Share of the labels that break each declared constraint of the metric: all are 0.
        package_version: Version of emuloss that labelled the fields.
        skipped_files: Number of files that were left out, for they did not fit or could not be read.
        skipped: Names of these files, in order; of the first 100 of them.
    """

    def __init__(self, path: str | Path) -> None:
        """Open a store, see that it is undamaged, and read what it says about itself.

        Args:
            path: File that `label` wrote.

        Raises:
            DataError: If the file is missing, damaged, not a labelled store, or of an unknown version.
        """
        self.path = Path(path)
        with self._open(check=True) as file:
            if file.attrs.get("format") != FORMAT:
                raise DataError(
                    f"{self.path} is not a labelled store; write one with `emuloss.datasets.label`."
                )
            found = int(file.attrs["format_version"])
            if found != FORMAT_VERSION:
                raise DataError(
                    f"{self.path} has format version {found}, and this emuloss reads {FORMAT_VERSION}; "
                    "label the fields again or use the version of emuloss that wrote it."
                )
            about = json.loads(file.attrs["about"])
            self.definition: dict[str, Any] = dict(json.loads(file["definition"].asstr()[()]))
            self._roles = np.asarray(file["split"][()])
            self.pairs: bool = PREDICTIONS in file
            self.outputs: tuple[str, ...] = tuple(about["outputs"])
            self.thresholds: tuple[float, ...] = tuple(about["thresholds"])
            self.units: tuple[str, ...] = tuple(about["units"])
            self.unit: str = about["unit"]
            self.pixel_size: float = about["pixel_size"]
            self.quantum: float | None = about["quantum"]
            self.violations: dict[str, float] = about["violations"]
            self.package_version: str = about["package_version"]
            self.skipped_files: int = int(file.attrs.get("skipped", 0))
            self.skipped: tuple[str, ...] = _names_in(file)
            number, height, width = file["fields"].shape
            if not number == len(self._roles) == len(file["curves"]) == len(file.get("time", self._roles)):
                raise ValueError("it has not one role, one curve and one time for each field")
        self.field_shape: tuple[int, int] = (height, width)

    def __len__(self) -> int:
        return len(self._roles)

    @property
    def metric_config(self) -> dict[str, Any]:
        """Configuration of the metric: its name and arguments."""
        return self.definition["metric"]

    @property
    def source_config(self) -> dict[str, Any]:
        """Configuration of the source of the fields."""
        return self.definition["source"]

    @property
    def counts(self) -> dict[str, int]:
        """Number of fields in each split."""
        return {role: int((self._roles == i).sum()) for i, role in enumerate(ROLES) if role != "unused"}

    def split(self, name: str) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Read the fields and curves of a split into memory.

        Args:
            name: "train", "validation" or "test".

        Returns:
            Fields (n, H, W), float32, in `unit`, and curves (n, C, Q), float64, in the metric's units. Where
            the metric compares two fields, these are pairs (n, 2, H, W): prediction and observation.

        Raises:
            ArgumentError: If there is no such split.
            DataError: If the file cannot be read.
        """
        as_choice("name", name, self.counts)
        with self._open() as file:
            chosen = self._roles == ROLES.index(name)
            return self._fields(file, chosen), _rows(file["curves"], chosen)

    def times(self, name: str) -> NDArray[np.datetime64] | None:
        """Times (n,) of the fields of a split, UTC; None where the source did not tell them.

        Where a chunk of the source holds several frames, this is the time of the first of them.

        Args:
            name: "train", "validation" or "test".

        Raises:
            ArgumentError: If there is no such split.
            DataError: If the file cannot be read.
        """
        as_choice("name", name, self.counts)
        with self._open() as file:
            if "time" not in file:
                return None
            return file["time"][()][self._roles == ROLES.index(name)].astype(TIME)

    def first(self, count: int) -> NDArray[np.float32]:
        """The first fields (n, H, W), or pairs (n, 2, H, W), of all splits; n is count, or all there are.

        Raises:
            DataError: If the file cannot be read.
        """
        with self._open() as file:
            return self._fields(file, np.arange(len(self)) < count)

    def curves(self) -> NDArray[np.float64]:
        """The curves (n, C, Q) of the fields of all splits.

        Raises:
            DataError: If the file cannot be read.
        """
        with self._open() as file:
            return file["curves"][()]

    def constant_outputs(self) -> tuple[str, ...]:
        """Outputs whose curve is the same for all fields: nothing can be learnt of them.

        Raises:
            DataError: If the file cannot be read.
        """
        curves = self.curves()
        varies = (curves != curves[:1]).any(axis=(0, 2))
        return tuple(name for name, moves in zip(self.outputs, varies, strict=True) if not moves)

    def _fields(self, file: h5py.File, chosen: NDArray[np.bool_]) -> NDArray[np.float32]:
        """The chosen fields (n, H, W), or pairs (n, 2, H, W)."""
        fields = _rows(file["fields"], chosen)
        return np.stack([_rows(file[PREDICTIONS], chosen), fields], axis=1) if self.pairs else fields

    @contextmanager
    def _open(self, *, check: bool = False) -> Iterator[h5py.File]:
        """Open the file for reading, and turn whatever h5py raises inside the block into a DataError."""
        if not os.path.isfile(self.path):
            raise DataError(
                f"{self.path} is not a file; write a labelled store with `emuloss.datasets.label`."
            )
        try:
            if check:
                with self.path.open("rb") as content:
                    check_seal(content)
            with open_hdf5(self.path) as file:
                yield file
        except EmulossError:
            raise
        except Exception as error:  # of a damaged file h5py makes errors of any kind
            if isinstance(error, OSError) and error.errno:
                raise DataError(
                    f"{self.path} cannot be read ({first_line(error)}); check the disk and its rights."
                ) from error
            raise DataError(
                f"{self.path} is damaged, truncated or not a labelled store ({first_line(error)}); "
                "label the fields again."
            ) from error


def _names_in(file: h5py.File) -> tuple[str, ...]:
    """Names of the files that were left out."""
    return tuple(map(str, json.loads(file["skipped"].asstr()[()]))) if "skipped" in file else ()


def _rows(dataset: h5py.Dataset, chosen: NDArray[np.bool_]) -> NDArray[Any]:
    """The chosen rows of a dataset, read run by run."""
    rows = np.empty((int(chosen.sum()), *dataset.shape[1:]), dataset.dtype)
    start = 0
    for first, last in _runs(chosen):
        stop = start + last - first
        if stop > start:
            dataset.read_direct(rows, np.s_[first:last], np.s_[start:stop])
        start = stop
    return rows


def _runs(chosen: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and one past the last index of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], chosen, [False])).astype(np.int8)))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]
