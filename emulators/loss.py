"""A frozen surrogate as a training loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArgumentError
from ..metrics import Metric
from .curves import CurveDistance
from .fields import stacked
from .pairs import Shortfall
from .relaxed import COLD, HOT, geometric

_SIDES = ("surrogate", "exact")
_REDUCTIONS = ("mean", "sum", "none")


class WidePrecision(nn.Module):
    """A module that follows moves and casts of its parent, but no cast below single precision.

    Curves span decades, and gradients come from small differences of their logarithms.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        def kept(tensor: Tensor) -> Tensor:
            aim = fn(tensor.new_empty((0,) * tensor.ndim))
            if aim.is_floating_point() and torch.finfo(aim.dtype).bits < 32:
                return tensor.to(aim.device)
            return fn(tensor)

        return super()._apply(kept, recurse)


class _Loss(WidePrecision):
    """What losses of one field and of two have in common.

    Args:
        surrogate: what is made a loss of.
        in_state_dict: whether a state dict has the surrogate's weights.
    """

    def __init__(self, surrogate: nn.Module, in_state_dict: bool) -> None:
        super().__init__()
        self.surrogate = surrogate
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
        module = getattr(self.surrogate, "module", self.surrogate)
        if not hasattr(module, "temperature"):
            raise ArgumentError("this surrogate is no relaxation: it has no temperature to anneal")
        if not (_is_weight(start) and _is_weight(end) and start > 0 and end > 0):
            raise ArgumentError(f"start and end must be positive temperatures, got {start!r} and {end!r}")
        module.temperature = geometric(start, end, progress)


