"""CNN emulators: fields in physical units to curves in physical units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ArgumentError
from ..metrics import Metric, Minkowski
from .backbone import PlainBackbone, ResidualBackbone
from .encodings import LevelEncoding, LogEncoding
from .fields import as_batch, check_shape
from .heads import ConstrainedHeads
from .relaxed import RelaxedMinkowski
from .spectral import KINDS

_RAW_SCALE = 0.25
"""Brings the prior's raw values, around 5, to order 1; part of the architecture."""
_CHOICES = {
    "backbone": ("plain", "residual"),
    "readout": ("last", "all"),
    "heads": ("free", "constrained"),
    "isoperimetric": ("valid", "textbook"),
    "spectral": KINDS,
}


class ConvEmulator(nn.Module):
    """A CNN with output heads, and, where asked for, a relaxed prior that it corrects.

    With a prior, the metric's relaxation is carried through the inverse of the heads, and the network
    adds to it there; the last layer starts at 0, so that training starts from the relaxation, made
    admissible.

    Args:
        metric: the metric to emulate; its declarations build the heads.
        widths: channels of the backbone's stages, each a multiple of 8.
        hidden: width of the fully connected layers.
        backbone: "plain" (convolutions, ReLU, max-pooling) or "residual" (entry convolution,
            pre-activation residual blocks with GroupNorm and GELU).
        depth: residual blocks of a stage.
        readout: of the residual backbone: "last" stage, averaged, or "all" stages, summed.
        spectral: spectral normalisation of the stages' convolutions: "none", "power" (of the reshaped
            kernel, by power iteration) or "exact" (of the convolution itself).
        heads: "constrained" by what the metric declares, or "free".
        isoperimetric: lower bound of a Minkowski perimeter in constrained heads: the "valid" one that
            is declared, or the "textbook" P^2 >= 4 pi A, which exact values break.
        masks: soft excursion masks that the backbone sees, spread over the thresholds; 0: the
            field on a log-like scale alone.
        mask_temperature: their temperature, relative to their thresholds.
        prior: relative temperature of the relaxed prior, or None to do without one; a metric of which no
            relaxation is known has none in any case.

    Raises:
        ArgumentError: an argument out of range, or constraints that no head can guarantee.
    """

    def __init__(
        self,
        metric: Metric,
        widths: Sequence[int] = (32, 64, 128, 256),
        hidden: int = 256,
        backbone: str = "residual",
        depth: int = 1,
        readout: str = "last",
        spectral: str = "power",
        heads: str = "constrained",
        isoperimetric: str = "valid",
        masks: int = 0,
        mask_temperature: float = 0.1,
        prior: float | None = None,
    ) -> None:
        super().__init__()
        chosen = {
            "backbone": backbone,
            "readout": readout,
            "heads": heads,
            "isoperimetric": isoperimetric,
            "spectral": spectral,
        }
        for name, value in chosen.items():
            if value not in _CHOICES[name]:
                raise ArgumentError(f"{name} must be one of {', '.join(_CHOICES[name])}, got {value!r}")
        if not widths or any(width <= 0 or width % 8 for width in widths):
            raise ArgumentError(f"widths must be positive multiples of 8, got {list(widths)}")
        for name, number in (("hidden", hidden), ("depth", depth)):
            if number <= 0:
                raise ArgumentError(f"{name} must be positive, got {number}")
        if masks < 0 or not 0 < mask_temperature < float("inf"):
            raise ArgumentError(
                "masks must not be negative and mask_temperature must be positive, "
                f"got {masks} and {mask_temperature!r}"
            )
        guarantee = "free" if heads == "free" else "declared"
        if isoperimetric == "textbook":
            if heads == "free":
                raise ArgumentError(
                    f"isoperimetric (={isoperimetric!r}) is for constrained heads; these are free"
                )
            guarantee = "textbook"
        relaxable = isinstance(metric, Minkowski)
        self.metric = metric
        self._arguments: dict[str, Any] = {
            "widths": list(widths),
            "hidden": int(hidden),
            "depth": int(depth),
            "masks": int(masks),
            "mask_temperature": float(mask_temperature),
            "prior": prior if relaxable else None,
            **chosen,
        }
        self.encoding = (
            LevelEncoding(metric.thresholds, masks, mask_temperature)
            if masks
            else LogEncoding(metric.thresholds)
        )
        self.backbone = (
            PlainBackbone(self.encoding.channels, tuple(widths), spectral)
            if backbone == "plain"
            else ResidualBackbone(self.encoding.channels, tuple(widths), depth, readout, spectral)
        )
        self.heads = ConstrainedHeads(metric, guarantee)
        self.prior = None
        if prior is not None and isinstance(metric, Minkowski):
            self.prior = RelaxedMinkowski(metric, prior)
        inputs = self.backbone.features + (self.heads.raw_size if self.prior else 0)
        last = nn.Linear(hidden, self.heads.raw_size)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.fc = nn.Sequential(
            nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), last
        )

    @property
    def stride(self) -> int:
        """Fields are padded (dry) to multiples of this, and must not be smaller."""
        return self.backbone.stride

    def arguments(self) -> dict[str, Any]:
        """The JSON-able keyword arguments, beside the metric, that build this module again."""
        return dict(self._arguments)

    def forward(self, fields: Tensor) -> Tensor:
        """Curves (N, C, Q), in the metric's units, of fields (N, H, W) or (N, 1, H, W)."""
        fields = as_batch(fields, self.encoding.dry).to(self.encoding.scale.dtype)
        rows, columns = fields.shape[1:]
        check_shape((rows, columns), self.stride)
        frame = float(rows * columns) * self.metric.pixel_size**2
        padded = F.pad(fields, (0, -columns % self.stride, 0, -rows % self.stride), value=self.encoding.dry)
        readout = self.backbone(self.encoding(padded))
        with torch.autocast(fields.device.type, enabled=False):
            if self.prior is None:
                return self.heads(self.fc(readout), frame)
            relaxed = self.prior(fields)
            known = {name: relaxed[:, c] for c, name in enumerate(self.prior.metric.outputs)}
            raw = self.heads.inverse(known, frame)
            return self.heads(raw + self.fc(torch.cat([readout, _RAW_SCALE * raw], dim=1)), frame)
