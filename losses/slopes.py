"""Slopes of the exact metric, measured along the directions that a surrogate gives.

A surrogate that errs leads an optimiser astray. But two calls of the exact metric tell whether a direction is
good: one a small step along it, one against it. So a gradient can be put together of the surrogate's
directions and exact slopes along them, as guided evolutionary strategies do (Maheswaranathan, Metz, Tucker,
Choi and Sohl-Dickstein 2019, ICML). What is fine in the surrogate's gradient and what is coarse are measured
each by itself, since a network may be wrong in the one and right in the other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..emulators.spaces import Values, space_of

_STEP = 0.1
"""Root mean square over the pixels of the steps that measure slopes, in units of the pixels' space."""
_WIDTHS = (1.0, 3.0)
"""Standard deviations, in pixels, of the Gaussians that part what is fine from what is coarse."""
_LONGEST = 10.0
"""Greatest change of a pixel, in units of the typical one."""
_UNSEEN = 0.3
"""Slope along the surrogate's gradient where the exact metric sees no difference, as a share of the distance:
the nearest pixel that counts may still be some steps away."""
_SAMPLED = 2**16
"""Pixels that tell what values there are."""


def values_of(fields: Tensor) -> Values:
    """Values of fields of any shape, by some of their pixels."""
    pixels = fields.detach().reshape(-1)
    every = max(1, pixels.numel() // _SAMPLED)
    return Values.of(pixels[::every].float().cpu().numpy())


def measured_gradient(
    gradient: Tensor,
    fields: Tensor,
    curves: Callable[[Tensor], Tensor],
    distance: Callable[[Tensor], Tensor],
    values: Values,
    here: Tensor | None = None,
) -> Tensor:
    """The gradient of exact distances, as far as it lies along parts of a surrogate's gradient.

    Steps are taken in the space of `emuloss.emulators.spaces`. Along a part p of the gradient there, with the
    direction d = -p / rms(p), the exact distance falls by (D(z - h d) - D(z + h d)) / 2 h, or by dD/da times
    such differences of exact curves a, which is known up to the goal, where whole steps lead too far; the
    larger of both counts. Parts along which it rises are left out. Where it stays as it is, the surrogate is
    taken at its word. Parts overlap: what they have in common counts up to as often as there are parts.

    Args:
        gradient: (N, H, W), the surrogate's, of the distance of each field.
        fields: (N, H, W), NaN where nothing was measured.
        curves: exact ones, of K variants of each field, (K, N, H, W) -> (K, N, C, Q).
        distance: of such curves, (K, N), differentiable.
        values: of the data that the fields are like.
        here: curves of the fields themselves, (N, C, Q), where they are known.

    Returns:
        (N, H, W), per unit of the fields; where the surrogate's is not finite, so is this one.
    """
    highest = math.inf if values.decades else values.highest
    space = space_of(values, values, lowest=values.lowest, highest=highest)
    z, stretch = space.enter(fields), space.slope(fields).nan_to_num(1.0)
    parts = _parts(torch.nan_to_num(gradient, 0.0, 0.0, 0.0) * stretch) * ~fields.isnan()
    directions = (-parts / _size(parts)).clamp(-_LONGEST, _LONGEST)
    steps = _STEP * torch.cat([directions, -directions])
    met = space.leave(space.within(z + steps))
    if here is None:
        met = torch.cat([met, fields[None]])
    found = curves(met)
    ahead, behind = found[: 2 * len(parts)].chunk(2)
    with torch.enable_grad():
        at = (found[-1:] if here is None else here[None]).requires_grad_()
        now = distance(at)
        (pull,) = torch.autograd.grad(now.sum(), at)
    falls = torch.stack([((behind - ahead) * pull).sum((-2, -1)), distance(behind) - distance(ahead)])
    falls = falls.amax(0).to(gradient)[..., None, None] / (2 * _STEP)
    hoped = _UNSEEN * now.detach().to(gradient)[..., None, None] * parts / _size(parts.sum(0))
    led = torch.where(falls != 0, -falls.clamp(min=0) * directions, hoped).sum(0)
    pixels = fields.shape[-2] * fields.shape[-1]
    return torch.where(gradient.isfinite(), led / (pixels * stretch), gradient)


def with_gradient(values: Tensor, fields: Tensor, gradient: Tensor) -> Tensor:
    """Values (N,), to the last bit, each with the gradient of its field in fields (N, ...)."""
    return _WithGradient.apply(values, fields, gradient)


class _WithGradient(torch.autograd.Function):
    """Computes nothing but a product, on the way back."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, fields: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return values.clone()  # a view could not be changed in place

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[None, Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return None, outer.to(gradient).reshape(-1, *[1] * (gradient.ndim - 1)) * gradient, None


def _parts(fields: Tensor) -> Tensor:
    """What is fine in fields (N, H, W), what is coarser, and so on, (K, N, H, W); their sum is the fields."""
    # Here, since it brings the compiler along, for seconds.
    from torchvision.transforms.functional import gaussian_blur

    smooth = [fields]
    for width in _WIDTHS:
        reach = min(math.ceil(3 * width), min(fields.shape[-2:]) - 1)  # the border is mirrored
        if reach > 0:
            smooth.append(gaussian_blur(fields, [2 * reach + 1] * 2, [width] * 2))
    return torch.stack([*(a - b for a, b in itertools.pairwise(smooth)), smooth[-1]])


def _size(fields: Tensor) -> Tensor:
    """Root mean square over the pixels, (..., 1, 1), above 0."""
    tiny = torch.finfo(fields.dtype).tiny
    return fields.square().mean((-2, -1), keepdim=True).sqrt() + tiny
