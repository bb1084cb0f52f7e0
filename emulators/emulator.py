"""CNN emulators: fields in physical units to curves in physical units, constraints built in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ArgumentError
from ..metrics import Metric, Minkowski
from .backbone import MultiScaleBackbone
from .fields import as_batch
from .heads import ConstrainedHeads
from .relaxed import RELAXABLE, RelaxedMinkowski
from .soft_counts import threshold_sizes

_READOUT_SCALE = 0.25
"""Brings the backbone's signed-log sums, around 5, to order 1; part of the architecture."""


class LevelEncoding(nn.Module):
    """Physical fields to channels: soft excursion masks, and the field on a log-like scale.

    Metrics of excursion sets depend on intensities through comparisons with thresholds; the masks
    save the network from learning these comparisons and bound what an extreme value can do.

    Args:
        thresholds: strictly increasing, in the field's unit.
        masks: how many of them get a mask, picked evenly.
        temperature: width of the masks' steps, relative to their thresholds.
    """

    steepness: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(self, thresholds: Sequence[float], masks: int, temperature: float) -> None:
        super().__init__()
        picks = torch.linspace(0, len(thresholds) - 1, min(masks, len(thresholds))).round().long()
        sizes = torch.from_numpy(threshold_sizes(thresholds)).float()
        steepness = 1 / (temperature * sizes[picks])
        shift = -torch.tensor(thresholds)[picks] * steepness
        self.register_buffer("steepness", steepness.view(1, -1, 1, 1), persistent=False)
        self.register_buffer("shift", shift.view(1, -1, 1, 1), persistent=False)
        self.register_buffer("scale", sizes.min(), persistent=False)
        self.channels = len(picks) + 1

    def forward(self, fields: Tensor) -> Tensor:
        """Encoded fields (N, channels, H, W) of fields (N, H, W)."""
        x = fields[:, None]
        masks = torch.sigmoid(torch.addcmul(self.shift, x, self.steepness))
        return torch.cat([masks, torch.asinh(x / self.scale)], dim=1)


class ConstrainedEmulator(nn.Module):
    """Lipschitz CNN with heads built from the metric's constraints, correcting a relaxed prior.

    Where a relaxation of an output is known, it is carried through the inverse of the output's
    head, and the network adds to it there; the last layer starts at 0, so that training starts
    from the relaxation, made admissible. Outputs without one are the network's alone.

    Args:
        metric: the metric to emulate; its declarations build the heads.
        widths: channels of the backbone's stages, each a multiple of 8.
        hidden: width of the fully connected layers.
        prior: relative temperature of the relaxed prior, or None to do without one.
        masks: soft excursion masks that the backbone sees, spread over the thresholds.
        mask_temperature: their temperature, relative to their thresholds.

    Raises:
        ArgumentError: an argument out of range, or constraints that no head can guarantee.
    """

    def __init__(
        self,
        metric: Metric,
        widths: Sequence[int] = (32, 64, 128, 256),
        hidden: int = 256,
        prior: float | None = 0.05,
        masks: int = 7,
        mask_temperature: float = 0.1,
    ) -> None:
        super().__init__()
        if not widths or any(width <= 0 or width % 8 for width in widths):
            raise ArgumentError(f"widths must be positive multiples of 8, got {list(widths)}")
        if hidden <= 0:
            raise ArgumentError(f"hidden must be positive, got {hidden}")
        if masks <= 0 or not 0 < mask_temperature < float("inf"):
            raise ArgumentError(
                f"masks and mask_temperature must be positive, got {masks} and {mask_temperature!r}"
            )
        self.metric = metric
        self.widths, self.hidden, self.prior_temperature = tuple(widths), int(hidden), prior
        self.heads = ConstrainedHeads(metric)
        self.prior = None if prior is None else _relaxed_part(metric, prior)
        self.masks, self.mask_temperature = int(masks), float(mask_temperature)
        self.encoding = LevelEncoding(metric.thresholds, self.masks, self.mask_temperature)
        self.dry = _dry(metric.thresholds, self.mask_temperature)
        self.backbone = MultiScaleBackbone(self.encoding.channels, self.widths)
        inputs = self.backbone.features + (self.heads.raw_size if self.prior else 0)
        last = nn.Linear(hidden, self.heads.raw_size)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.fc = nn.Sequential(
            nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), last
        )

    @property
    def stride(self) -> int:
        """Fields are padded (dry) to multiples of this."""
        return self.backbone.stride

    def check_shape(self, shape: tuple[int, int]) -> None:
        """Raise ArgumentError if fields of this shape (H, W) are smaller than the network's stride."""
        if min(shape) < self.stride:
            raise ArgumentError(
                f"fields must be at least {self.stride} x {self.stride} pixels (the network's stride), "
                f"got {shape[0]} x {shape[1]}"
            )

    def arguments(self) -> dict[str, Any]:
        """The JSON-able keyword arguments, beside the metric, that build this module again."""
        return {
            "widths": list(self.widths),
            "hidden": self.hidden,
            "prior": self.prior_temperature,
            "masks": self.masks,
            "mask_temperature": self.mask_temperature,
        }

    def forward(self, fields: Tensor) -> Tensor:
        """Curves (N, C, Q), in the metric's units, of fields (N, H, W) or (N, 1, H, W)."""
        fields = as_batch(fields, self.dry).to(self.encoding.scale.dtype)
        rows, columns = fields.shape[1:]
        self.check_shape((rows, columns))
        frame = float(rows * columns) * self.metric.pixel_size**2
        padded = F.pad(fields, (0, -columns % self.stride, 0, -rows % self.stride), value=self.dry)
        readout = _READOUT_SCALE * self.backbone(self.encoding(padded))
        with torch.autocast(fields.device.type, enabled=False):
            if self.prior is None:
                return self.heads(self.fc(readout), frame)
            relaxed = self.prior(fields)
            known = {name: relaxed[:, c] for c, name in enumerate(self.prior.metric.outputs)}
            raw = self.heads.inverse(known, frame)
            return self.heads(raw + self.fc(torch.cat([readout, _READOUT_SCALE * raw], dim=1)), frame)


def _dry(thresholds: Sequence[float], temperature: float) -> float:
    """A value below every soft mask's reach: 0, the natural one, unless a threshold lies there or below."""
    lowest = thresholds[0]
    return 0.0 if lowest > 0 else lowest - 20 * temperature * float(threshold_sizes(thresholds)[0])


def _relaxed_part(metric: Metric, temperature: float) -> RelaxedMinkowski | None:
    """The relaxation of those of a metric's outputs that have one."""
    if not isinstance(metric, Minkowski):
        return None
    outputs = [name for name in metric.outputs if name in RELAXABLE]
    return (
        RelaxedMinkowski(Minkowski(**{**metric.arguments(), "outputs": outputs}), temperature)
        if outputs
        else None
    )


ARCHITECTURES: dict[str, type[ConstrainedEmulator]] = {"constrained": ConstrainedEmulator}
"""Emulators by the name that `--arch` takes."""
