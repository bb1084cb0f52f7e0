"""The frozen surrogate: curves of fields, its teacher, its loss. It knows no disk."""

from __future__ import annotations

import copy
import functools
import inspect
import textwrap
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from ..emulators.certificates import BOUNDS, Layers, bound_of
from ..emulators.differentiable import Differentiable, Relaxation
from ..emulators.distances import Distance
from ..emulators.embedded import Embedded
from ..emulators.fields import stacked
from ..emulators.transforms import transformed
from ..errors import ArgumentError
from ..foundation.arguments import known_names
from ..foundation.docs import takes_those_of
from ..metrics import Metric
from .live import Live, LiveLoss
from .live.options import as_live
from .loss import SurrogateLoss
from .score import SurrogateScore
from .shapes import Channels

S = TypeVar("S", bound="FrozenSurrogate")
D = TypeVar("D", bound=Differentiable)


class UnfitWarning(UserWarning):
    """A surrogate was found unfit when it was evaluated, and is used as a loss all the same."""


@dataclass
class Provenance:
    """What a frozen surrogate says about itself, all of it JSON-able.

    Attributes:
        unit: of the fields it was made for; empty if not stated.
        field_shape: (H, W) of the fields it was made for; None if any.
        license: of the checkpoint, as the Hugging Face Hub names it ("apache-2.0"); empty if not stated.
        training: data and settings of the training: the "source" of the fields, a "synthetic" one beside it,
            and whatever else is worth telling; empty where there was none.
        evaluation: figures measured on held-out fields (see `emuloss.evaluation.evaluate`); empty where none
            were.
    """

    unit: str = ""
    field_shape: Sequence[int] | None = None
    license: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)


