"""Where ODIM-HDF5 files keep a quantity, and what its numbers mean.

Format: Michelson et al., "EUMETNET OPERA weather radar information model for implementation with the HDF5
file format", version 2.x. A file holds groups /datasetN/dataM; gain, offset, nodata, undetect and quantity
stand in a `what` group beside the data, or in that of the data set, or at the root, and the nearest one
counts. Writers differ in case and in the types of attributes, leave markers out that they do not need, and
round the size of a pixel.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ...errors import DataError
from ...foundation.arguments import shown
from ...foundation.attributes import number_of, text_of
from ...foundation.files import first_line
from ...foundation.hdf5 import open_hdf5
from .archive import SAME_SIZE, MisfitError

_POLAR = ("PVOL", "SCAN", "RAY", "AZIM", "ELEV", "ETOP")


@dataclass(frozen=True)
class Layout:
    """Where a file keeps the asked quantity, and how to turn its numbers into values.

    Attributes:
        dataset: Path within the file.
        shape: (rows, columns).
        gain: Value of one, less that of 0.
        offset: Value of the number 0.
        nodata: Number where no radar measured; None if there is none, as of `undetect`.
        undetect: Number where there was no echo.
        pixel_size: Side of a pixel in km.
        time: Nominal time, UTC; None where it is not told.
        hours: How long an accumulation was; None of other quantities.
    """

    dataset: str
    shape: tuple[int, int]
    gain: float
    offset: float
    nodata: float | None
    undetect: float | None
    pixel_size: float
    time: np.datetime64 | None
    hours: float | None


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open a file for reading, and turn what h5py raises inside the block into a DataError."""
    try:
        with open_hdf5(path) as file:
            yield file
    except (OSError, RuntimeError, KeyError) as error:  # h5py reports damage as any of these
        raise DataError(
            f"{path}: not a readable HDF5 file, truncated or of another format ({first_line(error)})."
        ) from error


def read_layout(path: Path, quantity: str) -> Layout:
    """Where a file keeps a quantity, and what its numbers mean.

    Raises:
        MisfitError: it is not an ODIM composite, lacks the quantity or the time that it was accumulated in,
            or its pixels are not square.
        DataError: it is damaged.
    """
    with opened(path) as file:
        data = _find_dataset(file, path, quantity)
        shape = tuple(n for n in data.shape if n > 1) if data.ndim > 2 else data.shape
        name = str(data.name).lstrip("/")
        if len(shape) != 2 or data.dtype.kind not in "iuf":
            raise MisfitError(
                f"{path}: /{name} has shape {data.shape} and type {data.dtype}; expected a 2-D grid."
            )
        places = (data.parent, data.parent.parent, file)
        held = {group: _Attributes((data, *_holders(places, group))) for group in ("what", "where")}
        what = held["what"]

        def number(group: str, *keys: str) -> float | None:
            for key in keys:
                value = held[group][key]
                if value is not None and number_of(value) is None:
                    raise DataError(f"{path}: attribute {group}/{key} (={shown(value)}) is not a number.")
                if value is not None:
                    return number_of(value)
            return None

        gain, undetect = number("what", "gain"), number("what", "undetect")
        nodata = number("what", "nodata", "_FillValue", "missing_value")
        if nodata is None and data.dtype.kind == "u":
            greatest = float(np.iinfo(data.dtype).max)  # which nearly every writer takes
            nodata = None if undetect == greatest else greatest
        return Layout(
            dataset=name,
            shape=(int(shape[0]), int(shape[1])),
            gain=1.0 if gain is None else gain,
            offset=number("what", "offset") or 0.0,
            nodata=nodata,
            undetect=undetect,
            pixel_size=_pixel_size(path, file, number("where", "xscale"), number("where", "yscale")),
            time=_time_of(_Attributes(_holders((file,), "what")), what),
            hours=_hours_of(path, what) if quantity == "ACRR" else None,
        )


