"""Synthetic rain: seeded fields whose statistics resemble those of radar composites.

A Gaussian field with a power-law spectrum is cut at a threshold, which makes rain intermittent, and its
excess is exponentiated, which makes rates nearly log-normal, as in the stochastic models of Bell (1987,
J. Geophys. Res. 92) and of Pegram and Clothier (2001, J. Hydrol. 241). Convective cells that leave a trail
along their motion are added on top. The constants below were fitted by eye to the wet share, the quantiles of
wet pixels and the number of components of European radar composites on a summer evening.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError
from ...foundation.arguments import as_choice, as_count, as_natural, as_positive, as_shape
from ...metrics.declared import as_finite
from .source import FieldSource
from .tiling import chunk_length

_DRIZZLE = 0.1
"""Rate in mm/h below which a pixel is dry, as in radar products."""
_HIGHEST = 150.0
"""Highest rate in mm/h, as radar products cap it against hail."""
_TRAIL = 4
"""Positions that a convective cell has passed, the newest the strongest."""
_BEAM = 0.45
"""Standard deviation in pixels of the blur by which radar beams and gridding smooth rain."""
_PIXELS = 2**22
"""Most pixels in a chunk, so that large fields do not fill the memory."""
_AT_ONCE = 2**16
"""Pixels that are drawn at once: what a step leaves is in the cache when the next one needs it."""
_IN_PLACE = np.lib.NumpyVersion(np.__version__) >= "2.0.0"
"""Whether Fourier transforms of this NumPy can take the place of what they transform."""


@dataclass(frozen=True)
class Regime:
    """Ranges that the parameters of one field are drawn from, uniformly where not said otherwise.

    Attributes:
        exponent: Spectral exponent of the Gaussian field's power over wave number.
        threshold: Median of the rain threshold in standard deviations of the Gaussian field, and the spreads
            below and above it (two half-normal distributions).
        sharpness: Growth of the logarithm of the rate with the excess over the threshold.
        cells: Mean number of convective cells per 128 x 128 pixels (Poisson).
        peak: Median of the peak rate of cells in mm/h, and the spread of its logarithm (log-normal).
    """

    exponent: tuple[float, float]
    threshold: tuple[float, float, float]
    sharpness: tuple[float, float]
    cells: float
    peak: tuple[float, float] = (5.0, 0.8)


REGIMES: dict[str, Regime] = {
    "stratiform": Regime((2.0, 3.0), (0.9, 0.65, 1.0), (1.9, 3.2), 0.5),
    "convective": Regime((2.0, 2.8), (2.5, 0.9, 0.9), (2.8, 5.2), 4.0),
    "dry": Regime((2.0, 3.5), (4.5, 1.0, 1.0), (2.0, 3.0), 0.0),
    "all-wet": Regime((2.6, 3.5), (-5.0, 0.3, 0.3), (0.7, 1.1), 0.3),
    "showers": Regime((1.7, 2.2), (2.2, 0.5, 0.5), (2.0, 3.5), 12.0, (2.5, 0.6)),
    "widespread": Regime((2.8, 3.6), (-0.6, 0.5, 0.5), (0.9, 1.6), 1.0),
}
"""Weather that rain can be drawn from, besides "mixed"; the last two are not part of that."""

MIXTURE = {"stratiform": 0.42, "convective": 0.425, "dry": 0.15, "all-wet": 0.005}
"""Share of each regime in "mixed" rain."""


class Rain(FieldSource):
    """Synthetic rain rate in mm/h.

    Field i depends only on the seed, the size, the regimes and i: not on the count, the chunks, or the order
    of reading.
    """

    name = "rain"
    unit = "mm/h"
    length_unit = "km"
    dry = 0.0
    chronological = False

    def __init__(
        self,
        count: int = 4096,
        size: int | tuple[int, int] = (128, 128),
        seed: int = 0,
        quantum: float | None = 0.01,
        pixel_size: float = 2.0,
        regimes: str | Sequence[str] | None = None,
        wet: float | None = None,
    ) -> None:
        """Describe the fields; none is drawn yet.

        Args:
            count: Number of fields.
            size: Size of a field in pixels, one number or (height, width).
            seed: Seed, 0 or more.
            quantum: Step in mm/h that rates are rounded to, as radar products are; None leaves them
                continuous.
            pixel_size: Side of a pixel in km.
            regimes: Names from `REGIMES` or "mixed"; each field draws one of them with equal chance. "mixed"
                resembles a rainy summer evening over Europe, and is the default.
            wet: Rate in mm/h above which pixels count where thresholds are placed at quantiles; 0 by default.

        Raises:
            ArgumentError: If an argument is out of range or a regime unknown.
        """
        self.count = as_count("count", count)
        self.field_shape = as_shape("size", size)
        self.seed = as_natural("seed", seed)
        self.quantum = None if quantum is None else as_positive("quantum", quantum)
        self.wet = as_finite("wet", wet)
        self.pixel_size = as_positive("pixel_size", pixel_size)
        names = [regimes] if isinstance(regimes, str) else list(regimes or ["mixed"])
        self.regimes = tuple(as_choice("each of regimes", name, ("mixed", *REGIMES)) for name in names)
        pixels = self.field_shape[0] * self.field_shape[1]
        self.chunk = min(chunk_length(self.count), max(1, _PIXELS // pixels))

    def __len__(self) -> int:
        return -(-self.count // self.chunk)

    def read(self, k: int, role: str) -> NDArray[np.float32]:
        """Draw the fields of one chunk, (n, H, W) in mm/h, whatever the role; see `FieldSource.read`."""
        if not 0 <= k < len(self):
            raise ArgumentError(f"`k` (={k}) must be a chunk number below {len(self)}.")
        members = range(k * self.chunk, min((k + 1) * self.chunk, self.count))
        shares = _regime_shares(self.regimes)
        height, width = self.field_shape
        fields = np.empty((len(members), height, width), np.float32)
        step = max(1, _AT_ONCE // (height * width))
        for start in range(0, len(members), step):
            generators = [np.random.default_rng((self.seed, i)) for i in members[start : start + step]]
            rate = _draw(generators, self.field_shape, shares)
            if self.quantum is not None:
                rate /= self.quantum
                np.rint(rate, out=rate)
                rate *= self.quantum
            # The slack keeps the bound itself wet: rounding leaves it within a few ulp of its decimal value.
            np.putmask(rate, rate < _DRIZZLE * (1 - 1e-9), 0.0)
            fields[start : start + step] = np.minimum(rate, _HIGHEST, out=rate)
        return fields

    def config(self) -> dict[str, Any]:
        """Everything that decides the fields."""
        return {
            "name": self.name,
            "count": self.count,
            "size": list(self.field_shape),
            "seed": self.seed,
            "quantum": self.quantum,
            "pixel_size": self.pixel_size,
            "regimes": list(self.regimes),
        }


def _regime_shares(names: Sequence[str]) -> NDArray[np.float64]:
    """Chance of each regime, in the order of `REGIMES`."""
    parts = [MIXTURE if name == "mixed" else {name: 1.0} for name in names]
    return np.array([sum(part.get(name, 0.0) for part in parts) for name in REGIMES]) / len(parts)


def _draw(
    generators: Sequence[np.random.Generator], shape: tuple[int, int], shares: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Draw one field for each generator, (n, H, W) in mm/h, neither bounded nor rounded."""
    # The Fourier grid is larger than the field, so that opposite edges do not fit together.
    grid = (_grid(shape[0]), _grid(shape[1]))
    n = len(generators)
    noise = np.empty((n, *grid))
    impulses = np.zeros((n, *grid))
    busy = np.empty(n, bool)
    exponent, ratio, angle, width, threshold, sharpness = np.empty((6, n))
    kinds = list(REGIMES.values())
    cumulated = shares.cumsum()
    for i, rng in enumerate(generators):
        regime = kinds[int(np.searchsorted(cumulated / cumulated[-1], rng.random(), side="right"))]
        exponent[i] = rng.uniform(*regime.exponent)
        ratio[i] = rng.uniform(1.0, 3.0)
        angle[i] = rng.uniform(0.0, np.pi)
        width[i] = rng.uniform(1.0, 3.5)
        sharpness[i] = rng.uniform(*regime.sharpness)
        median, below, above = regime.threshold
        z = rng.standard_normal()
        threshold[i] = median + z * (below if z < 0 else above)
        busy[i] = _add_cells(impulses[i], rng, regime, angle[i], width[i])
        rng.standard_normal(out=noise[i])

    along, across = _rotated_frequencies(grid, angle)
    gauss = _inverse(_filtered(noise, along, across, exponent, ratio), shape, grid)
    gauss -= gauss.mean(axis=(1, 2), keepdims=True)
    deviation = gauss.std(axis=(1, 2), keepdims=True)
    gauss /= np.maximum(deviation, np.finfo(float).tiny)  # a field of one pixel has none
    rate = np.zeros((n, *shape))
    for i in range(n):
        wet = gauss[i] > threshold[i]
        excess = gauss[i][wet] - threshold[i]
        # The excess is flattened as it grows: the tail of rates is lighter than log-normal.
        rate[i][wet] = _DRIZZLE * np.exp(sharpness[i] * excess / (1.0 + excess / 3.0))
    if busy.any():
        cells = _blurred(impulses[busy], along[busy], across[busy], width[busy])
        rate[busy] += _inverse(cells, shape, grid)
    return rate


