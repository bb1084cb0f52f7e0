"""Tensors that follow from a module's settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn


class Tabled(nn.Module):
    """A module with tensors that follow from its settings, such as a temperature, and are no buffers.

    Buffers are averaged in moving averages of models, and broadcast between processes: a mean of what
    belongs to two temperatures would belong to none. These move and are cast with the module, but not to the
    meta device, from where nothing could bring them back; ask for them by `table`.

    Attributes:
        tables: names of these tensors.
    """

    tables: ClassVar[tuple[str, ...]] = ()

    def table(self, name: str, like: Tensor) -> Tensor:
        """One of them, where a tensor is."""
        found: Tensor = getattr(self, name)
        return found.to(like.device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        super()._apply(fn, recurse)
        for name in self.tables:
            moved = fn(getattr(self, name))
            if not moved.is_meta:
                setattr(self, name, moved)
        return self
