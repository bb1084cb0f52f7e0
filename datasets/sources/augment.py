"""Random changes of fields for training: symmetries, rescaling and mixing, on NumPy batches."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError
from ...foundation.arguments import as_count, as_positive, filled
from ...metrics.distribution import ground_of


def random_symmetry(fields: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Turn and mirror each field at random.

    Square fields draw one of the 8 symmetries of the square, others one of the 4 of the rectangle. The curves
    of a metric that is invariant under them stay as they are.

    Args:
        fields: Fields (N, H, W).
        rng: Source of randomness.

    Returns:
        New fields (N, H, W).

    Raises:
        ArgumentError: If `fields` is not a batch of fields.
    """
    fields = _as_batch(fields)
    square = fields.shape[1] == fields.shape[2]
    codes = rng.integers(8 if square else 4, size=len(fields))
    result = np.empty_like(fields)
    for i, code in enumerate(codes):
        field = fields[i].T if code & 4 else fields[i]
        result[i] = field[:: -1 if code & 1 else 1, :: -1 if code & 2 else 1]
    return result


def rescale(
    fields: NDArray[np.float32],
    rng: np.random.Generator,
    low: float = 0.5,
    high: float = 2.0,
    quantum: float | None = None,
    lower: float = 0.0,
    ground: float | None = None,
) -> NDArray[np.float32]:
    """Multiply the intensities of each field by a random factor, log-uniform between `low` and `high`.

    Intensities are counted from the ground: 0 mm/h in rain, the median of a temperature. The labels change:
    compute them again with the metric.

    Args:
        fields: Fields (N, H, W).
        rng: Source of randomness.
        low: Least factor, above 0.
        high: Greatest factor.
        quantum: Step that intensities are rounded to, as the data are; None leaves them alone.
        lower: Intensities below this bound become those of the ground, as in the data.
        ground: Value that intensities are counted from; by default the dry value of the fields, or their
            median.

    Returns:
        New fields (N, H, W); NaN stays NaN.

    Raises:
        ArgumentError: If `fields` is not a batch, or the factors or the step are out of range.
    """
    fields = _as_batch(fields)
    if not 0 < low <= high:
        raise ArgumentError(f"`low` (={low!r}) and `high` (={high!r}) must be increasing factors above 0.")
    if quantum is not None:
        quantum = as_positive("quantum", quantum)
    ground = ground_of(fields) if ground is None else ground
    factors = np.exp(rng.uniform(np.log(low), np.log(high), len(fields)))
    intensities = (fields.astype(np.float64) - ground) * factors[:, None, None]
    if quantum is not None:
        intensities = np.rint(intensities / quantum) * quantum
    if lower > 0:
        intensities[intensities < lower * (1 - 1e-9)] = 0
    return (intensities + ground).astype(fields.dtype)


def mixup(
    fields: NDArray[np.float32], rng: np.random.Generator, noise: float = 1.0, ground: float | None = None
) -> NDArray[np.float32]:
    """Mix each field with a coarse and noisy version of itself, to reach fields between real and wrong ones.

    The result is lambda x + (1 - lambda) (coarse x + noise), lambda uniform on [0, 1], cut at the ground, or
    at the least value, where that is lower: the mixing of Quarenghi, Cotsakis and Beucler (arXiv 2604.11422),
    in any unit. The coarse version holds the means over square blocks whose side is a random power of two;
    the noise is Gaussian. The labels change: compute them again with the metric.

    Args:
        fields: Fields (N, H, W).
        rng: Source of randomness.
        noise: Greatest standard deviation of the noise, in units of the mean distance from the ground of the
            pixels that differ from it; the one used is uniform between 0 and this.
        ground: Value that intensities are counted from; by default the dry value of the fields, or their
            median.

    Returns:
        New fields (N, H, W); NaN stays NaN.

    Raises:
        ArgumentError: If `fields` is not a batch, or `noise` is negative.
    """
    fields = bounded(_as_batch(fields))
    if noise < 0:
        raise ArgumentError(f"`noise` (={noise!r}) must be 0 or more.")
    n, height, width = fields.shape
    kind = fields.dtype.type
    ground = ground_of(fields) if ground is None else ground
    intensities = fields - kind(ground)
    share = rng.uniform(size=(n,)).astype(kind)
    levels = max(1, int(np.log2(min(height, width))) - 1)
    factors = 2 ** rng.integers(1, levels + 1, size=(n,))
    amplitude = rng.uniform(0, noise, size=(n,)).astype(kind)
    result = np.empty_like(fields)
    scratch = np.empty((height, width), kind)
    for i, field in enumerate(intensities):
        sizes = np.abs(field[(field != 0) & ~np.isnan(field)])
        scale = sizes.mean() if sizes.size else kind(0)
        rng.standard_normal(dtype=kind, out=scratch)
        scratch *= amplitude[i] * scale
        scratch += coarsened(field[None], int(factors[i]))[0]
        scratch *= 1 - share[i]
        np.multiply(field, share[i], out=result[i])
        result[i] += scratch
    result += kind(ground)
    lowest = min(ground, float(np.nanmin(fields, initial=np.inf)))
    return np.maximum(result, kind(lowest), out=result)


def coarsened(fields: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Replace each pixel by the mean over its square block.

    Args:
        fields: Fields (N, H, W), any H and W.
        factor: Side of a block, in pixels; blocks at the lower and right edge may be smaller.

    Returns:
        New fields (N, H, W). NaN is left out of the means; a block of nothing else becomes 0.

    Raises:
        ArgumentError: If `fields` is not a batch of fields, or `factor` is below 1.
    """
    fields = _as_batch(fields)
    factor = as_count("factor", factor)
    n, height, width = fields.shape
    rows, columns = -(-height // factor), -(-width // factor)
    padded = fields
    if (rows * factor, columns * factor) != (height, width):
        fill = ((0, 0), (0, rows * factor - height), (0, columns * factor - width))
        padded = np.pad(fields, fill, constant_values=np.nan)
    blocks = padded.reshape(n, rows, factor, columns, factor)
    means = blocks.sum(axis=2).sum(axis=3) / factor**2
    if np.isnan(means).any():
        measured = ~np.isnan(blocks)
        means = np.where(measured, blocks, 0).sum(axis=(2, 4)) / np.maximum(measured.sum(axis=(2, 4)), 1)
    spread = np.broadcast_to(means.astype(fields.dtype)[:, :, None, :, None], blocks.shape)
    return spread.reshape(padded.shape)[:, :height, :width]


def bounded(fields: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fields of any shape whose infinite values are the greatest and the least finite one."""
    finite = fields[np.isfinite(fields)]
    if not np.isinf(fields).any() or not finite.size:
        return fields
    return np.clip(fields, finite.min(), finite.max())


def _as_batch(fields: NDArray[np.float32]) -> NDArray[np.float32]:
    """A batch of fields (N, H, W) in floating point, NaN where it is masked.

    Raises:
        ArgumentError: It is none.
    """
    batch = filled(fields)
    if batch.ndim != 3 or batch.dtype.kind != "f":
        raise ArgumentError(
            f"`fields` (shape {batch.shape}, {batch.dtype}) must be floating-point, of shape (N, H, W)."
        )
    return batch
