"""What starts and joins components, by Triton kernels on CUDA devices, in a few launches without the host.

Lowering a threshold past a pixel starts a component, or joins those that the pixel touches: one component
less for each edge of the maximum spanning forest whose later end the pixel is. The forest is that of Boruvka
(1926), where each tree takes its best edge to another one, until none is left:

1. Each pixel links to its highest neighbour, if that one is higher than itself. This first round leaves trees
   that hang from maxima. The higher neighbours of a pixel lie in arcs of the ring around it, connected along
   the ring; a pixel with several (a saddle) may join their trees: an edge is listed for each arc but that of
   the link. By Euler's formula a field has fewer of these edges than pixels; most fields of rain have few.
2. Both ends of an edge climb along the links to their maxima, and the edge is offered to the trees there.
3. Trees take the best edge that they were offered, and what is still between two trees is offered again.
   Large fields begin with rounds of their own launches; one program a field then does what is left.

Heights are whole numbers, and of one height the pixel that comes first in raster order is the higher: no two
edges are equal, so that trees which take edges form no circle but that of two trees that take the same one.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_PIXELS = 256
"""Of a program that links."""
_WIDE, _LANES = 128, 64
"""Programs of a field where many work on it, at most, and edges that each has in hand at a time: a warp's."""
_NARROW, _WARPS = 2048, 32
"""Edges in hand where one program works on a field, and its warps: as many as there may be."""
_LARGE, _ROUNDS = 2**16, 2
"""Pixels of a large field, and the rounds that many programs do there: most of the edges are then gone."""
_AXIAL = tl.constexpr(0b10101010)
"""Bits of axial neighbours. The bits go round the ring clockwise, from the upper left neighbour on."""


@triton.jit
def _key(height, pixel, bit):
    """Keys of edges, unique and positive: in the order of heights, then of pixels, the first in front."""
    return (height.to(tl.int64) << 32) - (8 * pixel.to(tl.int64) + bit)


@triton.jit
def _pixel(key):
    """Where an edge has its later end."""
    return (-key & 0xFFFFFFFF) >> 3


@triton.jit
def _up(links, node, above, moving):
    """From nodes to what is above those above them, and short-cut the links on the way."""
    beyond = tl.load(links + above, mask=moving, other=0)
    tl.store(links + node, beyond, mask=moving & (beyond != above))
    node = tl.where(moving, beyond, node)
    above = tl.load(links + node, mask=moving, other=0)
    return node, above, moving & (above != node)


@triton.jit
def _roots(links, one, two, live):
    """Where links end, from each node of two on.

    Lanes and programs shorten the same links at once, and may read old ones: every link that ever was leads
    on to the same end, and ends are not written to.
    """
    above_one = tl.load(links + one, mask=live, other=0)
    above_two = tl.load(links + two, mask=live, other=0)
    moves_one, moves_two = live & (above_one != one), live & (above_two != two)
    while tl.max((moves_one | moves_two).to(tl.int32), 0) > 0:
        one, above_one, moves_one = _up(links, one, above_one, moves_one)
        two, above_two, moves_two = _up(links, two, above_two, moves_two)
    return one, two


@triton.jit
def _take(changes, links, best, then, lower, upper, keys, edge, live):
    """Let trees take their best edges: each pixel that joins with one counts 1 less.

    A tree's best edge is one alone, so that one lane writes to its root; where both trees take an edge, the
    second one stays a root. The offers to come find 0: a root that gets them is the end of an edge now.
    """
    one = tl.load(lower + edge, mask=live, other=0)
    two = tl.load(upper + edge, mask=live, other=0)
    key = tl.load(keys + edge, mask=live, other=0)
    live &= one != two
    # From where atomic operations write, past what the processor remembers.
    by_one = live & (tl.load(best + one, mask=live, other=0, cache_modifier=".cg") == key)
    by_two = live & (tl.load(best + two, mask=live, other=0, cache_modifier=".cg") == key)
    tl.store(links + one, two, mask=by_one)
    tl.store(links + two, one, mask=by_two & ~by_one)
    less = tl.where(by_one | by_two, -1, 0).to(changes.dtype.element_ty)
    tl.atomic_add(changes + _pixel(key), less, mask=by_one | by_two, sem="relaxed")
    tl.store(then + one, tl.zeros_like(key), mask=live)
    tl.store(then + two, tl.zeros_like(key), mask=live)


@triton.jit
def _offer(best, one, two, key, live):
    """Offer edges to both trees."""
    tl.atomic_max(best + one, key, mask=live, sem="relaxed")
    tl.atomic_max(best + two, key, mask=live, sem="relaxed")


