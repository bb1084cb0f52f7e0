"""Betti matching, a topological loss made for segmentation, on masks of rain."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .pairwise import Pairwise, needed


class BettiMatching(Pairwise):
    """Betti matching loss of soft masks: the components and holes of a member, matched to the observed ones.

    Of Stucki et al., "Topologically Faithful Image Segmentation via Induced Matching of Persistence Barcodes"
    (ICML 2023), by the package topolosses with the settings it comes with: super-level sets, topology alone,
    since the score beside it takes the place of the Dice loss. A member's chance to exceed u mm/h is taken as
    sigmoid((log(1 + rain) - log(1 + u)) / temperature), the observation's as 0 or 1. A feature that has no
    counterpart at its place is drawn to vanish. The component that is born first never dies and counts
    nowhere, so that one cell looks like none.

    Args:
        thresholds: u, in mm/h.
        temperature: width of the soft mask, in units of log(1 + rain).
        share: see `Pairwise`.

    Raises:
        ArgumentError: topolosses is not installed.
    """

    def __init__(
        self, thresholds: Sequence[float] = (0.5, 2.0, 5.0), temperature: float = 0.1, share: float = 0.25
    ) -> None:
        super().__init__(share)
        losses = needed("topolosses.losses", "pip install topolosses")
        # Channels are thresholds here, none of them the background of a segmentation.
        self.loss = losses.BettiMatchingLoss(use_base_loss=False, alpha=1.0, include_background=True)
        self.temperature = temperature
        self.register_buffer("edges", torch.tensor(thresholds).log1p()[:, None, None], persistent=False)

    edges: Tensor

    def losses(self, members: Tensor, target: Tensor) -> Tensor:
        """The mean over members and thresholds; arguments as in `forward`, without NaN."""
        chances = ((members[:, :, None] - self.edges) / self.temperature).sigmoid()
        masks = (target[:, None, None] >= self.edges).to(chances).expand_as(chances)
        return self.loss(chances.flatten(0, 1), masks.flatten(0, 1))
