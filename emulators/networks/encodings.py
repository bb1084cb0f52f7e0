"""How emulators see a field: physical values to channels of order 1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...errors import ArgumentError
from ...foundation.arguments import as_increasing
from ...metrics import Metric
from ..differentiable import DEFAULT_INTENSITIES
from ..relaxations.soft_counts import threshold_sizes


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


def _log_axis(thresholds: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Origin and scale of asinh((x - origin) / scale): 0, unless the thresholds lie far from it."""
    sizes = torch.from_numpy(threshold_sizes(thresholds))
    far = len(thresholds) > 1 and min(map(abs, thresholds)) > thresholds[-1] - thresholds[0]
    return torch.tensor(thresholds[0] if far else 0.0).float(), sizes.min().float()


def _dry(lowest: float, reach: float) -> float:
    """A value below the lowest threshold by some reach: 0, the natural one, where that lies above it."""
    return 0.0 if lowest > 0 else lowest - reach


class LogEncoding(nn.Module):
    """The field on a log-like scale, asinh(x / c), c the least size of a threshold: one channel.

    Where all thresholds lie far from 0, x counts from the lowest of them.

    Args:
        thresholds: strictly increasing, in the field's unit.
    """

    origin: Tensor
    scale: Tensor
    channels = 1

    def __init__(self, thresholds: Sequence[float]) -> None:
        super().__init__()
        origin, scale = _log_axis(thresholds)
        self.register_buffer("origin", origin, persistent=False)
        self.register_buffer("scale", scale, persistent=False)
        self.dry = _dry(thresholds[0], float(threshold_sizes(thresholds)[0]))
        """What stands for pixels outside the field and for those that were not measured."""

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
        masks: how many of them get a mask, picked evenly.
        temperature: width of the masks' steps, relative to their thresholds.
    """

    steepness: Tensor
    shift: Tensor
    origin: Tensor
    scale: Tensor

    def __init__(self, thresholds: Sequence[float], masks: int, temperature: float) -> None:
        super().__init__()
        picks = torch.linspace(0, len(thresholds) - 1, min(masks, len(thresholds))).round().long()
        sizes = torch.from_numpy(threshold_sizes(thresholds)).float()
        steepness = 1 / (temperature * sizes[picks])
        shift = -torch.tensor(thresholds)[picks] * steepness
        self.register_buffer("steepness", steepness.view(1, -1, 1, 1), persistent=False)
        self.register_buffer("shift", shift.view(1, -1, 1, 1), persistent=False)
        origin, scale = _log_axis(thresholds)
        self.register_buffer("origin", origin, persistent=False)
        self.register_buffer("scale", scale, persistent=False)
        self.channels = len(picks) + 1
        self.dry = _dry(thresholds[0], 20 * temperature * float(sizes[0]))
        """A value below every mask's reach: 0, the natural one, unless a threshold lies there or below."""

    def forward(self, fields: Tensor) -> Tensor:
        """Encoded fields (N, channels, H, W) of fields (N, H, W)."""
        x = fields[:, None]
        masks = torch.sigmoid(torch.addcmul(self.shift, x, self.steepness))
        return torch.cat([masks, torch.asinh((x - self.origin) / self.scale)], dim=1)

    def slope(self) -> float:
        """A bound of the 2-norm of the slopes of a pixel's channels in its value."""
        largest = torch.cat([self.steepness.double().flatten() / 4, 1 / self.scale.double()[None]])
        return float(torch.linalg.vector_norm(largest))