@triton.jit
def _link_kernel(
    heights, rows, columns, tiles, changes, links, best, lower, upper, keys, counts,
    DIAGONAL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Link pixels, count the maxima, and list edges from saddles (lower) to what they may join (upper)."""
    number, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    first = number.to(tl.int64) * rows * columns
    at = tile * BLOCK + tl.arange(0, BLOCK)
    inside = at < rows * columns
    height = tl.load(heights + first + at, mask=inside, other=0)
    wet = height > 0
    if tl.max(height, 0) <= 0:
        tl.store(changes + first + at, tl.zeros((BLOCK,), changes.dtype.element_ty), mask=inside)
    else:
        row, column = at // columns, at % columns
        highest, link = height, at
        before = tl.zeros((BLOCK,), tl.int32)
        toward = tl.zeros((BLOCK,), tl.int32)
        for bit in tl.static_range(8):
            down = (bit // 4 * 2 - 1) * (bit % 4 != 3)
            along = ((bit + 2) // 4 % 2 * 2 - 1) * (bit % 4 != 1)
            other = at + down * columns + along
            there = wet & (row + down >= 0) & (row + down < rows)
            there &= (column + along >= 0) & (column + along < columns)
            its = tl.load(heights + first + other, mask=there, other=0)
            earlier = there & ((its > height) | ((its == height) & (other < at)))
            before |= earlier.to(tl.int32) << bit
            if DIAGONAL or bit % 2 == 1:
                higher = there & ((its > highest) | ((its == highest) & (other < link)))
                highest = tl.where(higher, its, highest)
                link = tl.where(higher, other, link)
                toward = tl.where(higher, bit, toward)
        top = wet & (link == at)
        tl.store(changes + first + at, top.to(changes.dtype.element_ty), mask=inside)
        tl.store(links + first + at, link, mask=wet)
        tl.store(best + first + at, tl.zeros((BLOCK,), tl.int64), mask=top)

        # An arc begins at a neighbour that is not connected with the one before it, by the corner that they
        # share or, along diagonals, at once. A closed ring begins nowhere; it is one arc.
        last = (before << 1) | (before >> 7)
        last_but_one = (before << 2) | (before >> 6)
        if DIAGONAL:
            begins = before & ~last & ~(last_but_one & _AXIAL)
        else:
            begins = before & _AXIAL & ~(last & last_but_one)
        # The link's arc is the last that begins up to the link, around the ring: the highest of those bits.
        passed = begins & ((2 << toward) - 1)
        own = tl.where(passed != 0, passed, begins)
        own |= own >> 1
        own |= own >> 2
        own |= own >> 4
        further = begins & ~(own ^ (own >> 1))

        edges = tl.zeros((BLOCK,), tl.int32)
        for bit in tl.static_range(8):
            edges += (further >> bit) & 1
        total = tl.sum(edges, 0)
        if total > 0:
            place = tl.atomic_add(counts + number, total, sem="relaxed") + tl.cumsum(edges, 0) - edges
            for bit in tl.static_range(8):
                if DIAGONAL or bit % 2 == 1:
                    down = (bit // 4 * 2 - 1) * (bit % 4 != 3)
                    along = ((bit + 2) // 4 % 2 * 2 - 1) * (bit % 4 != 1)
                    listed = ((further >> bit) & 1) != 0
                    tl.store(lower + first + place, at, mask=listed)
                    tl.store(upper + first + place, at + down * columns + along, mask=listed)
                    tl.store(keys + first + place, _key(height, at, bit), mask=listed)
                    place += listed.to(tl.int32)


@triton.jit
def _offer_kernel(links, best, lower, upper, keys, counts, pixels, BLOCK: tl.constexpr):
    """Move both ends of the edges to the roots of their trees, and offer them the edges."""
    number = tl.program_id(0)
    first = number.to(tl.int64) * pixels
    count = tl.load(counts + number)
    for start in range(tl.program_id(1) * BLOCK, count, tl.num_programs(1) * BLOCK):
        edge = start + tl.arange(0, BLOCK)
        live = edge < count
        one = tl.load(lower + first + edge, mask=live, other=0)
        two = tl.load(upper + first + edge, mask=live, other=0)
        key = tl.load(keys + first + edge, mask=live, other=0)
        one, two = _roots(links + first, one, two, live)
        tl.store(lower + first + edge, one, mask=live)
        tl.store(upper + first + edge, two, mask=live)
        _offer(best + first, one, two, key, live & (one != two))


@triton.jit
def _take_kernel(changes, links, best, then, lower, upper, keys, counts, pixels, BLOCK: tl.constexpr):
    """Let trees take their best edges."""
    number = tl.program_id(0)
    first = number.to(tl.int64) * pixels
    changes, links, best, then = changes + first, links + first, best + first, then + first
    lower, upper, keys = lower + first, upper + first, keys + first
    count = tl.load(counts + number)
    for start in range(tl.program_id(1) * BLOCK, count, tl.num_programs(1) * BLOCK):
        edge = start + tl.arange(0, BLOCK)
        _take(changes, links, best, then, lower, upper, keys, edge, edge < count)


@triton.jit
def _merge_kernel(changes, links, best, then, lower, upper, keys, counts, pixels, BLOCK: tl.constexpr):
    """Let trees take their best edges and offer what is left between trees, until there is nothing.

    One program alone works on a field, in phases with barriers between them: what its lanes write in one
    phase, they read in the next.
    """
    number = tl.program_id(0)
    first = number.to(tl.int64) * pixels
    changes, links, best, then = changes + first, links + first, best + first, then + first
    lower, upper, keys = lower + first, upper + first, keys + first
    count = tl.load(counts + number)
    while count > 0:
        for start in range(0, count, BLOCK):
            edge = start + tl.arange(0, BLOCK)
            _take(changes, links, best, then, lower, upper, keys, edge, edge < count)
        tl.debug_barrier()
        left = 0
        for start in range(0, count, BLOCK):
            edge = start + tl.arange(0, BLOCK)
            live = edge < count
            one = tl.load(lower + edge, mask=live, other=0)
            two = tl.load(upper + edge, mask=live, other=0)
            key = tl.load(keys + edge, mask=live, other=0)
            tl.debug_barrier()  # what is left closes up, where all lanes have read
            one, two = _roots(links, one, two, live)
            live &= one != two
            place = left + tl.cumsum(live.to(tl.int32), 0) - 1
            tl.store(lower + place, one, mask=live)
            tl.store(upper + place, two, mask=live)
            tl.store(keys + place, key, mask=live)
            _offer(then, one, two, key, live)
            left += tl.sum(live.to(tl.int32), 0)
        tl.debug_barrier()
        count = left
        best, then = then, best


def component_changes(position: Tensor, diagonal: bool) -> Tensor:
    """Change of the number of components where the threshold passes each pixel, by pixels in raster order.

    Args:
        position: (N, H, W), float32 or float64, without NaN; what is not positive is outside.
        diagonal: whether diagonal neighbours are connected.

    Returns:
        1 minus the number of components that a pixel joins, 0 outside, of the dtype of `position`.
    """
    position = position.contiguous()
    number, rows, columns = position.shape
    pixels = rows * columns
    changes = torch.empty_like(position)
    if not changes.numel():
        return changes
    heights = _heights(position)
    links, lower, upper = heights.new_empty((3, number, pixels))
    best, then, keys = heights.new_empty((3, number, pixels), dtype=torch.int64)
    counts = heights.new_zeros(number)
    tiles = triton.cdiv(pixels, _PIXELS)
    wide = number, min(_WIDE, triton.cdiv(pixels, _LANES))
    edges = lower, upper, keys, counts, pixels
    with torch.cuda.device_of(position):
        _link_kernel[number * tiles,](
            heights, rows, columns, tiles, changes, links, best, lower, upper, keys, counts,
            DIAGONAL=diagonal, BLOCK=_PIXELS,
        )  # fmt: skip
        _offer_kernel[wide](links, best, *edges, BLOCK=_LANES, num_warps=1)
        for _ in range(_ROUNDS if pixels >= _LARGE else 0):
            _take_kernel[wide](changes, links, best, then, *edges, BLOCK=_LANES, num_warps=1)
            best, then = then, best
            _offer_kernel[wide](links, best, *edges, BLOCK=_LANES, num_warps=1)
        _merge_kernel[number,](changes, links, best, then, *edges, BLOCK=_NARROW, num_warps=_WARPS)
    return changes


def _heights(position: Tensor) -> Tensor:
    """Whole numbers (N, H W) in the order of positions, positive where these are."""
    flat = position.flatten(1)
    if position.dtype == torch.float32:
        return flat.view(torch.int32)  # the bits of positive numbers are in their order
    order = flat.argsort(dim=1, descending=True, stable=True)
    falling = torch.arange(flat.shape[1], 0, -1, dtype=torch.int32, device=flat.device)
    ranks = torch.empty_like(flat, dtype=torch.int32).scatter_(1, order, falling.expand_as(flat))
    return ranks * (flat > 0)
