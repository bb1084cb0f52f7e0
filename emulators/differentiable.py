"""The contract of everything that stands in for a metric."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ArgumentError
from ..foundation.arguments import as_array, as_choice
from ..foundation.rules import Rule, list_of, number_from, one_or_more, optional, positive_numbers
from ..metrics import Metric
from .curves import full_precision
from .exact import Teacher
from .fields import validated
from .spreads import checked_spreads, in_own_spread, spreads_at
from .straight_through import straight_through
from .transforms import transformed

DEFAULT_INTENSITIES = (0.1, 0.3, 1.0, 3.0, 10.0)
"""What stands for thresholds where a metric has none and no intensities are given."""

D = TypeVar("D", bound="Differentiable")
R = TypeVar("R", bound="Relaxation")


class Differentiable(nn.Module, abc.ABC):
    """A differentiable stand-in for a metric: physical fields in, physical curves out.

    `forward` maps fields (N, H, W) or (N, 1, H, W), or pairs (N, 2, H, W) of prediction and observation where
    the metric takes two, onto curves (N, C, Q), in the metric's units.

    Attributes:
        metric: the exact teacher.
        stride: least side of a field, in pixels.
        exact: whether its values are the metric's own.
        argument_rules: rules by argument for those that the memory and time of building it grow with; what a
            foreign configuration gives for them is checked before anything is built.
    """

    metric: Metric
    exact: bool = False
    argument_rules: ClassVar[Mapping[str, Rule]] = {}

    @property
    @abc.abstractmethod
    def stride(self) -> int:
        """Least side of a field, in pixels."""

    @abc.abstractmethod
    def arguments(self) -> dict[str, Any]:
        """The JSON-able keyword arguments, beside the metric, that build this module again."""

    @abc.abstractmethod
    def forward(self, fields: Tensor) -> Tensor:
        """Curves (N, C, Q)."""

    if TYPE_CHECKING:
        __call__ = forward  # which torch gives no type

    def curves_of_both(self, predictions: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Curves (N, C, Q) of predictions, and of targets of their shape, which get no gradient."""
        curves = self(predictions)
        with torch.no_grad():
            return curves, self(targets)

    @property
    def intensities(self) -> tuple[float, ...]:
        """The values of the field that it resolves: the metric's thresholds, or what stands for them."""
        return self.metric.thresholds or DEFAULT_INTENSITIES

    @property
    def unit(self) -> str:
        """Unit of the fields that it was made for; empty if not stated."""
        return ""

    @property
    def relaxation(self) -> Relaxation | None:
        """The relaxation in it, whose temperature may be set; None where there is none."""
        return None

    @property
    def has_weights(self) -> bool:
        """Whether there is anything in it to train, or anything that was trained."""
        return any(True for _ in self.parameters())

    @property
    def threshold_free(self) -> bool:
        """Whether `at` gives it other thresholds: the metric has some, and nothing was trained for them."""
        return bool(self.metric.thresholds) and not self.has_weights

    def at(self: D, metric: Metric) -> D:
        """The same stand-in for another metric of the kind, such as one with other thresholds.

        Raises:
            ArgumentError: it has weights, which were trained for its metric.
        """
        if self.has_weights:
            raise ArgumentError(
                f"{type(self).__name__} is trained for its metric; take excursion or relaxed, "
                "or train another one"
            )
        build: Callable[..., D] = type(self)
        return build(metric, **self.arguments()).to(device_of(self))

    def extra_repr(self) -> str:
        """What `print` shows: the metric and what its curves are of, a line each."""
        metric = self.metric
        outputs = zip(metric.outputs, metric.units, strict=True)
        length = getattr(metric, "length_unit", "")
        percentiles = getattr(metric, "percentiles", None)
        own = f"percentiles of each field, {listed(percentiles)}" if percentiles else "none"
        lines = {
            "metric": metric.name,
            "outputs": ", ".join(name if unit == "1" else f"{name} ({unit})" for name, unit in outputs),
            "thresholds": f"{listed(metric.thresholds)} {self.unit}" if metric.thresholds else own,
            "fields": f"{self.unit or 'unit not stated'}, pixel size {metric.pixel_size:g} {length}",
        }
        if self.relaxation is not None:
            lines["temperature"] = listed(np.atleast_1d(self.relaxation.temperature))
        return "\n".join(f"{name}: {value}".rstrip() for name, value in lines.items())


