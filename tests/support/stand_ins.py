"""Surrogates that say no more of themselves than the contract asks."""

from typing import Any

from emuloss.emulators import Differentiable


class Bare(Differentiable):
    """Takes fields of any size, and has no arguments; a subclass gives `metric` and `forward`."""

    stride = 1

    def arguments(self) -> dict[str, Any]:
        return {}
