"""Soft counts of pixels, pairs and blocks of soft excursion sets, for all thresholds at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import ArgumentError
from ...foundation.arguments import as_real
from ...metrics.kernels.rows import COMPONENTS
from ..soft.histogram import (
    counts_reached,
    node_positions,
    row_histogram,
    soft_histogram,
    thresholds_reached,
)
from ..straight_through import values_through
from ..tables import Tabled

_REACH = 16.0
"""Temperatures beyond which a soft membership is taken as 0 or 1: sigmoid(-16) = 1e-7."""
_NODES_PER_TEMPERATURE = 4
"""Nodes per temperature around each threshold, at least; cubic splines then err by at most 1e-5."""
_LARGEST_TABLE = 2**26
"""Memberships (nodes x thresholds) beyond which a temperature is refused, before any is computed."""
_LEAST_NODES = 1024
"""Nodes of the smallest table. Sizes double from there."""
_SPARE_NODES = 8
"""Nodes beyond both ends, which splines need."""


class SoftCounts(Tabled):
    """Sums over pixels, neighbour pairs and 2 x 2 blocks of sigmoid((m - u)/tau), m their minimum.

    They can be asked for once `set_temperature` was called.

    Since the sigmoid is increasing, the soft "and" (minimum) of neighbouring memberships is the
    membership of the minimum. The minima enter a histogram fine enough for the sigmoids to be
    splines on its nodes, so that the cost does not depend on the number of thresholds.

    Args:
        thresholds: Q values, strictly increasing.
        spreads: what temperatures are relative to, (Q,), positive.
        tail: share and temperature of a second, hotter sigmoid in the membership, or None.
        exact_at: the thresholds that `exact` counts at, in the unit of the fields that it is given.
        touched: count the blocks that the set touches instead of those inside it.
        degrees: count, too, pixels weighted by their numbers of neighbours inside the field.
        components: count, too, connected components.
        wraps: whether the first and the last row of fields adjoin, and whether the columns do.
        by_rows: count, too, pairs along rows and pixels weighted by their rows: WITH_ROWS counts in all.
        row_weights: what these weigh in each row; None: 1.

    Attributes:
        memberships: coefficients (nodes, Q) of the memberships' splines, float64.
        axis: of the nodes, see `soft.histogram.node_positions`.
        exact_at: the thresholds that `exact` counts at, float64.
        reserved: nodes of the table, at least; those that the temperature does not need are as the last one.
    """

    memberships: Tensor
    axis: Tensor
    exact_at: Tensor
    row_weights: Tensor
    tables = ("memberships", "axis", "exact_at", "row_weights")

    def __init__(
        self,
        thresholds: Sequence[float],
        spreads: Sequence[float],
        *,
        tail: tuple[float, float] | None = None,
        exact_at: Sequence[float] = (),
        touched: bool = False,
        degrees: bool = False,
        components: bool = False,
        wraps: tuple[bool, bool] = (False, False),
        by_rows: bool = False,
        row_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.thresholds, self.spreads = tuple(thresholds), tuple(spreads)
        self.touched = touched
        self.degrees = degrees
        self.components = components
        self.wraps = wraps
        self.by_rows = by_rows
        self.row_weights = (
            torch.empty(0) if row_weights is None else torch.tensor(row_weights, dtype=torch.float64)
        )
        self.tail = None if tail is None else _checked_tail(tail)
        # Nothing reads its values: by this buffer a relaxation knows its device (`device_of`).
        self.register_buffer("u", torch.tensor(self.thresholds, dtype=torch.float64), persistent=False)
        self.memberships = self.axis = torch.empty(0, dtype=torch.float64)
        self.exact_at = torch.tensor(exact_at, dtype=torch.float64)
        self.reserved = 0

    def set_temperature(self, relative: np.ndarray) -> None:
        """Set tau_q = relative_q spread_q; relative: (Q,), positive.

        Raises:
            ArgumentError: so cold that the table of memberships would be too large.
        """
        parts = self._parts(relative)
        count, scale, reach = self._nodes(relative)
        origin, top = (math.asinh(end / scale) for end in reach)
        step = (top - origin) / (count - _SPARE_NODES)
        with np.errstate(over="ignore"):
            nodes = scale * np.sinh(origin + step * np.arange(-1, count - 1))
        center, u = self._centered()
        coefficients = _spline(nodes, u, parts)
        unused = max(self.reserved - count, 0)
        self.set_table("memberships", torch.from_numpy(np.pad(coefficients, ((0, unused), (0, 0)), "edge")))
        self.set_table("axis", torch.tensor([center, scale, origin, step], dtype=torch.float64, device="cpu"))

    def reserve(self, relative: np.ndarray) -> None:
        """Keep tables from now on as large as temperatures need, so that they are set in place until then.

        Raises:
            ArgumentError: see `set_temperature`.
        """
        self.reserved, _, _ = self._nodes(relative)

    def _centered(self) -> tuple[float, np.ndarray]:
        """A center, and thresholds from there on, so that digits are not spent on an offset."""
        center = self.thresholds[0] - self.spreads[0]
        return center, np.asarray(self.thresholds) - center

    def _parts(self, relative: np.ndarray) -> list[tuple[float, np.ndarray]]:
        """Shares of sigmoids in the memberships, and their widths (Q,)."""
        spreads = np.asarray(self.spreads)
        if self.tail is None:
            return [(1.0, relative * spreads)]
        share, hotter = self.tail
        return [(1 - share, relative * spreads), (share, hotter * spreads)]

    def _nodes(self, relative: np.ndarray) -> tuple[int, float, tuple[float, float]]:
        """Nodes that temperatures need, scale of their axis, its least and largest value from the center."""
        _, u = self._centered()
        widths = [width for _, width in self._parts(relative)]
        widest, finest = np.max(widths, axis=0), np.min(widths, axis=0) / _NODES_PER_TEMPERATURE
        reach = float((u - _REACH * widest).min()), float((u + _REACH * widest).max())
        scale, needed = _best_scale(u, finest, reach)
        if not needed * len(u) <= _LARGEST_TABLE:
            raise ArgumentError(
                f"temperature (={relative.min():g}) is too small for {len(u)} thresholds from "
                f"{self.thresholds[0]:g} to {self.thresholds[-1]:g}: it needs {needed:.3g} nodes; "
                "raise it, or take fewer thresholds"
            )
        return max(_LEAST_NODES, 2 ** math.ceil(math.log2(needed + _SPARE_NODES))), scale, reach

    def forward(self, fields: Tensor, lasting: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Counts (N, R, Q), float64, of fields (N, H, W), float32 or float64, without NaN.

        Args:
            fields: as above.
            lasting: what pixels (N, H, W) count as components, and as holes; None: all components, and no
                holes.

        Returns:
            R counts: ROWS; WITH_ROWS, if by rows; one more, of holes, if these are counted.
        """
        # In double precision: counts are differences of large sums, and GPUs may round factors to TF32.
        histogram = self._histogram(fields, lasting, slopes_alone=False)
        return histogram.double() @ self.table("memberships", fields)

    def slopes(
        self, fields: Tensor, left: Tensor, values: Tensor, lasting: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Values with the gradient of left @ counts, which are not counted.

        Args:
            fields: (N, H, W), as above.
            left: (C, R), float64.
            values: (N, C, Q).
            lasting: as above.
        """
        histogram = self._histogram(fields, lasting, slopes_alone=True)
        return values_through(values, left, histogram, self.table("memberships", fields))

    def _histogram(self, fields: Tensor, lasting: tuple[Tensor, Tensor] | None, slopes_alone: bool) -> Tensor:
        """Histogram (N, R, nodes) of fields, see `soft.histogram.soft_histogram`."""
        nodes = len(self.memberships)
        position = node_positions(fields, self.table("axis", fields), nodes)
        components, holes = (None, None) if lasting is None else [each.to(position) for each in lasting]
        found = [
            soft_histogram(position, nodes, slopes_alone=slopes_alone, changes=components, **self._counted())
        ]
        if self.by_rows:
            weights = self.table("row_weights", fields).to(fields) if len(self.row_weights) else None
            along = row_histogram(position, nodes, weights, degrees=self.degrees, wraps=self.wraps[1])
            found.append(along)
        if holes is not None:
            whole = soft_histogram(position, nodes, touched=False, degrees=False, changes=holes)
            found.append(whole[:, COMPONENTS:])
        return torch.cat(found, 1) if len(found) > 1 else found[0]

    def exact(self, fields: Tensor) -> Tensor:
        """The same counts of pixels, pairs and blocks where m >= u: whole numbers, float64, without gradient.

        Args:
            fields: (N, H, W), float32 or float64, without NaN.
        """
        reached = thresholds_reached(fields, self.table("exact_at", fields))
        return counts_reached(reached, len(self.exact_at), **self._counted())

    def _counted(self) -> dict[str, Any]:
        """What is counted."""
        return {
            "touched": self.touched,
            "degrees": self.degrees,
            "components": self.components,
            "wraps": self.wraps,
        }


def _best_scale(u: np.ndarray, finest: np.ndarray, reach: tuple[float, float]) -> tuple[float, float]:
    """Scale of asinh(x / scale) with which the fewest nodes, evenly spaced in it, are close enough; how many.

    A small one suits thresholds that are the farther apart the larger they are, as those of rain, a large one
    evenly spaced ones.

    Args:
        u: thresholds, from the center.
        finest: largest distance of nodes at each.
        reach: lowest and highest value, from the center.
    """
    scales = np.geomspace(finest.min(), 10 * (reach[1] - reach[0]), 40)
    lengths = np.arcsinh(reach[1] / scales) - np.arcsinh(reach[0] / scales)
    needed = lengths * (np.hypot(scales[:, None], u) / finest).max(1)
    best = int(needed.argmin())
    return float(scales[best]), float(needed[best])


def _spline(nodes: np.ndarray, u: np.ndarray, parts: Sequence[tuple[float, np.ndarray]]) -> np.ndarray:
    """Coefficients (nodes, Q) of cubic B-splines through memberships, up to the step's fourth order.

    Positive and increasing as memberships are. Those of place 0, "certainly outside", are 0.

    Args:
        nodes: where the splines' nodes lie.
        u: thresholds.
        parts: shares of sigmoids in the memberships, and their widths (Q,).
    """
    with np.errstate(over="ignore"):
        values = sum(share / (1 + np.exp(-(nodes[:, None] - u) / width)) for share, width in parts)
    inner: np.ndarray = np.array(values)
    inner[1:-1] += (2 * inner[1:-1] - values[:-2] - values[2:]) / 6
    inner[:3] = 0.0
    return inner


def _checked_tail(tail: tuple[float, float]) -> tuple[float, float]:
    try:
        share, temperature = (as_real(value) for value in tail)
        if 0 < share < 1 and 0 < temperature < math.inf:
            return share, temperature
    except (TypeError, ValueError):
        pass
    raise ArgumentError(
        f"tail must be a share between 0 and 1 and a positive temperature, or None, got {tail!r}"
    )
