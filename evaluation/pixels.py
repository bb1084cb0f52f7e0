"""Gradient steps on the pixels of fields, and fields of noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ArgumentError
from ..foundation.arguments import as_count, as_positive
from .bars import Progress, counted

_MEMORY = (0.5, 0.5)
"""Decay rates of the means of gradients in Adam. Counts of components depend on few pixels, which change from
step to step and have gradients a thousand times those of areas: a long memory holds what was once such a
pixel back for all the steps that follow."""


def minimise(
    objective: Callable[[], Tensor],
    unknowns: Sequence[Tensor],
    rates: Sequence[float],
    *,
    steps: int,
    project: Callable[[], object] = lambda: None,
    anneal: Callable[[float], object] = lambda share: None,
    progress: Progress = False,
) -> list[float]:
    """Lower an objective of some tensors, in place, by Adam steps of a short memory with a cosine schedule.

    Args:
        objective: the value, a scalar, at the present unknowns.
        unknowns: leaves that require a gradient.
        rates: first learning rate of each.
        steps: number of gradient steps.
        project: called after each step, without gradient, to put the unknowns back in range.
        anneal: called before each step with the share of them that is done, in [0, 1), and with 1 at
            the end; may change the objective.
        progress: show a bar if it takes longer than a few seconds; see `Progress`.

    Returns:
        The objective before each step and after the last one.

    Raises:
        ArgumentError: a number out of range, or an objective whose value or gradient is not finite
            on the way.
    """
    as_count("steps", steps)
    for rate in rates:
        as_positive("learning_rate", rate)
    groups = [{"params": x, "lr": rate} for x, rate in zip(unknowns, rates, strict=True)]
    optimizer = torch.optim.Adam(groups, betas=_MEMORY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    history = []
    for step in counted(range(steps), "descent", "step", progress):
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


def waves(count: int, shape: tuple[int, int], exponent: float, seed: int) -> NDArray[np.float64]:
    """Gaussian noise (N, H, W), mean 0, variance 1, whose power falls as wave number to an exponent."""
    rng = np.random.default_rng(seed)
    number = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1]))
    number[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((count, *shape))) * number ** (-exponent / 2)
    noise = np.fft.irfft2(spectrum, shape)
    # A field of one pixel has no variance.
    return noise / np.maximum(noise.std((1, 2), keepdims=True), np.finfo(float).tiny)
