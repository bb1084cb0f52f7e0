"""How emulators see a field: physical values to channels of order 1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...errors import ArgumentError
from ...foundation.arguments import as_increasing
from ...metrics import Metric
from ..differentiable import DEFAULT_INTENSITIES
from ..spreads import checked_spreads, spreads_of_version_1


def intensity_axis(metric: Metric, intensities: Sequence[float] | None) -> tuple[float, ...]:
    """The values that encodings resolve: the metric's thresholds, or for one without what stands for them.

    Args:
        metric: the metric.
        intensities: strictly increasing, in the field's unit, such as quantiles of the training data; None:
            a log axis around 1.

    Raises:
        ArgumentError: not strictly increasing, or given beside thresholds.
    """
    if metric.thresholds:
        if intensities is not None:
            raise ArgumentError(
                f"intensities stand in for thresholds, which metric {metric.name!r} has; leave them out"
            )
        return metric.thresholds
    return DEFAULT_INTENSITIES if intensities is None else as_increasing("intensities", intensities)


def spread_axis(
    metric: Metric, intensities: Sequence[float] | None, spreads: Sequence[float] | None
) -> tuple[float, ...]:
    """Spreads of the data at the values that encodings resolve, see `emuloss.emulators.spreads_in`.

    Args:
        metric: the metric.
        intensities: as for `intensity_axis`.
        spreads: as they are given; None: as the values tell by their distances.

    Raises:
        ArgumentError: not one positive number for each value, or none for a lone one.
    """
    axis = intensity_axis(metric, intensities)
    if spreads is None and not metric.thresholds and intensities is None:
        return tuple(spreads_of_version_1(axis))  # a log axis around 1, with its natural zero
    found = checked_spreads(spreads, axis, metric.levels if metric.thresholds else ())
    if found is None:
        raise ArgumentError(
            f"a network for the lone threshold {axis[0]:g} needs spreads=[...]: how far the data lie from it "
            "(emuloss.emulators.spreads_in)"
        )
    return found


def _log_axis(thresholds: Sequence[float], spreads: Sequence[float]) -> tuple[float, float]:
    """Origin and scale of asinh((x - origin) / scale): a spread below the lowest threshold, the least spread.

    Of rain, most of it dry, the origin is 0.
    """
    return thresholds[0] - spreads[0], min(spreads)


class LogEncoding(nn.Module):
    """The field on a log-like scale, asinh((x - origin) / c), from a spread below the lowest threshold.

    Args:
        thresholds: strictly increasing, in the field's unit.
        spreads: of the data at each of them; c is the least.
    """

    origin: Tensor
    scale: Tensor
    channels = 1

    def __init__(self, thresholds: Sequence[float], spreads: Sequence[float]) -> None:
        super().__init__()
        self.dry, scale = _log_axis(thresholds, spreads)
        """What stands for pixels outside the field and for those that were not measured."""
        self.register_buffer("origin", torch.tensor(self.dry).float(), persistent=False)
        self.register_buffer("scale", torch.tensor(scale).float(), persistent=False)

    def forward(self, fields: Tensor) -> Tensor:
        """Encoded fields (N, 1, H, W) of fields (N, H, W)."""
        return torch.asinh((fields[:, None] - self.origin) / self.scale)

    def slope(self) -> float:
        """Largest slope of a pixel's channel in its value."""
        return 1 / float(self.scale)


class LevelEncoding(nn.Module):
    """Soft excursion masks, and the field on a log-like scale.

    Metrics of excursion sets depend on intensities through comparisons with thresholds; the masks
    save the network from learning these comparisons and bound what an extreme value can do.

    Args:
        thresholds: strictly increasing, in the field's unit.
        spreads: of the data at each of them.
        masks: how many of them get a mask, picked evenly.
        temperature: width of the masks' steps, relative to these spreads.
    """

    steepness: Tensor
    thresholds: Tensor
    origin: Tensor
    scale: Tensor

    def __init__(
        self, thresholds: Sequence[float], spreads: Sequence[float], masks: int, temperature: float
    ) -> None:
        super().__init__()
        picks = torch.linspace(0, len(thresholds) - 1, min(masks, len(thresholds))).round().long()
        steepness = 1 / (temperature * torch.tensor(spreads, dtype=torch.float64)[picks])
        chosen = torch.tensor(thresholds, dtype=torch.float64)[picks]
        self.dry, scale = _log_axis(thresholds, spreads)
        """What stands for pixels outside the field and for those that were not measured."""
        self.register_buffer("steepness", steepness.float().view(1, -1, 1, 1), persistent=False)
        self.register_buffer("thresholds", chosen.float().view(1, -1, 1, 1), persistent=False)
        self.register_buffer("origin", torch.tensor(self.dry).float(), persistent=False)
        self.register_buffer("scale", torch.tensor(scale).float(), persistent=False)
        self.channels = len(picks) + 1

    def forward(self, fields: Tensor) -> Tensor:
        """Encoded fields (N, channels, H, W) of fields (N, H, W)."""
        x = fields[:, None]
        masks = torch.sigmoid((x - self.thresholds) * self.steepness)
        return torch.cat([masks, torch.asinh((x - self.origin) / self.scale)], dim=1)

    def slope(self) -> float:
        """A bound of the 2-norm of the slopes of a pixel's channels in its value."""
        largest = torch.cat([self.steepness.double().flatten() / 4, 1 / self.scale.double()[None]])
        return float(torch.linalg.vector_norm(largest))
