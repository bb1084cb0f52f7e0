"""What metrics of excursion sets share: thresholds, their levels, and a choice of outputs."""

from __future__ import annotations

from collections.abc import Sequence

from ..foundation.arguments import as_increasing, as_levels, as_outputs
from .metric import Metric


class ExcursionMetric(Metric):
    """A metric whose curves run over the thresholds u of excursion sets {x >= u}.

    Args:
        thresholds: strictly increasing, in the field's unit.
        levels: coordinates of the threshold axis for integration, such as quantile levels; None: evenly
            spaced.
        outputs: which curves, in which order; None: all that are known.
        known: names of all that can be computed.

    Raises:
        ArgumentError: any argument out of range.
    """

    pixel_size = 1.0

    def __init__(
        self,
        thresholds: Sequence[float],
        levels: Sequence[float] | None,
        outputs: Sequence[str] | None,
        known: Sequence[str],
    ) -> None:
        self.thresholds = as_increasing("thresholds", thresholds)
        self.levels = as_levels(levels, self.thresholds)
        self.outputs = as_outputs(outputs, known)
        self.units = ("1",) * len(self.outputs)
