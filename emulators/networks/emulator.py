"""CNN emulators: fields in physical units to curves in physical units."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ArgumentError
from ...foundation.arguments import as_choice, as_flag
from ...foundation.rules import (
    Rule,
    all_of,
    increasing_numbers,
    list_of,
    multiples,
    number_from,
    obey,
    optional,
    positive,
    positive_numbers,
    whole,
)
from ...metrics import Metric
from ...metrics.pairwise import identity_values
from ..certificates import BOUNDS, Layers, Unbounded, chain, padded
from ..curves import as_scales, full_precision
from ..differentiable import Trainable
from ..fields import check_shape, validated
from ..relaxations.relaxation import relaxable, relaxation, takes_spreads, takes_temperature
from .backbone import PlainBackbone, ResidualBackbone
from .encodings import LevelEncoding, LogEncoding, intensity_axis, spread_axis
from .gate import Gate
from .heads import ConstrainedHeads
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


class ConvEmulator(Trainable):
    """A CNN with output heads, and, where asked for, a relaxed prior that it corrects.

    Of a pairwise metric it sees both fields and the size of their difference. A symmetric metric's stand-in
    is symmetric, and has the declared value for a field and itself.

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
        located: whether the residual backbone also reads out where in the field what it sees lies, such as
            the centres and extents of soft excursion masks: for metrics that depend on it.
        heads: "constrained" by what the metric declares, or "free".
        isoperimetric: lower bound of a Minkowski perimeter in constrained heads: the "valid" one that
            is declared, or the "textbook" P^2 >= 4 pi A, which exact values break.
        masks: soft excursion masks that the backbone sees, spread over the thresholds; 0: the
            field on a log-like scale alone.
        mask_temperature: their temperature, relative to the spreads of the data at their thresholds.
        prior: relative temperature of the relaxed prior, or None to do without one; a metric of which no
            relaxation is known has none in any case, and a relaxation without a temperature is as it is.
        intensities: of a metric without thresholds: values of the field that stand for them in what the
            network sees, such as quantiles of the training data; default: a log axis around 1.
        spreads: how far the training data lie from each threshold, or what stands for it, see
            `emuloss.emulators.spreads_in`; default: as far as they tell by their distances.

    Raises:
        ArgumentError: an argument out of range, or constraints that no head can guarantee.
    """

    argument_rules: ClassVar[Mapping[str, Rule]] = {
        "widths": all_of(multiples(8, "positive multiples of 8"), list_of(whole(1, 4096), 1, 8)),
        "hidden": all_of(positive, whole(1, 16384)),
        "depth": all_of(positive, whole(1, 8)),
        "masks": whole(0, 1024),
        "mask_temperature": all_of(positive, number_from(1e-6, 1e6)),
        "prior": optional(number_from(1e-3, 1e3)),
        "intensities": increasing_numbers,
        "spreads": positive_numbers,
    }
    sizes: Tensor | None
    identity: Tensor

    def __init__(
        self,
        metric: Metric,
        widths: Sequence[int] = (32, 64, 128, 256),
        hidden: int = 256,
        backbone: str = "residual",
        depth: int = 1,
        readout: str = "last",
        spectral: str = "power",
        located: bool = False,
        heads: str = "constrained",
        isoperimetric: str = "valid",
        masks: int = 0,
        mask_temperature: float = 0.1,
        prior: float | None = None,
        intensities: Sequence[float] | None = None,
        spreads: Sequence[float] | None = None,
    ) -> None:
        sizes = {"widths": widths, "hidden": hidden, "depth": depth, "masks": masks}
        obey(self.argument_rules, {**sizes, "mask_temperature": mask_temperature})
        super().__init__(intensity_axis(metric, intensities))
        self.metric = metric
        self._arguments: dict[str, Any] = {
            "widths": list(widths),
            "hidden": int(hidden),
            "depth": int(depth),
            "masks": int(masks),
            "mask_temperature": float(mask_temperature),
            "prior": prior if relaxable(metric) else None,
            "backbone": backbone,
            "readout": readout,
            "heads": heads,
            "isoperimetric": isoperimetric,
            "spectral": spectral,
        }
        guarantee = _guarantee_of(self._arguments)
        if as_flag("located", located):
            if backbone == "plain":
                raise ArgumentError("located is for the residual backbone; this one is plain")
            self._arguments["located"] = (
                True  # named where it is used alone: earlier versions have no such thing
            )
        if intensities is not None:
            self._arguments["intensities"] = list(self.intensities)
        around = spread_axis(metric, intensities, spreads)
        self._arguments["spreads"] = list(around)
        self.encoding = (
            LevelEncoding(self.intensities, around, masks, mask_temperature)
            if masks
            else LogEncoding(self.intensities, around)
        )
        # Of a pair: both fields, and the size of their difference.
        channels = self.encoding.channels * (1 if metric.arity == 1 else 3)
        self.backbone = _backbone(channels, self._arguments)
        self.heads = ConstrainedHeads(metric, guarantee)
        self.register_buffer("sizes", self._free_sizes(), persistent=False)
        self.gate: Gate | None = None
        values = identity_values(metric)
        if values is not None:
            self.gate = Gate()
            self.register_buffer(
                "identity", torch.tensor(values, dtype=torch.float32)[:, None], persistent=False
            )
        prior = self._arguments["prior"]
        self.prior = None
        if prior is not None:
            told = {"temperature": prior} if takes_temperature(metric) else {}
            if spreads is not None and takes_spreads(metric):
                told["spreads"] = around
            self.prior = relaxation(metric, **told)
        inputs = self.backbone.features + (self.heads.raw_size if self.prior else 0)
        self.fc = _fully_connected(inputs, hidden, self.heads.raw_size)
        if self._arguments.get("located"):
            # Where things lie counts once it is found to: for other metrics it were noise.
            reads = cast("ResidualBackbone", self.backbone)
            places = slice(reads.features - reads.moments, reads.features)
            nn.init.zeros_(cast("nn.Linear", self.fc[0]).weight[:, places])

    @property
    def last(self) -> nn.Linear:
        """The layer that gives the raw values of the heads."""
        return cast("nn.Linear", self.fc[-1])

    @property
    def stride(self) -> int:
        """Fields are padded (dry) to multiples of this, and must not be smaller."""
        return self.backbone.stride

    def arguments(self) -> dict[str, Any]:
        """The JSON-able keyword arguments, beside the metric, that build this module again."""
        return dict(self._arguments)

    def _free_sizes(self) -> Tensor | None:
        """`Metric.scales` (C, 1) of the outputs that no constraint speaks of, 1 of others; None: all are 1.

        A free head gives any number on the signed-log scale; what is to be held to bounds is left alone.
        """
        bound = {name for c in self.heads.constraints for name in (c.output, *c.of)}
        return as_scales(
            [
                1.0 if name in bound else size
                for name, size in zip(self.metric.outputs, self.metric.scales, strict=True)
            ]
        )

    @torch.no_grad()
    def start_at(self, curves: Tensor, frame: float) -> None:
        """Set the last layer so that the network starts near given curves (C, Q); frame: the field's area.

        A network with a prior starts from that, and is left as it is.
        """
        if self.prior is None:
            self.last.bias.copy_(self._inverse(curves[None], frame)[0])

    def _inverse(self, curves: Tensor, frame: float) -> Tensor:
        """Raw values (N, raw_size) that lead to curves (N, C, Q), as far as these are admissible."""
        if self.sizes is not None:
            curves = curves / self.sizes.to(curves)
        known = dict(zip(self.metric.outputs, curves.unbind(1), strict=True))
        return self.heads.inverse(known, frame)

    def forward(self, fields: Tensor) -> Tensor:
        """Curves (N, C, Q), in the metric's units.

        Args:
            fields: (N, H, W) or (N, 1, H, W); of a pairwise metric pairs (N, 2, H, W), prediction and
                observation.
        """
        dry = self.encoding.dry
        given = fields
        fields = validated(self.metric.arity, fields, dry).to(self.encoding.scale.dtype)
        rows, columns = fields.shape[-2:]
        check_shape((rows, columns), self.stride)
        frame = self.metric.frame((rows, columns))
        padded = F.pad(fields, (0, -columns % self.stride, 0, -rows % self.stride), value=dry)
        if self.metric.arity == 1:
            readout = self.backbone(self.encoding(padded))
        else:
            readout, difference = self._read_pairs(padded)
        with full_precision(fields):
            if self.prior is None:
                curves = self.heads(self.fc(readout), frame)
            else:
                # It knows what was not measured from what is dry.
                raw = self._inverse(self.prior(given.to(fields.dtype)), frame)
                curves = self.heads(raw + self.fc(torch.cat([readout, _RAW_SCALE * raw], dim=1)), frame)
            if self.sizes is not None:
                curves = curves * self.sizes.to(curves)
            return curves if self.gate is None else self._gated(curves, self.gate(difference), frame)

    def _read_pairs(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """Readout (N, features) of padded pairs (N, 2, H, W), and their difference as the network sees it.

        Where the metric is symmetric, the readout is the mean over both orders.
        """
        first, second = (self.encoding(field) for field in pairs.unbind(1))
        difference = first - second
        orders = [(first, second)] + [(second, first)] * self.metric.symmetric
        seen = [torch.cat([*order, difference.abs()], dim=1) for order in orders]
        # Not in chunks: in exports the size of the batch is free.
        readouts = self.backbone(torch.cat(seen)).unflatten(0, (len(orders), first.shape[0])).unbind()
        return sum(readouts[1:], start=readouts[0]) / len(orders), difference

    def _gated(self, curves: Tensor, gate: Tensor, frame: float) -> Tensor:
        """Curves drawn to the value that a field and itself have, to which they come as the gate closes.

        Between two points that obey constraints each point obeys them as well, unless these are curved:
        then it is moved back.
        """
        curves = torch.lerp(self.identity.to(curves).expand_as(curves), curves, gate)
        return self.heads.project(curves, frame) if self.heads.constraints else curves


# Networks


def _guarantee_of(arguments: dict[str, Any]) -> str:
    """What the heads hold, by validated arguments of a `ConvEmulator`.

    Raises:
        ArgumentError: one of them out of range.
    """
    for name, choices in _CHOICES.items():
        as_choice(name, arguments[name], choices)
    if arguments["isoperimetric"] == "valid":
        return "free" if arguments["heads"] == "free" else "declared"
    if arguments["heads"] == "free":
        raise ArgumentError("isoperimetric (='textbook') is for constrained heads; these are free")
    return "textbook"


def _backbone(channels: int, arguments: dict[str, Any]) -> PlainBackbone | ResidualBackbone:
    """The backbone of so many input channels that arguments of a `ConvEmulator` ask for."""
    widths, spectral = tuple(arguments["widths"]), arguments["spectral"]
    if arguments["backbone"] == "plain":
        return PlainBackbone(channels, widths, spectral)
    kinds = arguments["readout"], spectral, arguments.get("located", False)
    return ResidualBackbone(channels, widths, arguments["depth"], *kinds)


def _fully_connected(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Three layers, the last of which gives 0 until it is trained."""
    last = nn.Linear(hidden, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), last)


@BOUNDS.register(ConvEmulator)
def _bound(module: ConvEmulator, shape: tuple[int, int]) -> tuple[float, Layers]:
    backbone = module.backbone
    if not isinstance(backbone, PlainBackbone):
        raise Unbounded(f"no rule for {type(backbone).__name__}")
    if module.metric.arity != 1:
        raise Unbounded("pairs of fields")
    if module.prior is not None or module.heads.constraints:
        raise Unbounded("constrained heads" if module.heads.constraints else "relaxed prior")
    convolutions = chain(backbone.layers, "backbone.layers")
    with torch.no_grad():
        example = module.encoding.scale.new_zeros(1, module.encoding.channels, *padded(shape, module.stride))
        pixels = math.prod(backbone.layers(example).shape[2:])
    layers: Layers = [
        ("encoding", module.encoding.slope()),
        *convolutions,
        ("mean", 1 / math.sqrt(pixels)),
        *chain(module.fc, "fc"),
    ]
    # Free heads are the identity on the signed-log scale, but for a clamp.
    return math.prod(bound for _, bound in layers), layers
