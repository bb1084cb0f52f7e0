"""Convolutions and linear maps held at an operator norm of 1 while they train."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from ...errors import ArgumentError

KINDS = ("none", "power", "exact")
_TORUS = 8
"""Least edge length of the torus on which a convolution's norm is estimated, a power of 2."""
_FIRST_STEPS = 15
"""Power iterations before the first use."""
_LARGEST_SYMBOLS = 2**30
"""Bytes of a convolution's symbols on that torus; beyond, memory would follow what a file names."""
_SMALLEST = 1e-12
"""Norm by which a kernel of zeros is divided."""


def polyphase(weight: Tensor, stride: int) -> Tensor:
    """The kernel that acts with stride 1 on the space-to-depth form of a strided convolution's input.

    Args:
        weight: (O, I, h, w).
        stride: s, of both dimensions.

    Returns:
        (O, I s^2, ceil(h/s), ceil(w/s)); of the same norm as the strided convolution, since where
        the kernel is centred only shifts fields.
    """
    outputs, inputs, rows, columns = weight.shape
    weight = nn.functional.pad(weight, (0, -columns % stride, 0, -rows % stride))
    phases = weight.unflatten(3, (-1, stride)).unflatten(2, (-1, stride))  # (O, I, h/s, s, w/s, s)
    return phases.permute(0, 1, 3, 5, 2, 4).reshape(outputs, inputs * stride**2, *phases.shape[2:5:2])


def waves(rows: int, columns: int, height: int, width: int) -> Tensor:
    """exp(-i w.t) of the frequencies of a torus and the taps of a kernel.

    A real kernel has conjugate symbols at opposite frequencies, so half of them are enough.

    Args:
        rows: frequencies along the first dimension,
        columns: and along the second, before half of them are left out.
        height: taps of the kernel along the first dimension,
        width: and along the second.

    Returns:
        (rows (columns // 2 + 1), height width), complex128.
    """

    def along(frequencies: Tensor, taps: int, period: int) -> Tensor:
        phase = torch.outer(frequencies, torch.arange(taps)) % period  # exact: no rounding of large angles
        return torch.polar(
            torch.ones(phase.shape, dtype=torch.float64), -2 * math.pi / period * phase.double()
        )

    first = along(torch.arange(rows), height, rows)
    second = along(torch.arange(columns // 2 + 1), width, columns)
    return torch.kron(first, second)


class ConvSpectralNorm(nn.Module):
    """Parametrization: a kernel divided by the norm of its convolution on a torus.

    The convolution acts on each frequency by a matrix of its own, its symbol. Power iteration runs
    on all of them side by side, one step each training pass, from where the last pass left it; the
    largest estimate is the norm. It approaches the norm on the torus from below, which differs
    little from that on other fields: `emuloss.emulators.certify` gives the bound that holds.

    Args:
        weight: (O, I, k, k), the kernel at the start.
        stride: of the convolution.
    """

    waves: Tensor
    directions: Tensor

    def __init__(self, weight: Tensor, stride: int) -> None:
        super().__init__()
        self.stride = stride
        outputs, inputs, rows, columns = polyphase(weight.detach(), stride).shape
        torus = max(_TORUS, 2 * max(rows, columns)) if max(rows, columns) > 1 else 1
        _refuse_large(8 * torus * (torus // 2 + 1) * outputs * inputs, weight)
        found = waves(torus, torus, rows, columns)
        # Complex numbers as pairs of real ones: a module's change of dtype would drop imaginary parts.
        self.register_buffer("waves", torch.view_as_real(found).to(weight.dtype), persistent=False)
        start = torch.randn(len(found), 2 * inputs, dtype=weight.dtype, device=weight.device)
        self.register_buffer("directions", nn.functional.normalize(start, dim=1).view(-1, inputs, 2))
        self._iterate(self._symbols(polyphase(weight, stride)), _FIRST_STEPS)

    def forward(self, weight: Tensor) -> Tensor:
        """The kernel, (O, I, k, k), divided by its norm."""
        with torch.autocast(weight.device.type, enabled=False):
            kernel = polyphase(weight, self.stride)
            symbols = self._symbols(kernel)
            if self.training:
                self._iterate(symbols, 1)
            return weight / self._norm(kernel, symbols).clamp(min=_SMALLEST)

    @torch.no_grad()
    def _symbols(self, kernel: Tensor) -> Tensor:
        """Symbols (F, O, I) of a kernel (O, I, h, w)."""
        flat = kernel.permute(2, 3, 0, 1).flatten(0, 1).flatten(1)
        parts = torch.complex(self.waves[..., 0] @ flat, self.waves[..., 1] @ flat)
        return parts.unflatten(1, kernel.shape[:2])

    @torch.no_grad()
    def _iterate(self, symbols: Tensor, steps: int) -> None:
        v = torch.view_as_complex(self.directions)[..., None]
        for _ in range(steps):
            # Conjugating vectors, not matrices, spares copies of these. Where a symbol is 0, v stays.
            moved = ((symbols @ v).mH @ symbols).mH
            v = nn.functional.normalize(moved + _SMALLEST * v, dim=1, eps=_SMALLEST / 2)
        self.directions.copy_(torch.view_as_real(v[..., 0]))

    def _norm(self, kernel: Tensor, symbols: Tensor) -> Tensor:
        """The largest of the norms |K(w) v(w)|, differentiable in the kernel."""
        v = torch.view_as_complex(self.directions)
        # An index of one element, as a tensor: reading it would make the CPU wait for a GPU.
        best = (symbols @ v[..., None]).norm(dim=(1, 2)).argmax()[None]
        # K v = sum over taps t of wave_t W_t v, the real and the imaginary part side by side.
        wave = torch.view_as_complex(self.waves).index_select(0, best)[0, :, None]
        moved = wave * v.index_select(0, best)
        return torch.einsum("oit,tic->oc", kernel.flatten(2), torch.view_as_real(moved)).norm()


def _refuse_large(size: int, weight: Tensor) -> None:
    """Refuse a kernel whose symbols would take so many bytes.

    Raises:
        ArgumentError: they are too many.
    """
    if size > _LARGEST_SYMBOLS:
        outputs, inputs = weight.shape[:2]
        raise ArgumentError(
            f"exact spectral norms of {inputs} to {outputs} channels take {size / 2**30:.1f} GiB a layer; "
            "take spectral='power', or smaller widths"
        )


def spectral_conv(inputs: int, outputs: int, kernel: int, stride: int = 1, kind: str = "none") -> nn.Conv2d:
    """A convolution, zero-padded by kernel // 2, with a spectral norm.

    Args:
        inputs: input channels.
        outputs: output channels.
        kernel: edge length of the kernel.
        stride: of both dimensions.
        kind: "none"; "power": torch's, which divides by the norm of the reshaped kernel (a convolution
            can then stretch by up to the kernel's edge length); "exact": division by the norm of the
            convolution itself (see `ConvSpectralNorm`).

    Raises:
        ArgumentError: an unknown kind.
    """
    if kind not in KINDS:
        raise ArgumentError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2)
    if kind == "power":
        spectral_norm(conv)
    elif kind == "exact":
        parametrize.register_parametrization(conv, "weight", ConvSpectralNorm(conv.weight, stride))
    return conv


def spectral_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer with torch's spectral norm, which here is that of the map itself."""
    layer = nn.Linear(inputs, outputs)
    spectral_norm(layer)
    return layer
