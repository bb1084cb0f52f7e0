"""Numba kernel: components that outlast a fall of the threshold, by the merge tree of a field.

As the threshold falls, a component is born at a local maximum, and of those that meet at a saddle the one
that was born higher stays, the others die (the elder rule; Edelsbrunner, Letscher and Zomorodian 2002,
Discrete Comput. Geom. 28, 511-533). What is born at b and dies at d has persistence b - d, and is a component
of {x >= u} for d < u <= b. Holes are components of the complement as the threshold rises, of which the world
outside the field is the eldest.
"""

from __future__ import annotations

import numpy as np

from ...foundation.compiled import compiled
from ...foundation.threads import in_threads
from .digitise import digitise, positions
from .excursions import adjoin, encode, link_steps, root_of


@compiled
def _change(padded, least, links, wraps, codes, parent, changes):
    """Write what pixels add to the number of components that last, at least so long, of some padded fields.

    -inf is outside.
    """
    rows, columns = codes.shape
    saddles = np.empty_like(parent)
    for n in range(len(padded)):
        if wraps[0] or wraps[1]:
            adjoin(padded[n], codes, parent, wraps)
        else:
            encode(padded[n], codes)
        heights, code_of = padded[n].ravel(), codes.ravel()
        found = 0
        for i in range(1, rows - 1):
            for j in range(1, columns - 1):
                node = i * columns + j
                changes[n, i - 1, j - 1] = 0
                if heights[node] > -np.inf:
                    code = code_of[node]
                    parent[node] = node + links[code, 0]
                    changes[n, i - 1, j - 1] = links[code, 0] == 0
                    saddles[found] = node
                    found += links[code, 1] != 0
        below = np.empty(found)
        for k in range(found):
            below[k] = -heights[saddles[k]]
        # Those of one height in raster order, as `encode` has it.
        for k in np.argsort(below, kind="mergesort"):
            node = np.int64(saddles[k])
            elder = root_of(parent, node)
            for link in links[code_of[node], 1:]:
                if link == 0:
                    break
                younger = root_of(parent, np.uint64(node) + link)
                if younger == elder:
                    continue
                if heights[younger] > heights[elder] or (
                    heights[younger] == heights[elder] and younger < elder
                ):
                    elder, younger = younger, elder
                parent[younger] = elder
                born = np.int64(younger)
                if heights[born] - heights[node] >= least[n]:
                    changes[n, node // columns - 1, node % columns - 1] -= 1
                else:
                    changes[n, born // columns - 1, born % columns - 1] -= 1


def _lasting(fields: np.ndarray, least: np.ndarray, diagonal: bool, wraps: tuple[bool, bool]) -> np.ndarray:
    """Changes (N, H, W) of the components of fields, float64; -inf is outside.

    Args:
        fields: (N, H, W).
        least: (N,) persistence.
        diagonal: see `lasting_components`.
        wraps: likewise.
    """
    number, rows, columns = fields.shape
    links = link_steps(diagonal, columns + 2)
    changes = np.empty(fields.shape)

    def find(batch: slice) -> None:
        padded = np.pad(fields[batch], ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
        codes = np.zeros((rows + 2, columns + 2), np.uint8)
        _change(padded, least[batch], links, wraps, codes, positions(codes.size), changes[batch])

    in_threads(find, number, fields.size)
    return changes


def lasting_components(
    fields: np.ndarray,
    persistence: float,
    relative: bool,
    diagonal: bool,
    wraps: tuple[bool, bool] = (False, False),
) -> np.ndarray:
    """What each pixel adds to the number of components of at least a persistence as the threshold passes it.

    The components of {x >= u} are the sum over its pixels: those that are born there, less those that die.

    Args:
        fields: (N, H, W), any real type; NaN is outside every set.
        persistence: positive, in the fields' unit, or a share of each field's range.
        relative: which of both.
        diagonal: whether sets connect along diagonals too.
        wraps: whether the first and the last row adjoin, and whether the columns do; of such, H or W >= 2.

    Returns:
        (N, H, W) float64, whole numbers.
    """
    return _lasting(_finite(fields), _least(fields, persistence, relative), diagonal, wraps)


def lasting_holes(fields: np.ndarray, persistence: float, relative: bool, diagonal: bool) -> np.ndarray:
    """The same of the holes of sets: +1 where one is closed as the threshold falls, -1 where it is filled.

    Args:
        fields: as above.
        persistence: likewise.
        relative: likewise.
        diagonal: whether sets, not their complements, connect along diagonals too.
    """
    around = np.pad(-_finite(fields), ((0, 0), (1, 1), (1, 1)), constant_values=np.inf)
    least = _least(fields, persistence, relative)
    return -_lasting(around, least, not diagonal, (False, False))[:, 1:-1, 1:-1]


def _least(fields: np.ndarray, persistence: float, relative: bool) -> np.ndarray:
    """Least persistence (N,) that counts in each field."""
    if not relative:
        return np.full(len(fields), float(persistence))
    values = fields.astype(np.float64).reshape(len(fields), -1)
    finite = np.isfinite(values)
    highest = np.where(finite, values, -np.inf).max(1)
    lowest = np.where(finite, values, np.inf).min(1)
    return persistence * np.where(finite.any(1), highest - lowest, 0.0)


def _finite(fields: np.ndarray) -> np.ndarray:
    """Fields in double precision, -inf where nothing was measured, and nowhere else an infinity."""
    values = np.nan_to_num(fields.astype(np.float64), nan=np.nan)
    return np.where(np.isnan(values), -np.inf, values)


def summed_over_sets(changes: np.ndarray, fields: np.ndarray, thresholds: tuple[float, ...]) -> np.ndarray:
    """Sums of changes (N, H, W) over the excursion sets of fields of that shape, (N, Q) float64."""
    bins = digitise(fields, thresholds)[:, 1:-1, 1:-1].astype(np.int64)
    count = len(thresholds) + 1
    bins += count * np.arange(len(bins))[:, None, None]
    sums = np.bincount(bins.ravel(), changes.ravel(), minlength=count * len(bins)).reshape(-1, count)
    return sums[:, :0:-1].cumsum(1)[:, ::-1]
