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
from torch.autograd.function import once_differentiable

from ..emulators.fields import stacked
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
    """What the exact metric says of fields and of others like them.

    Attributes:
        fields: (N, H, W), NaN where nothing was measured.
        values: of the data that they are like.
        teacher: gives exact curves (N, C, Q) of fields (N, H, W), or of pairs (N, 2, H, W).
        far: distances (N,) of curves (N, C, Q) from those to reach, which pairs have none of.
        observed: (N, H, W), what the fields are compared with by a pairwise metric.
        reference: curves to reach, (N, C, Q); None of pairs.
        here: exact curves of the fields, (N, C, Q), where they are known.
    """

    fields: Tensor
    values: Values
    teacher: Callable[[Tensor], Tensor]
    far: Callable[[Tensor, Tensor | None], Tensor]
    observed: Tensor | None = None
    reference: Tensor | None = None
    here: Tensor | None = None

    def curves(self, variants: Tensor) -> Tensor:
        """Exact curves (K, N, C, Q) of variants (K, N, H, W) of the fields."""
        batch = variants.flatten(0, 1)
        if self.observed is not None:
            batch = stacked(batch, self.observed.repeat(len(variants), 1, 1))
        return self.teacher(batch).unflatten(0, variants.shape[:2])

    def distances(self, curves: Tensor) -> Tensor:
        """Distances (K, N) of curves (K, N, C, Q)."""
        goal = None if self.reference is None else self.reference.to(curves).repeat(len(curves), 1, 1)
        return self.far(curves.flatten(0, 1), goal).unflatten(0, curves.shape[:2])


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

    @property
    def number(self) -> Tensor:
        """How many were measured, (N, 1, 1), at least 1."""
        return self.measured.sum((-2, -1), keepdim=True).clamp(min=1)

    def size(self, fields: Tensor) -> Tensor:
        """Root mean square over the pixels that were measured, (..., 1, 1), above 0."""
        squares = fields.square().sum((-2, -1), keepdim=True)
        return (squares / self.number).sqrt() + torch.finfo(fields.dtype).tiny

    def parts(self, gradient: Tensor) -> Tensor:
        """What is fine in a gradient (N, H, W) of the fields, what is coarser, and so on, (K, N, H, W)."""
        there = torch.nan_to_num(gradient, 0.0, 0.0, 0.0) * self.stretch
        smooth = [there, *(_blurred(there, width) for width in _WIDTHS)]
        return torch.stack([*(a - b for a, b in itertools.pairwise(smooth)), smooth[-1]]) * self.measured

    def roughness(self) -> Tensor:
        """What is fine in the fields themselves, (N, H, W)."""
        places = self.places.nan_to_num(0.0)
        return (places - _blurred(places, _WIDTHS[0])) * self.measured

    def against(self, uphill: Tensor) -> Tensor:
        """Directions against gradients (K, N, H, W), with a root mean square of 1."""
        return (-uphill / self.size(uphill)).clamp(-_LONGEST, _LONGEST)


def checked_gradient(gradient: Tensor, exact: Exact) -> Tensor:
    """A surrogate's gradient without those parts of it that lead away from where exact values are to be.

    A part along which they stay as they are is left as it is: the nearest pixel that counts may still be some
    steps away.

    Args:
        gradient: (N, H, W), the surrogate's, of the distance of each field.
        exact: what tells where it leads.

    Returns:
        (N, H, W), per unit of the fields; where the surrogate's is not finite, so is this one.
    """
    pixels = _Pixels.of(exact)
    parts = pixels.parts(gradient)
    falls, _ = _falls(pixels.against(parts), pixels, exact)
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
    directions = pixels.against(torch.cat([parts, pixels.roughness()[None]]))
    falls, now = _falls(directions, pixels, exact)
    lengths = directions.square().sum((-2, -1), keepdim=True).clamp(min=torch.finfo(parts.dtype).tiny)
    hoped = _UNSEEN * now * parts / pixels.size(parts.sum(0)) / pixels.number
    hoped = torch.cat([hoped, torch.zeros_like(hoped[:1])])
    led = torch.where(falls != 0, -falls.clamp(min=0) * directions / lengths, hoped).sum(0)
    return torch.where(gradient.isfinite(), led / pixels.stretch, gradient)


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
        now = exact.distances(here)
        (pull,) = torch.autograd.grad(now.sum(), here)
    of_curves = ((behind - ahead) * pull).sum((-2, -1))
    of_distances = exact.distances(behind) - exact.distances(ahead)
    falls = torch.maximum(of_curves, of_distances) / (2 * _STEP)
    return falls.to(directions)[..., None, None], now.detach()[0].to(directions)[..., None, None]


def values_of(*batches: Tensor) -> Values:
    """Values of fields of any shape, by some of their pixels; the least and the largest by all."""
    found = [batch.detach()[~batch.isnan()].float() for batch in batches]
    pixels = torch.cat(found)
    if not len(pixels):
        return Values.of(pixels.numpy(force=True))
    some = torch.cat([part[:: max(1, len(part) // _SAMPLED)] for part in found])
    lowest, highest = pixels.aminmax()
    return Values.of(some.numpy(force=True))._replace(lowest=float(lowest), highest=float(highest))


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
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[None, Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return None, outer.to(gradient).reshape(-1, *[1] * (gradient.ndim - 1)) * gradient, None


def _blurred(fields: Tensor, width: float) -> Tensor:
    """Fields (N, H, W), blurred by a Gaussian; mirrored at the border, so that one pixel cannot be."""
    # Here, since it brings the compiler along, for seconds.
    from torchvision.transforms.functional import gaussian_blur

    rows, columns = (min(math.ceil(3 * width), side - 1) for side in fields.shape[-2:])
    return gaussian_blur(fields[:, None], [2 * columns + 1, 2 * rows + 1], [width, width])[:, 0]
