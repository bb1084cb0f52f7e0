"""Excursion surrogate: thresholds, units and field size are run-time choices; nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ...errors import ArgumentError
from ...metrics import Metric, Minkowski
from ..certificates import BOUNDS, Layers, Unbounded
from ..networks.heads import ConstrainedHeads
from .minkowski import RelaxedMinkowski


class Excursion(RelaxedMinkowski):
    """Exact Minkowski curves with the gradient of soft excursion sets.

    Metrics of excursion sets depend on a field through its masks {x >= u} alone, so this one sees masks
    alone, each threshold by itself: another climate, another unit, other thresholds or another field size are
    no other problem. Values are counted; the gradient is that of the relaxation, whose steps reach further:
    a loss then knows how far it is from its target, and where to go.

    With `forward="soft"` values are those of the soft sets, too, held to everything that exact curves obey:
    what averaging over the steps' width breaks of the declared constraints is projected back.

    Args:
        metric: a Minkowski metric.
        temperature: of the soft steps, relative to the spread of the data at each threshold.
        tail: share and relative temperature of a hotter sigmoid mixed into them, or None; see
            `RelaxedMinkowski`.
        forward: "exact" or "soft", where values come from.
        spreads: see `Relaxation`.

    Raises:
        ArgumentError: another metric, or an argument out of range.
    """

    def __init__(
        self,
        metric: Metric,
        temperature: float | Sequence[float] = 0.1,
        tail: tuple[float, float] | None = None,
        forward: str = "exact",
        spreads: Sequence[float] | None = None,
    ) -> None:
        if not isinstance(metric, Minkowski):
            raise ArgumentError(
                f"the excursion architecture is for Minkowski metrics, got {metric.name!r}; "
                "take a trained one, such as constrained"
            )
        super().__init__(metric, temperature, tail, forward, spreads)
        self.heads = None if self.exact else ConstrainedHeads(metric)

    def soft(self, batch: Tensor, given: Tensor) -> Tensor:
        """Soft curves (N, C, Q) of fields (N, H, W), held to the constraints where they are the values."""
        curves = super().soft(batch, given)
        return (
            curves if self.heads is None else self.heads.project(curves, self.metric.frame(batch.shape[1:]))
        )


@BOUNDS.register(Excursion)
def _bound(module: Excursion, shape: tuple[int, int]) -> tuple[float, Layers]:
    if module.exact:
        raise Unbounded("exact values jump")
    # Bounds of one output by others are arbitrary functions, of which no slope is declared.
    raise Unbounded("projection onto the constraints between outputs")
