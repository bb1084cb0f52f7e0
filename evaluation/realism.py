"""Whether fields look like others: spectra, structure functions, directions, and traces of a grid.

These ask for no pairs: they compare sets of fields, such as members of ensembles and what was observed. Set
pixels that were not measured NaN in both; infinities are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..emulators.spaces import as_fields
from ..errors import ArgumentError
from ..foundation.arguments import as_array, as_count, as_counts, as_natural, as_positive
from ..metrics import Spectrum

_LEAST = 1e-12
"""Power below this share of the largest ring's counts as this."""
_RING = 8
"""Wavenumbers that a ring has at least."""
_PERIODS = 4
"""Of a grid that fields have at least along each side."""


def log_spectrum(fields: Any, bins: int | None = None) -> NDArray[np.float64]:
    """Logarithm of the radially averaged power of fields, taken of its mean over them.

    Args:
        fields: (N, H, W); NaN counts as 0.
        bins: number B of rings; default: half the shorter side. See `emuloss.metrics.Spectrum`, whose window
            and rings these are.

    Returns:
        (B,), log10 of the unit squared, from the largest scales to the smallest; -inf if all fields are
        constant. In rings that hold no power others that do leave rounding, some 1e-30 of theirs.

    Raises:
        ArgumentError: an argument out of range, or no fields.
    """
    fields = np.nan_to_num(as_finite_fields("fields", fields))
    # A constant leaves nothing, no rounding either.
    fields = np.where(np.ptp(fields, axis=(1, 2), keepdims=True) > 0, fields, 0)
    count = max(min(fields.shape[1:]) // 2, 1) if bins is None else as_count("bins", bins)
    least = np.finfo(np.float64).tiny
    power = (10 ** Spectrum(count, floor=least)(fields)[:, 0]).mean(0)
    with np.errstate(divide="ignore"):
        return np.log10(np.where(power > 2 * least, power, 0))


def spectrum_error(fields: Any, observed: Any, bins: int | None = None) -> float:
    """Mean over rings of the size of the difference of two sets' logarithmic spectra (`log_spectrum`).

    0.3 is a factor of 2 in power. Power below 1e-12 of that of the strongest observed ring counts as this.

    Args:
        fields: (N, H, W).
        observed: (N', H, W).
        bins: number of rings, see `log_spectrum`.

    Returns:
        In decades; NaN where the observed fields have no power.

    Raises:
        ArgumentError: an argument out of range, no fields, or fields of different sizes.
    """
    first, second = as_finite_fields("fields", fields), as_finite_fields("observed", observed)
    if first.shape[1:] != second.shape[1:]:
        raise ArgumentError(
            f"fields and observed must have one size (H, W), got {first.shape[1:]} and {second.shape[1:]}"
        )
    spectra = np.stack([log_spectrum(first, bins), log_spectrum(second, bins)])
    largest = spectra[1].max()
    if not np.isfinite(largest):
        return float("nan")
    return float(np.abs(np.diff(np.maximum(spectra, largest + np.log10(_LEAST)), axis=0)).mean())


def structure_function(fields: Any, lags: Sequence[int], order: float = 2.0) -> NDArray[np.float64]:
    """Mean of |x(p + r) - x(p)|^order over fields, pixels p, and displacements r along rows and columns.

    Its growth with the lag is how fields differ from scale to scale (Monin and Yaglom 1975, Statistical Fluid
    Mechanics 2; Harris et al. 2001, J. Hydrometeorol. 2, 406, for rain). Of white noise of variance s^2 it is
    2 s^2 at all lags, at order 2.

    Args:
        fields: (N, H, W); pairs with a pixel that is NaN are left out.
        lags: L lengths of r, in pixels, strictly increasing and below both sides.
        order: above 0.

    Returns:
        (L,), in the field's unit to the power of the order; NaN where no pair was measured.

    Raises:
        ArgumentError: an argument out of range, or no fields.
    """
    fields, lags = as_finite_fields("fields", fields), as_counts("lags", lags)
    order = as_positive("order", order)
    if lags[-1] >= min(fields.shape[1:]):
        raise ArgumentError(f"lags must be below both sides {fields.shape[1:]} of the fields, got {lags[-1]}")
    found = []
    for lag in lags:
        total, count = 0.0, 0
        for field in fields:
            x = field.astype(np.float64)
            for difference in (x[lag:] - x[:-lag], x[:, lag:] - x[:, :-lag]):
                steps = np.abs(difference[~np.isnan(difference)]) ** order
                total, count = total + steps.sum(), count + len(steps)
        found.append(total / count if count else np.nan)
    return np.array(found)


def main_axes(fields: Any) -> NDArray[np.float64]:
    """Along which axis each field runs, and how strongly, from the second moments of its power.

    With the power P at wavenumbers f = (f_x, f_y), x along rows and y down columns, and sums over the disk
    |f| < 1/2 cycle per pixel, the vector is

        -(sum P (f_x^2 - f_y^2), sum P 2 f_x f_y) / sum P |f|^2 = s (cos 2t, sin 2t).

    Streaks run along the angle t from x towards y, and the strength s is 1 for a plane wave and near 0 for
    isotropic texture (Bigun and Granlund 1987, "Optimal orientation detection of linear symmetry", ICCV). The
    angle is doubled as an axis has no sense: t and t + pi are one.

    Args:
        fields: (N, H, W); NaN counts as 0.

    Returns:
        (N, 2); NaN of a field that is constant.

    Raises:
        ArgumentError: no fields.
    """
    fields = as_finite_fields("fields", fields)
    y, x = _wavenumbers(fields.shape[1:])
    square = np.where(np.hypot(x, y) < 0.5, x**2 + y**2, 0)
    double = np.stack([y**2 - x**2, -2 * x * y]) * (square > 0)
    found = np.full((len(fields), 2), np.nan)
    for n, power in enumerate(_powers(fields)):
        if (total := (power * square).sum()) > 0:
            found[n] = (power * double).sum((1, 2)) / total
    return found


class EnergyTest(NamedTuple):
    """A comparison of two samples.

    Attributes:
        distance: energy distance between the samples, 0 where they are equal, to rounding.
        p_value: share of the ways to divide all rows into two such samples, among those drawn, that put at
            least this distance between them: small where the samples are of different distributions.
    """

    distance: float
    p_value: float


def energy_test(first: Any, second: Any, *, permutations: int = 999, seed: int = 0) -> EnergyTest:
    """Test whether two samples are of one distribution, such as the main axes of fields.

    With the mean distance between rows, 2 E|X - Y| - E|X - X'| - E|Y - Y'|, and permutations of the rows
    (Szekely and Rizzo 2013, "Energy statistics", J. Stat. Plan. Inference 143, 1249). Rows have to be
    independent: of an ensemble take one member of each field. Time and memory grow with (n + m)^2.

    Args:
        first: (n, K), such as `main_axes(fields)`; rows that hold NaN are left out.
        second: (m, K).
        permutations: number of them that are drawn.
        seed: of these.

    Raises:
        ArgumentError: an argument out of range, shapes that do not fit, or a sample without rows.
    """
    samples = [_as_rows(name, rows) for name, rows in (("first", first), ("second", second))]
    if samples[0].shape[1] != samples[1].shape[1]:
        raise ArgumentError(
            "first and second must have rows of one length, got "
            f"{samples[0].shape[1]} and {samples[1].shape[1]}"
        )
    draw = np.random.default_rng(as_natural("seed", seed))
    rows, n = np.concatenate(samples), len(samples[0])
    between = np.sqrt(sum((column[:, None] - column) ** 2 for column in rows.T))
    chosen = np.zeros((as_count("permutations", permutations) + 1, len(rows)))
    chosen[0, :n] = 1
    for each in chosen[1:]:
        each[draw.permutation(len(rows))[:n]] = 1
    inside, outside = chosen / n, (1 - chosen) / (len(rows) - n)
    # 2 p.D.q - p.D.p - q.D.q for the shares p and q of the rows in the two samples.
    away = inside - outside
    distances = -((away @ between) * away).sum(1)
    # Divisions that are as far apart as this one, to rounding, count.
    as_far = distances >= distances[0] - 1e-12 * between.max()
    # Adding 0 makes 0 of -0.
    return EnergyTest(max(float(distances[0]), 0.0) + 0.0, float(as_far.mean()))


def grid_harmonics(fields: Any, step: int) -> float:
    """Power at the harmonics of a grid over that of other wavenumbers of the same length.

    Networks that enlarge by a factor leave textures that repeat with the grid of their coarse pixels (Odena
    et al. 2016, "Deconvolution and checkerboard artifacts", Distill): power at the wavenumbers
    (j/step, k/step). Each is divided by the mean power of its ring, without what is next to a harmonic; the
    mean of these ratios is near 1 for fields that know no grid. Every field counts alike, however strong.

    Args:
        fields: (N, H, W), each side at least four steps, of which whole ones are used; NaN counts as 0.
        step: of the grid, in pixels, at least 2: the period of the texture.

    Returns:
        The ratio; NaN where all fields are constant.

    Raises:
        ArgumentError: an argument out of range, or no fields.
    """
    fields, step = as_finite_fields("fields", fields), as_count("step", step)
    rows, columns = (side - side % step for side in fields.shape[1:])
    if step < 2 or min(rows, columns) < _PERIODS * step:
        raise ArgumentError(
            f"step must be at least 2, and at most a quarter of both sides {fields.shape[1:]} of the fields, "
            f"got {step}"
        )
    power = np.zeros((rows, columns))
    for each in _powers(fields[:, :rows, :columns]):
        power += each / (each.sum() or 1.0)
    if not power.any():
        return float("nan")
    length = np.hypot(*_wavenumbers((rows, columns)))
    places = [np.arange(side) % (side // step) for side in (rows, columns)]
    harmonic = np.logical_and.outer(*(place == 0 for place in places))
    # The window spreads each over its neighbours.
    near = np.logical_and.outer(*((p <= 1) | (p == p.max()) for p in places))
    ratios = []
    for j, k in np.argwhere(harmonic)[1:]:  # without the mean
        apart = np.abs(length[~near] - length[j, k])
        width = max(1 / min(rows, columns), np.sort(apart)[:_RING][-1])
        ratios.append(power[j, k] / power[~near][apart <= width].mean())
    return float(np.mean(ratios))


def as_finite_fields(name: str, fields: Any) -> NDArray[Any]:
    """Validated fields (N, H, W) in floating point, finite or NaN."""
    found = as_fields(name, fields)
    if infinite := int(np.isinf(found).sum()):
        raise ArgumentError(
            f"{name} must be finite, or NaN where nothing was measured, got infinite values in {infinite} of "
            f"{found.size} pixels"
        )
    return found


def _as_rows(name: str, values: Any) -> NDArray[np.float64]:
    """Validated rows (n, K), K >= 1, those that are finite, at least one."""
    rows = as_array(name, values).astype(np.float64)
    if rows.ndim != 2 or 0 in rows.shape or not np.isfinite(rows).all(1).any():
        raise ArgumentError(
            f"{name} must have shape (n, K), K >= 1, with a row of finite numbers, got {rows.shape}"
        )
    return rows[np.isfinite(rows).all(1)]


def _wavenumbers(sides: tuple[int, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Wavenumbers down columns (H, 1) and along rows (1, W), in cycles per pixel."""
    return np.fft.fftfreq(sides[0])[:, None], np.fft.fftfreq(sides[1])[None]


def _powers(fields: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
    """The power (H, W) of each field at all wavenumbers, under the window of `emuloss.metrics.Spectrum`."""
    window = np.outer(*(np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2 for side in fields.shape[1:]))
    for field in fields:
        x = np.nan_to_num(field.astype(np.float64))
        # A constant leaves nothing, no rounding either.
        x = (x - np.average(x, weights=window)) * (np.ptp(x) > 0)
        waves = np.fft.fft2(x * window)
        yield waves.real**2 + waves.imag**2
