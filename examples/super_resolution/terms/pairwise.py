"""Losses of one prediction against its target, as terms of the objective of an ensemble."""

from __future__ import annotations

import importlib
import math
from abc import ABC, abstractmethod
from types import ModuleType

from emuloss.errors import ArgumentError
from torch import Tensor, nn


class Pairwise(nn.Module, ABC):
    """Mean over members of a loss between member and target.

    No proper score: such a mean is least where every member is the one field that is closest to the target on
    average, so that nothing rewards members for differing. Pixels that were not measured count as dry in
    both, and get no gradient.

    Args:
        share: of a batch's fields that are seen in training, the first ones: fewer make the term cheaper and
            its gradient noisier. All are seen in evaluation.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, members: Tensor, target: Tensor) -> Tensor:
        """The term, a scalar: the mean over ensembles and their members.

        Args:
            members: log(1 + rain in mm/h), (N, M, H, W).
            target: the same of what was observed, (N, H, W), NaN where nothing was measured.
        """
        seen = math.ceil(self.share * len(target)) if self.training else len(target)
        members, target = members[:seen], target[:seen]
        return self.losses(members.where(~target.isnan()[:, None], 0.0), target.nan_to_num(0.0)).mean()

    @abstractmethod
    def losses(self, members: Tensor, target: Tensor) -> Tensor:
        """What the mean is taken of; arguments as in `forward`, without NaN."""


def needed(module: str, command: str) -> ModuleType:
    """A module that this package does not depend on.

    Raises:
        ArgumentError: it is not installed; says the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ArgumentError(f"this term needs {module.partition('.')[0]}; run: {command}.") from error
