"""Relaxation of the scores of a contingency table."""

from __future__ import annotations

import torch
from torch import Tensor

from ...metrics import CSI
from .masks import RelaxedMasks
from .relaxation import RELAXATIONS


@RELAXATIONS.register(CSI)
class RelaxedCSI(RelaxedMasks):
    """Scores of a soft contingency table: a hit is the smaller membership of prediction and observation.

    They stay within [0, 1], obey the relation between csi, pod and far, and are the best for a field and
    itself.
    """

    metric: CSI

    def soft(self, batch: Tensor, given: Tensor) -> Tensor:
        """Soft curves (N, C, Q)."""
        masks = [self.memberships(fields) for fields in batch.unbind(1)]
        hits, predicted, observed = (each.sum((2, 3)) for each in (torch.minimum(*masks), masks[0], masks[1]))
        rest = self.remainder(batch)
        scores = {
            "csi": (hits + rest) / (predicted + observed - hits + rest),
            "pod": (hits + rest) / (observed + rest),
            "far": (predicted - hits) / (predicted + rest),
        }
        return torch.stack([scores[output] for output in self.metric.outputs], dim=1)
