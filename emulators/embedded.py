"""A module that lives inside other people's models, and what those do to all of their parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor, nn

from ..errors import ArgumentError

E = TypeVar("E", bound="Embedded")


class Embedded(nn.Module):
    """A module that follows moves and casts of its parent, but for those that would spoil its values.

    No cast goes below single precision: curves span decades, and gradients come from small differences of
    their logarithms. Initialisations end here, and so does filling what went through the meta device: half
    of the values are in no state dict. What has no gradient any more, or runs without Python, is refused.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        def kept(tensor: Tensor) -> Tensor:
            aim = fn(tensor.new_empty((0,) * tensor.ndim))
            if tensor.is_meta and not aim.is_meta:
                raise ArgumentError(
                    f"{type(self).__name__} has lost its values on the meta device; put a new one into the "
                    "model once that has been filled"
                )
            if aim.is_floating_point() and torch.finfo(aim.dtype).bits < 32:
                return tensor.to(aim.device)
            return fn(tensor)

        return super()._apply(kept, recurse)

    def apply(self: E, fn: Callable[[nn.Module], Any]) -> E:
        """Apply a function to this module, and to none of its parts: those initialise or change layers."""
        fn(self)
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "qconfig":  # which eager quantization gives to every module before it replaces some
            raise ArgumentError(
                f"{type(self).__name__} cannot be quantized, which would leave it no gradient; quantize the "
                "network alone"
            )
        super().__setattr__(name, value)

    def __prepare_scriptable__(self) -> NoReturn:
        raise ArgumentError(
            f"{type(self).__name__} cannot be compiled by torch.jit; take torch.compile or torch.export"
        )
