"""What losses and scores share: a frozen surrogate, a distance, and what is weighed and how."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from ..emulators.differentiable import Differentiable, device_of
from ..emulators.distances import DISTANCES, Distance, default_distance
from ..emulators.embedded import Embedded
from ..emulators.exact import Teacher
from ..emulators.relaxations.relaxation import COLD, HOT, geometric
from ..emulators.straight_through import straight_through
from ..errors import ArgumentError
from ..foundation.arguments import as_choice, as_flag
from ..metrics import Metric
from .inputs import MISSING
from .ranges import RangeWatch
from .shapes import Layout

_SIDES = ("surrogate", "exact")
_REDUCTIONS = ("mean", "sum", "none")
_EXTRA = "_extra_state"
"""As torch names in a state dict what is no tensor."""


class Comparison(Embedded):
    """Compares predictions with targets by a frozen surrogate; arguments as in `SurrogateLoss`."""

    output_weights: Tensor
    layout: Layout

    @torch.inference_mode(False)
    def __init__(
        self,
        surrogate: Differentiable,
        *,
        distance: str | Distance | type[Distance] | None,
        forward: str,
        reference: str | None,
        reduction: str,
        weights: Mapping[str, float] | None,
        missing: str,
        in_state_dict: bool,
    ) -> None:
        super().__init__()
        metric = surrogate.metric
        if reference is not None:
            check_single(metric)
        as_choice("forward", forward, _SIDES)
        reference = as_choice("reference", forward if reference is None else reference, _SIDES)
        self.reduction = as_choice("reduction", reduction, _REDUCTIONS)
        self.missing = as_choice("missing", missing, MISSING)
        self.surrogate, self.metric, self.teacher = surrogate, metric, Teacher(metric)
        self.exact_forward = forward == "exact"
        self.exact_reference = reference == "exact" and metric.arity == 1
        self.distance = _distance_of(metric, distance)
        values = _output_weights(metric, weights)
        if self.distance.averaged:
            if not values.any():
                raise ArgumentError(f"weights must leave one output in the loss, got {weights!r}")
            values = values / values.sum()
        self.register_buffer("output_weights", values, persistent=False)
        self.watch = RangeWatch(surrogate)
        self.to(device_of(surrogate))  # it begins where its surrogate is
        if not as_flag("in_state_dict", in_state_dict):
            self.register_state_dict_post_hook(_leave_out)
            self.register_load_state_dict_pre_hook(_fill_in)

    def anneal(self, progress: float, start: float = HOT, end: float = COLD) -> None:
        """Set the temperature of a relaxed surrogate for a moment of the training.

        A hot relaxation has a gradient far from the thresholds, which the first predictions of a network
        need, a cold one is close to the exact metric. Call it before each step, or each epoch, but not
        between a loss and its `backward()`: its tables change in place, for compiled and captured steps to
        see. They are as large throughout as the coldest temperature asks: on a CPU a step with 210 thresholds
        costs 1.4 times as much towards an end of 0.01, and twice towards 0.005.

        Args:
            progress: share of the training that is done, in [0, 1].
            start: relative temperature at the start.
            end: relative temperature at the end; between, it falls geometrically.

        Raises:
            ArgumentError: a surrogate without temperature, or temperatures that are not positive.
        """
        if self.surrogate.relaxation is None:
            raise ArgumentError(
                f"the surrogate of metric {self.metric.name!r} has no temperature to anneal; leave anneal out"
            )
        if not (is_weight(start) and is_weight(end) and start > 0 and end > 0):
            raise ArgumentError(f"start and end must be positive temperatures, got {start!r} and {end!r}")
        self.surrogate.relaxation.reserve(min(start, end))
        self.surrogate.relaxation.temperature = geometric(start, end, progress)

    @property
    def _counts_predictions(self) -> bool:
        """Whether exact curves of predictions have to be found beside the surrogate's."""
        return self.exact_forward and not self.surrogate.exact

    def _both(self, fields: Tensor, counted: Tensor) -> tuple[Tensor, Tensor | None]:
        """Curves of what the surrogate takes: the surrogate's, and exact ones where these are what counts."""
        curves = self.surrogate(fields)
        return curves, self.teacher(counted).to(curves) if self._counts_predictions else None

    def _weighed(self, distances: Tensor) -> Tensor:
        """Distances (N,) of distances by output (N, C)."""
        # No product with a vector, whose last bits may change with a field's place in the batch.
        return (distances * self.output_weights.to(distances.dtype)).sum(1)

    def _told(self) -> dict[str, str]:
        """What `print` shows, by name."""
        weights = zip(self.metric.outputs, self.output_weights.tolist(), strict=True)
        lines = {}
        if self.metric.arity == 1:
            reference = "exact" if self.exact_reference else "surrogate"
            forward = "exact" if self.exact_forward else "surrogate"
            lines["curves"] = f"{forward} of predictions, {reference} of targets"
        lines["weights"] = ", ".join(f"{name} {weight:g}" for name, weight in weights)
        return lines | {"reduction": self.reduction, "missing": self.missing}

    def extra_repr(self) -> str:
        """What it measures, in a few lines."""
        return "\n".join(f"{name}: {value}" for name, value in self._told().items())


