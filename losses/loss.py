"""A frozen surrogate as a training loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from ..emulators.differentiable import (
    Differentiable,
    WidePrecision,
    device_of,
    exact_curves,
    straight_through,
)
from ..emulators.distances import DISTANCES, Distance, default_distance
from ..emulators.fields import stacked
from ..emulators.relaxations.relaxation import COLD, HOT, geometric
from ..errors import ArgumentError
from ..foundation.arguments import as_choice
from ..metrics import Metric

_SIDES = ("surrogate", "exact")
_REDUCTIONS = ("mean", "sum", "none")


class SurrogateLoss(WidePrecision):
    """How far a prediction is from its target by a surrogate: differentiable in the prediction.

    Of a metric of one field it is the distance between the curves of both. By default the distance of one
    field is sum_c w_c * integral |slog a_c - slog b_c|, the integral over the metric's levels by the
    trapezoidal rule, slog(x) = sign(x) log(1 + |x|) (arXiv 2604.11422).

    Of a pairwise metric it is the emulated metric itself, sum_c w_c b_c / sum_c w_c, b_c the mean over levels
    of output c, turned so that smaller is better: see `emuloss.emulators.Shortfall`.

    Args:
        surrogate: maps fields (N, H, W), or pairs (N, 2, H, W), to curves (N, C, Q), differentiable.
        distance: between curves: a name out of `emuloss.emulators.DISTANCES`, or a `Distance` of one's own,
            class or instance. Default: the one above.
        forward: curves of the prediction: "surrogate", or "exact": exact values, with the gradient
            of the surrogate (straight through), so that the loss is the true distance.
        reference: curves of the target: "surrogate", so that loss(x, x) = 0, or "exact". Default:
            as `forward`. A pairwise metric has none.
        reduction: "mean" or "sum" over fields, or "none".
        weights: weight of each output by name; an output left out weighs 1.
        trust: if given, the weight of a field is exp(-trust * err^2), err the distance between
            surrogate and exact curves of its target: where the surrogate errs, it is heeded less. Not for a
            pairwise metric.
        in_state_dict: whether a state dict of this loss, or of a module that holds it, has the
            surrogate's frozen weights. Without, they stay what the surrogate was made with; a state
            dict that has them can be loaded all the same.

    Casts of a parent module to half precision (`half()`, `bfloat16()`) leave a loss in single precision.

    Raises:
        ArgumentError: an argument out of range, or a pairwise metric that does not say whether smaller is
            better.
    """

    output_weights: Tensor

    def __init__(
        self,
        surrogate: Differentiable,
        *,
        distance: str | Distance | type[Distance] | None = None,
        forward: str = "surrogate",
        reference: str | None = None,
        reduction: str = "mean",
        weights: Mapping[str, float] | None = None,
        trust: float | None = None,
        in_state_dict: bool = True,
    ) -> None:
        super().__init__()
        metric = surrogate.metric
        if metric.arity == 2 and (reference is not None or trust is not None):
            raise ArgumentError(
                f"reference and trust are for metrics of one field; {metric.name!r} compares two"
            )
        as_choice("forward", forward, _SIDES)
        reference = as_choice("reference", forward if reference is None else reference, _SIDES)
        as_choice("reduction", reduction, _REDUCTIONS)
        if trust is not None and not _is_weight(trust):
            raise ArgumentError(f"trust must be a number >= 0, or None, got {trust!r}")
        self.surrogate, self.metric = surrogate, metric
        self.exact_forward = forward == "exact"
        self.exact_reference = reference == "exact" and metric.arity == 1
        self.reduction, self.trust = reduction, trust
        self.distance = _distance_of(metric, distance)
        values = _output_weights(metric, weights)
        if self.distance.averaged:
            if not values.any():
                raise ArgumentError(f"weights must leave one output in the loss, got {weights!r}")
            values = values / values.sum()
        self.register_buffer("output_weights", values, persistent=False)
        self.to(device_of(surrogate))  # a loss begins where its surrogate is
        if not in_state_dict:
            self.register_state_dict_post_hook(_leave_out)
            self.register_load_state_dict_pre_hook(_fill_in)

    def anneal(self, progress: float, start: float = HOT, end: float = COLD) -> None:
        """Set the temperature of a relaxed surrogate for a moment of the training.

        A hot relaxation has a gradient far from the thresholds, which the first predictions of a network
        need, a cold one is close to the exact metric. Call it before each step, or each epoch.

        Args:
            progress: share of the training that is done, in [0, 1].
            start: relative temperature at the start.
            end: relative temperature at the end; between, it falls geometrically.

        Raises:
            ArgumentError: a surrogate without temperature, or temperatures that are not positive.
        """
        if self.surrogate.relaxation is None:
            raise ArgumentError("this surrogate is no relaxation: it has no temperature to anneal")
        if not (_is_weight(start) and _is_weight(end) and start > 0 and end > 0):
            raise ArgumentError(f"start and end must be positive temperatures, got {start!r} and {end!r}")
        self.surrogate.relaxation.temperature = geometric(start, end, progress)

    def forward(
        self, prediction: Tensor, target: Tensor | None = None, *, target_curves: Tensor | None = None
    ) -> Tensor:
        """The loss.

        Args:
            prediction: (N, H, W) or (N, 1, H, W), in the surrogate's field unit.
            target: same shape; it gets no gradient. A pixel that is NaN in either was not measured: it counts
                as dry in both and gets no gradient.
            target_curves: instead of a target: its curves (N, C, Q), such as exact ones computed
                beforehand. Not for a pairwise metric.

        Returns:
            Scalar, or (N,) with reduction "none"; float32 or better.

        Raises:
            ArgumentError: both or neither of target and target_curves, no tensors, or shapes that differ.
        """
        distances, gate = self._compared(prediction, target, target_curves)
        loss = (distances * self.output_weights.to(distances.dtype)).sum(1) * gate
        return _reduced(loss, self.reduction)

    def by_output(
        self, prediction: Tensor, target: Tensor | None = None, *, target_curves: Tensor | None = None
    ) -> Tensor:
        """What the loss weighs and sums, (N, C): the distance in each output; arguments as in `forward`."""
        return self._compared(prediction, target, target_curves)[0]

    def _compared(
        self, prediction: Tensor, target: Tensor | None, target_curves: Tensor | None
    ) -> tuple[Tensor, Tensor | float]:
        """Distances (N, C), and how far each field is trusted."""
        _check_tensors(prediction=prediction, target=target, target_curves=target_curves)
        reference: Tensor | None = None
        gate: Tensor | float = 1.0
        if self.metric.arity == 2:
            if target is None or target_curves is not None:
                raise ArgumentError(f"the loss of {self.metric.name!r} needs a target, and no target_curves")
            curves = self._curves(stacked(prediction, target.detach()))
        else:
            if (target is None) == (target_curves is None):
                raise ArgumentError("the loss needs either target or target_curves")
            if target is not None:
                missing = torch.isnan(prediction) | torch.isnan(target)
                prediction = prediction.masked_fill(missing, math.nan)
                target = target.masked_fill(missing, math.nan)
            curves = self._curves(prediction)
            reference, gate = self._reference(target, target_curves, curves)
        with torch.autocast(curves.device.type, enabled=False):
            return self.distance(curves, reference), gate

    def _curves(self, fields: Tensor) -> Tensor:
        """Curves of what the surrogate takes: the surrogate's, or exact ones with its gradient."""
        curves = self.surrogate(fields)
        return straight_through(curves, exact_curves(self.metric, fields)) if self.exact_forward else curves

    @torch.no_grad()
    def _reference(
        self, target: Tensor | None, target_curves: Tensor | None, curves: Tensor
    ) -> tuple[Tensor, Tensor | float]:
        """The curves to reach, and the weight of each field."""
        if target_curves is not None:
            if target_curves.shape != curves.shape:
                raise ArgumentError(
                    f"target_curves must have shape {tuple(curves.shape)}, got {tuple(target_curves.shape)}"
                )
            if self.trust is not None:
                raise ArgumentError("trust needs the target itself, to compare surrogate and exact curves")
            return target_curves.to(curves), 1.0
        assert target is not None  # one of both is there: `_compared` has seen to it
        if self.trust is None:
            exact = exact_curves(self.metric, target) if self.exact_reference else self.surrogate(target)
            return exact.to(curves), 1.0
        exact = exact_curves(self.metric, target).to(curves)
        emulated = self.surrogate(target).to(curves)
        error = (self.distance(emulated, exact) * self.output_weights.to(curves.dtype)).sum(1)
        return exact if self.exact_reference else emulated, torch.exp(-self.trust * error**2)


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
    if not all(_is_weight(w) for w in values):
        raise ArgumentError(f"weights must be numbers >= 0, got {weights!r}")
    return torch.tensor(values, dtype=torch.float32)