class SurrogateLoss(_Loss):
    """Distance between the curves of a prediction and of a target: differentiable in the prediction.

    The distance of one field is sum_c w_c * integral |slog a_c - slog b_c|, the integral over the
    metric's levels by the trapezoidal rule, slog(x) = sign(x) log(1 + |x|) (arXiv 2604.11422).

    Args:
        surrogate: maps fields (N, H, W) to curves (N, C, Q), differentiable; has the attribute `metric`.
        forward: curves of the prediction: "surrogate", or "exact": exact values, with the gradient
            of the surrogate (straight through), so that the loss is the true distance.
        reference: curves of the target: "surrogate", so that loss(x, x) = 0, or "exact". Default:
            as `forward`.
        reduction: "mean" or "sum" over fields, or "none".
        weights: weight of each output by name; an output left out weighs 1.
        trust: if given, the weight of a field is exp(-trust * err^2), err the distance between
            surrogate and exact curves of its target: where the surrogate errs, it is heeded less.
        in_state_dict: whether a state dict of this loss, or of a module that holds it, has the
            surrogate's frozen weights. Without, they stay what the surrogate was made with; a state
            dict that has them can be loaded all the same.

    Casts of a parent module to half precision (`half()`, `bfloat16()`) leave a loss in single precision.

    Raises:
        ArgumentError: an argument out of range.
    """

    output_weights: Tensor

    def __init__(
        self,
        surrogate: nn.Module,
        *,
        forward: str = "surrogate",
        reference: str | None = None,
        reduction: str = "mean",
        weights: Mapping[str, float] | None = None,
        trust: float | None = None,
        in_state_dict: bool = True,
    ) -> None:
        super().__init__(surrogate, in_state_dict)
        reference = forward if reference is None else reference
        for name, value, choices in (
            ("forward", forward, _SIDES),
            ("reference", reference, _SIDES),
            ("reduction", reduction, _REDUCTIONS),
        ):
            if value not in choices:
                raise ArgumentError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
        if trust is not None and not _is_weight(trust):
            raise ArgumentError(f"trust must be a number >= 0, or None, got {trust!r}")
        metric: Metric = surrogate.metric  # type: ignore[assignment]
        if metric.arity != 1:
            raise ArgumentError(
                f"metric {metric.name!r} compares two fields; take PairwiseLoss, or loss_of(surrogate)"
            )
        values = _output_weights(metric, weights)
        self.metric = metric
        self.exact_forward, self.exact_reference = forward == "exact", reference == "exact"
        self.reduction, self.trust = reduction, trust
        self.distance = CurveDistance(metric.levels, metric.scales)
        self.register_buffer("output_weights", values, persistent=False)

    def forward(
        self, prediction: Tensor, target: Tensor | None = None, *, target_curves: Tensor | None = None
    ) -> Tensor:
        """The loss.

        Args:
            prediction: (N, H, W) or (N, 1, H, W), in the surrogate's field unit.
            target: same shape. A pixel that is NaN in either was not measured: it counts as dry in
                both and gets no gradient.
            target_curves: instead of a target: its curves (N, C, Q), such as exact ones computed
                beforehand.

        Returns:
            Scalar, or (N,) with reduction "none"; float32 or better.

        Raises:
            ArgumentError: both or neither of target and target_curves, no tensors, or shapes that differ.
        """
        if (target is None) == (target_curves is None):
            raise ArgumentError("the loss needs either target or target_curves")
        _check_tensors(prediction=prediction, target=target, target_curves=target_curves)
        if target is not None:
            missing = torch.isnan(prediction) | torch.isnan(target)
            prediction = prediction.masked_fill(missing, math.nan)
            target = target.masked_fill(missing, math.nan)
        curves = self.surrogate(prediction)
        if self.exact_forward:
            # The value is exact, to the last bit; the gradient is the surrogate's.
            curves = self._exact(prediction).to(curves) + (curves - curves.detach())
        reference, gate = self._reference(target, target_curves, curves)
        with torch.autocast(curves.device.type, enabled=False):
            distances = self.distance(curves, reference)
            loss = (distances * self.output_weights.to(distances.dtype)).sum(1) * gate
        return _reduced(loss, self.reduction)

    @torch.no_grad()
    def _reference(
        self, target: Tensor | None, target_curves: Tensor | None, curves: Tensor
    ) -> tuple[Tensor, Tensor | float]:
        """The curves to reach, and the weight of each field."""
        if target_curves is not None and target_curves.shape != curves.shape:
            raise ArgumentError(
                f"target_curves must have shape {tuple(curves.shape)}, got {tuple(target_curves.shape)}"
            )
        if target is None:
            if self.trust is not None:
                raise ArgumentError("trust needs the target itself, to compare surrogate and exact curves")
            return target_curves.to(curves), 1.0  # type: ignore[union-attr]
        if self.trust is None:
            exact = self._exact(target) if self.exact_reference else self.surrogate(target)
            return exact.to(curves), 1.0
        exact, emulated = self._exact(target).to(curves), self.surrogate(target).to(curves)
        error = (self.distance(emulated, exact) * self.output_weights.to(curves.dtype)).sum(1)
        return exact if self.exact_reference else emulated, torch.exp(-self.trust * error**2)

    @torch.compiler.disable
    def _exact(self, fields: Tensor) -> Tensor:
        """Exact curves (N, C, Q), computed on the CPU."""
        fields = fields.detach()[:, 0] if fields.ndim == 4 else fields.detach()
        if fields.dtype != torch.float64:
            fields = fields.float()
        return torch.from_numpy(self.metric(fields.cpu().numpy())).to(fields.device)


