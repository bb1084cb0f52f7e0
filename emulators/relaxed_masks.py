"""Analytical relaxations of scores and box counts: soft masks in place of excursion sets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ArgumentError
from ..metrics import CSI, FSS, SAL, BoxCount, Metric
from ..metrics.boxcount import dimension
from .fields import as_batch, as_pairs
from .relaxed import NoRelaxation, relaxation
from .soft_counts import threshold_sizes


class RelaxedMasks(nn.Module):
    """Curves from soft excursion masks s = sigmoid((x - u)/tau), which tend to the exact ones as tau -> 0.

    Args:
        metric: the metric.
        temperature: tau relative to each threshold, tau_q = temperature * |u_q|; or one value a threshold,
            relative likewise. A threshold of 0 takes the smallest |u| of the others.
        forward: "soft", or "exact": exact values, with the gradient of the soft ones.
        thresholds: those of the masks; default: the metric's.

    Raises:
        ArgumentError: an argument out of range.
    """

    stride = 1
    thresholds: Tensor
    sizes: Tensor
    relative: Tensor

    def __init__(
        self,
        metric: Metric,
        temperature: float | Sequence[float] = 0.05,
        forward: str = "soft",
        *,
        thresholds: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if forward not in ("soft", "exact"):
            raise ArgumentError(f"forward must be 'soft' or 'exact', got {forward!r}")
        self.metric = metric
        self.exact = forward == "exact"
        thresholds = metric.thresholds if thresholds is None else thresholds
        for name, values in (
            ("thresholds", np.array(thresholds)),
            ("sizes", threshold_sizes(thresholds)),
            ("relative", np.empty(0)),
        ):
            self.register_buffer(name, torch.from_numpy(values), persistent=False)
        self.temperature = temperature

    @property
    def temperature(self) -> float | tuple[float, ...]:
        """Relative temperature; set it between steps to anneal (see `geometric`)."""
        return self._temperature

    @temperature.setter
    def temperature(self, value: float | Sequence[float]) -> None:
        count = len(self.thresholds)
        try:
            relative = np.atleast_1d(np.asarray(value, np.float64))
        except (TypeError, ValueError):
            relative = np.empty(0)
        if relative.shape not in ((1,), (count,)) or not (np.isfinite(relative) & (relative > 0)).all():
            raise ArgumentError(
                f"temperature must be one positive number, or one for each of {count}, got {value!r}"
            )
        self._temperature = float(relative[0]) if np.ndim(value) == 0 else tuple(relative.tolist())
        self.relative = torch.from_numpy(np.broadcast_to(relative, (count,)).copy()).to(self.relative)

    def arguments(self) -> dict[str, Any]:
        """The JSON-able keyword arguments, beside the metric, that build this module again."""
        temperature = self.temperature
        return {
            "temperature": temperature if isinstance(temperature, float) else list(temperature),
            "forward": "exact" if self.exact else "soft",
        }

    def forward(self, fields: Tensor) -> Tensor:
        """Curves (N, C, Q), in the metric's units, of fields (N, H, W), or of pairs (N, 2, H, W)."""
        batch = as_batch(fields, -math.inf) if self.metric.arity == 1 else as_pairs(fields, -math.inf)
        together = fields if fields.ndim == 4 else fields[:, None]
        missing = torch.isnan(together).any(1, keepdim=True)
        with torch.autocast(batch.device.type, enabled=False):
            curves = self._soft(batch, missing)
        if self.exact:
            arrays = together.detach().to(batch.dtype).cpu().numpy()
            exact = self.metric(*(arrays[:, k] for k in range(self.metric.arity)))
            curves = torch.from_numpy(exact).to(curves) + (curves - curves.detach())
        return curves

    def _masks(self, values: Tensor) -> Tensor:
        """Memberships (N, Q, H, W) of values (N, H, W)."""
        u = self.thresholds.to(values.dtype)[:, None, None]
        tau = (self.relative * self.sizes).to(values.dtype)[:, None, None]
        return torch.sigmoid((values[:, None] - u) / tau)

    def _remainder(self, values: Tensor) -> Tensor:
        """Pixels (Q,) that are added to sums of memberships in denominators.

        Memberships of a dry field are tiny, but not 0: their ratios would tell two dry fields apart. As
        tau -> 0 they vanish faster than this.
        """
        return self.relative.to(values.dtype)

    def _soft(self, batch: Tensor, missing: Tensor) -> Tensor:
        """Curves (N, C, Q) of a validated batch, dry where it is missing (N, 1, H, W)."""
        raise NotImplementedError


