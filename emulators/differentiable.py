"""The contract of everything that stands in for a metric."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ArgumentError
from ..foundation.arguments import as_choice
from ..foundation.rules import Rule, list_of, number_from, one_or_more, optional
from ..metrics import Metric
from .fields import validated

DEFAULT_INTENSITIES = (0.1, 0.3, 1.0, 3.0, 10.0)
"""What stands for thresholds where a metric has none and no intensities are given."""

D = TypeVar("D", bound="Differentiable")


class Differentiable(nn.Module, abc.ABC):
    """A differentiable stand-in for a metric: physical fields in, physical curves out.

    `forward` maps fields (N, H, W) or (N, 1, H, W), or pairs (N, 2, H, W) of prediction and observation where
    the metric takes two, onto curves (N, C, Q), in the metric's units.

    Attributes:
        metric: the exact teacher.
        stride: least side of a field, in pixels.
        argument_rules: rules by argument for those that the memory and time of building it grow with; what a
            foreign configuration gives for them is checked before anything is built.
    """

    metric: Metric
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

    @property
    def intensities(self) -> tuple[float, ...]:
        """The values of the field that it resolves: the metric's thresholds, or what stands for them."""
        return self.metric.thresholds or DEFAULT_INTENSITIES

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


class Relaxation(Differentiable):
    """An analytical stand-in, which tends to the exact metric as its temperature falls.

    A subclass computes curves in `soft`, takes a new temperature over in `set_temperature`, and sets
    `temperature` once it can.

    Args:
        metric: the metric.
        forward: "soft", or "exact": exact values, with the gradient of the soft ones.
        thresholds: those that the steps stand at; default: the metric's.

    Raises:
        ArgumentError: an argument out of range.
    """

    stride = 1
    argument_rules: ClassVar[Mapping[str, Rule]] = {
        "temperature": one_or_more(number_from(1e-3, 1e3)),
        "tail": optional(list_of(number_from(1e-3, 1e3), 2, 2)),
    }

    def __init__(
        self,
        metric: Metric,
        forward: str = "soft",
        thresholds: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        as_choice("forward", forward, ("soft", "exact"))
        self.metric, self.exact = metric, forward == "exact"
        self.steps_at = tuple(metric.thresholds if thresholds is None else thresholds)

    @property
    def relaxation(self) -> Relaxation:
        """Itself."""
        return self

    @property
    def temperature(self) -> float | tuple[float, ...]:
        """Width of the soft steps relative to each threshold; set it between training steps to anneal."""
        return self._temperature

    @temperature.setter
    def temperature(self, value: float | Sequence[float]) -> None:
        count = len(self.steps_at)
        try:
            relative = np.atleast_1d(np.asarray(value, np.float64))
        except (TypeError, ValueError):
            relative = np.empty(0)
        if relative.shape not in ((1,), (count,)) or not (np.isfinite(relative) & (relative > 0)).all():
            raise ArgumentError(
                f"temperature must be one positive number, or one for each of {count}, got {value!r}"
            )
        self.set_temperature(np.broadcast_to(relative, (count,)).copy())
        self._temperature = float(relative[0]) if np.ndim(value) == 0 else tuple(relative.tolist())

    @abc.abstractmethod
    def set_temperature(self, relative: np.ndarray) -> None:
        """Take over relative temperatures, one for each of `steps_at`, (Q,) float64.

        Raises:
            ArgumentError: temperatures that cannot be worked with.
        """

    @abc.abstractmethod
    def soft(self, batch: Tensor, given: Tensor) -> Tensor:
        """Soft curves (N, C, Q), without autocast.

        Args:
            batch: fields (N, H, W), or pairs (N, 2, H, W), float32 or better; what was not measured is -1e30.
            given: the same as the caller gave them, with NaN where nothing was measured.
        """

    def arguments(self) -> dict[str, Any]:
        """The JSON-able keyword arguments, beside the metric, that build this module again."""
        temperature = self.temperature
        return {
            "temperature": list(temperature) if isinstance(temperature, tuple) else temperature,
            "forward": "exact" if self.exact else "soft",
        }

    def forward(self, fields: Tensor) -> Tensor:
        """Curves (N, C, Q), in the metric's units, of fields (N, H, W), or of pairs (N, 2, H, W)."""
        batch = validated(self.metric.arity, fields, -float("inf"))
        with torch.autocast(batch.device.type, enabled=False):
            curves = self.soft(batch, fields)
        return straight_through(curves, exact_curves(self.metric, fields)) if self.exact else curves


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


def straight_through(curves: Tensor, exact: Tensor) -> Tensor:
    """Exact values, to the last bit, with the gradient of curves of the same shape."""
    return exact.to(curves) + (curves - curves.detach())


@torch.compiler.disable
def exact_curves(metric: Metric, fields: Tensor) -> Tensor:
    """Exact curves (N, C, Q), float64, computed on the CPU and brought to the fields' device.

    Args:
        metric: the exact metric.
        fields: (N, H, W) or (N, 1, H, W); of a pairwise metric pairs (N, 2, H, W).
    """
    fields = fields.detach()
    if fields.ndim == 4 and metric.arity == 1:
        fields = fields[:, 0]
    if fields.dtype != torch.float64:
        fields = fields.float()
    return torch.from_numpy(metric(*metric.parts(fields.cpu().numpy()))).to(fields.device)


def device_of(module: nn.Module) -> torch.device:
    """Device of a module's parameters or buffers; the CPU where it has none."""
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return torch.device("cpu")
