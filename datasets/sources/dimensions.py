"""Which dimensions of an xarray array times, members, rows and columns lie along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import ArgumentError
from ...foundation.arguments import as_name, shown
from ...foundation.dimensions import column_among, may_be_time, row_among
from ...foundation.near import did_you_mean
from .archive import MisfitError
from .grids import Coordinate
from .stored import coordinate_of

_FEW = 8
"""Coordinates that messages list."""

Choice = str | float


@dataclass(frozen=True)
class Wanted:
    """What is asked for of the dimensions of an array.

    Attributes:
        time: The dimension of times; None finds it.
        rows: That of rows; None finds it.
        columns: That of columns; None finds it.
        select: The coordinate, or where there is none the position, to take of further dimensions.
        members: Further dimensions of which all are taken, as more fields of the same time.
    """

    time: str | None = None
    rows: str | None = None
    columns: str | None = None
    select: tuple[tuple[str, Choice], ...] = ()
    members: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        time: str | None = None,
        rows: str | None = None,
        columns: str | None = None,
        select: Mapping[str, Choice] | str | None = None,
        members: Sequence[str] | str | None = None,
    ) -> Wanted:
        """Validate what is asked for; `select` may be a text "number=0,level=850", `members` "number,level".

        Raises:
            ArgumentError: An argument is out of range.
        """
        several = members.split(",") if isinstance(members, str) else members or ()
        return cls(
            None if time is None else as_name("time", time, "time"),
            None if rows is None else as_name("rows", rows, "y"),
            None if columns is None else as_name("columns", columns, "x"),
            select=_as_choices(select),
            members=tuple(as_name("members", each, "number").strip() for each in several),
        )

    def described(self) -> dict[str, Any]:
        """What is asked for, JSON-able."""
        told = {
            "time": self.time,
            "rows": self.rows,
            "columns": self.columns,
            "select": dict(self.select),
            "members": list(self.members),
        }
        return {name: each for name, each in told.items() if each}


@dataclass(frozen=True)
class Layout:
    """Which dimensions of an array are what.

    Attributes:
        rows: The dimension of rows.
        columns: That of columns.
        time: That of times; None where there is one time.
        members: Those of which all are taken.
        fixed: Position on each of the others.
    """

    rows: str
    columns: str
    time: str | None
    members: tuple[str, ...]
    fixed: tuple[tuple[str, int], ...]

    @property
    def order(self) -> tuple[str, ...]:
        """The dimensions of the frames of one time."""
        return (*self.members, self.rows, self.columns)

    def at(self, array: Any, index: int | slice) -> Any:
        """The frames (..., H, W) of an array at one time, or (T, ..., H, W) at several; reads nothing."""
        where = {**dict(self.fixed), **({self.time: index} if self.time else {})}
        taken = array.isel({name: each for name, each in where.items() if name in array.dims})
        return taken.transpose(*(name for name in (self.time, *self.order) if name in taken.dims))


def layout_of(array: Any, wanted: Wanted, sole_is_time: bool = False) -> Layout:
    """Find out which dimensions of a DataArray are what.

    Rows and columns are told by CF's attributes or by common names; else they are the last two dimensions.
    Other dimensions of length 1 are left out.

    Args:
        array: The array.
        wanted: What is asked for.
        sole_is_time: Whether one further dimension is that of times, whatever it is called.

    Raises:
        MisfitError: A dimension that is asked for is missing, or one remains of which nothing is known.
    """
    names = [str(name) for name in array.dims]
    named = [each for each in (wanted.time, wanted.rows, wanted.columns, *wanted.members) if each]
    for name in named:
        if name not in names and (name in (wanted.rows, wanted.columns) or name not in array.coords):
            raise MisfitError(
                f"{array.name} has no dimension {name!r}, but {', '.join(names)}{did_you_mean(name, names)}"
            )
    fixed = {
        name: position
        for name, choice in wanted.select
        if (position := _position(array, name, choice)) is not None
    }
    rows, columns = _sides(array, wanted, [name for name in names if name not in fixed and name not in named])
    rest = [name for name in names if name not in (rows, columns, *fixed)]
    members = tuple(name for name in wanted.members if name in rest)
    time = _time_of(array, wanted, [name for name in rest if name not in members], sole_is_time)
    for name in rest:
        if name not in (time, *members):
            if array.sizes[name] > 1:
                raise MisfitError(_unknown(array, name, time, (rows, columns)))
            fixed[name] = 0
    return Layout(rows, columns, time, members, tuple(fixed.items()))


def coordinates(array: Any, layout: Layout) -> list[Coordinate | None]:
    """Where rows and columns lie, as far as that is told."""
    return [coordinate_of(array, name) for name in (layout.rows, layout.columns)]


def _as_choices(select: Any) -> tuple[tuple[str, Choice], ...]:
    """What to take of which dimension, of a mapping or of a text."""
    if not select:
        return ()
    pairs: Any = select.items() if isinstance(select, Mapping) else None
    if isinstance(select, str):
        pairs = [each.split("=") for each in select.split(",")]
    if pairs is None or any(len(pair) != 2 for pair in pairs):
        raise ArgumentError(f"select (={shown(select)}) must be like 'number=0,level=850'")
    return tuple((str(name).strip(), _as_choice(choice)) for name, choice in pairs)


def _as_choice(choice: Any) -> Choice:
    """A coordinate: a number, or a text that is none."""
    try:
        return float(choice)
    except (TypeError, ValueError):
        return str(choice).strip()


def _position(array: Any, name: str, choice: Choice) -> int | None:
    """The position of a coordinate on a dimension; None where the array has it and nothing else."""
    if name not in array.dims and name not in array.coords:
        raise MisfitError(f"{array.name} has no dimension {name!r} to select of, but {', '.join(array.dims)}")
    if name in array.coords:
        values = np.atleast_1d(array.coords[name].values)
        numbers = values.dtype.kind in "iuf" and not isinstance(choice, str)
        same = np.isclose(values, choice, rtol=1e-6) if numbers else values.astype(str) == str(choice)
        if not same.any():
            known = ", ".join(map(str, values[:_FEW].tolist())) + (" ..." if len(values) > _FEW else "")
            raise MisfitError(f"{array.name}: {name} is never {_text(choice)}, but {known}")
        return int(np.argmax(same)) if name in array.dims else None
    size = array.sizes[name]
    if isinstance(choice, str) or choice % 1 or not 0 <= choice < size:
        raise MisfitError(f"{array.name}: {name} has positions 0 to {size - 1}, not {_text(choice)}")
    return int(choice)


def _text(choice: Choice) -> str:
    return choice if isinstance(choice, str) else f"{choice:g}"


def _sides(array: Any, wanted: Wanted, free: Sequence[str]) -> tuple[str, str]:
    """The dimensions of rows and columns."""
    long = [name for name in free if array.sizes[name] > 1]
    guesses = [name for name in (long if len(long) > 1 else free) if not may_be_time(array, name)][-2:]
    rows = wanted.rows or row_among(array, free)
    columns = wanted.columns or column_among(array, free)
    if rows and columns and not (wanted.rows or wanted.columns) and guesses == [columns, rows]:
        return columns, rows  # the two last ones are left in their order
    rows = rows or next((name for name in guesses if name != columns), None)
    columns = columns or next((name for name in reversed(guesses) if name != rows), None)
    if rows is None or columns is None or rows == columns:
        raise MisfitError(f"{array.name} has no rows and columns, but {', '.join(array.dims)}")
    return rows, columns


def _time_of(array: Any, wanted: Wanted, rest: Sequence[str], sole_is_time: bool) -> str | None:
    """The dimension of times."""
    if wanted.time:
        return wanted.time if wanted.time in rest else None
    long = [name for name in rest if array.sizes[name] > 1]
    told = [name for name in long if may_be_time(array, name)]
    if len(told) == 1:
        return told[0]
    if len(long) == 1 and sole_is_time:
        return long[0]
    return next((name for name in rest if not long and may_be_time(array, name)), None)


def _unknown(array: Any, name: str, time: str | None, sides: tuple[str, str]) -> str:
    """What to do about a dimension of which nothing is known."""
    remedies = [f"select='{name}={_first(array, name)}' takes one", f"members='{name}' all as more fields"]
    if time is None:
        remedies.append(f"time='{name}' as times")
    taken = f"rows are taken to be {sides[0]}, columns {sides[1]}"
    return f"{array.name} has the dimension {name} ({array.sizes[name]}): {', '.join(remedies)}; {taken}"


def _first(array: Any, name: str) -> str:
    """The first coordinate of a dimension, or position."""
    return str(array.coords[name].values.tolist()[0]) if name in array.coords else "0"