class RelaxedFSS(RelaxedMasks):
    """Fractions skill score of soft masks: shares of windows are means of memberships.

    It stays symmetric, within [0, 1], and 1 for a field and itself.
    """

    def _soft(self, batch: Tensor, missing: Tensor) -> Tensor:
        predicted, observed = (self._masks(fields) for fields in batch.unbind(1))
        lost = missing.to(batch.dtype)
        scores = []
        for size in self.metric.windows:  # type: ignore[attr-defined]
            # What was not measured is no part of windows; the world outside is, and dry.
            known = (1 - lost) / (1 - _window_means(lost, size) + lost)
            p, o = (known * _window_means(masks, size) for masks in (predicted, observed))
            error = (p - o).square().sum((2, 3))
            reference = (p.square() + o.square()).sum((2, 3))
            # A single wet pixel gives size^2 windows a share of 1/size^2.
            scores.append(1 - error / (reference + self._remainder(batch) / size**2))
        return torch.stack(scores, dim=1)


class RelaxedCSI(RelaxedMasks):
    """Scores of a soft contingency table: a hit is the smaller membership of prediction and observation.

    They stay within [0, 1], obey the relation between csi, pod and far, and are the best for a field and
    itself.
    """

    def _soft(self, batch: Tensor, missing: Tensor) -> Tensor:
        masks = [self._masks(fields) for fields in batch.unbind(1)]
        hits, predicted, observed = (each.sum((2, 3)) for each in (torch.minimum(*masks), masks[0], masks[1]))
        rest = self._remainder(batch)
        scores = {
            "csi": (hits + rest) / (predicted + observed - hits + rest),
            "pod": (hits + rest) / (observed + rest),
            "far": (predicted - hits) / (predicted + rest),
        }
        return torch.stack([scores[output] for output in self.metric.outputs], dim=1)


class RelaxedBoxCount(RelaxedMasks):
    """Box counts of soft masks: a box holds as much of the set as its largest membership."""

    def _soft(self, batch: Tensor, missing: Tensor) -> Tensor:
        scales = self.metric.sizes  # type: ignore[attr-defined]
        # The membership grows with the value, so that the largest one is that of the largest value.
        boxes = [self._masks(_box_maxima(batch, scale)).sum((2, 3)) for scale in scales]
        curves = {f"boxes_{scale}": counts for scale, counts in zip(scales, boxes, strict=True)}
        if "dimension" in self.metric.outputs:
            curves["dimension"] = dimension(scales, *boxes)
        return torch.stack([curves[output] for output in self.metric.outputs], dim=1)


class RelaxedAmplitude(RelaxedMasks):
    """Amplitude error of SAL: rain counts by its membership in the wet pixels.

    Where all rain above 0 counts, nothing is relaxed: the exact value has a gradient. The others of SAL's
    outputs depend on objects, of which no relaxation is known.

    Raises:
        NoRelaxation: a metric with other outputs than the amplitude.
        ArgumentError: see `RelaxedMasks`.
    """

    metric: SAL

    def __init__(
        self, metric: SAL, temperature: float | Sequence[float] = 0.05, forward: str = "soft"
    ) -> None:
        if metric.outputs != ("amplitude",):
            others = ", ".join(output for output in metric.outputs if output != "amplitude")
            raise NoRelaxation(
                f"no relaxation of metric {metric.name!r} is known for {others}; take outputs=['amplitude'], "
                "or train an emulator with train_surrogate.py"
            )
        super().__init__(metric, temperature, forward, thresholds=(metric.wet,))

    def forward(self, fields: Tensor) -> Tensor:
        """Curves (N, 1, 1) of pairs (N, 2, H, W); SAL takes no infinite pixel for measured."""
        return super().forward(fields.masked_fill(fields.isinf(), math.nan))

    def _soft(self, batch: Tensor, missing: Tensor) -> Tensor:
        wet = self.metric.wet
        rain = batch.clamp(min=0)  # missing pixels are dry
        if wet:
            rain = rain * self._masks(batch.flatten(0, 1))[:, 0].view_as(batch)
        predicted, observed = rain.sum((2, 3)).unbind(1)
        # Drizzle below the bound is no rain to compare.
        mean = (predicted + observed) / 2 + wet * self._remainder(batch)
        amplitude = (predicted - observed) / torch.where(mean > 0, mean, 1.0)
        return (amplitude.abs() if self.metric.absolute else amplitude)[:, None, None]


def _window_means(x: Tensor, size: int) -> Tensor:
    """Means over windows of size x size, zeros outside; same shape (N, channels, H, W)."""
    x = F.avg_pool2d(x, (size, 1), stride=1, padding=(size // 2, 0))
    return F.avg_pool2d(x, (1, size), stride=1, padding=(0, size // 2))


def _box_maxima(fields: Tensor, size: int) -> Tensor:
    """Maxima (N, ceil(H/size), ceil(W/size)) over boxes of fields (N, H, W)."""
    rows, columns = fields.shape[1:]
    padded = F.pad(fields, (0, -columns % size, 0, -rows % size), value=-math.inf)
    return F.max_pool2d(padded[:, None], size)[:, 0]


for _kind, _relaxed in (
    (FSS, RelaxedFSS),
    (CSI, RelaxedCSI),
    (BoxCount, RelaxedBoxCount),
    (SAL, RelaxedAmplitude),
):
    relaxation.register(_kind, _relaxed)
