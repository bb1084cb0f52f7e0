"""What a backend of the soft histogram does, and which one does the work for a tensor."""

from __future__ import annotations

import abc
import importlib.util
import warnings

import torch
from torch import Tensor

from ...errors import one_line
from ...foundation.registry import Registry

_OFFERED = importlib.util.find_spec("triton") is not None and torch.version.cuda is not None
"""Whether there may be kernels for CUDA devices; on AMD's, which torch calls so, they were never tried."""
_WORK: dict[torch.device, bool] = {}
"""Whether they work on a device."""


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
    def changes(self, position: Tensor, diagonal: bool, wraps: tuple[bool, bool]) -> Tensor:
        """Components that start less those that join at each pixel, (N, H, W), without gradient.

        Args:
            position: (N, H, W), as for `histogram.soft_histogram`.
            diagonal: whether diagonal neighbours are connected.
            wraps: as there.
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


def compiles_for(device: torch.device) -> bool:
    """Whether Triton's kernels work on a CUDA device: tried once on each, and told if they do not."""
    if device in _WORK:
        return _WORK[device]
    if not _OFFERED or torch.compiler.is_compiling() or not torch.cuda.is_available():
        return _OFFERED
    if torch.cuda.is_current_stream_capturing():
        return True  # nothing can be tried now
    _WORK[device] = _tried(device)
    return _WORK[device]


def _tried(device: torch.device) -> bool:
    """Compile and run a kernel, which old cards and machines without a C compiler refuse."""
    try:
        from .cuda import reached

        two = torch.tensor([0.5, 1.5], dtype=torch.float64, device=device)
        return reached(two.float().view(2, 1, 1), two).flatten().tolist() == [1, 2]
    except Exception as error:
        warnings.warn(
            f"Triton's kernels do not work on {device} ({one_line(error)}); torch's operations are slower; "
            "install a C compiler, such as gcc, or what the error names",
            stacklevel=2,
        )
        return False


def backend_for(fields: Tensor) -> Backend:
    """The backend that works on a tensor."""
    found: Backend | None = None
    for backend in BACKENDS.things():
        if backend.suits(fields) and (found is None or backend.preference > found.preference):
            found = backend
    assert found is not None  # one suits everywhere, and one in exports
    return found
