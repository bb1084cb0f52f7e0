"""What the exact values of a metric obey, declared once.

A metric lists its constraints; labels are checked against them, output heads are built from
them, and surrogates are measured against them. A bound is a function of other outputs written
with operators and the methods that NumPy arrays and torch tensors share (`**`, `clip`), so that
one declaration serves both. What relates the curves of one pair of fields to those of another
(`Symmetric`, `AtIdentity`) no head can hold: the emulator of a pairwise metric does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

FRAME = "frame"
"""Name under which a bound asks for the area of the whole field, in the metric's area unit."""

Curves = Mapping[str, Any]
"""Curves by output name, each (N, Q), and `FRAME`, broadcastable to (N, Q)."""
PairCurves = Callable[[Any, Any], Any]
"""Maps predictions and observations (N, H, W) onto curves (N, C, Q)."""


def _exceeds(low: Any, high: Any) -> np.ndarray:
    """Where low > high by more than rounding explains; NaN counts as an excess. Shape (N, Q)."""
    low, high = np.broadcast_arrays(low, high)
    slack = 1e-6 * np.maximum(1.0, np.maximum(np.abs(low), np.abs(high)))
    return ~(low <= high + slack)


def _differ(one: Any, other: Any) -> np.ndarray:
    """Where two values differ by more than rounding explains."""
    return _exceeds(one, other) | _exceeds(other, one)


@dataclass(frozen=True)
class NonIncreasing:
    """The output does not grow from one threshold to the next."""

    output: str

    of: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """How tables name this constraint."""
        return f"{self.output} non-increasing"

    def violated(self, curves: Curves) -> np.ndarray:
        """Booleans (N, Q): where the value at a threshold exceeds the one before it."""
        values = np.asarray(curves[self.output])
        result = np.zeros(values.shape, bool)
        result[:, 1:] = _exceeds(values[:, 1:], values[:, :-1])
        return result


@dataclass(frozen=True)
class NonDecreasing:
    """The output does not fall from one threshold to the next."""

    output: str

    of: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """How tables name this constraint."""
        return f"{self.output} non-decreasing"

    def violated(self, curves: Curves) -> np.ndarray:
        """Booleans (N, Q): where the value at a threshold is below the one before it."""
        values = np.asarray(curves[self.output])
        result = np.zeros(values.shape, bool)
        result[:, 1:] = _exceeds(values[:, :-1], values[:, 1:])
        return result


@dataclass(frozen=True)
class AtLeast:
    """The output is at least `bound(*others)`, the outputs named in `of`."""

    output: str
    label: str
    bound: Callable[..., Any]
    of: tuple[str, ...] = ()

    def violated(self, curves: Curves) -> np.ndarray:
        """Booleans (N, Q): where the output is below its bound."""
        return _exceeds(self.bound(*(curves[name] for name in self.of)), curves[self.output])


@dataclass(frozen=True)
class AtMost:
    """The output is at most `bound(*others)`, the outputs named in `of`."""

    output: str
    label: str
    bound: Callable[..., Any]
    of: tuple[str, ...] = ()

    def violated(self, curves: Curves) -> np.ndarray:
        """Booleans (N, Q): where the output is above its bound."""
        return _exceeds(curves[self.output], self.bound(*(curves[name] for name in self.of)))


@dataclass(frozen=True)
class Identity:
    """The output equals `function(*others)`, the outputs named in `of`."""

    output: str
    label: str
    function: Callable[..., Any]
    of: tuple[str, ...] = ()

    def violated(self, curves: Curves) -> np.ndarray:
        """Booleans (N, Q): where the two sides differ."""
        return _differ(curves[self.output], self.function(*(curves[name] for name in self.of)))


Constraint = NonIncreasing | NonDecreasing | AtLeast | AtMost | Identity


@dataclass(frozen=True)
class Symmetric:
    """Swapping prediction and observation changes nothing."""

    label: str = "symmetric"

    def violated(self, compute: PairCurves, predictions: Any, observations: Any) -> np.ndarray:
        """Booleans (N, C, Q): where the curves of the two orders differ."""
        return _differ(compute(predictions, observations), compute(observations, predictions))


@dataclass(frozen=True)
class AtIdentity:
    """A field and itself have this value, in every output and at every level."""

    value: float

    @property
    def label(self) -> str:
        """How tables name this constraint."""
        return f"m(x, x) = {self.value:g}"

    def violated(self, compute: PairCurves, predictions: Any, observations: Any) -> np.ndarray:
        """Booleans (2N, C, Q): where predictions, then observations, with themselves have another value."""
        found = np.concatenate([compute(fields, fields) for fields in (predictions, observations)])
        return _differ(found, self.value)


PairConstraint = Symmetric | AtIdentity


def applicable(constraints: tuple[Constraint, ...], outputs: tuple[str, ...]) -> tuple[Constraint, ...]:
    """The constraints that speak of these outputs alone (and of the frame)."""
    known = {*outputs, FRAME}
    return tuple(c for c in constraints if {c.output, *c.of} <= known)
