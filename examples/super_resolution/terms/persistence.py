"""Distance between persistence diagrams of rain, by torch-topological."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from emuloss.errors import ArgumentError
from torch import Tensor
from torch.nn import functional as F

from .pairwise import Pairwise, needed

_COMMAND = "pip install torch-topological 'gudhi<3.12'"
"""torch-topological 0.1.9 hands tensors to gudhi, which later versions of that refuse."""


class PersistenceDistance(Pairwise):
    """Wasserstein distance between the persistence diagrams of a member and the observation.

    Diagrams are of super-level sets of log(1 + rain), components and holes, by cubical complexes. Distances
    are those of the package torch-topological as it comes: Wasserstein of order 1 over the maximum norm,
    summed over both dimensions. They see how many features there are and how much they stand out, wherever.

    Args:
        pool: side in pixels of the blocks that fields are averaged over beforehand: diagrams of whole fields
            cost eight times as much as those of blocks of 2.
        share: see `Pairwise`.

    Raises:
        ArgumentError: torch-topological is not installed, or gudhi is too new for it.
    """

    def __init__(self, pool: int = 2, share: float = 0.5) -> None:
        super().__init__(share)
        package = needed("torch_topological.nn", _COMMAND)
        self.complex = package.CubicalComplex(superlevel=True)
        self.distance = package.WassersteinDistance()
        self.pool = pool
        try:
            self._diagrams(torch.zeros(2, 2))
        except TypeError as error:
            raise ArgumentError(f"torch-topological cannot use this gudhi; run: {_COMMAND}.") from error

    def losses(self, members: Tensor, target: Tensor) -> Tensor:
        """The distance of each member, (N * M,); arguments as in `forward`, without NaN."""
        fields = F.avg_pool2d(torch.cat([members, target[:, None]], 1), self.pool)
        distances = []
        for ensemble in fields:
            *drawn, observed = (self._diagrams(field) for field in ensemble)
            distances += [self._between(diagrams, observed) for diagrams in drawn]
        return torch.stack(distances)

    def _diagrams(self, field: Tensor) -> Any:
        with warnings.catch_warnings():
            # The package reads tensors in ways that later versions of torch and NumPy warn of.
            warnings.simplefilter("ignore")
            return self.complex(field)

    def _between(self, diagrams: Any, observed: Any) -> Tensor:
        # Transport from nothing to nothing has no solution: a dimension without features is left out.
        pairs = [(a, b) for a, b in zip(diagrams, observed, strict=True) if len(a.diagram) + len(b.diagram)]
        return self.distance(*zip(*pairs, strict=True))
