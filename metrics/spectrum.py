"""Radially averaged power spectrum."""

from __future__ import annotations

import math

import numpy as np

from ..errors import ArgumentError
from ..foundation.arguments import as_count, as_name, as_positive
from .constraints import AtLeast
from .metric import Metric
from .registry import register


@register
class Spectrum(Metric):
    r"""Radially averaged power spectrum of a field, one curve over wavenumber.

    - power: log10 of the mean power over each of B rings of wavenumbers, at least log10 of the floor, in
      log10 of the field's unit squared.

    The field x, H x W, loses its mean under a window and is multiplied by it,

        y = w (x - sum(w x) / sum(w)),  w_ij = sin^2(pi (i + 1/2)/H) sin^2(pi (j + 1/2)/W),

    the Hann window, which keeps the field's edges from leaking into all wavenumbers. The power at a
    wavenumber is P(f) = |sum_ij y_ij exp(-2 pi i f . (i, j))|^2 / sum(w^2), with f in cycles per pixel. It
    has the field's unit squared: white noise of variance s^2 has P = s^2 at all wavenumbers but the lowest,
    whatever the size of the field (Welch 1967, IEEE Trans. Audio Electroacoust. 15; Ruzanski and
    Chandrasekar 2011, IEEE Trans. Geosci. Remote Sens. 49, for rain).

    Ring b = 1 ... B holds the wavenumbers with (b - 1)/B < 2 |f| <= b/B: `levels` are the middles of the
    rings in units of the Nyquist wavenumber, half a cycle per pixel. Corners beyond that are left out, as is
    f = 0.
    P is sampled on the grid of the discrete Fourier transform. A side shorter than 2B pixels is padded with
    zeros to 2B after windowing, so that no ring is empty, and Q = B for any field.

    NaN means not measured and counts as 0. Power below the floor, such as that of a constant field, which
    is 0, counts as the floor.

    Args:
        bins: number B of rings; as many as half the shorter side of the fields resolve them fully.
        floor: least power, in the field's unit squared; above 0.
        field_unit: name of the unit of the field.

    Raises:
        ArgumentError: any argument out of range; when called, a field that holds an infinite value.
    """

    name = "spectrum"
    invariant = True
    outputs = ("power",)
    thresholds = ()
    pixel_size = 1.0
    bins: int
    floor: float
    field_unit: str

    def __init__(self, bins: int = 32, floor: float = 1e-6, field_unit: str = "unit") -> None:
        self.bins = as_count("bins", bins)
        self.floor = as_positive("floor", floor)
        self.field_unit = as_name("field_unit", field_unit, "mm/h")
        self.levels = tuple((b + 0.5) / self.bins for b in range(self.bins))
        self.units = (f"log10 ({field_unit})^2",)
        least = math.log10(self.floor)
        self.constraints = (AtLeast("power", "power >= floor", lambda: least),)

    def _compute(self, fields: np.ndarray) -> np.ndarray:
        from ..foundation.threads import in_threads

        if np.isinf(fields).any():
            raise ArgumentError(
                "fields of a spectrum must be finite, or NaN where not measured, got infinity"
            )
        sides = fields.shape[1:]
        window = np.outer(*(np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2 for side in sides))
        grid = [max(side, 2 * self.bins) for side in sides]
        ring, weight = _rings(grid, self.bins)
        share = weight / (np.bincount(ring, weight, self.bins + 1)[ring] * (window**2).sum())
        power = np.empty((len(fields), self.bins))

        def measure(batch: slice) -> None:
            for n in range(batch.start, batch.stop):
                field = np.nan_to_num(fields[n].astype(np.float64))
                field -= np.average(field, weights=window)
                waves = np.fft.rfft2(field * window, grid).ravel()
                power[n] = np.bincount(ring, share * (waves.real**2 + waves.imag**2), self.bins + 1)[1:]

        in_threads(measure, len(fields), fields.size)
        return np.log10(np.maximum(power, self.floor))[:, None]


def _rings(grid: list[int], bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Ring and weight of each wavenumber that `np.fft.rfft2` gives on that grid, flattened.

    Returns:
        The ring, 1 to bins, 0 for the wavenumbers outside all of them; and how many wavenumbers of the full
        plane each stands for: itself and its negative, or itself alone.
    """
    rows, columns = grid
    along = np.fft.rfftfreq(columns)
    radius = 2 * np.hypot(np.fft.fftfreq(rows)[:, None], along)
    # Without the slack, rounding could lift a wavenumber on the border of two rings into the upper one.
    ring = np.ceil(radius * bins - 1e-9).astype(np.int64)
    ring[ring > bins] = 0
    weight = np.where((along == 0) | (along == 0.5), 1.0, 2.0)
    return ring.ravel(), np.broadcast_to(weight, radius.shape).ravel()
