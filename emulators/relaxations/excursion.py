"""Excursion surrogate: thresholds, units and field size are run-time choices; nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ...errors import ArgumentError
from ...metrics import Metric, Minkowski
from ..certificates import BOUNDS, Layers, Unbounded
from ..networks.heads import ConstrainedHeads
from .minkowski import RelaxedMinkowski


class Excursion(RelaxedMinkowski):
    """Minkowski curves of soft excursion sets, held to everything that exact curves obey.

    Metrics of excursion sets depend on a field through its masks {x >= u} alone, so this one sees
    soft masks alone, each threshold by itself: another climate, another unit, other thresholds or
    another field size are no other problem. The relaxation of every output is known. Values come from
    cold steps, which are faithful, the gradient from wider ones, which reach further: a loss then knows how
    far it is from its target, and where to go. What averaging over the steps' width breaks of the declared
    constraints is projected back.

    Args:
        metric: a Minkowski metric.
        temperature: of the sigmoid that gives the gradient, relative to the spread of the data at each
            threshold.
        tail: share and relative temperature of a hotter one mixed into it, or None; see `RelaxedMinkowski`.
        spreads: see `Relaxation`.
        core: width, relative to the spreads, of the steps that give the values; None: those that give the
            gradient do.

    Raises:
        ArgumentError: another metric, or an argument out of range.
    """

    def __init__(
        self,
        metric: Metric,
        temperature: float | Sequence[float] = 0.1,
        tail: tuple[float, float] | None = None,
        spreads: Sequence[float] | None = None,
        core: float | None = 0.002,
    ) -> None:
        if not isinstance(metric, Minkowski):
            raise ArgumentError(
                f"the excursion architecture is for Minkowski metrics, got {metric.name!r}; "
                "take a trained one, such as constrained"
            )
        super().__init__(metric, temperature, tail, spreads=spreads, core=core)
        self.heads = ConstrainedHeads(metric)

    def arguments(self) -> dict[str, Any]:
        """The JSON-able keyword arguments, beside the metric, that build this module again."""
        return {name: value for name, value in super().arguments().items() if name != "forward"}

    def curves(self, counts: Tensor, frame: float) -> Tensor:
        """Curves (N, C, Q) of counts (N, ROWS, Q), held to the constraints."""
        return self.heads.project(super().curves(counts, frame), frame)


@BOUNDS.register(Excursion)
def _bound(module: Excursion, shape: tuple[int, int]) -> tuple[float, Layers]:
    # Bounds of one output by others are arbitrary functions, of which no slope is declared.
    raise Unbounded("projection onto the constraints between outputs")
