"""Numba kernels: the connected clusters of all excursion sets in one sweep.

Let the bin of a pixel be the number of thresholds that it reaches: {x >= u} for threshold number q, counted
from 0, is the set of pixels whose bin exceeds q. Lowering the threshold adds pixels bin by bin. Each joins
the clusters of its neighbours by union-find, where the root of a cluster keeps its size and the edges of the
field that it touches, so that one sweep over the pixels gives the clusters at every threshold.
"""

from __future__ import annotations

import numpy as np

from ...foundation.compiled import compiled
from ...foundation.threads import in_threads
from .digitise import as_steps, digitise, positions
from .excursions import root_of

PIXELS, CLUSTERS, LARGEST, LEFT_RIGHT, TOP_BOTTOM, SPANNING, SIZES = range(7)
"""Rows of the counts: pixels of the set; its clusters; pixels of the largest; whether one reaches from the
left edge to the right one, or from top to bottom; pixels of the largest that does either; and from row SIZES
on, the number of clusters of at least each size."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 1, 2, 4, 8
"""Bits of the edges that a cluster touches."""


def steps_to_neighbours(columns: int, diagonal: bool) -> np.ndarray:
    """Steps to a pixel's neighbours in a flattened field of so many columns, padding included."""
    axial = (-columns, -1, 1, columns)
    return as_steps(axial + (-columns - 1, -columns + 1, columns - 1, columns + 1) * diagonal)


@compiled
def _descending(bins, levels, nodes):
    """Write the flat positions of the wet pixels, the highest bin first; returns where each bin ends."""
    ends = np.zeros(levels + 1, np.int64)
    for here in bins:
        ends[here] += 1
    ends[0] = 0
    # `ends` becomes first the start of each bin, then, as pixels are written, its end.
    total = 0
    for level in range(levels, 0, -1):
        total, ends[level] = total + ends[level], total
    for node in range(len(bins)):
        here = bins[node]
        if here:
            nodes[ends[here]] = node
            ends[here] += 1
    return ends


@compiled
def _grow(bins, levels, steps, sizes, nodes, result):
    """Write the counts of one padded field; nodes: see `positions`."""
    rows, columns = bins.shape
    ends = _descending(bins.ravel(), levels, nodes)
    parent = np.empty_like(nodes)
    pixels = np.zeros(bins.size, np.int64)  # 0 of those that have not joined
    edges = np.empty(bins.size, np.uint8)
    now = np.zeros(len(result), np.int64)
    start = 0
    for level in range(levels, 0, -1):
        for node in nodes[start : ends[level]]:
            i, j = np.int64(node) // columns, np.int64(node) % columns
            parent[node], pixels[node] = node, 1
            edges[node] = _LEFT * (j == 1) | _RIGHT * (j == columns - 2)
            edges[node] |= _TOP * (i == 1) | _BOTTOM * (i == rows - 2)
            root = np.uint64(node)
            for step in steps:
                if pixels[node + step] == 0:
                    continue
                other = root_of(parent, node + step)
                if other == root:
                    continue
                now[CLUSTERS] -= 1
                for k in range(len(sizes)):
                    now[SIZES + k] -= pixels[other] >= sizes[k]
                # The larger cluster takes in the smaller, which keeps the trees flat.
                if pixels[other] > pixels[root]:
                    root, other = other, root
                parent[other] = root
                pixels[root] += pixels[other]
                edges[root] |= edges[other]
            size, touched = pixels[root], edges[root]
            now[PIXELS] += 1
            now[CLUSTERS] += 1
            for k in range(len(sizes)):
                now[SIZES + k] += size >= sizes[k]
            now[LARGEST] = max(now[LARGEST], size)
            across = touched & (_LEFT | _RIGHT) == _LEFT | _RIGHT
            down = touched & (_TOP | _BOTTOM) == _TOP | _BOTTOM
            now[LEFT_RIGHT] |= across
            now[TOP_BOTTOM] |= down
            if across or down:
                now[SPANNING] = max(now[SPANNING], size)
        start = ends[level]
        result[:, level - 1] = now


@compiled
def _grow_all(bins, levels, steps, sizes, nodes, result):
    for n in range(len(bins)):
        _grow(bins[n], levels, steps, sizes, nodes, result[n])


def cluster_counts(
    fields: np.ndarray, thresholds: tuple[float, ...], diagonal: bool, sizes: tuple[int, ...] = ()
) -> np.ndarray:
    """Counts of the connected clusters of every excursion set.

    Args:
        fields: (N, H, W), any real type, H, W >= 1.
        thresholds: Q of them, strictly increasing.
        diagonal: whether sets connect along diagonals too.
        sizes: K sizes in pixels, for each of which the clusters of at least that size are counted.

    Returns:
        (N, SIZES + K, Q) int64.
    """
    bins = digitise(fields, thresholds)
    levels = len(thresholds)
    steps = steps_to_neighbours(bins.shape[2], diagonal)
    least = np.array(sizes, np.int64)
    result = np.empty((len(bins), SIZES + len(sizes), levels), np.int64)

    def count(batch: slice) -> None:
        _grow_all(bins[batch], levels, steps, least, positions(bins[:1].size), result[batch])

    in_threads(count, len(bins), bins.size)
    return result
