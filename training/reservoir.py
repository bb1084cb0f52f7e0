"""A bounded memory of labelled fields: the newest ones, to learn from again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..errors import ArgumentError
from ..foundation.arguments import as_count

_PIXELS = 2**24
"""Pixels that are held at most, 64 MiB, in memory and in the state;"""
_FEWEST = 4
"""but so many fields, however large: what is kept of one way of a descent."""
_ALONE = -1
"""Way of fields that are on none."""


class Drawn(NamedTuple):
    """Fields that were drawn from a reservoir.

    Attributes:
        fields: (N, H, W), or pairs (N, 2, H, W), float32.
        curves: (N, C, Q), float32, exact.
        neighbours: (P, 2), positions among the N of fields that follow one another on a way, the earlier one
            first; no position is in two of them.
    """

    fields: Tensor
    curves: Tensor
    neighbours: Tensor


class Reservoir:
    """Holds the newest labelled fields, and knows which follow one another on the way of a descent.

    All are of one shape: fields of another begin anew, since a model that goes over to larger crops is not
    asked about the small ones any more.

    What is drawn depends on what was added, in which order, and on the random numbers alone: a reservoir that
    goes on from a state draws as the other one would have.

    Args:
        capacity: number of fields that it holds at most; of more, the newest stay. Of large ones it holds
            fewer, 16.8 million pixels in all, but at least four.

    Raises:
        ArgumentError: a capacity below 1.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = as_count("capacity", capacity)
        self._fields = torch.empty(0)
        self._curves = torch.empty(0)
        self._ways = torch.empty(0, dtype=torch.int64)
        self._room = capacity
        self._added = 0
        self._begun = 0

    def __len__(self) -> int:
        return min(self._added, self._room)

    def add(
        self, fields: ArrayLike | Tensor, curves: ArrayLike | Tensor, ways: ArrayLike | None = None
    ) -> None:
        """Take in labelled fields, in place of the oldest ones where there is no room.

        Args:
            fields: (N, H, W), or pairs (N, 2, H, W); where their shape, or that of the curves, is another
                than before, what is held goes.
            curves: (N, C, Q), exact.
            ways: (N,) whole numbers, 0 or more: entries in a row that have the same one lie on one way, in
                order. Numbers mean nothing beyond this call. Default: no field is on a way.

        Raises:
            ArgumentError: arrays of other dimensions, or of different length.
        """
        taken, labels = _on_the_cpu(fields), _on_the_cpu(curves)
        number = len(taken)
        numbers = np.full(number, _ALONE) if ways is None else np.asarray(ways, np.int64)
        _check(taken, labels, numbers)
        marks = torch.from_numpy(np.where(numbers < 0, _ALONE, numbers + self._begun))
        self._begun += int(numbers.max(initial=_ALONE)) + 1
        if (taken.shape[1:], labels.shape[1:]) != (self._fields.shape[1:], self._curves.shape[1:]):
            pixels = max(1, math.prod(taken.shape[1:]))
            self._room = min(self.capacity, max(_FEWEST, _PIXELS // pixels))
            self._fields = taken.new_empty((self._room, *taken.shape[1:]))
            self._curves = labels.new_empty((self._room, *labels.shape[1:]))
            self._ways = torch.full((self._room,), _ALONE)
            self._added = 0
        kept = slice(max(0, number - self._room), None)
        slots = torch.arange(self._added, self._added + number)[kept] % self._room
        self._fields[slots], self._curves[slots], self._ways[slots] = taken[kept], labels[kept], marks[kept]
        self._added += number

    def draw(self, number: int, rng: np.random.Generator) -> Drawn:
        """Draw labelled fields at random, with replacement: neighbours, where there are any.

        Args:
            number: of fields.
            rng: source of randomness.

        Raises:
            ArgumentError: nothing has been added yet.
        """
        if not len(self):
            raise ArgumentError("an empty reservoir has no fields to draw; add some first")
        ages = self._by_age()
        ways = self._ways[ages].numpy()
        earlier = np.flatnonzero((ways[1:] == ways[:-1]) & (ways[1:] != _ALONE))
        pairs = number // 2 if len(earlier) else 0
        first = earlier[rng.integers(len(earlier), size=pairs)] if pairs else np.empty(0, np.int64)
        alone = rng.integers(len(ages), size=number - 2 * pairs)
        chosen = ages[np.concatenate([np.stack([first, first + 1], axis=1).reshape(-1), alone])]
        return Drawn(self._fields[chosen], self._curves[chosen], torch.arange(2 * pairs).reshape(pairs, 2))

    def state_dict(self) -> dict[str, Any]:
        """All that it holds, the oldest fields first, as new tensors."""
        ages = self._by_age()
        return {
            "fields": self._fields[ages],
            "curves": self._curves[ages],
            "ways": self._ways[ages],
            "begun": self._begun,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Hold what a reservoir held whose state it is; the newest of it, where it had more room.

        Raises:
            ValueError: it is no such state.
        """
        fields, curves, ways, begun = (state[name] for name in ("fields", "curves", "ways", "begun"))
        if not all(isinstance(tensor, Tensor) for tensor in (fields, curves, ways)) or type(begun) is not int:
            raise ValueError("its reservoir holds no tensors")
        other = Reservoir(self.capacity)
        try:
            if len(fields):
                other.add(fields, curves, ways.cpu().numpy())
        except ArgumentError as error:
            raise ValueError(f"of its reservoir {error}") from error
        if int(other._begun) > begun:
            raise ValueError(f"its reservoir has begun {begun} ways")
        other._begun = begun
        vars(self).update(vars(other))

    def _by_age(self) -> NDArray[np.int64]:
        """The places of what it holds, the oldest first."""
        return np.arange(self._added - len(self), self._added) % self._room


def _check(fields: Tensor, curves: Tensor, ways: NDArray[np.int64]) -> None:
    """Raise ArgumentError unless these are fields, curves and ways, as many of each."""
    if not (fields.ndim in (3, 4) and curves.ndim == 3 and len(fields) == len(curves) == ways.size):
        raise ArgumentError(
            f"fields (N, H, W) need as many curves (N, C, Q) and ways (N,), got {tuple(fields.shape)}, "
            f"{tuple(curves.shape)} and {ways.shape}"
        )


def _on_the_cpu(values: ArrayLike | Tensor) -> Tensor:
    """Single precision, on the CPU, without gradient."""
    tensor = values.detach() if isinstance(values, Tensor) else torch.from_numpy(np.asarray(values))
    return tensor.to("cpu", torch.float32)
