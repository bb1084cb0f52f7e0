"""Labelled fields that are remembered: the newest, up to a bound."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


class Memory:
    """The newest fields and their exact curves, on the CPU; all of one shape.

    Fields of another shape than those before begin a new memory: a model that goes over to larger crops is
    not asked about the small ones any more.

    Args:
        capacity: how many are kept.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._fields: Tensor | None = None
        self._curves: Tensor | None = None
        self._count = 0

    def __len__(self) -> int:
        return min(self._count, self.capacity)

    def add(self, fields: Tensor, curves: Tensor) -> None:
        """Keep fields (N, ...) and their curves (N, C, Q); the oldest go."""
        fields, curves = fields[-self.capacity :].cpu().float(), curves[-self.capacity :].cpu().float()
        if self._fields is None or self._curves is None or self._fields.shape[1:] != fields.shape[1:]:
            self._fields = fields.new_zeros(self.capacity, *fields.shape[1:])
            self._curves = curves.new_zeros(self.capacity, *curves.shape[1:])
            self._count = 0
        places = (self._count + torch.arange(len(fields))) % self.capacity
        self._fields[places], self._curves[places] = fields, curves
        self._count += len(fields)

    def draw(self, number: int, rng: np.random.Generator) -> tuple[Tensor, Tensor] | None:
        """Some of them, at random, and their curves; None where nothing is remembered or asked for."""
        if not number or self._fields is None or self._curves is None:
            return None
        chosen = torch.from_numpy(rng.integers(0, len(self), number))
        return self._fields[chosen], self._curves[chosen]

    def state_dict(self) -> dict[str, Any]:
        """What it goes on from."""
        filled = slice(len(self))
        held = [None if x is None else x[filled].clone() for x in (self._fields, self._curves)]
        return {"fields": held[0], "curves": held[1], "count": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state_dict` of a memory of the same capacity gave."""
        self._fields = self._curves = None
        if state["fields"] is not None:
            self.add(state["fields"], state["curves"])
        self._count = int(state["count"])
