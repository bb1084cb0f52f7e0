"""What every metric declares and offers."""

from __future__ import annotations

import abc
import functools
from typing import Any, ClassVar

import numpy as np

from ..errors import ArgumentError
from .constraints import FRAME, Constraint


class Metric(abc.ABC):
    """An exact, non-differentiable functional of a 2-D field: the teacher of a surrogate.

    A subclass sets the attributes below in `__init__` and computes curves in `_compute`.

    Attributes:
        name: name under which `emuloss.metric` builds it.
        arity: 1 for a functional of one field, 2 for one of (prediction, observation).
        outputs: names of the C outputs.
        units: unit of each output ("1" for a pure number).
        thresholds: the Q thresholds, in the field's unit, strictly increasing.
        levels: Q strictly increasing coordinates of the threshold axis over which distances
            between curves are integrated (quantile levels, where thresholds are quantiles).
        pixel_size: edge length of a pixel, in the unit of length that `units` uses.
        invariant: whether turning and mirroring a field leaves its curves as they are, so that
            training may do so without labelling anew.
        constraints: what exact curves obey; see `emuloss.metrics.constraints`.
    """

    name: ClassVar[str]
    arity: ClassVar[int] = 1
    invariant: ClassVar[bool] = False
    outputs: tuple[str, ...]
    units: tuple[str, ...]
    thresholds: tuple[float, ...]
    levels: tuple[float, ...]
    pixel_size: float
    constraints: tuple[Constraint, ...]

    @abc.abstractmethod
    def arguments(self) -> dict[str, Any]:
        """The JSON-able keyword arguments that build this metric again."""

    @abc.abstractmethod
    def _compute(self, fields: np.ndarray) -> np.ndarray:
        """Curves (N, C, Q) of validated fields (N, H, W)."""

    def config(self) -> dict[str, Any]:
        """The whole definition, JSON-able: `emuloss.metric(name, **arguments)` builds it again."""
        return {"name": self.name, "arguments": self.arguments()}

    def __call__(self, fields: np.ndarray) -> np.ndarray:
        """Exact curves of a batch of fields.

        Args:
            fields: (N, H, W), numeric; NaN marks pixels that were not measured.

        Returns:
            Curves (N, C, Q), float64, in `units`.

        Raises:
            ArgumentError: fields is not a numeric array of three dimensions with H, W >= 1.
        """
        fields = np.asarray(fields)
        if fields.ndim != 3 or 0 in fields.shape[1:]:
            raise ArgumentError(
                f"fields must have shape (N, H, W) with H, W >= 1, got {fields.shape}; "
                "pass one field as field[None]"
            )
        if fields.dtype.kind not in "fiub":
            raise ArgumentError(f"fields must be real numbers, got dtype {fields.dtype}")
        return self._compute(fields)

    def named(self, curves: np.ndarray, field_shape: tuple[int, int] | None = None) -> dict[str, Any]:
        """Curves (N, C, Q) by output name, each (N, Q); with a field shape (H, W), the frame too."""
        by_name: dict[str, Any] = {name: curves[:, c] for c, name in enumerate(self.outputs)}
        if field_shape is not None:
            by_name[FRAME] = float(field_shape[0] * field_shape[1]) * self.pixel_size**2
        return by_name

    def check(self, curves: np.ndarray, field_shape: tuple[int, int] | None = None) -> dict[str, float]:
        """Share of (field, threshold) pairs that break each declared constraint.

        Args:
            curves: (N, C, Q), in `units`.
            field_shape: (H, W); needed by bounds on the size of the field, which are left out
                without it.

        Returns:
            {label of the constraint: share in [0, 1]}, in order of declaration. Exact curves
            give 0 everywhere.

        Raises:
            ArgumentError: curves has another shape.
        """
        curves = np.asarray(curves, np.float64)
        expected = (len(self.outputs), len(self.thresholds))
        if curves.ndim != 3 or curves.shape[1:] != expected:
            raise ArgumentError(
                f"curves must have shape (N, {expected[0]}, {expected[1]}), got {curves.shape}"
            )
        by_name = self.named(curves, field_shape)
        return {
            c.label: float(c.violated(by_name).mean()) if len(curves) else 0.0
            for c in self.constraints
            if set(c.of) <= by_name.keys()
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Metric) and self.config() == other.config()

    def __hash__(self) -> int:
        return hash(repr(self.config()))

    def __reduce__(self) -> tuple[Any, ...]:
        # Constraints hold functions, which do not pickle: the arguments say everything.
        return functools.partial(type(self), **self.arguments()), ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.arguments().items())})"
