"""Numba kernels: how many thresholds each pixel of a field reaches, at one cost for any number of them.

The bits of a floating-point number, read as a whole number, are in the order of the numbers, once those of
the negative ones are turned round. The range of the thresholds is cut into some thousand equal parts of these
whole numbers, and a table tells how many thresholds lie before each part: where there is none within the
part, as in most, that is the answer, and otherwise it is found by halving. Only pixels that reach the lowest
threshold are looked up; in rain, that is the smaller share of them.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from ...foundation.compiled import compiled
from ...foundation.threads import in_threads

_FEW = 8
"""Thresholds up to which comparing whole rows with one after the other is faster."""
_PARTS = 12
"""Binary logarithm of the greatest number of parts that the range of thresholds is cut into."""


class Table(NamedTuple):
    """Thresholds in the precision of the fields, and where to look for them.

    Attributes:
        limits: (Q,) the least number of that precision that reaches each threshold, increasing.
        keys: (Q,) whole numbers that stand for them, in their order; see `_key`.
        before: (P + 1,) number of limits before each part of their range; at last, Q.
        shift: binary logarithm of the length of a part.
    """

    limits: np.ndarray
    keys: np.ndarray
    before: np.ndarray
    shift: int


@functools.lru_cache(maxsize=64)
def table_of(thresholds: tuple[float, ...], kind: str) -> Table:
    """The table of thresholds, strictly increasing, for fields of a kind, "f4" or "f8"."""
    limits = _limits(np.array(thresholds, np.float64), np.dtype(kind))
    # The bits of 0 come after those of -0, which is as great.
    bits = np.where(limits == 0, -np.zeros_like(limits), limits).view(f"i{limits.itemsize}")
    keys = np.where(bits < 0, bits ^ np.iinfo(bits.dtype).max, bits)
    first, last = int(keys[0]), int(keys[-1])
    shift = max(0, (last - first).bit_length() - _PARTS)
    parts = (keys >> shift) - (first >> shift)
    before = np.concatenate([[0], np.bincount(parts).cumsum()])
    return Table(limits, keys, before.astype(np.min_scalar_type(len(limits))), shift)


def _limits(thresholds: np.ndarray, kind: np.dtype) -> np.ndarray:
    """The least numbers of a kind that reach thresholds (Q,), float64."""
    with np.errstate(over="ignore"):
        rounded = thresholds.astype(kind)
        above = np.nextafter(rounded, kind.type(np.inf))
    return np.where(rounded < thresholds, above, rounded)


def as_floats(fields: np.ndarray) -> np.ndarray:
    """Fields of any real type and layout as those that kernels take: float32 or float64, contiguous."""
    kind = fields.dtype.newbyteorder("=") if fields.dtype.str[1:] in ("f4", "f8") else np.float64
    return fields.astype(kind, order="C", copy=False)


def positions(size: int) -> np.ndarray:
    """Room for as many positions in an array as it has elements.

    Of the smaller type that holds them, because more of them fit into a cache; and unsigned, because compiled
    code asks of any other index whether it counts from the end.
    """
    return np.empty(size, np.uint32 if size < 2**32 else np.uint64)


def as_steps(steps: Any) -> np.ndarray:
    """Steps from one position to another, of any shape, modulo 2^64: without a sign, as `positions` are."""
    return np.array(steps).astype(np.uint64)


@compiled
def _key(bits, sign):
    """A whole number in the order of the floating-point number with such bits; sign: which bit tells it."""
    return bits ^ ((bits >> sign) & ~(np.int64(-1) << sign))


@compiled
def _compare(row, limits, reached):
    """Write how many of a few limits each pixel of a row reaches: limit by limit, which is vectorised."""
    for j in range(len(row)):
        reached[j] = row[j] >= limits[0]
    for limit in limits[1:]:
        some = False
        for j in range(len(row)):
            hit = row[j] >= limit
            reached[j] += hit
            some |= hit
        if not some:
            break


@compiled
def _look_up(key, table):
    """The number of limits that a key within their range reaches."""
    part = np.uint64((key >> table.shift) - (table.keys[0] >> table.shift))
    low, high = np.uint64(table.before[part]), np.uint64(table.before[part + np.uint64(1)])
    while low < high:
        middle = (low + high) >> np.uint64(1)
        if key >= table.keys[middle]:
            low = middle + np.uint64(1)
        else:
            high = middle
    return low


@compiled
def digitise_field(field, bits, table, bins, wet):
    """Write the number of thresholds <= value into the interior of bins; 0 for NaN.

    Args:
        field: (rows, columns).
        bits: those of its pixels, as whole numbers.
        table: of the thresholds.
        bins: (rows + 2, columns + 2).
        wet: room for more positions than there are pixels; see `positions`.

    Returns:
        The number of pixels that reach a threshold, whose positions in flattened bins, in raster order, are
        then in front in wet.
    """
    rows, columns = field.shape
    few = len(table.limits) <= _FEW
    first, last, sign = table.keys[0], table.keys[-1], 8 * bits.itemsize - 1
    reached = np.zeros((columns + 7) // 8 * 8, np.uint8)
    eights = reached.view(np.uint64)
    flat = bins.ravel()
    flat[:] = 0
    found = np.uint64(0)
    for i in range(rows):
        _compare(field[i], table.limits if few else table.limits[:1], reached)
        start, begin = found, np.uint64((i + 1) * bins.shape[1] + 1)
        for k in range(len(eights)):
            if eights[k]:
                # Without a branch: each is written, and the next one over it if it is dry.
                for j in range(8 * k, 8 * k + 8):
                    wet[found] = begin + np.uint64(j)
                    found += np.uint64(reached[j] != 0)
        for k in range(start, found):
            node = np.uint64(wet[k])
            column = node - begin
            if few:
                flat[node] = reached[column]
            else:
                # Within the range even if the processor takes tiny numbers for 0, as it may be told to.
                key = max(first, min(last, _key(bits[i, column], sign)))
                flat[node] = _look_up(key, table)
    return found


@compiled
def _digitise_all(fields, bits, table, bins, wet):
    for n in range(len(fields)):
        digitise_field(fields[n], bits[n], table, bins[n], wet)


def digitise(fields: np.ndarray, thresholds: tuple[float, ...]) -> np.ndarray:
    """Number of thresholds that each pixel reaches.

    Args:
        fields: (N, H, W), any real type; compared in double precision.
        thresholds: Q of them, strictly increasing.

    Returns:
        (N, H + 2, W + 2), the smallest type that holds Q, with a margin of 0 around each field; 0 for NaN.
    """
    fields = as_floats(fields)
    number, rows, columns = fields.shape
    bins = np.zeros((number, rows + 2, columns + 2), np.min_scalar_type(len(thresholds)))
    bits = fields.view(f"i{fields.itemsize}")
    table = table_of(thresholds, fields.dtype.str[1:])
    size = (rows + 2) * (columns + 2)

    def write(batch: slice) -> None:
        _digitise_all(fields[batch], bits[batch], table, bins[batch], positions(size))

    in_threads(write, number, fields.size)
    return bins
