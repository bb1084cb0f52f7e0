"""What every metric declares and offers."""

from __future__ import annotations

import abc
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, ClassVar, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError
from ..foundation.arguments import as_array, as_shape, known_names
from ..foundation.rules import Rule, increasing_numbers
from ..foundation.xarrays import is_data_array, refuse_dataset
from .constraints import FRAME, AtIdentity, Constraint, PairConstraint, Symmetric
from .fields import as_arrays
from .found import CLASSES, class_at, digest_of
from .labelled import labelled

M = TypeVar("M", bound="Metric")


class Metric(abc.ABC):
    """An exact, non-differentiable functional of one or two 2-D fields: the teacher of a surrogate.

    A subclass sets the attributes below in `__init__`, keeps each of its arguments under the argument's own
    name (or overrides `arguments`), and computes curves in `_compute`.

    Attributes:
        name: name under which `emuloss.metric` builds it.
        arity: 1 for a functional of one field, 2 for one of (prediction, observation).
        outputs: names of the C outputs.
        units: unit of each output ("1" for a pure number).
        thresholds: the Q thresholds, in the field's unit, strictly increasing; empty where the curves
            run over something else, or the metric is a number.
        levels: Q strictly increasing coordinates of the curves' axis over which distances between
            curves are integrated (quantile levels, where thresholds are quantiles).
        pixel_size: edge length of a pixel, in the unit of length that `units` uses.
        scales: a positive size of each output, in its unit: distances between curves are taken on the
            scale of sign(x) log(1 + |x/size|), linear well below it and logarithmic well above; 1 each,
            unless a subclass sets others.
        invariant: whether turning and mirroring the fields leaves the curves as they are, so that
            training may do so without labelling anew.
        located: whether values depend on where in the field things lie, so that a network had better be told.
        rows: how many rows its fields must have, if it knows of each where it lies; None: any number.
        lower_better: of a pairwise metric, whether smaller values mean a better prediction; None for a
            metric of one field, which is neither good nor bad.
        symmetric: of a pairwise metric, whether swapping prediction and observation changes nothing.
        negative_type: of a symmetric pairwise metric, whether its values are distances of negative type, such
            as the size of the difference of two numbers, each computed from one field: ensembles then have a
            kernel score by it.
        identity: of a pairwise metric, its value for a field and itself, in every output and at every
            level; None where that depends on the field or on the output.
        best: of a pairwise metric whose outputs have different values for a field and itself: that of each
            output by name; empty where `identity` says it, or where it is not known.
        parallel: how labels are made at once: "threads": the metric brings its own, or has none, and is
            called in the calling process; "processes": it is plain Python, and is called in worker processes.
        slow: whether labels are too dear to be made anew in every training step: those of plain Python are,
            unless a subclass says otherwise.
        probes_fields: whether outputs and levels that are not given are found by calling it on some fields.
        starts_at_median: whether training starts from the median label; otherwise from the values that the
            output heads give when they are at rest, which suits counts and areas that span decades.
        guarantees: what output heads may be asked to hold: what is "declared", nothing ("free"), and others.
        describing: arguments that say what the values mean, such as the name of a unit, and decide none of
            them: labels outlast a change of these.
        argument_rules: rules by argument for those that the memory and time of building and asking the
            metric grow with; what a foreign configuration gives for them is checked before it is built.
        constraints: what exact curves obey; see `emuloss.metrics.constraints`.
    """

    name: ClassVar[str]
    arity: int = 1
    invariant: bool = False
    parallel: str = "threads"
    probes_fields: ClassVar[bool] = False
    starts_at_median: ClassVar[bool] = True
    guarantees: ClassVar[tuple[str, ...]] = ("declared", "free")
    describing: ClassVar[tuple[str, ...]] = ()
    argument_rules: ClassVar[Mapping[str, Rule]] = {
        "thresholds": increasing_numbers,
        "levels": increasing_numbers,
    }
    rows: int | None = None
    lower_better: bool | None = None
    symmetric: bool = False
    negative_type: bool = False
    identity: float | None = None
    best: ClassVar[Mapping[str, float]] = {}
    outputs: tuple[str, ...]
    units: tuple[str, ...]
    thresholds: tuple[float, ...]
    levels: tuple[float, ...]
    pixel_size: float
    constraints: tuple[Constraint, ...]

    @property
    def located(self) -> bool:
        """Whether values depend on where in the field things lie; see above."""
        return False

    @property
    def slow(self) -> bool:
        """Whether labels are too dear for every training step; see above."""
        return self.parallel == "processes"

    @functools.cached_property
    def scales(self) -> tuple[float, ...]:
        """Sizes of the outputs; see above."""
        return (1.0,) * len(self.outputs)

    def arguments(self) -> dict[str, Any]:
        """The JSON-able keyword arguments that build this metric again."""
        found = {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}

    def deciding(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """What of the arguments of a metric of this kind its values depend on, JSON-able."""
        return {name: value for name, value in arguments.items() if name not in self.describing}

    @abc.abstractmethod
    def _compute(self, *args: Any, **kwargs: Any) -> np.ndarray:
        """Curves (N, C, Q) of validated fields (N, H, W), as many of them as the arity says."""

    def config(self) -> dict[str, Any]:
        """The whole definition, JSON-able: `emuloss.metric(name, **arguments)` builds it again."""
        return {"name": self.name, "arguments": self.arguments()}

    def with_arguments(self: M, **changes: Any) -> M:
        """The metric of this kind with some other arguments, such as thresholds.

        Raises:
            ArgumentError: an argument that this kind of metric does not take, or that is out of range.
        """
        return build(type(self), self.arguments() | changes)

    def with_found_scales(self: M, find: Callable[[], Sequence[float]]) -> M:
        """This metric with `scales` that `find` gives, if it wants any that are found in labels."""
        return self

    @property
    def title(self) -> str:
        """What messages call this metric."""
        return self.name

    @property
    def code(self) -> str:
        """Digest of code that may change while the definition stays; empty for the metrics of a package."""
        found = CLASSES.get(type(self))
        return "" if found is None else digest_of(found)

    @property
    def module(self) -> ModuleType | None:
        """The module that holds this code; None where there is no such code."""
        return inspect.getmodule(type(self)) if type(self) in CLASSES else None

    def guaranteed(self, guarantee: str) -> tuple[Constraint, ...]:
        """What output heads hold that are asked for one of `guarantees`."""
        return self.constraints if guarantee == "declared" else ()

    def frame(self, field_shape: Sequence[int]) -> float:
        """Area of a field of shape (..., H, W), in the square of the pixel size's unit."""
        return float(field_shape[-2] * field_shape[-1]) * self.pixel_size**2

    def parts(self, batch: Any) -> tuple[Any, ...]:
        """What a call takes of an array or tensor: fields (N, H, W), or both of pairs (N, 2, H, W)."""
        return (batch,) if self.arity == 1 else (batch[:, 0], batch[:, 1])

    @overload
    def __call__(self, *fields: np.ndarray) -> NDArray[np.float64]: ...

    @overload
    def __call__(self, *fields: Any) -> Any: ...

    def __call__(self, *fields: Any) -> Any:
        """Exact curves of a batch of fields, or of pairs of fields.

        Args:
            *fields: one array (N, H, W) or (N, 1, H, W), or predictions and observations where `arity` is 2;
                real numbers, of which NaN marks pixels that were not measured, as does the mask of a masked
                array. What NumPy takes for an array will do, such as a tensor on the CPU without gradient.
                Or `xarray.DataArray`s, whose last two dimensions are those of a field.

        Returns:
            Curves (N, C, Q), float64, in `units`. Of DataArrays one that keeps their other dimensions, with
            "output" and "threshold" behind them ("level", where a metric has no thresholds), and the units
            beside the outputs. Of dask arrays it is computed when it is asked for, chunk by chunk; fields
            in several chunks are joined.

        Raises:
            ArgumentError: another number of arrays, or no arrays of real numbers of such shapes, with
                H, W >= 1, or of different ones.
        """
        for each in fields:
            refuse_dataset(each)
        if any(is_data_array(each) for each in fields):
            unit = next(each.attrs.get("units", "") for each in fields if is_data_array(each))
            return labelled(self.title, self.arity, fields, self, self._axes(unit), self.units)
        return self._compute(*as_arrays(self.title, self.arity, fields))

    def _axes(self, unit: str) -> dict[str, Any]:
        """Coordinates of the two dimensions of curves, as xarray takes them; unit: of the fields."""
        along = ("threshold", self.thresholds) if self.thresholds else ("level", self.levels)
        attributes = {"units": unit} if unit and self.thresholds else {}
        return {
            "output": ("output", list(self.outputs)),
            along[0]: (along[0], list(along[1]), attributes),
        }

    def named(self, curves: np.ndarray, field_shape: tuple[int, int] | None = None) -> dict[str, Any]:
        """Curves (N, C, Q) by output name, each (N, Q); with a field shape (H, W), the frame too."""
        by_name: dict[str, Any] = {name: curves[:, c] for c, name in enumerate(self.outputs)}
        if field_shape is not None:
            by_name[FRAME] = self.frame(field_shape)
        return by_name

    def stacked(self, curves: Mapping[str, Any]) -> np.ndarray:
        """Curves (N, C, Q), float64, of curves (N, Q) by output name."""
        return np.stack([curves[name] for name in self.outputs], axis=1).astype(np.float64)

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
            ArgumentError: curves are no numbers or have another shape, or a field shape that is none.
        """
        curves = as_array("curves", curves).astype(np.float64, copy=False)
        if field_shape is not None:
            field_shape = as_shape("field_shape", field_shape)
        expected = (len(self.outputs), len(self.levels))
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

    @property
    def pair_constraints(self) -> tuple[PairConstraint, ...]:
        """What the exact curves of a pairwise metric obey from one pair of fields to another."""
        declared: list[PairConstraint] = [Symmetric()] if self.symmetric else []
        if self.identity is not None:
            declared.append(AtIdentity(self.identity))
        return tuple(declared)

    def check_pairs(
        self,
        predictions: np.ndarray,
        observations: np.ndarray,
        compute: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
    ) -> dict[str, float]:
        """Share of the values that break each declared constraint between pairs of fields.

        Args:
            predictions: as in a call.
            observations: likewise.
            compute: what is checked: maps both onto curves (N, C, Q); this metric by default.

        Returns:
            {label of the constraint: share in [0, 1]}; empty for a metric of one field.

        Raises:
            ArgumentError: no arrays of such shapes.
        """
        measured = compute or self
        predictions, observations = as_arrays(self.title, 2, (predictions, observations))
        return {
            c.label: float(c.violated(measured, predictions, observations).mean())
            if len(predictions)
            else 0.0
            for c in self.pair_constraints
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Metric) and self.config() == other.config()

    def __hash__(self) -> int:
        return hash(repr(self.config()))

    def __reduce__(self) -> tuple[Any, ...]:
        # Constraints hold functions, which do not pickle: the arguments say everything.
        found = CLASSES.get(type(self))
        if found is not None:
            return _rebuilt, (found.location, self.arguments())
        return functools.partial(type(self), **self.arguments()), ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.arguments().items())})"


def build(cls: type[M], arguments: Mapping[str, Any]) -> M:
    """A metric of a class.

    Raises:
        ArgumentError: an unknown, missing or unusable argument.
    """
    parameters = inspect.signature(cls).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if unknown := [name for name in arguments if name not in parameters and not takes_any]:
        raise ArgumentError(
            f"metric {cls.name!r} got an unexpected keyword argument {unknown[0]!r}; "
            f"it takes {known_names(unknown[0], parameters)}"
        )
    try:
        inspect.signature(cls).bind(**arguments)
    except TypeError as error:
        raise ArgumentError(f"metric {cls.name!r}: {error}; it takes {', '.join(parameters)}") from None
    return cls(**arguments)


def _rebuilt(place: str, arguments: Mapping[str, Any]) -> Metric:
    """A metric in another process, whose class stands in a file."""
    return build(class_at(place), arguments)
