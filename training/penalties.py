"""Penalties on how steep a surrogate is, and on how its gradient differs from a relaxation's.

What a loss hands back through a surrogate F(x), its outputs taken on the signed-log scale, is
J^T v: J holds the slopes of all C * Q outputs in all pixels, v is what the loss asks of the outputs.
J itself costs C * Q backward passes; J^T v along one random direction v of unit length costs one.
Its length, the slope here, never exceeds the largest singular value of J, and

    E ||J^T v||^2 = ||J||_F^2 / (C * Q),

so that its mean square is the mean squared slope of a single output. (Hoffman, Roberts and Yaida,
"Robust learning with Jacobian regularization", 2019.)

Slopes are in log units per unit of the field, over all pixels at once.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..datasets.sources.augment import coarsened
from ..emulators.gradients import slopes
from ..foundation.arguments import as_choice, as_positive
from ..foundation.registry import Registry

_BLOCK = 8
"""Side of the blocks, in pixels, over which probes lose their detail."""
_FLAT = 0.1
"""Slopes well below this, in units of the limit, count as flat when gradients are compared."""


PENALTIES: Registry[str, Callable[[Tensor], Tensor]] = Registry("penalty")
"""Penalty of slopes that are measured in units of the limit, by name."""


@PENALTIES.register("one-sided")
def _one_sided(slopes: Tensor) -> Tensor:
    return torch.relu(slopes - 1).square()


@PENALTIES.register("two-sided")
def _two_sided(slopes: Tensor) -> Tensor:
    return (slopes - 1).square()


@PENALTIES.register("jacobian")
def _jacobian(slopes: Tensor) -> Tensor:
    return slopes.square() / 2


def probes(fields: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Fields to measure slopes at: as they are, without their detail, and in between, in turn.

    A loss sees poor predictions as well as real fields, and predictions are poor in that they are
    smooth: x -> a x + (1 - a) (block means of x), with a = 1, a = 0, or a uniform on [0, 1]. The kinds
    follow one another from a random first one, so that small batches meet all of them in time.

    Args:
        fields: (N, H, W), floating point.
        rng: source of randomness.

    Returns:
        (N, H, W); NaN stays NaN.

    Raises:
        ArgumentError: another shape or dtype.
    """
    kinds = (np.arange(len(fields)) + rng.integers(3)) % 3
    share = np.choose(kinds, [np.ones(len(fields)), np.zeros(len(fields)), rng.random(len(fields))])
    share = share.astype(fields.dtype)[:, None, None]
    return share * fields + (1 - share) * coarsened(fields, _BLOCK)


def gradient_penalty(kind: str, gradients: Tensor, limit: float = 1.0) -> Tensor:
    """Mean penalty of the slopes s = ||J^T v|| / limit.

    - "one-sided": max(0, s - 1)^2; steep is penalised, flat is not (WGAN-LP: Petzka, Fischer and
      Lukovnikov, "On the regularization of Wasserstein GANs", 2018).
    - "two-sided": (s - 1)^2; draws every slope to the limit (WGAN-GP: Gulrajani et al., "Improved
      training of Wasserstein GANs", 2017).
    - "jacobian": s^2 / 2, whose mean is ||J||_F^2 / (2 C Q limit^2): the flatter the better, wherever
      (Hoffman, Roberts and Yaida 2019, for the mean instead of the sum of outputs).

    Args:
        kind: one of `PENALTIES`.
        gradients: (N, H, W), from `pulled_back` along random directions, `differentiable`.
        limit: unit of slopes, log units per unit of the field.

    Returns:
        A scalar.

    Raises:
        ArgumentError: unknown kind, or a limit that is not positive.
    """
    as_choice("penalty", kind, PENALTIES)
    as_positive("limit", limit)
    return PENALTIES[kind](slopes(gradients) / limit).mean()


def sobolev_distance(gradients: Tensor, references: Tensor, limit: float = 1.0) -> Tensor:
    """Mean distance between gradients g and references r: ||g - r||^2 / (||g||^2 + ||r||^2 + e^2).

    With e = limit/10 it is 0 where they are equal, about 1 where they are orthogonal, 2 where they are
    opposite, or much less where both are flat: each field counts alike, be it flat or steep there, but
    for those where hardly anything matters. After Czarnecki et al., "Sobolev training for neural
    networks" (2017), whose plain ||g - r||^2 would heed the steepest fields alone.

    Args:
        gradients: (N, H, W).
        references: (N, H, W), along the same directions.
        limit: unit of slopes, as for `gradient_penalty`.

    Returns:
        A scalar.

    Raises:
        ArgumentError: a limit that is not positive.
    """
    as_positive("limit", limit)
    apart = (gradients - references).square().sum((1, 2))
    sizes = gradients.square().sum((1, 2)) + references.square().sum((1, 2))
    return (apart / (sizes + (_FLAT * limit) ** 2)).mean()