def through(curves: Tensor, exact: Tensor | None) -> Tensor:
    """Exact curves with the gradient of a surrogate's; the surrogate's where those do not count."""
    return curves if exact is None else straight_through(curves, exact)


def as_reference(target_curves: Tensor, curves: Tensor) -> Tensor:
    """Curves of targets that a caller gives, as those of predictions are.

    Raises:
        ArgumentError: they are of another shape.
    """
    if target_curves.shape != curves.shape:
        raise ArgumentError(
            f"target_curves must have shape {tuple(curves.shape)}, got {tuple(target_curves.shape)}"
        )
    return target_curves.detach().to(curves)


def check_single(metric: Metric) -> None:
    """Raise ArgumentError for a metric that compares two fields: it has no curves of a target."""
    if metric.arity == 2:
        raise ArgumentError(
            f"reference and trust are for metrics of one field; {metric.name!r} compares two; leave them out"
        )


def _distance_of(metric: Metric, distance: str | Distance | type[Distance] | None) -> Distance:
    """The distance that is asked for."""
    found: Any = default_distance(metric) if distance is None else distance
    if isinstance(found, str):
        found = DISTANCES[found]
    if isinstance(found, type) and issubclass(found, Distance):
        found = found.of(metric)
    if not isinstance(found, Distance):
        raise ArgumentError(f"distance must be a name or a Distance, got {type(found).__name__}")
    if found.arity != metric.arity:
        raise ArgumentError(
            f"{type(found).__name__} is for metrics of {found.arity} fields; "
            f"{metric.name!r} is of {metric.arity}"
        )
    return found


def _output_weights(metric: Metric, weights: Mapping[str, float] | None) -> Tensor:
    """Weights (C,) of the outputs, 1 where none is given."""
    weights = {} if weights is None else weights
    if not isinstance(weights, Mapping) or not set(weights) <= set(metric.outputs):
        raise ArgumentError(
            f"weights must be numbers by output among {', '.join(metric.outputs)}, got {weights!r}"
        )
    values = [weights.get(name, 1.0) for name in metric.outputs]
    if not all(is_weight(w) for w in values):
        raise ArgumentError(f"weights must be numbers >= 0, got {weights!r}")
    return torch.tensor(values, dtype=torch.float32)


def reduced(losses: Tensor, reduction: str) -> Tensor:
    """Losses (N,) as they are, their sum, or their mean."""
    if reduction == "none":
        return losses
    # The mean of no field would be NaN.
    return losses.mean() if reduction == "mean" and losses.shape[0] else losses.sum()


def _leave_out(comparison: Comparison, state: dict[str, Any], prefix: str, _: Any) -> None:
    """Drop the surrogate's weights from a state dict, and what a live loss goes on from."""
    for name in [name for name in state if name.startswith((f"{prefix}surrogate.", f"{prefix}{_EXTRA}"))]:
        del state[name]


def _fill_in(comparison: Comparison, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Put into a state dict that has none the surrogate's own weights, and what a live loss goes on from."""
    weights = f"{prefix}surrogate."
    if any(name.startswith(weights) for name in state):
        return
    state.update(comparison.surrogate.state_dict(prefix=weights))
    if type(comparison).get_extra_state is not nn.Module.get_extra_state:
        state[f"{prefix}{_EXTRA}"] = comparison.get_extra_state()


def is_weight(value: object) -> bool:
    """Whether a value is a finite number >= 0."""
    return isinstance(value, Real) and 0 <= float(value) < math.inf
