"""Energy score of patches, which sees all that neighbouring pixels have to do with each other."""

from __future__ import annotations

import torch
from emuloss.emulators.scores import ALMOST, kernel_score, pairs_of
from torch import Tensor, nn
from torch.nn import functional as F

_LEAST = 1e-8
"""Added to squared distances: a root has no derivative at 0."""


class Patches(nn.Module):
    """Almost fair energy score of square patches: the kernel score of their Euclidean distance.

    Of ensembles of vectors it is due to Gneiting and Raftery (2007, JASA 102, section 4.3); of patches of
    fields, to Pacchiardi et al. (2024, JMLR 25). Distances are divided by the edge of the patch: the score is
    in the unit of the field.

    Args:
        edge: of a patch, in pixels.
        step: between patches; odd, so that they start anywhere on the grids of a network that halves.
    """

    def __init__(self, edge: int = 8, step: int = 5) -> None:
        super().__init__()
        self.edge, self.step = edge, step

    def forward(self, members: Tensor, target: Tensor) -> Tensor:
        """Mean over patches; members (N, M, H, W), target (N, H, W), whose pixels that are NaN count as 0."""
        measured = ~target.isnan()
        cut = self._patches((members * measured[:, None]).flatten(0, 1)).unflatten(0, members.shape[:2])
        truth = self._patches(target.nan_to_num(0.0))[:, None]
        count = members.shape[1]
        first, second = pairs_of(count, members.device)
        scores = kernel_score(
            self._distance(cut - truth), self._distance(cut[:, first] - cut[:, second]), count, ALMOST
        )
        return scores.mean()

    def _patches(self, fields: Tensor) -> Tensor:
        """Patches (N, edge^2, P) of fields (N, H, W)."""
        return F.unfold(fields[:, None], self.edge, stride=self.step)

    def _distance(self, difference: Tensor) -> Tensor:
        """Lengths (N, P, K) of differences (N, K, edge^2, P)."""
        lengths = (difference.square().sum(2) + _LEAST).sqrt() / self.edge
        return torch.movedim(lengths, 1, -1)
