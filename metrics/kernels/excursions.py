"""Numba kernels: Minkowski functionals of all excursion sets of a field in one pass.

Let the bin of a pixel be the number of thresholds that it reaches. Lowering the threshold adds
pixels bin by bin; within a bin they are added here in raster order. What a pixel changes when it
joins depends on which of its 8 neighbours came before it, an 8-bit code: a table of 256 rows says
how many pairs and blocks it closes, and into how many groups those neighbours fall that it
connects. Gains are histogrammed by bin and summed from the top bin down, which gives the counts
of all excursion sets at once.

Components: a pixel without earlier neighbours starts one. Any other joins its first group; those
links form a forest, each tree hanging from the pixel that started it. Only where a pixel touches
several groups (a saddle) can components merge, so saddles alone are sorted and put through
union-find. This is Kruskal's algorithm with the links as edges known beforehand to be taken.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np

from ...foundation.compiled import compiled
from ...foundation.threads import in_threads
from .rows import AXIAL_DEGREE, COMPONENTS, DIAGONAL_DEGREE, ROWS

_RING = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
"""Neighbours (row, column) by the bit that they have in a code; odd bits are axial."""
_BEFORE = (0, 1, 2, 7)
"""Bits of the neighbours that precede a pixel in raster order."""
_GAINS = 8
"""ROWS, padded to the width of a vector register."""


def _groups(code: int, diagonal: bool) -> list[list[int]]:
    """Connected groups of the neighbours in a code, as the bits of those adjacent to the centre."""

    def adjacent(one: tuple[int, int], other: tuple[int, int]) -> bool:
        rows, columns = abs(one[0] - other[0]), abs(one[1] - other[1])
        return max(rows, columns) == 1 if diagonal else rows + columns == 1

    groups: list[list[int]] = []
    for bit in (bit for bit in range(8) if code >> bit & 1):
        met = [group for group in groups if any(adjacent(_RING[bit], _RING[other]) for other in group)]
        groups = [group for group in groups if group not in met] + [[bit, *itertools.chain(*met)]]
    touching = [[bit for bit in group if adjacent(_RING[bit], (0, 0))] for group in groups]
    return [group for group in touching if group]


@functools.cache
def _tables(diagonal: bool) -> tuple[np.ndarray, np.ndarray]:
    """What a pixel changes when it joins, by its code.

    Returns:
        What it adds to the counts, (256, _GAINS), and one bit of each group that it connects,
        (256, 4), -1 where there is none.
    """
    gains = np.zeros((256, _GAINS), np.int64)
    links = np.full((256, 4), -1)
    for code in range(256):
        present = [bool(code >> bit & 1) for bit in range(8)]
        corners = [(present[bit - 1], present[bit], present[bit + 1]) for bit in (0, 2, 4, 6)]
        blocks = sum(not any(corner) if diagonal else all(corner) for corner in corners)
        # Links to pixels that precede in raster order make for shorter trees.
        members = [min(group, key=lambda bit: bit not in _BEFORE) for group in _groups(code, diagonal)]
        gains[code, :ROWS] = (1, sum(present[1::2]), sum(present[::2]), blocks, 4, 4, not members)
        links[code, : len(members)] = members
    return gains, links


@compiled
def digitise_field(field, thresholds, bins):
    """Write the number of thresholds <= value into the interior of bins; 0 for NaN."""
    for i in range(len(field)):
        row, out = field[i], bins[i + 1, 1:-1]
        out[:] = 0
        # Threshold by threshold is fastest, because the loop over a row is vectorised.
        for threshold in thresholds:
            reached = 0
            for j in range(len(row)):
                hit = int(row[j] >= threshold)
                out[j] += hit
                reached += hit
            if not reached:
                break


@compiled
def _encode(bins, codes):
    """Write the code of every pixel into the interior of codes: which neighbours join before it."""
    for i in range(1, len(bins) - 1):
        above, row, below, out = bins[i - 1], bins[i], bins[i + 1], codes[i]
        for j in range(1, len(row) - 1):
            here = row[j]
            out[j] = (
                (above[j - 1] >= here)
                | (above[j] >= here) << 1
                | (above[j + 1] >= here) << 2
                | (row[j + 1] > here) << 3
                | (below[j + 1] > here) << 4
                | (below[j] > here) << 5
                | (below[j - 1] > here) << 6
                | (row[j - 1] >= here) << 7
            )


@compiled
def _tally(bins, codes, gains, links, histogram, parent, saddles):
    """Histogram the gains of the wet pixels, link each to its first group, and list the saddles.

    Returns:
        The number of saddles.
    """
    rows, columns = bins.shape
    found = 0
    for i in range(1, rows - 1):
        for j in range(1, columns - 1):
            here = bins[i, j]
            if here == 0:
                continue
            code = codes[i, j]
            for k in range(_GAINS):
                histogram[here, k] += gains[code, k]
            node = i * columns + j
            parent[node] = node + links[code, 0]
            saddles[found] = node
            found += links[code, 1] != 0
    return found


@compiled
def _trim_degrees(bins, histogram):
    """Take the neighbours outside the field off the degrees of the pixels at its edge."""
    rows, columns = bins.shape[0] - 2, bins.shape[1] - 2
    for i in range(rows):
        for j in range(0, columns, 1 if i in (0, rows - 1) else max(columns - 1, 1)):
            here = bins[i + 1, j + 1]
            if here == 0:
                continue
            vertical = (i > 0) + (i < rows - 1)
            horizontal = (j > 0) + (j < columns - 1)
            histogram[here, AXIAL_DEGREE] += vertical + horizontal - 4
            histogram[here, DIAGONAL_DEGREE] += vertical * horizontal - 4


@compiled
def root_of(parent, node):
    """The root of the tree that a node is in; the way to it gets shorter."""
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@compiled
def _join(node, links, parent):
    """Unite the groups that a pixel touches; returns how many components vanish."""
    root = root_of(parent, node)
    joined = 0
    for link in links[1:]:
        if link == 0:
            break
        other = root_of(parent, node + link)
        if other != root:
            parent[other] = root
            joined += 1
    return joined


@compiled
def _merge(bins, codes, links, histogram, parent, saddles):
    """Take the merges of components off their births, from the highest saddle down."""
    # Counting sort; `slot` is where the next saddle of a bin goes.
    slot = np.zeros(len(histogram), np.int64)
    for node in saddles:
        slot[bins[node] - 1] += 1
    for level in range(len(slot) - 2, -1, -1):
        slot[level] += slot[level + 1]
    order = np.empty_like(saddles)
    for node in saddles:
        order[slot[bins[node]]] = node
        slot[bins[node]] += 1

    for node in order:
        histogram[bins[node], COMPONENTS] -= _join(node, links[codes[node]], parent)


@compiled
def _count(fields, thresholds, gains, links, local, components, bins, result):
    """Write the counts of some fields, which share the work space."""
    codes = np.empty(bins.shape, np.uint8)
    parent = np.empty(bins.size, np.int64)
    saddles = np.empty(bins.size, np.int64)
    levels = len(thresholds) + 1
    histogram = np.empty((levels, _GAINS), np.int64)
    for n in range(len(fields)):
        histogram[:] = 0
        digitise_field(fields[n], thresholds, bins)
        _encode(bins, codes)
        found = _tally(bins, codes, gains, links, histogram, parent, saddles)
        if local:
            _trim_degrees(bins, histogram)
        if components:
            _merge(bins.ravel(), codes.ravel(), links, histogram, parent, saddles[:found])
        for row in range(ROWS):
            total = 0
            for level in range(levels - 1, 0, -1):
                total += histogram[level, row]
                result[n, row, level - 1] = total


def excursion_counts(
    fields: np.ndarray, thresholds: np.ndarray, local: bool, components: bool, diagonal: bool
) -> np.ndarray:
    """Counts of every excursion set of every field.

    Args:
        fields: (N, H, W), float32 or float64 in any byte order and layout, H, W >= 1.
        thresholds: (Q,), float64, strictly increasing.
        local: whether to count pixels, pairs and blocks.
        components: whether to count connected components.
        diagonal: whether sets connect along diagonals too; blocks are then those that the set
            touches, else those that it fills.

    Returns:
        (N, ROWS, Q) int64: for each threshold u, the counts of {x >= u}; 0 where not asked for.
    """
    fields = fields.astype(fields.dtype.newbyteorder("="), order="C", copy=False)
    number, rows, columns = fields.shape
    # A number of the fields' precision reaches u where it reaches the first such number above u.
    with np.errstate(over="ignore"):
        rounded = thresholds.astype(fields.dtype)
        above = np.nextafter(rounded, fields.dtype.type(np.inf))
    own = np.where(rounded < thresholds, above, rounded)
    gains, links = _tables(diagonal)
    asked = np.array([local] * COMPONENTS + [components] + [False] * (_GAINS - ROWS))
    # Bits become steps in the padded, flattened field; -1 picks the 0 at the end.
    steps = np.array([row * (columns + 2) + column for row, column in _RING] + [0])
    # The smallest type that holds the bins: vectorised loops run over more of them at a time.
    bin_type = np.min_scalar_type(len(thresholds))
    result = np.empty((number, ROWS, len(thresholds)), np.int64)

    def count(batch: slice) -> None:
        bins = np.zeros((rows + 2, columns + 2), bin_type)
        _count(fields[batch], own, gains * asked, steps[links], local, components, bins, result[batch])

    in_threads(count, number, fields.size)
    return result


@compiled
def _from_the_highest(keys, nodes):
    """Sort nodes[0] by keys[0], unsigned integers, from the highest down, stably; returns them sorted.

    Radix sort, byte by byte from the lowest: a few passes over the keys, whatever their order. Both rows
    of keys and of nodes are written to.
    """
    now, then = 0, 1
    number = keys.shape[1]
    place = np.empty(256, np.int64)
    for shift in range(0, 8 * keys.itemsize if number > 1 else 0, 8):
        place[:] = 0
        for key in keys[now]:
            place[(key >> shift) & 255] += 1
        start = 0
        for byte in range(255, -1, -1):
            place[byte], start = start, start + place[byte]
        for k in range(number):
            key = keys[now, k]
            byte = (key >> shift) & 255
            keys[then, place[byte]], nodes[then, place[byte]] = key, nodes[now, k]
            place[byte] += 1
        now, then = then, now
    return nodes[now]


@compiled
def _change(positions, bits, links, codes, changes):
    """Write what each wet pixel adds to the number of components of some padded fields.

    bits: of the positions, as unsigned integers, which are in the order of positive numbers.
    """
    rows, columns = codes.shape
    parent = np.empty(codes.size, np.int64)
    keys, saddles = np.empty((2, codes.size), bits.dtype), np.empty((2, codes.size), np.int64)
    for n in range(len(positions)):
        flat, bits_of = positions[n].ravel(), bits[n].ravel()
        _encode(positions[n], codes)
        code_of = codes.ravel()
        found = 0
        for i in range(1, rows - 1):
            for j in range(1, columns - 1):
                node = i * columns + j
                if flat[node] > 0:
                    code = code_of[node]
                    parent[node] = node + links[code, 0]
                    changes[n, i - 1, j - 1] = links[code, 0] == 0
                    keys[0, found], saddles[0, found] = bits_of[node], node
                    found += links[code, 1] != 0
        # Saddles of one height in raster order, as `_encode` has it.
        for node in _from_the_highest(keys[:, :found], saddles[:, :found]):
            joined = _join(node, links[code_of[node]], parent)
            changes[n, node // columns - 1, node % columns - 1] -= joined


def component_changes(fields: np.ndarray, diagonal: bool) -> np.ndarray:
    """What each pixel adds to the number of components when the threshold falls past its value.

    A pixel that starts a component counts 1, one that joins k of them 1 - k, any other 0. Pixels of
    one value fall in raster order. The components of {x >= u} are the sum over its pixels.

    Args:
        fields: (N, H, W), float32 or float64, without NaN; what is not positive is outside.
        diagonal: whether sets connect along diagonals too.

    Returns:
        (N, H, W), of the fields' dtype.
    """
    number, rows, columns = fields.shape
    _, links = _tables(diagonal)
    steps = np.array([row * (columns + 2) + column for row, column in _RING] + [0])
    changes = np.zeros_like(fields)

    def find(batch: slice) -> None:
        padded = np.pad(fields[batch], ((0, 0), (1, 1), (1, 1)))
        codes = np.zeros((rows + 2, columns + 2), np.uint8)
        bits = padded.view(f"u{padded.itemsize}")
        _change(padded, bits, steps[links], codes, changes[batch])

    in_threads(find, number, fields.size)
    return changes