def _check_tensors(*, prediction: Tensor, target: Tensor | None, target_curves: Tensor | None = None) -> None:
    """Raise ArgumentError for what is no floating-point tensor, and for a target of another shape."""
    for name, value in (("prediction", prediction), ("target", target), ("target_curves", target_curves)):
        if value is not None and not (isinstance(value, Tensor) and value.is_floating_point()):
            got = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise ArgumentError(f"{name} must be a floating-point tensor, got {got}")
    if target is not None and target.shape != prediction.shape:
        raise ArgumentError(
            f"target must have the prediction's shape {tuple(prediction.shape)}, got {tuple(target.shape)}"
        )


def _reduced(losses: Tensor, reduction: str) -> Tensor:
    """Losses (N,) as they are, their sum, or their mean."""
    if reduction == "none":
        return losses
    # The mean of no field would be NaN.
    return losses.sum() / max(len(losses), 1) if reduction == "mean" else losses.sum()


def _leave_out(loss: SurrogateLoss, state: dict[str, Tensor], prefix: str, _: Any) -> None:
    """Drop the surrogate's weights from a state dict."""
    for name in [name for name in state if name.startswith(f"{prefix}surrogate.")]:
        del state[name]


def _fill_in(loss: SurrogateLoss, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Put the surrogate's own weights into a state dict that has none."""
    prefix = f"{prefix}surrogate."
    if not any(name.startswith(prefix) for name in state):
        state.update(loss.surrogate.state_dict(prefix=prefix))


def _is_weight(value: object) -> bool:
    """Whether a value is a finite number >= 0."""
    return isinstance(value, Real) and 0 <= float(value) < math.inf
