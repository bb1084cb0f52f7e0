"""Fractions skill score: whether a prediction has rain in the right neighbourhood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ..errors import ArgumentError
from ..foundation.arguments import as_array, as_counts, as_increasing
from ..foundation.rules import Rule, counts, increasing_numbers, optional
from ..foundation.threads import in_threads
from .excursion import ExcursionMetric
from .fields import as_fields
from .pairwise import ratio, reached, within
from .registry import register


@register
class FSS(ExcursionMetric):
    r"""Fractions skill score of the excursion sets {x >= u}, one curve over u for each window size.

    With p and o the shares of a window of S x S pixels that lie in the excursion sets of prediction
    and observation,

        FSS_S(u) = 1 - sum (p - o)^2 / (sum p^2 + sum o^2),

    summed over the windows centred on each pixel (Roberts and Lean 2008, Mon. Wea. Rev. 136, 78-97,
    eqs. 2 to 7). It is a pure number in [0, 1], 1 the best; 1 where both sets are empty, for such
    fields agree. It is symmetric. FSS_1 = 2 CSI/(1 + CSI), the Dice coefficient.

    As in the paper, windows have an odd number of pixels a side, and those that stick out of the field
    find the world outside dry. (So does `scores.spatial.fss_2d_single_field` of fields padded with
    S // 2 dry pixels; its `zero_padding=True` adds windows centred one row and one column past the
    field, and it sets empty pairs to 0.)

    Values are compared in double precision. A pixel that is NaN in either field was not measured in
    both: windows centred on it are left out, and p and o are shares of the pixels of a window
    other than such. +inf counts as wet.

    With percentiles in the place of thresholds each field has thresholds of its own, the percentiles of its
    pixels that were measured in both, so that a prediction whose values are all too high or too low is as
    good as one without that bias, and the score is of place alone (Roberts and Lean 2008 take them of
    prediction and observation each by itself; so does this of each member of an ensemble). Sets are {x >= u}
    with u as `numpy.percentile` has it, of which pixels at u are part: up to the share of a field that is
    dry, a percentile is 0, and its set the whole field; take percentiles above it. Increasing functions
    of a field change nothing.

    `sums` and `of_sums` score a whole data set at once, and ensembles.

    Args:
        thresholds: strictly increasing, in the field's unit; None with percentiles.
        windows: sizes S in pixels, odd, strictly increasing; output "fss_S" each.
        levels: coordinates of the threshold axis for integration, such as quantile levels;
            default: evenly spaced, or the percentiles as shares.
        percentiles: strictly increasing, above 0 and below 100, instead of thresholds.

    Raises:
        ArgumentError: any argument out of range; thresholds and percentiles, or neither.
    """

    name = "fss"
    describing = ("levels",)
    arity = 2
    invariant = True
    lower_better = False
    symmetric = True
    identity = 1.0
    argument_rules: ClassVar[Mapping[str, Rule]] = {
        **ExcursionMetric.argument_rules,
        "windows": counts,
        "percentiles": optional(increasing_numbers),
    }
    percentiles: tuple[float, ...] | None

    def __init__(
        self,
        thresholds: Sequence[float] | None = None,
        windows: Sequence[int] = (1, 5, 17),
        levels: Sequence[float] | None = None,
        percentiles: Sequence[float] | None = None,
    ) -> None:
        if (thresholds is None) == (percentiles is None):
            raise ArgumentError(
                "fss takes thresholds, such as [0.5, 2], or percentiles, such as [90, 95], got "
                + ("neither" if thresholds is None else "both")
            )
        self.windows = as_counts("windows", windows)
        if even := [size for size in self.windows if size % 2 == 0]:
            raise ArgumentError(f"windows must be odd, so that pixels are their centres, got {even[0]}")
        outputs = [f"fss_{size}" for size in self.windows]
        self.percentiles = None if percentiles is None else _as_percentiles(percentiles)
        if thresholds is not None:
            super().__init__(thresholds, levels, None, outputs)
        else:
            super().__init__(self.shares, self.shares if levels is None else levels, None, outputs)
            self.thresholds = ()  # each field has its own
        self.constraints = tuple(c for output in self.outputs for c in within(output, 0.0, 1.0))

    @property
    def shares(self) -> tuple[float, ...]:
        """The percentiles as shares in (0, 1); empty where there are thresholds."""
        return tuple(percentile / 100 for percentile in self.percentiles or ())

    def arguments(self) -> dict[str, Any]:
        """See `Metric.arguments`; thresholds or percentiles, as before there was a choice."""
        unset = "thresholds" if self.percentiles else "percentiles"
        return {name: value for name, value in super().arguments().items() if name != unset}

    def _compute(self, predictions: np.ndarray, observations: np.ndarray) -> np.ndarray:
        return self.of_sums(self._sums(predictions[:, None], observations))

    def sums(self, predictions: np.ndarray, observations: np.ndarray) -> np.ndarray:
        """Numerators and denominators of the score, to be summed over a data set before `of_sums`.

        A score of all fields together weighs each by what there is in it, as verification does; the mean of
        the fields' scores does not. Of ensembles p is the mean of the members' shares, the probability
        of rain in the neighbourhood (Schwartz et al. 2010, Weather Forecast. 25, 263-280; Duc, Saito and Seko
        2013, Tellus A 65, 18171).

            total = sum(fss.sums(p, o).sum(1) for p, o in batches)
            fss.of_sums(total)  # (C, Q)

        Args:
            predictions: (N, H, W), or members (N, M, H, W); what is NaN in one member was not measured.
            observations: (N, H, W).

        Returns:
            (2, N, C, Q) float64: sums of (p - o)^2, and of p^2 + o^2.

        Raises:
            ArgumentError: no arrays of such shapes.
        """
        predicted, observed = as_array("predictions", predictions), as_fields(observations, "observations")
        given = predicted.shape
        predicted = predicted[:, None] if predicted.ndim == 3 else predicted
        if predicted.ndim != 4 or 0 in given or (len(predicted), *predicted.shape[2:]) != observed.shape:
            raise ArgumentError(
                f"predictions must be (N, H, W), or members (N, M, H, W), of the shape of the observations, "
                f"{observed.shape}, got {given}"
            )
        ones = predicted.shape[1] * np.array(self.windows, np.float64)[:, None] ** 2
        return self._sums(predicted, observed) / ones**2

    def of_sums(self, sums: np.ndarray) -> np.ndarray:
        """Scores (..., C, Q) of numerators and denominators (2, ..., C, Q); 1 where these are 0."""
        error, reference = sums
        return 1 - ratio(error, reference, empty=0.0)

    def _sums(self, predictions: np.ndarray, observations: np.ndarray) -> np.ndarray:
        """Sums (2, N, C, Q), times (M S^2)^2, of members (N, M, H, W) and observations (N, H, W)."""
        from .kernels.windows import squared_errors

        number = len(predictions)
        sums = np.zeros((2, number, len(self.windows), len(self.levels)))

        def score(batch: slice) -> None:
            for n in range(batch.start, batch.stop):
                missing = np.isnan(predictions[n]).any(0) | np.isnan(observations[n])
                prediction, observation = (
                    np.where(missing, np.nan, each[n]) for each in (predictions, observations)
                )
                predicted = np.stack([self._reached(each) for each in prediction])
                observed = self._reached(observation)
                highest = int(max(predicted.max(), observed.max()))
                for c, size in enumerate(self.windows):
                    weights = _window_weights(missing, size)
                    sums[:, n, c, :highest] = squared_errors(predicted, observed, size // 2, weights, highest)

        in_threads(score, number, predictions.size)
        return sums

    def _reached(self, field: np.ndarray) -> np.ndarray:
        """Number of thresholds that each pixel of a field (H, W) reaches, or of its own percentiles."""
        return _own_reached(field, self.shares) if self.percentiles else reached(field, self.thresholds)


def ranks(shares: Any, measured: Any) -> Any:
    """Ranks of the least pixels at or above percentiles, from 0 up: {x >= u} is all from that rank on.

    Whether a percentile is interpolated between two pixels, or the upper of both, the set is the same.

    Args:
        shares: percentiles / 100; this and what follows NumPy arrays or torch tensors, which broadcast.
        measured: how many pixels there are, at least 1.
    """
    # Without the slack, rounding could lift a percentile that is a pixel's own value to the next pixel.
    return -((1e-9 - shares * (measured - 1)) // 1)


def _own_reached(field: np.ndarray, shares: tuple[float, ...]) -> np.ndarray:
    """How many of its percentiles each pixel of a field (H, W) reaches; 0 for NaN."""
    missing = np.isnan(field)
    measured = field[~missing]
    if not measured.size:
        return np.zeros(field.shape, np.uint8)
    places = ranks(np.array(shares), measured.size).astype(np.intp)
    found = np.searchsorted(np.partition(measured, places)[places], field, "right")
    return np.where(missing, 0, found).astype(np.min_scalar_type(len(shares)))


def _as_percentiles(values: Any) -> tuple[float, ...]:
    """Validate percentiles."""
    found = as_increasing("percentiles", values)
    if found[0] <= 0 or found[-1] >= 100:
        raise ArgumentError(
            f"percentiles must lie above 0 and below 100, got {found[0] if found[0] <= 0 else found[-1]:g}"
        )
    return found


def _window_weights(missing: np.ndarray, size: int) -> np.ndarray:
    """What turns squared counts of windows into squared shares of what was measured, times size^4.

    Args:
        missing: (H, W) booleans.
        size: of the windows.

    Returns:
        (H, W) float64, by centre: 1 where a window misses nothing, 0 where its centre is missing.
    """
    if not missing.any():
        return np.ones(missing.shape)
    lost = missing.astype(np.int64)
    for axis, length in enumerate(missing.shape):
        total = np.cumsum(np.insert(lost, 0, 0, axis), axis)
        centres = np.arange(length)
        ends = np.minimum(centres + size // 2 + 1, length)
        lost = total.take(ends, axis) - total.take(np.maximum(centres - size // 2, 0), axis)
    area = float(size) ** 2
    return ratio(np.where(missing, 0.0, area), area - lost, empty=0.0) ** 2
