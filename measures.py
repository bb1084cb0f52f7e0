"""Exact metrics as metrics of torchmetrics: updated batch by batch, summed over processes, plotted.

    import emuloss.measures
    from torchmetrics import MetricCollection

    minkowski = emuloss.metric("minkowski", thresholds=[0.1, 1, 5])
    collection = MetricCollection({
        "distance": emuloss.measures.ExactDistance(minkowski),
        "fss": emuloss.measures.ExactScore(emuloss.metric("fss", thresholds=[0.5, 2.0])),
    })

The extra `emuloss[torchmetrics]` has what it needs. They judge, and have no gradient: to train take a loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .emulators.curves import trapezoid_weights
from .emulators.distances import CurveDistance
from .emulators.exact import exact_curves
from .emulators.fields import stacked
from .errors import ArgumentError
from .foundation.arguments import as_choice
from .foundation.limits import shown
from .losses.inputs import broken, check_inputs, countable, unmeasured
from .losses.shapes import Channels, Layout
from .metrics import Metric
from .metrics.pairwise import constant_range, identity_values

try:
    import torchmetrics
except ImportError as error:  # an extra
    raise ImportError("emuloss.measures needs torchmetrics: pip install 'emuloss[torchmetrics]'") from error

__all__ = ["ExactDistance", "ExactScore"]


class _Exact(torchmetrics.Metric):
    """The mean of something exact over fields; it has no gradient, and says so to who asks for one."""

    is_differentiable = False
    full_state_update = False
    total: Tensor
    fields: Tensor

    def __init__(self, metric: Metric, arity: int, channels: Channels, remedy: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(metric, Metric) or metric.arity != arity:
            got = f"{metric.name!r}, of {metric.arity}" if isinstance(metric, Metric) else shown(metric)
            raise ArgumentError(
                f"metric must be a metric of {arity} field{'s' * (arity - 1)}, got {got}; {remedy}"
            )
        self.metric, self.layout = metric, Layout(channels)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("fields", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor, mask: Tensor | None = None) -> None:
        """Take a batch in. A field of which no pixel was measured tells nothing, and is left out.

        A prediction that is not finite where something was measured makes the mean NaN, as it does a loss.

        Args:
            preds: (N, H, W), (N, 1, H, W) or (H, W), with `channels` (N, C, H, W).
            target: of the same shape, NaN where nothing was measured.
            mask: of the same shape, boolean, True where pixels were measured.
        """
        preds, found, _, mask = self.layout.flat(preds, target, None, mask)
        check_inputs(self.metric, preds, found, None, mask, preds.device)
        assert found is not None  # `check_inputs` has seen to it
        missing = unmeasured(preds, found, mask, "target")
        told = broken(preds.detach(), missing)[:, 0]
        preds = countable(preds, found, missing)
        if missing is not None:
            some = ~missing.flatten(1).all(1)
            preds, found = (each.masked_fill(missing, torch.nan)[some] for each in (preds, found))
            told = told[some]
        values = self._values(preds, found.detach()) + told.cpu()
        self.total += values.sum().to(self.total.device)
        self.fields += len(values)

    def compute(self) -> Tensor:
        """The mean over all fields of which something was measured; float32, NaN where there are none."""
        return (self.total / self.fields).float()

    def forward(self, preds: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """The value of a batch, which is taken in as well; arguments as of `update`."""
        found: Tensor = super().forward(preds, target, mask)
        asked = next((x for x in (preds, target) if isinstance(x, Tensor) and x.requires_grad), None)
        return found if asked is None or not torch.is_grad_enabled() else _NoGradient.apply(found, asked)

    if TYPE_CHECKING:
        __call__ = forward  # which torch gives no type

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Figure and axes with one value or several, default: the present one; see `torchmetrics.Metric`."""
        return self._plot(val, ax)

    def _values(self, predictions: Tensor, targets: Tensor) -> Tensor:
        raise NotImplementedError


class ExactDistance(_Exact):
    """Mean distance between the exact curves of predictions and targets: that of `SurrogateLoss`.

    But fields of which nothing was measured are left out, which a loss counts as 0: they have no gradient.

    Args:
        metric: a metric of one field.
        channels: as for `SurrogateLoss`.
        **kwargs: those of `torchmetrics.Metric`.

    Raises:
        ArgumentError: a metric of two fields.
    """

    higher_is_better = False
    plot_lower_bound = 0.0

    def __init__(self, metric: Metric, *, channels: Channels = None, **kwargs: Any) -> None:
        super().__init__(metric, 1, channels, "take ExactScore", **kwargs)
        self.distance = CurveDistance.of(metric)

    def _values(self, predictions: Tensor, targets: Tensor) -> Tensor:
        curves = [exact_curves(self.metric, fields).cpu() for fields in (predictions, targets)]
        return self.distance.cpu()(*curves).sum(1)


class ExactScore(_Exact):
    """Mean over fields of an exact score of predictions and targets, such as FSS, CSI or the error in counts.

    Each field has its score, a mean over thresholds; of a score that is to be summed over a data set before
    it is divided, take the exact metric.

    Args:
        metric: a metric of two fields.
        output: which of its outputs; default: the mean of all, where they have one best value.
        channels: as for `SurrogateLoss`.
        **kwargs: those of `torchmetrics.Metric`.

    Raises:
        ArgumentError: a metric of one field, or outputs of which a mean says nothing.
    """

    def __init__(
        self, metric: Metric, *, output: str | None = None, channels: Channels = None, **kwargs: Any
    ) -> None:
        super().__init__(metric, 2, channels, "take ExactDistance", **kwargs)
        ways = {name: _higher_is_better(metric, c) for c, name in enumerate(metric.outputs)}
        if output is None and len(set(ways.values())) > 1:
            raise ArgumentError(
                f"outputs of {metric.name!r} are better in different directions; say which: "
                f"output={metric.outputs[0]!r}"
            )
        outputs = metric.outputs if output is None else (as_choice("output", output, metric.outputs),)
        self.chosen = [metric.outputs.index(name) for name in outputs]
        self._way = ways[outputs[0]]
        weights = trapezoid_weights(metric.levels).double()
        self.weights = weights / weights.sum()

    @property
    def higher_is_better(self) -> bool | None:  # type: ignore[override]  # torchmetrics lets no instance set it
        """Whether a larger score is better; None where its best lies inside its range."""
        return self._way

    def _values(self, predictions: Tensor, targets: Tensor) -> Tensor:
        curves = exact_curves(self.metric, stacked(predictions, targets)).cpu()
        return (curves[:, self.chosen] * self.weights).sum(2).mean(1)


def _higher_is_better(metric: Metric, output: int) -> bool | None:
    """Whether larger values of an output are better; None where its best lies inside, or is not known."""
    low, high = constant_range(metric, metric.outputs[output])
    values = identity_values(metric)
    if values is None or not metric.best:
        return None if metric.lower_better is None else not metric.lower_better
    return True if values[output] >= high else False if values[output] <= low else None


class _NoGradient(torch.autograd.Function):
    """A value that tells who asks for its gradient that there is none."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, _: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None]:
        raise ArgumentError(
            "an exact metric has no gradient and cannot be trained on; take emuloss.relax(metric).as_loss() "
            "or a trained surrogate's as_loss()"
        )
