"""Scales of fields: a score of their spectra by direction, and the amplitudes of Subich et al."""

from __future__ import annotations

import math

import torch
from emuloss.emulators.scores import ALMOST, kernel_score, pairs_of
from torch import Tensor, nn

_LEAST = 1e-4
"""Added to the power: below lies what rounding to 0.01 mm/h adds."""


class Spectra(nn.Module):
    """Almost fair kernel score of the logarithm of the power by scale and direction.

    The periodogram of a field under a Hann window is averaged over rings of wavenumbers, cut into sectors.
    The distance of two fields is the mean over these of |log P - log P'|, of log(1 + rain) and of rain, in
    which heavy cells weigh more. It is of negative type, and the score proper. It sees textures that lean one
    way, or lack scales, and lets each field be as irregular as the observed ones are.

    Args:
        rings: number of them, equally wide in log wavenumber up to that of 2 pixels.
        sectors: number of directions, over half a turn.
    """

    def __init__(self, rings: int = 10, sectors: int = 8) -> None:
        super().__init__()
        self.rings, self.sectors = rings, sectors

    def forward(self, members: Tensor, target: Tensor) -> Tensor:
        """Mean over ensembles; members (N, M, H, W), target (N, H, W), NaN of which counts as 0."""
        measured = ~target.isnan()
        fields = torch.cat([members * measured[:, None], target.nan_to_num(0.0)[:, None]], 1)
        both = [self._spectra(x.flatten(0, 1)) for x in (fields, fields.exp() - 1)]
        spectra = torch.cat(both, 1).unflatten(0, fields.shape[:2])
        drawn, truth = spectra[:, :-1], spectra[:, -1:]
        first, second = pairs_of(drawn.shape[1], drawn.device)
        to_truth = (drawn - truth).abs().mean(-1)
        between = (drawn[:, first] - drawn[:, second]).abs().mean(-1)
        return kernel_score(to_truth, between, drawn.shape[1], ALMOST).mean()

    def _spectra(self, fields: Tensor) -> Tensor:
        """Logarithms (N, B) of the mean power of fields (N, H, W) in each cell that has wavenumbers."""
        power = periodogram(fields).flatten(1)
        cells = self._cells(fields.shape[1], fields.shape[2]).to(fields.device)
        number = self.rings * self.sectors
        counts = torch.bincount(cells, minlength=number + 1)[:number]
        sums = power.new_zeros(len(power), number + 1).index_add(1, cells, power)[:, :number]
        held = counts > 0
        return torch.log(sums[:, held] / counts[held] + _LEAST)

    def _cells(self, height: int, width: int) -> Tensor:
        """The cell of each wavenumber, (H * W,); that after the last holds those of no ring."""
        rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)[None]
        length = torch.hypot(rows, columns)
        lowest = 1.5 / min(height, width)
        ring = (torch.log(length / lowest) / math.log(0.5 / lowest) * self.rings).floor()
        sector = (torch.atan2(rows, columns) / math.pi * self.sectors).floor() % self.sectors
        cell = ring * self.sectors + sector
        inside = (ring >= 0) & (ring < self.rings)
        return torch.where(inside, cell, self.rings * self.sectors).long().flatten()


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