class Analytical(Differentiable):
    """A stand-in by a formula, which needs no training.

    A subclass computes curves in `soft`: the metric's own, within rounding, where the metric has a gradient;
    else those of a `Relaxation`.

    Args:
        metric: the metric.
        forward: "soft", or "exact": exact values, with the gradient of the soft ones.

    Raises:
        ArgumentError: an argument out of range.

    Attributes:
        dry: what stands for pixels that were not measured in what `soft` is given, held to +-1e30.
    """

    stride = 1
    dry: ClassVar[float] = -math.inf

    def __init__(self, metric: Metric, forward: str = "soft") -> None:
        super().__init__()
        as_choice("forward", forward, ("soft", "exact"))
        self.metric, self.teacher, self.exact = metric, Teacher(metric), forward == "exact"

    @abc.abstractmethod
    def soft(self, batch: Tensor, given: Tensor) -> Tensor:
        """Soft curves (N, C, Q), without autocast.

        Args:
            batch: fields (N, H, W), or pairs (N, 2, H, W), float32 or better; what was not measured is `dry`.
            given: the same as the caller gave them, with NaN where nothing was measured.
        """

    def arguments(self) -> dict[str, Any]:
        """The JSON-able keyword arguments, beside the metric, that build this module again."""
        return {"forward": "exact" if self.exact else "soft"}

    def forward(self, fields: Tensor) -> Tensor:
        """Curves (N, C, Q), in the metric's units, of fields (N, H, W), or of pairs (N, 2, H, W)."""
        batch = self._validated(fields)
        values = self._exact_values([batch], [fields]) if self.exact else None
        return self._differentiable(batch, fields, values)

    def curves_of_both(self, predictions: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """See `Differentiable.curves_of_both`; exact values are those of one batch."""
        if not self.exact:
            return super().curves_of_both(predictions, targets)
        batch = self._validated(predictions)
        values = self._exact_values([batch, self._validated(targets)], [predictions, targets])
        return self._differentiable(batch, predictions, values[: batch.shape[0]]), values[batch.shape[0] :]

    def _validated(self, fields: Tensor) -> Tensor:
        return validated(self.metric.arity, fields, self.dry)

    def _differentiable(self, batch: Tensor, given: Tensor, values: Tensor | None) -> Tensor:
        """Soft curves, or, where there are values, these with the gradient of soft curves."""
        if values is not None and not torch.is_grad_enabled() and not transformed(batch):
            return values
        with full_precision(batch):
            steps = self.steps_of(batch)
            return self.soft(steps, given) if values is None else self.with_slopes(values, steps, given)

    def steps_of(self, batch: Tensor) -> Tensor:
        """What `soft` is given of a batch."""
        return batch

    def _exact_values(self, batches: Sequence[Tensor], given: Sequence[Tensor]) -> Tensor:
        with full_precision(batches[0]):
            return self.exact_values(batches, given).to(batches[0])

    def exact_values(self, batches: Sequence[Tensor], given: Sequence[Tensor]) -> Tensor:
        """The metric's own curves (N, C, Q), without gradient, without autocast.

        Args:
            batches: one or two, N fields together, (N, H, W) or (N, 2, H, W), as for `soft`, but in their own
                unit.
            given: the same as the caller gave them.
        """
        return self.teacher(joined(given))

    def with_slopes(self, values: Tensor, batch: Tensor, given: Tensor) -> Tensor:
        """Exact values (N, C, Q) with the gradient of `soft`, whose arguments the others are."""
        return straight_through(self.soft(batch, given), values)


class Relaxation(Analytical):
    """An analytical stand-in, which tends to the exact metric as its temperature falls.

    A subclass computes curves in `soft`, takes a new temperature over in `set_temperature`, and sets
    `temperature` once it can.

    Args:
        metric: the metric.
        forward: "soft", or "exact": exact values, with the gradient of the soft ones.
        thresholds: those that the steps stand at; default: the metric's.
        spreads: how far data lie from each of them, which temperatures are relative to (see `spreads_in`);
            default: what the thresholds tell by their distances. A lone one tells nothing: each field then
                tells for itself.

    Raises:
        ArgumentError: an argument out of range.

    Attributes:
        steps_at: the thresholds, (Q,), of what `soft` is given: 0 where each field is in its own spread.
        spreads: of these, (Q,): 1 where each field is in its own spread.
    """

    argument_rules: ClassVar[Mapping[str, Rule]] = {
        "temperature": one_or_more(number_from(1e-3, 1e3)),
        "tail": optional(list_of(number_from(1e-3, 1e3), 2, 2)),
        "spreads": optional(positive_numbers),
    }

    def __init__(
        self,
        metric: Metric,
        forward: str = "soft",
        thresholds: Sequence[float] | None = None,
        spreads: Sequence[float] | None = None,
    ) -> None:
        super().__init__(metric, forward)
        steps_at = tuple(metric.thresholds if thresholds is None else thresholds)
        found = checked_spreads(spreads, steps_at, metric.levels) if steps_at else ()
        self._given = spreads is not None
        self._lone = steps_at[0] if found is None else None
        self.steps_at, self.spreads = (steps_at, found) if found is not None else ((0.0,), (1.0,))

    @property
    def relaxation(self) -> Relaxation:
        """Itself."""
        return self

    @property
    def temperature(self) -> float | tuple[float, ...]:
        """Width of the soft steps relative to the spread at each threshold.

        Set it between training steps, not between a loss and its gradient, which torch then refuses.
        """
        return self._temperature

    @temperature.setter
    def temperature(self, value: float | Sequence[float]) -> None:
        count = len(self.steps_at)
        try:
            relative = np.atleast_1d(as_array("temperature", value).astype(np.float64))
        except ArgumentError:
            relative = np.empty(0)
        if relative.shape not in ((1,), (count,)) or not (np.isfinite(relative) & (relative > 0)).all():
            raise ArgumentError(
                f"temperature must be one positive number, or one for each of {count}, got {value!r}"
            )
        with torch.inference_mode(False):  # what is set in a validation serves the next training step
            self.set_temperature(np.broadcast_to(relative, (count,)).copy())
        self._temperature = float(relative[0]) if np.ndim(value) == 0 else tuple(relative.tolist())

    @abc.abstractmethod
    def set_temperature(self, relative: np.ndarray) -> None:
        """Take over relative temperatures, one for each of `steps_at`, (Q,) float64.

        Raises:
            ArgumentError: temperatures that cannot be worked with.
        """

    def reserve(self, temperature: float) -> None:
        """Make room for a temperature that is to come, so that compiled code need not be made anew for it.

        Raises:
            ArgumentError: a temperature that cannot be worked with.
        """

    def arguments(self) -> dict[str, Any]:
        """The JSON-able keyword arguments, beside the metric, that build this module again."""
        temperature = self.temperature
        return {
            "temperature": list(temperature) if isinstance(temperature, tuple) else temperature,
            **super().arguments(),
            **({"spreads": list(self.spreads)} if self._given else {}),
        }

    def at(self: R, metric: Metric) -> R:
        """The same relaxation of another metric of the kind, such as one with other thresholds.

        Spreads that were given are interpolated, unless its thresholds are of other data.
        """
        arguments = self.arguments()
        if "spreads" in arguments:
            arguments["spreads"] = spreads_at(metric.thresholds, self.steps_at, self.spreads)
        build: Callable[..., R] = type(self)
        return build(metric, **arguments).to(device_of(self))

    @property
    def in_own_spread(self) -> bool:
        """Whether each field tells its own spread, because there is a lone threshold."""
        return self._lone is not None

    def steps_of(self, batch: Tensor) -> Tensor:
        """What `soft` is given: fields in their own unit, or in their own spread."""
        return batch if self._lone is None else in_own_spread(batch, self._lone)


class Trainable(Differentiable):
    """A stand-in with weights.

    Args:
        intensities: the values of the field that it resolves: the thresholds, or what stands for them.
    """

    def __init__(self, intensities: Sequence[float]) -> None:
        super().__init__()
        self._intensities = tuple(intensities)

    @property
    def intensities(self) -> tuple[float, ...]:
        """The values of the field that it resolves: the metric's thresholds, or what stands for them."""
        return self._intensities

    @abc.abstractmethod
    def start_at(self, curves: Tensor, frame: float) -> None:
        """Let it give, before it is trained, curves near given ones (C, Q); frame: the field's area."""


def listed(values: Sequence[float] | np.ndarray) -> str:
    """One number, or how many there are and their range."""
    low, high = min(values), max(values)
    return f"{low:g}" if len(values) == 1 else f"{len(values)} from {low:g} to {high:g}"


def joined(batches: Sequence[Tensor]) -> Tensor:
    """One batch of several, without gradient."""
    return torch.cat([batch.detach() for batch in batches]) if len(batches) > 1 else batches[0].detach()


def device_of(module: nn.Module) -> torch.device:
    """Device of a module's parameters or buffers; the CPU where it has none."""
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return torch.device("cpu")
