"""Sound Lipschitz bounds of surrogates, from their weights: never below the true constant.

What is bounded is the map from a field (H, W), in physical units, to its signed-log1p curves
(C Q values), both measured by the 2-norm, in exact arithmetic. Bounds of layers come from their
weights in double precision, with rounding guarded against; they multiply along a chain, and
branches that are read side by side add as squares.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import ArgumentError
from ..metrics.minkowski import PIXEL_PERIMETER, Minkowski
from .backbone import PlainBackbone
from .emulator import ConvEmulator
from .excursion import Excursion
from .relaxed import RelaxedMinkowski
from .soft_counts import SoftCounts
from .spectral import polyphase, waves

_OVERSAMPLING = 16
"""Frequencies for each degree of a symbol: the bound of a convolution exceeds its norm by < 2 %."""
_PRECISION = 1e-3
"""Relative step in which the largest eigenvalue of many matrices is sought."""
_GUARD = 1e-9
"""Relative slack for rounding errors in double precision."""
_NEGLIGIBLE = 1e-6
"""Membership below which a pixel's share in a count is left to a bound that grows with the field."""
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

    Teach it a new kind of module by `bound_of.register`.

    Args:
        module: maps fields (N, H, W) to curves (N, C, Q).
        shape: (H, W) of the fields.

    Raises:
        ArgumentError: a shape that is not two positive numbers, or weights that are not finite.
    """
    if len(shape) != 2 or not all(isinstance(edge, int) and edge > 0 for edge in shape):
        raise ArgumentError(f"shape must be (H, W), two positive whole numbers, got {shape!r}")
    inside = getattr(module, "module", None)
    size = (shape[0], shape[1])
    # A copy, in evaluation mode: reading a weight in training mode would move its spectral norm.
    inner = deepcopy(inside if isinstance(inside, nn.Module) else module).eval()
    try:
        for path, part in inner.named_modules():
            if isinstance(part, nn.GroupNorm):
                raise Unbounded(f"GroupNorm in {_place(path)}")
        bound, layers = bound_of(inner, size)
    except Unbounded as reason:
        return Certificate(None, str(reason), (), size)
    return Certificate(bound, "", tuple(layers), size)


@functools.singledispatch
def bound_of(module: nn.Module, shape: tuple[int, int]) -> tuple[float, Layers]:
    """Bound of a module in evaluation mode, and the bounds of its layers.

    A rule holds for subclasses too: one that computes something else needs a rule of its own.

    Raises:
        Unbounded: none is known.
    """
    raise Unbounded(f"no rule for {type(module).__name__}")


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
    return scale * math.sqrt(_largest_eigenvalue(_grams(kernel, *grid), least) / excess) * (1 + _GUARD)


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
    return scale * float(torch.linalg.matrix_norm(matrix, 2)) * (1 + _GUARD)


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


# Networks


@bound_of.register
def _(module: ConvEmulator, shape: tuple[int, int]) -> tuple[float, Layers]:
    backbone = module.backbone
    if not isinstance(backbone, PlainBackbone):
        raise Unbounded(f"no rule for {type(backbone).__name__}")
    if module.metric.arity != 1:
        raise Unbounded("pairs of fields")
    if module.prior is not None or module.heads.constraints:
        raise Unbounded("constrained heads" if module.heads.constraints else "relaxed prior")
    convolutions = chain(backbone.layers, "backbone.layers")
    with torch.no_grad():
        example = module.encoding.scale.new_zeros(1, module.encoding.channels, *padded(shape, module.stride))
        pixels = math.prod(backbone.layers(example).shape[2:])
    layers: Layers = [
        ("encoding", module.encoding.slope()),
        *convolutions,
        ("mean", 1 / math.sqrt(pixels)),
        *chain(module.fc, "fc"),
    ]
    # Free heads are the identity on the signed-log scale, but for a clamp.
    return math.prod(bound for _, bound in layers), layers


@bound_of.register
def _(module: Excursion, shape: tuple[int, int]) -> tuple[float, Layers]:
    # Bounds of one output by others are arbitrary functions, of which no slope is declared.
    raise Unbounded("projection onto the constraints between outputs")


@bound_of.register
def _(module: RelaxedMinkowski, shape: tuple[int, int]) -> tuple[float, Layers]:
    """Bounds of each output's gradient, for all thresholds together.

    With M the membership of a pixel and M' its slope: a pixel changes the area by at most a^2 M', the
    perimeter by a P1 M', and Euler number, components and holes by |c| M', with c within [-3, 1]: it
    starts a set, fills a hole, or joins up to four (holes: [-1, 3]). Over all pixels the c add up to
    1, the whole field, in whatever order they come, and (c + 3)(c - 1) <= 0, so that the sum of c^2
    is at most 3 H W. The slope of signed-log1p is at most 1.

    Where it is less, at large values, two bounds do without the size of the field (`_scale_free`).
    """
    if module.exact:
        raise Unbounded("exact values jump")
    metric = module.metric
    memberships = _Memberships(module.counts)
    per_slope = {
        "area": metric.pixel_size**2,
        "perimeter": metric.pixel_size * PIXEL_PERIMETER,
        **dict.fromkeys(("euler", "components", "holes"), math.sqrt(3)),
    }
    scale_free = _scale_free(memberships, metric, math.prod(shape))
    layers: Layers = []
    for name in metric.outputs:
        bound = per_slope[name] * memberships.slope * math.sqrt(math.prod(shape))
        layers.append((name, min(bound, scale_free.get(name, math.inf))))
    return math.hypot(*(bound for _, bound in layers)), layers


class _Memberships:
    """Slopes in a pixel's value of its memberships, which are interpolated between nodes.

    Attributes:
        slope: largest 2-norm over thresholds of the slopes M'.
        rest: largest M' of each threshold (Q,) where M is negligible, and interpolation falls to 0.
        square_ratio: largest M'^2 / M of each threshold (Q,) elsewhere, and
        ratio: largest M' / M, likewise.
    """

    def __init__(self, counts: SoftCounts) -> None:
        values = counts.memberships.double().cpu()
        # Interpolation is linear in asinh(x / scale), whose slope is largest where |x| is least.
        heights = counts._origin + counts._step * torch.arange(len(values)).double()
        least = torch.minimum(heights[1:].abs(), heights[:-1].abs())
        least[heights[1:] * heights[:-1] <= 0] = 0.0
        slopes = values.diff(dim=0) / (counts._step * counts._scale * torch.cosh(least)[:, None])
        self.slope = float(slopes.norm(dim=1).max()) * (1 + _GUARD)
        counts_little = values[:-1] < _NEGLIGIBLE
        self.rest = slopes.where(counts_little, 0.0).amax(0) * (1 + _GUARD)
        ratio = (slopes / values[:-1]).where(~counts_little, 0.0)
        self.ratio = ratio.amax(0) * (1 + _GUARD)
        self.square_ratio = (ratio * slopes).amax(0) * (1 + _GUARD)


def _scale_free(memberships: _Memberships, metric: Minkowski, pixels: int) -> dict[str, float]:
    """Bounds of the gradients of slog area and slog perimeter that hardly depend on the field's size.

    Area: with S = sum M and M'^2 <= k M, |grad slog A| <= a^2 sqrt(k S)/(1 + a^2 S) <= a sqrt(k)/2.

    Perimeter: by the coarea formula P is the mean over t of the perimeters of {M > t}, each of them at
    least a P1 sqrt(n) by the isoperimetric inequality (closed boundary), so that the 2-norm of M is at
    most P/(a P1); with M' <= r M, |grad slog P| <= a P1 r |M|/(1 + P) <= r.

    What pixels of negligible membership break of these inequalities is added.
    """
    size = metric.pixel_size
    excess = memberships.rest * math.sqrt(pixels)
    area = size * memberships.square_ratio.sqrt() / 2 + size**2 * excess
    found = {"area": float(area.norm())}
    if metric.boundary == "closed":
        found["perimeter"] = float((memberships.ratio + size * PIXEL_PERIMETER * excess).norm())
    return found
