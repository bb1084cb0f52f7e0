"""Gradient steps on the pixels of fields, in a space where a step is a share of a large value."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from ..errors import ArgumentError
from ..foundation.arguments import as_count, as_positive

BAR_DELAY = 3.0
"""Seconds before a progress bar shows."""


class PixelSpace(NamedTuple):
    """The space z = asinh(x/scale): logarithmic for pixels beyond the scale, linear for those below.

    Attributes:
        scale: in the fields' unit.
        lowest: the least z that a pixel may take.
    """

    scale: float
    lowest: float

    @classmethod
    def of(cls, fields: Tensor, lowest: float) -> PixelSpace:
        """The space of field values from `lowest` on whose scale is the fields' `typical_size`."""
        return cls.above(lowest, typical_size(fields))

    @classmethod
    def above(cls, lowest: float, scale: float) -> PixelSpace:
        """The space of field values from `lowest` on, of a given scale."""
        return cls(scale, math.asinh(lowest / scale))

    def enter(self, fields: Tensor) -> Tensor:
        """The z of fields, of any shape."""
        return torch.asinh(fields / self.scale)

    def leave(self, z: Tensor) -> Tensor:
        """The fields of z, of any shape."""
        return self.scale * torch.sinh(z)


def typical_size(fields: Tensor) -> float:
    """Median size of the non-zero pixels, NaN left out; 1 where there are none."""
    sizes = fields[(fields != 0) & ~torch.isnan(fields)].abs()
    return float(sizes.median()) if len(sizes) else 1.0


def minimise(
    objective: Callable[[], Tensor],
    unknowns: Sequence[Tensor],
    rates: Sequence[float],
    *,
    steps: int,
    project: Callable[[], object] = lambda: None,
    anneal: Callable[[float], object] = lambda share: None,
    progress: bool = False,
) -> list[float]:
    """Lower an objective of some tensors, in place, by Adam steps with a cosine schedule.

    Args:
        objective: the value, a scalar, at the present unknowns.
        unknowns: leaves that require a gradient.
        rates: first learning rate of each.
        steps: number of gradient steps.
        project: called after each step, without gradient, to put the unknowns back in range.
        anneal: called before each step with the share of them that is done, in [0, 1), and with 1 at
            the end; may change the objective.
        progress: show a bar if it takes longer than a few seconds.

    Returns:
        The objective before each step and after the last one.

    Raises:
        ArgumentError: a number out of range, or an objective whose value or gradient is not finite
            on the way.
    """
    as_count("steps", steps)
    for rate in rates:
        as_positive("learning_rate", rate)
    optimizer = torch.optim.Adam([{"params": x, "lr": rate} for x, rate in zip(unknowns, rates, strict=True)])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    history = []
    for step in tqdm(
        range(steps), "descent", unit="step", delay=BAR_DELAY, disable=not progress, leave=False
    ):
        anneal(step / steps)
        value = objective()
        history.append(float(value.detach()))
        # Of the unknowns alone: the loss's own parameters need no gradient.
        gradients = torch.autograd.grad(value, unknowns)
        _check_finite(history[-1], gradients, step)
        for unknown, gradient in zip(unknowns, gradients, strict=True):
            unknown.grad = gradient
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            project()
    anneal(1.0)
    with torch.no_grad():
        history.append(float(objective()))
    return history


def _check_finite(value: float, gradients: Sequence[Tensor], step: int) -> None:
    """Raise ArgumentError for an objective that leads nowhere."""
    if not (math.isfinite(value) and all(torch.isfinite(g).all() for g in gradients)):
        largest = max(float(g.abs().max()) for g in gradients)
        raise ArgumentError(
            f"loss must be finite and have a finite gradient, but is {value:g} at step {step} "
            f"with a gradient up to {largest:g}"
        )


def refined(tiles: Tensor, edge: int, shape: tuple[int, int]) -> Tensor:
    """Values of square tiles (N, 1, R, S), interpolated bilinearly to the pixels of fields (N, H, W)."""
    if edge > 1:
        tiles = F.interpolate(tiles, scale_factor=edge, mode="bilinear", align_corners=False)
    return tiles[:, 0, : shape[0], : shape[1]]


def as_fields(name: str, fields: NDArray[Any]) -> Tensor:
    """Fields (N, H, W) as a float32 tensor; ArgumentError where they are none."""
    array = np.asarray(fields)
    if array.ndim != 3 or 0 in array.shape or array.dtype.kind not in "fiub":
        raise ArgumentError(
            f"{name} must be real numbers of shape (N, H, W) with N, H, W >= 1, "
            f"got {array.dtype} of {array.shape}"
        )
    return torch.from_numpy(array.astype(np.float32))
