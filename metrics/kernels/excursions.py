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

Where opposite edges of a field adjoin, its margin repeats the pixels beyond them, and each of these leads to
the pixel that it repeats: nothing else changes, but which of two equal ones came first.

What costs time is the memory: the gains of a pixel are packed into one number, positions into 32 bits, and
pixels that reach no threshold, most of them in rain, are never visited.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np

from ...foundation.compiled import compiled
from ...foundation.threads import in_threads
from .digitise import as_floats, as_steps, digitise_field, positions, table_of
from .rows import AXIAL, AXIAL_DEGREE, BLOCKS, COMPONENTS, DIAGONAL, DIAGONAL_DEGREE, PIXELS, ROWS

_RING = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
"""Neighbours (row, column) by the bit that they have in a code; odd bits are axial."""
_BEFORE = (0, 1, 2, 7)
"""Bits of the neighbours that precede a pixel in raster order."""
_PACKED = (PIXELS, COMPONENTS, AXIAL, DIAGONAL, BLOCKS)
"""Rows of the counts whose gains are packed into one number, from its lowest bits on."""
_BITS = (11, 11, 13, 13, 13)
"""Bits of each: gains are at most 1 of the first two, and 4 of the others."""
_SUMMED = 2**11 - 1
"""Pixels whose packed gains can be summed without one running over into the next."""
_TURNS = 4
"""Histograms that take turns: a sum waits for the one before it to be written, if that is of the same bin."""


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
        What it adds to the counts, (256,), packed, and one bit of each group that it connects, (256, 4), -1
        where there is none.
    """
    gains = np.zeros(256, np.int64)
    links = np.full((256, 4), -1)
    for code in range(256):
        present = [bool(code >> bit & 1) for bit in range(8)]
        corners = [(present[bit - 1], present[bit], present[bit + 1]) for bit in (0, 2, 4, 6)]
        blocks = sum(not any(corner) if diagonal else all(corner) for corner in corners)
        # Links to pixels that precede in raster order make for shorter trees.
        members = [min(group, key=lambda bit: bit not in _BEFORE) for group in _groups(code, diagonal)]
        gained = (1, not members, sum(present[1::2]), sum(present[::2]), blocks)
        starts = itertools.accumulate(_BITS, initial=0)
        gains[code] = sum(gain << start for gain, start in zip(gained, starts, strict=False))
        links[code, : len(members)] = members
    return gains, links


def link_steps(diagonal: bool, columns: int) -> np.ndarray:
    """The links of `_tables` as steps in a flattened field of so many columns, padding included; 0: none."""
    steps = [row * columns + column for row, column in _RING]
    return as_steps(np.array([*steps, 0])[_tables(diagonal)[1]])


@compiled
def encode(bins, codes):
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
def adjoin(padded, codes, parent, wraps):
    """Let opposite edges adjoin: repeat pixels in the margin, encode all, and let the margin lead to them.

    Args:
        padded: a field with its margin, which is written to, as are the others.
        codes: see `encode`.
        parent: see `root_of`; of the margin alone.
        wraps: whether the first and the last row adjoin, and whether the columns do.
    """
    rows, columns = codes.shape[0] - 2, codes.shape[1] - 2
    if wraps[1]:
        padded[:, 0], padded[:, columns + 1] = padded[:, columns], padded[:, 1]
        for i in range(rows + 2):
            start = i * (columns + 2)
            parent[start], parent[start + columns + 1] = start + columns, start + 1
    if wraps[0]:
        padded[0], padded[rows + 1] = padded[rows], padded[1]
        for j in range(columns + 2):
            column = 1 + (j - 1) % columns if wraps[1] else j
            parent[j] = rows * (columns + 2) + column
            parent[(rows + 1) * (columns + 2) + j] = columns + 2 + column
    encode(padded, codes)
    # What adjoins across an edge comes after it in raster order where it is met before, and the reverse.
    if wraps[0]:
        for j in range(1, columns + 1):
            top, bottom = padded[1, j], padded[rows, j]
            for k in range(3):
                codes[1, j] ^= (padded[0, j - 1 + k] == top) << k
                codes[rows, j] ^= (padded[rows + 1, j + 1 - k] == bottom) << (4 + k)
    if wraps[1]:
        for i in range(1, rows + 1):
            codes[i, 1] ^= (padded[i, 0] == padded[i, 1]) << 7
            codes[i, columns] ^= (padded[i, columns + 1] == padded[i, columns]) << 3


@compiled
def _tally(wet, bins, codes, gains, links, packed, parent, saddles):
    """Sum the gains of some wet pixels by bin, link each to its first group, and list the saddles.

    Args:
        wet: their positions.
        bins: flattened, as are the codes.
        codes: see `encode`.
        gains: see `_tables`.
        links: steps to one pixel of each group.
        packed: (_TURNS, Q + 1), which the gains are added to.
        parent: see `root_of`.
        saddles: room for their positions, which may overlap wet: no more are written than were read.

    Returns:
        The number of saddles.
    """
    found = np.uint64(0)
    for k in range(len(wet)):
        node = wet[k]
        code = codes[node]
        packed[k % _TURNS, bins[node]] += gains[code]
        parent[node] = node + links[code, 0]
        saddles[found] = node
        found += np.uint64(links[code, 1] != 0)
    return found


@compiled
def _unpack(packed, histogram):
    """Add packed gains to a histogram (Q + 1, ROWS), and leave none."""
    start = 0
    for k in range(len(_PACKED)):
        for turn in range(_TURNS):
            for level in range(len(histogram)):
                histogram[level, _PACKED[k]] += (packed[turn, level] >> start) & ((1 << _BITS[k]) - 1)
        start += _BITS[k]
    packed[:] = 0


@compiled
def _degrees(bins, histogram):
    """Write the neighbours inside the field of the pixels of each bin into the histogram."""
    for level in range(len(histogram)):
        histogram[level, AXIAL_DEGREE] = histogram[level, DIAGONAL_DEGREE] = 4 * histogram[level, PIXELS]
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
    node = np.uint64(node)
    while True:
        up = np.uint64(parent[node])
        top = np.uint64(parent[up])
        if top == up:
            return top
        parent[node] = top
        node = top


@compiled
def _unite(saddles, codes, links, parent):
    """Unite the groups that each saddle touches, in their order; returns how many components each ends."""
    ended = np.empty(len(saddles), np.uint8)
    for n in range(len(saddles)):
        node = saddles[n]
        code = codes[node]
        root = root_of(parent, node)
        ended[n] = 0
        for k in range(1, links.shape[1]):
            link = links[code, k]
            if link == 0:
                break
            other = root_of(parent, node + link)
            if other != root:
                parent[other] = root
                ended[n] += 1
    return ended


@compiled
def _merge(saddles, bins, codes, links, histogram, parent):
    """Take the merges of components off their births, from the highest saddle down."""
    # Counting sort; `slot` is where the next saddle of a bin goes.
    slot = np.zeros(len(histogram), np.uint64)
    for node in saddles:
        slot[bins[node]] += np.uint64(1)
    start = np.uint64(0)
    for level in range(len(slot) - 1, 0, -1):
        slot[level], start = start, start + slot[level]
    order = np.empty_like(saddles)
    for node in saddles:
        here = bins[node]
        order[slot[here]] = node
        slot[here] += np.uint64(1)

    ended = _unite(order, codes, links, parent)
    for n in range(len(order)):
        histogram[bins[order[n]], COMPONENTS] -= ended[n]


@compiled
def _count(fields, bits, table, gains, links, components, degrees, wraps, bins, nodes, result):
    """Write the counts of some fields, which share the work space."""
    codes = np.empty(bins.shape, np.uint8)
    parent = np.empty_like(nodes)
    packed = np.zeros((_TURNS, len(table.limits) + 1), np.int64)
    histogram = np.empty((packed.shape[1], ROWS), np.int64)
    flat, code_of = bins.ravel(), codes.ravel()
    for n in range(len(fields)):
        wet = np.int64(digitise_field(fields[n], bits[n], table, bins, nodes))
        if wraps[0] or wraps[1]:
            adjoin(bins, codes, parent, wraps)
        else:
            encode(bins, codes)
        histogram[:] = 0
        found = np.uint64(0)
        for start in range(0, wet, _TURNS * _SUMMED):
            some = nodes[start : min(wet, start + _TURNS * _SUMMED)]
            found += _tally(some, flat, code_of, gains, links, packed, parent, nodes[found:])
            _unpack(packed, histogram)
        if degrees:
            _degrees(bins, histogram)
        if components:
            _merge(nodes[:found], flat, code_of, links, histogram, parent)
        for row in range(ROWS):
            total = 0
            for level in range(len(histogram) - 1, 0, -1):
                total += histogram[level, row]
                result[n, row, level - 1] = total


def excursion_counts(
    fields: np.ndarray,
    thresholds: tuple[float, ...],
    diagonal: bool,
    components: bool,
    degrees: bool,
    wraps: tuple[bool, bool] = (False, False),
) -> np.ndarray:
    """Counts of every excursion set of every field.

    Args:
        fields: (N, H, W), any real type and layout, H, W >= 1; compared in double precision.
        thresholds: Q of them, strictly increasing.
        diagonal: whether components connect along diagonals, and blocks are counted that the set touches.
        components: whether components are wanted; otherwise their row means nothing.
        degrees: whether the rows of degrees are wanted; otherwise they mean nothing.
        wraps: whether the first and the last row adjoin, and whether the columns do; of such, H or W >= 2.

    Returns:
        (N, ROWS, Q) int64: for each threshold u, the counts of {x >= u}.
    """
    fields = as_floats(fields)
    number, rows, columns = fields.shape
    table = table_of(thresholds, fields.dtype.str[1:])
    bits = fields.view(f"i{fields.itemsize}")
    gains, _ = _tables(diagonal)
    links = link_steps(diagonal, columns + 2)
    # The smallest type that holds the bins: vectorised loops run over more of them at a time.
    bin_type = np.min_scalar_type(len(thresholds))
    result = np.empty((number, ROWS, len(thresholds)), np.int64)

    def count(batch: slice) -> None:
        bins = np.zeros((rows + 2, columns + 2), bin_type)
        wanted, nodes, counts = (components, degrees, wraps), positions(bins.size), result[batch]
        _count(fields[batch], bits[batch], table, gains, links, *wanted, bins, nodes, counts)

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
def _change(heights, bits, links, wraps, codes, nodes, changes):
    """Write what each wet pixel adds to the number of components of some padded fields.

    bits: of the heights, as unsigned integers, which are in the order of positive numbers.
    """
    rows, columns = codes.shape
    parent = np.empty_like(nodes)
    keys, saddles = np.empty((2, codes.size), bits.dtype), np.empty((2, codes.size), nodes.dtype)
    for n in range(len(heights)):
        flat, bits_of = heights[n].ravel(), bits[n].ravel()
        if wraps[0] or wraps[1]:
            adjoin(heights[n], codes, parent, wraps)
        else:
            encode(heights[n], codes)
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
        # Saddles of one height in raster order, as `encode` has it.
        order = _from_the_highest(keys[:, :found], saddles[:, :found])
        ended = _unite(order, code_of, links, parent)
        for k in range(found):
            node = np.int64(order[k])
            changes[n, node // columns - 1, node % columns - 1] -= ended[k]


def component_changes(
    fields: np.ndarray, diagonal: bool, wraps: tuple[bool, bool] = (False, False)
) -> np.ndarray:
    """What each pixel adds to the number of components when the threshold falls past its value.

    A pixel that starts a component counts 1, one that joins k of them 1 - k, any other 0. Pixels of
    one value fall in raster order. The components of {x >= u} are the sum over its pixels.

    Args:
        fields: (N, H, W), float32 or float64, without NaN; what is not positive is outside.
        diagonal: whether sets connect along diagonals too.
        wraps: whether the first and the last row adjoin, and whether the columns do; of such, H or W >= 2.

    Returns:
        (N, H, W), of the fields' dtype.
    """
    number, rows, columns = fields.shape
    links = link_steps(diagonal, columns + 2)
    changes = np.zeros_like(fields)

    def find(batch: slice) -> None:
        padded = np.pad(fields[batch], ((0, 0), (1, 1), (1, 1)))
        codes = np.zeros((rows + 2, columns + 2), np.uint8)
        bits = padded.view(f"u{padded.itemsize}")
        _change(padded, bits, links, wraps, codes, positions(codes.size), changes[batch])

    in_threads(find, number, fields.size)
    return changes
