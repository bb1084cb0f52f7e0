"""Metrics that are Python functions of the user's own."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from ..errors import ArgumentError, FieldError
from ..foundation.arguments import (
    as_flag,
    as_increasing,
    as_levels,
    as_pixel_size,
    as_positives,
    as_real,
    known_names,
    shown,
)
from .declared import as_bounds, as_directions, as_finite, as_names, as_units, constraints_of
from .found import NAMED, PASSED, Found, digest_of, failure, find, found_of, is_spec, parameters_of
from .metric import Metric, build
from .probed import as_numbers, first_of, implied, name_in


class FunctionMetric(Metric):
    r"""A metric that is a Python function, which `emuloss.metric("file.py:function")` names.

    The function takes one field (H, W), as an array of its own that it may change, or a prediction and an
    observation where `arity` is 2; where it is `batched`, a batch of them (N, H, W). It gives for each field
    finite numbers: one; one for each output, (C,); one for each level of the only output, (Q,); or (C, Q).
    NaN in a field marks pixels that were not measured. Parameters of the function that are called
    `thresholds` or `pixel_size` are given those of the metric.

    A metric that is built from a configuration, such as a checkpoint's, imports nothing. It can be called
    once the user has named the same function to `emuloss.metric` in this process; of two files of one name,
    the one named last counts.

    Args:
        source: place of the function: "module:function" or "file.py:function".
        outputs: names of the C outputs.
        units: their units; default: "1".
        levels: the Q coordinates of the curves' axis; default: evenly spaced, one a threshold, or a single
            one.
        thresholds: the Q thresholds, where the curves run over thresholds.
        pixel_size: edge length of a pixel.
        arity: 1 for a function of a field, 2 for one of prediction and observation.
        batched: whether the function takes batches; default of `emuloss.metric`: its attribute `batched`.
        bounds: {output: (low, high)} that hold for all fields, either of them None; or triples
            (output, low, high).
        monotone: {output: "non-increasing" or "non-decreasing"} along the levels; or pairs.
        invariant: whether turning and mirroring the fields changes nothing.
        symmetric: of a pairwise function, whether swapping its arguments changes nothing.
        identity: of a pairwise function, its value m(x, x), in every output; None where it depends.
        lower_better: of a pairwise function, whether smaller is better.
        scales: positive size of each output below which differences count linearly; default: 1.

    Raises:
        ArgumentError: any argument out of range; when called, a function that was not named to
            `emuloss.metric`.
        FieldError: when called: the function raises, or gives no numbers, numbers that are not finite, or
            another shape.
    """

    name = "function"
    parallel = "processes"
    slow = True
    probes_fields = True
    source: str
    batched: bool

    def __init__(
        self,
        source: str,
        outputs: Sequence[str],
        units: Sequence[str] | None = None,
        levels: Sequence[float] | None = None,
        thresholds: Sequence[float] | None = None,
        pixel_size: float = 1.0,
        arity: int = 1,
        batched: bool = False,
        bounds: Mapping[str, Sequence[float | None]] | Iterable[Sequence[Any]] = (),
        monotone: Mapping[str, str] | Iterable[Sequence[str]] = (),
        invariant: bool = False,
        symmetric: bool = False,
        identity: float | None = None,
        lower_better: bool | None = None,
        scales: Sequence[float] | None = None,
    ) -> None:
        if not isinstance(source, str) or not is_spec(source):
            raise ArgumentError(f"source must be 'module:function' or 'file.py:function', got {source!r}")
        self.source = source
        self.outputs = as_names("outputs", outputs)
        self.units = ("1",) * len(self.outputs) if units is None else as_units(units, len(self.outputs))
        self.thresholds = () if thresholds is None else as_increasing("thresholds", thresholds)
        if self.thresholds:
            self.levels = as_levels(levels, self.thresholds)
        else:
            self.levels = (0.5,) if levels is None else as_increasing("levels", levels)
        self.pixel_size = as_pixel_size(pixel_size)
        if as_real(arity) not in (1, 2):
            raise ArgumentError(
                f"arity must be 1 (a field) or 2 (prediction and observation), got {shown(arity)}"
            )
        self.arity = int(arity)
        self.batched = as_flag("batched", batched)
        self.invariant = as_flag("invariant", invariant)
        self.symmetric = as_flag("symmetric", symmetric)
        self.identity = as_finite("identity", identity)
        self.lower_better = None if lower_better is None else as_flag("lower_better", lower_better)
        if arity == 1 and (symmetric or identity is not None or lower_better is not None):
            raise ArgumentError("symmetric, identity and lower_better are for functions of arity 2")
        self._bounds = as_bounds(bounds, self.outputs)
        self._monotone = as_directions(monotone, self.outputs)
        self.constraints = constraints_of(self._monotone, self._bounds)
        if scales is not None:
            self.scales = as_positives("scales", scales)
            if len(self.scales) != len(self.outputs):
                raise ArgumentError(
                    f"scales must match the {len(self.outputs)} outputs one by one, got {len(self.scales)}"
                )
        self._scaled = scales is not None
        self._found: Found | None = None

    @property
    def located(self) -> bool:
        """Unless turning and mirroring change nothing: who knows what the function looks at."""
        return not self.invariant

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments that build this metric again, in lists, as a checkpoint holds them."""
        given: dict[str, Any] = {
            "source": self.source,
            "outputs": list(self.outputs),
            "units": list(self.units),
            "levels": list(self.levels),
            "pixel_size": self.pixel_size,
            "arity": self.arity,
            "batched": self.batched,
            "bounds": [list(bound) for bound in self._bounds],
            "monotone": [list(pair) for pair in self._monotone],
            "invariant": self.invariant,
            "symmetric": self.symmetric,
            "identity": self.identity,
            "lower_better": self.lower_better,
        }
        if self.thresholds:
            given["thresholds"] = list(self.thresholds)
        if self._scaled:
            given["scales"] = list(self.scales)
        return given

    def deciding(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """What the values depend on: the function, what it is given, and the shape of what it gives."""
        names = ("source", "arity", "batched", *parameters_of(self._function(), PASSED))
        shape = [len(arguments["outputs"]), len(arguments["levels"])]
        return {name: arguments.get(name) for name in names} | {"shape": shape}

    def with_arguments(self, **changes: Any) -> FunctionMetric:
        """The same function with some other arguments."""
        return build(FunctionMetric, self.arguments() | changes)._of(self._found)

    def with_found_scales(self, find: Callable[[], Sequence[float]]) -> FunctionMetric:
        """This metric with scales that `find` gives, or as it is where it was built with scales."""
        return self if self._scaled else self.with_arguments(scales=find())

    def _of(self, found: Found | None) -> FunctionMetric:
        """This metric, of a function that was found."""
        self._found = found
        if found is not None and not found.location:  # no other process can import it
            self.parallel = "threads"
        return self

    @property
    def title(self) -> str:
        """The place of the function."""
        return self.source

    @property
    def module(self) -> ModuleType | None:
        """The module in which the function stands.

        Raises:
            ArgumentError: the function is not loaded.
        """
        return inspect.getmodule(self._function())

    @property
    def code(self) -> str:
        """Digest of the file in which the function stands; labels made by other code are others.

        Raises:
            ArgumentError: the function is not loaded.
        """
        return digest_of(self._known())

    def _compute(self, *fields: np.ndarray) -> np.ndarray:
        function = self._function()
        given = {name: getattr(self, name) for name in parameters_of(function, PASSED)}

        def call(*arrays: np.ndarray, index: int) -> Any:
            try:
                return function(*(np.array(each) for each in arrays), **given)
            except Exception as error:
                raise FieldError(index, failure(self._known(), self.arity, error)) from error

        number = len(fields[0])
        curves = np.empty((number, len(self.outputs), len(self.levels)))
        if self.batched and number:
            results = self._batch(call, fields)
        else:
            results = (call(*(each[n] for each in fields), index=n) for n in range(number))
        for n, result in enumerate(results):
            curves[n] = self._as_curves(result, n)
        return curves

    def _batch(self, call: Callable[..., Any], fields: Sequence[np.ndarray]) -> Iterable[Any]:
        """Results of a batch, one a field; where the function raises, the field that makes it do so."""
        number = len(fields[0])
        try:
            results = call(*fields, index=0)
        except FieldError as error:
            for n in range(number if number > 1 else 0):
                call(*(each[n : n + 1] for each in fields), index=n)
            whole = f"{error.reason} (of the batch of {number} fields; not of any of them alone)"
            raise FieldError(0, whole if number > 1 else error.reason) from error
        try:
            shape = np.shape(results)
        except ValueError:  # of one shape each, which is told of the first that differs
            shape = (len(results),)
        if shape[:1] != (number,):
            raise FieldError(0, f"{self.source} is batched and gave shape {shape} for {number} fields")
        return results

    def _as_curves(self, result: Any, index: int) -> np.ndarray:
        """The function's result (C, Q) for one field."""
        values = as_numbers(result, self.source, index)
        shape = count, points = len(self.outputs), len(self.levels)
        fitting = [shape, *([(count,)] if points == 1 else []), *([(points,)] if count == 1 else [])]
        if values.shape not in (fitting if values.ndim or count * points > 1 else [()]):
            raise FieldError(
                index,
                f"{self.source} gave shape {values.shape}, where {count} x {points} values (outputs x "
                "levels) are declared, or were given for the first field; let it give one shape for every "
                "field, or give outputs= and levels= that fit",
            )
        return values.reshape(shape)

    def _function(self) -> Callable[..., Any]:
        return self._known().function

    def _known(self) -> Found:
        found = self._found or NAMED.get(self.source)
        if found is None:
            remedy = f"name it first: emuloss.metric({self.source!r}), on the command line by --metric"
            if self.source.startswith("__main__:"):
                remedy = "define it here and name it: emuloss.metric(function)"
            raise ArgumentError(
                f"the function {self.source!r} is not loaded, for a configuration never chooses code to run; "
                f"if you trust it, {remedy}"
            )
        return found

    def __eq__(self, other: object) -> bool:
        """Whether both are the same metric of the same function, as far as their functions are loaded."""
        if not isinstance(other, FunctionMetric) or self.config() != other.config():
            return False
        ours, theirs = self._found, other._found
        return ours is None or theirs is None or ours.function is theirs.function

    __hash__ = Metric.__hash__

    def __reduce__(self) -> tuple[Any, ...]:
        found = self._found or NAMED.get(self.source)
        if found is not None and not found.location:
            raise pickle.PicklingError(f"the function {self.source!r} cannot be imported elsewhere")
        return _rebuilt, (self.arguments(), None if found is None else found.location)

    def __deepcopy__(self, memo: dict[int, Any]) -> FunctionMetric:
        return self  # nothing in it changes, and its function need not be importable once more


def from_spec(spec: str, arguments: dict[str, Any], fields: np.ndarray | None = None) -> FunctionMetric:
    """The metric of the function at a place, which is imported and from now on known in this process.

    Args:
        spec: "module:function" or "path/file.py:function".
        arguments: of `FunctionMetric`, without source; `outputs` default to one, called after the function.
        fields: (N, H, W), or a field (H, W): where outputs or levels are not given, the function is called on
            the first of them.

    Raises:
        ArgumentError: no such module, file or function, or an unusable argument.
        FieldError: the function fails on one of the first fields.
    """
    return _metric_of(find(spec), arguments, fields)


def from_function(
    function: Callable[..., Any], arguments: dict[str, Any], fields: np.ndarray | None = None
) -> FunctionMetric:
    """The metric of a function itself; see `from_spec`.

    One that other processes cannot import, such as a notebook's, is called in this process alone.
    """
    return _metric_of(found_of(function), arguments, fields)


def _metric_of(found: Found, arguments: dict[str, Any], fields: np.ndarray | None) -> FunctionMetric:
    NAMED[found.source] = found
    known = [name for name in inspect.signature(FunctionMetric).parameters if name != "source"]
    if unknown := sorted(arguments.keys() - known):
        raise ArgumentError(
            f"metric {found.source!r} has no argument {unknown[0]!r}; "
            f"it takes {known_names(unknown[0], known)}"
        )
    given = {"batched": bool(getattr(found.function, "batched", False)), **arguments}
    probing = fields is not None and not {"outputs", "levels"} <= given.keys()
    if probing:
        called = {
            name: given[name] for name in ("thresholds", "pixel_size", "arity", "batched") if name in given
        }
        asked = FunctionMetric(found.source, (name_in(found.source),), **called)
        given = implied(found, asked, asked.batched, given, fields)
    given.setdefault("outputs", (name_in(found.source),))
    metric = FunctionMetric(found.source, **given)._of(found)
    if probing:
        metric(*first_of(fields, metric.arity))  # tells now what labelling would meet later
    return metric


def _rebuilt(arguments: dict[str, Any], location: str | None) -> FunctionMetric:
    """A metric in another process, which has it from the user's own."""
    return FunctionMetric(**arguments)._of(None if location is None else find(location))
