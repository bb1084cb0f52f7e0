"""Scales of fields: a score of their spectra by direction, and the amplitudes of Subich et al."""

from __future__ import annotations

import math

import torch
from emuloss.emulators.scores import ALMOST, kernel_score, pairs_of
from torch import Tensor, nn

_LEAST = 1e-4
"""Added to the power: below lies what rounding to 0.01 mm/h adds."""
_FLAT = 1e-8
"""Added to squared lengths: a root has no derivative at 0."""
_HARMONICS = (2, 4)


class Spectra(nn.Module):
    """Almost fair kernel score of the power of fields by scale, and of their directions at each.

    The periodogram of a field under a Hann window is parted into rings of wavenumbers. Of each ring count the
    logarithm of the mean power, of log(1 + rain) and of rain, in which heavy cells weigh more; and for
    log(1 + rain) the share of the power in the angular harmonics 2 and 4, the vector (sum P cos k t,
    sum P sin k t) / sum P, which says how strongly the texture runs along one axis, or two that cross. The
    distance of two fields is the mean over rings of the differences' sizes. It is of negative type, and the
    score proper: each field may be as irregular as the observed ones are, in any direction, but a texture
    that always leans one way, leans never, or lacks scales costs.

    Args:
        rings: number of them, equally wide in log wavenumber up to that of 2 pixels.
        directions: weight of the harmonics beside that of the logarithms.
    """

    def __init__(self, rings: int = 12, directions: float = 2.0) -> None:
        super().__init__()
        self.rings, self.directions = rings, directions

    def forward(self, members: Tensor, target: Tensor) -> Tensor:
        """Mean over ensembles; members (N, M, H, W), target (N, H, W), NaN of which counts as 0."""
        measured = ~target.isnan()
        fields = torch.cat([members * measured[:, None], target.nan_to_num(0.0)[:, None]], 1)
        powers, axes = self._of(fields.flatten(0, 1))
        heavy, _ = self._of(fields.flatten(0, 1).exp() - 1)
        powers = torch.cat([powers, heavy], 1).unflatten(0, fields.shape[:2])
        axes = axes.unflatten(0, fields.shape[:2])

        def distance(i: Tensor | slice, j: Tensor | slice) -> Tensor:
            lengths = ((axes[:, i] - axes[:, j]).square().sum(-1) + _FLAT).sqrt()
            return (powers[:, i] - powers[:, j]).abs().mean(-1) + self.directions * lengths.mean(-1)

        count = members.shape[1]
        first, second = pairs_of(count, members.device)
        return kernel_score(
            distance(slice(count), slice(count, None)), distance(first, second), count, ALMOST
        ).mean()

    def _of(self, fields: Tensor) -> tuple[Tensor, Tensor]:
        """Of fields (N, H, W) the logarithms (N, R) and the harmonics (N, 2 R, 2) of rings that hold any."""
        power = periodogram(fields).flatten(1)
        rings, angles = self._places(fields)
        waves = [torch.ones_like(angles)] + [
            f(k * angles) for k in _HARMONICS for f in (torch.cos, torch.sin)
        ]
        sums = power.new_zeros(len(waves), len(power), self.rings + 1)
        sums = sums.index_add(2, rings, torch.stack(waves)[:, None] * power)[..., : self.rings]
        counts = torch.bincount(rings, minlength=self.rings + 1)[: self.rings]
        held = counts > 0
        sums, counts = sums[..., held], counts[held]
        shares = (sums[1:] / (sums[0] + _LEAST * counts)).unflatten(0, (-1, 2))
        return torch.log(sums[0] / counts + _LEAST), shares.permute(2, 0, 3, 1).flatten(1, 2)

    def _places(self, fields: Tensor) -> tuple[Tensor, Tensor]:
        """The ring of each wavenumber, the one after the last if it is in none, and its angle, (H * W,)."""
        height, width = fields.shape[1:]
        rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)[None]
        lowest = 1.5 / min(height, width)
        ring = (torch.log(torch.hypot(rows, columns) / lowest) / math.log(0.5 / lowest) * self.rings).floor()
        inside = (ring >= 0) & (ring < self.rings)
        rings = torch.where(inside, ring, self.rings).long().flatten()
        return rings.to(fields.device), torch.atan2(rows, columns).flatten().to(fields.device)


class Amplitudes(nn.Module):
    """Error of the spectral amplitudes, the part of AMSE that does not ask where things are.

    Subich et al. (2025, "Fixing the double penalty in data-driven weather forecasting", arXiv 2501.19374)
    part the squared error by wavenumber into (sqrt(P) - sqrt(P'))^2 of the amplitudes and what is not
    correlated. Beside a CRPS, which sees where things are, the first is added. It is no proper score.
    """

    def forward(self, members: Tensor, target: Tensor) -> Tensor:
        """Mean over members (N, M, H, W), summed over rings; target (N, H, W), NaN of which counts as 0."""
        measured = ~target.isnan()
        fields = torch.cat([members * measured[:, None], target.nan_to_num(0.0)[:, None]], 1)
        height, width = fields.shape[2:]
        rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)[None]
        rings = (torch.hypot(rows, columns) * min(height, width)).round().long().flatten().to(fields.device)
        power = periodogram(fields.flatten(0, 1)).flatten(1) / (height * width)
        sums = power.new_zeros(len(power), int(rings.max()) + 1).index_add(1, rings, power)
        amplitudes = (sums + 1e-12).sqrt().unflatten(0, fields.shape[:2])
        return (amplitudes[:, :-1] - amplitudes[:, -1:]).square().sum(-1).mean()


def periodogram(fields: Tensor) -> Tensor:
    """Power of fields (N, H, W) at all wavenumbers, (N, H, W): s^2 of white noise of variance s^2.

    Fields lose their mean under a Hann window and are multiplied by it, as in `emuloss.metrics.Spectrum`.
    """
    sides = [
        torch.sin(math.pi * (torch.arange(side, device=fields.device) + 0.5) / side) ** 2
        for side in fields.shape[1:]
    ]
    window = torch.outer(*sides)
    mean = (fields * window).sum((1, 2), keepdim=True) / window.sum()
    waves = torch.fft.fft2((fields - mean) * window)
    return (waves.real.square() + waves.imag.square()) / window.square().sum()
