"""A frozen surrogate as a training loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ..emulators.curves import full_precision
from ..emulators.differentiable import Differentiable, joined
from ..emulators.distances import Distance
from ..emulators.fields import stacked
from ..emulators.transforms import traced, transformed
from ..errors import ArgumentError
from ..foundation.arguments import as_choice
from .comparison import Comparison, as_reference, check_single, is_weight, reduced, through
from .inputs import broken, check_inputs, countable, unmeasured
from .shapes import Channels, Layout
from .slopes import Exact, checked_gradient, measured_gradient, values_of, with_gradient

_SLOPES = ("surrogate", "checked", "measured")


class SurrogateLoss(Comparison):
    """How far a prediction is from its target by a surrogate: differentiable in the prediction.

    Of a metric of one field it is the distance between the curves of both. By default the distance of one
    field is sum_c w_c * integral |slog a_c - slog b_c|, the integral over the metric's levels by the
    trapezoidal rule, slog(x) = sign(x) log(1 + |x|) (arXiv 2604.11422).

    Of a pairwise metric it is the emulated metric itself, sum_c w_c b_c / sum_c w_c, b_c the mean over levels
    of output c, turned so that smaller is better: see `emuloss.emulators.Shortfall`.

    Args:
        surrogate: maps fields (N, H, W), or pairs (N, 2, H, W), to curves (N, C, Q), differentiable.
        distance: between curves: a name out of `emuloss.emulators.DISTANCES`, or a `Distance` of one's own,
            class or instance. Default: that of signed-log curves, of a pairwise metric its shortfall.
        forward: curves of the prediction: "surrogate", or "exact": exact values, with the gradient
            of the surrogate (straight through), so that the loss is the true distance. Default:
            "surrogate"; of a live loss see `LiveLoss`, as for `reference` and `slopes`.
        reference: curves of the target: "surrogate", so that loss(x, x) = 0, or "exact". Default:
            as `forward`. A pairwise metric has none.
        reduction: "mean" or "sum" over fields, or "none".
        weights: weight of each output by name; an output left out weighs 1.
        trust: if given, the weight of a field is exp(-trust * err^2), err the distance between
            surrogate and exact curves of its target: where the surrogate errs, it is heeded less. Not for a
            pairwise metric. It may be set anew between steps.
        slopes: what the gradient is: the "surrogate"'s own; "checked": without those parts of it along which
            exact values get worse, for training models; "measured": exact slopes along them, and towards
            smoother fields, for changing fields themselves. Beside exact values (`forward`) of prediction and
            target they take six and eight more calls of the metric a field. They can be neither compiled nor
            transformed. Values stay as they are, and so does the gradient of `by_output`. At exact values
            what is asked about goes to the goal that the surrogate sees: see `emuloss.losses.slopes`.
            Default: "surrogate".
        missing: what says that a pixel was not measured: the "target" alone, so that a prediction that is
            not finite there gives a loss that is not finite, or "either": NaN in prediction or target, and
            infinite predictions count as very large ones.
        channels: of fields (N, C, H, W) a name for each channel that is measured, each as a field by itself,
            and None for each that is not: ("rain", None). "each" measures all, such as times (N, T, H, W).
            Default: single fields, of which there are no channels.
        in_state_dict: whether a state dict of this loss, or of a module that holds it, has the
            surrogate's frozen weights. Without, they stay what the surrogate was made with; a state
            dict that has them can be loaded all the same. Of a live loss it also decides about what it has
            learnt.

    Casts of a parent module to half precision (`half()`, `bfloat16()`) leave a loss in single precision.
    Fields in another unit than the surrogate's have no gradient: the first batches that look so are told by a
    `RangeWarning`.

    Raises:
        ArgumentError: an argument out of range, or a pairwise metric that does not say whether smaller is
            better.
    """

    severity: Tensor

    @torch.inference_mode(False)
    def __init__(
        self,
        surrogate: Differentiable,
        *,
        distance: str | Distance | type[Distance] | None = None,
        forward: str | None = None,
        reference: str | None = None,
        reduction: str = "mean",
        weights: Mapping[str, float] | None = None,
        trust: float | None = None,
        slopes: str | None = None,
        missing: str = "target",
        channels: Channels = None,
        in_state_dict: bool = True,
    ) -> None:
        super().__init__(
            surrogate,
            distance=distance,
            forward="surrogate" if forward is None else forward,
            reference=reference,
            reduction=reduction,
            weights=weights,
            missing=missing,
            in_state_dict=in_state_dict,
        )
        severity = torch.zeros((), dtype=torch.float32, device=self.output_weights.device)
        self.register_buffer("severity", severity, persistent=False)
        self.layout = Layout(channels)
        self.trust = trust
        self.slopes = as_choice("slopes", "surrogate" if slopes is None else slopes, _SLOPES)

    @property
    def trust(self) -> float | None:
        """How severely the surrogate's errors on targets are taken; None: not at all."""
        return self._trust

    @trust.setter
    def trust(self, value: float | None) -> None:
        if value is not None and not is_weight(value):
            raise ArgumentError(f"trust must be a number >= 0, or None, got {value!r}")
        if value is not None:
            check_single(self.metric)
        self._trust, self.trusting = value, value is not None
        self.severity.fill_(value or 0.0)  # in place: what was compiled reads it there

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
            prediction: (N, H, W), (N, 1, H, W) or (H, W), with `channels` (N, C, H, W), in the surrogate's
                field unit. Where it is not finite, so are the loss of its field and its gradient, unless the
                pixel was not measured.
            target: same shape; it gets no gradient. A pixel that is NaN was not measured: it counts as dry in
                both and gets no gradient.
            target_curves: instead of a target: its curves (N, C, Q), such as exact ones computed
                beforehand; of K channels that are measured (N, K, C, Q). Not for a pairwise metric.
            mask: same shape, boolean, True where pixels were measured; the others count as NaN in the target.
                One (H, W), such as of land, is that of all fields, one (N, 1, H, W) that of all channels.

        Returns:
            Scalar, or (N,) with reduction "none", (N, K) of K channels that are measured; float32 or better.

        Raises:
            ArgumentError: both or neither of target and target_curves, no tensors, or shapes that differ.
        """
        return reduced(self._losses(prediction, target, target_curves, mask), self.reduction)

    if TYPE_CHECKING:
        __call__ = forward  # which torch gives no type

    def by_channel(
        self,
        prediction: Tensor,
        target: Tensor | None = None,
        *,
        target_curves: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The mean loss of each channel that is measured, by its name; arguments as in `forward`."""
        losses = self._losses(prediction, target, target_curves, mask)
        means = losses.mean(0) if self.layout.channels is not None else losses.mean()[None]
        return dict(zip(self.layout.names(prediction), means.unbind(), strict=True))

    def _losses(
        self, prediction: Tensor, target: Tensor | None, target_curves: Tensor | None, mask: Tensor | None
    ) -> Tensor:
        """The loss of each field, (N,), or of each channel of it, (N, K)."""
        if self.asks_slopes and isinstance(prediction, Tensor):
            # Not the caller's own tensor, whose hooks, such as those of FSDP, an inner gradient would call.
            prediction = prediction.view_as(prediction)
            if prediction.dtype in (torch.float16, torch.bfloat16):
                prediction = prediction.float()  # a scaled loss would have slopes beyond its range
        given = self.layout.flat(prediction, target, target_curves, mask)
        compared = self._compared(*given)
        loss, gate = self._weighed(compared.distances), compared.sides.gate
        if self.asks_slopes and loss.requires_grad and given[0].requires_grad and len(loss):
            loss = self._sloped(loss, given[0], compared, target_curves=given[2])
        return self.layout.restored(loss if gate is None else loss * gate, prediction)

    @property
    def asks_slopes(self) -> bool:
        """Whether the exact metric is asked where gradients lead."""
        return self.slopes != "surrogate"

    def _sloped(
        self, loss: Tensor, prediction: Tensor, compared: Compared, *, target_curves: Tensor | None
    ) -> Tensor:
        """Losses (N,) as they are, with a gradient that the exact metric was asked about."""
        if traced(prediction) or transformed(prediction):
            raise ArgumentError(
                f"{self.slopes} slopes can be neither compiled nor transformed; leave slopes out"
            )
        if any(weight.requires_grad for weight in self.parameters()):
            raise ArgumentError(f"{self.slopes} slopes are of predictions alone; freeze the surrogate")
        total, sides = loss.sum(), compared.sides
        if sides.exact is not None:
            with full_precision(sides.curves):
                total = total + self._weighed((sides.curves * self._turned(sides)).sum(-1)).sum()
        (gradient,) = torch.autograd.grad(total, prediction)
        with torch.no_grad():
            lead = checked_gradient if self.slopes == "checked" else measured_gradient
            found = lead(_flat(gradient).float(), self._exact(compared, target_curves))
        return with_gradient(loss.detach(), prediction, found.view_as(prediction).to(prediction))

    def _exact(self, compared: Compared, target_curves: Tensor | None) -> Exact:
        """What the exact metric says of predictions; what the loss has found is not asked for again."""
        fields = _flat(compared.counted).float()
        observed = None if compared.target is None else _flat(compared.target).float()
        sides = compared.sides
        reference = sides.reference
        if self.metric.arity == 1 and not (self.exact_forward and (self.exact_reference or observed is None)):
            reference = target_curves if observed is None else self.teacher(observed)
        return Exact(
            fields,
            values_of(fields) if observed is None else values_of(fields, observed),
            self.teacher,
            lambda curves, goal: self._weighed(self.distance(curves, goal)),
            observed=observed if self.metric.arity == 2 else None,
            reference=reference,
            here=sides.found.detach() if self.exact_forward else None,
        )

    def by_output(
        self,
        prediction: Tensor,
        target: Tensor | None = None,
        *,
        target_curves: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """What the loss weighs and sums, (N, C): the distance in each output; arguments as in `forward`.

        Of K channels that are measured (N, K, C).
        """
        compared = self._compared(*self.layout.flat(prediction, target, target_curves, mask))
        return self.layout.restored(compared.distances, prediction)

    def _compared(
        self, prediction: Tensor, target: Tensor | None, target_curves: Tensor | None, mask: Tensor | None
    ) -> Compared:
        """What predictions and targets are compared by."""
        check_inputs(self.metric, prediction, target, target_curves, mask, self.output_weights.device)
        given = prediction
        prediction, target, missing = self._masked(prediction, target, mask)
        told = broken(given, missing) if self.missing == "target" else None
        self.watch.look(prediction, target)
        counted = prediction.detach()
        if told is not None and (self._counts_predictions or self.asks_slopes):
            counted = countable(counted, target, missing)
        sides = self._curves_of(prediction, counted, target, target_curves)
        with full_precision(sides.curves):
            distances = self.distance(through(sides.curves, sides.exact), sides.reference)
            distances = distances if told is None else distances + told
        return Compared(distances, counted, target, sides)

    def _turned(self, sides: Sides) -> Tensor:
        """What the gradient that the metric is asked about has beyond that of exact distances, by curves.

        It goes to the goal that the surrogate sees: pushed on by exact values, it is led further than it can
        tell. Of an output whose exact values all lie on another side of their goal than the surrogate says,
        exact values lead.
        """
        emulated, exact = (self._pull(curves, sides.reference) for curves in (sides.curves, sides.found))
        agree = emulated.sign() * exact.sign() > 0
        led = self._believed(emulated, exact, agree)
        return torch.where(agree.any(-1, keepdim=True), led - exact, 0.0)

    def _believed(self, emulated: Tensor, exact: Tensor, agree: Tensor) -> Tensor:
        """Of both gradients by curves (N, C, Q), and where they agree in sign, that which is to lead.

        What a frozen surrogate takes for reached or passed is not pushed on.
        """
        return torch.where(agree, exact, 0.0)

    def _pull(self, curves: Tensor, reference: Tensor | None) -> Tensor:
        """The gradient of distances by curves, (N, C, Q)."""
        with torch.enable_grad():
            free = curves.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.distance(free, reference).sum(), free)
        return gradient

    def _masked(
        self, prediction: Tensor, target: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Prediction and target, NaN where nothing was measured, and where that is."""
        missing = unmeasured(prediction, target, mask, self.missing)
        if missing is not None:
            prediction = prediction.masked_fill(missing, math.nan)
        if target is not None:
            target = target.detach()
            if missing is not None and (mask is not None or self.missing == "either"):
                target = target.masked_fill(missing, math.nan)
        return prediction, target, missing

    def _curves_of(
        self, prediction: Tensor, counted: Tensor, target: Tensor | None, target_curves: Tensor | None
    ) -> Sides:
        """Curves of predictions, exact ones of what of them can be counted, and those to reach."""
        if self.metric.arity == 2:
            assert target is not None  # `check_inputs` has seen to it
            return Sides(*self._both(stacked(prediction, target), stacked(counted, target)))
        if target is None:
            assert target_curves is not None  # likewise
            return self._against_curves(prediction, counted, target_curves)
        return self._against_target(prediction, counted, target)

    def _against_curves(self, prediction: Tensor, counted: Tensor, target_curves: Tensor) -> Sides:
        """Curves of predictions beside those that were given."""
        if self.trusting:
            raise ArgumentError("trust needs the target itself, to compare surrogate and exact curves")
        curves, exact = self._both(prediction, counted)
        return Sides(curves, exact, as_reference(target_curves, curves))

    def _against_target(self, prediction: Tensor, counted: Tensor, target: Tensor) -> Sides:
        """Curves of predictions beside those of targets."""
        counts_targets = (self.exact_reference or self.trusting) and not self.surrogate.exact
        asked = [counted] * self._counts_predictions + [target] * counts_targets
        if not asked:
            curves, reference = self._emulated(prediction, target)
            return Sides(curves, None, reference)
        # What crosses to the host crosses once.
        exact = self.teacher(joined(asked)).split(target.shape[0])
        if counts_targets and not self.trusting:
            curves, reference = self.surrogate(prediction), exact[-1]
        else:
            curves, reference = self._emulated(prediction, target)
        gate = self._trust_in(reference, exact[-1].to(curves)) if self.trusting else None
        if self.exact_reference:
            reference = exact[-1]
        found = exact[0].to(curves) if self._counts_predictions else None
        return Sides(curves, found, reference.to(curves), gate)

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

    def _told(self) -> dict[str, str]:
        """What `print` shows, by name."""
        lines = super()._told()
        if self.metric.arity == 1:
            trust = {"trust": "none" if self.trust is None else f"{self.trust:g}"}
            lines = {"curves": lines["curves"]} | trust | lines
        if self.asks_slopes:
            lines["slopes"] = self.slopes
        if self.layout.channels is not None:
            lines["channels"] = str(self.layout.channels)
        return lines


class Sides(NamedTuple):
    """Curves beside those to reach.

    Attributes:
        curves: of predictions, or of pairs, by the surrogate, (N, C, Q).
        exact: likewise, exact, where those are what counts; None: the surrogate's.
        reference: curves to reach, (N, C, Q); None of pairs.
        gate: how far each field is trusted, (N,); None: wholly.
    """

    curves: Tensor
    exact: Tensor | None = None
    reference: Tensor | None = None
    gate: Tensor | None = None

    @property
    def found(self) -> Tensor:
        """Curves that count, (N, C, Q)."""
        return self.curves if self.exact is None else self.exact


class Compared(NamedTuple):
    """Predictions beside their targets.

    Attributes:
        distances: (N, C).
        counted: what exact values are of, (N, H, W) or (N, 1, H, W), NaN where nothing was measured.
        target: likewise; None where its curves were given.
        sides: their curves.
    """

    distances: Tensor
    counted: Tensor
    target: Tensor | None
    sides: Sides


def _flat(fields: Tensor) -> Tensor:
    """Fields (N, 1, H, W) or (N, H, W) as (N, H, W)."""
    return fields.reshape(-1, *fields.shape[-2:])