def _pixel_size(path: Path, file: h5py.File, width: float | None, height: float | None) -> float:
    """Side of a square pixel in km, from those in m.

    Raises:
        MisfitError: they are missing, or differ.
    """
    if width is None or height is None:
        kind = text_of(_Attributes(_holders((file,), "what"))["object"]).upper()
        what = f"it holds a polar {kind}; make a composite of it" if kind in _POLAR else "add it"
        missing = "xscale" if width is None else "yscale"
        raise MisfitError(f"{path}: not an ODIM composite, attribute where/{missing} is missing; {what}.")
    if not math.isclose(abs(width), abs(height), rel_tol=SAME_SIZE) or not width:
        raise MisfitError(
            f"{path}: pixels of {abs(width) / 1000:g} by {abs(height) / 1000:g} km are not square; "
            "regrid the file."
        )
    return abs(width) / 1000


def _find_dataset(file: h5py.File, path: Path, quantity: str) -> h5py.Dataset:
    """The first /datasetN/dataM/data that holds the quantity.

    Raises:
        MisfitError: there is none.
    """
    seen = set()
    for dataset in _numbered(file, "dataset"):
        for data in _numbered(dataset, "data"):
            grid = _member(data, "data")
            if not isinstance(grid, h5py.Dataset):
                continue
            what = _Attributes((grid, *_holders((data, dataset, file), "what")))
            found = text_of(what["quantity"]).upper()
            if found == quantity:
                return grid
            seen.add(found or "unnamed")
    if not seen:
        raise MisfitError(f"{path}: not an ODIM file, group /dataset1/data1 is missing.")
    raise MisfitError(
        f"{path}: no data set of quantity {quantity!r}; the file holds {', '.join(sorted(seen))}; "
        "choose one by `quantity`."
    )


def _numbered(group: h5py.Group, prefix: str) -> list[h5py.Group]:
    """Subgroups prefix1, prefix2, ... in order of their numbers."""
    names = [name for name in group if re.fullmatch(rf"{prefix}\d+", name.casefold())]
    groups = (group[name] for name in sorted(names, key=lambda name: int(name[len(prefix) :])))
    return [member for member in groups if isinstance(member, h5py.Group)]


def _member(group: h5py.Group, name: str) -> Any:
    """A member of a group by its name, in upper or lower case; None if it has none."""
    return next((group[each] for each in group if each.casefold() == name), None)


def _holders(places: Sequence[h5py.Group], name: str) -> Iterator[h5py.HLObject]:
    """What may hold attributes of a group of this name, the nearest first: it in a place, or the place."""
    for place in places:
        subgroup = _member(place, name)
        if subgroup is not None:
            yield subgroup
        yield place


class _Attributes:
    """Attributes by their names, in upper or lower case, of the first of several holders that has each."""

    def __init__(self, holders: Iterable[h5py.HLObject]) -> None:
        self._held: dict[str, tuple[h5py.AttributeManager, str]] = {}
        for each in holders:
            attributes = each.attrs
            for key in attributes:
                self._held.setdefault(key.casefold(), (attributes, key))

    def __getitem__(self, key: str) -> Any:
        """The value, None where no holder has it."""
        attributes, spelled = self._held.get(key.casefold(), ({}, ""))
        return attributes.get(spelled)


def _time_of(root: _Attributes, what: _Attributes) -> np.datetime64 | None:
    """Nominal time, or the start of the data; None leaves it to the names of files."""
    nominal = _moment(root, "date", "time")
    return _moment(what, "startdate", "starttime") if nominal is None else nominal


def _hours_of(path: Path, what: _Attributes) -> float:
    """How long the data were accumulated, in hours.

    Raises:
        MisfitError: the file does not tell.
    """
    start, end = _moment(what, "startdate", "starttime"), _moment(what, "enddate", "endtime")
    if start is None or end is None or not start < end:
        raise MisfitError(
            f"{path}: it does not tell when its accumulation starts and ends (what/startdate, starttime, "
            "enddate, endtime), so that no rate follows; add them."
        )
    return float((end - start) / np.timedelta64(1, "h"))


def _moment(what: _Attributes, date: str, time: str) -> np.datetime64 | None:
    """The time that two attributes tell, YYYYMMDD and hhmmss, of which the seconds may be missing."""
    told = [text_of(what[key]) for key in (date, time)]
    if not all(told):
        return None
    try:
        return np.datetime64(datetime.strptime("".join(told).ljust(14, "0"), "%Y%m%d%H%M%S"), "s")
    except ValueError:  # text of another kind
        return None
