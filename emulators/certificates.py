"""Sound Lipschitz bounds of surrogates, from their weights: never below the true constant.

What is bounded is the map from a field (H, W), in physical units, to its signed-log1p curves
(C Q values), both measured by the 2-norm, in exact arithmetic. Bounds of layers come from their
weights in double precision, with rounding guarded against; they multiply along a chain, and
branches that are read side by side add as squares.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArgumentError
from ..foundation.registry import Registry
from .networks.spectral import polyphase, waves

_OVERSAMPLING = 16
"""Frequencies for each degree of a symbol: the bound of a convolution exceeds its norm by < 2 %."""
_PRECISION = 1e-3
"""Relative step in which the largest eigenvalue of many matrices is sought."""
GUARD = 1e-9
"""Relative slack for rounding errors in double precision."""
_CHUNK = 2**20
"""Numbers held at a time, within reach of a cache: those of a wide layer would take gigabytes."""
GELU_SLOPE = (1 + math.erf(1)) / 2 + math.exp(-1) / math.sqrt(math.pi)
"""Steepest slope of GELU, 1.1289, at x = sqrt(2)."""


class Unbounded(Exception):
    """A module has no global bound; the message is the reason."""


Layers = list[tuple[str, float]]
"""Bounds of layers, by name."""


@dataclass(frozen=True)
class Certificate:
    """A bound on how fast a surrogate's signed-log curves change with its field, or why there is none.

    Attributes:
        bound: |slog S(x) - slog S(y)| <= bound |x - y| for all fields x, y of this shape that miss the
            same pixels; per physical unit of the field. None where no bound is known.
        reason: why not; "" where there is one.
        layers: bounds of the parts it is made of, by name, in order.
        shape: (H, W) of the fields.
    """

    bound: float | None
    reason: str
    layers: tuple[tuple[str, float], ...]
    shape: tuple[int, int]

    def __str__(self) -> str:
        if self.bound is None:
            return f"no global bound: {self.reason}"
        return f"global bound {self.bound:.3g} for fields of {self.shape[0]} x {self.shape[1]}"


def certify(module: nn.Module, shape: tuple[int, int]) -> Certificate:
    """Certificate of a surrogate, or of the module inside it; frozen or not, it stays as it is.

    Teach it a new kind of module by `BOUNDS.register(kind)`.

    Args:
        module: maps fields (N, H, W) to curves (N, C, Q).
        shape: (H, W) of the fields.

    Raises:
        ArgumentError: a shape that is not two positive numbers, or weights that are not finite.
    """
    if len(shape) != 2 or not all(isinstance(edge, int) and edge > 0 for edge in shape):
        raise ArgumentError(f"shape must be (H, W), two positive whole numbers, got {shape!r}")
    size = (shape[0], shape[1])
    # A copy, in evaluation mode: reading a weight in training mode would move its spectral norm.
    inner = deepcopy(module).eval()
    try:
        for path, part in inner.named_modules():
            if isinstance(part, nn.GroupNorm):
                raise Unbounded(f"GroupNorm in {_place(path)}")
        bound, layers = bound_of(inner, size)
    except Unbounded as reason:
        return Certificate(None, str(reason), (), size)
    return Certificate(bound, "", tuple(layers), size)


BOUNDS: Registry[type[nn.Module], Callable[[Any, tuple[int, int]], tuple[float, Layers]]] = Registry("bound")
"""Rules by the kind of module: (module in evaluation mode, (H, W)) -> its bound, and those of its layers.
A rule raises `Unbounded` where none is known, and stands beside its module. It holds for subclasses too: one
that computes something else needs a rule of its own."""


def bound_of(module: nn.Module, shape: tuple[int, int]) -> tuple[float, Layers]:
    """Bound of a module in evaluation mode, and the bounds of its layers.

    Raises:
        Unbounded: none is known.
    """
    rule = BOUNDS.of(module)
    if rule is None:
        raise Unbounded(f"no rule for {type(module).__name__}")
    return rule(module, shape)


def _place(path: str) -> str:
    number = re.search(r"\d+", path)
    return f"stage {int(number[0]) + 1}" if number else path


def padded(shape: tuple[int, int], stride: int) -> tuple[int, int]:
    """Shape of fields once they are padded to multiples of a stride."""
    return shape[0] + -shape[0] % stride, shape[1] + -shape[1] % stride


# Layers


def conv_norm(weight: Tensor, stride: int = 1) -> float:
    """Upper bound of the 2-norm of a zero-padded convolution on fields of any size, whatever the padding.

    The norm is at most the largest over all frequencies w of |K(w)|, K the symbol of the kernel
    (polyphase, for strides). For a unit vector v, |K(w) v|^2 is a trigonometric polynomial of w, of
    degree d = k - 1 in each dimension. By a lemma of M. Riesz, a real trigonometric polynomial of
    degree d falls from its maximum no faster than a cosine of that degree, so that on n equispaced
    points it comes to cos(pi d/n) of its maximum in each dimension (see Jetter, Pfander and
    Zimmermann, "The crest factor for trigonometric polynomials", 2001). Hence
    |K(w)|^2 <= max over the grid of |K|^2 / cos(pi d/n)^2. The norm of K on the grid is bounded by
    finding a c for which c - K^H K has a Cholesky factor at all of its points.

    Args:
        weight: (O, I, k, k); k may differ between the dimensions.
        stride: of both dimensions.

    Raises:
        ArgumentError: another shape, or values that are not finite.
    """
    if weight.ndim != 4 or 0 in weight.shape or stride < 1:
        raise ArgumentError(
            f"weight must be (O, I, k, k) and stride positive, got {tuple(weight.shape)} and {stride}"
        )
    kernel, scale = _scaled(weight)
    if scale == 0:
        return 0.0
    kernel = polyphase(kernel, stride)
    if kernel.shape[0] < kernel.shape[1]:
        kernel = kernel.transpose(0, 1)  # up to a reflection of the frequencies, the adjoint
    taps = kernel.shape[2:]
    grid = [_OVERSAMPLING * (k - 1) if k > 1 else 1 for k in taps]
    excess = math.prod(math.cos(math.pi * (k - 1) / n) for k, n in zip(taps, grid, strict=True))
    # Over all frequencies, traces of K^H K average to the squared norm of the kernel.
    least = float(kernel.square().sum()) / kernel.shape[1]
    return scale * math.sqrt(_largest_eigenvalue(_grams(kernel, *grid), least) / excess) * (1 + GUARD)


def _scaled(weight: Tensor) -> tuple[Tensor, float]:
    """Weights in double precision, divided by the largest: squares then neither overflow nor vanish."""
    weight = weight.detach().cpu().double()
    if not torch.isfinite(weight).all():
        raise ArgumentError("weights must be finite to be certified, got NaN or infinity; train anew")
    scale = float(weight.abs().max())
    return weight / (scale or 1.0), scale


def _grams(kernel: Tensor, rows: int, columns: int) -> Iterable[Tensor]:
    """Chunks (F, I, I) of K(w)^H K(w), complex128, at half of the frequencies of a torus.

    The Gram matrix's own taps are products of the kernel's at each distance: far fewer products of
    matrices than frequencies.
    """
    _, inputs, height, width = kernel.shape
    padded = nn.functional.pad(kernel, (width - 1, width - 1, height - 1, height - 1))
    correlations = torch.stack(
        [
            torch.einsum("oiyx,ojyx->ij", kernel, padded[:, :, dy : dy + height, dx : dx + width])
            for dy in range(2 * height - 1)
            for dx in range(2 * width - 1)
        ]
    ).flatten(1)
    found = waves(rows, columns, 2 * height - 1, 2 * width - 1)
    # The central distance is 0; taking its phase off makes the matrices Hermitian.
    found = found * found[:, found.shape[1] // 2, None].conj()
    for part in found.split(max(1, _CHUNK // inputs**2)):
        yield torch.complex(part.real @ correlations, part.imag @ correlations).unflatten(1, (inputs, inputs))


def _largest_eigenvalue(chunks: Iterable[Tensor], least: float) -> float:
    """Upper bound of the largest eigenvalue of Hermitian matrices (F, I, I), known to be `least` > 0 or more.

    Cholesky factors show that a matrix lies below a candidate; where there is none, the candidate rises
    to that matrix's own largest eigenvalue. Few matrices set such a record.
    """
    best = least
    for grams in chunks:
        pending = grams
        while len(pending):
            candidate = best * (1 + _PRECISION)
            below = -pending
            below.diagonal(dim1=1, dim2=2).add_(candidate)
            pending = pending[torch.linalg.cholesky_ex(below).info != 0]
            if len(pending):
                # Among those that stick out, the one with the largest Frobenius norm mostly does so most.
                first = torch.linalg.vector_norm(pending, dim=(1, 2)).argmax()
                best = max(candidate, float(torch.linalg.eigvalsh(pending[first])[-1]))
    return best * (1 + _PRECISION)


def linear_norm(weight: Tensor) -> float:
    """Upper bound of the 2-norm of a matrix (O, I).

    Raises:
        ArgumentError: another shape, or values that are not finite.
    """
    if weight.ndim != 2 or 0 in weight.shape:
        raise ArgumentError(f"weight must be (O, I), got {tuple(weight.shape)}")
    matrix, scale = _scaled(weight)
    return scale * float(torch.linalg.matrix_norm(matrix, 2)) * (1 + GUARD)


def layer_bound(layer: nn.Module, name: str) -> float:
    """Bound of one layer of a known type."""
    match layer:
        case nn.Conv2d():
            plain = (
                layer.groups == 1
                and layer.dilation == (1, 1)
                and layer.padding_mode == "zeros"
                and layer.stride[0] == layer.stride[1]
            )
            if plain:
                return conv_norm(layer.weight, layer.stride[0])
        case nn.Linear():
            return linear_norm(layer.weight)
        case nn.MaxPool2d(kernel_size=int(kernel), stride=int(stride), padding=0, dilation=1):
            return float(math.ceil(kernel / stride))  # root of the number of windows that share a pixel
        case nn.ReLU() | nn.Identity():
            return 1.0
        case nn.GELU(approximate="none"):
            return GELU_SLOPE
    raise Unbounded(f"no rule for {type(layer).__name__} in {name}")


def chain(layers: nn.Sequential, name: str) -> Layers:
    """Bounds of layers that follow one another."""
    return [(f"{name}.{k}", layer_bound(layer, f"{name}.{k}")) for k, layer in layers.named_children()]
