"""A frozen surrogate as a training loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from ..emulators.curves import full_precision
from ..emulators.differentiable import Differentiable, device_of, joined
from ..emulators.distances import DISTANCES, Distance, default_distance
from ..emulators.embedded import Embedded
from ..emulators.exact import Teacher
from ..emulators.fields import stacked
from ..emulators.relaxations.relaxation import COLD, HOT, geometric
from ..emulators.straight_through import straight_through
from ..errors import ArgumentError
from ..foundation.arguments import as_choice, as_flag
from ..metrics import Metric
from .inputs import MISSING, broken, check_inputs, unmeasured
from .ranges import RangeWatch

_SIDES = ("surrogate", "exact")
_REDUCTIONS = ("mean", "sum", "none")


class SurrogateLoss(Embedded):
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
            pairwise metric. It may be set anew between steps.
        missing: what says that a pixel was not measured: the "target" alone, so that a prediction that is
            not finite there gives a loss that is not finite, or "either": NaN in prediction or target.
        in_state_dict: whether a state dict of this loss, or of a module that holds it, has the
            surrogate's frozen weights. Without, they stay what the surrogate was made with; a state
            dict that has them can be loaded all the same.

    Casts of a parent module to half precision (`half()`, `bfloat16()`) leave a loss in single precision.
    Fields in another unit than the surrogate's have no gradient: the first batches that look so are told by a
    `RangeWarning`.

    Raises:
        ArgumentError: an argument out of range, or a pairwise metric that does not say whether smaller is
            better.
    """

    output_weights: Tensor
    severity: Tensor

    @torch.inference_mode(False)
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
        missing: str = "target",
        in_state_dict: bool = True,
    ) -> None:
        super().__init__()
        metric = surrogate.metric
        if reference is not None:
            _check_single(metric)
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
        self.register_buffer("severity", torch.zeros((), dtype=torch.float32), persistent=False)
        self.trust = trust
        self.watch = RangeWatch(surrogate)
        self.to(device_of(surrogate))  # a loss begins where its surrogate is
        if not as_flag("in_state_dict", in_state_dict):
            self.register_state_dict_post_hook(_leave_out)
            self.register_load_state_dict_pre_hook(_fill_in)

    @property
    def trust(self) -> float | None:
        """How severely the surrogate's errors on targets are taken; None: not at all."""
        return self._trust

    @trust.setter
    def trust(self, value: float | None) -> None:
        if value is not None and not _is_weight(value):
            raise ArgumentError(f"trust must be a number >= 0, or None, got {value!r}")
        if value is not None:
            _check_single(self.metric)
        self._trust, self.trusting = value, value is not None
        self.severity.fill_(value or 0.0)  # in place: what was compiled reads it there

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
        self.surrogate.relaxation.reserve(min(start, end))
        self.surrogate.relaxation.temperature = geometric(start, end, progress)

    def forward(
        self,
        prediction: Tensor,
        target: Tensor | None = None,
        *,
        target_curves: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """The loss.

        Args:
            prediction: (N, H, W) or (N, 1, H, W), in the surrogate's field unit. Where it is not finite, so
                are the loss of its field and its gradient, unless the pixel was not measured.
            target: same shape; it gets no gradient. A pixel that is NaN was not measured: it counts as dry in
                both and gets no gradient.
            target_curves: instead of a target: its curves (N, C, Q), such as exact ones computed
                beforehand. Not for a pairwise metric.
            mask: same shape, boolean, True where pixels were measured; the others count as NaN in the target.

        Returns:
            Scalar, or (N,) with reduction "none"; float32 or better.

        Raises:
            ArgumentError: both or neither of target and target_curves, no tensors, or shapes that differ.
        """
        distances, gate = self._compared(prediction, target, target_curves, mask)
        loss = self._weighed(distances)
        return _reduced(loss if gate is None else loss * gate, self.reduction)

    def by_output(
        self,
        prediction: Tensor,
        target: Tensor | None = None,
        *,
        target_curves: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """What the loss weighs and sums, (N, C): the distance in each output; arguments as in `forward`."""
        return self._compared(prediction, target, target_curves, mask)[0]

    def _compared(
        self, prediction: Tensor, target: Tensor | None, target_curves: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Distances (N, C), and how far each field is trusted; None: wholly."""
        check_inputs(self.metric, prediction, target, target_curves, mask, self.output_weights.device)
        missing = unmeasured(prediction, target, mask, self.missing)
        told = broken(prediction, missing) if self.missing == "target" else None
        if missing is not None:
            prediction = prediction.masked_fill(missing, math.nan)
        if target is not None:
            target = target.detach()
            if missing is not None and (mask is not None or self.missing == "either"):
                target = target.masked_fill(missing, math.nan)
        self.watch.look(prediction, target)
        reference: Tensor | None = None
        gate: Tensor | None = None
        if self.metric.arity == 2:
            assert target is not None  # `check_inputs` has seen to it
            pairs = stacked(prediction, target)
            curves = self.surrogate(pairs)
            if self._counts_predictions:
                curves = straight_through(curves, self.teacher(pairs))
        elif target is None:
            assert target_curves is not None  # likewise
            curves, reference = self._against_curves(prediction, target_curves)
        else:
            curves, reference, gate = self._against_target(prediction, target)
        with full_precision(curves):
            distances = self.distance(curves, reference)
            return distances if told is None else distances + told, gate

    @property
    def _counts_predictions(self) -> bool:
        """Whether exact curves of predictions have to be found beside the surrogate's."""
        return self.exact_forward and not self.surrogate.exact

    def _against_curves(self, prediction: Tensor, target_curves: Tensor) -> tuple[Tensor, Tensor]:
        """Curves of predictions, and those to reach."""
        curves = self.surrogate(prediction)
        if target_curves.shape != curves.shape:
            raise ArgumentError(
                f"target_curves must have shape {tuple(curves.shape)}, got {tuple(target_curves.shape)}"
            )
        if self.trusting:
            raise ArgumentError("trust needs the target itself, to compare surrogate and exact curves")
        if self._counts_predictions:
            curves = straight_through(curves, self.teacher(prediction))
        return curves, target_curves.detach().to(curves)

    def _against_target(self, prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Curves of predictions, those to reach, and how far each field is trusted; None: wholly."""
        counts_targets = (self.exact_reference or self.trusting) and not self.surrogate.exact
        counted = [prediction] * self._counts_predictions + [target] * counts_targets
        if not counted:
            return *self._emulated(prediction, target), None
        # What crosses to the host crosses once.
        exact = self.teacher(joined(counted)).split(target.shape[0])
        if counts_targets and not self.trusting:
            curves, reference = self.surrogate(prediction), exact[-1]
        else:
            curves, reference = self._emulated(prediction, target)
        gate = self._trust_in(reference, exact[-1].to(curves)) if self.trusting else None
        if self.exact_reference:
            reference = exact[-1]
        if self._counts_predictions:
            curves = straight_through(curves, exact[0])
        return curves, reference.to(curves), gate

    def _emulated(self, prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The surrogate's curves of predictions and of targets."""
        if self.surrogate.exact:
            return self.surrogate.curves_of_both(prediction, target)
        # By calls, which wrappers of modules with weights do their own work in.
        curves = self.surrogate(prediction)
        with torch.no_grad():
            return curves, self.surrogate(target)

    @torch.no_grad()
    def _trust_in(self, emulated: Tensor, exact: Tensor) -> Tensor:
        """Weights (N,) of fields by what the surrogate makes of their targets."""
        with full_precision(exact):
            error = self._weighed(self.distance(emulated.to(exact), exact))
            return torch.exp(-self.severity * error**2)

    def _weighed(self, distances: Tensor) -> Tensor:
        """Distances (N,) of distances by output (N, C)."""
        # No product with a vector, whose last bits may change with a field's place in the batch.
        return (distances * self.output_weights.to(distances.dtype)).sum(1)

    def extra_repr(self) -> str:
        """What it measures, in a few lines."""
        weights = zip(self.metric.outputs, self.output_weights.tolist(), strict=True)
        lines = {}
        if self.metric.arity == 1:
            reference = "exact" if self.exact_reference else "surrogate"
            forward = "exact" if self.exact_forward else "surrogate"
            lines["curves"] = f"{forward} of predictions, {reference} of targets"
            lines["trust"] = "none" if self.trust is None else f"{self.trust:g}"
        lines["weights"] = ", ".join(f"{name} {weight:g}" for name, weight in weights)
        lines["reduction"], lines["missing"] = self.reduction, self.missing
        return "\n".join(f"{name}: {value}" for name, value in lines.items())


def _check_single(metric: Metric) -> None:
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
    if not all(_is_weight(w) for w in values):
        raise ArgumentError(f"weights must be numbers >= 0, got {weights!r}")
    return torch.tensor(values, dtype=torch.float32)


def _reduced(losses: Tensor, reduction: str) -> Tensor:
    """Losses (N,) as they are, their sum, or their mean."""
    if reduction == "none":
        return losses
    # The mean of no field would be NaN.
    return losses.mean() if reduction == "mean" and losses.shape[0] else losses.sum()


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
