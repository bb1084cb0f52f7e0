"""The spectrum, differentiable as it is."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.compiler import is_compiling
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ...metrics import Spectrum
from ...metrics.spectrum import axis_of, ring_of, stands_for
from ..differentiable import Analytical
from ..transforms import transformed
from .relaxation import RELAXATIONS

_PART = 32
"""Wavenumbers that are worked on at a time, in pixels of the field."""


@RELAXATIONS.register(Spectrum)
class RelaxedSpectrum(Analytical):
    """Power and anisotropy of the spectrum: both have a gradient, so that nothing is softened.

    There is no temperature. Values are the metric's within rounding. They are computed in double precision,
    as in the metric: in single precision large waves leave small ones, and what offsets leave, in rounding.
    Rings whose power lies below the floor, such as those of a constant field, get no gradient for their
    power; nor do pixels beyond 1e30, which count as that.

    Args:
        metric: a spectrum.
        forward: "soft", or "exact": values to the last bit, found on the host, with the same gradient.

    Raises:
        ArgumentError: an argument out of range.
    """

    metric: Spectrum
    dry = 0.0

    def __init__(self, metric: Spectrum, forward: str = "soft") -> None:
        super().__init__(metric, forward)
        # Nothing reads its values: by this buffer a relaxation knows its device (`device_of`).
        self.register_buffer("levels", torch.tensor(metric.levels, dtype=torch.float64), persistent=False)

    def soft(self, batch: Tensor, given: Tensor) -> Tensor:
        """Curves (N, C, Q)."""
        directed = "anisotropy" in self.metric.outputs
        means = _ring_means(batch.double(), self.metric.bins, directed)
        power = means[:, 0].clamp(min=self.metric.floor)
        curves = {"power": torch.log10(power)}
        if directed:
            curves["anisotropy"] = _length(means[:, 1:]) / power
        return torch.stack([curves[output] for output in self.metric.outputs], dim=1).to(batch.dtype)


def _ring_means(fields: Tensor, bins: int, directed: bool) -> Tensor:
    """Means over rings of the power of fields (N, H, W), (N, 1, bins), or of it and its axes, (N, 3, bins).

    See `emuloss.metrics.Spectrum`, whose window and rings these are.
    """
    height, width = fields.shape[1:]
    if fields.shape[0] == 0:  # of which torch 2.8 and 2.9 make no transform
        return fields.sum((1, 2))[:, None, None].expand(-1, 3 if directed else 1, bins)
    window = _hann(height, fields)[:, None] * _hann(width, fields)
    mean = (fields * window).sum((1, 2), keepdim=True) / window.sum()
    grid = max(height, 2 * bins), max(width, 2 * bins)
    weighed = (fields - mean) * window
    # Of a field that is padded to a large grid, `along` alone is kept for the gradient; compilers and
    # transforms keep what they like. Exports to ONNX pad no complex numbers.
    whole = transformed(weighed) or is_compiling()
    if whole:
        weighed = F.pad(weighed, (0, 0, 0, grid[0] - height))
    along = torch.fft.rfft(weighed, grid[1])
    step = along.shape[2] if whole else max(1, _PART * height * width // grid[0])
    starts = range(0, along.shape[2], step)
    again = len(starts) > 1 and along.requires_grad
    parts = []
    for start in starts:
        # A slice that is the whole would be an alias, which exports to ONNX know not of complex numbers.
        part = along if len(starts) == 1 else along[..., start : start + step]
        given = part, start, grid, bins, directed
        parts.append(
            checkpoint(_sums_of, *given, use_reentrant=False, preserve_rng_state=False)
            if again
            else _sums_of(*given)
        )
    sums, counts = (torch.stack(each).sum(0) for each in zip(*parts, strict=True))
    return sums / (counts * window.square().sum())


def _sums_of(
    along: Tensor, start: int, grid: tuple[int, int], bins: int, directed: bool
) -> tuple[Tensor, Tensor]:
    """Sums over the rings of power (N, 1 or 3, bins) in some columns of wavenumbers, and numbers of these.

    Args:
        along: transforms of rows (N, H, columns).
        start: the first of these columns.
        grid: rows and columns of the padded field.
        bins: number of rings.
        directed: whether sums of the power's axes are asked for, too.
    """
    rows, columns = grid
    power = torch.view_as_real(torch.fft.fft(along, rows, dim=1)).square().sum(-1)
    places = _places(rows, power)
    down = (((places + rows // 2) % rows - rows // 2) / rows)[:, None]
    across = (start + _places(along.shape[2], power)) / columns
    ring = ring_of(down, across, bins).long()
    count = stands_for(across).expand_as(ring).to(power)
    power = (power * count)[:, None]
    if directed:
        power = torch.cat([power, power * torch.stack(axis_of(down, across))], dim=1)
    return _sums(power, ring, bins), _sums(count, ring, bins)


def _length(vectors: Tensor) -> Tensor:
    """Lengths (N, bins) of vectors (N, 2, bins), whose derivatives at 0 are 0."""
    squared = vectors.square().sum(1)
    # A root has none there.
    return squared.masked_fill(squared == 0, 1.0).sqrt().masked_fill(squared == 0, 0.0)


def _hann(side: int, like: Tensor) -> Tensor:
    """The window along one side, (side,)."""
    return torch.sin(math.pi * (_places(side, like) + 0.5) / side).square()


def _places(count: int, like: Tensor) -> Tensor:
    """0, 1, ..., as a tensor is."""
    return torch.arange(count, dtype=like.dtype, device=like.device)


def _sums(values: Tensor, ring: Tensor, bins: int) -> Tensor:
    """Sums over the rings, (..., bins), of values (..., rows, columns), whose rings are (rows, columns)."""
    values = values.flatten(-2)
    into = values.new_zeros(*values.shape[:-1], bins + 1)
    return into.scatter_add(-1, ring.flatten().expand_as(values), values)[..., 1:]