class FrozenSurrogate(Embedded, Differentiable):
    """A frozen, differentiable stand-in for a metric: physical fields in, physical curves out.

    Its weights take no gradient and it stays in evaluation mode, whatever its parent does;
    gradients flow to the fields alone. Thawed with all of a parent's weights, it is frozen again by its next
    call, but not in compiled code.

    Args:
        module: the stand-in. It is frozen in place, its spectral norms made plain weights.
        architecture: name of the module's architecture.
        provenance: what it says about itself.
    """

    module: Differentiable

    def __init__(
        self, module: Differentiable, architecture: str, provenance: Provenance | None = None
    ) -> None:
        super().__init__()
        if not isinstance(provenance, Provenance | None):
            raise ArgumentError(
                f"provenance must be an emuloss.losses.Provenance or None, got {type(provenance).__name__}"
            )
        self.module = frozen(module)
        self.architecture = architecture
        self.provenance = provenance or Provenance()
        self.revision: str | None = None
        """Commit on the Hub that it was loaded from; None if it comes from elsewhere."""

    @property
    def metric(self) -> Metric:  # type: ignore[override]  # read-only here
        """The exact teacher: `surrogate.metric(fields)` on NumPy arrays."""
        return self.module.metric

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the C outputs."""
        return self.metric.outputs

    @property
    def units(self) -> tuple[str, ...]:
        """Units of the outputs."""
        return self.metric.units

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The Q thresholds, in the field's unit; empty for a metric without."""
        return self.metric.thresholds

    @property
    def unit(self) -> str:
        """Unit of the fields that it was made for; empty if not stated."""
        return self.provenance.unit

    @property
    def lower_better(self) -> bool | None:
        """Whether smaller values mean a better prediction; None for a metric of one field."""
        return self.metric.lower_better

    @property
    def license(self) -> str:
        """Licence of the checkpoint, as the Hugging Face Hub names it ("apache-2.0"); empty if not stated."""
        return self.provenance.license

    @property
    def trained_on(self) -> dict[str, Any]:
        """Data and settings of the training; empty where there was none."""
        return self.provenance.training

    @property
    def evaluation(self) -> dict[str, Any]:
        """Figures measured on held-out fields; empty where none were."""
        return self.provenance.evaluation

    @property
    def unfit(self) -> bool:
        """Whether its evaluation found it unfit to train with; here nobody judges."""
        return False

    @property
    def stride(self) -> int:
        """Least side of a field, in pixels."""
        return self.module.stride

    @property
    def intensities(self) -> tuple[float, ...]:
        """The values of the field that it resolves: the metric's thresholds, or what stands for them."""
        return self.module.intensities

    @property
    def relaxation(self) -> Relaxation | None:
        """The relaxation in it, whose temperature may be set; None where there is none."""
        return self.module.relaxation

    @property
    def exact(self) -> bool:  # type: ignore[override]  # read-only here
        """Whether its values are the metric's own."""
        return self.module.exact

    def curves_of_both(self, predictions: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Curves (N, C, Q) of predictions, and of targets of their shape, which get no gradient."""
        return self.module.curves_of_both(predictions, targets)

    def arguments(self) -> dict[str, Any]:
        """The JSON-able keyword arguments, beside the metric, that build the module again."""
        return self.module.arguments()

    def train(self: S, mode: bool = True) -> S:
        """Stay in evaluation mode: a parent module's `train()` must not thaw a frozen surrogate."""
        return super().train(False)

    def forward(self, fields: Tensor, observations: Tensor | None = None) -> Tensor:
        """Curves of fields, or of predictions and observations where the metric is pairwise.

        Args:
            fields: (N, H, W) or (N, 1, H, W), floating point, in the unit trained on; NaN marks
                pixels that were not measured. Of a pairwise metric: the predictions.
            observations: of a pairwise metric alone: of the same shape. Without, fields are taken for
                pairs (N, 2, H, W) of prediction and observation.

        Returns:
            Curves (N, C, Q), in `units`, differentiable in the fields.

        Raises:
            ArgumentError: fields of another type, shape or dtype, or observations where none belong.
        """
        self._stay_frozen()
        if observations is None:
            return self.module(fields)
        if self.metric.arity != 2:
            raise ArgumentError(f"metric {self.metric.name!r} takes one batch of fields, got two")
        return self.module(stacked(fields, observations))

    if TYPE_CHECKING:
        __call__ = forward  # which torch gives no type

    def _stay_frozen(self) -> None:
        """Undo what a parent does that thaws all of its weights, before an optimizer gets any gradient."""
        if torch.compiler.is_compiling():
            return
        for weight in self.module.parameters():
            if weight.requires_grad and weight.is_leaf and not transformed(weight):
                weight.requires_grad_(False)

    @property
    def temperature(self) -> float | tuple[float, ...]:
        """Relative temperature of a relaxation; set it between training steps to anneal.

        A soft step is temperature times as wide as the data are spread around its threshold: a hot one
        reaches far, a cold one is faithful. Where values are exact, it is that of the gradient alone.

        Raises:
            ArgumentError: a surrogate that has none, or a temperature that is not positive.
        """
        return self._relaxed().temperature

    @temperature.setter
    def temperature(self, value: float | Sequence[float]) -> None:
        self._relaxed().temperature = value

    def _relaxed(self) -> Relaxation:
        if self.relaxation is None:
            raise ArgumentError(
                f"a surrogate of metric {self.metric.name!r} by architecture {self.architecture!r} has no "
                "temperature; leave it out"
            )
        return self.relaxation

    def at(self: S, metric: Metric) -> S:
        """The same surrogate for another metric of the kind, not evaluated; nothing is trained.

        Raises:
            ArgumentError: an architecture that was trained for its metric.
        """
        if self.has_weights:
            raise ArgumentError(
                f"architecture {self.architecture!r} is trained for its thresholds; "
                "take excursion or relaxed, or train another one"
            )
        return type(self)(self.module.at(metric), self.architecture, replace(self.provenance, evaluation={}))

    def with_thresholds(
        self: S, thresholds: Sequence[float], *, levels: Sequence[float] | None = None, **arguments: Any
    ) -> S:
        """The same surrogate at other thresholds; nothing is trained.

        What is known of how the data are spread is kept where the lowest threshold lies among them; for
        another field or unit rather make a new one, by `emuloss.relax(metric, fields=...)`.

        Args:
            thresholds: strictly increasing, in the field's unit.
            levels: coordinates of the threshold axis for integration; default: evenly spaced.
            **arguments: others of the metric, such as `pixel_size`, `length_unit` or `outputs`.

        Raises:
            ArgumentError: an architecture trained for its thresholds, or an argument out of range.
        """
        if not self.thresholds:
            raise ArgumentError(f"metric {self.metric.name!r} has no thresholds")
        return self.at(self.metric.with_arguments(thresholds=thresholds, levels=levels, **arguments))

    @overload
    def as_loss(
        self,
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
        live: Literal[True] | Live,
    ) -> LiveLoss: ...

    @overload
    def as_loss(
        self,
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
        live: bool | Live = False,
    ) -> SurrogateLoss: ...

    @takes_those_of(SurrogateLoss, LiveLoss)
    def as_loss(
        self,
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
        live: bool | Live = False,
        **unknown: object,
    ) -> SurrogateLoss:
        """A loss module `loss(prediction, target)`.

        Of a metric of one field it is the distance between the curves of both; of a pairwise metric the
        metric itself, turned so that smaller is better, which has neither `reference` nor `trust`. A live one
        goes on learning beside the model that it judges, on the predictions that it is asked about, once
        `loss.learn()` is called after each step: by default its values are exact and its slopes "checked", or
        both the surrogate's where labels have to be waited for. See `LiveLoss`, and `Live` for what decides
        how. Where its evaluation found it unfit, and nothing of the
        exact metric is asked for (`forward`, `slopes`, `live`), it warns (`UnfitWarning`).

        Raises:
            ArgumentError: an argument out of range, or an unknown one.
        """
        _refuse("as_loss", SurrogateLoss, unknown)
        how = as_live(live)
        if how is None and slopes in (None, "surrogate") and forward != "exact":
            self._warn_if_unfit()
        build = functools.partial(SurrogateLoss, self) if how is None else self._learning(how)
        return build(
            distance=distance,
            forward=forward,
            reference=reference,
            reduction=reduction,
            weights=weights,
            trust=trust,
            slopes=slopes,
            missing=missing,
            channels=channels,
            in_state_dict=in_state_dict,
        )

    def _warn_if_unfit(self) -> None:
        if self.unfit:
            warnings.warn(
                "this surrogate was found unfit to train with when it was evaluated, and "
                "surrogate.evaluation['verdict'] says why; as_loss(live=True) learns on beside the model",
                UnfitWarning,
                stacklevel=3,
            )

    @torch.inference_mode(False)
    def _learning(self, how: Live) -> Callable[..., LiveLoss]:
        """Builds a live loss of a copy, of which the evaluation does not hold any more."""
        copied = copy.deepcopy(self)
        copied.provenance.evaluation = {}
        return functools.partial(LiveLoss, copied, copied.module, copied.provenance.training, how)

    @takes_those_of(SurrogateScore)
    def as_score(
        self,
        *,
        distance: str | Distance | type[Distance] | None = None,
        estimator: str = "almost-fair",
        alpha: float | None = None,
        forward: str = "surrogate",
        reduction: str = "mean",
        weights: Mapping[str, float] | None = None,
        missing: str = "target",
        member_dim: int = 1,
        channels: Channels = None,
        across_processes: bool = False,
        in_state_dict: bool = True,
        **unknown: object,
    ) -> SurrogateScore:
        """A score module `score(members, target)` for ensembles (N, M, H, W), or of channels (N, M, C, H, W).

        See `SurrogateScore`; it warns as `as_loss` does.

        Raises:
            ArgumentError: an argument out of range, or an unknown one.
        """
        _refuse("as_score", SurrogateScore, unknown)
        if forward != "exact":
            self._warn_if_unfit()
        return SurrogateScore(
            self,
            distance=distance,
            estimator=estimator,
            alpha=alpha,
            forward=forward,
            reduction=reduction,
            weights=weights,
            missing=missing,
            member_dim=member_dim,
            channels=channels,
            across_processes=across_processes,
            in_state_dict=in_state_dict,
        )

    def __dir__(self) -> list[str]:
        """Without a temperature where there is none: who goes through all attributes then meets no error."""
        names: list[str] = list(super().__dir__())
        return names if self.relaxation is not None else [name for name in names if name != "temperature"]

    def __repr__(self) -> str:
        """A few lines, without the layers of a network."""
        described = f"architecture: {self.architecture}\n{self.extra_repr()}"
        return f"{type(self).__name__}(\n{textwrap.indent(described, '  ')}\n)"


def _refuse(method: str, built: type, unknown: Mapping[str, object]) -> None:
    """Raise ArgumentError for arguments that what a method builds does not take."""
    for name in unknown:
        known = list(inspect.signature(built).parameters)[1:]
        raise ArgumentError(f"{method} has no argument {name!r}; it takes {known_names(name, known)}")


def frozen(module: D) -> D:
    """Freeze a module in place: evaluation mode, no gradient to weights, spectral norms made plain.

    Args:
        module: any.
    """
    module.eval().requires_grad_(False)
    for part in module.modules():
        if parametrize.is_parametrized(part, "weight"):
            shared = type(part)  # with its copies, which need the property that is deleted with the norm
            part.__class__ = type(shared.__name__, shared.__bases__, dict(vars(shared)))
            parametrize.remove_parametrizations(part, "weight")
    return module.requires_grad_(False)


@BOUNDS.register(FrozenSurrogate)
def _bound(surrogate: FrozenSurrogate, shape: tuple[int, int]) -> tuple[float, Layers]:
    return bound_of(surrogate.module, shape)