def _grid(length: int) -> int:
    """Points of the Fourier grid along a side of the field, a quarter more than it has, in steps of 32."""
    return 32 * -(-(5 * length) // 128)


def _inverse(
    spectrum: NDArray[np.complex128], shape: tuple[int, int], grid: tuple[int, int]
) -> NDArray[np.float64]:
    """The fields (n, H, W), in a corner of the grid, of a spectrum: `irfft2` without the rows beyond them."""
    rows = _along_columns(np.fft.ifft, spectrum)[:, : shape[0]]
    return np.fft.irfft(rows, grid[1])[:, :, : shape[1]]


def _along_columns(
    transform: Callable[..., NDArray[np.complex128]], spectrum: NDArray[np.complex128]
) -> NDArray[np.complex128]:
    """The transform of spectra (n, rows, columns) along their columns, which takes their place if it can."""
    return transform(spectrum, axis=1, **({"out": spectrum} if _IN_PLACE else {}))


def _filtered(
    noise: NDArray[np.float64],
    along: NDArray[np.float64],
    across: NDArray[np.float64],
    exponent: NDArray[np.float64],
    ratio: NDArray[np.float64],
) -> NDArray[np.complex128]:
    """Give white noise a power-law spectrum, drawn out in one direction and blurred at the pixel scale."""
    stretch = ratio[:, None, None]
    along, across = along**2, across**2
    transfer = along * stretch
    transfer += across / stretch
    transfer[:, 0, 0] = np.inf  # no mean: the threshold decides how much of the field is wet
    np.power(transfer, -exponent[:, None, None] / 4, out=transfer)
    along += across
    along *= -2 * (np.pi * _BEAM) ** 2
    transfer *= np.exp(along, out=along)
    spectrum = _along_columns(np.fft.fft, np.fft.rfft(noise))
    spectrum *= transfer
    return spectrum


def _add_cells(
    impulses: NDArray[np.float64], rng: np.random.Generator, regime: Regime, angle: float, width: float
) -> bool:
    """Put the peak rates of convective cells, and of the trails that they leave, on a periodic grid.

    Returns:
        Whether there are any.
    """
    height, breadth = impulses.shape
    count = int(rng.poisson(regime.cells * impulses.size / 128**2))
    rows = rng.uniform(0, height, count)
    columns = rng.uniform(0, breadth, count)
    peaks = regime.peak[0] * np.exp(regime.peak[1] * rng.standard_normal(count))
    age = np.arange(_TRAIL)[:, None]
    shift = 1.5 * width * age
    i = np.rint(rows + shift * np.sin(angle)).astype(int) % height
    j = np.rint(columns + shift * np.cos(angle)).astype(int) % breadth
    np.add.at(impulses.ravel(), (i * breadth + j).ravel(), (peaks * 0.4**age).ravel())
    return count > 0


def _rotated_frequencies(
    grid: tuple[int, int], angle: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cycles per pixel along and across a direction for each field, (n, H, W // 2 + 1)."""
    vertical = np.fft.fftfreq(grid[0])[:, None]
    horizontal = np.fft.rfftfreq(grid[1])[None, :]
    sine, cosine = np.sin(angle)[:, None, None], np.cos(angle)[:, None, None]
    return cosine * horizontal + sine * vertical, cosine * vertical - sine * horizontal


def _blurred(
    impulses: NDArray[np.float64],
    along: NDArray[np.float64],
    across: NDArray[np.float64],
    width: NDArray[np.float64],
) -> NDArray[np.complex128]:
    """Turn impulses into Gaussian cells, 1.3 times longer than wide, that keep their peak rate."""
    scale = width[:, None, None] * 2 * np.pi
    transfer = 1.3 * scale * along
    transfer *= transfer
    other = scale * across
    other *= other
    transfer += other
    transfer *= -0.5
    # Most rows are empty, and have an empty transform.
    spectrum = np.zeros(transfer.shape, np.complex128)
    some = impulses.any(axis=2)
    spectrum[some] = np.fft.rfft(impulses[some])
    spectrum = _along_columns(np.fft.fft, spectrum)
    spectrum *= np.exp(transfer, out=transfer)
    spectrum *= 2 * np.pi * 1.3 * width[:, None, None] ** 2
    return spectrum
