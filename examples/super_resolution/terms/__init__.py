"""What generators are trained on, by name: each term compares members with what was observed.

A term maps members (N, M, H, W) and a target (N, H, W), NaN where nothing was measured, onto the mean over
ensembles. Both are log(1 + rain), rain in mm/h. A term that changes while training goes on has a method `at`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from objectives import KINDS
from torch import nn

from .betti_matching import BettiMatching
from .curves import Curves
from .paper import MinkowskiImageLoss
from .patches import Patches
from .persistence import PersistenceDistance
from .pixels import Crps, SquaredError
from .spectra import Amplitudes, Spectra


class Term(NamedTuple):
    """A term of an objective.

    Attributes:
        build: makes it, given the number of members.
        weight: of it, unless another is asked for.
        of_ensembles: whether it needs members, more than one.
    """

    build: Callable[[int], nn.Module]
    weight: float
    of_ensembles: bool = False


def _plain(build: Callable[[], nn.Module], weight: float, of_ensembles: bool = False) -> Term:
    return Term(lambda members: build(), weight, of_ensembles)


BASES: dict[str, tuple[Callable[[], nn.Module], int]] = {"mse": (SquaredError, 1), "crps": (Crps, 2)}
"""What an objective begins with, and the number of members that are drawn for it."""

_CURVES = {"relaxed": 0.006, "excursion": 0.006, "components": 0.01, "clusters": 0.005}
"""Weights of the surrogates' curves."""

TERMS: dict[str, Term] = {
    "multiscale": _plain(partial(Crps, (4, 16)), 1.0, of_ensembles=True),
    "amse": _plain(Amplitudes, 2.0),
    "patches": _plain(Patches, 0.5, of_ensembles=True),
    "spectra": _plain(Spectra, 0.01, of_ensembles=True),
    **{name: Term(partial(Curves, KINDS[name]), weight) for name, weight in _CURVES.items()},
    "paper": _plain(MinkowskiImageLoss, 1e-3),
    "betti-matching": _plain(BettiMatching, 2e-4),
    "persistence": _plain(PersistenceDistance, 6e-4),
}
