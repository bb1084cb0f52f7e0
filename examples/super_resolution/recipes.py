"""Objectives of generators: a score or error of pixels, and terms beside it."""

from __future__ import annotations

import json
import math
from typing import Any

from objectives import SETTLE, risen
from terms import BASES, TERMS
from torch import Tensor, nn

_SETTINGS = (bool, int, float, str, tuple)
"""Kinds of attributes of terms that are settings."""
_RISE = 0.1
"""Share of the training over which the weights of terms rise."""


class Recipe(nn.Module):
    """A sum such as crps+relaxed+spectra:0.02, read from left to right.

    Args:
        name: "crps" or "mse", and names of `terms.TERMS`, each with its weight behind a colon if it shall not
            have its own.

    Raises:
        ValueError: a name that is not known, a weight that is no positive number, or a score of ensembles
            for a single prediction.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        base, *others = name.split("+")
        if base not in BASES:
            raise ValueError(f"objectives begin with {' or '.join(BASES)}, got {name!r}")
        build, self.members = BASES[base]
        self.base, self.name = build(), name
        self.terms = nn.ModuleList()
        self.weights: list[float] = []
        for other in others:
            kind, _, weight = other.partition(":")
            if kind not in TERMS:
                raise ValueError(f"terms are {', '.join(TERMS)}, got {kind!r} in {name!r}")
            if TERMS[kind].of_ensembles and self.members == 1:
                raise ValueError(f"{kind} is a score of ensembles: put it beside crps, got {name!r}")
            self.weights.append(float(weight or TERMS[kind].weight))
            self.terms.append(TERMS[kind].build(self.members))
        if not all(0 < weight < math.inf for weight in self.weights):
            raise ValueError(f"weights must be positive and finite, got {name!r}")
        self.at(1.0)

    @property
    def asked(self) -> dict[str, Any]:
        """What tells it from others, as JSON gives it back: also the settings of its terms."""
        settings = [_settings(term) for term in self.terms]
        asked = {"name": self.name, "weights": self.weights, "settings": settings}
        found: dict[str, Any] = json.loads(json.dumps(asked))
        return found

    def at(self, progress: float) -> None:
        """Set weights and temperatures of a moment of the training, from 0 to 1."""
        self.risen = risen(progress, _RISE)
        for term in self.terms:
            if at := getattr(term, "at", None):
                at(progress)

    def settled(self, progress: float) -> bool:
        """Whether weights and temperatures will stay as they are."""
        return not self.terms or progress >= SETTLE

    @property
    def comparable(self) -> bool:
        """Whether its values at two moments tell which is better."""
        return True

    def learn(self) -> None:
        """Nothing: no surrogate of it goes on learning."""

    def labels(self, targets: Tensor) -> None:
        """Nothing: all is computed in each step."""

    def forward(self, drawn: Tensor, target: Tensor, labels: None = None) -> tuple[Tensor, Tensor]:
        """The objective, and the score of pixels alone.

        Args:
            drawn: log(1 + rain), members (N, M, H, W) or one prediction (N, H, W).
            target: rain in mm/h, (N, H, W), NaN where nothing was measured.
            labels: those of `labels`.
        """
        observed = target.log1p()
        members = drawn if drawn.ndim == 4 else drawn[:, None]
        pixels = self.base(members, observed)
        total = pixels
        for weight, term in zip(self.weights, self.terms, strict=True):
            total = total + self.risen * weight * term(members, observed)
        return total, pixels


def _settings(term: nn.Module) -> dict[str, Any]:
    """What a term was built with, as far as it is kept in numbers and names."""
    kept = {name: value for name, value in vars(term).items() if isinstance(value, _SETTINGS)}
    return {name: value for name, value in kept.items() if name != "training"}
