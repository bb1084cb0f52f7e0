"""Relaxation of box counts."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ...metrics import BoxCount
from ...metrics.boxcount import dimension
from .masks import RelaxedMasks
from .relaxation import RELAXATIONS


@RELAXATIONS.register(BoxCount)
class RelaxedBoxCount(RelaxedMasks):
    """Box counts of soft masks: a box holds as much of the set as its largest membership."""

    metric: BoxCount

    def soft(self, batch: Tensor, given: Tensor) -> Tensor:
        """Soft curves (N, C, Q)."""
        scales = self.metric.sizes
        # The membership grows with the value, so that the largest one is that of the largest value.
        boxes = [self.memberships(_box_maxima(batch, scale)).sum((2, 3)) for scale in scales]
        curves = {f"boxes_{scale}": counts for scale, counts in zip(scales, boxes, strict=True)}
        if "dimension" in self.metric.outputs:
            curves["dimension"] = dimension(scales, *boxes)
        return torch.stack([curves[output] for output in self.metric.outputs], dim=1)


def _box_maxima(fields: Tensor, size: int) -> Tensor:
    """Maxima (N, ceil(H/size), ceil(W/size)) over boxes of fields (N, H, W)."""
    rows, columns = fields.shape[1:]
    # A box that sticks out of the field holds no more than one that ends with it.
    tall, wide = min(size, rows), min(size, columns)
    padded = F.pad(fields, (0, -columns % wide, 0, -rows % tall), value=-math.inf)
    return F.max_pool2d(padded[:, None], (tall, wide))[:, 0]
