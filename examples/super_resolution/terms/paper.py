"""The Minkowski image loss in the form of its authors."""

from __future__ import annotations

import emuloss
from torch import Tensor

from .pairwise import Pairwise


class MinkowskiImageLoss(Pairwise):
    """Distance between emulated curves of a member and exact ones of the observation.

    The loss of Quarenghi, Cotsakis and Beucler (arXiv 2604.11422): a frozen network, Lipschitz-regularised
    and with constrained heads, emulates area, perimeter and components at each threshold; the difference of
    signed-log curves to those of the target is integrated over levels and summed over outputs that weigh
    alike; a target that the network misjudges weighs less, exp(-trust * err^2).

    Args:
        name: of the surrogate; the bundled "minkowski-opera-lipschitz" has no constrained heads.
        trust: how severely errors are taken; the default is the authors'.
        share: see `Pairwise`.
    """

    def __init__(
        self, name: str = "minkowski-opera-constrained", trust: float = 0.1, share: float = 0.25
    ) -> None:
        super().__init__(share)
        self.loss = emuloss.load(name).as_loss(
            reference="exact", trust=trust, weights={"euler": 0.0}, in_state_dict=False
        )

    def losses(self, members: Tensor, target: Tensor) -> Tensor:
        """The mean over members; arguments as in `forward`, without NaN."""
        observed = target.expm1()[:, None].expand_as(members)
        # Not expm1, whose gradient takes three times as long; no threshold is near 0.
        return self.loss(members.flatten(0, 1).exp() - 1, observed.flatten(0, 1))
