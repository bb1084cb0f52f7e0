"""Slopes of the exact metric along the directions that a surrogate gives.

A surrogate that errs leads an optimiser astray. But two calls of the exact metric tell whether a direction is
good: one a small step along it, one against it. What is fine in the surrogate's gradient and what is coarse
are asked about each by itself, since a network may be wrong in the one and right in the other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..emulators.spaces import PixelSpace, QuantileSpace, Values, space_of

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


class Exact(NamedTuple):
    """What the exact metric says of fields (N, H, W) and of others like them.

    Attributes:
        fields: NaN where nothing was measured.
        curves: exact ones, of K variants of each field, (K, N, H, W) -> (K, N, C, Q).
        distance: of such curves, (K, N), differentiable.
        values: of the data that the fields are like.
        here: curves of the fields themselves, (N, C, Q), where they are known.
    """

    fields: Tensor
    curves: Callable[[Tensor], Tensor]
    distance: Callable[[Tensor], Tensor]
    values: Values
    here: Tensor | None = None


class _Pixels(NamedTuple):
    """Fields as places in a space where a step is a share of a pixel.

    Attributes:
        space: its own.
        places: (N, H, W).
        stretch: change of the fields, a unit of the space, (N, H, W).
        measured: where fields have values.
    """

    space: PixelSpace | QuantileSpace
    places: Tensor
    stretch: Tensor
    measured: Tensor

    @classmethod
    def of(cls, exact: Exact) -> _Pixels:
        """Those of the fields that are asked about."""
        values, fields = exact.values, exact.fields
        highest = math.inf if values.decades else values.highest
        space = space_of(values, values, lowest=values.lowest, highest=highest)
        stretch = space.slope(fields).nan_to_num(1.0)
        return cls(space, space.enter(fields), stretch, ~fields.isnan())

    def parts(self, gradient: Tensor) -> Tensor:
        """What is fine in a gradient (N, H, W) of the fields, what is coarser, and so on, (K, N, H, W)."""
        return _parts(torch.nan_to_num(gradient, 0.0, 0.0, 0.0) * self.stretch) * self.measured

    @property
    def roughness(self) -> Tensor:
        """What is fine in the fields themselves, (N, H, W)."""
        return _parts(self.places.nan_to_num(0.0))[0] * self.measured


def checked_gradient(gradient: Tensor, exact: Exact) -> Tensor:
    """A surrogate's gradient without those parts of it along which exact distances rise.

    A part along which they stay as they are is left as it is: the nearest pixel that counts may still be some
    steps away.

    Args:
        gradient: (N, H, W), the surrogate's, of the distance of each field.
        exact: what tells whether distances rise.

    Returns:
        (N, H, W), per unit of the fields; where the surrogate's is not finite, so is this one.
    """
    pixels = _Pixels.of(exact)
    parts = pixels.parts(gradient)
    falls, _ = _falls(_directions(parts), pixels, exact)
    led = torch.where(falls >= 0, parts, 0.0).sum(0)
    return torch.where(gradient.isfinite(), led / pixels.stretch, gradient)


def measured_gradient(gradient: Tensor, exact: Exact) -> Tensor:
    """The gradient of exact distances, as far as it lies along parts of a surrogate's gradient.

    So do guided evolutionary strategies (Maheswaranathan, Metz, Tucker, Choi and Sohl-Dickstein 2019, ICML).
    One more direction is that in which the fields get smoother: a network that has seen little noise does not
    find it. What leads up is left out. Where distances stay as they are along a part of the gradient, the
    surrogate is taken at its word. Directions overlap: what they have in common counts for each.

    Arguments and result are those of `checked_gradient`.
    """
    pixels = _Pixels.of(exact)
    parts = pixels.parts(gradient)
    directions = _directions(torch.cat([parts, pixels.roughness[None]]))
    falls, now = _falls(directions, pixels, exact)
    hoped = _UNSEEN * now * parts / _size(parts.sum(0))
    hoped = torch.cat([hoped, torch.zeros_like(hoped[:1])])
    led = torch.where(falls != 0, -falls.clamp(min=0) * directions, hoped).sum(0)
    number = led.shape[-2] * led.shape[-1]
    return torch.where(gradient.isfinite(), led / (number * pixels.stretch), gradient)


def _directions(uphill: Tensor) -> Tensor:
    """Against gradients (K, N, H, W), with a root mean square of 1."""
    return (-uphill / _size(uphill)).clamp(-_LONGEST, _LONGEST)


def _falls(directions: Tensor, pixels: _Pixels, exact: Exact) -> tuple[Tensor, Tensor]:
    """How fast exact distances fall along directions (K, N, H, W), and what they are now.

    With steps h they fall by (D(z - h d) - D(z + h d)) / 2 h, or dD/da times such differences of exact curves
    a, which is known up to the goal, where whole steps lead too far; the larger of both.

    Returns:
        (K, N, 1, 1) and (N, 1, 1).
    """
    steps = _STEP * torch.cat([directions, -directions])
    met = pixels.space.leave(pixels.space.within(pixels.places + steps))
    if exact.here is None:
        met = torch.cat([met, exact.fields[None]])
    found = exact.curves(met)
    ahead, behind = found[: len(steps)].chunk(2)
    with torch.enable_grad():
        here = (found[-1:] if exact.here is None else exact.here[None]).requires_grad_()
        now = exact.distance(here)
        (pull,) = torch.autograd.grad(now.sum(), here)
    of_curves = ((behind - ahead) * pull).sum((-2, -1))
    of_distances = exact.distance(behind) - exact.distance(ahead)
    falls = torch.maximum(of_curves, of_distances) / (2 * _STEP)
    return falls.to(directions)[..., None, None], now.detach()[0].to(directions)[..., None, None]


def values_of(fields: Tensor) -> Values:
    """Values of fields of any shape, by some of their pixels."""
    pixels = fields.detach().reshape(-1)
    every = max(1, pixels.numel() // _SAMPLED)
    return Values.of(pixels[::every].float().cpu().numpy())


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
