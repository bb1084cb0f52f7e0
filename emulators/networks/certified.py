"""A CNN emulator whose every layer has a sound Lipschitz bound, and whose own bound is their product."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ArgumentError
from ...foundation.rules import (
    Rule,
    all_of,
    increasing_numbers,
    list_of,
    multiples,
    number_from,
    obey,
    of,
    positive,
    positive_numbers,
    whole,
)
from ...metrics import Metric
from ...metrics.constraints import FRAME, AtLeast, AtMost, NonDecreasing, NonIncreasing
from ..certificates import BOUNDS, Layers, layer_bound, padded
from ..curves import as_scales, full_precision, log_curves, signed_expm1, signed_log1p
from ..differentiable import Trainable
from ..fields import as_batch, check_shape
from .encodings import LevelEncoding, intensity_axis, spread_axis
from .heads import LARGEST_LOG
from .spectral import spectral_conv, spectral_linear

_OUTPUT_SCALE = 8.0
"""Curves reach 10 on the signed-log scale, and weights change by the learning rate a step: outputs are
multiplied by this, so that they get there soon; part of the architecture."""
_GAIN_SCALE = 8.0
"""Likewise for gains: gain = exp(_GAIN_SCALE * parameter)."""


_MARGIN = 2.0
"""Least distance of the start of training from a clamp, beyond which there is no gradient."""


def max_min(x: Tensor) -> Tensor:
    """Larger, then smaller of each pair of channels (N, 2 C, ...): 1-Lipschitz, and keeps the norm.

    Anil, Lucas and Grosse, "Sorting out Lipschitz function approximation" (2019).
    """
    first, second = x.chunk(2, dim=1)
    return torch.cat([torch.maximum(first, second), torch.minimum(first, second)], dim=1)


def centred(x: Tensor) -> Tensor:
    """Features (N, C, ...) less their mean over channels: an orthogonal projection."""
    return x - x.mean(1, keepdim=True)


class AveragedBlock(nn.Module):
    """Residual block (x + f(x))/2, f two convolutions of norm 1: no more than 1-Lipschitz itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(spectral_conv(width, width, 3, kind="exact") for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same shape (N, width, h, w)."""
        y = x
        for conv in self.convs:
            y = conv(max_min(centred(y)))
        return (x + y) / 2


def _direction(metric: Metric, output: str) -> type | None:
    """The constraint by which an output is declared monotone along its levels; None where none is."""
    kinds = (type(c) for c in metric.constraints if c.output == output)
    return next((kind for kind in kinds if kind in (NonIncreasing, NonDecreasing)), None)


class MonotoneHeads(nn.Module):
    """Signed-log values to curves by maps of norm 1: sorting and clamping.

    Outputs declared monotone are sorted along their thresholds, and bounds that are constant
    or depend on the frame alone are kept by clamping. Constraints between outputs are not: a map onto
    them has no such norm.

    Args:
        metric: its `outputs`, `levels`, `scales` and `constraints` decide the maps.
    """

    scales: Tensor | None

    def __init__(self, metric: Metric) -> None:
        super().__init__()
        self.metric = metric
        self.directions = [_direction(metric, name) for name in metric.outputs]
        self.register_buffer("scales", as_scales(metric.scales), persistent=False)

    def forward(self, raw: Tensor, frame: float) -> Tensor:
        """Curves (N, C, Q) of signed-log values (N, C, Q); frame is the field's area."""
        low, high = (limits.to(raw)[:, None] for limits in self._limits(frame, raw.device))
        parts = [
            part.sort(dim=1, descending=kind is NonIncreasing).values if kind else part
            for part, kind in zip(raw.unbind(1), self.directions, strict=True)
        ]
        curves = signed_expm1(torch.stack(parts, dim=1).clamp(low, high))
        return curves if self.scales is None else curves * self.scales.to(curves)

    def inverse(self, curves: Tensor, frame: float) -> Tensor:
        """Signed-log values (N, C, Q) of curves (N, C, Q), kept well inside of what `forward` clamps to."""
        low, high = (limits.to(curves)[:, None] for limits in self._limits(frame, curves.device))
        inside = (high - low).clamp(max=2 * _MARGIN) / 2
        return log_curves(curves, self.metric.scales).clamp(low + inside, high - inside)

    def _limits(self, frame: float, device: torch.device) -> tuple[Tensor, Tensor]:
        """Lowest and highest signed-log value of each output, (C,) each, made where they are wanted."""
        size = torch.full((), frame, dtype=torch.float64, device=device)
        low = [torch.full_like(size, -LARGEST_LOG)] * len(self.metric.outputs)
        high = [torch.full_like(size, LARGEST_LOG)] * len(self.metric.outputs)
        for c in self.metric.constraints:
            if isinstance(c, AtLeast | AtMost) and set(c.of) <= {FRAME}:
                k = self.metric.outputs.index(c.output)
                bound = c.bound(*(size for _ in c.of)) / self.metric.scales[k]
                if isinstance(bound, Tensor):
                    bound = signed_log1p(bound)
                else:
                    bound = torch.full_like(size, math.copysign(math.log1p(abs(bound)), bound))
                if isinstance(c, AtLeast):
                    low[k] = torch.maximum(low[k], bound)
                else:
                    high[k] = torch.minimum(high[k], bound)
        return torch.stack(low), torch.stack(high)


class CertifiedEmulator(Trainable):
    """CNN of layers of norm 1 and a few learned gains; see `emuloss.emulators.certify`.

    Soft excursion masks and the field on a log-like scale enter a convolution of stride 2, and stages
    of averaged residual blocks at halving resolutions, between which features are averaged over
    2 x 2 blocks, times 2 (norm 1). The masks and every stage are read out as sums over the field, less
    those of a dry field, on a signed-log scale: slog(gain * sum), of norm gain * sqrt(H W). What is
    dry thus counts nothing, and the gain decides below which size things go unnoticed. Fully
    connected layers of norm 1, and a last one that is free, lead to the heads.

    Args:
        metric: the metric to emulate.
        widths: channels of each stage, even; the first stage works at half the input's resolution.
        hidden: width of the fully connected layers, even.
        masks: soft excursion masks, spread over the thresholds.
        mask_temperature: their temperature, relative to the spreads of the data at their thresholds.
        gain: of the readouts at the start of training.
        intensities: of a metric without thresholds: values of the field that stand for them; default: a
            log axis around 1.
        spreads: how far the training data lie from each threshold, or what stands for it, see
            `emuloss.emulators.spreads_in`; default: as far as they tell by their distances.

    Raises:
        ArgumentError: an argument out of range.
    """

    argument_rules: ClassVar[Mapping[str, Rule]] = {
        "widths": all_of(multiples(2, "positive even numbers"), list_of(whole(1, 4096), 1, 8)),
        "hidden": all_of(of(Integral, "a positive even number", lambda size: size % 2 == 0), whole(1, 16384)),
        "masks": all_of(positive, whole(1, 1024)),
        "mask_temperature": all_of(positive, number_from(1e-6, 1e6)),
        "gain": all_of(positive, number_from(1e-6, 1e6)),
        "intensities": increasing_numbers,
        "spreads": positive_numbers,
    }

    def __init__(
        self,
        metric: Metric,
        widths: Sequence[int] = (16, 32, 64),
        hidden: int = 128,
        masks: int = 7,
        mask_temperature: float = 0.5,
        gain: float = 0.1,
        intensities: Sequence[float] | None = None,
        spreads: Sequence[float] | None = None,
    ) -> None:
        sizes = {"widths": widths, "hidden": hidden, "masks": masks}
        obey(self.argument_rules, {**sizes, "mask_temperature": mask_temperature, "gain": gain})
        super().__init__(intensity_axis(metric, intensities))
        if metric.arity != 1:
            raise ArgumentError(
                f"the certified architecture is for metrics of one field, got {metric.name!r}; "
                "take another one, such as constrained"
            )
        self.metric = metric
        self._arguments: dict[str, Any] = {
            "widths": list(widths),
            "hidden": int(hidden),
            "masks": int(masks),
            "mask_temperature": float(mask_temperature),
            "gain": float(gain),
        }
        if intensities is not None:
            self._arguments["intensities"] = list(self.intensities)
        around = spread_axis(metric, intensities, spreads)
        self._arguments["spreads"] = list(around)
        self.encoding = LevelEncoding(self.intensities, around, masks, mask_temperature)
        channels = self.encoding.channels
        self.entry = spectral_conv(channels, widths[0], 5, stride=2, kind="exact")
        self.widen = nn.ModuleList(
            spectral_conv(a, b, 3, kind="exact") for a, b in itertools.pairwise(widths)
        )
        self.blocks = nn.ModuleList(AveragedBlock(width) for width in widths)
        self.log_gains = nn.Parameter(torch.full((1 + len(widths),), math.log(gain) / _GAIN_SCALE))
        outputs = len(metric.outputs) * len(metric.levels)
        last = nn.Linear(hidden, outputs)
        nn.init.normal_(last.weight, std=1 / (_OUTPUT_SCALE * math.sqrt(hidden)))
        # Away from the lower clamp at 0 that most outputs have, beyond which there is no gradient.
        nn.init.constant_(last.bias, 2 / _OUTPUT_SCALE)
        self.fc = nn.ModuleList(
            [spectral_linear(channels + sum(widths), hidden), spectral_linear(hidden, hidden), last]
        )
        self.heads = MonotoneHeads(metric)

    @property
    def stride(self) -> int:
        """Fields are padded (dry) to multiples of this, and must not be smaller."""
        return 2 ** len(self.blocks)

    def arguments(self) -> dict[str, Any]:
        """The JSON-able keyword arguments, beside the metric, that build this module again."""
        return dict(self._arguments)

    @torch.no_grad()
    def start_at(self, curves: Tensor, frame: float) -> None:
        """Set the last layer so that the network starts near given curves (C, Q); frame: the field's area."""
        last = cast("nn.Linear", self.fc[-1])
        last.bias.copy_(self.heads.inverse(curves[None], frame).flatten() / _OUTPUT_SCALE)

    def gains(self) -> Tensor:
        """Gains of the readouts: that of the encoding, then those of the stages."""
        return torch.exp(_GAIN_SCALE * self.log_gains)

    def forward(self, fields: Tensor) -> Tensor:
        """Curves (N, C, Q), in the metric's units, of fields (N, H, W) or (N, 1, H, W)."""
        dry = self.encoding.dry
        fields = as_batch(fields, dry).to(self.encoding.scale.dtype)
        rows, columns = fields.shape[1:]
        check_shape((rows, columns), self.stride)
        # The batch ends with a dry field, from which readouts are counted.
        fields = F.pad(fields, (0, -columns % self.stride, 0, -rows % self.stride, 0, 1), value=dry)
        sums = self._sums(self.encoding(fields))
        with full_precision(fields):
            x = torch.cat(
                [signed_log1p(gain * part) for gain, part in zip(self.gains(), sums, strict=True)], 1
            )
            for layer in self.fc[:-1]:
                x = max_min(layer(x))
            raw = _OUTPUT_SCALE * self.fc[-1](x)
            raw = raw.unflatten(1, (len(self.metric.outputs), -1))
            return self.heads(raw, self.metric.frame((rows, columns)))

    def _sums(self, x: Tensor) -> list[Tensor]:
        """Sums (N, features) of encoded fields (N + 1, channels, H, W) and of each stage."""
        sums = [_sum(x)]
        x = self.entry(x)
        for k, block in enumerate(self.blocks):
            if k:
                x = self.widen[k - 1](2 * F.avg_pool2d(x, 2))
            x = block(x)
            sums.append(2 ** (k + 1) * _sum(x))
        return sums


def _sum(x: Tensor) -> Tensor:
    """Sums (N, C) of features (N + 1, C, h, w) less those of the last field, in float32 or better.

    The difference of a pixel that is dry in both is 0 in any precision, so that dry ones add no error.
    """
    return (x[:-1] - x[-1:]).sum((2, 3), dtype=torch.promote_types(x.dtype, torch.float32))


@BOUNDS.register(CertifiedEmulator)
def _bound(module: CertifiedEmulator, shape: tuple[int, int]) -> tuple[float, Layers]:
    def bound(name: str) -> float:
        layers.append((name, layer_bound(module.get_submodule(name), name)))
        return layers[-1][1]

    layers: Layers = [("encoding", module.encoding.slope())]
    norm = layers[0][1]
    gains = module.gains().tolist()
    readouts = [gains[0] * norm]
    norm *= bound("entry")
    for k, gain in enumerate(gains[1:]):
        if k:
            norm *= bound(f"widen.{k - 1}")
        norm *= (1 + bound(f"blocks.{k}.convs.0") * bound(f"blocks.{k}.convs.1")) / 2
        readouts.append(gain * norm)
    layers += [(f"gain.{k}", gain) for k, gain in enumerate(gains)]
    # A stage's sum, times its stride, stretches by the root of the number of pixels.
    total = math.sqrt(math.prod(padded(shape, module.stride))) * math.hypot(*readouts)
    total *= math.prod(bound(f"fc.{k}") for k in range(len(module.fc)))
    layers.append(("scale", _OUTPUT_SCALE))
    return total * _OUTPUT_SCALE, layers
