"""Soft counts of pixels, pairs and blocks of soft excursion sets, for all thresholds at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import ArgumentError
from ..soft.histogram import node_positions, soft_histogram

_REACH = 16.0
"""Temperatures beyond which a soft membership is taken as 0 or 1: sigmoid(-16) = 1e-7."""
_NODES_PER_TEMPERATURE = 8
"""Nodes per temperature around each threshold; linear interpolation then errs by at most 2e-4."""
_LARGEST_TABLE = 2**24
"""Memberships (nodes x thresholds) beyond which a temperature is refused, before any is computed."""


def threshold_sizes(thresholds: Sequence[float]) -> np.ndarray:
    """What temperatures are relative to, (Q,): |u|, or the range of the thresholds where that is less.

    The range is the scale of data far from 0, such as temperatures in kelvin. A threshold of 0 takes
    the smallest size of the others; a lone one has no range.
    """
    u = np.asarray(thresholds, np.float64)
    sizes = np.abs(u) if len(u) == 1 else np.minimum(np.abs(u), u[-1] - u[0])
    sizes[sizes == 0] = sizes[sizes > 0].min() if sizes.any() else 1.0
    return sizes


class SoftCounts(nn.Module):
    """Sums over pixels, neighbour pairs and 2 x 2 blocks of sigmoid((m - u)/tau), m their minimum.

    They can be asked for once `set_temperature` was called.

    Since the sigmoid is increasing, the soft "and" (minimum) of neighbouring memberships is the
    membership of the minimum. The minima enter a histogram fine enough for the sigmoids to be
    linear within a bin, so that the cost does not depend on the number of thresholds.

    Args:
        thresholds: Q values, strictly increasing.
        tail: share and temperature of a second, hotter sigmoid in the membership, or None.
        touched: count the blocks that the set touches instead of those inside it.
        degrees: count, too, pixels weighted by their numbers of neighbours inside the field.
        components: count, too, connected components.
    """

    memberships: Tensor

    def __init__(
        self,
        thresholds: Sequence[float],
        *,
        tail: tuple[float, float] | None = None,
        touched: bool = False,
        degrees: bool = False,
        components: bool = False,
    ) -> None:
        super().__init__()
        self.thresholds = tuple(thresholds)
        self.touched = touched
        self.degrees = degrees
        self.components = components
        self.tail = None if tail is None else _checked_tail(tail)
        self.register_buffer("memberships", torch.empty(0, dtype=torch.float64), persistent=False)

    def set_temperature(self, relative: np.ndarray) -> None:
        """Set tau_q = relative_q |u_q|; relative: (Q,), positive.

        Raises:
            ArgumentError: so cold that the table of memberships would be too large.
        """
        u = np.asarray(self.thresholds)
        sizes = threshold_sizes(self.thresholds)
        tau = relative * sizes
        parts = [(1.0, tau)]
        if self.tail is not None:
            share, hotter = self.tail
            parts = [(1 - share, tau), (share, hotter * sizes)]
        widest = np.max([width for _, width in parts], axis=0)
        # Nodes are evenly spaced in asinh(x/scale): fine near 0 and in proportion further out, as
        # temperatures are.
        self.scale = float(sizes.min())
        self.origin = math.asinh((u - _REACH * widest).min() / self.scale)
        narrowest = np.min([width for _, width in parts], axis=0)
        self.step = float((narrowest / (_NODES_PER_TEMPERATURE * np.hypot(self.scale, u))).min())
        top = math.asinh((u + _REACH * widest).max() / self.scale)
        nodes_needed = (top - self.origin) / self.step
        if not nodes_needed * len(u) <= _LARGEST_TABLE:
            raise ArgumentError(
                f"temperature (={relative.min():g}) is too small for thresholds from {u[0]:g} to {u[-1]:g}: "
                f"it needs {nodes_needed:.3g} nodes; raise it"
            )
        count = math.ceil(nodes_needed) + 2
        nodes = self.scale * np.sinh(self.origin + self.step * np.arange(count))
        with np.errstate(over="ignore"):
            memberships = sum(share / (1 + np.exp(-(nodes[:, None] - u) / width)) for share, width in parts)
        memberships[0] = 0.0
        self.memberships = torch.from_numpy(memberships).to(self.memberships.device)

    def forward(self, fields: Tensor) -> Tensor:
        """Counts (N, ROWS, Q) of fields (N, H, W), float32 or float64, without NaN."""
        nodes = len(self.memberships)
        position = node_positions(fields, self.scale, self.origin, self.step, nodes)
        histogram = soft_histogram(
            position, nodes, touched=self.touched, degrees=self.degrees, components=self.components
        )
        # In double precision: counts are differences of large sums, and GPUs may round factors to TF32.
        return (histogram.double() @ self.memberships.double()).to(histogram.dtype)


def _checked_tail(tail: tuple[float, float]) -> tuple[float, float]:
    try:
        share, temperature = (float(value) for value in tail)
        if 0 < share < 1 and 0 < temperature < math.inf:
            return share, temperature
    except (TypeError, ValueError):
        pass
    raise ArgumentError(
        f"tail must be a share between 0 and 1 and a positive temperature, or None, got {tail!r}"
    )
