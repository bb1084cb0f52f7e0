"""Tensors that follow from a module's settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn


class Tabled(nn.Module):
    """A module with tensors that follow from its settings, such as a temperature, and are no buffers.

    Buffers are averaged in moving averages of models, broadcast between processes, and cast: a mean of what
    belongs to two temperatures would belong to none. These move with the module, but not to the meta device,
    from where nothing could bring them back, and keep their precision; ask for them by `table`.

    Attributes:
        tables: names of these tensors.
    """

    tables: ClassVar[tuple[str, ...]] = ()

    def table(self, name: str, like: Tensor) -> Tensor:
        """One of them, where a tensor is."""
        found: Tensor = getattr(self, name)
        return found.to(like.device)

    @torch.no_grad()
    def set_table(self, name: str, values: Tensor) -> None:
        """Give one other values, in place where these fit: there compiled and captured code reads them.

        Torch refuses gradients that are still to be computed with the old ones.
        """
        found: Tensor = getattr(self, name)
        if found.shape == values.shape and not found.is_inference():
            found.copy_(values)
        else:
            setattr(self, name, values.to(found.device))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        super()._apply(fn, recurse)
        for name in self.tables:
            found = getattr(self, name)
            device = fn(found.new_empty(0)).device
            if device.type != "meta":
                setattr(self, name, found.to(device))
        return self
