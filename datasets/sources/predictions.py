"""Predictions imagined from fields alone, so that pairwise metrics have pairs to be labelled on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError
from ...foundation.arguments import filled
from ...metrics.distribution import ground_of
from .augment import bounded

Field = NDArray[np.float32]

_FARTHEST = 0.25
"""Largest displacement, as a share of the shorter side."""
_FACTORS = (0.3, 3.0)
"""Range of the factors of rescaled predictions, log-uniform."""


def predictions_of(fields: Field, rng: np.random.Generator, ground: float | None = None) -> Field:
    """Imagined predictions of observed fields, from perfect to unrelated.

    Each is one of these at random, some of them one after the other: the observation itself, blurred (means
    over square windows), noisy (multiplied by log-normal noise where values lie on one side of the ground, as
    rain does, or else with Gaussian noise added; and with pixels scattered), displaced (by up to a quarter of
    the shorter side; what moves in is ground), rescaled (by a factor of 0.3 to 3), or another field of the
    batch. So a metric's whole range is met, and what a network that is being trained predicts. Intensities
    are counted from the ground.

    Args:
        fields: Observations (N, H, W); NaN where nothing was measured.
        rng: Source of randomness.
        ground: Value that intensities are counted from; by default the dry value of the fields, or their
            median.

    Returns:
        Predictions (N, H, W), float32, without NaN: predictions are made everywhere.

    Raises:
        ArgumentError: If `fields` is not a batch of fields.
    """
    fields = filled(fields)
    if fields.ndim != 3:
        raise ArgumentError(f"`fields` must have shape (N, H, W), got {fields.shape}.")
    ground = ground_of(fields) if ground is None else ground
    known = (np.where(np.isnan(fields), ground, bounded(fields)) - ground).astype(np.float32)
    result = np.empty_like(known)
    for n, observation in enumerate(known):
        result[n] = observation
        for change in _WAYS[rng.choice(len(_WAYS), p=_SHARES)]:
            result[n] = change(result[n], known, rng)
    return result + np.float32(ground)


def _blurred(field: Field, fields: Field, rng: np.random.Generator) -> Field:
    """Means over square windows."""
    from scipy.ndimage import uniform_filter

    side = int(2 ** rng.uniform(1, max(1.0, np.log2(min(field.shape)) - 1)))
    return uniform_filter(field, size=side, mode="constant")


def _noisy(field: Field, fields: Field, rng: np.random.Generator) -> Field:
    """Log-normal noise, or Gaussian noise where there are values below the ground; and pixels scattered."""
    spread, share = rng.uniform(0.1, 1.0), rng.uniform(0, 0.1)
    noise = spread * rng.standard_normal(field.shape)
    two_sided = (fields < 0).any()
    changed = field + field.std(dtype=np.float64) * noise if two_sided else field * np.exp(noise)
    others = field[field != 0]
    if others.size:
        scattered = rng.random(field.shape) < share
        changed[scattered] = rng.choice(others, int(scattered.sum()))
    return changed.astype(np.float32)


def _displaced(field: Field, fields: Field, rng: np.random.Generator) -> Field:
    """Moved along both axes; what moves in is ground."""
    farthest = max(1, int(_FARTHEST * min(field.shape)))
    rows, columns = rng.integers(-farthest, farthest + 1, 2)
    height, width = field.shape
    moved = np.zeros_like(field)
    moved[max(rows, 0) : height + min(rows, 0), max(columns, 0) : width + min(columns, 0)] = field[
        max(-rows, 0) : height + min(-rows, 0), max(-columns, 0) : width + min(-columns, 0)
    ]
    return moved


def _rescaled(field: Field, fields: Field, rng: np.random.Generator) -> Field:
    """Multiplied by one factor."""
    return field * np.float32(np.exp(rng.uniform(*np.log(_FACTORS))))


def _another(field: Field, fields: Field, rng: np.random.Generator) -> Field:
    """Any field of the batch."""
    return fields[rng.integers(len(fields))]


_WAYS: tuple[tuple[Callable[[Field, Field, np.random.Generator], Field], ...], ...] = (
    (), (_blurred,), (_noisy,), (_displaced,), (_rescaled,), (_another,), (_displaced, _blurred),
    (_rescaled, _noisy),
)  # fmt: skip
"""Ways to make a prediction: changes, one after the other."""
_SHARES = (0.04, 0.16, 0.16, 0.16, 0.12, 0.12, 0.12, 0.12)
"""How often each way is taken."""
