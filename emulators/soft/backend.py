"""What a backend of the soft histogram does, and which one does the work for a tensor."""

from __future__ import annotations

import abc
import importlib.util

import torch
from torch import Tensor

from ...foundation.registry import Registry

TRITON = importlib.util.find_spec("triton") is not None and torch.version.cuda is not None
"""Whether there are kernels for CUDA devices. On AMD's, which torch calls so, too, they were never tried."""


class Backend(abc.ABC):
    """The operators of the soft histogram, each with its gradient; see `histogram` for what they compute.

    Attributes:
        preference: of those that suit, the one with the highest does the work.
    """

    preference: int = 0

    @abc.abstractmethod
    def suits(self, fields: Tensor) -> bool:
        """Whether it can work on a tensor, where that is and as it is run (in an export, say)."""

    @abc.abstractmethod
    def positions(self, fields: Tensor, axis: Tensor, nodes: int) -> Tensor:
        """See `histogram.node_positions`."""

    @abc.abstractmethod
    def reached(self, fields: Tensor, thresholds: Tensor) -> Tensor:
        """See `histogram.thresholds_reached`."""

    @abc.abstractmethod
    def changes(self, position: Tensor, diagonal: bool) -> Tensor:
        """Components that start less those that join at each pixel, (N, H, W), without gradient.

        Args:
            position: (N, H, W), as for `histogram.soft_histogram`.
            diagonal: whether diagonal neighbours are connected.
        """

    @abc.abstractmethod
    def counts(self, reached: Tensor, changes: Tensor, count: int, touched: bool, degrees: bool) -> Tensor:
        """Counts (N, ROWS, count), float64, without gradient; see `histogram.counts_reached`."""

    @abc.abstractmethod
    def histogram(
        self, position: Tensor, changes: Tensor, nodes: int, touched: bool, degrees: bool
    ) -> Tensor:
        """Histogram (N, ROWS, nodes); see `histogram.soft_histogram`."""

    def slopes_of_histogram(
        self, position: Tensor, changes: Tensor, nodes: int, touched: bool, degrees: bool
    ) -> Tensor:
        """What has the histogram's gradient, whatever its values; a backend may save counting."""
        return self.histogram(position, changes, nodes, touched, degrees)


BACKENDS: Registry[str, Backend] = Registry("backend of the soft histogram")
"""Backends by name."""


def backend_for(fields: Tensor) -> Backend:
    """The backend that works on a tensor."""
    found: Backend | None = None
    for backend in BACKENDS.things():
        if backend.suits(fields) and (found is None or backend.preference > found.preference):
            found = backend
    assert found is not None  # one suits everywhere, and one in exports
    return found
