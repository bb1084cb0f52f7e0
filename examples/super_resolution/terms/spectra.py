"""Scales of fields: a score of their spectra by direction, and the amplitudes of Subich et al."""

from __future__ import annotations

import math

import torch
from emuloss.emulators.scores import ALMOST, kernel_score, pairs_of
from torch import Tensor, nn

_LEAST = 1e-4
"""Added to the power: below lies what rounding to 0.01 mm/h adds."""
_FLAT = 1e-8
"""Added to squared lengths, as a root has no derivative at 0, and to the power of what may be flat."""
_HARMONICS = (2, 4)


class Spectra(nn.Module):
    """Almost fair kernel score of the power of fields by scale, and of their directions.

    The periodogram P of a field under a Hann window is parted into rings of wavenumbers f. Of each ring count
    the logarithm of the mean power, of log(1 + rain) and of rain, in which heavy cells weigh more; and of
    log(1 + rain), of each ring and of all together, the vectors

        (sum |f|^2 P cos k t, sum |f|^2 P sin k t) / sum |f|^2 P,  k = 2, 4,

    which say how strongly slopes run along one axis, or two that cross (of all rings and k = 2, this is
    `emuloss.evaluation.main_axes`). The distance of two fields is the mean over rings of the differences'
    sizes, to which those of all together are added. It is of negative type, and the score proper: each field
    may be as irregular as the observed ones are, in any direction, but a texture that always leans one way,
    leans never, or lacks scales costs.

    Args:
        rings: number of them, equally wide in log wavenumber up to that of 2 pixels.
        directions: weight of the vectors beside that of the logarithms.
    """

    def __init__(self, rings: int = 12, directions: float = 1.0) -> None:
        super().__init__()
        self.rings, self.directions = rings, directions

    def forward(self, members: Tensor, target: Tensor) -> Tensor:
        """Mean over ensembles; members (N, M, H, W), target (N, H, W), NaN of which counts as 0."""
        measured = ~target.isnan()
        fields = torch.cat([members * measured[:, None], target.nan_to_num(0.0)[:, None]], 1)
        light, heavy = (periodogram(x.flatten(0, 1)).flatten(1) for x in (fields, fields.exp() - 1))
        rings, angles, slope = self._places(fields)
        waves = [torch.ones_like(angles)]
        waves += [wave(k * angles) for k in _HARMONICS for wave in (torch.cos, torch.sin)]

        def sums(values: Tensor) -> Tensor:
            """Over each ring, (..., R), of values (..., H * W)."""
            found = values.new_zeros(*values.shape[:-1], self.rings + 1)
            return found.index_add(-1, rings, values)[..., : self.rings]

        counts = sums(waves[0]).clamp(min=1)
        logs = torch.log(torch.cat([sums(x) for x in (light, heavy)], -1) / counts.repeat(2) + _LEAST)
        slopes = sums(torch.stack(waves)[:, None] * (slope * light))
        slopes = torch.cat([slopes, slopes.sum(-1, keepdim=True)], -1)
        axes = (slopes[1:] / (slopes[:1] + _FLAT)).unflatten(0, (-1, 2)).permute(2, 0, 3, 1)
        logs, axes = (x.unflatten(0, fields.shape[:2]) for x in (logs, axes))

        def distance(i: Tensor | slice, j: Tensor | slice) -> Tensor:
            lengths = ((axes[:, i] - axes[:, j]).square().sum(-1) + _FLAT).sqrt().mean(2)
            turned = lengths[..., :-1].mean(-1) + lengths[..., -1]
            return (logs[:, i] - logs[:, j]).abs().mean(-1) + self.directions * turned

        count = members.shape[1]
        first, second = pairs_of(count, members.device)
        return kernel_score(
            distance(slice(count), slice(count, None)), distance(first, second), count, ALMOST
        ).mean()

    def _places(self, fields: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of each wavenumber f its ring, the one after the last if it is in none, its angle, and |f|^2."""
        rows, columns = (torch.fft.fftfreq(side, device=fields.device) for side in fields.shape[-2:])
        length = torch.hypot(rows[:, None], columns).flatten()
        lowest = 1.5 / min(fields.shape[-2:])
        ring = (torch.log(length / lowest) / math.log(0.5 / lowest) * self.rings).floor()
        inside = (ring >= 0) & (ring < self.rings)
        rings = torch.where(inside, ring, self.rings).long()
        return rings, torch.atan2(rows[:, None], columns).flatten(), length.square()


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