class PairwiseLoss(_Loss):
    """A pairwise metric of prediction and observation, emulated: differentiable in the prediction.

    The loss of one pair is sum_c w_c b_c / sum_c w_c, b_c the mean over levels of output c, turned so that
    smaller is better: see `Shortfall`.

    Args:
        surrogate: maps pairs (N, 2, H, W) to curves (N, C, Q), differentiable; has the attribute `metric`.
        forward: "surrogate", or "exact": the exact metric, with the gradient of the surrogate (straight
            through).
        reduction: "mean" or "sum" over pairs, or "none".
        weights: weight of each output by name; an output left out weighs 1.
        in_state_dict: whether a state dict of this loss has the surrogate's frozen weights; see
            `SurrogateLoss`.

    Casts of a parent module to half precision (`half()`, `bfloat16()`) leave a loss in single precision.

    Raises:
        ArgumentError: an argument out of range, or a metric that does not say whether smaller is better.
    """

    output_weights: Tensor

    def __init__(
        self,
        surrogate: nn.Module,
        *,
        forward: str = "surrogate",
        reduction: str = "mean",
        weights: Mapping[str, float] | None = None,
        in_state_dict: bool = True,
    ) -> None:
        super().__init__(surrogate, in_state_dict)
        for name, value, choices in (("forward", forward, _SIDES), ("reduction", reduction, _REDUCTIONS)):
            if value not in choices:
                raise ArgumentError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
        metric: Metric = surrogate.metric  # type: ignore[assignment]
        if metric.arity != 2:
            raise ArgumentError(f"metric {metric.name!r} is of one field; take SurrogateLoss")
        values = _output_weights(metric, weights)
        if not values.any():
            raise ArgumentError(f"weights must leave one output in the loss, got {weights!r}")
        self.metric = metric
        self.exact_forward, self.reduction = forward == "exact", reduction
        self.shortfall = Shortfall(metric)
        self.register_buffer("output_weights", values / values.sum(), persistent=False)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The loss.

        Args:
            prediction: (N, H, W) or (N, 1, H, W), in the surrogate's field unit.
            target: same shape, the observation; it gets no gradient. A pixel that is NaN in either was not
                measured in both.

        Returns:
            Scalar, or (N,) with reduction "none"; float32 or better.

        Raises:
            ArgumentError: no tensors, or shapes that differ.
        """
        shortfalls = self.by_output(prediction, target)
        return _reduced((shortfalls * self.output_weights.to(shortfalls.dtype)).sum(1), self.reduction)

    def by_output(self, prediction: Tensor, target: Tensor) -> Tensor:
        """What the loss averages, (N, C): how far each output is from the best; arguments as in `forward`."""
        _check_tensors(prediction=prediction, target=target)
        pairs = stacked(prediction, target.detach())
        curves = self.surrogate(pairs)
        if self.exact_forward:
            curves = self._exact(pairs).to(curves) + (curves - curves.detach())
        with torch.autocast(curves.device.type, enabled=False):
            return self.shortfall(curves)

    @torch.compiler.disable
    def _exact(self, pairs: Tensor) -> Tensor:
        """Exact curves (N, C, Q), computed on the CPU."""
        pairs = pairs.detach()
        arrays = (pairs if pairs.dtype == torch.float64 else pairs.float()).cpu().numpy()
        return torch.from_numpy(self.metric(arrays[:, 0], arrays[:, 1])).to(pairs.device)


def loss_of(surrogate: nn.Module, **arguments: Any) -> SurrogateLoss | PairwiseLoss:
    """The loss that suits a surrogate's metric: `SurrogateLoss` of one field's, `PairwiseLoss` of two's."""
    kind = SurrogateLoss if surrogate.metric.arity == 1 else PairwiseLoss  # type: ignore[union-attr]
    return kind(surrogate, **arguments)


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


def _leave_out(loss: nn.Module, state: dict[str, Tensor], prefix: str, _: Any) -> None:
    """Drop the surrogate's weights from a state dict."""
    for name in [name for name in state if name.startswith(f"{prefix}surrogate.")]:
        del state[name]


def _fill_in(loss: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Put the surrogate's own weights into a state dict that has none."""
    prefix = f"{prefix}surrogate."
    if not any(name.startswith(prefix) for name in state):
        state.update(loss.surrogate.state_dict(prefix=prefix))  # type: ignore[union-attr]


def _is_weight(value: object) -> bool:
    """Whether a value is a finite number >= 0."""
    return isinstance(value, Real) and 0 <= float(value) < math.inf
