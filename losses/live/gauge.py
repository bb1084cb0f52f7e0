"""How far a live surrogate can be believed, measured on what it was just asked."""

from __future__ import annotations

import warnings
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

_WINDOW = 64
"""Predictions that count, the last ones."""
_POOR = 1.0
"""Error from which on a surrogate is no guide: it is as far from the exact curves as the target is."""
_PATIENCE = 100
"""Steps of learning before that is worth a warning."""


class GaugeWarning(UserWarning):
    """A live surrogate errs so much on the predictions that its gradient may mislead."""


class Gauge:
    """What a surrogate said of the last predictions, against the exact values.

    `error` is the mean distance between its curves and the exact ones over the mean distance between exact
    curves and those of the target: 0 where it is exact; at 1 it tells nothing about what is still missing.
    Of a pairwise metric both are the errors of the shortfall and the shortfall itself. `ranks` is the share
    of pairs of predictions that it puts in the order of their exact distances (1: all, 0.5: none but by
    chance). In training a loss whose slopes are the surrogate's own is multiplied by `weight` =
    1 / (1 + error^2); in evaluation it tells the distance as it is.
    """

    def __init__(self) -> None:
        self._told: deque[tuple[float, float, float]] = deque(maxlen=_WINDOW)
        self._warned = False

    def __repr__(self) -> str:
        """Its figures."""
        told = ", ".join(f"{name}={value:.3g}" for name, value in self.figures().items())
        return f"Gauge({told})"

    def add(self, said: NDArray[np.float64], exact: NDArray[np.float64], errors: NDArray[np.float64]) -> None:
        """Take in predictions: distances by the surrogate (N,), exact ones (N,), and its errors (N,)."""
        self._told.extend(zip(said.tolist(), exact.tolist(), errors.tolist(), strict=True))

    @property
    def error(self) -> float:
        """See above; NaN before any prediction was labelled."""
        _, exact, errors = self._columns()
        if not errors.any():
            return 0.0 if len(errors) else float("nan")
        return float(errors.mean() / exact.mean()) if exact.any() else float("inf")

    @property
    def ranks(self) -> float:
        """See above; NaN where no two exact values differ."""
        said, exact, _ = self._columns()
        first, second = np.triu_indices(len(said), 1)
        apart = exact[first] != exact[second]
        if not apart.any():
            return float("nan")
        agree = np.sign(said[first] - said[second]) * np.sign(exact[first] - exact[second])
        return float((1 + agree[apart]).mean() / 2)

    @property
    def weight(self) -> float:
        """What the loss is multiplied by; 1 before any prediction was labelled."""
        error = self.error
        return 1.0 if np.isnan(error) else 1 / (1 + error * error)

    def figures(self) -> dict[str, float]:
        """Mean distances said and exact, and the above, by name."""
        said, exact, _ = self._columns()
        means = (float(x.mean()) if len(x) else float("nan") for x in (said, exact))
        return dict(
            zip(("said", "exact"), means, strict=True), error=self.error, ranks=self.ranks, weight=self.weight
        )

    def warn(self, steps: int, title: str) -> None:
        """Warn once, after enough steps of learning, where the surrogate is no guide."""
        if self._warned or steps < _PATIENCE or not self.error > _POOR:
            return
        self._warned = True
        warnings.warn(
            f"after {steps} steps the live surrogate of {title} is {self.error:.2g} times as far from the "
            "exact curves of predictions as their targets are; let it take more steps, "
            "Live(steps=2), or start from one that was trained",
            GaugeWarning,
            stacklevel=4,
        )

    def state_dict(self) -> dict[str, Any]:
        """What it goes on from."""
        return {"told": [list(row) for row in self._told], "warned": self._warned}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state_dict` gave."""
        self._told = deque(map(tuple, state["told"]), maxlen=_WINDOW)
        self._warned = bool(state["warned"])

    def _columns(self) -> NDArray[np.float64]:
        return np.array(self._told, np.float64).reshape(-1, 3).T
