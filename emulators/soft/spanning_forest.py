"""What starts and joins components, by torch operations alone: for exports, where numba has no place.

Lowering a threshold past a pixel starts a component and joins it with those of its neighbours that came
before: one component less for each edge of the maximum spanning forest whose later end the pixel is. The
forest is that of Boruvka (1926): each tree takes its best edge to another one, until none is left.
"""

from __future__ import annotations

import torch
from torch import Tensor


def component_changes(position: Tensor, diagonal: bool, wraps: tuple[bool, bool] = (False, False)) -> Tensor:
    """Change of the number of components where the threshold passes each pixel, (N, H, W).

    Args:
        position: (N, H, W); which one of equal pixels starts and which one joins a component is left open.
        diagonal: whether diagonal neighbours are connected.
        wraps: whether the first and the last row adjoin, and whether the columns do.

    Returns:
        1 minus the number of components that a pixel joins, of the dtype of `position`.
    """
    rows, columns = position.shape[1:]
    pixels = rows * columns
    first, second = _edges(rows, columns, diagonal, wraps, position.device)
    batch = torch.zeros_like(position.flatten(1), dtype=torch.long)  # the batch's size may be unknown
    own = batch + torch.arange(pixels, device=position.device)
    # Ranks are unique where values tie: forests of ties differ, numbers of components do not.
    rank = batch.scatter(1, position.flatten(1).argsort(1), own)
    ends = (batch[:, :1] + first, batch[:, :1] + second)
    ranks = [rank.gather(1, end) for end in ends]
    later = torch.where(ranks[0] < ranks[1], *ends)
    key = torch.minimum(*ranks) * len(first) + torch.arange(len(first), device=position.device)
    tree, taken = own, torch.zeros_like(key, dtype=torch.bool)
    rounds = max(1, (pixels - 1).bit_length())  # each one halves the number of trees, at least
    for _ in range(rounds):
        here, there = (tree.gather(1, end) for end in ends)
        offered = torch.where(here == there, -1, key)
        best = (batch - 1).scatter_reduce(1, here, offered, "amax").scatter_reduce(1, there, offered, "amax")
        chosen = [(offered >= 0) & (offered == best.gather(1, side)) for side in (here, there)]
        taken = taken | chosen[0] | chosen[1]
        parent = own
        for choice, side, other in ((chosen[0], here, there), (chosen[1], there, here)):
            # A tree's best edge is one alone; the others write into a place beyond the pixels.
            padded = torch.cat([parent, parent[:, :1]], 1)
            parent = padded.scatter(1, torch.where(choice, side, pixels), other)[:, :pixels]
        # Where two trees chose the same edge, one of them becomes the root.
        parent = torch.where((parent.gather(1, parent) == own) & (own < parent), own, parent)
        for _ in range(rounds):
            parent = parent.gather(1, parent)
        tree = parent.gather(1, tree)
    joined = batch.scatter_add(1, later, taken.long())
    return (1 - joined).view_as(position).to(position.dtype)


def _edges(
    rows: int, columns: int, diagonal: bool, wraps: tuple[bool, bool], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Ends (E,) of the edges between neighbouring pixels, each pixel by its number along the rows."""
    at = torch.arange(rows * columns, device=device).view(rows, columns)
    # The first row and column once more, beyond those that they adjoin. What is an edge twice, does no harm.
    at = torch.cat([at, at[:1]]) if wraps[0] else at
    at = torch.cat([at, at[:, :1]], 1) if wraps[1] else at
    pairs = [(at[:-1], at[1:]), (at[:, :-1], at[:, 1:])]
    if diagonal:
        pairs += [(at[:-1, :-1], at[1:, 1:]), (at[:-1, 1:], at[1:, :-1])]
    return torch.cat([a.flatten() for a, _ in pairs]), torch.cat([b.flatten() for _, b in pairs])
